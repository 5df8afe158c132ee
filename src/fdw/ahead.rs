//! This module reads ahead for a sync of many pages: the scans of their next steps are begun
//! together, and their batches wait here, over commits, until the statement that takes the rows
//! begins the same scan.
//!
//! A step is named by a number. `sync_ahead` executes what it reads while scans return no rows:
//! each is left here, at work. `sync_ready` returns a step whose rows have come; from then on a
//! scan that requests the same as one that was left takes it over. One that requests anything else
//! begins as usual: what was read ahead was read in vain.
//!
//! Where a long scan by `inserted_at`, which never changes, has given a statement as many rows as
//! it wanted, or all that were at hand, it stays at work: the next step's scan, which begins at the
//! time of its last row, goes on with it. All is dropped with the transaction that fails, and with
//! the one that ends the statement.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::Ordering::Relaxed;

use pancake::error::{Error, Kind, Result};
use pancake::options::table::{ServerOptions, TableOptions};
use pancake::plan::request::RequestPlan;
use pancake::scan::ahead::{Room, Stage};
use pancake::schema::keyset::Order;
use pancake::secret::Secret;
use pancake::stats::ScanStats;
use pancake::time::Micros;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::spi::Spi;
use pgrx::{pg_extern, pg_guard, pg_sys};

use crate::fdw::fetch::{Fetch, HEARTBEAT, IS_CUT};
use crate::fdw::slot::ColumnWriter;
use crate::pg::catalog::{ForeignTable, token};
use crate::pg::report::OrRaise;
use crate::pg::settings;
use crate::pg::worker::Worker;

/// What the rows of all of these scans may take together.
const ROOM: usize = 44 << 20;

/// What a scan requests: two that are equal have the same rows.
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
    /// Its rows have an order that never changes.
    fn is_sorted(&self) -> bool {
        matches!(&self.plan.chains[..], [chain] if self.plan.ordered && chain.order == Order::InsertedAt)
    }

    /// Whether its rows are those of another request that follow the row of this time.
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

/// A scan that no statement takes rows of just now.
struct Left {
    step: i32,
    request: Request,
    /// The time of the last row that a statement took, if one did.
    taken_to: Option<Micros>,
    /// By the statement that is executed now.
    is_kept: bool,
    fetch: Fetch,
}

impl Left {
    fn serves(&self, request: &Request) -> bool {
        !self.is_kept
            && match self.taken_to {
                Some(at) => request.follows(&self.request, at),
                None => *request == self.request,
            }
    }
}

struct Ahead {
    /// The statement is a CALL of `pancake.sync`.
    is_in_sync: bool,
    room: Room,
    /// Who runs it: code of other roles, in functions that it reaches, is none of its scans.
    user: pg_sys::Oid,
    /// The step that is begun just now.
    begins: Option<i32>,
    /// The step whose statement may take scans over.
    taken: Option<i32>,
    /// Steps that were begun, in that order, and not taken.
    waiting: VecDeque<i32>,
    left: Vec<Left>,
}

impl Default for Ahead {
    fn default() -> Self {
        let (waiting, left) = Default::default();
        Self {
            is_in_sync: false,
            user: pg_sys::InvalidOid,
            room: Room::new(ROOM),
            begins: None,
            taken: None,
            waiting,
            left,
        }
    }
}

thread_local! {
    static AHEAD: RefCell<Ahead> = RefCell::default();
}

impl Ahead {
    /// The place of the step that was begun first of those whose rows have all come. Where there is
    /// no room for more, of the one that has most.
    fn ready(&self) -> Option<usize> {
        let mut steps: HashMap<i32, (Stage, usize)> = HashMap::new();
        for left in &self.left {
            let (stage, bytes) = steps.entry(left.step).or_insert((Stage::Complete, 0));
            let (reached, waiting) = left.fetch.ahead();
            *stage = (*stage).min(reached);
            *bytes += waiting;
        }
        let of = |step: &i32| steps.get(step).copied().unwrap_or((Stage::Complete, 0));
        let complete = self.waiting.iter().position(|step| of(step).0 == Stage::Complete);
        complete.or_else(|| {
            let blocked = |step: &i32| matches!(of(step), (Stage::WaitingForRoom, bytes) if bytes > 0);
            let blocked = self.waiting.iter().enumerate().filter(|(_, step)| blocked(step));
            blocked.max_by_key(|(_, step)| of(step).1).map(|(place, _)| place)
        })
    }

    /// The step that is begun, and the one that is executed, by the current user.
    fn of_current_user(&self) -> (Option<i32>, Option<i32>) {
        if self.user == current_user() { (self.begins, self.taken) } else { (None, None) }
    }

    /// The statement that took scans over is done: what it did not take was read in vain.
    fn finish_taken(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.left.retain(|left| left.step != taken || left.is_kept);
            self.left.iter_mut().for_each(|left| left.is_kept = false);
        }
    }

    fn leave(
        &mut self,
        step: i32,
        request: Request,
        taken_to: Option<Micros>,
        mut fetch: Fetch,
    ) -> Result<()> {
        fetch.read_ahead(self.room.clone(), request.is_sorted())?;
        let is_kept = taken_to.is_some();
        self.left.push(Left { step, request, taken_to, is_kept, fetch });
        Ok(())
    }
}

/// A step that is begun. Dropped before it is complete, for an error, it leaves no scans.
struct Begun(i32);

impl Begun {
    fn new(step: i32) -> Self {
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

impl Drop for Begun {
    fn drop(&mut self) {
        AHEAD.with_borrow_mut(|ahead| {
            ahead.begins = None;
            if !ahead.waiting.contains(&self.0) {
                ahead.left.retain(|left| left.step != self.0);
            }
        });
    }
}

fn current_user() -> pg_sys::Oid {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetUserId() }
}

#[pg_guard]
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT};
    // SAFETY: looks at a variable of the backend. A procedure commits from within SPI.
    let is_over = event == XACT_EVENT_ABORT
        || (event == XACT_EVENT_COMMIT && unsafe { !pg_sys::SPI_inside_nonatomic_context() });
    if is_over {
        // A FATAL error may end the backend in the middle of a change.
        let ahead = AHEAD.with(|ahead| ahead.try_borrow_mut().map(|mut ahead| std::mem::take(&mut *ahead)));
        drop(ahead);
    }
}

/// `pancake.sync_may_commit()`: whether the procedure that asks may commit, as core will judge when
/// it does. False in a transaction block, in a string of several statements, in a function, in an
/// EXCEPTION block. If so, it may read ahead.
#[pg_extern(sql = false)]
fn pancake_fdw_may_commit() -> bool {
    static ONCE: Once = Once::new();
    // SAFETY: the callback lives as long as the library, which is never unloaded.
    ONCE.call_once(|| unsafe { pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut()) });
    // SAFETY: both look at variables of the backend.
    let may_commit = unsafe { pg_sys::SPI_inside_nonatomic_context() && !pg_sys::IsTransactionBlock() };
    AHEAD.with_borrow_mut(|ahead| (ahead.is_in_sync, ahead.user) = (may_commit, current_user()));
    may_commit
}

/// `pancake.sync_ahead(step, reading)`: begins the scans of a query, and leaves them at work.
/// Without a query there is nothing to be read ahead for the step.
#[pg_extern(sql = false)]
fn pancake_fdw_sync_ahead(step: i32, reading: Option<String>) {
    if !AHEAD.with_borrow(|ahead| ahead.is_in_sync && ahead.user == current_user()) {
        Err(Error::new(Kind::NotPermitted, "rows are read ahead in pancake.sync alone")).or_raise()
    }
    let begun = Begun::new(step);
    let is_at_work = AHEAD.with_borrow(|ahead| ahead.left.iter().any(|left| left.step == step));
    if let Some(reading) = reading.filter(|_| !is_at_work) {
        Spi::run(&reading).unwrap_or_report();
    }
    begun.complete();
}

/// `pancake.sync_ready()`: the step whose statement is to be executed next, as soon as its rows are
/// there; NULL where no step waits.
#[pg_extern(sql = false)]
fn pancake_fdw_sync_ready() -> Option<i32> {
    AHEAD.with_borrow_mut(|ahead| {
        ahead.finish_taken();
        // Every step that follows another has been begun.
        let Ahead { waiting, left, .. } = ahead;
        left.retain(|left| waiting.contains(&left.step));
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

/// Shows how far the scans are; by a NOTICE only where there is one.
fn show() {
    let one = AHEAD.with_borrow_mut(|ahead| {
        ahead.left.iter().for_each(|left| left.fetch.show_progress());
        if ahead.left.len() == 1 { ahead.left.pop() } else { None }
    });
    if let Some(mut one) = one {
        one.fetch.show();
        AHEAD.with_borrow_mut(|ahead| ahead.left.push(one));
    }
}

/// `pancake.sync_abandon(step)`: ends the scans of a step that is not executed any more.
#[pg_extern(sql = false)]
fn pancake_fdw_sync_abandon(step: i32) {
    AHEAD.with_borrow_mut(|ahead| {
        ahead.waiting.retain(|waiting| *waiting != step);
        ahead.left.retain(|left| left.step != step);
    });
}

/// Starts the scan of a table, or takes over the one that was begun before, with what it requests
/// if a later scan may go on with it. None where it is begun just now, for a later statement.
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
        let fetch = Fetch::start(table, user, plan, writers, tally)?;
        AHEAD.with_borrow_mut(|ahead| ahead.leave(step, request, None, fetch))?;
        return Ok(None);
    }
    let left = AHEAD.with_borrow_mut(|ahead| {
        let of_step = |left: &Left| Some(left.step) == taken && left.request.relation == relation;
        let place = ahead.left.iter().position(|left| of_step(left) && left.serves(&request));
        let found = place.map(|place| ahead.left.swap_remove(place));
        ahead.left.retain(|left| !of_step(left));
        found
    });
    let Some(left) = left else {
        return Fetch::start(table, user, plan, writers, tally).map(|fetch| Some((fetch, None)));
    };
    let is_sorted = request.is_sorted();
    Ok(Some((left.fetch.taken_over(is_sorted), Some(request).filter(|_| is_sorted))))
}

/// A statement wants no more rows of a scan: a later one may go on with it.
pub fn keep(mut fetch: Fetch, request: Request) -> Result<()> {
    fetch.count_requests();
    AHEAD.with_borrow_mut(|ahead| match (ahead.of_current_user().1, fetch.stopped_at()) {
        (Some(step), Some(at)) => {
            let fetch = fetch.goes_on(request.plan.limit);
            ahead.leave(step, request, Some(at), fetch)
        }
        _ => Ok(()),
    })
}
