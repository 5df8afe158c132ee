//! This module reads the head of a moving list again: what moved up there while chains were walked
//! by `updated_at`. How one look reads down to where it must is the walk's matter again; which rows
//! are new, the union's.
//!
//! **The rule.** Let W₀ be the newest row of a chain's first reply, the oldest of them where there
//! are several chains. A row that left its place since then is newer than W₀ − 60 s, for messages
//! surface that late. After the walks the head is read down to there, once for all chains; as long
//! as a look took more than one reply (rows may have moved meanwhile), another follows, down to the
//! newest row of the look before, until one is a single reply, or begins as the look before did,
//! which had found nothing new.
//!
//! **What remains.** A row that was not seen yet, gets a message during a look of several replies
//! and surfaces late, below what the next look shows, is missed: that takes a page on which more
//! than a batch of rows changes within a minute. To reach down a minute each time would end no look
//! on such a page.

use crate::error::Result;
use crate::paging::cursor::{CursorPager, CursorParams, End, Terms, restless};
use crate::schema::keyset::{Order, RowKey, TimeRange};
use crate::time::Micros;

/// A message surfaces at most this long after its `updated_at`.
pub const LATE_SECONDS: i64 = 60;

/// The newest time of the order that rows show, but for those that are dated ahead of the reply
/// itself.
pub fn newest(rows: &[RowKey], now: Micros) -> Option<Micros> {
    let in_time = rows.iter().filter(|row| row.is_dated && row.at <= now).map(|row| row.at).max();
    in_time.or((!rows.is_empty()).then_some(now))
}

#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct HeadCheck {
    window: TimeRange,
    terms: Terms,
    /// The newest row of the chains' first replies, and then of each look.
    newest: Option<Micros>,
    current: Option<CursorPager>,
    count: u32,
    /// The first reply of the current look; nothing before it is had.
    head: Option<Vec<RowKey>>,
    /// The first reply of the look before, if that look found nothing new.
    quiet_head: Option<Vec<RowKey>>,
    /// A row stands so low that no look shows where it may end.
    pub has_low_row: bool,
    /// New rows that the current look found.
    found: usize,
    replies: u32,
    /// The last reply was empty.
    was_empty: bool,
}

impl HeadCheck {
    pub fn new(terms: Terms, window: TimeRange) -> Self {
        Self {
            window,
            terms,
            newest: None,
            current: None,
            count: 0,
            head: None,
            quiet_head: None,
            has_low_row: false,
            found: 0,
            replies: 0,
            was_empty: false,
        }
    }

    /// Takes note of the first reply of a chain.
    /// `now`: when the server replied. A row may show a later time.
    pub fn note(&mut self, first_reply: &[RowKey], now: Micros) {
        self.newest = [self.newest, newest(first_reply, now)].into_iter().flatten().min();
    }

    /// The walks have come to their ends. False where the list was empty: nothing can have moved.
    pub fn begin(&mut self) -> bool {
        let down_to = self.newest.map(|newest| newest.minus_seconds(LATE_SECONDS));
        down_to.map(|down_to| self.look(down_to)).is_some()
    }

    pub fn have_begun(&self) -> bool {
        self.count > 0
    }

    fn look(&mut self, down_to: Micros) {
        let low = Some(self.window.low.map_or(down_to, |low| low.max(down_to)));
        let window = TimeRange { low, high: self.window.high };
        self.current = Some(CursorPager::from_head(self.terms, window, Order::UpdatedAt));
        self.count += 1;
        self.quiet_head = self.head.take().filter(|_| self.found == 0);
        self.found = 0;
        self.replies = 0;
    }

    /// The next request; none when there is rest.
    pub fn ask(&self) -> Option<CursorParams> {
        self.current.as_ref()?.ask()
    }

    pub fn lost(&mut self) -> bool {
        self.current.as_mut().is_some_and(|look| look.lost(false))
    }

    /// Takes a reply in: the rows to hand out, if they are new.
    pub fn reply(
        &mut self,
        rows: &[RowKey],
        now: Micros,
        mut is_new: impl FnMut(&RowKey) -> bool,
    ) -> Result<Vec<usize>> {
        let Some(mut look) = self.current.take() else { return Ok(Vec::new()) };
        let was_empty = std::mem::replace(&mut self.was_empty, rows.is_empty());
        if rows.is_empty() && self.replies == 0 && !was_empty {
            // That the list has no rows any more is believed when it is seen twice.
            self.current = Some(look);
            return Ok(Vec::new());
        }
        look.reply(rows, now)?;
        self.has_low_row |= look.has_low_row();
        self.replies += 1;
        if self.replies == 1 {
            self.newest = newest(rows, now);
            self.head = Some(rows.to_vec());
        }
        // Any row that shows up is welcome, also below where the look must reach: a row that moved
        // twice may surface there.
        let in_window = |i: &usize| self.window.holds(rows[*i].at);
        let fresh: Vec<usize> = (0..rows.len()).filter(in_window).filter(|i| is_new(&rows[*i])).collect();
        self.found += fresh.len();
        // One reply is one moment. Longer looks are over when the next begins as this one did: then
        // no row came up from below in between.
        let unmoved = self.head.is_some() && self.head == self.quiet_head;
        match (look.ended(), self.newest) {
            (Some(_), _) if self.replies == 1 => {}
            _ if unmoved => {}
            (None, _) => self.current = Some(look),
            (Some(_), None) => {}
            (Some(_), Some(_)) if self.count >= self.terms.patience => {
                return Err(restless(
                    "Conversations moved during every one of many looks at the head of the list.",
                ));
            }
            (Some(_), Some(newest)) => self.look(newest),
        }
        Ok(fresh)
    }

    /// Why the stream is over.
    pub fn end(&self) -> Option<End> {
        self.have_begun().then_some(match self.window.low {
            Some(_) => End::PassedBound,
            None => End::ListEnded,
        })
    }
}
