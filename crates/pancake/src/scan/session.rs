//! This module is what all requests about one list of a page share, and sends one until there is a
//! reply: under the limiter, retried where that may help. The caller decides what to ask, what to
//! make of the rows, and whether a refusal is due to the form of the request. Requests are sent by
//! scans (`run`, `probe`), ANALYZE (`sample`) and the doctor.

use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Result;
use crate::http::client::{Ready, Request, Transport};
use crate::http::connection::{OneAtATime, Turn};
use crate::memory;
use crate::options::table::ServerOptions;
use crate::paging::verdicts::Assumptions;
use crate::rate::limiter::PageLimiter;
use crate::reply::envelope::{Reply, RowList};
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

/// One request, until it is answered or given up.
pub(crate) struct Sending<'a> {
    session: &'a Session,
    address: &'a Address,
    /// The next attempt may leave now.
    ready: Option<Ready>,
    /// That of the last attempt.
    turn: Option<Arc<Turn>>,
    attempts: Attempts,
    /// Once, for a failure of the server to pass.
    has_waited: bool,
}

impl Session {
    /// What is known of the page by all sessions.
    pub(crate) fn known(&self, order: Order) -> Assumptions {
        self.limiter.verdicts.known(self.object, order, self.now(None), false)
    }

    /// The same for one that asks: the first one after an hour tries again what was refused.
    pub(crate) fn known_to_try(&self, order: Order) -> Assumptions {
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
        Sending {
            session: self,
            address,
            ready,
            turn: None,
            attempts: Attempts::default(),
            has_waited: false,
        }
    }

    /// Sends a request until it is answered, and returns what `read` makes of the rows. A refusal
    /// of its form is a failure like any other.
    pub(crate) async fn read<T>(
        &self,
        address: &Address,
        read: impl FnOnce(&Reply, &RowList) -> Result<T>,
    ) -> Result<T> {
        let mut sending = self.sending(address, None);
        loop {
            let reply = sending.reply().await?;
            match reply.rows(self.object) {
                Ok(listed) => break sending.take(&reply, read(&reply, &listed)),
                Err(failure) => sending.pause_before_retry(failure).await?,
            }
        }
    }

    /// The same; none if the form of the request was refused so many times.
    pub(crate) async fn read_unless_refused<T>(
        &self,
        address: &Address,
        times: u32,
        read: impl FnOnce(&Reply, &RowList) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut sending = self.sending(address, None);
        let mut refusals = 0;
        loop {
            let reply = sending.reply().await?;
            let failure = match reply.rows(self.object) {
                Ok(listed) => break sending.take(&reply, read(&reply, &listed)).map(Some),
                Err(failure) => failure,
            };
            refusals += u32::from(failure.may_be_form);
            let is_final = refusals >= times || failure.again == Again::Never;
            let may_be_form = failure.may_be_form;
            if may_be_form && is_final {
                break Ok(None);
            }
            match sending.pause_before_retry(failure).await {
                Err(_) if may_be_form => break Ok(None),
                paused => paused?,
            }
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
    /// Sends the request until there is a reply, whatever it is. What the network does is retried.
    pub async fn reply(&mut self) -> Result<Reply> {
        loop {
            let ready = match self.ready.take() {
                Some(ready) => ready,
                None => self.session.ready().await,
            };
            self.turn = Some(ready.turn.clone());
            match self.session.fetch(self.address, ready).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => self.pause_before_retry(failure).await?,
            }
        }
    }

    /// Notes that the reply was one with rows. Errors in what was made of them name it.
    pub fn take<T>(&self, reply: &Reply, made: Result<T>) -> Result<T> {
        self.session.limiter.answered();
        made.map_err(|error| reply.trace(error))
    }

    /// Whether a failure of the server is to be waited for once, because a short outage is no
    /// reason to ask in another form. Not where this scan has waited in vain before.
    pub fn may_pass(&mut self, failure: &Failure) -> bool {
        if failure.again != Again::Later || self.session.server.max_retries == 0 {
            return false;
        }
        let has_waited = std::mem::replace(&mut self.has_waited, true);
        self.session.tally.waited_in_vain.add(usize::from(has_waited));
        self.session.tally.waited_in_vain.get() == 0
    }

    /// Pauses after a failure. Returns the failure itself where no attempt is left.
    pub async fn pause_before_retry(&mut self, failure: Failure) -> Result<()> {
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
            let on_its_way = self.turn.as_ref().map(|turn| turn.on_its_way()).unwrap_or_default();
            limiter.refused(on_its_way, shared);
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
