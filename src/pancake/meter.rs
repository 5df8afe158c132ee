//! The shared meter: one budget per page for every session of the cluster, kept in a few words of shared memory.
//! The words are lent by the extension; the rule is governor's GCRA with a burst of one.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::ledger::{PageStats, Tally, Waiting};
use crate::url::BaseUrl;

/// The words that sessions share about one page's pace. Zeroed memory is a page that nobody asked for yet.
/// Its layout must not change: sessions of two releases may meet in it.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Pace {
    key: AtomicU64,
    /// When the next request is due, in nanoseconds of the clock.
    due: AtomicU64,
    /// Nobody asks before this: somebody was told 429.
    paused_until: AtomicU64,
    /// The widest spacing that a session used within the last minute, and when it did.
    widest: AtomicU64,
    widest_at: AtomicU64,
    /// What is known of the page's `post_ids`: when it was found out, in seconds of the clock, and a bit: it filters.
    post_ids: AtomicU64,
    reserved: [AtomicU64; 2],
}

/// A page's requests are spread so that no more than its rate fall into any 1,025 ms. A spacing of 200 ms at 5/s let
/// six requests arrive within a second once latency jittered; 205 ms never did.
const SPACING_NS: f64 = 1.025e9;
/// How long the widest spacing of another session holds.
const MEMORY_NS: u64 = 60_000_000_000;
/// How long a verdict on a page's filters is believed.
const PROOF_SECONDS: u64 = 86_400;
/// A pause is never longer than this, whatever `Retry-After` says.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Nanoseconds of a clock that all sessions share (CLOCK_MONOTONIC), and microseconds since 1970.
#[derive(Clone, Copy)]
pub struct Clocks {
    pub monotonic_ns: fn() -> u64,
    pub wall_micros: fn() -> i64,
}

/// What the extension lends: the words of all pages.
#[derive(Clone, Copy)]
pub struct Memory {
    pub paces: &'static [Pace],
    pub stats: &'static [PageStats],
    pub clocks: Clocks,
}

/// One page's budget, as one server asks for it.
#[derive(Clone)]
pub struct PageMeter {
    pace: &'static Pace,
    pub stats: &'static PageStats,
    pub clocks: Clocks,
    period_ns: u64,
}

impl Memory {
    /// Finds or claims the page's words. When all are taken the last ones are shared by the rest: a slower pace,
    /// never none.
    pub fn page(&self, base_url: &BaseUrl, page_id: &str, requests_per_second: f64) -> Option<PageMeter> {
        let key = page_key(base_url, page_id);
        let pace = claim(self.paces, |pace| &pace.key, key)?;
        let stats = claim(self.stats, |stats| &stats.key, key)?;
        stats.name(page_id, (self.clocks.wall_micros)());
        let period_ns = (SPACING_NS / requests_per_second) as u64;
        Some(PageMeter { pace, stats, clocks: self.clocks, period_ns: period_ns.max(1) })
    }
}

/// FNV-1a: the same in every process and release, unlike the hashers of std.
fn page_key(base_url: &BaseUrl, page_id: &str) -> u64 {
    let bytes = base_url.as_str().bytes().chain([0]).chain(page_id.bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash.max(1)
}

fn claim<T>(slots: &[T], word: impl Fn(&T) -> &AtomicU64, key: u64) -> Option<&T> {
    let free_or_ours = |slot: &&T| match word(slot).compare_exchange(0, key, SeqCst, SeqCst) {
        Ok(_) => true,
        Err(owner) => owner == key,
    };
    let start = (key % slots.len().max(1) as u64) as usize;
    let (tail, head) = slots.split_at_checked(start)?;
    head.iter().chain(tail).find(free_or_ours).or(slots.last())
}

impl PageMeter {
    /// Spends one request of the budget, or says how long to wait before asking again.
    pub fn try_grant(&self) -> Result<(), Duration> {
        let now = (self.clocks.monotonic_ns)();
        let paused_until = self.pace.paused_until.load(SeqCst);
        if now < paused_until {
            return Err(Duration::from_nanos(paused_until - now));
        }
        let period = Duration::from_nanos(self.period_for(now));
        let quota = Quota::with_period(period).ok_or(period)?.allow_burst(NonZeroU32::MIN);
        let clock = Since::start(now);
        let limiter: RateLimiter<NotKeyed, Due, Since, NoOpMiddleware<Nanos>> =
            RateLimiter::new(quota, Due(&self.pace.due), clock);
        limiter.check().map_err(|not_until| not_until.wait_time_from(Nanos::from(now)))
    }

    /// The widest spacing that any session used within the last minute: two servers may name one page.
    fn period_for(&self, now: u64) -> u64 {
        let widest = self.pace.widest.load(SeqCst);
        let stale = now.saturating_sub(self.pace.widest_at.load(SeqCst)) > MEMORY_NS;
        if stale || self.period_ns >= widest {
            self.pace.widest.store(self.period_ns, SeqCst);
            self.pace.widest_at.store(now, SeqCst);
            return self.period_ns;
        }
        widest
    }

    /// Requests per second as they are spaced now.
    pub fn rate(&self) -> f64 {
        SPACING_NS / self.period_for((self.clocks.monotonic_ns)()) as f64
    }

    /// Whether `post_ids` filters on this page, as some session found out within the last day.
    pub fn post_ids_filter(&self) -> Option<bool> {
        let word = self.pace.post_ids.load(SeqCst);
        let age = ((self.clocks.monotonic_ns)() / 1_000_000_000).saturating_sub(word >> 1);
        (word != 0 && age < PROOF_SECONDS).then_some(word & 1 == 1)
    }

    pub fn remember_post_ids(&self, filter: bool) {
        let seconds = (self.clocks.monotonic_ns)() / 1_000_000_000;
        self.pace.post_ids.store((seconds.max(1) << 1) | u64::from(filter), SeqCst);
    }

    /// Keeps every session of this page from asking for a while.
    pub fn pause(&self, wait: Duration) {
        let now = (self.clocks.monotonic_ns)();
        let until = now + wait.min(LONGEST_PAUSE).as_nanos() as u64;
        self.pace.paused_until.fetch_max(until, SeqCst);
    }

    /// Waits for its turn and spends one request. No thread, no queue: whoever asks first when it is due, goes.
    pub async fn grant(&self, tally: &Tally) {
        let asked = tokio::time::Instant::now();
        while let Err(wait) = self.try_grant() {
            tally.waiting(Waiting::RateLimit);
            tokio::time::sleep(wait).await;
        }
        self.waited(asked.elapsed(), tally);
    }

    pub fn waited(&self, waited: Duration, tally: &Tally) {
        tally.limit_wait.add(waited);
        self.stats.limit_wait.add(waited);
    }

    /// How long until a grant could be had; nothing is spent.
    pub fn ready_in(&self) -> Duration {
        let now = (self.clocks.monotonic_ns)();
        let due = self.pace.due.load(SeqCst).max(self.pace.paused_until.load(SeqCst));
        Duration::from_nanos(due.saturating_sub(now))
    }
}

/// governor's state in a word of shared memory.
struct Due(&'static AtomicU64);

impl StateStore for Due {
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

/// governor keeps its state relative to the clock's first reading: that one is 0, so the words hold absolute times.
#[derive(Clone)]
struct Since {
    now: u64,
    begun: Arc<AtomicBool>,
}

impl Since {
    fn start(now: u64) -> Self {
        Self { now, begun: Arc::new(AtomicBool::new(false)) }
    }
}

impl Clock for Since {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(if self.begun.swap(true, SeqCst) { self.now } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    thread_local!(static NOW: Cell<u64> = const { Cell::new(1_000_000_000) });

    fn memory(slots: usize) -> Memory {
        let clocks = Clocks { monotonic_ns: || NOW.get(), wall_micros: || 0 };
        let paces = (0..slots).map(|_| Pace::default()).collect::<Vec<_>>().leak();
        let stats = (0..slots).map(|_| PageStats::default()).collect::<Vec<_>>().leak();
        Memory { paces, stats, clocks }
    }

    fn base() -> BaseUrl {
        BaseUrl::parse("https://pages.fm/api").unwrap()
    }

    fn advance(nanos: u64) {
        NOW.set(NOW.get() + nanos);
    }

    proptest! {
        #[test]
        fn however_sessions_interleave_no_sixth_request_falls_into_a_second(steps in prop::collection::vec((0usize..3, 0u64..300_000_000), 1..300)) {
            let memory = memory(8);
            let sessions: Vec<_> = (0..3).filter_map(|_| memory.page(&base(), "1", 5.0)).collect();
            let mut granted = vec![];
            for (session, pause) in steps {
                advance(pause);
                if sessions[session].try_grant().is_ok() {
                    granted.push(NOW.get());
                }
            }
            for window in granted.windows(6) {
                prop_assert!(window[5] - window[0] >= 1_025_000_000);
            }
        }
    }

    #[test]
    fn waiting_as_told_is_enough_and_uses_the_budget() {
        let meter = memory(8).page(&base(), "1", 4.0).unwrap();
        let start = NOW.get();
        for _ in 0..40 {
            if let Err(wait) = meter.try_grant() {
                advance(wait.as_nanos() as u64);
                assert_eq!(meter.try_grant(), Ok(()));
            }
        }
        assert_eq!(NOW.get() - start, 39 * 256_250_000);
    }

    #[test]
    fn idleness_earns_no_burst() {
        let meter = memory(8).page(&base(), "1", 5.0).unwrap();
        assert_eq!(meter.try_grant(), Ok(()));
        advance(3_600_000_000_000);
        assert_eq!(meter.try_grant(), Ok(()));
        assert!(meter.try_grant().is_err());
    }

    #[test]
    fn the_slower_of_two_servers_holds_for_a_minute() {
        let memory = memory(8);
        let [slow, fast] = [1.0, 5.0].map(|rate| memory.page(&base(), "1", rate).unwrap());
        assert_eq!(slow.try_grant(), Ok(()));
        advance(300_000_000);
        assert!(fast.try_grant().is_err() && (fast.rate() - 1.0).abs() < 0.01);
        advance(61_000_000_000);
        assert_eq!(fast.try_grant(), Ok(()));
        advance(210_000_000);
        assert_eq!(fast.try_grant(), Ok(()));
    }

    #[test]
    fn a_pause_holds_for_all_sessions_but_not_for_other_pages() {
        let memory = memory(8);
        let [one, same] = [0, 1].map(|_| memory.page(&base(), "1", 5.0).unwrap());
        one.pause(Duration::from_secs(2));
        assert_eq!(same.try_grant(), Err(Duration::from_secs(2)));
        assert_eq!(memory.page(&base(), "2", 5.0).unwrap().try_grant(), Ok(()));
    }

    #[test]
    fn a_verdict_is_shared_for_a_day() {
        let memory = memory(8);
        let [one, same] = [0, 1].map(|_| memory.page(&base(), "1", 5.0).unwrap());
        assert_eq!(one.post_ids_filter(), None);
        one.remember_post_ids(true);
        assert_eq!(same.post_ids_filter(), Some(true));
        same.remember_post_ids(false);
        assert_eq!(one.post_ids_filter(), Some(false));
        advance(86_400_000_000_000);
        assert_eq!(one.post_ids_filter(), None);
    }

    #[test]
    fn a_full_house_shares_the_last_words() {
        let memory = memory(2);
        let meters: Vec<_> = ["1", "2", "3", "4"].map(|page| memory.page(&base(), page, 5.0).unwrap()).into();
        let granted = meters.iter().filter(|meter| meter.try_grant().is_ok()).count();
        assert_eq!(granted, 2);
    }
}
