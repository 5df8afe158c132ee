//! This module runs one scan: it sends the requests of the union of chains, as fast as the rate
//! limit and the backend allow, and hands out batches. Which request comes next is in
//! [`crate::scan::merge`], when it may leave in [`crate::http::connection`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::error::Result;
use crate::http::client::Ready;
use crate::http::endpoint::address;
use crate::memory;
use crate::paging::cursor::{End, FULL_BATCH};
use crate::plan::request::{Chain, RequestPlan};
use crate::reply::decode::{Row, WantedCell, spots};
use crate::reply::envelope::{Reply, RowList};
use crate::scan::merge::{Question, Union};
use crate::scan::queue::{BatchQueue, Demand, EndGuard, Event};
use crate::scan::session::Session;
use crate::schema::column::Context;
use crate::schema::keyset::{Order, RowKey};
use crate::stats::Waiting;
use crate::time::Micros;

/// An upper bound on `updated_at` that lies this far in the past cannot be reached by rows that
/// move now, whatever the skew between the clocks.
const SETTLED_SECONDS: i64 = 3600;

/// A reply that comes as soon as this is worth waiting for: at such a latency one request after the
/// other is enough.
const SOON: Duration = Duration::from_millis(5);

/// What a scan needs to run.
pub struct Scan {
    pub session: Session,
    pub plan: RequestPlan,
    /// `post_ids` is believed without proof.
    pub trusts_post_ids: bool,
    pub wanted: Vec<WantedCell>,
    pub queue: Arc<BatchQueue>,
}

impl Scan {
    /// Runs to the end, or to the first error. Dropping the future stops it wherever it is.
    pub async fn run(self) {
        let mut guard = EndGuard(Some(self.queue.clone()));
        let event = match self.walk().await {
            Ok(end) => Event::Ended(end),
            Err(error) => {
                self.session.limiter.stats.failed(&error, (self.session.limiter.clocks.wall_micros)());
                Event::Failed(self.session.token.hide_in(error))
            }
        };
        self.session.tally.waiting(Waiting::Nothing);
        guard.0 = None;
        self.queue.put(event);
    }

    async fn walk(&self) -> Result<Option<End>> {
        let mut wanted = self.queue.wanted();
        self.session.tally.waiting(Waiting::Consumer);
        if wanted.wait_for(|wanted| wanted.batches > 0).await.is_err() {
            return Ok(None);
        }
        let mut plan = self.plan.clone();
        if plan.filters_posts() && !self.session.post_ids_filter(self.trusts_post_ids).await? {
            plan = plan.without_posts();
        }
        let order =
            |plan: &RequestPlan| plan.chains.first().map_or(self.session.object.order(), |chain| chain.order);
        if !self.session.known(order(&plan)).ends_by_time {
            plan = plan.to_the_end();
        }
        let known = self.session.known_to_try(order(&plan));
        let union = Mutex::new(Union::new(self.session.object, &plan, self.may_move(&plan), known));
        let mut asked = FuturesUnordered::new();
        let (mut put, mut answered) = (0, 0);
        let (mut turn, mut left) = (None, Instant::now());
        loop {
            put += self.hand_out(&union)?;
            if lock(&union).is_over() {
                return Ok(lock(&union).end());
            }
            let demand = *wanted.borrow_and_update();
            lock(&union).limit_to(plan.limit.map(|limit| limit.saturating_add(demand.rows_above_limit)));
            let soon = asked.is_empty() || left.elapsed() >= SOON;
            let needed =
                put < demand.batches && asked.len() < self.width(u64::MAX) && lock(&union).has_next(false);
            let ahead = !needed;
            let next = needed
                || (soon && self.has_room(demand, put, answered, asked.len()) && lock(&union).has_next(true));
            if !next {
                turn = None;
            }
            if !next && asked.is_empty() {
                self.session.tally.waiting(Waiting::Consumer);
            }
            tokio::select! {
                Some(reply) = asked.next(), if !asked.is_empty() => {
                    reply?;
                    answered += 1;
                    self.session.tally.ahead.at_least(lock(&union).waiting() + self.queue.waiting());
                }
                // The request is chosen when it may leave, because a reply that came meanwhile may
                // change the choice.
                ready = turn.get_or_insert_with(|| Box::pin(self.session.ready())), if next => {
                    (turn, left) = (None, Instant::now());
                    if let Some(question) = lock(&union).next(ahead) {
                        asked.push(self.session.ask(&union, question, Some(ready), &self.wanted));
                    }
                }
                () = tokio::time::sleep_until(left + SOON), if !soon => {}
                changed = wanted.changed() => if changed.is_err() { return Ok(None) },
            }
        }
    }

    /// How many requests may be on their way, as the scan proves long: a backend that needs all
    /// rows has shown so by the first batch that it takes; any other may be content with two, and
    /// from then on the number grows with each, 2, 8, 32.
    fn width(&self, wanted: u64) -> usize {
        let taken = wanted.saturating_sub(1).min(8);
        let grown = 1_usize << if self.plan.whole { 3 * taken } else { (2 * taken).saturating_sub(3) };
        grown.min(self.session.server.max_concurrency as usize)
    }

    /// Whether one more request may be on its way ahead of what is wanted. Replies that brought no
    /// rows make a scan as long as batches that were taken.
    fn has_room(&self, wanted: Demand, put: u64, answered: u64, asked: usize) -> bool {
        let width = self.width(wanted.batches + answered.saturating_sub(put));
        !wanted.no_more && asked < width && put + (asked as u64) < wanted.batches + width as u64 - 1
    }

    /// Puts the batches into the queue that can be handed out, and returns how many.
    fn hand_out(&self, union: &Mutex<Union>) -> Result<u64> {
        let ready = lock(union).ready()?;
        self.queue.set_unsorted(lock(union).waiting_bytes());
        let mut put = 0;
        for batch in batches(ready) {
            self.queue.put(Event::Batch(batch));
            put += 1;
        }
        Ok(put)
    }

    /// Whether rows may move into the window while it is walked.
    fn may_move(&self, plan: &RequestPlan) -> bool {
        let settled = Micros((self.session.limiter.clocks.wall_micros)()).minus_seconds(SETTLED_SECONDS);
        // In the server's order each batch is as of its own request: a row that moved up has had
        // its turn.
        let moves = |chain: &Chain| {
            chain.order == Order::UpdatedAt && chain.window.high.is_none_or(|high| high > settled)
        };
        !plan.ordered && plan.chains.iter().any(moves)
    }
}

impl Session {
    /// Lets all sessions know what the walks have shown.
    fn remember(&self, union: &Mutex<Union>, order: Order) {
        let now = self.now(None);
        let found = lock(union).findings();
        if let Some(window) = found.window {
            self.limiter.verdicts.saw(self.object, order, window, now);
        }
        if found.is_loose {
            self.limiter.verdicts.saw_disorder(self.object, order, now);
        }
        if found.has_low_row {
            self.limiter.verdicts.saw_low_row(self.object, order, now);
        }
    }

    /// Asks until there is a reply, and takes it into the union. A refusal that may be due to the
    /// form of the request is taken in as well, where the walk has another form.
    pub(crate) async fn ask(
        &self,
        union: &Mutex<Union>,
        question: Question,
        ready: Option<Ready>,
        wanted: &[WantedCell],
    ) -> Result<()> {
        let Question { asker, chain, ask } = &question;
        let address = address(self.object, &self.page_id, chain, ask);
        let mut sending = self.sending(&address, ready);
        let taken = loop {
            let reply = match sending.reply().await {
                Ok(reply) => reply,
                Err(_) if lock(union).does_without(*asker) => return Ok(()),
                Err(error) => break Err(error),
            };
            let failure = match reply.rows(self.object) {
                Ok(listed) => {
                    break sending.take(&reply, self.take(union, &question, &reply, &listed, wanted));
                }
                Err(failure) => failure,
            };
            if lock(union).does_without(*asker) {
                return Ok(());
            }
            if failure.may_be_form && !sending.may_pass(&failure) {
                let has_other_form = lock(union).lost(*asker, failure.names_times);
                self.remember(union, chain.order);
                if has_other_form {
                    return Ok(());
                }
            }
            if let Err(error) = sending.pause_before_retry(failure).await {
                break Err(error);
            }
        };
        // Of a hundred conversations that a query names, which one it was.
        taken.map_err(|error| match &chain.conversation_id {
            Some(id) => error.of_conversation(id),
            None => error,
        })
    }

    /// Takes the rows of a reply into the union.
    fn take(
        &self,
        union: &Mutex<Union>,
        question: &Question,
        reply: &Reply,
        listed: &RowList,
        wanted: &[WantedCell],
    ) -> Result<()> {
        let Question { asker, chain, ask } = question;
        let served = spots(self.object, &listed.rows, chain.order)?;
        let spots: Vec<_> = served.iter().map(|row| row.spot.clone()).collect();
        let now = self.now(reply.date);
        self.tally.replied_at.set(now.0);
        let fresh = lock(union).reply(*asker, &spots, listed.total, now);
        self.remember(union, chain.order);
        let fresh = fresh?;
        let is_known = |i: usize, spot: &RowKey| !fresh.contains(&i) && chain.window.holds(spot.at);
        let known = spots.iter().enumerate().filter(|(i, spot)| is_known(*i, spot)).count();
        // The row that must come back is no repeat.
        let repeats = known.saturating_sub(usize::from(ask.overlaps()));
        self.count(reply, repeats, fresh.len());
        if chain.order != Order::Served {
            fresh.iter().for_each(|i| self.tally.saw_row_of(spots[*i].at));
        }
        let context = self.context(chain);
        memory::probe_decoding(reply.body.len(), wanted.len())?;
        let rows = fresh.iter().map(|i| served[*i].cells(wanted, &context));
        lock(union).feed(*asker, rows.collect::<Result<_>>()?);
        Ok(())
    }

    pub(crate) fn context<'a>(&'a self, chain: &'a Chain) -> Context<'a> {
        Context { page_id: &self.page_id, conversation_id: chain.conversation_id.as_deref() }
    }

    fn count(&self, reply: &Reply, repeats: usize, new: usize) {
        let stats = self.limiter.stats;
        self.tally.rows.add(new);
        self.tally.repeats.add(repeats);
        self.tally.bytes.add(reply.body.len());
        stats.rows.add(new);
        stats.bytes.add(reply.body.len());
    }
}

pub(crate) fn lock(union: &Mutex<Union>) -> MutexGuard<'_, Union> {
    union.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows in pieces of a batch at most.
fn batches(rows: Vec<Row>) -> impl Iterator<Item = Vec<Row>> {
    let mut rows = rows.into_iter();
    std::iter::from_fn(move || {
        let batch: Vec<_> = rows.by_ref().take(FULL_BATCH).collect();
        (!batch.is_empty()).then_some(batch)
    })
}
