//! This module is the rate limiter: one budget per page for all sessions of the cluster, in a few
//! words of shared memory that the extension provides.
//!
//! - how far apart requests leave: [`crate::rate::spacing`]
//! - which request leaves next: [`crate::rate::queue`]

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::paging::verdicts::Verdicts;
use crate::rate::queue::{Waiter, ready_at};
pub use crate::rate::spacing::{LONGEST_PAUSE, Spacing};
use crate::stats::{PageStats, ScanStats, Waiting};
use crate::url::BaseUrl;

/// A page's requests are spread so that no more than its rate fall into any 1,025 ms. A spacing of
/// 200 ms at 5/s let six requests arrive within a second once latency jittered; 205 ms never did.
const SPACING_NS: f64 = 1.025e9;
/// A page that answered properly within this time exists, and what it answers now may be a passing
/// fault.
const LATELY_NS: u64 = 600_000_000_000;
/// How often a pause looks at the clock, which tests advance.
const PAUSE_STEP_NS: u64 = 50_000_000;
/// How long a verdict on a page's filters is believed.
const PROOF_SECONDS: u64 = 86_400;

/// Nanoseconds of a clock that all sessions share (CLOCK_MONOTONIC), and microseconds since 1970.
#[derive(Clone, Copy)]
pub struct Clocks {
    pub monotonic_ns: fn() -> u64,
    pub wall_micros: fn() -> i64,
}

/// The shared memory that the extension provides: the words of all pages.
#[derive(Clone, Copy)]
pub struct Memory {
    pub spacings: &'static [Spacing],
    pub stats: &'static [PageStats],
    pub verdicts: &'static [Verdicts],
    pub clocks: Clocks,
}

/// One page's budget, as one server asks for it.
#[derive(Clone)]
pub struct PageLimiter {
    spacing: &'static Spacing,
    pub stats: &'static PageStats,
    pub verdicts: &'static Verdicts,
    pub clocks: Clocks,
    period_ns: u64,
}

impl Memory {
    /// Finds or claims the page's words. When all are taken the last ones are shared by the rest: a
    /// slower pace, never none.
    pub fn page(&self, base_url: &BaseUrl, page_id: &str, requests_per_second: f64) -> Option<PageLimiter> {
        let key = page_key(base_url, page_id);
        let spacing = claim(self.spacings, |spacing| &spacing.key, key)?;
        let stats = claim(self.stats, |stats| &stats.key, key)?;
        let verdicts = claim(self.verdicts, |verdicts| &verdicts.key, key)?;
        stats.name(page_id, (self.clocks.wall_micros)());
        let period_ns = (SPACING_NS / requests_per_second) as u64;
        Some(PageLimiter { spacing, stats, verdicts, clocks: self.clocks, period_ns: period_ns.max(1) })
    }

    /// What is known of a page that has been asked. Claims nothing.
    pub fn verdicts_of(&self, base_url: &BaseUrl, page_id: &str) -> Option<&'static Verdicts> {
        let key = page_key(base_url, page_id);
        let of = |verdicts: &Verdicts| verdicts.key.load(SeqCst);
        let found = from_place_of(self.verdicts, key)?.find(|verdicts| [0, key].contains(&of(verdicts)));
        found.or(self.verdicts.last()).filter(|verdicts| of(verdicts) != 0)
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
    from_place_of(slots, key)?.find(free_or_ours).or(slots.last())
}

/// The slots in the order in which a key looks for its own.
fn from_place_of<T>(slots: &[T], key: u64) -> Option<impl Iterator<Item = &T>> {
    let start = (key % slots.len().max(1) as u64) as usize;
    let (tail, head) = slots.split_at_checked(start)?;
    Some(head.iter().chain(tail))
}

impl PageLimiter {
    fn now(&self) -> u64 {
        (self.clocks.monotonic_ns)()
    }

    fn spacing_ns(&self, now: u64) -> u64 {
        self.spacing.spacing_ns(self.period_ns, now)
    }

    /// How long until a grant could be had, if no other request came meanwhile. Spends nothing.
    pub fn ready_in(&self) -> Duration {
        let now = self.now();
        Duration::from_nanos(ready_at(self.spacing, self.spacing_ns(now), now) - now)
    }

    /// Registers a request that waits for its turn.
    fn waiter(&self) -> Waiter {
        Waiter::new(self.spacing, self.now())
    }

    /// Spends one request, or returns how long to wait before the next try.
    fn take(&self, waiter: &mut Waiter) -> Result<(), Duration> {
        let now = self.now();
        waiter.take(self.spacing_ns(now), now)
    }

    /// Waits for its turn among the requests of all sessions and spends one request. Dropped while
    /// it waits, it leaves nothing behind.
    pub async fn grant(&self, tally: &ScanStats) {
        let begun = tokio::time::Instant::now();
        let mut waiter = self.waiter();
        while let Err(wait) = self.take(&mut waiter) {
            tally.waiting(Waiting::RateLimit);
            tokio::time::sleep(wait).await;
        }
        self.waited(begun.elapsed(), tally);
    }

    /// Waits for so long by the clock that the sessions share.
    pub async fn pause(&self, pause: Duration) {
        let until = self.now() + pause.as_nanos() as u64;
        while let left @ 1.. = until.saturating_sub(self.now()) {
            tokio::time::sleep(Duration::from_nanos(left.min(PAUSE_STEP_NS))).await;
        }
    }

    pub fn waited(&self, waited: Duration, tally: &ScanStats) {
        tally.limit_wait.add(waited);
        self.stats.limit_wait.add(waited);
    }

    /// Records that the page has just sent a proper answer.
    pub fn answered(&self) {
        self.spacing.answered_at.store(self.now().max(1), SeqCst);
    }

    /// Whether the page has sent a proper answer to some session within the last ten minutes.
    pub fn has_answered_lately(&self) -> bool {
        let answered_at = self.spacing.answered_at.load(SeqCst);
        answered_at != 0 && self.now().saturating_sub(answered_at) <= LATELY_NS
    }

    /// Records that a request that left so long ago got a 429: every session of this page pauses,
    /// and slows down.
    pub fn refused(&self, granted_ago: Duration, pause: Duration) {
        let now = self.now();
        let granted = now.saturating_sub(granted_ago.as_nanos() as u64);
        self.spacing.refused(granted, pause, self.period_ns, now);
        self.show_rate();
    }

    /// Requests per second as they are spaced now.
    pub fn rate(&self) -> f64 {
        SPACING_NS / self.spacing_ns(self.now()) as f64
    }

    pub fn show_rate(&self) {
        self.stats.rate_milli.set((self.rate() * 1000.0).round() as i64);
    }

    /// Whether `post_ids` filters on this page, as some session found out within the last day.
    pub fn post_ids_filter(&self) -> Option<bool> {
        let word = self.spacing.post_ids.load(SeqCst);
        let age = (self.now() / 1_000_000_000).saturating_sub(word >> 1);
        (word != 0 && age < PROOF_SECONDS).then_some(word & 1 == 1)
    }

    pub fn remember_post_ids(&self, filter: bool) {
        let seconds = self.now() / 1_000_000_000;
        self.spacing.post_ids.store((seconds.max(1) << 1) | u64::from(filter), SeqCst);
    }
}

#[cfg(test)]
#[path = "limiter_model.rs"]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local!(static NOW: Cell<u64> = const { Cell::new(1_000_000_000) });

    pub(super) fn now() -> u64 {
        NOW.get()
    }

    pub(super) fn advance(nanos: u64) {
        NOW.set(NOW.get() + nanos);
    }

    pub(super) fn memory(slots: usize) -> Memory {
        let clocks = Clocks { monotonic_ns: now, wall_micros: || 0 };
        let spacings = (0..slots).map(|_| Spacing::default()).collect::<Vec<_>>().leak();
        let stats = (0..slots).map(|_| PageStats::default()).collect::<Vec<_>>().leak();
        let verdicts = (0..slots).map(|_| Verdicts::default()).collect::<Vec<_>>().leak();
        Memory { spacings, stats, verdicts, clocks }
    }

    impl Memory {
        pub(super) fn of(&self, page_id: &str, rate: f64) -> PageLimiter {
            self.page(&BaseUrl::parse("https://pages.fm/api").unwrap(), page_id, rate).unwrap()
        }
    }

    const MS: u64 = 1_000_000;
    const FIVE: u64 = 205 * MS;

    #[test]
    fn looking_a_page_up_claims_nothing() {
        let memory = memory(2);
        let base_url = BaseUrl::parse("https://pages.fm/api").unwrap();
        let is_known = |page_id| memory.verdicts_of(&base_url, page_id).is_some();
        assert!(!is_known("1") && !is_known("2") && !is_known("1"));
        memory.of("1", 4.0);
        assert!(is_known("1") && !is_known("2"));
        memory.of("2", 4.0);
        // Those that find no room share the last one.
        assert!(is_known("1") && is_known("2") && is_known("3"));
    }

    /// Whether a request that comes now leaves at once.
    fn leaves(limiter: &PageLimiter) -> bool {
        limiter.take(&mut limiter.waiter()).is_ok()
    }

    #[test]
    fn waiting_as_told_is_enough_and_uses_the_budget() {
        let limiter = memory(8).of("1", 4.0);
        let start = now();
        for _ in 0..40 {
            advance(limiter.ready_in().as_nanos() as u64);
            assert!(leaves(&limiter));
        }
        assert_eq!(now() - start, 39 * 256_250_000);
    }

    #[test]
    fn idleness_earns_no_burst() {
        let limiter = memory(8).of("1", 5.0);
        assert!(leaves(&limiter));
        advance(3_600_000 * MS);
        assert!(leaves(&limiter));
        assert!(!leaves(&limiter));
    }

    #[test]
    fn the_request_that_came_first_goes_first() {
        let limiter = memory(8).of("1", 5.0);
        assert!(leaves(&limiter));
        let mut waiters: Vec<_> = (0..4).map(|_| limiter.waiter()).collect();
        while !waiters.is_empty() {
            advance(FIVE);
            for waiter in waiters.iter_mut().skip(1).rev() {
                assert!(limiter.take(waiter).is_err());
            }
            assert!(limiter.take(&mut waiters[0]).is_ok());
            waiters.remove(0);
        }
    }

    #[test]
    fn no_request_is_told_to_wait_longer_than_one_spacing() {
        let limiter = memory(8).of("1", 5.0);
        assert!(leaves(&limiter));
        let mut waiters: Vec<_> = (0..20).map(|_| limiter.waiter()).collect();
        for (ahead, waiter) in waiters.iter_mut().enumerate() {
            let wait = limiter.take(waiter).unwrap_err();
            assert_eq!(wait.as_nanos() as u64, FIVE + ahead as u64 * 5 * MS);
        }
    }

    #[test]
    fn a_waiter_that_is_dropped_leaves_nothing_behind() {
        let limiter = memory(8).of("1", 5.0);
        assert!(leaves(&limiter));
        for _ in 0..200 {
            drop(limiter.waiter());
        }
        assert_eq!(limiter.ready_in(), Duration::from_nanos(FIVE));
        advance(FIVE);
        assert!(leaves(&limiter));
    }

    #[test]
    fn one_that_oversleeps_is_overtaken_and_one_that_is_gone_expires() {
        let limiter = memory(8).of("1", 5.0);
        assert!(leaves(&limiter));
        let [mut late, mut second] = [0, 1].map(|_| limiter.waiter());
        std::mem::forget(limiter.waiter());
        advance(FIVE);
        // One that is ahead costs a grace, and no turn.
        assert_eq!(limiter.take(&mut second), Err(Duration::from_millis(5)));
        advance(5 * MS);
        assert!(limiter.take(&mut second).is_ok());
        drop(second);
        advance(FIVE);
        assert!(limiter.take(&mut late).is_ok());
        drop(late);
        assert_eq!(
            limiter.ready_in(),
            Duration::from_nanos(2 * FIVE),
            "the one that is gone has its entry still"
        );
        advance(1_000 * MS);
        assert_eq!(limiter.ready_in(), Duration::ZERO);
        assert!(leaves(&limiter));
    }

    #[test]
    fn of_more_requests_than_entries_the_oldest_go_first() {
        let limiter = memory(8).of("1", 5.0);
        assert!(leaves(&limiter));
        let mut waiters: Vec<_> = (0..40).map(|_| limiter.waiter()).collect();
        let mut served = vec![0; 40];
        for _ in 0..40_000 {
            advance(MS);
            for (session, waiter) in waiters.iter_mut().enumerate() {
                if limiter.take(waiter).is_ok() {
                    served[session] += 1;
                    // It comes back at once.
                    *waiter = limiter.waiter();
                }
            }
        }
        let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
        assert!(*least >= 4 && most - least <= 1, "{served:?}");
    }

    #[test]
    fn the_slower_of_two_servers_holds_for_a_minute() {
        let memory = memory(8);
        let [slow, fast] = [1.0, 5.0].map(|rate| memory.of("1", rate));
        assert!(leaves(&slow));
        advance(300 * MS);
        assert!(!leaves(&fast) && (fast.rate() - 1.0).abs() < 0.01);
        advance(61_000 * MS);
        assert!(leaves(&fast));
        advance(210 * MS);
        assert!(leaves(&fast));
    }

    #[test]
    fn a_refusal_makes_all_sessions_of_the_page_wait_but_no_other_page() {
        let memory = memory(8);
        let [one, same] = [0, 1].map(|_| memory.of("1", 5.0));
        assert!(leaves(&one));
        let mut waiter = same.waiter();
        advance(100 * MS);
        one.refused(Duration::from_millis(100), Duration::from_secs(2));
        // A shorter pause within a longer one changes nothing.
        one.refused(Duration::from_millis(100), Duration::from_secs(1));
        assert!(leaves(&memory.of("2", 5.0)));
        advance(FIVE - 100 * MS);
        assert!(same.take(&mut waiter).is_err());
        advance(2_100 * MS - FIVE - 1);
        assert_eq!(same.take(&mut waiter), Err(Duration::from_nanos(1)));
        advance(1);
        assert!(same.take(&mut waiter).is_ok());
        drop(waiter);
        assert!(same.ready_in() > Duration::from_millis(250), "at the new pace");
    }

    #[test]
    fn a_refusal_slows_down_and_the_rate_creeps_back() {
        let memory = memory(8);
        let [one, same] = [0, 1].map(|_| memory.of("1", 5.0));
        let rates = |ago, expected: f64| {
            one.refused(Duration::from_millis(ago), Duration::ZERO);
            assert!((same.rate() - expected).abs() < 0.02, "{} instead of {expected}", same.rate());
        };
        rates(0, 4.0);
        advance(100 * MS);
        // It had left before the first one came back.
        rates(200, 4.0);
        rates(50, 3.2);
        advance(10_000 * MS);
        assert!((same.rate() - 3.2 * 1.105).abs() < 0.02, "{}", same.rate());
        assert_eq!(one.stats.rate_milli.get().map(|milli| milli.0), Some(3_203));
        advance(40_000 * MS);
        assert!((same.rate() - 5.0).abs() < 0.001, "{}", same.rate());
    }

    #[test]
    fn a_page_that_refuses_everything_is_asked_now_and_then() {
        let limiter = memory(8).of("1", 5.0);
        for _ in 0..100 {
            advance(MS);
            limiter.refused(Duration::ZERO, Duration::ZERO);
        }
        assert!((limiter.rate() - 0.205).abs() < 0.001, "{}", limiter.rate());
        // Nor does it speed up a session whose own rate is lower.
        let slow = memory(8).of("1", 0.05);
        slow.refused(Duration::ZERO, Duration::ZERO);
        assert!((slow.rate() - 0.05).abs() < 0.001, "{}", slow.rate());
    }

    #[test]
    fn a_proper_answer_counts_for_ten_minutes() {
        let memory = memory(8);
        let [one, same] = [0, 1].map(|_| memory.of("1", 5.0));
        assert!(!same.has_answered_lately());
        one.answered();
        advance(600_000 * MS);
        assert!(same.has_answered_lately() && !memory.of("2", 5.0).has_answered_lately());
        advance(MS);
        assert!(!same.has_answered_lately());
    }

    #[test]
    fn a_verdict_is_shared_for_a_day() {
        let memory = memory(8);
        let [one, same] = [0, 1].map(|_| memory.of("1", 5.0));
        assert_eq!(one.post_ids_filter(), None);
        one.remember_post_ids(true);
        assert_eq!(same.post_ids_filter(), Some(true));
        same.remember_post_ids(false);
        assert_eq!(one.post_ids_filter(), Some(false));
        advance(86_400_000 * MS);
        assert_eq!(one.post_ids_filter(), None);
    }

    #[test]
    fn a_full_house_shares_the_last_words() {
        let memory = memory(2);
        let granted = ["1", "2", "3", "4"].into_iter().filter(|page| leaves(&memory.of(page, 5.0))).count();
        assert_eq!(granted, 2);
    }

    #[test]
    fn the_words_keep_their_place() {
        assert_eq!(size_of::<Spacing>(), 512);
    }
}
