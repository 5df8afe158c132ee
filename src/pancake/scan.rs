//! One scan: chains are walked one after another, batches are handed out as they are wanted.
//! The walk says what to ask and what a reply proves; the lane, when a request may leave.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::asking::Answer;
use crate::catalogue::Object;
use crate::client::Client;
use crate::decode::{Context, Row, Wanted, spots};
use crate::endpoint::address;
use crate::error::{Error, Kind, Result};
use crate::ledger::{Tally, Waiting};
use crate::merge::Merge;
use crate::meter::PageMeter;
use crate::options::ServerOptions;
use crate::plan::{Chain, Order, RequestPlan};
use crate::reply::Reply;
use crate::secret::Secret;
use crate::time::Micros;
use crate::walk::{self, End, Spot};
use crate::walker::{Ask, Walker};

/// An upper bound on `updated_at` that lies this far in the past cannot be reached by rows that move now, whatever
/// the skew between the clocks.
const SETTLED_SECONDS: i64 = 3600;

/// What a scan needs to run.
pub struct Scan {
    pub server: ServerOptions,
    pub object: Object,
    pub page_id: String,
    pub token: Secret,
    pub plan: RequestPlan,
    /// Rows must come in the order of the chains, newest first.
    pub ordered: bool,
    /// `post_ids` is believed without proof.
    pub trusts_post_ids: bool,
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
    Failed(Error),
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

/// Tells a waiting backend that its scan is gone, should it end without a word.
struct Unheard(Option<Arc<Outlet>>);

impl Drop for Unheard {
    fn drop(&mut self) {
        if let Some(outlet) = self.0.take() {
            let error = Error::new(Kind::NotUnderstood, "the scan broke off inside pancake_fdw");
            outlet.put(Event::Failed(
                error.hint("Please report this, with the lines that the server's log has of it."),
            ));
        }
    }
}

impl Scan {
    /// Runs to the end, or to the first error. Dropping the future stops it wherever it is.
    pub async fn run(self) {
        let mut unheard = Unheard(Some(self.outlet.clone()));
        let event = match self.walk_chains().await {
            Ok(end) => Event::Ended(end),
            Err(error) => {
                self.meter.stats.failed(&error, (self.meter.clocks.wall_micros)());
                Event::Failed(error.without(&self.token))
            }
        };
        self.tally.waiting(Waiting::Nothing);
        unheard.0 = None;
        self.outlet.put(event);
    }

    async fn walk_chains(&self) -> Result<Option<End>> {
        self.next_is_wanted().await;
        let plan = match self.plan.filters_posts() && !self.post_ids_filter().await? {
            true => &self.plan.clone().without_posts(),
            false => &self.plan,
        };
        let mut merge = Merge::new(plan, self.ordered, |chain| self.walker(chain));
        while let Some(next) = merge.hungry() {
            let (chain, walk) = merge.at(next);
            if let Some(ask) = walk.ask() {
                let rows = self.ask(chain, walk, &ask).await?;
                merge.feed(next, rows);
            }
            let rows = merge.ready()?;
            if !rows.is_empty() {
                self.outlet.put(Event::Batch(rows));
                self.next_is_wanted().await;
            }
        }
        Ok(merge.end())
    }

    async fn next_is_wanted(&self) {
        self.tally.waiting(Waiting::Consumer);
        self.outlet.wanted().await;
    }

    pub(crate) fn walker(&self, chain: &Chain) -> Walker {
        Walker::new(self.object, chain, self.may_move(chain))
    }

    /// Whether rows may move into the chain's window while it is walked.
    fn may_move(&self, chain: &Chain) -> bool {
        let settled = Micros((self.meter.clocks.wall_micros)()).minus_seconds(SETTLED_SECONDS);
        // In the server's order each batch is as of its own request: a row that moved up has had its turn.
        chain.order == Order::UpdatedAt
            && !self.ordered
            && chain.window.high.is_none_or(|high| high > settled)
    }

    /// Whether `post_ids` does on this page what its name says, which no document settles: as somebody found out
    /// within the last day, or by trying it on a post of the newest comments.
    async fn post_ids_filter(&self) -> Result<bool> {
        if self.trusts_post_ids {
            return Ok(true);
        }
        let known = match self.meter.post_ids_filter() {
            Some(known) => known,
            None => {
                let found = self.try_post_ids().await?;
                self.meter.remember_post_ids(found);
                found
            }
        };
        self.tally.post_ids_refused.set(u64::from(!known));
        Ok(known)
    }

    /// The rows of the post must come back, and no others.
    async fn try_post_ids(&self) -> Result<bool> {
        let all = Chain::whole(Order::InsertedAt);
        let comments = self.head(&Chain { kind: Some("COMMENT".to_owned()), ..all.clone() }).await?;
        let Some(post_id) = comments.iter().find_map(|(_, post)| post.clone()) else { return Ok(false) };
        let of_post = self.head(&Chain { post_id: Some(post_id.clone()), ..all }).await?;
        let mine = |(_, post): &&(Spot, Option<String>)| post.as_ref() == Some(&post_id);
        let Some((oldest, _)) = of_post.last() else { return Ok(false) };
        let mut expected = comments.iter().filter(mine).filter(|(spot, _)| spot.at > oldest.at);
        let came = |(spot, _): &(Spot, Option<String>)| of_post.iter().any(|(other, _)| other.id == spot.id);
        Ok(of_post.iter().all(|row| mine(&row)) && expected.all(came))
    }

    /// The newest rows of a chain with their posts; none where the server does not take the question.
    async fn head(&self, chain: &Chain) -> Result<Vec<(Spot, Option<String>)>> {
        let ask = Ask::Cursor(walk::Ask { cursor: None, since: None, until: None });
        let address = address(self.object, &self.page_id, chain, &ask);
        let take = |answer: Answer| match answer {
            Answer::Suspect => Ok(Some(Vec::new())),
            Answer::Rows(_, listed) => {
                let served = spots(self.object, &listed.rows, chain.order)?;
                Ok(Some(served.into_iter().map(|row| (row.spot.clone(), row.post_id())).collect()))
            }
        };
        self.answer(&address, take).await
    }

    /// Asks until there is a reply, and takes it into the walk.
    pub(crate) async fn ask(&self, chain: &Chain, walk: &mut Walker, ask: &Ask) -> Result<Vec<Row>> {
        let take = |answer: Answer| match answer {
            Answer::Suspect => Ok(walk.lost()?.then(Vec::new)),
            Answer::Rows(reply, listed) => {
                let served = spots(self.object, &listed.rows, chain.order)?;
                let spots: Vec<_> = served.iter().map(|row| row.spot.clone()).collect();
                let fresh = walk.reply(&spots, listed.total)?;
                let is_known = |i: usize, spot: &Spot| !fresh.contains(&i) && chain.window.holds(spot.at);
                let known = spots.iter().enumerate().filter(|(i, spot)| is_known(*i, spot)).count();
                // The row that must come back is no repeat.
                let repeats = known.saturating_sub(usize::from(ask.overlaps()));
                self.count(reply, repeats, fresh.len());
                if chain.order != Order::Served {
                    fresh.iter().for_each(|i| self.tally.saw_row_of(spots[*i].at));
                }
                let context = self.context(chain);
                let rows = fresh.iter().map(|i| served[*i].cells(&self.wanted, &context));
                rows.collect::<Result<_>>().map(Some)
            }
        };
        self.answer(&address(self.object, &self.page_id, chain, ask), take).await
    }

    pub(crate) fn context<'a>(&'a self, chain: &'a Chain) -> Context<'a> {
        Context { page_id: &self.page_id, conversation_id: chain.conversation_id.as_deref() }
    }

    fn count(&self, reply: &Reply, repeats: usize, new: usize) {
        let stats = self.meter.stats;
        self.tally.rows.add(new);
        self.tally.repeats.add(repeats);
        self.tally.bytes.add(reply.body.len());
        stats.rows.add(new);
        stats.bytes.add(reply.body.len());
    }
}
