//! This module is the HTTP client: one per backend, connections kept alive. What a reply means is
//! in [`crate::reply::envelope`]; when a request may leave, in [`crate::http::connection`].

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Kind, Result};
use crate::http::connection::Turn;
pub use crate::http::lane::Request;
use crate::http::lane::{Lane, LaneFailure, Route, timed_out};
use crate::http::tls::Trust;
use crate::options::table::ServerOptions;
use crate::reply::envelope::Reply;
use crate::reply::retry::Failure;

/// Sends requests: [`Client`] over HTTP; tests have canned replies instead.
pub trait Transport: Send + Sync {
    /// Waits until a request may leave: with a grant where a connection is open, else for the
    /// moment to open one.
    fn ready<'a>(&'a self, server: &'a ServerOptions, turn: Arc<Turn>) -> BoxFuture<'a, Ready>;

    /// Sends a request, and reads the reply to its end.
    fn get<'a>(&'a self, request: Request<'a>, ready: Ready) -> BoxFuture<'a, Result<Reply, Failure>>;
}

impl Transport for Client {
    fn ready<'a>(&'a self, server: &'a ServerOptions, turn: Arc<Turn>) -> BoxFuture<'a, Ready> {
        Box::pin(self.wait_for_lane(server, turn))
    }

    fn get<'a>(&'a self, request: Request<'a>, ready: Ready) -> BoxFuture<'a, Result<Reply, Failure>> {
        Box::pin(self.send(request, ready))
    }
}

/// The lanes of a backend.
pub struct Client {
    idle: Mutex<Vec<Lane>>,
    /// What is left of the lanes that may be in use at once.
    room: Arc<Semaphore>,
    lanes: usize,
    trust: Trust,
}

/// Without a limit on the number of connections.
impl Default for Client {
    fn default() -> Self {
        Self::with_lanes(Semaphore::MAX_PERMITS)
    }
}

/// A request may leave now: over an open connection with the grant spent, or over one that is still
/// to be opened, which spends its grant when it stands.
pub struct Ready {
    lane: Option<Lane>,
    pub turn: Arc<Turn>,
    /// The lane's place among those in use.
    room: Option<OwnedSemaphorePermit>,
}

#[cfg(test)]
impl Ready {
    /// For a transport without connections.
    pub(crate) fn without_lane(turn: Arc<Turn>) -> Self {
        Ready { lane: None, turn, room: None }
    }
}

impl Client {
    /// A client that holds no more connections than this. A thousand pages at once would need a
    /// thousand descriptors: instead of failing, the last ones wait until a lane is free.
    pub fn with_lanes(lanes: usize) -> Self {
        Self { idle: Mutex::default(), room: Arc::new(Semaphore::new(lanes)), lanes, trust: Trust::default() }
    }

    async fn wait_for_lane(&self, server: &ServerOptions, turn: Arc<Turn>) -> Ready {
        let room = self.room.clone().acquire_owned().await.ok();
        let route = Route::of(server);
        if !self.has_idle(&route) {
            turn.may_open().await;
        }
        if self.has_idle(&route) {
            turn.take().await;
        }
        Ready { lane: self.take_idle(&route), turn, room }
    }

    /// A connection that was open already may turn out to be dead: then the request is sent over a
    /// new one, with a new grant.
    async fn send(&self, request: Request<'_>, ready: Ready) -> Result<Reply, Failure> {
        let Ready { lane, turn, room: _room } = ready;
        if let Some(lane) = lane {
            match self.get_over(lane, &request, &turn).await {
                Err(LaneFailure::Dead) => turn.start_over(),
                Err(LaneFailure::Failed(failure)) => return Err(*failure),
                Ok(reply) => return Ok(reply),
            }
        }
        self.make_room();
        let lane = Lane::new(Route::of(request.server), &self.trust).map_err(Failure::for_good)?;
        self.get_over(lane, &request, &turn).await.map_err(|lost| match lost {
            LaneFailure::Failed(failure) => *failure,
            // Only a lane that has served before can be found dead.
            LaneFailure::Dead => Failure::transient(Error::new(Kind::Unreachable, "connection was lost")),
        })
    }

    async fn get_over(
        &self,
        lane: Lane,
        request: &Request<'_>,
        turn: &Arc<Turn>,
    ) -> Result<Reply, LaneFailure> {
        lane.gate.admit(turn);
        let timeout = request.server.request_timeout;
        let fetched = tokio::select! {
            fetched = lane.fetch(request) => fetched,
            () = turn.overdue(timeout) => Err(timed_out(lane.gate.phase(), timeout).into()),
        };
        let (reply, keep) = fetched?;
        if keep {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(lane.used_now());
        }
        Ok(reply)
    }

    fn has_idle(&self, route: &Route) -> bool {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.iter().any(|lane| lane.is_fresh() && lane.route == *route)
    }

    fn take_idle(&self, route: &Route) -> Option<Lane> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(Lane::is_fresh);
        let found = idle.iter().position(|lane| lane.route == *route)?;
        Some(idle.swap_remove(found))
    }

    /// Closes the connection that was idle for longest, where idle ones stand in the way of a new
    /// one.
    fn make_room(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = self.lanes - self.room.available_permits();
        let oldest = idle.iter().enumerate().min_by_key(|(_, lane)| lane.used).map(|(place, _)| place);
        if let Some(oldest) = oldest.filter(|_| idle.len() + in_use > self.lanes) {
            idle.swap_remove(oldest);
        }
    }
}
