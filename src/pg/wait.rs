//! This module implements how a backend waits for its worker thread: on its latch and an eventfd,
//! so that a cancel, a timeout or the death of the postmaster ends the wait at once.
//!
//! All scans of a backend share one eventfd: a thousand partitions would need a thousand of them,
//! and there are 1,024 in all. A notification does not name its scan. So a scan takes the
//! notification before it looks at its own news, and the notification of another scan stays in that
//! scan's news.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use pancake::error::{Error, Kind, Result};
use pgrx::pg_sys;
use tokio::sync::Notify;

/// How often an Append that waits is woken. It looks for interrupts then, which before 14.18,
/// 15.13, 16.9 and 17.5 did not end its wait, and the scans show how far they are.
const TICK: Duration = Duration::from_millis(50);

/// Written by the worker thread to wake the backend.
pub struct WakeEvent {
    fd: EventFd,
    /// An Append waits for a notification.
    waited_for: Notify,
}

impl WakeEvent {
    pub fn new() -> Result<Self> {
        EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map(|fd| Self { fd, waited_for: Notify::new() })
            .map_err(|e| Error::new(Kind::NoSharedMemory, "cannot create an eventfd").detail(format!("{e}.")))
    }

    pub fn notify(&self) {
        // The counter is full only after 2^64 - 2 notifications that were not taken.
        let _ = self.fd.write(1);
    }

    /// Takes in all notifications so far. A notification after that wakes the next wait.
    pub fn drain(&self) {
        let _ = self.fd.read();
    }

    /// Waits for a ring, an interrupt or the time. Raises where the statement was cancelled.
    pub fn wait(&self, at_most: Duration) {
        let events = pg_sys::WL_LATCH_SET
            | pg_sys::WL_SOCKET_READABLE
            | pg_sys::WL_TIMEOUT
            | pg_sys::WL_EXIT_ON_PM_DEATH;
        // SAFETY: MyLatch is this backend's own, and the descriptor lives as long as self.
        unsafe {
            pg_sys::WaitLatchOrSocket(
                pg_sys::MyLatch,
                events as i32,
                self.fd.as_fd().as_raw_fd(),
                at_most.as_millis().max(1) as i64,
                pg_sys::PG_WAIT_EXTENSION,
            );
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        self.drain();
        pgrx::check_for_interrupts!();
    }

    /// Has an Append wait for a ring, on behalf of one of its requests.
    pub fn wait_in(&'static self, set: *mut pg_sys::WaitEventSet, request: *mut pg_sys::AsyncRequest) {
        let (fd, latch) = (self.fd.as_fd().as_raw_fd(), std::ptr::null_mut());
        // SAFETY: the set of the Append that is about to wait; the descriptor is never closed.
        unsafe { pg_sys::AddWaitEventToSet(set, pg_sys::WL_SOCKET_READABLE, fd, latch, request.cast()) };
        self.waited_for.notify_one();
    }

    /// Rings now and then while an Append waits. In the worker thread.
    pub async fn tick(&self) {
        loop {
            self.waited_for.notified().await;
            tokio::time::sleep(TICK).await;
            self.notify();
        }
    }
}
