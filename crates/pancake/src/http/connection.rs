//! This module is one connection to the API, one request at a time, so that a request leaves the
//! moment its grant is spent.
//!
//! A new TLS connection takes 200–300 ms: a grant spent before it is open would arrive late, and
//! push the requests behind it into the next window. So the grant is taken after the connection
//! stands: by the sender where one is open already, else by the connector itself.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::rate::limiter::PageLimiter;
use crate::stats::{ScanStats, Waiting};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

/// A grant older than this when the request can leave is stale: another is taken. 205 ms of spacing
/// absorb it.
const FRESH: Duration = Duration::from_millis(25);

/// Admits one request at a time that opens a connection.
#[derive(Clone)]
pub struct OneAtATime(Arc<Semaphore>);

impl Default for OneAtATime {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// One request's way to its grant.
pub struct Turn {
    limiter: PageLimiter,
    tally: Arc<ScanStats>,
    granted: watch::Sender<Option<Instant>>,
    opening: OneAtATime,
}

impl Turn {
    pub fn new(limiter: PageLimiter, tally: Arc<ScanStats>, opening: OneAtATime) -> Arc<Self> {
        Arc::new(Self { limiter, tally, granted: watch::Sender::new(None), opening })
    }

    /// Waits until no other request of the scan opens a connection, and until a grant could be had,
    /// roughly: the connection takes its time, and spends the grant itself. A scan's first request
    /// needs one in any case, and would stand in the row twice.
    pub async fn may_open(&self) {
        drop(self.opening.0.acquire().await);
        let wait = self.limiter.ready_in();
        if !wait.is_zero() && self.tally.requests.get() > 0 {
            self.tally.waiting(Waiting::RateLimit);
            tokio::time::sleep(wait).await;
            self.limiter.waited(wait, &self.tally);
        }
    }

    /// Spends a grant, unless one was spent just now.
    pub async fn take(&self) {
        let fresh = self.granted.borrow().is_some_and(|granted| granted.elapsed() <= FRESH);
        if !fresh {
            self.limiter.grant(&self.tally).await;
            self.granted.send_replace(Some(Instant::now()));
        }
        self.tally.waiting(Waiting::Reply);
    }

    /// Gives up the grant, with which a request was sent in vain.
    pub fn start_over(&self) {
        self.granted.send_replace(None);
    }

    /// Ends when the request has been on its way for this long; waiting for the limiter does not
    /// count.
    pub async fn overdue(&self, timeout: Duration) {
        let mut granted = self.granted.subscribe();
        loop {
            let since = *granted.borrow_and_update();
            let passed = async {
                match since {
                    Some(since) => tokio::time::sleep_until(since + timeout).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = passed => return,
                changed = granted.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Time since the grant: what the network took.
    pub fn on_its_way(&self) -> Duration {
        self.granted.borrow().map(|granted| granted.elapsed()).unwrap_or_default()
    }
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    Connecting,
    Headers,
    Body,
}

/// What the connector and the sender of a lane share.
#[derive(Clone)]
pub struct Gate {
    turn: Arc<Mutex<Option<Arc<Turn>>>>,
    phase: Arc<AtomicU8>,
    connect_timeout: Duration,
}

impl Gate {
    pub fn new(connect_timeout: Duration) -> Self {
        let phase = Arc::new(AtomicU8::new(Phase::Headers as u8));
        Self { turn: Arc::default(), phase, connect_timeout }
    }

    pub fn admit(&self, turn: &Arc<Turn>) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(turn.clone());
        self.enter(Phase::Headers);
    }

    fn turn(&self) -> Option<Arc<Turn>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, SeqCst);
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(SeqCst) {
            0 => Phase::Connecting,
            1 => Phase::Headers,
            _ => Phase::Body,
        }
    }
}

impl<S> Layer<S> for Gate {
    type Service = GatedService<S>;

    fn layer(&self, connector: S) -> GatedService<S> {
        GatedService { connector, gate: self.clone() }
    }
}

/// A connector that hands out its connection only with a grant.
#[derive(Clone)]
pub struct GatedService<S> {
    connector: S,
    gate: Gate,
}

/// The connection did not stand in time.
#[derive(Debug)]
pub struct ConnectTimeout;

impl std::fmt::Display for ConnectTimeout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("connect timeout")
    }
}

impl std::error::Error for ConnectTimeout {}

impl<S, R> Service<R> for GatedService<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, destination: R) -> Self::Future {
        let connecting = self.connector.call(destination);
        let gate = self.gate.clone();
        Box::pin(async move {
            let turn = gate.turn();
            gate.enter(Phase::Connecting);
            let _one_at_a_time = match &turn {
                Some(turn) => {
                    let opening = turn.opening.0.acquire().await;
                    turn.tally.waiting(Waiting::Connection);
                    Some(opening)
                }
                None => None,
            };
            let connection = tokio::time::timeout(gate.connect_timeout, connecting)
                .await
                .map_err(|_| ConnectTimeout)??;
            if let Some(turn) = &turn {
                turn.take().await;
            }
            gate.enter(Phase::Headers);
            Ok(connection)
        })
    }
}
