//! This module is what all requests about one list of a page share, and sends one until there is a
//! reply: under the limiter, retried where that may help. The caller decides what to ask, and what
//! to make of the rows.

use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::http::client::{Ready, Request, Transport};
use crate::http::connection::{OneAtATime, Turn};
use crate::memory;
use crate::options::table::ServerOptions;
use crate::paging::verdicts::Known;
use crate::rate::limiter::PageLimiter;
use crate::reply::envelope::Reply;
use crate::reply::retry::{Again, Attempts, Failure};
use crate::schema::catalogue::Object;
use crate::schema::keyset::Order;
use crate::secret::Secret;
use crate::stats::{ScanStats, Waiting};
use crate::time::{Micros, SECOND};
use crate::url::Address;

/// Who asks for which list of which page, and how.
#[derive(Clone)]
pub struct Session {
    pub server: ServerOptions,
    pub object: Object,
    pub page_id: String,
    pub token: Secret,
    pub limiter: PageLimiter,
    pub tally: Arc<ScanStats>,
    pub client: Arc<dyn Transport>,
    /// Connections are opened one after the other.
    pub opening: OneAtATime,
}

/// Why a request has no reply that can be used.
pub(crate) enum Refused {
    Error(Error),
    /// The failure may be due to the form of the request: nothing in it is about the token, the
    /// page or the rate. There may be another form; if not, [`Sending::retry`] makes of it a
    /// failure like any other.
    Form(Failed),
}

/// A request that failed.
pub(crate) struct Failed {
    failure: Failure,
    turn: Arc<Turn>,
}

impl Failed {
    /// Whether its words are about the times that were sent.
    pub fn names_times(&self) -> bool {
        self.failure.names_times
    }
}

/// One request, until it is answered or given up.
pub(crate) struct Sending<'a> {
    session: &'a Session,
    address: &'a Address,
    /// The next attempt may leave now.
    ready: Option<Ready>,
    attempts: Attempts,
}

impl Session {
    /// What is known of the page by all sessions.
    pub(crate) fn known(&self, order: Order) -> Known {
        self.limiter.verdicts.known(self.object, order, self.now(None), true)
    }

    /// The server's time when it replied, up to the second that its `Date` leaves open; else ours.
    pub(crate) fn now(&self, date: Option<SystemTime>) -> Micros {
        let theirs = date.and_then(|date| date.duration_since(SystemTime::UNIX_EPOCH).ok());
        let ours = || Micros((self.limiter.clocks.wall_micros)());
        theirs.map_or_else(ours, |theirs| Micros(theirs.as_micros() as i64 + SECOND))
    }

    /// Waits until a request may leave.
    pub(crate) async fn ready(&self) -> Ready {
        let turn = Turn::new(self.limiter.clone(), self.tally.clone(), self.opening.clone());
        self.client.ready(&self.server, turn).await
    }

    /// `ready`: the first attempt may leave now.
    pub(crate) fn sending<'a>(&'a self, address: &'a Address, ready: Option<Ready>) -> Sending<'a> {
        Sending { session: self, address, ready, attempts: Attempts::default() }
    }

    /// Returns the reply to a request, whatever its form.
    pub(crate) async fn reply(&self, address: &Address) -> Result<Reply> {
        let mut sending = self.sending(address, None);
        loop {
            match sending.reply().await {
                Ok(reply) => return Ok(reply),
                Err(Refused::Error(error)) => return Err(error),
                Err(Refused::Form(failed)) => sending.retry(failed).await?,
            }
        }
    }

    /// Returns the reply to a request; none if its form was refused.
    pub(crate) async fn reply_unless_refused(&self, address: &Address) -> Result<Option<Reply>> {
        match self.sending(address, None).reply().await {
            Ok(reply) => Ok(Some(reply)),
            Err(Refused::Error(error)) => Err(error),
            Err(Refused::Form(_)) => Ok(None),
        }
    }

    async fn fetch(&self, address: &Address, ready: Ready) -> Result<Reply, Failure> {
        memory::probe(memory::REQUEST).map_err(Failure::for_good)?;
        let turn = ready.turn.clone();
        let request = Request {
            server: &self.server,
            address,
            token_name: self.object.token_name(),
            token: &self.token,
        };
        let fetched = self.client.get(request, ready).await;
        let stats = self.limiter.stats;
        self.tally.requests.add(1);
        self.tally.network.add(turn.on_its_way());
        stats.requests.add(1);
        stats.last_request_at.set((self.limiter.clocks.wall_micros)());
        self.limiter.show_rate();
        let reply = fetched?;
        if !self.object.needs_page() {
            // To leave out what may be secret, the reply is read whole.
            memory::probe(reply.body.len().saturating_mul(memory::DECODING)).map_err(Failure::for_good)?;
        }
        Ok(reply.fit_to_show(self.object))
    }
}

impl Sending<'_> {
    /// Sends the request until there is a reply with a list, which may be empty. Failures that may
    /// pass are retried after a pause.
    pub async fn reply(&mut self) -> Result<Reply, Refused> {
        loop {
            let ready = match self.ready.take() {
                Some(ready) => ready,
                None => self.session.ready().await,
            };
            let turn = ready.turn.clone();
            let checked = self.session.fetch(self.address, ready).await.and_then(|reply| {
                reply.rows(self.session.object)?;
                Ok(reply)
            });
            let failure = match checked {
                Ok(reply) => {
                    self.session.limiter.answered();
                    return Ok(reply);
                }
                Err(failure) => failure,
            };
            let failed = Failed { failure, turn };
            if failed.failure.cursor_suspect {
                return Err(Refused::Form(failed));
            }
            self.retry(failed).await.map_err(Refused::Error)?;
        }
    }

    /// Waits before the next attempt. The failure itself where there is none.
    pub async fn retry(&mut self, Failed { failure, turn }: Failed) -> Result<()> {
        let Session { limiter, tally, .. } = self.session;
        let failure = match failure.again {
            Again::LaterIfAnswered if !limiter.has_answered_lately() => Failure::for_good(failure.error),
            _ => failure,
        };
        let max_retries = self.session.server.max_retries;
        let pause = self.attempts.pause_after(&failure, max_retries, limiter.stats.served());
        if let Some(shared) = failure.shared_pause(pause) {
            tally.throttled.add(1);
            limiter.stats.throttled.add(1);
            // All sessions that share the page's budget wait, and send their requests further apart
            // from then on.
            limiter.refused(turn.on_its_way(), shared);
        }
        let Some(pause) = pause else {
            let error = self.session.token.point_out(failure.error, &self.session.page_id);
            return Err(match self.attempts.made() {
                1 => error,
                n => error.also(format!("It was tried {n} times.")),
            });
        };
        tally.retried.add(1);
        limiter.stats.retries.add(1);
        tally.waiting(Waiting::Retry);
        let pause = pause.min(crate::rate::limiter::LONGEST_PAUSE);
        limiter.pause(pause).await;
        tally.retry_wait.add(pause);
        Ok(())
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
