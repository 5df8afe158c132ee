//! This module collects what the replies show of a page's order and of the forms that it takes, and
//! reads chains again for which a list out of order means that rows were left out.

use super::Union;
use crate::error::{Error, Result};
use crate::paging::pager::Pager;
use crate::paging::verdicts::{self, Assumptions};
use crate::plan::request::Chain;
use crate::scan::segment::Segment;
use crate::schema::keyset::Order;

/// What walks have shown of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct Findings {
    /// Whether it takes the form of request that it may refuse.
    pub window: Option<verdicts::WindowVerdict>,
    /// Its list is out of order.
    pub is_loose: bool,
    /// A row stands far below the place of the time that it shows.
    pub has_low_row: bool,
}

impl Union {
    /// What a reply to this segment shows of the order of the list. `disorder`: a row stands lower
    /// than walks take for granted.
    pub(super) fn look_at_order(&mut self, number: usize, disorder: Option<Error>) -> Result<()> {
        let Some(segment) = self.segments.iter().find(|segment| segment.number == number) else {
            return Ok(());
        };
        let Findings { is_loose, has_low_row, .. } = self.found;
        let Chain { order, window, .. } = &self.chains[segment.chain];
        let is_by_ids = *order == Order::UpdatedAt;
        if is_by_ids && !self.ordered && has_low_row && window.low.is_some() {
            self.go_by_inserted_at(Some(number));
            return Ok(());
        }
        if is_loose {
            for chain in std::mem::take(&mut self.from_anchor) {
                let first = self.segments.iter().find(|segment| segment.number == chain);
                if first.is_some_and(|segment| segment.walk.begins_at_head()) {
                    continue;
                }
                if is_by_ids {
                    // What shows an older time than its real one may stand above where they began.
                    self.start_over(chain, Some(number));
                } else {
                    self.look_for_undated(chain);
                }
            }
        }
        // Without an order a list that is read to its end by ids may stand in any.
        disorder.filter(|_| self.ordered || !is_by_ids).map_or(Ok(()), Err)
    }

    /// Reads all chains to the end of the list by the time that no message changes: no bound on
    /// `updated_at` is proven, nor what moved since.
    pub(super) fn go_by_inserted_at(&mut self, replied: Option<usize>) {
        for chain in 0..self.chains.len() {
            self.chains[chain] = self.chains[chain].clone().to_the_end();
            self.start_over(chain, replied);
        }
        self.from_anchor.clear();
        self.looks = None;
    }

    /// Reads what stands above an upper bound on `inserted_at`: rows that lack it may be wanted.
    pub(super) fn look_for_undated(&mut self, chain: usize) {
        let at = self.segments.iter().position(|segment| segment.chain >= chain);
        let walk = Pager::above(self.terms, &self.chains[chain]);
        let segment = Segment::new(self.segments_made, chain, walk);
        self.segments_made += 1;
        self.segments.insert(at.unwrap_or(self.segments.len()), segment);
    }

    /// Reads a chain again from its newest row on. Which of its rows have come is known. `replied`:
    /// the segment whose reply is taken in; its rows are still to be fed.
    pub(super) fn start_over(&mut self, chain: usize, replied: Option<usize>) {
        self.keep_ids();
        let is_of_chain = |segment: &Segment| segment.chain == chain;
        let at = self.segments.iter().position(|segment| segment.chain >= chain);
        let at = at.unwrap_or(self.segments.len());
        let (old, others): (Vec<_>, Vec<_>) = self.segments.drain(..).partition(is_of_chain);
        self.segments = others;
        let of_reply = old.iter().map(|segment| segment.number).find(|number| Some(*number) == replied);
        let number = of_reply.unwrap_or(self.segments_made);
        self.segments_made += 1;
        let known = Assumptions { is_in_order: false, ..self.known };
        let walk = Pager::on(self.terms, self.object, &self.chains[chain], self.looks.is_some(), known);
        let mut segment = Segment::new(number, chain, walk);
        segment.feed(old.into_iter().flat_map(|segment| segment.rows));
        self.segments.insert(at, segment);
    }

    /// Notes what a segment has shown of the page.
    pub(super) fn note(&mut self, number: usize) {
        let segment = self.segments.iter().find(|segment| segment.number == number);
        let (Some(Segment { walk, .. }), found) = (segment, &mut self.found) else { return };
        found.window = walk.verdict().or(found.window);
        found.is_loose |= walk.is_loose();
        found.has_low_row |= walk.has_low_row();
    }

    /// Returns what the walks have shown of the page since the last call.
    pub fn findings(&mut self) -> Findings {
        let (found, before) = (self.found, std::mem::replace(&mut self.returned, self.found));
        Findings {
            window: found.window.filter(|_| found.window != before.window),
            is_loose: found.is_loose && !before.is_loose,
            has_low_row: found.has_low_row && !before.has_low_row,
        }
    }
}
