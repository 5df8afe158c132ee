//! This module is the queue between a scan and its backend: batches wait in it, and the scan reads
//! how many are wanted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::error::{Error, Kind};
use crate::paging::cursor::End;
use crate::reply::decode::Row;

/// What comes out of a scan, in order.
#[derive(Debug)]
pub enum Event {
    Batch(Vec<Row>),
    Ended(Option<End>),
    Failed(Error),
}

/// Where batches wait for the backend.
pub struct BatchQueue {
    events: Mutex<VecDeque<Event>>,
    wanted: watch::Sender<u64>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl BatchQueue {
    /// `wake` wakes the backend when an event waits.
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self { events: Mutex::default(), wanted: watch::Sender::new(0), wake })
    }

    /// Requests one more batch.
    pub fn want(&self) {
        self.wanted.send_modify(|wanted| *wanted += 1);
    }

    pub fn take(&self) -> Option<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Rows that the backend has not taken yet.
    pub(crate) fn waiting(&self) -> usize {
        let rows = |event: &Event| if let Event::Batch(rows) = event { rows.len() } else { 0 };
        self.events.lock().unwrap_or_else(PoisonError::into_inner).iter().map(rows).sum()
    }

    pub(crate) fn put(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
        (self.wake)();
    }

    /// How many batches the backend has wanted so far, and will.
    pub(crate) fn wanted(&self) -> watch::Receiver<u64> {
        self.wanted.subscribe()
    }
}

/// Wakes a waiting backend with an error if its scan ends without an event.
pub(crate) struct EndGuard(pub Option<Arc<BatchQueue>>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            let error = Error::new(Kind::NotUnderstood, "the scan broke off inside pancake_fdw");
            queue.put(Event::Failed(
                error.hint("Please report this, with the lines that the server's log has of it."),
            ));
        }
    }
}
