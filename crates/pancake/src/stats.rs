//! This module counts: per scan, per page over all sessions, and the scans that run now. Plain
//! words that several processes may read while one writes; showing them is the extension's matter.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use crate::error::Error;
use crate::time::Micros;

/// A text in shared memory, cut at `8 * WORDS` bytes. A reader that meets a writer reads again.
#[repr(C)]
#[derive(Debug)]
pub struct SharedText<const WORDS: usize> {
    version: AtomicU64,
    length: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Default for SharedText<WORDS> {
    fn default() -> Self {
        Self {
            version: AtomicU64::new(0),
            length: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
        }
    }
}

impl<const WORDS: usize> SharedText<WORDS> {
    pub fn write(&self, text: &str) {
        let text = &text[..text.floor_char_boundary(8 * WORDS)];
        let version = self.version.load(SeqCst) | 1;
        self.version.store(version, SeqCst);
        self.length.store(text.len() as u64, SeqCst);
        for (word, bytes) in self.words.iter().zip(text.as_bytes().chunks(8)) {
            let mut full = [0; 8];
            full[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(full), SeqCst);
        }
        self.version.store(version + 1, SeqCst);
    }

    /// Empty where nothing was written, or where a writer died in the middle.
    pub fn read(&self) -> String {
        for _ in 0..100 {
            let version = self.version.load(SeqCst);
            let length = (self.length.load(SeqCst) as usize).min(8 * WORDS);
            let mut bytes: Vec<u8> =
                self.words.iter().flat_map(|word| word.load(SeqCst).to_le_bytes()).collect();
            bytes.truncate(length);
            if version.is_multiple_of(2) && self.version.load(SeqCst) == version {
                return String::from_utf8_lossy(&bytes).into_owned();
            }
            std::hint::spin_loop();
        }
        String::new()
    }
}

#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
    pub(crate) fn at_least(&self, n: usize) {
        self.0.fetch_max(n as u64, Relaxed);
    }
    fn reset(&self) {
        self.set(0);
    }
}

/// A sum of durations, in microseconds.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Spent(AtomicU64);

impl Spent {
    pub fn add(&self, duration: Duration) {
        self.0.fetch_add(duration.as_micros() as u64, Relaxed);
    }
    pub fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Relaxed))
    }
}

/// A time of the wall clock; 0 is never.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Moment(AtomicI64);

impl Moment {
    pub fn set(&self, micros: i64) {
        self.0.store(micros, Relaxed);
    }
    pub fn get(&self) -> Option<Micros> {
        Some(Micros(self.0.load(Relaxed))).filter(|micros| micros.0 != 0)
    }
}

/// One page's counts since they were last reset, over all sessions of the cluster.
#[repr(C)]
#[derive(Debug, Default)]
pub struct PageStats {
    pub(crate) key: AtomicU64,
    pub page_id: SharedText<16>,
    pub requests: Count,
    pub rows: Count,
    pub bytes: Count,
    pub retries: Count,
    pub throttled: Count,
    pub errors: Count,
    pub limit_wait: Spent,
    /// Requests per second as the page was last spaced, in thousandths.
    pub rate_milli: Moment,
    pub last_request_at: Moment,
    pub last_error_at: Moment,
    pub last_sqlstate: SharedText<1>,
    pub last_error: SharedText<32>,
    pub since: Moment,
}

impl PageStats {
    pub fn is_used(&self) -> bool {
        self.key.load(Relaxed) != 0
    }

    pub(crate) fn name(&self, page_id: &str, now: i64) {
        if self.since.get().is_none() {
            self.page_id.write(page_id);
            self.since.set(now);
        }
    }

    /// Grows with all that the page serves, to any session.
    pub(crate) fn served(&self) -> u64 {
        self.bytes.get()
    }

    pub(crate) fn failed(&self, error: &Error, now: i64) {
        self.errors.add(1);
        self.last_error_at.set(now);
        self.last_sqlstate.write(error.sqlstate());
        self.last_error.write(error.message());
    }

    pub fn reset(&self, now: i64) {
        for count in [&self.requests, &self.rows, &self.bytes, &self.retries, &self.throttled, &self.errors] {
            count.reset();
        }
        self.limit_wait.0.store(0, Relaxed);
        self.last_request_at.set(0);
        self.last_error_at.set(0);
        self.last_sqlstate.write("");
        self.last_error.write("");
        self.since.set(now);
    }
}

/// What a scan waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Waiting {
    Nothing = 0,
    Connection = 1,
    RateLimit = 2,
    Reply = 3,
    Retry = 4,
    Consumer = 5,
}

impl Waiting {
    const ALL: [Waiting; 6] =
        [Self::Nothing, Self::Connection, Self::RateLimit, Self::Reply, Self::Retry, Self::Consumer];

    pub fn text(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Connection => "connection",
            Self::RateLimit => "rate limit",
            Self::Reply => "reply",
            Self::Retry => "retry",
            Self::Consumer => "consumer",
        }
    }
}

/// One scan's counts.
#[repr(C)]
#[derive(Debug, Default)]
pub struct ScanStats {
    pub requests: Count,
    pub retried: Count,
    pub throttled: Count,
    pub rows: Count,
    pub repeats: Count,
    pub bytes: Count,
    pub network: Spent,
    pub limit_wait: Spent,
    pub retry_wait: Spent,
    pub oldest_row: Moment,
    /// When the last reply left the server, by its `Date`; the second that this leaves open is
    /// counted in.
    pub replied_at: Moment,
    /// 1 where `post_ids` was not sent because it does not filter on this page.
    pub post_ids_refused: Count,
    /// Pauses after HTTP 5xx that did not help.
    pub waited_in_vain: Count,
    /// The most rows that were here before the backend took them.
    pub ahead: Count,
    waiting: AtomicU64,
}

impl ScanStats {
    pub fn waiting(&self, waiting: Waiting) {
        self.waiting.store(waiting as u64, Relaxed);
    }

    pub fn waiting_for(&self) -> Waiting {
        let code = self.waiting.load(Relaxed);
        Waiting::ALL.into_iter().find(|waiting| *waiting as u64 == code).unwrap_or(Waiting::Nothing)
    }

    pub(crate) fn saw_row_of(&self, at: Micros) {
        if self.oldest_row.get().is_none_or(|oldest| at < oldest) {
            self.oldest_row.set(at.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_text_is_cut_at_a_character() {
        let text = SharedText::<1>::default();
        assert_eq!(text.read(), "");
        text.write("abcdefgệ");
        assert_eq!(text.read(), "abcdefg");
        text.write("28000");
        assert_eq!(text.read(), "28000");
    }
}
