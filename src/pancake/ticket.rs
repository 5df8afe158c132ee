//! Who goes next: a ticket is a place in the row of all sessions of a page, taken at once and waited for.
//! The rule is governor's GCRA with a burst of one, its state the word `due` of [`crate::pace`].
//!
//! Whoever asks first goes first. Were everybody to sleep until the next request is due and to race for it then, one
//! short scan beside three long ones would lose three races of four, and three in a row four times in ten. So governor
//! is asked for the future: where a request is not due yet, it names the time when one is, and is asked again with
//! its clock set to that time. What it then grants is a time of one's own. Nobody holds a lock: a session that is
//! killed while it waits wastes its one place.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::pace::Pace;

/// Who comes later than this to its own time gives it up: the requests behind it would be too near. The spacing
/// absorbs 25 ms (see [`crate::lane`]). With each ticket given up it may be twice as much, or on a machine where
/// everybody is always late nobody would ever go.
const LATE_NS: u64 = 20_000_000;

/// A place in the row.
#[derive(Debug)]
pub struct Ticket {
    pace: &'static Pace,
    /// When it is this one's turn, in nanoseconds of the clock, and the turn of the one behind.
    at: u64,
    next: u64,
    /// A later pause makes the ticket void: the places behind a pause are given out anew, at the pace that then holds.
    paused_until: u64,
}

impl Ticket {
    pub fn take(pace: &'static Pace, spacing_ns: u64, now: u64) -> Self {
        let paused_until = pace.paused_until();
        let mut at = now.max(paused_until);
        while let Err(due) = ask(Due(&pace.due), spacing_ns, at) {
            at = due;
        }
        Self { pace, at, next: at + spacing_ns, paused_until }
    }

    pub fn due_in(&self, now: u64) -> Duration {
        Duration::from_nanos(self.at.saturating_sub(now))
    }

    /// Whether a request may leave now, so many tickets having been given up before. If not, another is needed.
    pub fn spend(self, now: u64, given_up: u32) -> bool {
        let in_time = now <= self.at + (LATE_NS << given_up.min(10));
        let good = in_time && !self.is_void();
        if good {
            std::mem::forget(self);
        }
        good
    }

    fn is_void(&self) -> bool {
        self.pace.paused_until() != self.paused_until
    }
}

/// An unspent ticket goes back if nobody has taken the place behind it.
impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_void() {
            let _ = self.pace.due.compare_exchange(self.next, self.at, SeqCst, SeqCst);
        }
    }
}

/// When the next ticket would be due.
pub fn ready_at(pace: &Pace, spacing_ns: u64, now: u64) -> u64 {
    let earliest = now.max(pace.paused_until());
    ask(Seen(&pace.due), spacing_ns, earliest).err().unwrap_or(earliest)
}

/// Asks governor for a request at this time. If there can be none, the time when there could.
fn ask(due: impl StateStore<Key = NotKeyed>, spacing_ns: u64, at: u64) -> Result<(), u64> {
    let Some(quota) = Quota::with_period(Duration::from_nanos(spacing_ns)) else { return Ok(()) };
    let clock = Since { at, begun: Arc::new(AtomicBool::new(false)) };
    let limiter: RateLimiter<NotKeyed, _, Since, NoOpMiddleware<Nanos>> =
        RateLimiter::new(quota.allow_burst(NonZeroU32::MIN), due, clock);
    limiter.check().map_err(|not_until| at + not_until.wait_time_from(Nanos::from(at)).as_nanos() as u64)
}

/// governor's state in a word of shared memory: when the next request is due.
struct Due<'a>(&'a AtomicU64);

impl StateStore for Due<'_> {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut seen = self.0.load(SeqCst);
        loop {
            let (outcome, next) = decide((seen != 0).then(|| Nanos::from(seen)))?;
            match self.0.compare_exchange(seen, next.into(), SeqCst, SeqCst) {
                Ok(_) => return Ok(outcome),
                Err(now) => seen = now,
            }
        }
    }
}

/// The same, only looked at.
struct Seen<'a>(&'a AtomicU64);

impl StateStore for Seen<'_> {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let seen = self.0.load(SeqCst);
        decide((seen != 0).then(|| Nanos::from(seen))).map(|(outcome, _)| outcome)
    }
}

/// governor keeps its state relative to the clock's first reading: that one is 0, so the word holds absolute times.
#[derive(Clone)]
struct Since {
    at: u64,
    begun: Arc<AtomicBool>,
}

impl Clock for Since {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(if self.begun.swap(true, SeqCst) { self.at } else { 0 })
    }
}
