//! This module orders batches of scans before a statement takes their rows, within one limit on the
//! memory of all of these scans.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::scan::queue::BatchQueue;

/// What is reserved for the first batch of a scan; for a later one it is the size of the one
/// before.
const FIRST: usize = 128 << 10;

/// The bytes that all of these scans may hold together, less those that they hold. It is exceeded
/// if a batch is larger than the one before it, which is what was reserved for it.
#[derive(Clone)]
pub struct ByteLimit(watch::Sender<i64>);

impl ByteLimit {
    pub fn new(bytes: usize) -> Self {
        Self(watch::Sender::new(signed(bytes)))
    }

    fn add(&self, bytes: i64) {
        self.0.send_modify(|free| *free += bytes);
    }
}

/// How far the batches of a scan are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// One is on its way.
    Asking,
    /// The memory for a further one is used up.
    WaitingForMemory,
    /// The rows that the next statement takes are there.
    Complete,
}

/// How many rows are read ahead, counted from the scan's first one.
#[derive(Clone, Copy, Debug)]
pub struct RowTargets {
    /// The next statement takes those before this one.
    pub enough: u64,
    /// No batch is ordered behind the one that brings this row.
    pub most: u64,
}

/// A scan that is read ahead. Dropping it releases the bytes that it holds.
pub struct AheadScan {
    queue: Arc<BatchQueue>,
    limit: ByteLimit,
    rows: RowTargets,
    /// For the batch that is on its way.
    reserved: AtomicI64,
    held: AtomicI64,
    stage: Mutex<Stage>,
}

impl Drop for AheadScan {
    fn drop(&mut self) {
        self.limit.add(self.held.load(SeqCst));
        self.queue.allow_more(true);
    }
}

impl AheadScan {
    pub fn new(queue: Arc<BatchQueue>, limit: ByteLimit, rows: RowTargets) -> Arc<Self> {
        let (reserved, held) = Default::default();
        let scan = Self { queue, limit, rows, reserved, held, stage: Mutex::new(Stage::Asking) };
        scan.count();
        Arc::new(scan)
    }

    pub fn stage(&self) -> Stage {
        *self.lock()
    }

    /// The bytes of the batches that a statement could take.
    pub fn bytes(&self) -> usize {
        self.queue.ready_bytes()
    }

    /// Updates the bytes that the scan holds: those of the rows that wait, and what is reserved.
    pub fn count(&self) {
        let holds = signed(self.queue.waiting_bytes()) + self.reserved.load(SeqCst);
        let held = self.held.swap(holds, SeqCst);
        self.limit.add(held - holds);
    }

    /// Orders one batch after the other, each when the one before has come. Wakes the backend when
    /// the next statement can take rows.
    pub async fn order(self: Arc<Self>) {
        let (mut brought, mut free) = (self.queue.brought(), self.limit.0.subscribe());
        let mut next = FIRST;
        loop {
            let before = *brought.borrow_and_update();
            let is_there = |rows| before.is_over || (before.rows >= rows && before.batches > 0);
            if is_there(self.rows.enough) {
                self.reach(Stage::Complete);
            }
            if is_there(self.rows.most) {
                return;
            }
            if *free.borrow_and_update() <= 0 {
                self.reach(Stage::WaitingForMemory);
                self.queue.allow_more(false);
                tokio::select! {
                    freed = free.wait_for(|free| *free > 0) => if freed.is_err() { return },
                    came = brought.changed() => if came.is_err() { return } else { self.count() },
                }
                continue;
            }
            self.queue.allow_more(true);
            self.reach(Stage::Asking);
            self.reserve(next);
            // One may have been ordered by the statement that took rows before, and a reply may
            // bring several.
            while self.queue.requested() <= before.batches {
                self.queue.want();
            }
            let Ok(now) = brought.wait_for(|now| now.is_over || now.batches > before.batches).await else {
                return;
            };
            next = (now.bytes - before.bytes).max(1);
            drop(now);
            self.reserve(0);
        }
    }

    fn reserve(&self, bytes: usize) {
        self.reserved.store(signed(bytes), SeqCst);
        self.count();
    }

    /// Sets the stage, unless the scan is complete, and wakes the backend.
    fn reach(&self, stage: Stage) {
        let mut reached = self.lock();
        if *reached != Stage::Complete && *reached != stage {
            *reached = stage;
            drop(reached);
            self.queue.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;
    use crate::reply::decode::Row;
    use crate::scan::queue::Event;
    use crate::time::Micros;

    fn batch(rows: usize) -> Event {
        let row = || Row { id: "1".repeat(1_000), at: Micros(0), cells: Default::default() };
        Event::Batch((0..rows).map(|_| row()).collect())
    }

    fn up_to(row: u64) -> RowTargets {
        RowTargets { enough: row, most: row }
    }

    /// Returns how many batches are ordered now.
    async fn ordered(scan: &AheadScan) -> u64 {
        for _ in 0..10 {
            yield_now().await;
        }
        scan.queue.requested() - scan.queue.brought().borrow().batches
    }

    #[tokio::test]
    async fn batches_are_ordered_one_by_one_up_to_a_row() {
        let queue = BatchQueue::new(Box::new(|| ()));
        let scan = AheadScan::new(queue.clone(), ByteLimit::new(1 << 20), up_to(100));
        let _task = tokio::spawn(scan.clone().order());
        assert_eq!((ordered(&scan).await, scan.stage()), (1, Stage::Asking));
        queue.put(batch(60));
        assert_eq!((ordered(&scan).await, scan.stage()), (1, Stage::Asking));
        queue.put(batch(60));
        assert_eq!((ordered(&scan).await, scan.stage()), (0, Stage::Complete));
    }

    #[tokio::test]
    async fn a_reply_may_bring_several() {
        let queue = BatchQueue::new(Box::new(|| ()));
        let scan = AheadScan::new(queue.clone(), ByteLimit::new(1 << 20), up_to(1_000));
        let _task = tokio::spawn(scan.clone().order());
        ordered(&scan).await;
        (0..4).for_each(|_| queue.put(batch(60)));
        assert_eq!((ordered(&scan).await, scan.stage()), (1, Stage::Asking));
    }

    #[tokio::test]
    async fn what_is_enough_need_not_be_the_end() {
        let (queue, limit) = (BatchQueue::new(Box::new(|| ())), ByteLimit::new(1 << 20));
        let rows = RowTargets { enough: 60, most: 120 };
        let scan = AheadScan::new(queue.clone(), limit.clone(), rows);
        let _task = tokio::spawn(scan.clone().order());
        ordered(&scan).await;
        queue.put(batch(60));
        assert_eq!((ordered(&scan).await, scan.stage()), (1, Stage::Complete));
        queue.put(batch(60));
        assert_eq!((ordered(&scan).await, scan.stage()), (0, Stage::Complete));
        // The bytes of what a statement takes are released.
        let before = *limit.0.borrow();
        queue.take();
        scan.count();
        assert!(*limit.0.borrow() > before && *limit.0.borrow() < 1 << 20);
        queue.take();
        scan.count();
        assert_eq!(*limit.0.borrow(), 1 << 20);
    }

    #[tokio::test]
    async fn a_scan_that_ends_is_complete() {
        let queue = BatchQueue::new(Box::new(|| ()));
        let scan = AheadScan::new(queue.clone(), ByteLimit::new(1 << 20), up_to(100));
        let _task = tokio::spawn(scan.clone().order());
        ordered(&scan).await;
        queue.put(Event::Ended(None));
        ordered(&scan).await;
        assert_eq!(scan.stage(), Stage::Complete);
    }

    #[tokio::test]
    async fn two_scans_share_the_limit() {
        let limit = ByteLimit::new(FIRST + 64_000);
        let queues = [(); 2].map(|()| BatchQueue::new(Box::new(|| ())));
        let [one, other] = queues.clone().map(|queue| AheadScan::new(queue, limit.clone(), up_to(1_000)));
        let tasks = [&one, &other].map(|scan| tokio::spawn(scan.clone().order()));
        assert_eq!((ordered(&one).await, ordered(&other).await), (1, 1));
        queues[0].put(batch(120));
        assert_eq!((ordered(&one).await, one.stage()), (0, Stage::WaitingForMemory));
        queues[1].put(batch(120));
        assert_eq!((ordered(&other).await, other.stage()), (0, Stage::WaitingForMemory));
        drop(tasks);
        let free = *limit.0.borrow();
        assert!(free < 0, "{free}");
    }

    #[tokio::test]
    async fn a_scan_that_is_dropped_releases_its_bytes() {
        let limit = ByteLimit::new(1_000);
        let queue = BatchQueue::new(Box::new(|| ()));
        let scan = AheadScan::new(queue.clone(), limit.clone(), up_to(1_000));
        let task = tokio::spawn(scan.clone().order());
        ordered(&scan).await;
        queue.put(batch(60));
        ordered(&scan).await;
        assert!(*limit.0.borrow() < 0);
        task.abort();
        let _ = task.await;
        drop(scan);
        assert_eq!(*limit.0.borrow(), 1_000);
    }
}
