//! This module is what all requests about one list of a page share, and sends one until there is a
//! reply: under the limiter, tried again where that may help. The caller decides what to ask, and
//! what to make of the rows.

use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Result;
use crate::http::client::{Client, Ready, Request};
use crate::http::connection::{OneAtATime, Turn};
use crate::memory;
use crate::options::table::ServerOptions;
use crate::paging::verdicts::Known;
use crate::rate::limiter::PageLimiter;
use crate::reply::envelope::{Listed, Reply};
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
    pub client: Arc<Client>,
    /// Connections are opened one after the other.
    pub opening: OneAtATime,
}

/// What a request came to.
pub(crate) enum Response<'a> {
    Rows(&'a Reply, &'a Listed<'a>),
    /// A failure that may be due to the form of the request: nothing in it is about the token, the
    /// page or the rate. Whether its words are about the times that were sent.
    Rejected(bool),
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

    /// Asks until there is an answer, or no more tries are allowed. `ready`: the first may leave
    /// now. `take` makes of the answer what is wanted; where it makes nothing of a suspect failure,
    /// that is one like any other.
    pub(crate) async fn answer<T>(
        &self,
        address: &Address,
        mut ready: Option<Ready>,
        mut take: impl FnMut(Response) -> Result<Option<T>>,
    ) -> Result<T> {
        let mut attempts = Attempts::default();
        loop {
            let ready = match ready.take() {
                Some(ready) => ready,
                None => self.ready().await,
            };
            let turn = ready.turn.clone();
            let failure = match self.fetch(address, ready).await {
                Ok(reply) => match reply.rows(self.object) {
                    Ok(rows) => {
                        self.limiter.answered();
                        match take(Response::Rows(&reply, &rows)).map_err(|error| reply.trace(error))? {
                            Some(taken) => return Ok(taken),
                            None => continue,
                        }
                    }
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            if failure.cursor_suspect
                && let Some(taken) = take(Response::Rejected(failure.names_times))?
            {
                return Ok(taken);
            }
            self.wait_to_retry(failure, &mut attempts, &turn).await?;
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
        let fetched = self.client.get(&request, ready).await;
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

    /// Waits before another attempt. The failure itself where there is none.
    async fn wait_to_retry(&self, failure: Failure, attempts: &mut Attempts, turn: &Turn) -> Result<()> {
        let failure = match failure.again {
            Again::LaterIfAnswered if !self.limiter.has_answered_lately() => Failure::for_good(failure.error),
            _ => failure,
        };
        let pause = attempts.pause_after(&failure, self.server.max_retries, self.limiter.stats.served());
        if let Some(shared) = failure.shared_pause(pause) {
            self.tally.throttled.add(1);
            self.limiter.stats.throttled.add(1);
            // All sessions that share the page's budget wait, and send their requests further apart
            // from then on.
            self.limiter.refused(turn.on_its_way(), shared);
        }
        let Some(pause) = pause else {
            let error = self.token.point_out(failure.error, &self.page_id);
            return Err(match attempts.made() {
                1 => error,
                n => error.also(format!("It was tried {n} times.")),
            });
        };
        self.tally.retried.add(1);
        self.limiter.stats.retries.add(1);
        self.tally.waiting(Waiting::Retry);
        let pause = pause.min(crate::rate::limiter::LONGEST_PAUSE);
        self.limiter.pause(pause).await;
        self.tally.retry_wait.add(pause);
        Ok(())
    }
}
