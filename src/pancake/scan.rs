//! One scan: chains are walked one after another, batches are handed out as they are wanted.
//! The walk says what to ask and what a reply proves; the lane, when a request may leave.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::client::{Client, Request};
use crate::decode::{Row, Wanted, spots};
use crate::error::Result;
use crate::lane::Turn;
use crate::ledger::{Tally, Waiting};
use crate::meter::PageMeter;
use crate::options::ServerOptions;
use crate::plan::{Chain, Order};
use crate::reply::Reply;
use crate::retry::{Again, Failure};
use crate::secret::Secret;
use crate::time::Micros;
use crate::url::Address;
use crate::walk::{Ask, End, Walk};

/// An upper bound on `updated_at` that lies this far in the past cannot be reached by rows that move now, whatever
/// the skew between the clocks.
const SETTLED_SECONDS: i64 = 3600;

/// What a scan needs to run.
pub struct Scan {
    pub server: ServerOptions,
    pub page_id: String,
    pub token: Secret,
    pub chains: Vec<Chain>,
    pub wanted: Vec<Wanted>,
    pub meter: PageMeter,
    pub tally: Arc<Tally>,
    pub client: Arc<Client>,
    pub outlet: Arc<Outlet>,
}

/// What comes out of a scan, in order.
#[derive(Debug)]
pub enum Event {
    Batch(Vec<Row>),
    Ended(Option<End>),
    Failed(crate::error::Error),
}

/// Where batches wait for the backend. Bounded by what the backend has said it wants.
pub struct Outlet {
    events: Mutex<VecDeque<Event>>,
    wanted: Semaphore,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Outlet {
    /// `wake` tells the backend that an event waits.
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self { events: Mutex::default(), wanted: Semaphore::new(0), wake })
    }

    /// The backend wants one more batch.
    pub fn want(&self) {
        self.wanted.add_permits(1);
    }

    pub fn take(&self) -> Option<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn put(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
        (self.wake)();
    }

    async fn wanted(&self) {
        if let Ok(permit) = self.wanted.acquire().await {
            permit.forget();
        }
    }
}

impl Scan {
    /// Runs to the end, or to the first error. Dropping the future stops it wherever it is.
    pub async fn run(self) {
        let event = match self.walk_chains().await {
            Ok(end) => Event::Ended(end),
            Err(error) => {
                self.meter.stats.failed(&error, (self.meter.clocks.wall_micros)());
                Event::Failed(error)
            }
        };
        self.tally.waiting(Waiting::Nothing);
        self.outlet.put(event);
    }

    async fn walk_chains(&self) -> Result<Option<End>> {
        let mut end = None;
        self.next_is_wanted().await;
        for chain in &self.chains {
            let mut walk = Walk::new(chain.window, self.may_move(chain));
            while let Some(ask) = walk.ask() {
                let rows = self.ask(chain, &mut walk, &ask).await?;
                if !rows.is_empty() {
                    self.outlet.put(Event::Batch(rows));
                    self.next_is_wanted().await;
                }
            }
            end = walk.ended();
        }
        Ok(end)
    }

    async fn next_is_wanted(&self) {
        self.tally.waiting(Waiting::Consumer);
        self.outlet.wanted().await;
    }

    /// Whether rows may move into the chain's window while it is walked.
    fn may_move(&self, chain: &Chain) -> bool {
        let settled = Micros((self.meter.clocks.wall_micros)()).minus_seconds(SETTLED_SECONDS);
        chain.order == Order::UpdatedAt && chain.window.high.is_none_or(|high| high > settled)
    }

    /// Asks until there is a reply, and takes it into the walk.
    async fn ask(&self, chain: &Chain, walk: &mut Walk, ask: &Ask) -> Result<Vec<Row>> {
        let address = self.address(chain, ask);
        let mut failed_attempts = 0;
        loop {
            let failure = match self.fetch(&address).await {
                Ok(reply) => match reply.rows() {
                    Ok(rows) => {
                        let served = spots(&rows, chain.order)?;
                        let spots: Vec<_> = served.iter().map(|row| row.spot.clone()).collect();
                        let mut fresh = walk.reply(&spots)?;
                        let known = spots
                            .iter()
                            .enumerate()
                            .filter(|(i, spot)| !fresh.contains(i) && chain.window.holds(spot.at));
                        // The row that must come back is no repeat.
                        let repeats = known.count().saturating_sub(usize::from(ask.cursor.is_some()));
                        // A server that ignores the parameter would give each chain the rows of all of them.
                        if let Some(kind) = &chain.kind {
                            fresh.retain(|i| served[*i].is_of(kind));
                        }
                        self.count(&reply, repeats, fresh.iter().map(|i| spots[*i].at));
                        return fresh.iter().map(|i| served[*i].cells(&self.wanted, &self.page_id)).collect();
                    }
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            if failure.cursor_suspect && walk.lost()? {
                return Ok(Vec::new());
            }
            failed_attempts += 1;
            self.wait_to_retry(failure, failed_attempts).await?;
        }
    }

    async fn fetch(&self, address: &Address) -> Result<Reply, Failure> {
        let turn = Turn::new(self.meter.clone(), self.tally.clone());
        let request =
            Request { server: &self.server, address, token_name: "page_access_token", token: &self.token };
        let fetched = self.client.get(&request, &turn).await;
        let stats = self.meter.stats;
        self.tally.requests.add(1);
        self.tally.network.add(turn.on_its_way());
        stats.requests.add(1);
        stats.last_request_at.set((self.meter.clocks.wall_micros)());
        stats.rate_milli.set((self.meter.rate() * 1000.0).round() as i64);
        fetched
    }

    fn address(&self, chain: &Chain, ask: &Ask) -> Address {
        let mut address =
            Address::new("public_api/v2").segment("pages").segment(&self.page_id).segment("conversations");
        if let Some(kind) = &chain.kind {
            address = address.param("type", kind);
        }
        if !chain.tags.is_empty() {
            address = address.param("tags", &chain.tags.join(","));
        }
        // since and until act on the order_by column: it is always named.
        address = address.param("order_by", chain.order.column());
        if let Some(since) = ask.since {
            address = address.param("since", &since.0.to_string());
        }
        if let Some(until) = ask.until {
            address = address.param("until", &until.0.to_string());
        }
        match &ask.cursor {
            Some(cursor) => address.param("last_conversation_id", cursor),
            None => address,
        }
    }

    fn count(&self, reply: &Reply, repeats: usize, fresh: impl ExactSizeIterator<Item = Micros>) {
        let stats = self.meter.stats;
        let new = fresh.len();
        fresh.for_each(|at| self.tally.saw_row_of(at));
        self.tally.rows.add(new);
        self.tally.repeats.add(repeats);
        self.tally.bytes.add(reply.body.len());
        stats.rows.add(new);
        stats.bytes.add(reply.body.len());
    }

    /// Waits before another attempt. The failure itself where there is none.
    async fn wait_to_retry(&self, failure: Failure, failed_attempts: u32) -> Result<()> {
        let wait = failure.wait(failed_attempts).filter(|_| failed_attempts <= self.server.max_retries);
        if let Again::Throttled(_) = failure.again {
            self.tally.throttled.add(1);
            self.meter.stats.throttled.add(1);
            // Everybody who shares the page's budget waits.
            self.meter.pause(failure.wait(failed_attempts).unwrap_or_default());
        }
        let Some(wait) = wait else {
            let tries = match failed_attempts {
                1 => return Err(failure.error),
                n => format!("It was tried {n} times."),
            };
            return Err(failure.error.also(tries));
        };
        self.tally.retried.add(1);
        self.meter.stats.retries.add(1);
        self.tally.waiting(Waiting::Retry);
        let begun = Instant::now();
        tokio::time::sleep(wait.min(crate::meter::LONGEST_PAUSE)).await;
        self.tally.retry_wait.add(begun.elapsed());
        Ok(())
    }
}
