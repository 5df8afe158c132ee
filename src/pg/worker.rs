//! This module is the one thread of a backend that does HTTP. It makes no call into Postgres: it
//! receives tasks and fires the wake event.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};
use pancake::error::{Error, Kind, Result};
use pancake::http::client::Client;
use pgrx::pg_sys;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

use crate::pg::wait::WakeEvent;

/// Started at the first scan of a backend, ended with it.
pub struct Worker {
    handle: Handle,
    /// One HTTP client per backend; its connections are kept alive between statements.
    pub client: Arc<Client>,
    /// Wakes the backend.
    pub wake_event: WakeEvent,
}

/// A task that ends when this is dropped.
pub struct RunningTask(JoinHandle<()>);

impl Drop for RunningTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Worker {
    pub fn get() -> Result<&'static Worker> {
        static WORKER: OnceLock<Worker> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        match WORKER.get() {
            Some(worker) => Ok(worker),
            None => {
                let worker = Self::start().map(|worker| WORKER.get_or_init(|| worker))?;
                worker.handle.spawn(worker.wake_event.tick());
                Ok(worker)
            }
        }
    }

    fn start() -> Result<Worker> {
        // SAFETY: reads a variable of the backend.
        if unsafe { pg_sys::MyBackendType } == pg_sys::BackendType::B_AUTOVAC_WORKER {
            let message = "an autovacuum worker makes no requests to Pancake";
            return Err(Error::new(Kind::NotPermitted, message)
                .detail("It would wait for the network, and other tables for it.")
                .hint("No function in an index, or in statistics, may read a foreign table of Pancake."));
        }
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Error::new(Kind::NoSharedMemory, format!("cannot start the worker thread: {what}"))
                .detail(format!("{error}."))
        };
        // Threads for name resolution come and go; more than a few never help one backend.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .build()
            .map_err(|error| failed("no runtime", &error))?;
        let handle = runtime.handle().clone();
        let wake_event = WakeEvent::new()?;
        // Signals are the backend's: the thread inherits a mask that blocks them all.
        let before = SigSet::all()
            .thread_swap_mask(SigmaskHow::SIG_SETMASK)
            .map_err(|error| failed("no signal mask", &error))?;
        let spawned = std::thread::Builder::new()
            .name("pancake".to_owned())
            .spawn(move || runtime.block_on(std::future::pending::<()>()));
        before.thread_set_mask().map_err(|error| failed("no signal mask", &error))?;
        spawned.map_err(|error| failed("no thread", &error))?;
        Ok(Worker { handle, client: Arc::new(Client::with_lanes(most_connections())), wake_event })
    }

    /// Runs a task to its end; the backend waits meanwhile. Raises where the statement is
    /// cancelled, which ends the task.
    pub fn finish<T: Send + 'static>(
        &'static self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let place: Arc<Mutex<Option<T>>> = Arc::default();
        let result = place.clone();
        let wake_event = &self.wake_event;
        let running = self.spawn(async move {
            let done = task.await;
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
            wake_event.notify();
        });
        loop {
            let is_over = running.0.is_finished();
            if let Some(done) = result.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Ok(done);
            }
            if is_over {
                return Err(Error::new(
                    Kind::NotUnderstood,
                    "the worker thread broke off inside pancake_fdw",
                )
                .hint("Please report this, with the lines that the server's log has of it."));
            }
            wake_event.wait(Duration::from_secs(1));
        }
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> RunningTask {
        RunningTask(self.handle.spawn(task))
    }
}

/// As many descriptors as Postgres leaves to extensions (`AcquireExternalFD` in fd.c): a third of
/// what is safe, some 320 where 1,024 are allowed.
fn most_connections() -> usize {
    // SAFETY: a variable of the backend, set once by the postmaster.
    let safe = unsafe { pgrx::pg_sys::max_safe_fds };
    usize::try_from(safe / 3).unwrap_or(0).max(8)
}
