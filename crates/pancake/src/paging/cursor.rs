//! This module walks one list query, each row exactly once: it decides which request comes next,
//! and what a reply proves. It is pure: HTTP, retries and the clock are passed in by
//! [`crate::scan::run`].
//!
//! The list goes by the real time of its rows, newest first; a batch is an unbroken piece of it.
//! While the walk goes on, rows get messages (and jump to the head if the order is `updated_at`),
//! vanish, and surface up to 60 s late. Some rows show an older time than their real one, and so
//! stand too high by any distance; rows that show a newer one stand at most seven rows too low (API
//! notes, section I).
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
//! 5. An upper bound begins with an anchor that shows a row above it.
//! 6. Of a walk that is cut in two the older part begins at an anchor. By `inserted_at` each part
//!    hands out the rows of its window, and the newer one reads past its cut as past a lower bound.
//!    By `updated_at` rows may stand on either side of the cut, whatever they show: both parts hand
//!    out all that they meet, and the newer one ends where it has come into what the older one has
//!    read. So an anchor need not be right: one too far up costs requests, and of one too far down
//!    the newer part reads what lies between.
//!
//! **Why nothing is lost.** Every pair of neighbours was seen side by side in one reply, so no row
//! that kept its place is skipped. A jump has no such pair: it depends on a cursor that leads on
//! from its row and not from its time, which has not been seen on a page of that kind, so none is
//! made from one of several rows of one time. A row that left its place went to the head, where
//! [`crate::paging::head_check`] finds it. **Why nothing comes twice.** Ids of the last rows are
//! remembered, and what is newer than all of them has come before. **Why it ends.** Beginning anew
//! without a new row is counted.

use std::collections::{HashSet, VecDeque};

use crate::error::{Error, Kind, Result};
use crate::paging::handed::Handed;
use crate::paging::verdicts::{self, Known};
use crate::schema::keyset::{Order, RowKey, TimeRange};
use crate::time::{Micros, SECOND, UnixSeconds};

/// What to ask beside the chain's own filters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct Ask {
    pub cursor: Option<String>,
    pub since: Option<UnixSeconds>,
    pub until: Option<UnixSeconds>,
}

impl Ask {
    pub const HEAD: Ask = Ask { cursor: None, since: None, until: None };

    pub fn from(cursor: &str) -> Self {
        Self { cursor: Some(cursor.to_owned()), ..Self::HEAD }
    }

    /// The newest rows up to this second, by a window that every page has been seen to take.
    pub fn up_to(until: UnixSeconds) -> Self {
        let since = UnixSeconds((until.0 - WIDTH_SECONDS).max(1));
        Self { cursor: None, since: Some(since), until: Some(until) }
    }
}

/// Why a walk came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub enum End {
    ListEnded,
    PassedBound,
    /// Every row that was asked for by id has come.
    FoundAll,
}

/// A server's batch is never larger than this (docs/api.md).
pub const FULL_BATCH: usize = 60;
/// Lengths of replies that may be the limit of a server. A list of such a length is not taken for
/// whole before a cursor has been seen to work.
const LIKELY_BATCHES: [usize; 5] = [10, 20, 25, 30, 50];
/// The last second that a server cannot take for milliseconds, in the year 5138 (docs/api.md).
/// No row is so late, so a later bound is as good as none.
pub const LAST_SECOND: i64 = 99_999_999_999;
/// The widest window: windows of a month were refused, and 28 days can be a month (docs/api.md).
pub const WIDTH_SECONDS: i64 = 27 * 86_400;
/// No client sends an `until` near now or beyond (docs/api.md), so none nearer than this
/// is sent here.
const RECENT_SECONDS: i64 = 86_400;
/// By `updated_at` a walk begins so far above its upper bound.
const MOVING_MARGIN_SECONDS: i64 = 6 * 3_600;
/// Where rows stand so densely, an anchor this many of them above is hardly ever too low.
const ROWS_ABOVE: i64 = 4;
/// Anchors that are tried before the head.
const ANCHORS: u32 = 3;
/// Cursors that are tried before an anchor, or before the walk begins anew: on a busy page a row
/// can move away while it is asked from.
const CURSORS: u32 = 6;

/// What a walk takes for granted; smaller in tests, so that all of a small model can be seen.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct Terms {
    /// A server's batch is never larger.
    pub full_batch: usize,
    /// Requests that bring no new row and move no place, or looks at the head, before the walk
    /// gives up.
    pub patience: u32,
    /// So many rows in a row beyond a bound pass it: one more than the rows that a row can stand
    /// too low by.
    pub beyond: usize,
}

impl Terms {
    /// A row that is newer than so many in a row above it stands lower than any that has been seen:
    /// by `inserted_at` no more than neighbours have been seen swapped.
    pub fn beyond_by(&self, order: Order) -> usize {
        match order {
            Order::UpdatedAt => self.beyond,
            Order::InsertedAt | Order::Served => self.beyond.min(2),
        }
    }
}

pub const TERMS: Terms = Terms { full_batch: FULL_BATCH, patience: 60, beyond: 8 };

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
    /// Rows that were taken into the trail since the walk began at the head; `None` if it began at
    /// an anchor.
    since_head: Option<usize>,
    /// The request whose reply had the place as its last row, and whether no row was repeated
    /// behind it.
    brought_by: Option<Ask>,
    is_at_end: bool,
    handed: Handed,
    /// The oldest time of a row so far.
    lowest: Option<Micros>,
    /// Cursors in a row that did not lead on from the trail.
    misses: u32,
    /// The last cursors did not lead on: an anchor is tried after the first one.
    cursors_fail: bool,
    /// Rows of the trail that as cursors brought none of it: since it grew, and in all; and those
    /// that led on.
    refused_in_a_row: u32,
    refused_cursors: u32,
    led_cursors: u32,
    /// No cursor but the last row of a reply has led on, and many were tried.
    takes_only_last_rows: bool,
    /// A cursor has led on.
    has_led: bool,
    /// The place was tried as cursor, and no new row has come since.
    has_jumped: bool,
    /// An anchor above the place was asked for, and no new row has come since.
    is_anchored: bool,
    /// Requests since the last new row that did not move the place.
    fruitless: u32,
    /// A probe showed rows that have not been seen behind the last one yet.
    more_follows: bool,
    /// The last reply was as long as a reply can be.
    was_full: bool,
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
    /// One reply held the whole list.
    is_snapshot: bool,
}

/// What became of the anchors that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
struct Anchors {
    are_taken: bool,
    /// One was answered with rows.
    were_taken: bool,
    failed: u32,
    /// A request without times has succeeded since.
    were_replaced: bool,
    /// The refusal named the form, or a row has come that an empty reply left out.
    are_refused: bool,
    /// The times of the last one that was answered empty.
    empty: Option<(Micros, Micros)>,
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
        next: Next,
    },
    /// The request that brought the place is repeated, after a jump that showed `next` behind it.
    Check {
        next: Next,
    },
    Ended(End),
}

/// What follows the place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
enum Next {
    Unknown,
    Row(String),
    Nothing,
}

impl CursorPager {
    pub fn on(terms: Terms, window: TimeRange, order: Order, known: Known) -> Self {
        let latest_until = UnixSeconds(known.now.floor_second().0 - RECENT_SECONDS);
        let mut walk = Self {
            terms,
            order,
            window,
            whole: window,
            state: State::Head { confirming: false },
            trail: VecDeque::new(),
            in_a_row: 0,
            since_head: None,
            brought_by: None,
            is_at_end: false,
            handed: Handed::by(order, terms.full_batch),
            lowest: None,
            misses: 0,
            cursors_fail: false,
            refused_in_a_row: 0,
            refused_cursors: 0,
            led_cursors: 0,
            takes_only_last_rows: false,
            has_led: false,
            has_jumped: false,
            is_anchored: false,
            fruitless: 0,
            more_follows: false,
            was_full: false,
            longest: 0,
            has_small_batches: false,
            latest_until,
            anchors: Anchors {
                are_taken: known.takes_windows,
                were_taken: false,
                failed: 0,
                were_replaced: false,
                are_refused: false,
                empty: None,
            },
            is_loose: !known.is_in_order,
            has_undated: false,
            has_left_out: false,
            is_snapshot: false,
        };
        // What shows an older time than its real one may stand any distance above an upper bound.
        if let Some(high) = window.high.filter(|_| known.is_in_order) {
            let margin = if order == Order::UpdatedAt { MOVING_MARGIN_SECONDS } else { 1 };
            walk.anchor(UnixSeconds(high.ceil_second().0.saturating_add(margin)), 0);
        }
        walk
    }

    /// A walk that begins at the head whatever its upper bound is.
    pub fn from_head(terms: Terms, window: TimeRange, order: Order) -> Self {
        let state = State::Head { confirming: false };
        Self { state, ..Self::on(terms, window, order, Micros(0).into()) }
    }

    /// Leaves what is older than `low` to another walk, which this returns. `gap`: from one row to
    /// the next, in microseconds; by `inserted_at` the other walk begins some rows above.
    pub fn cut(&mut self, low: Micros, gap: i64) -> Self {
        let window = TimeRange { low: self.window.low, high: Some(Micros(low.0.saturating_sub(1))) };
        let now = Micros((self.latest_until.0 + RECENT_SECONDS).saturating_mul(SECOND));
        self.window.low = Some(low);
        let is_in_order = !self.meets_by_ids() || !self.is_loose;
        let known = Known { takes_windows: self.anchors.are_taken, is_in_order, ..now.into() };
        let mut older = Self::on(self.terms, window, self.order, known);
        let gap = if self.meets_by_ids() { 0 } else { gap.max(0) };
        let above = gap.saturating_mul(ROWS_ABOVE) / SECOND + 1;
        older.anchor(UnixSeconds(low.ceil_second().0.saturating_add(above)), 0);
        older.whole = self.whole;
        older.takes_only_last_rows = self.takes_only_last_rows;
        (older.refused_cursors, older.led_cursors) = (self.refused_cursors, self.led_cursors);
        older
    }

    /// By `updated_at` a row may stand on either side of a cut, whatever time it shows. Then each
    /// of the two walks hands out all rows that it meets, and the newer one ends where it has come
    /// into what the older one has read: so it does not matter where that one began.
    fn meets_by_ids(&self) -> bool {
        self.order == Order::UpdatedAt
    }

    /// Ends the walk if it has passed its cut and has come into what the older walk has read.
    pub fn meet(&mut self, older: &Self) {
        if self.meets_by_ids() && self.is_beyond(self.window.low) && self.has_come_into(older) {
            self.state = State::Ended(End::PassedBound);
        }
    }

    /// Whether the newer walk has overtaken this one, which brings nothing then.
    pub fn is_behind(&self, newer: &Self) -> bool {
        let place = self.trail.back().filter(|_| self.meets_by_ids());
        self.ended().is_none()
            && newer.ended().is_none()
            && place.is_some_and(|place| newer.handed.has(&place.id))
    }

    /// Whether so many rows in a row were handed out by the older walk as well that it cannot have
    /// met them elsewhere.
    fn has_come_into(&self, older: &Self) -> bool {
        let mut in_a_row = 0;
        self.trail.iter().rev().take(self.in_a_row).any(|row| {
            in_a_row = if older.handed.has(&row.id) { in_a_row + 1 } else { 0 };
            in_a_row == self.terms.beyond
        })
    }

    /// Whether this is the older part of a walk, and is to begin wherever its first reply leads.
    fn begins_anywhere(&self) -> bool {
        self.meets_by_ids() && self.lowest.is_none() && self.window.high != self.whole.high
    }

    /// Whether its first anchor did not do.
    pub fn has_no_beginning(&self) -> bool {
        self.lowest.is_none()
            && self.trail.is_empty()
            && matches!(self.state, State::Anchor { tried: 1.., .. } | State::Head { .. })
    }

    /// Whether what was left to another walk can still be taken back: none of its rows has come
    /// here.
    pub fn can_take_back(&self) -> bool {
        !self.has_left_out && self.ended().is_none()
    }

    /// Takes back what was left to a walk that found no beginning.
    pub fn take_back(&mut self, low: Option<Micros>) {
        self.window.low = low;
    }

    /// Whether what is older than `low` could be found without walking down to it.
    pub fn can_begin_below(&self, low: Micros) -> bool {
        self.anchors.are_taken && low.ceil_second().0 < self.latest_until.0
    }

    pub fn window(&self) -> TimeRange {
        self.window
    }

    /// How far down the walk has come.
    pub fn depth(&self) -> Option<Micros> {
        let lowest = self.lowest?;
        let depth = if self.meets_by_ids() { self.place().unwrap_or(lowest) } else { lowest };
        Some(self.window.high.map_or(depth, |high| high.min(depth)))
    }

    /// Rows that show a later time than this can be handed out in order, because none that is still
    /// to come shows a newer one than they do.
    pub fn reached(&self) -> Option<Micros> {
        // By `inserted_at` no more than neighbours have been seen swapped.
        let rows = if self.order == Order::UpdatedAt { self.terms.beyond } else { 1 };
        let tail: Vec<_> = self.tail().take(rows).map(|row| row.at).collect();
        (tail.len() == rows).then(|| tail.into_iter().max()).flatten()
    }

    /// Whether rows were seen that may stand any distance above the time that they show.
    pub fn is_loose(&self) -> bool {
        // By `inserted_at` neighbours may be swapped, and an upper bound is passed by more than
        // one.
        match self.order {
            Order::UpdatedAt => self.is_loose,
            Order::InsertedAt | Order::Served => self.has_undated,
        }
    }

    /// Whether one of the last rows lacks the time of the order, and shows a newer one than rows in
    /// their places above it do: more of them than may stand so in that order.
    pub fn has_undated_below(&self) -> bool {
        let loose = if self.order == Order::UpdatedAt { self.terms.beyond } else { 1 };
        self.trail.iter().enumerate().filter(|(_, row)| !row.is_dated).any(|(place, row)| {
            let above = self.trail.iter().take(place).rev().filter(|row| row.is_dated);
            let mut above = above.take(loose).peekable();
            above.peek().is_some() && above.all(|above| above.at < row.at)
        })
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
    pub fn ask(&self) -> Option<Ask> {
        let from = |row: Option<&RowKey>| Some(row.map_or(Ask::HEAD, |row| Ask::from(&row.id)));
        match self.state {
            State::Ended(_) => None,
            State::Head { .. } => Some(Ask::HEAD),
            State::Anchor { until, .. } => Some(Ask::up_to(until)),
            State::Step { from: row, .. } => from(self.trail.get(row)),
            State::Probe | State::Jump { .. } => from(self.trail.back()),
            State::Check { .. } => Some(self.brought_by.clone().unwrap_or(Ask::HEAD)),
        }
    }

    /// Whether the page takes anchors, if this walk has shown it.
    pub fn verdict(&self) -> Option<verdicts::Window> {
        match self.anchors {
            Anchors { are_refused: true, .. } => Some(verdicts::Window::Refused),
            Anchors { were_taken: true, .. } => Some(verdicts::Window::Taken),
            Anchors { failed: 1.., were_replaced: true, .. } => Some(verdicts::Window::Failed),
            _ => None,
        }
    }

    /// A request failed in a way that may be due to its form, which the refusal may name. False if
    /// there is no other form left.
    pub fn lost(&mut self, is_named: bool) -> Result<bool> {
        // All that is left then is what has been tried before.
        self.count();
        if self.fruitless > self.terms.patience {
            return Ok(false);
        }
        match self.state {
            State::Head { .. } => return Ok(false),
            // It ended while the request was on its way, and does without its reply.
            State::Ended(_) => {}
            State::Anchor { .. } => {
                self.anchors.failed += 1;
                self.anchors.are_refused |= is_named;
                self.anchors.are_taken &= !is_named;
                self.anchor_further_up(&[]);
            }
            State::Step { from, confirming } => {
                self.count_cursor(true);
                self.miss(from, confirming);
            }
            State::Probe | State::Check { .. } => self.miss(self.trail.len().saturating_sub(1), false),
            State::Jump { .. } if self.misses < CURSORS => {
                self.misses += 1;
                self.state = State::Check { next: Next::Unknown };
            }
            State::Jump { .. } => self.miss(self.trail.len().saturating_sub(1), false),
        }
        Ok(true)
    }

    /// Counts a request, but for probes, each of which is followed by a step.
    fn count(&mut self) {
        self.fruitless += u32::from(self.state != State::Probe);
    }

    /// Takes a reply in, and returns which of its rows to hand out. `now`: a time not later than
    /// the reply's own.
    pub fn reply(&mut self, rows: &[RowKey], now: Micros) -> Result<Vec<usize>> {
        self.latest_until = self.latest_until.max(UnixSeconds(now.floor_second().0 - RECENT_SECONDS));
        let unique = without_repeats(rows);
        let length = rows.len();
        let ends_in_repeat = unique.last().is_some_and(|last| last + 1 < length);
        let rows: Vec<&RowKey> = unique.iter().map(|i| &rows[*i]).collect();
        let dated = || rows.iter().filter(|row| row.is_dated);
        self.has_undated |= rows.iter().any(|row| !row.is_dated);
        self.is_loose |= self.has_undated || dated().zip(dated().skip(1)).any(|(one, next)| one.at < next.at);
        // A row that a reply repeats takes the place of another one.
        self.longest = self.longest.max(length);
        self.was_full = length >= self.terms.full_batch;
        self.note_anchor(&rows);
        let (place, asked) = (self.trail.back().cloned(), self.ask());
        // Requests that take the place down by one batch.
        let step = match self.state {
            State::Step { .. } => 1,
            State::Jump { .. } => 3,
            _ => 0,
        };
        self.count();
        // By `updated_at` a window may leave out the rows between those that show older times.
        if !(self.meets_by_ids() && matches!(self.state, State::Anchor { .. })) {
            self.in_order(&rows)?;
        }
        let fresh = self.take(&rows);
        if rows.last().is_some_and(|last| self.trail.back() == Some(last)) {
            (self.brought_by, self.is_at_end) = (asked, !ends_in_repeat);
        } else if self.trail.back() != place.as_ref() {
            (self.brought_by, self.is_at_end) = (None, false);
        }
        if !self.is_at_end && matches!(self.state, State::Jump { .. }) {
            self.state = State::Check { next: Next::Unknown };
        }
        let goes_down = |old: RowKey| {
            self.trail.back().is_some_and(|new| new.id != old.id && (new.at <= old.at || !new.is_dated))
        };
        if step > 0 && place.is_some_and(goes_down) {
            self.fruitless = self.fruitless.saturating_sub(step);
        } else if self.fruitless > self.terms.patience && self.ended().is_none() {
            return Err(restless("The cursor did not lead on from the last row, asked in every form."));
        }
        Ok(fresh.into_iter().map(|i| unique[i]).collect())
    }

    /// Notes what a reply shows of anchors.
    fn note_anchor(&mut self, rows: &[&RowKey]) {
        let anchors = &mut self.anchors;
        match self.state {
            State::Anchor { until, .. } if rows.is_empty() => {
                let since = until.0 - WIDTH_SECONDS;
                anchors.empty = Some((Micros((since + 1) * SECOND), Micros((until.0 - 1) * SECOND)));
            }
            State::Anchor { .. } => anchors.were_taken = true,
            _ => {
                anchors.were_replaced |= anchors.failed > 0 && !rows.is_empty();
                let is_hidden = |row: &&RowKey| {
                    row.is_dated && anchors.empty.is_some_and(|(low, high)| (low..=high).contains(&row.at))
                };
                anchors.are_refused |= rows.iter().any(is_hidden);
            }
        }
    }

    fn take(&mut self, rows: &[&RowKey]) -> Vec<usize> {
        let joint = self.joint(rows);
        match self.state.clone() {
            State::Ended(_) => {}
            State::Head { .. } if rows.is_empty() => self.state = State::Ended(End::ListEnded),
            State::Head { confirming: true }
                if !self.was_full && joint == Some((rows.len() - 1, self.trail.len() - 1)) =>
            {
                self.state = State::Ended(End::ListEnded);
                self.is_snapshot = true;
                return self.fresh(rows);
            }
            State::Head { .. } => {
                self.forget_all();
                self.since_head = Some(0);
                return self.settle(rows, 0);
            }
            State::Anchor { .. } if self.begins_anywhere() => match rows {
                // A window may leave out rows, so its reply is no piece of the list: the walk
                // begins with its last rows, which hardly ever show an older time.
                [above @ .., _, _] if is_nearly_sorted(rows) => {
                    self.since_head = None;
                    self.was_full = true;
                    let fresh = self.settle(&rows[above.len()..], 0);
                    return fresh.into_iter().map(|i| above.len() + i).collect();
                }
                _ => self.anchor_further_up(rows),
            },
            State::Anchor { .. } => {
                let sought = if self.trail.is_empty() { self.window.high } else { self.place() };
                let above = sought.map_or(0, |sought| rows.iter().take_while(|row| row.at > sought).count());
                let is_above = above > 0;
                // The window leaves out what is newer than it. Below so many of its rows nothing so
                // new stands.
                let beyond = self.terms.beyond_by(self.order);
                let is_whole = self.trail.is_empty() || joint.map_or(above, |(row, _)| row + 1) >= beyond;
                match joint {
                    Some((row, known)) if is_whole && !self.is_loose => {
                        self.forget_below(known);
                        return self.settle(rows, row + 1);
                    }
                    None if is_above && is_whole && !self.is_loose => {
                        self.forget_all();
                        self.since_head = None;
                        return self.settle(rows, 0);
                    }
                    // A window may leave out rows that show an older time: its reply gives a
                    // cursor, and no piece.
                    _ if rows.len() > 1 && (is_above || joint.is_some()) && !self.takes_only_last_rows => {
                        self.forget_all();
                        self.since_head = None;
                        self.was_full = true;
                        return self.settle(&rows[..2], 0);
                    }
                    _ => self.anchor_further_up(rows),
                }
            }
            State::Probe => {
                self.more_follows = !rows.is_empty();
                self.has_small_batches |= self.more_follows;
                // Only as the last row of a reply the place is sure to be taken for a cursor.
                let is_end = rows.is_empty() && self.is_at_end;
                // The end of a list of one reply is proven by the head, which shows what moved as
                // well.
                let is_one_reply = self.since_head.is_some_and(|taken| taken <= self.longest)
                    && self.longest < self.terms.full_batch
                    && !LIKELY_BATCHES.contains(&self.longest);
                if is_end && is_one_reply {
                    self.state = State::Head { confirming: true }
                } else {
                    self.step(is_end)
                }
            }
            State::Step { from, confirming } => match joint {
                None => {
                    self.count_cursor(true);
                    self.miss(from, confirming);
                }
                // The batch has no room for the rows down to the place: ask from nearer by.
                Some((row, known))
                    if row + 1 == rows.len() && known + 1 < self.trail.len() && self.was_full =>
                {
                    if known > from {
                        self.state = State::Step { from: known, confirming }
                    } else {
                        self.miss(from, confirming)
                    }
                }
                Some((row, known)) if row + 1 == rows.len() => {
                    // What stood below in the trail is gone, or comes again.
                    let is_place = known + 1 == self.trail.len();
                    let is_above = |row: &RowKey| self.trail.iter().take(from + 1).any(|known| known == row);
                    self.count_cursor(rows.iter().any(|row| is_above(row)));
                    self.forget_below(known);
                    // A full batch up to there may be one that the cursor had no part in.
                    if !self.was_full {
                        (self.misses, self.cursors_fail) = (0, false);
                    }
                    self.nothing_behind(from, confirming && is_place);
                }
                Some((row, known)) => {
                    self.forget_below(known);
                    (self.misses, self.cursors_fail) = (0, false);
                    (self.has_led, self.takes_only_last_rows) = (true, false);
                    self.led_cursors += 1;
                    return self.settle(rows, row + 1);
                }
            },
            State::Jump { next } => match (joint, rows.first()) {
                // Nothing proves that the page takes cursors at all before one has led on.
                (_, None) if self.has_led && next == Next::Nothing => {
                    self.state = State::Ended(End::ListEnded)
                }
                (_, None) if self.has_led => self.state = State::Check { next: Next::Nothing },
                (_, None) => {
                    self.takes_only_last_rows = false;
                    self.step(false);
                }
                (Some((row, known)), _) => return self.join(rows, row, known, Next::Unknown),
                (None, Some(first)) if next == Next::Row(first.id.clone()) => {
                    self.has_led = true;
                    return self.settle(rows, 0);
                }
                (None, Some(first)) => self.state = State::Check { next: Next::Row(first.id.clone()) },
            },
            State::Check { next } => match joint {
                Some((row, known)) => return self.join(rows, row, known, next),
                None => self.miss(self.trail.len().saturating_sub(1), false),
            },
        }
        Vec::new()
    }

    /// Takes in what stands behind a row of the trail. If nothing does, that row is the place;
    /// `next` follows it if it was the place before.
    fn join(&mut self, rows: &[&RowKey], row: usize, known: usize, next: Next) -> Vec<usize> {
        let was_place = known + 1 == self.trail.len();
        self.forget_below(known);
        if row + 1 < rows.len() {
            return self.settle(rows, row + 1);
        }
        if was_place {
            self.state = State::Jump { next };
        } else if self.misses < 2 {
            // The place vanished.
            self.misses += 1;
            self.state = State::Jump { next: Next::Unknown };
        } else {
            // Rows vanish again and again: perhaps the other cursors had as well.
            self.takes_only_last_rows = false;
            self.step(false);
        }
        Vec::new()
    }

    /// An error if a row shows a newer time than eight in a row above it in the same reply, or by
    /// `inserted_at` than two: then nothing that is proven by rows beyond a bound holds on this
    /// page.
    fn in_order(&self, rows: &[&RowKey]) -> Result<()> {
        let beyond = self.terms.beyond_by(self.order);
        let dated: Vec<&&RowKey> = rows.iter().filter(|row| row.is_dated).collect();
        let is_low = |rows: &&[&&RowKey]| {
            rows.split_last().is_some_and(|(row, above)| above.iter().all(|other| other.at < row.at))
        };
        let Some(found) = dated.windows(beyond + 1).find(is_low) else { return Ok(()) };
        let (first, row) = (found[0], found[beyond]);
        Err(Error::new(Kind::NotUnderstood, "reply is not in the order that was asked for")
            .detail(format!(
                "Row \"{}\" of {} comes {} rows before row \"{}\" of {}.",
                first.id,
                first.at.iso(),
                beyond,
                row.id,
                row.at.iso()
            ))
            .hint(match self.order {
                Order::UpdatedAt => {
                    "The page lists its rows in a looser order than any that has been seen; pancake.doctor shows how \
                     loose. Bound inserted_at, or order by it."
                }
                _ => "The page lists its rows in a looser order than any that has been seen; pancake.doctor shows how loose.",
            }))
    }

    /// The last row of a reply that is a row of the trail, and its index there.
    fn joint(&self, rows: &[&RowKey]) -> Option<(usize, usize)> {
        rows.iter().enumerate().rev().find_map(|(row, spot)| {
            let known = self.trail.iter().rposition(|known| known == *spot)?;
            Some((row, known))
        })
    }

    /// Takes in a piece of the list that follows the trail from its row `new` on.
    fn settle(&mut self, rows: &[&RowKey], new: usize) -> Vec<usize> {
        let fresh = self.fresh(rows);
        self.refused_in_a_row = 0;
        let lowest = rows.iter().filter(|row| row.is_dated).map(|row| row.at).min();
        self.lowest = [self.lowest, lowest].into_iter().flatten().min();
        self.since_head = self.since_head.map(|taken| taken + rows.len() - new);
        self.in_a_row += rows.len() - new;
        self.trail.extend(rows[new..].iter().map(|row| (*row).clone()));
        let longest = (2 * self.terms.full_batch).max(4 * self.terms.beyond);
        self.trail.drain(..self.trail.len().saturating_sub(longest));
        self.in_a_row = self.in_a_row.min(self.trail.len());
        self.more_follows = false;
        let is_next = matches!(self.state, State::Step { .. });
        let low = if self.meets_by_ids() { self.whole.low } else { self.window.low };
        if self.is_beyond(low) {
            self.state = State::Ended(End::PassedBound);
        } else if self.takes_only_last_rows && !self.is_tied() && (self.was_full || self.has_led) {
            self.state = State::Jump { next: Next::Unknown };
        } else if self.was_full || is_next && self.has_small_batches && rows.len() >= self.longest {
            self.step(false);
        } else {
            self.state = State::Probe;
        }
        fresh
    }

    /// Which of these rows are to be handed out.
    fn fresh(&mut self, rows: &[&RowKey]) -> Vec<usize> {
        let by_time = !self.meets_by_ids();
        let is_held =
            |row: &RowKey| if row.is_dated && by_time { self.window } else { self.whole }.holds(row.at);
        let mut is_fresh = |row: &RowKey| is_held(row) && self.handed.is_new(row);
        let fresh: Vec<usize> = (0..rows.len()).filter(|i| is_fresh(rows[*i])).collect();
        self.has_left_out |=
            rows.iter().any(|row| self.window.low.is_some_and(|low| row.at < low) && !is_held(row));
        if !fresh.is_empty() {
            (self.fruitless, self.misses, self.is_anchored, self.has_jumped) = (0, 0, false, false);
        }
        fresh
    }

    /// Takes the rows below this one out of the trail.
    fn forget_below(&mut self, known: usize) {
        self.in_a_row = self.in_a_row.saturating_sub(self.trail.len() - (known + 1));
        self.trail.truncate(known + 1);
    }

    fn forget_all(&mut self) {
        self.in_a_row = 0;
        self.trail.clear();
    }

    /// The last rows of the trail that show a time, from below, as far as they were seen in a row.
    fn tail(&self) -> impl Iterator<Item = &RowKey> {
        self.trail.iter().rev().take(self.in_a_row).filter(|row| row.is_dated).take(self.terms.beyond)
    }

    /// The newest time of the last rows of the trail, whatever was taken out between them.
    fn newest_above(&self) -> Option<Micros> {
        let above = self.trail.iter().rev().filter(|row| row.is_dated).take(4 * self.terms.beyond);
        above.map(|row| row.at).max()
    }

    /// A time not older than that of the place: of the last rows one shows its real time.
    fn place(&self) -> Option<Micros> {
        if self.tail().count() == self.terms.beyond {
            self.tail().map(|row| row.at).max()
        } else {
            self.newest_above()
        }
    }

    fn is_beyond(&self, low: Option<Micros>) -> bool {
        let Some(low) = low else { return false };
        self.tail().count() == self.terms.beyond && self.tail().all(|row| row.at < low)
    }

    /// The place came again as the last row of a reply.
    fn nothing_behind(&mut self, from: usize, confirming: bool) {
        let nearest = self.trail.len().checked_sub(2);
        if self.was_full || std::mem::take(&mut self.more_follows) {
            match nearest.filter(|nearest| *nearest > from) {
                Some(from) => self.state = State::Step { from, confirming },
                None => self.miss(from, confirming),
            }
        } else if confirming {
            self.state = State::Ended(End::ListEnded);
        } else {
            self.state = State::Probe;
        }
    }

    /// Asks from the last row of the previous distinct time, so that the place comes again.
    fn step(&mut self, confirming: bool) {
        let last = self.trail.back().map(|row| row.at);
        let above = self.trail.iter().rposition(|row| Some(row.at) != last);
        let above =
            above.filter(|above| self.trail.len() - above <= self.terms.full_batch && !self.more_follows);
        match above.or(self.trail.len().checked_sub(2)) {
            Some(from) => self.state = State::Step { from, confirming },
            None if confirming => self.state = State::Head { confirming },
            // The one row that is known was no cursor.
            None => self.begin_anew(false),
        }
    }

    /// The cursor did not lead on from the trail.
    fn miss(&mut self, from: usize, confirming: bool) {
        self.misses += 1;
        if from + 1 < self.trail.len() {
            // It moved or vanished; if not, there are others.
            self.trail.remove(from);
            self.in_a_row = self.in_a_row.min(self.trail.len() - from);
        }
        let nearest = self.trail.len().checked_sub(2);
        // Of a page out of order an anchor shows no piece, so the head is as good.
        let most = if self.is_loose { self.trail.len() } else { usize::MAX };
        let from_head = self.since_head.unwrap_or(usize::MAX).min(most);
        let further_up = from.checked_sub(1 << (self.misses - 1).min(16)).or(nearest);
        match further_up.filter(|_| self.misses < CURSORS && !self.cursors_fail) {
            Some(from) => self.state = State::Step { from, confirming },
            None if self.can_jump() && !std::mem::replace(&mut self.has_jumped, true) => {
                self.takes_only_last_rows = true;
                self.state = State::Jump { next: Next::Unknown };
            }
            // What one batch holds is read as fast from the head.
            None if self.is_anchored || from_head < self.terms.full_batch => self.begin_anew(confirming),
            None => {
                (self.cursors_fail, self.is_anchored) = (true, true);
                // Some rows above the place are wanted as well.
                let place = self.newest_above().unwrap_or(Micros(0));
                self.anchor(UnixSeconds(place.floor_second().0.saturating_add(1)), 0);
                if let State::Head { .. } = self.state {
                    self.begin_anew(confirming);
                }
            }
        }
    }

    /// Whether the place is to be tried as cursor: none of the others led on, as where a server
    /// takes only the last row of a reply.
    fn can_jump(&self) -> bool {
        // On a page where rows vanish and move, others lead on.
        let others_fail =
            self.refused_in_a_row >= CURSORS && self.refused_cursors >= CURSORS * (self.led_cursors + 1);
        others_fail && self.brought_by.is_some() && !self.is_tied()
    }

    fn count_cursor(&mut self, refused: bool) {
        self.refused_in_a_row += u32::from(refused);
        self.refused_cursors += u32::from(refused);
    }

    /// Whether the row above the place may have its time: a jump may lead on below that.
    fn is_tied(&self) -> bool {
        let mut last = self.trail.iter().rev().map(|row| row.at);
        let (place, above) = (last.next(), last.next());
        above.is_none() || above == place
    }

    /// Asks for an anchor, or at the head if it would be too recent.
    fn anchor(&mut self, until: UnixSeconds, tried: u32) {
        let is_taken = self.anchors.are_taken && until.0 <= self.latest_until.0 && until.0 > 0;
        self.state = if is_taken && tried < ANCHORS {
            State::Anchor { until, tried }
        } else {
            State::Head { confirming: false }
        };
    }

    /// An anchor was refused, or its reply shows nothing above what is looked for. Its rows, if
    /// there are any, show how densely they stand; else the next window is asked for.
    fn anchor_further_up(&mut self, rows: &[&RowKey]) {
        let State::Anchor { until, tried } = self.state else { return };
        let up = match (rows.first(), rows.last()) {
            (Some(first), Some(last)) if rows.len() > 1 => {
                let gap = first.at.0.saturating_sub(last.at.0).max(0) / (rows.len() as i64 - 1);
                (16 * gap / SECOND).clamp(60, WIDTH_SECONDS / 2) << (3 * tried)
            }
            _ => (WIDTH_SECONDS - 86_400) << tried,
        };
        self.anchor(UnixSeconds(until.0.saturating_add(up)), tried + 1);
        if let State::Head { .. } = self.state {
            self.begin_anew(false);
        }
    }

    /// Asks at the head. `confirming`: the place as cursor has brought nothing.
    fn begin_anew(&mut self, confirming: bool) {
        (self.misses, self.is_anchored) = (0, false);
        self.state = State::Head { confirming };
    }
}

/// The rows of a batch, each id once.
fn without_repeats(rows: &[RowKey]) -> Vec<usize> {
    let mut ids = HashSet::with_capacity(rows.len());
    (0..rows.len()).filter(|i| ids.insert(rows[*i].id.as_str())).collect()
}

/// Whether at most one of four neighbours stands in the wrong order.
fn is_nearly_sorted(rows: &[&RowKey]) -> bool {
    4 * rows.windows(2).filter(|pair| pair[0].at < pair[1].at).count() < rows.len()
}

pub fn restless(detail: &str) -> Error {
    Error::new(Kind::NotUnderstood, "cursor of the conversations list never ends").detail(detail)
}

#[cfg(test)]
#[path = "cursor_model.rs"]
mod model;
