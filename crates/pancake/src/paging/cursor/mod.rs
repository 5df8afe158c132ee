//! This module walks one list query, each row exactly once: it decides which request comes next,
//! and what a reply proves. It is pure: HTTP, retries and the clock are passed in by
//! [`crate::scan::run`].
//!
//! The list goes by the real time of its rows, newest first; a batch is an unbroken piece of it.
//! While the walk goes on, rows get messages (and jump to the head if the order is `updated_at`),
//! vanish, and surface up to 60 s late. Some rows show an older time than their real one, and so
//! stand too high by any distance; rows that show a newer one stand at most seven rows too low
//! (docs/api.md).
//!
//! **Forms of requests.** The walk depends on three, all of them in daily use by others:
//!
//! - *head*: no times, no cursor. It is the last resort of every other form.
//! - *step*: a cursor, no times.
//! - *anchor*: `since` and `until`, at most 27 days apart and `until` at least a day ago, only to
//!   find a row to begin from. An empty, refused or too low anchor is replaced by one further up,
//!   and after three by the head.
//!
//! **The rule.** The walk keeps its *trail*, the last rows that it has seen, in the order of the
//! list; the last of them is its place. A reply carries it on only if it holds a row of the trail:
//! what stands behind that row in the reply follows it in the list.
//!
//! 1. A step asks from the last row of the previous distinct time, so that ties and the place come
//!    again.
//! 2. If no row of the trail comes, the cursor row moved, vanished or was not taken: rows further
//!    up are tried as cursors, then the place itself, then an anchor above it, then the walk begins
//!    at the head again. A server may take no cursor but the last row of a reply. Then a *jump*
//!    asks from the place, and a *check* repeats the request that brought it: if the place is still
//!    its last row, the jump's first row follows it in the list. A second jump that begins with
//!    that row is taken in: three requests for a batch.
//! 3. A lower bound is not sent. It is passed when eight rows in a row, the last ones, lie beyond
//!    it.
//! 4. The end of the list is proven without times: the place, which was the last row of a reply,
//!    brings nothing as cursor; and asked from above it, or at the head if that is one reply, it
//!    comes again with nothing behind.
//! 5. An upper bound begins with an anchor that shows a row above it. By `updated_at` a window may
//!    leave out rows that show other times: its reply is a piece of the list only for as long as
//!    the list is seen in order. Once it is not, the union reads the chain again from the head.
//! 6. Of a walk that is cut in two the older part begins at an anchor. By `inserted_at` each part
//!    hands out the rows of its window, and the newer one reads past its cut as past a lower bound.
//!    By `updated_at` rows may stand on either side of the cut, whatever they show: both parts hand
//!    out all that they meet, and the newer one ends where it has come into what the older one has
//!    read below the cut. So an anchor need not be right: one too far up costs requests, and of one
//!    too far down the newer part reads what lies between.
//!
//! **Why nothing is lost.** Every pair of neighbours was seen side by side in one reply, so no row
//! that kept its place is skipped. A jump has no such pair: it depends on a cursor that leads on
//! from its row and not from its time, which has not been seen on a page of that kind, so none is
//! made from one of several rows of one time. A row that left its place went to the head, where
//! [`crate::paging::head_check`] finds it. **Why nothing comes twice.** Ids of the last rows are
//! remembered, and what is newer than all of them has come before. **Why it ends.** Beginning anew
//! without a new row is counted.

mod anchors;
mod cursors;
mod cut;
mod disorder;
mod next;
mod params;
mod reply;
mod trail;

use std::collections::VecDeque;

use crate::error::{Error, Kind};
use crate::paging::handed::HandedRows;
use crate::paging::id_set::IdSet;
use crate::paging::verdicts::Assumptions;
use crate::plan::anchor::{above, latest_anchor};
use crate::schema::keyset::{Order, RowKey, TimeRange};
use crate::time::{Micros, UnixSeconds};
use anchors::Anchors;
use cursors::Cursors;
use disorder::OutOfOrder;
use params::CURSORS;

pub use params::{CursorParams, End, FULL_BATCH, LAST_SECOND, TERMS, Terms, WIDTH_SECONDS};

#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct CursorPager {
    terms: Terms,
    order: Order,
    window: TimeRange,
    /// The window before parts of it were left to other walks. By `updated_at`, and without the
    /// time of the order, a row is handed out wherever in this it stands.
    whole: TimeRange,
    state: State,
    /// The last rows that are known, in the order of the list.
    trail: VecDeque<RowKey>,
    /// So many of the last rows of the trail were seen in a row: a row above them was taken out.
    in_a_row: usize,
    /// It began at the head, and not at an anchor.
    began_at_head: bool,
    /// Rows from its beginning down to the place, and the most that there have been.
    taken: usize,
    most_taken: usize,
    /// The request whose reply had the place as its last row.
    brought_by: Option<CursorParams>,
    /// No row was repeated behind it in that reply.
    is_at_end: bool,
    handed: HandedRows,
    /// The oldest time of a row so far.
    lowest: Option<Micros>,
    cursors: Cursors,
    /// An anchor above the place was asked for, and no new row has come since.
    is_anchored: bool,
    /// Requests since the last new row, or since the place was lower than ever since the walk
    /// began, and how often it has begun at the head since the last new row.
    fruitless: u32,
    restarts: u32,
    /// A probe showed rows that have not been seen behind the last one yet.
    more_follows: bool,
    /// The last reply was as long as a reply can be.
    was_full: bool,
    /// The last reply at the head was empty.
    was_empty: bool,
    /// The longest reply so far, and whether more was seen behind a shorter one than a reply can
    /// be: then the page's replies are no longer than this, and it is not probed after each whether
    /// more follows.
    longest: usize,
    has_small_batches: bool,
    /// No `until` later than this is sent.
    latest_until: UnixSeconds,
    anchors: Anchors,
    /// A reply showed an older row before a newer one, or one without a time.
    is_loose: bool,
    has_undated: bool,
    /// A row below the window was not handed out.
    has_left_out: bool,
    /// What rows show decides where the walk ends.
    ends_by_time: bool,
    /// A row stands lower than that takes for granted.
    has_low_row: bool,
    /// Such a row, until it is taken as an error.
    disorder: Option<OutOfOrder>,
    /// One reply held the whole list.
    is_snapshot: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
enum State {
    /// `confirming`: whether the place is the last row.
    Head {
        confirming: bool,
    },
    Anchor {
        until: UnixSeconds,
        tried: u32,
    },
    /// The row of the trail with this index is the cursor.
    Step {
        from: usize,
        confirming: bool,
    },
    Probe,
    /// The place is the cursor; `next` is what a check has proven to follow it.
    Jump {
        next: Follower,
    },
    /// The request that brought the place is repeated, after a jump that showed `next` behind it.
    Check {
        next: Follower,
    },
    Ended(End),
}

/// What follows the place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
enum Follower {
    Unknown,
    Row(String),
    Nothing,
}

impl CursorPager {
    pub fn on(terms: Terms, window: TimeRange, order: Order, known: Assumptions) -> Self {
        let latest_until = latest_anchor(known.now);
        let mut walk = Self {
            terms,
            order,
            window,
            whole: window,
            state: State::Head { confirming: false },
            trail: VecDeque::new(),
            in_a_row: 0,
            began_at_head: false,
            taken: 0,
            most_taken: 0,
            brought_by: None,
            is_at_end: false,
            handed: HandedRows::by(order, terms.full_batch),
            lowest: None,
            cursors: Cursors::default(),
            is_anchored: false,
            fruitless: 0,
            restarts: 0,
            more_follows: false,
            was_full: false,
            was_empty: false,
            longest: 0,
            has_small_batches: false,
            latest_until,
            // Where rows stand anywhere, the last ones do not show how far the walk has come.
            anchors: Anchors::new(known.takes_windows && (known.ends_by_time || order != Order::UpdatedAt)),
            is_loose: !known.is_in_order,
            has_undated: false,
            has_left_out: false,
            ends_by_time: known.ends_by_time,
            has_low_row: !known.ends_by_time,
            disorder: None,
            is_snapshot: false,
        };
        // What shows an older time than its real one may stand any distance above an upper bound.
        if let Some(high) = window.high.filter(|_| known.is_in_order) {
            walk.anchor(above(high, order), 0);
        }
        walk
    }

    /// A walk that begins at the head whatever its upper bound is.
    pub fn from_head(terms: Terms, window: TimeRange, order: Order) -> Self {
        let state = State::Head { confirming: false };
        Self { state, ..Self::on(terms, window, order, Micros(0).into()) }
    }

    /// A walk down to the upper bound, for the rows that lack the time of the order.
    pub fn above(terms: Terms, whole: TimeRange, order: Order) -> Self {
        let low = whole.high.map(|high| Micros(high.0.saturating_add(1)));
        let window = TimeRange { low, high: whole.high };
        Self { whole, ..Self::from_head(terms, window, order) }
    }

    pub fn window(&self) -> TimeRange {
        self.window
    }

    /// The ids of its rows so far, by `updated_at`.
    pub fn ids(&self) -> &IdSet {
        self.handed.ids()
    }

    /// The last reply was full: more rows are likely to follow.
    pub fn goes_on(&self) -> bool {
        self.was_full && self.ended().is_none()
    }

    pub fn ended(&self) -> Option<End> {
        match self.state {
            State::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Whether the whole list came in its last reply: whatever moved before is in it.
    pub fn is_snapshot(&self) -> bool {
        self.is_snapshot
    }

    /// The next request. `None` at the end.
    pub fn ask(&self) -> Option<CursorParams> {
        let from =
            |row: Option<&RowKey>| Some(row.map_or(CursorParams::HEAD, |row| CursorParams::from(&row.id)));
        match self.state {
            State::Ended(_) => None,
            State::Head { .. } => Some(CursorParams::HEAD),
            State::Anchor { until, .. } => Some(CursorParams::up_to(until)),
            State::Step { from: row, .. } => from(self.trail.get(row)),
            State::Probe | State::Jump { .. } => from(self.trail.back()),
            State::Check { .. } => Some(self.brought_by.clone().unwrap_or(CursorParams::HEAD)),
        }
    }

    /// Whether it reads the list from its newest row on.
    pub fn begins_at_head(&self) -> bool {
        self.began_at_head || matches!(self.state, State::Head { .. })
    }

    /// A row was seen lower than the walk takes for granted, since the last call.
    pub fn take_disorder(&mut self) -> Option<Error> {
        self.disorder.take().map(|disorder| disorder.error())
    }

    /// A request failed in a way that may be due to its form, which the refusal may name. False if
    /// there is no other form left.
    pub fn lost(&mut self, is_named: bool) -> bool {
        // It ended while the request was on its way, and does without its reply.
        if self.ended().is_some() {
            return true;
        }
        // All that is left then is what has been tried before.
        self.count();
        if self.is_restless() {
            return false;
        }
        match self.state {
            State::Head { .. } | State::Ended(_) => return false,
            State::Anchor { .. } => {
                self.anchors.failed += 1;
                self.anchors.are_refused |= is_named;
                self.anchors.are_taken &= !is_named;
                self.anchor_further_up(&[]);
            }
            State::Step { from, confirming } => {
                self.cursors.count(true);
                self.miss(from, confirming);
            }
            State::Probe | State::Check { .. } => self.miss(self.trail.len().saturating_sub(1), false),
            State::Jump { .. } if self.cursors.misses < CURSORS => {
                self.cursors.misses += 1;
                self.state = State::Check { next: Follower::Unknown };
            }
            State::Jump { .. } => self.miss(self.trail.len().saturating_sub(1), false),
        }
        true
    }

    fn is_restless(&self) -> bool {
        self.fruitless > self.terms.patience || self.restarts > self.terms.patience.div_ceil(6)
    }

    /// Counts a request, but for probes, each of which is followed by a step.
    fn count(&mut self) {
        self.fruitless += u32::from(self.state != State::Probe);
    }
}

pub fn restless(detail: &str) -> Error {
    Error::new(Kind::NotUnderstood, "cursor of the conversations list never ends").detail(detail)
}

#[cfg(test)]
mod model;
