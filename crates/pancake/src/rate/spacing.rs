//! This module computes how far apart the requests of a page leave, for all sessions: from the
//! configured rate, and from the 429s of the page. Which request leaves next is decided in
//! [`crate::rate::queue`].
//!
//! **After a 429** (AIMD). Other programs use the page's budget too, and in practice it is
//! sometimes below what is documented. A refusal makes the spacing a quarter wider, once for all
//! requests that had left at the spacing before; from then on the rate grows by one percent a
//! second, back to the configured one. So the rate swings between 80 and 100 % of what the page
//! bears, and a refusal comes about every 22 s. All of it is a function of two words and the time,
//! so the rate recovers also while no session runs.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::rate::entry::Entry;

/// Requests of one page that can wait in the order of their arrival.
const WAITERS: usize = 27;

/// The words that sessions share about one page's pace. Zeroed memory is a page without any request
/// yet. Its layout must not change: sessions of two releases may meet in it.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Spacing {
    pub(crate) key: AtomicU64,
    /// The time from which the next request may leave, in nanoseconds of the clock.
    pub(crate) due: AtomicU64,
    /// No request leaves before this, because of a 429.
    paused_until: AtomicU64,
    /// The widest spacing that a session used within the last minute, and when it did.
    widest: AtomicU64,
    widest_at: AtomicU64,
    /// What is known of the page's `post_ids`: when it was found out, in seconds of the clock, and
    /// a bit: it filters.
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
/// A page that refuses everything is not asked more seldom than this for it: clients settled at 0.7
/// a second and more.
const WIDEST_LEARNED_NS: f64 = 5e9;
/// A pause is never longer than this, whatever `Retry-After` is.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Spacing {
    /// Returns the spacing that applies now to a session whose server is configured for `own`.
    pub(crate) fn spacing_ns(&self, own: u64, now: u64) -> u64 {
        self.widest_ns(own, now).max(self.learned_ns(now))
    }

    /// The widest spacing that any session used within the last minute: two servers may name one
    /// page.
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

    /// A request that was granted at `granted` was refused: every session pauses, and leaves more
    /// room from then on.
    pub(crate) fn refused(&self, granted: u64, pause: Duration, own: u64, now: u64) {
        let (slowed_at, before) = (self.slowed_at.load(SeqCst), self.spacing_ns(own, now));
        // A request that left before the last slowdown proves nothing about the new spacing; and of
        // many refusals one slows down.
        let news = granted > slowed_at;
        if news && self.slowed_at.compare_exchange(slowed_at, now, SeqCst, SeqCst).is_ok() {
            let wider = (before as f64 * SLOWER).min(WIDEST_LEARNED_NS) as u64;
            self.slowed_to.store(wider.max(before), SeqCst);
        }
        let until = now + pause.min(LONGEST_PAUSE).as_nanos() as u64;
        self.paused_until.fetch_max(until, SeqCst);
    }

    /// Returns the time before which no request leaves.
    pub(crate) fn paused_until(&self) -> u64 {
        self.paused_until.load(SeqCst)
    }
}
