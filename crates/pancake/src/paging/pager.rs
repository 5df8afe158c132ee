//! This module is the pager of one chain, whatever the pagination of its list: what to ask next,
//! and what a reply proves. Each way of paging has a file of its own; parameters are made of an
//! [`Ask`] by [`crate::http::endpoint`].

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::paging::cursor::{self, CursorPager, End, Terms};
use crate::paging::id_set::IdSet;
use crate::paging::offset::OffsetPager;
use crate::paging::time_slices::{NumberedBatch, TimeSlicePager};
use crate::paging::verdicts::{self, Assumptions};
use crate::plan::request::Chain;
use crate::schema::catalogue::{Object, Pagination};
use crate::schema::keyset::{RowKey, TimeRange};
use crate::time::Micros;

/// What to ask beside the chain's own filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchParams {
    /// The batch at a cursor, or at a time.
    Cursor(cursor::CursorParams),
    /// The batch after so many of the newest rows.
    Skip(u64),
    /// A numbered batch of a window.
    Numbered(NumberedBatch),
    Whole,
}

impl BatchParams {
    /// What is asked of a list that goes by a cursor.
    #[cfg(test)]
    pub fn cursor(&self) -> &cursor::CursorParams {
        match self {
            BatchParams::Cursor(ask) => ask,
            other => panic!("{other:?}"),
        }
    }

    /// Whether the reply is expected to begin with a row that is known: its coming back proves
    /// something.
    pub fn overlaps(&self) -> bool {
        match self {
            BatchParams::Cursor(ask) => ask.cursor.is_some(),
            BatchParams::Skip(rows) => *rows > 0,
            BatchParams::Numbered(_) | BatchParams::Whole => false,
        }
    }
}

#[derive(Clone, Debug)]
pub enum Pager {
    Cursor(Box<CursorPager>),
    Offset(Box<OffsetPager>),
    TimeSlices(Box<TimeSlicePager>),
    /// A list that comes in one reply: whether it has.
    Single(bool),
}

impl Pager {
    /// `moves`: rows may move into the chain's window while it is walked.
    pub fn on(terms: Terms, object: Object, chain: &Chain, moves: bool, known: Assumptions) -> Self {
        match object.paging() {
            Pagination::Cursor => {
                Pager::Cursor(Box::new(CursorPager::on(terms, chain.window, chain.order, known)))
            }
            Pagination::Offset => Pager::Offset(Box::new(OffsetPager::new(chain.window))),
            Pagination::TimeSlices { batch } => {
                Pager::TimeSlices(Box::new(TimeSlicePager::new(chain.window, batch, moves, known)))
            }
            Pagination::Single => Pager::Single(false),
        }
    }

    /// A walk for the rows that lack the time of the order and stand above its upper bound.
    pub fn above(terms: Terms, chain: &Chain) -> Self {
        Pager::Cursor(Box::new(CursorPager::above(terms, chain.window, chain.order)))
    }

    /// The next request. `None` at the end.
    pub fn ask(&self) -> Option<BatchParams> {
        match self {
            Pager::Cursor(walk) => walk.ask().map(BatchParams::Cursor),
            Pager::Offset(thread) => thread.ask().map(BatchParams::Skip),
            Pager::TimeSlices(windows) => windows.ask().map(BatchParams::Numbered),
            Pager::Single(came) => (!came).then_some(BatchParams::Whole),
        }
    }

    /// Takes a reply in, with its total, and returns which of its rows to hand out.
    pub fn reply(&mut self, rows: &[RowKey], total: Option<u64>, now: Micros) -> Result<Vec<usize>> {
        match self {
            Pager::Cursor(walk) => walk.reply(rows, now),
            Pager::Offset(thread) => thread.reply(rows),
            Pager::TimeSlices(windows) => windows.reply(rows, total, now),
            Pager::Single(came) => {
                *came = true;
                let mut ids = HashSet::with_capacity(rows.len());
                Ok((0..rows.len()).filter(|row| ids.insert(rows[*row].id.as_str())).collect())
            }
        }
    }

    /// A request failed in a way that may be due to its form, which the refusal may name. False if
    /// there is no other form.
    pub fn lost(&mut self, is_named: bool) -> bool {
        match self {
            Pager::Cursor(walk) => walk.lost(is_named),
            Pager::TimeSlices(windows) => windows.lost(is_named),
            Pager::Offset(_) | Pager::Single(_) => false,
        }
    }

    /// Whether the page takes the form of request that it may refuse, if this walk has shown it.
    pub fn verdict(&self) -> Option<verdicts::WindowVerdict> {
        match self {
            Pager::Cursor(walk) => walk.verdict(),
            Pager::TimeSlices(windows) => windows.verdict(),
            Pager::Offset(_) | Pager::Single(_) => None,
        }
    }

    /// Whether the list was seen out of order.
    pub fn is_loose(&self) -> bool {
        match self {
            Pager::Cursor(walk) => walk.is_loose(),
            Pager::TimeSlices(windows) => windows.is_loose(),
            Pager::Offset(_) | Pager::Single(_) => false,
        }
    }

    /// Whether a row was seen far below the place of the time that it shows.
    pub fn has_low_row(&self) -> bool {
        self.walk().is_some_and(CursorPager::has_low_row)
    }

    /// Such a row has been seen since the last call, and shows the time of the order.
    pub fn take_disorder(&mut self) -> Option<Error> {
        match self {
            Pager::Cursor(walk) => walk.take_disorder(),
            Pager::Offset(_) | Pager::TimeSlices(_) | Pager::Single(_) => None,
        }
    }

    /// Whether the list is read from its newest row on.
    pub fn begins_at_head(&self) -> bool {
        self.walk().is_none_or(CursorPager::begins_at_head)
    }

    pub fn ended(&self) -> Option<End> {
        match self {
            Pager::Cursor(walk) => walk.ended(),
            Pager::Offset(thread) => thread.ended(),
            Pager::TimeSlices(windows) => windows.ended(),
            Pager::Single(came) => came.then_some(End::ListEnded),
        }
    }

    /// Whether the whole list came in its last reply.
    pub fn is_snapshot(&self) -> bool {
        self.walk().is_some_and(CursorPager::is_snapshot)
    }

    /// The ids of the rows that a walk by `updated_at` has handed out.
    pub fn ids(&self) -> Option<&IdSet> {
        self.walk().map(CursorPager::ids)
    }

    /// The window of a walk that goes down by time, and so can be cut in two.
    pub fn window(&self) -> TimeRange {
        self.walk().map(CursorPager::window).unwrap_or_default()
    }

    /// How far down it has come.
    pub fn depth(&self) -> Option<Micros> {
        self.walk()?.depth()
    }

    /// In an ordered stream rows that show a later time than this can be handed out. `None`: those
    /// that came all can.
    pub fn holds_back_below(&self) -> Option<Micros> {
        match self {
            _ if self.ended().is_some() => None,
            Pager::Cursor(walk) => Some(walk.reached().unwrap_or(Micros(i64::MAX))),
            Pager::TimeSlices(windows) => Some(windows.reached()),
            Pager::Offset(_) | Pager::Single(_) => None,
        }
    }

    /// Whether what is older could be left to another walk.
    pub fn can_be_cut(&self, low: Micros) -> bool {
        self.walk().is_some_and(|walk| walk.can_begin_below(low))
    }

    /// Whether it is a walk by time whose first anchor did not do.
    pub fn has_no_beginning(&self) -> bool {
        self.walk().is_some_and(CursorPager::has_no_beginning)
    }

    /// Whether the parts of a walk meet by the ids of their rows, wherever these stand.
    pub fn meets_by_ids(&self) -> bool {
        self.walk().is_some_and(CursorPager::meets_by_ids)
    }

    /// Ends the walk if it has come into what the older part of it has read.
    pub fn meet(&mut self, older: &Pager) {
        if let (Pager::Cursor(walk), Some(older)) = (self, older.walk()) {
            walk.meet(older);
        }
    }

    /// Ends this older part of a walk if the newer one has come to the end of the list.
    pub fn ends_with(&mut self, newer: &Pager) {
        if let (Pager::Cursor(walk), Some(newer)) = (self, newer.walk()) {
            walk.ends_with(newer);
        }
    }

    /// Whether it is a walk by time that found nothing where it was to begin.
    pub fn is_empty(&self) -> bool {
        self.walk().is_some_and(CursorPager::is_empty)
    }

    /// Whether this older part of a walk has come behind the newer one.
    pub fn is_behind(&self, newer: &Pager) -> bool {
        self.walk().zip(newer.walk()).is_some_and(|(walk, newer)| walk.is_behind(newer))
    }

    /// Whether what was left to another walk can still be taken back.
    pub fn can_take_back(&self) -> bool {
        self.walk().is_some_and(CursorPager::can_take_back)
    }

    /// Takes back what was left to a walk that found no beginning.
    pub fn take_back(&mut self, low: Option<Micros>) {
        if let Pager::Cursor(walk) = self {
            walk.take_back(low);
        }
    }

    /// More rows are likely to follow.
    pub fn goes_on(&self) -> bool {
        self.walk().is_some_and(CursorPager::goes_on)
    }

    /// Leaves what is older than `low` to another, rows being `gap` microseconds apart. None where
    /// this is no walk by time.
    pub fn cut(&mut self, low: Micros, gap: i64) -> Option<Pager> {
        match self {
            Pager::Cursor(walk) => Some(Pager::Cursor(Box::new(walk.cut(low, gap)))),
            Pager::Offset(_) | Pager::TimeSlices(_) | Pager::Single(_) => None,
        }
    }

    fn walk(&self) -> Option<&CursorPager> {
        match self {
            Pager::Cursor(walk) => Some(walk),
            Pager::Offset(_) | Pager::TimeSlices(_) | Pager::Single(_) => None,
        }
    }

    /// One of the windows of a numbered list that have not been read, counted from the newest.
    pub fn unread(&self, index: i64) -> Option<NumberedBatch> {
        match self {
            Pager::TimeSlices(windows) => windows.unread(index),
            Pager::Cursor(_) | Pager::Offset(_) | Pager::Single(_) => None,
        }
    }

    /// How many rows there are, if the list has a total.
    pub fn total(&self) -> Option<u64> {
        match self {
            Pager::TimeSlices(windows) => windows.total(),
            Pager::Cursor(_) | Pager::Offset(_) | Pager::Single(_) => None,
        }
    }
}
