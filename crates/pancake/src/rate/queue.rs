//! This module decides which of the requests that wait for a page's budget leaves next.
//!
//! Requests are spaced by GCRA with a burst of one (the crate governor), whose state is the word
//! `due` of [`crate::rate::spacing`]: the time from which the next request may leave. A request
//! takes its turn at the moment it leaves and never ahead of it, because a turn reserved for a
//! statement that is cancelled meanwhile is lost together with all turns that were reserved behind
//! it.
//!
//! Sessions that all sleep until `due` and then race would starve one another: a short scan beside
//! three long ones loses three races of four. So each waiting request has an entry with an arrival
//! number in shared memory, and of those the oldest goes first: a request with `n` live entries
//! ahead of it wakes up `n` graces later than `due`, and finds the turn taken, unless those ahead
//! were stopped or overslept. Then it takes the turn itself, so the budget stays in use.
//!
//! An entry is freed when its request leaves or is dropped. That of a process which ended without
//! running any code (SIGKILL) expires after [`LEASE_NS`], which its owner would have renewed. If
//! more requests wait than there are entries, the oldest ones have them: one without an entry takes
//! that of the youngest, if it is older itself.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::rate::entry::Entry;
use crate::rate::spacing::Spacing;

/// After so many nanoseconds without renewal an entry is free.
const LEASE_NS: u64 = 1_000_000_000;
/// A waiting request renews its entry at least this often.
const RENEWAL_NS: u64 = LEASE_NS / 3;
/// How much later than the one ahead of it a request wakes up: longer than a wake-up usually takes,
/// and short beside the spacing of 205 ms at five requests per second.
const LONGEST_GRACE_NS: u64 = 5_000_000;

/// A request that waits for its turn. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Waiter {
    spacing: &'static Spacing,
    arrival: u64,
    entry: Option<&'static Entry>,
}

impl Waiter {
    pub fn new(spacing: &'static Spacing, now: u64) -> Self {
        let arrival = spacing.arrivals.fetch_add(1, SeqCst) + 1;
        let mut waiter = Self { spacing, arrival, entry: None };
        waiter.renew(now);
        waiter
    }

    /// Takes the turn if it is this request's, and returns otherwise how long to wait before the
    /// next try.
    pub fn take(&mut self, spacing_ns: u64, now: u64) -> Result<(), Duration> {
        self.renew(now);
        let grace = (spacing_ns / 8).min(LONGEST_GRACE_NS);
        let delay = grace * self.ahead(now);
        let wait_until = |time: u64| Duration::from_nanos(time.saturating_sub(now).clamp(1, RENEWAL_NS));
        let due = self.spacing.due.load(SeqCst).max(self.spacing.paused_until()) + delay;
        if now < due {
            return Err(wait_until(due));
        }
        check(&self.spacing.due, spacing_ns, now).map_err(|due| wait_until(due + delay))
    }

    /// Extends the lease of the entry, or claims a free one.
    fn renew(&mut self, now: u64) {
        let owned = |entry: &&Entry| entry.arrival.load(SeqCst) == self.arrival;
        self.entry = self.entry.filter(owned).or_else(|| self.claim(now));
        if let Some(entry) = self.entry {
            entry.expires.store(now + LEASE_NS, SeqCst);
        }
    }

    fn claim(&self, now: u64) -> Option<&'static Entry> {
        let entries = || self.spacing.waiters.iter();
        let take = |entry: &Entry, former| {
            entry.arrival.compare_exchange(former, self.arrival, SeqCst, SeqCst).is_ok()
        };
        let free = entries().find(|entry| {
            let former = entry.arrival.load(SeqCst);
            (former == 0 || entry.expires.load(SeqCst) <= now) && take(entry, former)
        });
        free.or_else(|| {
            let youngest = entries().max_by_key(|entry| entry.arrival.load(SeqCst))?;
            let arrival = youngest.arrival.load(SeqCst);
            (arrival > self.arrival && take(youngest, arrival)).then_some(youngest)
        })
    }

    /// Live entries that go before this request: the older ones, or all of them if it has none
    /// itself.
    fn ahead(&self, now: u64) -> u64 {
        let goes_before = |arrival: u64| self.entry.is_none() || arrival < self.arrival;
        let live = self.spacing.waiters.iter().filter_map(|entry| entry.live(now));
        live.filter(|arrival| goes_before(*arrival)).count() as u64
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            let _ = entry.arrival.compare_exchange(self.arrival, 0, SeqCst, SeqCst);
        }
    }
}

/// When a request that comes now could leave, in nanoseconds of the clock, if all that wait go
/// before it.
pub(crate) fn ready_at(spacing: &Spacing, spacing_ns: u64, now: u64) -> u64 {
    let waiting = spacing.waiters.iter().filter(|entry| entry.live(now).is_some()).count() as u64;
    spacing.due.load(SeqCst).max(spacing.paused_until()).max(now) + waiting * spacing_ns
}

/// Asks governor for a request at this time. An error is the time from which there can be one.
fn check(due: &AtomicU64, spacing_ns: u64, now: u64) -> Result<(), u64> {
    let Some(quota) = Quota::with_period(Duration::from_nanos(spacing_ns)) else { return Ok(()) };
    let clock = Since { now, begun: Arc::new(AtomicBool::new(false)) };
    let limiter: RateLimiter<NotKeyed, _, Since, NoOpMiddleware<Nanos>> =
        RateLimiter::new(quota.allow_burst(NonZeroU32::MIN), Due(due), clock);
    limiter.check().map_err(|not_until| now + not_until.wait_time_from(Nanos::from(now)).as_nanos() as u64)
}

/// governor's state in a word of shared memory: when the next request is due.
struct Due<'a>(&'a AtomicU64);

impl StateStore for Due<'_> {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut due = self.0.load(SeqCst);
        loop {
            let (outcome, next) = decide((due != 0).then(|| Nanos::from(due)))?;
            match self.0.compare_exchange(due, next.into(), SeqCst, SeqCst) {
                Ok(_) => return Ok(outcome),
                Err(changed) => due = changed,
            }
        }
    }
}

/// governor keeps its state relative to the clock's first reading: that one is 0, so the word holds
/// absolute times.
#[derive(Clone)]
struct Since {
    now: u64,
    begun: Arc<AtomicBool>,
}

impl Clock for Since {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(if self.begun.swap(true, SeqCst) { self.now } else { 0 })
    }
}
