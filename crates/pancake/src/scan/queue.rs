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
    waiting: Mutex<Waiting>,
    wanted: watch::Sender<Wanted>,
    brought: watch::Sender<Brought>,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// What the backend has not taken yet.
#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    rows: usize,
    bytes: usize,
    /// Of rows that wait in the scan for their turn.
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

/// What the backend has wanted so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub batches: u64,
    pub rows_behind_limit: u64,
    /// There is no room: nothing is asked for but what is wanted.
    pub no_more: bool,
}

/// What a scan has put into its queue so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Brought {
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

    /// How many batches have been requested.
    pub fn requested(&self) -> u64 {
        self.wanted.borrow().batches
    }

    /// Whether more may be asked for than is wanted.
    pub(crate) fn allow_more(&self, more: bool) {
        self.wanted.send_if_modified(|wanted| std::mem::replace(&mut wanted.no_more, !more) == more);
    }

    /// The rows behind the scan's limit are wanted as well, so many of them.
    pub fn want_behind_limit(&self, rows: u64) {
        self.wanted.send_modify(|wanted| wanted.rows_behind_limit += rows);
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

    /// Bytes of all rows that have come, those included that wait for their turn.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let waiting = self.lock();
        waiting.bytes + waiting.unsorted
    }

    /// The bytes of rows that have come, and are handed out when their turn is.
    pub(crate) fn unsorted(&self, bytes: usize) {
        self.lock().unsorted = bytes;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
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

    pub(crate) fn brought(&self) -> watch::Receiver<Brought> {
        self.brought.subscribe()
    }

    pub(crate) fn wake(&self) {
        (self.wake)();
    }

    /// What the backend has wanted so far, and will.
    pub(crate) fn wanted(&self) -> watch::Receiver<Wanted> {
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
