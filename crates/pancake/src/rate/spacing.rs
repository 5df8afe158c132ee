//! How far apart a page's requests leave, as all its sessions know it: what servers were told, and what the page taught.
//! Which request goes next is decided in [`crate::rate::queue`]; the words are lent by [`crate::rate::limiter`].
//!
//! **What a 429 teaches.** The page's budget is also other programs', and in practice sometimes below what is
//! documented. A refusal makes the spacing a quarter wider, once for all the requests that had left at the pace
//! before; from then on the rate grows by one percent a second, back to what the servers were told. So the pace swings
//! between 80 and 100 % of what the page bears, and a refusal comes about every 22 s. All of it is a function of two
//! words and the time: nobody need be alive for the rate to recover.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::rate::queue::Entry;

/// Requests of one page that can wait in the order of their arrival.
const WAITERS: usize = 27;

/// The words that sessions share about one page's pace. Zeroed memory is a page that nobody asked for yet.
/// Its layout must not change: sessions of two releases may meet in it.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Spacing {
    pub(crate) key: AtomicU64,
    /// The time from which the next request may leave, in nanoseconds of the clock.
    pub(crate) due: AtomicU64,
    /// Nobody asks before this: somebody was told 429.
    paused_until: AtomicU64,
    /// The widest spacing that a session used within the last minute, and when it did.
    widest: AtomicU64,
    widest_at: AtomicU64,
    /// What is known of the page's `post_ids`: when it was found out, in seconds of the clock, and a bit: it filters.
    pub(crate) post_ids: AtomicU64,
    /// The spacing that the last 429 taught, and when it came.
    slowed_to: AtomicU64,
    slowed_at: AtomicU64,
    /// When the page last answered properly, in nanoseconds of the clock.
    pub(crate) answered_at: AtomicU64,
    /// Requests that have waited so far: the last arrival number.
    pub(crate) arrivals: AtomicU64,
    pub(crate) waiters: [Entry; WAITERS],
}

/// How long the widest spacing of another session holds.
const MEMORY_NS: u64 = 60_000_000_000;
/// A refusal makes the spacing so much wider …
const SLOWER: f64 = 1.25;
/// … and the rate grows by so much in a second.
const CREEP: f64 = 1.01;
/// A page that refuses everything is not asked more seldom than this for it: clients settled at 0.7 a second and more.
const WIDEST_LEARNED_NS: f64 = 5e9;
/// A pause is never longer than this, whatever `Retry-After` says.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Spacing {
    /// The spacing that holds now for a session that was told `own`.
    pub(crate) fn spacing_ns(&self, own: u64, now: u64) -> u64 {
        self.widest_ns(own, now).max(self.learned_ns(now))
    }

    /// The widest spacing that any session used within the last minute: two servers may name one page.
    fn widest_ns(&self, own: u64, now: u64) -> u64 {
        let widest = self.widest.load(SeqCst);
        let stale = now.saturating_sub(self.widest_at.load(SeqCst)) > MEMORY_NS;
        if stale || own >= widest {
            self.widest.store(own, SeqCst);
            self.widest_at.store(now, SeqCst);
            return own;
        }
        widest
    }

    /// What the last 429 taught, as far as it holds still.
    fn learned_ns(&self, now: u64) -> u64 {
        let seconds = now.saturating_sub(self.slowed_at.load(SeqCst)) as f64 / 1e9;
        (self.slowed_to.load(SeqCst) as f64 / CREEP.powf(seconds)) as u64
    }

    /// A request that was granted at `granted` was refused: every session pauses, and leaves more room from then on.
    pub(crate) fn refused(&self, granted: u64, pause: Duration, own: u64, now: u64) {
        let (slowed_at, before) = (self.slowed_at.load(SeqCst), self.spacing_ns(own, now));
        // What left before the pace was slowed down says nothing of the new pace; and of many one slows it down.
        let news = granted > slowed_at;
        if news && self.slowed_at.compare_exchange(slowed_at, now, SeqCst, SeqCst).is_ok() {
            let wider = (before as f64 * SLOWER).min(WIDEST_LEARNED_NS) as u64;
            self.slowed_to.store(wider.max(before), SeqCst);
        }
        let until = now + pause.min(LONGEST_PAUSE).as_nanos() as u64;
        self.paused_until.fetch_max(until, SeqCst);
    }

    /// Nobody asks before this.
    pub(crate) fn paused_until(&self) -> u64 {
        self.paused_until.load(SeqCst)
    }
}
