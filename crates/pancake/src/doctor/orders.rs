//! This module follows the list in both orders over some batches: where cursors lead, and how far
//! rows stand from their place.

use super::cursor::{self, Lead, Steps};
use super::finding::Finding;
use super::known::{Answer, KnownRow};
use super::requests::Requests;
use super::{Course, places};
use crate::error::Result;
use crate::paging::cursor::CursorParams;
use crate::plan::request::Chain;
use crate::schema::keyset::Order;

/// The list in both orders.
pub(super) struct Lists {
    by_inserted: Vec<KnownRow>,
    by_updated: Vec<KnownRow>,
}

/// The first batches of the list in one order.
struct FirstBatches {
    rows: Vec<KnownRow>,
    /// Where a cursor in mid-list led.
    mid: Option<Lead>,
    /// Where the last rows of batches led.
    last: Option<Lead>,
}

impl Lists {
    pub fn by(&self, order: Order) -> &[KnownRow] {
        if order == Order::UpdatedAt { &self.by_updated } else { &self.by_inserted }
    }

    /// The rows of both orders, each once.
    pub fn distinct(&self) -> Vec<&KnownRow> {
        let is_new = |row: &&KnownRow| !self.by_updated.iter().any(|other| other.id == row.id);
        self.by_updated.iter().chain(self.by_inserted.iter().filter(is_new)).collect()
    }
}

impl Requests<'_> {
    /// Follows the list in both orders over four batches.
    pub(super) async fn try_cursors(
        &self,
        course: &mut Course,
        newest: &[KnownRow],
        first: &[KnownRow],
    ) -> Result<Lists> {
        course.item = cursor::CURSOR;
        let inserted = self.walk_on(first, Order::InsertedAt).await?;
        course.add([match inserted.mid {
            Some(lead) => cursor::cursor(lead, inserted.last),
            None => Finding::untried(cursor::CURSOR, "too few rows"),
        }]);
        course.item = cursor::STEPS;
        let updated = self.walk_on(newest, Order::UpdatedAt).await?;
        let steps = Steps {
            mid_by_updated: updated.mid,
            last_by_updated: updated.last,
            last_by_inserted: inserted.last,
        };
        let lists = Lists { by_inserted: inserted.rows, by_updated: updated.rows };
        let places = places::verdict(&lists.by_updated, &lists.by_inserted);
        let has_low_rows = !self.session.known(Order::UpdatedAt).ends_by_time;
        course
            .add([cursor::steps(&steps), if has_low_rows { places::with_low_rows(places) } else { places }]);
        Ok(lists)
    }

    /// Asks from a row in mid-list, from the last one of the first batch, and from the last one of
    /// what that brings.
    async fn walk_on(&self, first: &[KnownRow], order: Order) -> Result<FirstBatches> {
        let mut walked = FirstBatches { rows: first.to_vec(), mid: None, last: None };
        if let Some(at) = cursor::row(first, order) {
            walked.mid = Some(self.step(&mut walked.rows, at, order).await?.0);
        }
        let mut at = first.len().checked_sub(1);
        for _ in 0..2 {
            let Some(from) = at else { break };
            let (lead, last) = self.step(&mut walked.rows, from, order).await?;
            if walked.last.is_none_or(|earlier| lead.is_bad() || earlier == Lead::Unknown) {
                walked.last = Some(lead);
            }
            at = last.filter(|last| *last > from && !lead.is_bad());
        }
        Ok(walked)
    }

    /// Asks from a row of the list, and from the one above if that may have moved or gone
    /// meanwhile. Returns where it leads, and the place of the reply's last row.
    async fn step(&self, list: &mut Vec<KnownRow>, at: usize, order: Order) -> Result<(Lead, Option<usize>)> {
        let chain = Chain::whole(order);
        let from = |row: &KnownRow| self.page(&chain, CursorParams::from(&row.id));
        let mut seen = self.look(&from(&list[at])).await?;
        let mut lead = Lead::of(list, at, &seen, order);
        if lead.is_bad() && at > 0 && self.may_repeat() {
            seen = self.look_once(&from(&list[at - 1])).await?;
            lead = Lead::of(list, at - 1, &seen, order);
        }
        // Rows that moved meanwhile prove nothing about the places of the others.
        if !lead.is_bad() && lead != Lead::Unknown {
            cursor::append(list, &seen);
        }
        let last = match &seen {
            Answer::Rows(rows) => rows.last(),
            Answer::Refused => None,
        };
        let place = last.and_then(|last| list.iter().position(|row| row.id == last.id));
        Ok((lead, place))
    }
}
