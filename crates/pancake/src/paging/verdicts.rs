//! This module remembers what a page was seen to refuse, whether its list was seen out of order,
//! and whether rows stand far below their place: a few words of shared memory for all
//! sessions, so that only the first statement pays for a form of request that the page does not
//! take.
//!
//! A refusal is remembered if it names the form, or if the form failed in two scans within an hour
//! while another succeeded. It is tried again by one scan after an hour. A wrong verdict costs
//! requests, never rows.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::schema::catalogue::{Object, Pagination};
use crate::schema::keyset::{Order, Sides};
use crate::time::Micros;

/// After so long one scan tries a refused form again.
const RETRY_SECONDS: u64 = 3_600;
/// A list that was in order for so long is in order, and each of its rows in its place.
const LOOSE_SECONDS: u64 = 30 * 86_400;

/// The words of one page.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Verdicts {
    pub(crate) key: AtomicU64,
    /// Of each form the second of the last failure, and behind it two bits: how many failures, two
    /// of which are a refusal. 0 if it was never refused, or was taken since.
    refused: [AtomicU64; LISTS],
    /// The second at which each list was last seen out of order; 0 for never.
    loose_at: [AtomicU64; LISTS],
    /// The same for a row that stands far below the place of the time that it shows.
    low_row_at: [AtomicU64; LISTS],
}

/// Each table in each order.
const LISTS: usize = 2 * Object::ALL.len();
/// The bits behind the second of a failure.
const COUNT: u64 = 3;

/// What a walk has shown of the form of request that a page may refuse: a window for conversations,
/// a window of more than a month for numbered lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub enum WindowVerdict {
    Taken,
    /// It failed, and another form succeeded.
    Failed,
    /// The refusal names it, or its reply left out rows.
    Refused,
}

/// What is known of a page when a walk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumptions {
    /// A time not later than the server's.
    pub now: Micros,
    /// The form of request that the page may refuse is not known to be refused.
    pub takes_windows: bool,
    /// The list was not seen out of order.
    pub is_in_order: bool,
    /// No row was seen far below the place of the time that it shows: a lower bound ends the walk.
    pub ends_by_time: bool,
}

impl Assumptions {
    /// Which longer way a scan takes on this page, for EXPLAIN.
    pub fn detour(&self, object: Object, is_bounded: Sides) -> Option<&'static str> {
        match object.paging() {
            Pagination::Cursor if !self.ends_by_time && (is_bounded.below || is_bounded.above) => {
                Some("rows of the page stand below the place of this time: to the end of the list")
            }
            Pagination::Cursor if !self.takes_windows => {
                Some("the page refuses windows of time: one stream from the newest row")
            }
            Pagination::Cursor if is_bounded.above && !self.is_in_order => {
                Some("the page lists rows out of order: from the newest row")
            }
            Pagination::TimeSlices { .. } if !self.takes_windows => {
                Some("the page refuses windows of a month: slices of 27 days")
            }
            _ => None,
        }
    }
}

impl From<Micros> for Assumptions {
    fn from(now: Micros) -> Self {
        Self { now, takes_windows: true, is_in_order: true, ends_by_time: true }
    }
}

impl Verdicts {
    /// What is known at this time. `to_try`: the one that asks first after an hour tries what was
    /// refused.
    pub fn known(&self, object: Object, order: Order, now: Micros, to_try: bool) -> Assumptions {
        let place = place(object, order);
        let second = second_of(now);
        let word = &self.refused[place];
        let known = word.load(SeqCst);
        let is_old = is_older(known >> 2, second, RETRY_SECONDS);
        let again = second << 2 | known & COUNT;
        let takes_windows = known & COUNT < 2
            || is_old && (!to_try || word.compare_exchange(known, again, SeqCst, SeqCst).is_ok());
        let is_free_of =
            |seen: &[AtomicU64; LISTS]| is_older(seen[place].load(SeqCst), second, LOOSE_SECONDS);
        let (is_in_order, ends_by_time) = (is_free_of(&self.loose_at), is_free_of(&self.low_row_at));
        Assumptions { now, takes_windows, is_in_order, ends_by_time }
    }

    /// Records what a walk has shown, once for each walk.
    pub fn saw(&self, object: Object, order: Order, window: WindowVerdict, now: Micros) {
        let word = &self.refused[place(object, order)];
        let known = word.load(SeqCst);
        let failures = match window {
            WindowVerdict::Taken if known == 0 => return,
            WindowVerdict::Taken => 0,
            WindowVerdict::Failed if is_older(known >> 2, second_of(now), RETRY_SECONDS) => 1,
            WindowVerdict::Failed => (known & COUNT) + 1,
            WindowVerdict::Refused => 2,
        };
        let new = if failures == 0 { 0 } else { second_of(now) << 2 | failures.min(2) };
        // If another session was quicker, its verdict is as good.
        let _ = word.compare_exchange(known, new, SeqCst, SeqCst);
    }

    /// Records that a list was out of order.
    pub fn saw_disorder(&self, object: Object, order: Order, now: Micros) {
        self.loose_at[place(object, order)].store(second_of(now), SeqCst);
    }

    /// Records that a row of a list stands far below the place of the time that it shows.
    pub fn saw_low_row(&self, object: Object, order: Order, now: Micros) {
        self.low_row_at[place(object, order)].store(second_of(now), SeqCst);
    }
}

/// The place of a list among the words of a page.
fn place(object: Object, order: Order) -> usize {
    2 * object as usize + usize::from(order != Order::UpdatedAt)
}

/// Whether it was so many seconds ago; also never, or ahead of a clock that was set back since.
fn is_older(then: u64, now: u64, seconds: u64) -> bool {
    then == 0 || now.saturating_sub(then) >= seconds || then > now + 60
}

fn second_of(now: Micros) -> u64 {
    now.floor_second().0.max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    const HOUR: i64 = 3_600;

    fn takes(verdicts: &Verdicts, order: Order, hours: i64, to_try: bool) -> bool {
        verdicts.known(Object::Conversations, order, at(hours), to_try).takes_windows
    }

    fn at(hours: i64) -> Micros {
        Micros((1_000_000 + hours) * HOUR * SECOND)
    }

    #[test]
    fn a_refusal_is_remembered_and_tried_again_by_one_scan_after_an_hour() {
        use Order::{InsertedAt, UpdatedAt};
        let verdicts = Verdicts::default();
        verdicts.saw(Object::Conversations, InsertedAt, WindowVerdict::Refused, at(0));
        assert!(!takes(&verdicts, InsertedAt, 0, true) && takes(&verdicts, UpdatedAt, 0, true));
        assert!(verdicts.known(Object::Customers, InsertedAt, at(0), true).takes_windows);
        // Planning tries nothing.
        assert!(takes(&verdicts, InsertedAt, 1, false) && takes(&verdicts, InsertedAt, 1, true));
        assert!(!takes(&verdicts, InsertedAt, 1, true) && takes(&verdicts, InsertedAt, 2, true));
        verdicts.saw(Object::Conversations, InsertedAt, WindowVerdict::Taken, at(2));
        assert!(takes(&verdicts, InsertedAt, 2, true) && takes(&verdicts, InsertedAt, 2, true));
    }

    #[test]
    fn a_failure_that_does_not_name_the_form_counts_the_second_time() {
        let verdicts = Verdicts::default();
        for (window, expected) in
            [(WindowVerdict::Failed, true), (WindowVerdict::Failed, false), (WindowVerdict::Taken, true)]
        {
            verdicts.saw(Object::Conversations, Order::InsertedAt, window, at(0));
            assert_eq!(takes(&verdicts, Order::InsertedAt, 0, true), expected);
        }
    }

    #[test]
    fn disorder_is_remembered_for_thirty_days() {
        let verdicts = Verdicts::default();
        let is_in_order = |object, order, hours| verdicts.known(object, order, at(hours), true).is_in_order;
        assert!(is_in_order(Object::Conversations, Order::UpdatedAt, 0));
        verdicts.saw_disorder(Object::Conversations, Order::UpdatedAt, at(0));
        assert!(!is_in_order(Object::Conversations, Order::UpdatedAt, 24 * 29));
        assert!(is_in_order(Object::Conversations, Order::InsertedAt, 0));
        assert!(is_in_order(Object::Customers, Order::UpdatedAt, 0));
        assert!(is_in_order(Object::Conversations, Order::UpdatedAt, 24 * 30));
        let ends_by_time =
            |order: Order| verdicts.known(Object::Conversations, order, at(0), true).ends_by_time;
        verdicts.saw_low_row(Object::Conversations, Order::InsertedAt, at(0));
        assert!(ends_by_time(Order::UpdatedAt) && !ends_by_time(Order::InsertedAt));
    }
}
