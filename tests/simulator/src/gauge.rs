//! Counts how many of something there are at once: requests in flight, open connections.
//! What is counted is decided by who holds a count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

/// One of the counted, for as long as it lives.
#[derive(Debug)]
pub struct Count(Gauge);

impl Gauge {
    pub fn count(&self) -> Count {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Count(self.clone())
    }

    pub fn now(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    /// The most there were at once since the last reset.
    pub fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }

    pub fn reset(&self) {
        self.0.1.store(self.now(), Ordering::SeqCst);
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}
