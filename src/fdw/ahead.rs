//! This module reads ahead for a sync of many pages: the scans of their next steps are begun
//! together, and stay pending over commits until the statement that takes the rows begins the same
//! scan.
//!
//! A step has a number. [`begin`] executes the query that the step reads with, while scans return
//! no rows: each scan is started in the worker thread and kept here. [`ready`] returns a step whose
//! rows have come. From then on a scan that requests the same as a pending one takes it
//! over. A scan that requests anything else starts as usual, so a difference between the two plans
//! costs requests and changes no row.
//!
//! If a long scan by `inserted_at`, which never changes, has returned as many rows as its statement
//! takes, or all that were at hand, it stays pending: the scan of the next step, which begins at
//! the time of the last row, goes on with it (the cursor is used before an anchor). Everything is
//! dropped when the transaction aborts, and at the end of the CALL.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pancake::error::Result;
use pancake::options::table::{ServerOptions, TableOptions};
use pancake::plan::request::RequestPlan;
use pancake::scan::ahead::{ByteLimit, Stage};
use pancake::schema::keyset::Order;
use pancake::secret::Secret;
use pancake::stats::ScanStats;
use pancake::time::Micros;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::spi::Spi;

use crate::fdw::fetch::{Fetch, HEARTBEAT};
use crate::fdw::outcome::IS_CUT;
use crate::fdw::slot::ColumnWriter;
use crate::pg::catalog::{ForeignTable, token};
use crate::pg::report::OrRaise;
use crate::pg::settings;
use crate::pg::worker::Worker;

/// What a scan requests. Two scans with equal requests return the same rows.
#[derive(PartialEq)]
pub struct Request {
    relation: pg_sys::Oid,
    server: ServerOptions,
    table: TableOptions,
    token: Secret,
    plan: RequestPlan,
    columns: Vec<(String, Option<String>)>,
}

impl Request {
    /// Returns whether its rows come in an order that never changes.
    fn is_sorted(&self) -> bool {
        matches!(&self.plan.chains[..], [chain] if self.plan.ordered && chain.order == Order::InsertedAt)
    }

    /// Returns whether its rows are those of `other` that follow the row of this time.
    fn follows(&self, other: &Request, at: Micros) -> bool {
        let mut plan = RequestPlan { limit: self.plan.limit, ..other.plan.clone() };
        plan.chains.iter_mut().for_each(|chain| chain.window.high = Some(at));
        self.is_sorted()
            && plan == self.plan
            && self.relation == other.relation
            && self.server == other.server
            && self.table == other.table
            && self.token == other.token
            && self.columns == other.columns
    }
}

/// A scan that runs while no statement takes its rows.
struct PendingScan {
    step: usize,
    request: Request,
    /// The time of the last row that a statement took, if one did.
    taken_to: Option<Micros>,
    /// It is of the statement that is executed now, and for a later one.
    is_kept: bool,
    fetch: Fetch,
}

impl PendingScan {
    fn serves(&self, request: &Request) -> bool {
        !self.is_kept
            && match self.taken_to {
                Some(at) => request.follows(&self.request, at),
                None => *request == self.request,
            }
    }
}

struct Ahead {
    bytes: ByteLimit,
    /// The role that runs it. Scans in functions of other roles are not affected.
    user: pg_sys::Oid,
    /// The step whose scans are started now.
    begins: Option<usize>,
    /// The step whose statement may take scans over.
    taken: Option<usize>,
    /// Steps whose scans end with their statements.
    ends: HashSet<usize>,
    /// Steps whose scans were started, in that order, and that were not executed.
    waiting: VecDeque<usize>,
    pending: Vec<PendingScan>,
}

impl Default for Ahead {
    fn default() -> Self {
        let (ends, waiting, pending) = Default::default();
        Self {
            user: pg_sys::InvalidOid,
            bytes: ByteLimit::new(0),
            begins: None,
            taken: None,
            ends,
            waiting,
            pending,
        }
    }
}

thread_local! {
    static AHEAD: RefCell<Ahead> = RefCell::default();
}

impl Ahead {
    /// Returns the place of the first step whose rows have all come. If the memory is used up, that
    /// of the step that has most rows.
    fn ready(&self) -> Option<usize> {
        let mut steps: HashMap<usize, (Stage, usize)> = HashMap::new();
        for pending in &self.pending {
            let (stage, bytes) = steps.entry(pending.step).or_insert((Stage::Complete, 0));
            let (reached, waiting) = pending.fetch.ahead();
            *stage = (*stage).min(reached);
            *bytes += waiting;
        }
        let of = |step: &usize| steps.get(step).copied().unwrap_or((Stage::Complete, 0));
        let complete = self.waiting.iter().position(|step| of(step).0 == Stage::Complete);
        complete.or_else(|| {
            let blocked = |step: &usize| matches!(of(step), (Stage::WaitingForMemory, bytes) if bytes > 0);
            let blocked = self.waiting.iter().enumerate().filter(|(_, step)| blocked(step));
            blocked.max_by_key(|(_, step)| of(step).1).map(|(place, _)| place)
        })
    }

    /// Returns the step whose scans are started, and the one that is executed, by the current user.
    fn of_current_user(&self) -> (Option<usize>, Option<usize>) {
        if self.user == current_user() { (self.begins, self.taken) } else { (None, None) }
    }

    /// Drops the scans that the last statement did not take over.
    fn finish_taken(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.pending.retain(|pending| pending.step != taken || pending.is_kept);
            self.pending.iter_mut().for_each(|pending| pending.is_kept = false);
        }
    }

    /// Returns whether the scan of a step goes on for the next one.
    fn goes_on(&self, step: usize, request: &Request) -> bool {
        request.is_sorted() && !self.ends.contains(&step)
    }

    fn add(
        &mut self,
        step: usize,
        request: Request,
        taken_to: Option<Micros>,
        mut fetch: Fetch,
    ) -> Result<()> {
        fetch.read_ahead(self.bytes.clone(), self.goes_on(step, &request))?;
        // Of many threads one line shows how far they are.
        let is_beside =
            |other: &PendingScan| other.step == step && other.request.relation == request.relation;
        if self.pending.iter().any(is_beside) {
            fetch.hide_progress();
        }
        let is_kept = taken_to.is_some();
        self.pending.push(PendingScan { step, request, taken_to, is_kept, fetch });
        Ok(())
    }
}

/// Ends the start of a step's scans. Drops them if an error ended it.
struct BeginGuard(usize);

impl BeginGuard {
    fn new(step: usize) -> Self {
        AHEAD.with_borrow_mut(|ahead| {
            ahead.finish_taken();
            ahead.begins = Some(step);
        });
        Self(step)
    }

    fn complete(self) {
        AHEAD.with_borrow_mut(|ahead| ahead.waiting.push_back(self.0));
    }
}

impl Drop for BeginGuard {
    fn drop(&mut self) {
        AHEAD.with_borrow_mut(|ahead| {
            ahead.begins = None;
            if !ahead.waiting.contains(&self.0) {
                ahead.pending.retain(|pending| pending.step != self.0);
            }
        });
    }
}

fn current_user() -> pg_sys::Oid {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetUserId() }
}

/// Allows scans of the current user to be read ahead, until [`end`].
pub fn open() {
    AHEAD.with_borrow_mut(|ahead| {
        ahead.user = current_user();
        ahead.bytes = ByteLimit::new(settings::sync_memory());
    });
}

/// Drops everything.
pub fn end() {
    // A FATAL error may end the backend in the middle of a change.
    let ahead = AHEAD.with(|ahead| ahead.try_borrow_mut().map(|mut ahead| std::mem::take(&mut *ahead)));
    drop(ahead);
}

/// Starts the scans of a query, for a later statement. Without a query nothing is read ahead for
/// the step. `goes_on`: the step after it may read on where a scan of this one has stopped.
pub fn begin(step: usize, reading: Option<&str>, goes_on: bool) {
    let begun = BeginGuard::new(step);
    AHEAD.with_borrow_mut(|ahead| if goes_on { ahead.ends.remove(&step) } else { ahead.ends.insert(step) });
    let is_started = AHEAD.with_borrow(|ahead| ahead.pending.iter().any(|pending| pending.step == step));
    if let Some(reading) = reading.filter(|_| !is_started) {
        Spi::run(reading).unwrap_or_report();
    }
    begun.complete();
}

/// Waits until the rows of a step are there, and returns it. Returns None if no step waits.
pub fn ready() -> Option<usize> {
    AHEAD.with_borrow_mut(|ahead| {
        ahead.finish_taken();
        // Every step that follows another has been begun.
        let Ahead { waiting, pending, .. } = ahead;
        pending.retain(|pending| waiting.contains(&pending.step));
    });
    loop {
        let (is_over, ready) = AHEAD.with_borrow_mut(|ahead| {
            let ready = ahead.ready().and_then(|place| ahead.waiting.remove(place));
            ahead.taken = ready;
            IS_CUT.store(false, Relaxed);
            (ahead.waiting.is_empty(), ready)
        });
        if ready.is_some() || is_over {
            return ready;
        }
        show();
        let wait = settings::progress_interval().map_or(HEARTBEAT, |every| every.min(HEARTBEAT));
        Worker::get().or_raise().wake_event.wait(wait);
    }
}

/// Shows how far the scans are; by a NOTICE only if there is one scan.
fn show() {
    let one = AHEAD.with_borrow_mut(|ahead| {
        ahead.pending.iter().for_each(|pending| pending.fetch.show_progress());
        if ahead.pending.len() == 1 { ahead.pending.pop() } else { None }
    });
    if let Some(mut one) = one {
        one.fetch.show();
        AHEAD.with_borrow_mut(|ahead| ahead.pending.push(one));
    }
}

/// Ends the scans of a step that is not executed any more.
pub fn abandon(step: usize) {
    AHEAD.with_borrow_mut(|ahead| {
        ahead.waiting.retain(|waiting| *waiting != step);
        ahead.pending.retain(|pending| pending.step != step);
    });
}

/// Starts the scan of a table, or takes over the pending one, and returns it with what it requests
/// if a later scan may go on with it. Returns None if it is started for a later statement.
pub fn start(
    table: &ForeignTable,
    relation: pg_sys::Oid,
    user: pg_sys::Oid,
    plan: RequestPlan,
    writers: &[ColumnWriter],
    tally: &Arc<ScanStats>,
) -> Result<Option<(Fetch, Option<Request>)>> {
    let (begins, taken) = AHEAD.with_borrow(Ahead::of_current_user);
    if begins.is_none() && taken.is_none() {
        return Fetch::start(table, user, plan, writers, tally).map(|fetch| Some((fetch, None)));
    }
    let column = |writer: &ColumnWriter| (writer.column.name.clone(), writer.column.path.clone());
    let request = Request {
        relation,
        server: table.server.clone(),
        table: table.table.clone(),
        token: token(table, user, table.table.page_id.as_deref().unwrap_or_default())?,
        plan: plan.clone(),
        columns: writers.iter().map(column).collect(),
    };
    if let Some(step) = begins {
        // A node that is scanned again has several pending scans, each with its own counters.
        let fetch = Fetch::start(table, user, plan, writers, &Arc::default())?;
        AHEAD.with_borrow_mut(|ahead| ahead.add(step, request, None, fetch))?;
        return Ok(None);
    }
    let pending = AHEAD.with_borrow_mut(|ahead| {
        let of_step =
            |pending: &PendingScan| Some(pending.step) == taken && pending.request.relation == relation;
        let place = ahead.pending.iter().position(|pending| of_step(pending) && pending.serves(&request));
        place.map(|place| ahead.pending.swap_remove(place))
    });
    let Some(pending) = pending else {
        return Fetch::start(table, user, plan, writers, tally).map(|fetch| Some((fetch, None)));
    };
    let goes_on = AHEAD.with_borrow(|ahead| ahead.goes_on(pending.step, &request));
    Ok(Some((pending.fetch.taken_over(goes_on), Some(request).filter(|_| goes_on))))
}

/// Keeps a scan whose statement takes no more rows, so that a later one can go on with it.
pub fn keep(mut fetch: Fetch, request: Request) -> Result<()> {
    fetch.count_requests();
    AHEAD.with_borrow_mut(|ahead| match (ahead.of_current_user().1, fetch.stopped_at()) {
        (Some(step), Some(at)) => {
            let fetch = fetch.goes_on(request.plan.limit);
            ahead.add(step, request, Some(at), fetch)
        }
        _ => Ok(()),
    })
}
