//! This module checks sessions that share a page's limiter, in every interleaving, with a clock
//! moved by hand: what leaves is never too much, each request leaves in the end, and a page that
//! bears less than its configured rate is found out and used well.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::PageLimiter;
use super::tests::{advance, memory, now};
use crate::error::{Error, Kind};
use crate::rate::queue::Waiter;
use crate::reply::retry::{Attempts, Failure};

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// A page that counts what it served within its window; what it refuses does not count.
struct Page {
    allowed: usize,
    window: u64,
    served: VecDeque<u64>,
}

impl Page {
    fn new(rate: f64) -> Self {
        let allowed = rate.floor().max(1.0);
        let window = (allowed / rate * SECOND as f64) as u64;
        Self { allowed: allowed as usize, window, served: VecDeque::new() }
    }

    fn serves(&mut self, at: u64) -> bool {
        while self.served.front().is_some_and(|served| served + self.window <= at) {
            self.served.pop_front();
        }
        let serves = self.served.len() < self.allowed;
        if serves {
            self.served.push_back(at);
        }
        serves
    }
}

enum Doing {
    Pauses,
    Waits { since: u64, waiter: Waiter },
    Flies { granted: u64, served: bool },
}

/// A session that asks one request after another, as `asking` does.
struct Session {
    limiter: PageLimiter,
    doing: Option<Doing>,
    until: u64,
    attempts: Attempts,
    served: usize,
}

#[derive(Default)]
struct Record {
    granted: Vec<u64>,
    /// When each request arrived, and whether it was served.
    arrived: Vec<(u64, bool)>,
    longest_row: u64,
    most_failed: u32,
}

impl Session {
    /// Does what is due now, and returns when something is due again.
    fn step(&mut self, page: &mut Page, latency: u64, seen: &mut Record) {
        let (doing, wait) = match self.doing.take().unwrap_or(Doing::Pauses) {
            Doing::Pauses => (Doing::Waits { since: now(), waiter: self.limiter.waiter() }, 0),
            Doing::Waits { since, mut waiter } => match self.limiter.take(&mut waiter) {
                Err(wait) => (Doing::Waits { since, waiter }, wait.as_nanos() as u64),
                Ok(()) => {
                    seen.granted.push(now());
                    seen.longest_row = seen.longest_row.max(now() - since);
                    let served = page.serves(now());
                    seen.arrived.push((now(), served));
                    (Doing::Flies { granted: now(), served }, latency)
                }
            },
            Doing::Flies { served: true, .. } => {
                self.served += 1;
                self.attempts = Attempts::default();
                self.limiter.stats.bytes.add(1);
                (Doing::Pauses, 0)
            }
            Doing::Flies { granted, served: false } => {
                let failure = Failure::throttled(Error::new(Kind::Throttled, "m"), None);
                let wait = self.attempts.pause_after(&failure, 3, self.limiter.stats.served());
                seen.most_failed = seen.most_failed.max(self.attempts.throttled());
                let wait = wait.unwrap_or_default();
                self.limiter.refused(Duration::from_nanos(now() - granted), wait);
                (Doing::Pauses, wait.as_nanos() as u64)
            }
        };
        self.until = now() + wait;
        self.doing = Some(doing);
    }
}

/// Runs sessions until each was served so often. `late`: how much too late each wakes up, in turn;
/// `latency` likewise.
fn run(
    sessions: usize,
    page_rate: f64,
    configured: f64,
    requests: usize,
    latency: &[u64],
    late: &[u64],
) -> Record {
    let memory = memory(1);
    let mut page = Page::new(page_rate);
    let session = |_| Session {
        limiter: memory.of("1", configured),
        doing: None,
        until: now(),
        attempts: Attempts::default(),
        served: 0,
    };
    let mut running: Vec<_> = (0..sessions).map(session).collect();
    let mut seen = Record::default();
    for turn in 0.. {
        running.retain(|session| session.served < requests);
        let Some(next) = running.iter_mut().min_by_key(|session| session.until) else { break };
        // A session that need not wait does not sleep.
        let overslept = if next.until > now() { late[turn % late.len()] } else { 0 };
        advance((next.until + overslept).saturating_sub(now()));
        next.step(&mut page, latency[turn % latency.len()], &mut seen);
    }
    seen
}

fn times(of: std::ops::Range<u64>) -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(of.prop_map(|ms| ms * MS), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn requests_leave_a_spacing_apart(sessions in 1usize..8, latency in times(0..300), late in times(0..20)) {
        let seen = run(sessions, 1e6, 5.0, 40, &latency, &late);
        prop_assert!(seen.granted.windows(2).all(|pair| pair[1] - pair[0] >= 205 * MS));
    }

    #[test]
    fn nobody_waits_longer_than_everybody_takes(sessions in 1usize..45, latency in times(0..300)) {
        let seen = run(sessions, 1e6, 5.0, 1 + 300 / sessions, &latency, &[0]);
        // A request without an entry looks again three times a second.
        let grace = if sessions > 27 { 1_000 } else { 0 };
        prop_assert!(seen.longest_row <= (sessions as u64 * 205 + grace) * MS, "{} ms", seen.longest_row / MS);
    }

    /// Requests that stop waiting, with or without running any code, cost the others a grace and no
    /// turn.
    #[test]
    fn ended_waiters_leave_the_budget_in_use(
        sessions in 1usize..8,
        ended in prop::collection::vec((any::<bool>(), 0..400u64), 1..300),
    ) {
        let limiter = memory(1).of("1", 5.0);
        let mut waiters: Vec<_> = (0..sessions).map(|_| limiter.waiter()).collect();
        let mut granted = Vec::new();
        let mut wake = vec![now(); sessions];
        let (mut next, mut when) = (0, now());
        let end = now() + 30 * SECOND;
        while now() < end {
            let session = (0..sessions).min_by_key(|session| wake[*session]).unwrap();
            while when <= wake[session] {
                advance(when.saturating_sub(now()));
                let waiter = limiter.waiter();
                let (runs_code, pause) = ended[next % ended.len()];
                if !runs_code {
                    std::mem::forget(waiter);
                }
                (next, when) = (next + 1, when + pause.max(20) * MS);
            }
            advance(wake[session].saturating_sub(now()));
            match limiter.take(&mut waiters[session]) {
                Ok(()) => {
                    granted.push(now());
                    waiters[session] = limiter.waiter();
                }
                Err(wait) => wake[session] = now() + wait.as_nanos() as u64,
            }
        }
        prop_assert!(granted.windows(2).all(|pair| pair[1] - pair[0] >= 205 * MS));
        let longest = granted.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        prop_assert!(longest <= (205 + 27 * 5) * MS, "{} ms", longest / MS);
    }

    #[test]
    fn a_page_that_bears_less_is_found_out_and_used_well(
        sessions in 1usize..8,
        rate in 2.0..4.5,
        latency in times(0..150),
        late in times(0..5),
    ) {
        let start = now();
        let seen = run(sessions, rate, 5.0, 900 / sessions, &latency, &late);
        prop_assert!(seen.most_failed <= 3, "{} refusals in a row", seen.most_failed);
        // Sessions that are done leave the page to fewer.
        let end = seen.arrived[seen.arrived.len() * 9 / 10].0;
        let after: Vec<_> = seen.arrived.iter().filter(|(at, _)| (start + 10 * SECOND..end).contains(at)).collect();
        let served = after.iter().filter(|(_, served)| *served).count();
        let refused = (after.len() - served) as f64 / after.len() as f64;
        prop_assert!(refused <= 0.1, "{:.1} % refused", refused * 100.0);
        let used = served as f64 / (rate * (end - start - 10 * SECOND) as f64 / SECOND as f64);
        prop_assert!(used >= 0.8, "{:.1} % used", used * 100.0);
    }

    /// One request a second and less, as clients have settled at.
    #[test]
    fn statements_end_however_little_a_page_bears(sessions in 1usize..13, rate in 0.4..2.0, latency in times(0..300)) {
        let seen = run(sessions, rate, 5.0, 100 / sessions, &latency, &[0]);
        prop_assert!(seen.most_failed <= 3, "{} refusals in a row", seen.most_failed);
        prop_assert!(seen.granted.windows(2).all(|pair| pair[1] - pair[0] >= 205 * MS));
    }
}
