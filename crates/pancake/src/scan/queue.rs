//! This module is the queue between a scan and its backend: batches wait in it, and the scan reads
//! how many are wanted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    waiting: Mutex<QueuedEvents>,
    wanted: watch::Sender<Demand>,
    brought: watch::Sender<PutTotals>,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// What the backend has not taken yet.
#[derive(Default)]
struct QueuedEvents {
    events: VecDeque<Event>,
    rows: usize,
    bytes: usize,
    /// Of the rows that the scan holds until they are in order.
    unsorted: usize,
}

impl Event {
    /// Rows, and their bytes.
    fn size(&self) -> (usize, usize) {
        match self {
            Event::Batch(rows) => (rows.len(), rows.iter().map(Row::size).sum()),
            Event::Ended(_) | Event::Failed(_) => (0, 0),
        }
    }
}

/// What the backend requests of the scan.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demand {
    pub batches: u64,
    pub rows_above_limit: u64,
    /// No batch is requested from Pancake ahead of those that are wanted, because the memory for
    /// them is used up.
    pub no_more: bool,
}

/// What a scan has put into its queue so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PutTotals {
    pub batches: u64,
    pub rows: u64,
    pub bytes: usize,
    /// The scan has ended, or failed.
    pub is_over: bool,
}

impl BatchQueue {
    /// `wake` wakes the backend when an event waits.
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        let (wanted, brought) = (watch::Sender::default(), watch::Sender::default());
        Arc::new(Self { waiting: Mutex::default(), wanted, brought, wake })
    }

    /// Requests one more batch.
    pub fn want(&self) {
        self.wanted.send_modify(|wanted| wanted.batches += 1);
    }

    /// Returns how many batches the backend has requested.
    pub fn requested(&self) -> u64 {
        self.wanted.borrow().batches
    }

    /// Sets whether batches may be requested from Pancake ahead of those that are wanted.
    pub(crate) fn allow_more(&self, more: bool) {
        self.wanted.send_if_modified(|wanted| std::mem::replace(&mut wanted.no_more, !more) == more);
    }

    /// Raises the limit of the scan by so many rows.
    pub fn raise_limit(&self, rows: u64) {
        self.wanted.send_modify(|wanted| wanted.rows_above_limit += rows);
    }

    pub fn take(&self) -> Option<Event> {
        let mut waiting = self.lock();
        let event = waiting.events.pop_front()?;
        let (rows, bytes) = event.size();
        waiting.rows -= rows;
        waiting.bytes -= bytes;
        Some(event)
    }

    /// Rows that the backend has not taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().rows
    }

    /// Their bytes.
    pub(crate) fn ready_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Returns the bytes of all rows that have come, those included that the scan sorts.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let waiting = self.lock();
        waiting.bytes + waiting.unsorted
    }

    /// Sets the bytes of the rows that the scan holds until they are in order.
    pub(crate) fn set_unsorted(&self, bytes: usize) {
        self.lock().unsorted = bytes;
    }

    fn lock(&self) -> MutexGuard<'_, QueuedEvents> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, event: Event) {
        let (rows, bytes) = event.size();
        let is_over = !matches!(event, Event::Batch(_));
        let mut waiting = self.lock();
        waiting.events.push_back(event);
        waiting.rows += rows;
        waiting.bytes += bytes;
        drop(waiting);
        self.brought.send_modify(|brought| {
            brought.batches += u64::from(!is_over);
            brought.rows += rows as u64;
            brought.bytes += bytes;
            brought.is_over = is_over;
        });
        (self.wake)();
    }

    pub(crate) fn brought(&self) -> watch::Receiver<PutTotals> {
        self.brought.subscribe()
    }

    pub(crate) fn wake(&self) {
        (self.wake)();
    }

    /// What the backend has wanted so far, and will.
    pub(crate) fn wanted(&self) -> watch::Receiver<Demand> {
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
