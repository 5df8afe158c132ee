//! How a backend waits for its worker thread: on its latch and an eventfd, so that a cancel, a timeout or the death of
//! the postmaster ends the wait at once.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use pancake::error::{Error, Kind, Result};
use pgrx::pg_sys;

/// Rung by the worker thread, heard by the backend.
#[derive(Clone)]
pub struct Bell(Arc<EventFd>);

impl Bell {
    pub fn new() -> Result<Self> {
        EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map(|fd| Self(Arc::new(fd)))
            .map_err(|e| Error::new(Kind::NoSharedMemory, "cannot create an eventfd").detail(format!("{e}.")))
    }

    pub fn ring(&self) {
        // The counter is full only after 2^64 - 2 rings that nobody heard.
        let _ = self.0.write(1);
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
                self.0.as_fd().as_raw_fd(),
                at_most.as_millis().max(1) as i64,
                pg_sys::PG_WAIT_EXTENSION,
            );
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        // Drained before the queue is looked at: a ring after that wakes the next wait.
        let _ = self.0.read();
        pgrx::check_for_interrupts!();
    }
}
