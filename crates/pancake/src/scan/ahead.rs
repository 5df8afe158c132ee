//! This module orders batches of scans whose rows no statement takes yet, as long as there is room:
//! one room for all of these scans together.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::scan::queue::BatchQueue;

/// What is reserved for the first batch of a scan; for a later one it is the size of the one
/// before.
const FIRST: usize = 64 << 10;

/// The bytes that all of these scans may hold together, less those that they hold. Batches that are
/// larger than the ones before them may take more.
#[derive(Clone)]
pub struct Room(watch::Sender<i64>);

impl Room {
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
    /// For a further one there is no room.
    WaitingForRoom,
    /// All that may be read ahead is there.
    Complete,
}

/// A scan that is read ahead. Dropped, it leaves the room that it holds.
pub struct AheadScan {
    queue: Arc<BatchQueue>,
    room: Room,
    /// No batch is ordered behind the one that brings this row.
    rows: u64,
    held: AtomicI64,
    stage: Mutex<Stage>,
}

impl Drop for AheadScan {
    fn drop(&mut self) {
        self.room.add(self.held.load(SeqCst));
    }
}

impl AheadScan {
    /// `rows` are counted from the scan's first one.
    pub fn new(queue: Arc<BatchQueue>, room: Room, rows: u64) -> Arc<Self> {
        let waiting = signed(queue.waiting_bytes());
        let (held, stage) = (AtomicI64::new(0), Mutex::new(Stage::Asking));
        let scan = Self { queue, room, rows, held, stage };
        scan.hold(waiting);
        Arc::new(scan)
    }

    /// The bytes of the batches that wait.
    pub fn bytes(&self) -> usize {
        self.queue.waiting_bytes()
    }

    pub fn stage(&self) -> Stage {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// Orders one batch after the other, each when the one before has come. Wakes the backend where
    /// it cannot go on.
    pub async fn order(self: Arc<Self>) {
        let (mut brought, mut free) = (self.queue.brought(), self.room.0.subscribe());
        let mut next = FIRST;
        loop {
            let before = *brought.borrow_and_update();
            if before.is_over || (before.rows >= self.rows && before.batches > 0) {
                self.reach(Stage::Complete);
                self.queue.wake();
                return;
            }
            if *free.borrow_and_update() <= 0 {
                self.reach(Stage::WaitingForRoom);
                self.queue.wake();
                if free.wait_for(|free| *free > 0).await.is_err() {
                    return;
                }
                continue;
            }
            self.reach(Stage::Asking);
            self.hold(signed(next));
            // One may have been ordered by the statement that took rows before, and a reply may bring
            // several.
            while self.queue.requested() <= before.batches {
                self.queue.want();
            }
            let Ok(now) = brought.wait_for(|now| now.is_over || now.batches > before.batches).await else {
                return;
            };
            let bytes = now.bytes - before.bytes;
            self.hold(signed(bytes) - signed(next));
            next = bytes.max(1);
        }
    }

    fn hold(&self, bytes: i64) {
        self.held.fetch_add(bytes, SeqCst);
        self.room.add(-bytes);
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

    /// Batches that are ordered now.
    async fn ordered(scan: &AheadScan) -> u64 {
        for _ in 0..10 {
            yield_now().await;
        }
        scan.queue.requested() - scan.queue.brought().borrow().batches
    }

    #[tokio::test]
    async fn batches_are_ordered_one_by_one_up_to_a_row() {
        let queue = BatchQueue::new(Box::new(|| ()));
        let scan = AheadScan::new(queue.clone(), Room::new(1 << 20), 100);
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
        let scan = AheadScan::new(queue.clone(), Room::new(1 << 20), 1_000);
        let _task = tokio::spawn(scan.clone().order());
        ordered(&scan).await;
        (0..4).for_each(|_| queue.put(batch(60)));
        assert_eq!((ordered(&scan).await, scan.stage()), (1, Stage::Asking));
    }

    #[tokio::test]
    async fn a_scan_that_ends_is_complete() {
        let queue = BatchQueue::new(Box::new(|| ()));
        let scan = AheadScan::new(queue.clone(), Room::new(1 << 20), 100);
        let _task = tokio::spawn(scan.clone().order());
        ordered(&scan).await;
        queue.put(Event::Ended(None));
        ordered(&scan).await;
        assert_eq!(scan.stage(), Stage::Complete);
    }

    #[tokio::test]
    async fn two_scans_share_the_room() {
        let room = Room::new(100_000);
        let queues = [(); 2].map(|()| BatchQueue::new(Box::new(|| ())));
        let [one, other] = queues.clone().map(|queue| AheadScan::new(queue, room.clone(), 1_000));
        let tasks = [&one, &other].map(|scan| tokio::spawn(scan.clone().order()));
        assert_eq!((ordered(&one).await, ordered(&other).await), (1, 1));
        queues[0].put(batch(60));
        assert_eq!((ordered(&one).await, one.stage()), (0, Stage::WaitingForRoom));
        queues[1].put(batch(60));
        assert_eq!((ordered(&other).await, other.stage()), (0, Stage::WaitingForRoom));
        drop(tasks);
        let free = *room.0.borrow();
        assert!(free < 0, "{free}");
    }

    #[tokio::test]
    async fn room_is_left_where_a_scan_is_dropped() {
        let room = Room::new(1_000);
        let queue = BatchQueue::new(Box::new(|| ()));
        let scan = AheadScan::new(queue.clone(), room.clone(), 1_000);
        let task = tokio::spawn(scan.clone().order());
        ordered(&scan).await;
        queue.put(batch(60));
        ordered(&scan).await;
        assert!(*room.0.borrow() < 0);
        task.abort();
        let _ = task.await;
        drop(scan);
        assert_eq!(*room.0.borrow(), 1_000);
    }
}
