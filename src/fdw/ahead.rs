//! This module reads ahead for a sync of many pages: the scans of their next steps are begun
//! together, and their batches wait here, over commits, until the statement that takes the rows
//! begins the same scan.
//!
//! A step is named by a number. `sync_ahead` executes what it reads while scans return no rows:
//! each is left here, at work. `sync_ready` returns a step whose rows have come; from then on a
//! scan that requests the same as one that was left takes it over. One that requests anything else
//! begins as usual: what was read ahead was read in vain. All is dropped with the transaction that
//! fails.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Once;

use pancake::error::Result;
use pancake::options::table::{ServerOptions, TableOptions};
use pancake::plan::request::RequestPlan;
use pancake::scan::ahead::{Room, Stage};
use pancake::secret::Secret;
use pancake::stats::ScanStats;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::spi::Spi;
use pgrx::{pg_extern, pg_guard, pg_sys};

use crate::fdw::fetch::{Fetch, HEARTBEAT, ReadAhead};
use crate::fdw::slot::ColumnWriter;
use crate::pg::catalog::{ForeignTable, token};
use crate::pg::report::OrRaise;
use crate::pg::worker::Worker;

/// What the rows of all of these scans may take together.
const ROOM: usize = 64 << 20;

/// What a scan requests: two that are equal have the same rows.
#[derive(PartialEq)]
struct Request {
    relation: pg_sys::Oid,
    server: ServerOptions,
    table: TableOptions,
    token: Secret,
    plan: RequestPlan,
    columns: Vec<(String, Option<String>)>,
}

struct Left {
    step: i32,
    request: Request,
    fetch: Fetch,
    ahead: ReadAhead,
}

struct Ahead {
    room: Room,
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
        let (begins, taken) = (None, None);
        Self { room: Room::new(ROOM), begins, taken, waiting: VecDeque::new(), left: Vec::new() }
    }
}

thread_local! {
    static AHEAD: RefCell<Ahead> = RefCell::default();
}

impl Ahead {
    /// The step that was begun first of those whose rows have all come; where there is no room for
    /// more, of those that have some.
    fn ready(&self) -> Option<usize> {
        let is = |step: &i32, wanted: &[Stage]| {
            self.left
                .iter()
                .filter(|left| left.step == *step)
                .all(|left| wanted.contains(&left.ahead.stage()))
        };
        let first = |wanted: &[Stage]| self.waiting.iter().position(|step| is(step, wanted));
        first(&[Stage::Complete]).or_else(|| first(&[Stage::Complete, Stage::WaitingForRoom]))
    }

    fn drop_step(&mut self, step: Option<i32>) {
        self.left.retain(|left| Some(left.step) != step);
    }

    /// The statement that took scans over is done.
    fn finish_taken(&mut self) {
        let taken = self.taken.take();
        self.drop_step(taken);
    }
}

/// A step that is begun. Dropped before it is complete, for an error, it leaves no scans.
struct Begun(i32);

impl Begun {
    fn new(step: i32) -> Self {
        static ONCE: Once = Once::new();
        // SAFETY: the callback lives as long as the library, which is never unloaded.
        ONCE.call_once(|| unsafe { pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut()) });
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
                ahead.drop_step(Some(self.0));
            }
        });
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    if event == pg_sys::XactEvent::XACT_EVENT_ABORT {
        drop(AHEAD.take());
    }
}

/// `pancake.sync_ahead(step, reading)`: begins the scans of a query, and leaves them at work.
/// Without a query there is nothing to be read ahead for the step.
#[pg_extern(sql = false)]
fn pancake_fdw_sync_ahead(step: i32, reading: Option<String>) {
    let begun = Begun::new(step);
    if let Some(reading) = reading {
        Spi::run(&reading).unwrap_or_report();
    }
    begun.complete();
}

/// `pancake.sync_ready()`: the step whose statement is to be executed next, as soon as its rows are
/// there; NULL where no step waits.
#[pg_extern(sql = false)]
fn pancake_fdw_sync_ready() -> Option<i32> {
    AHEAD.with_borrow_mut(Ahead::finish_taken);
    loop {
        let (is_over, ready) = AHEAD.with_borrow_mut(|ahead| {
            let ready = ahead.ready().and_then(|place| ahead.waiting.remove(place));
            ahead.taken = ready;
            ahead.left.iter().for_each(|left| left.fetch.show_progress());
            (ahead.waiting.is_empty(), ready)
        });
        if ready.is_some() || is_over {
            return ready;
        }
        Worker::get().or_raise().wake_event.wait(HEARTBEAT);
    }
}

/// Starts the scan of a table, or takes over the one that was begun before. None where it is begun
/// just now, for a later statement.
pub fn start(
    table: &ForeignTable,
    relation: pg_sys::Oid,
    user: pg_sys::Oid,
    plan: RequestPlan,
    writers: &[ColumnWriter],
    tally: &Arc<ScanStats>,
) -> Result<Option<Fetch>> {
    let (begins, taken) = AHEAD.with_borrow(|ahead| (ahead.begins, ahead.taken));
    if begins.is_none() && taken.is_none() {
        return Fetch::start(table, user, plan, writers, tally).map(Some);
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
        AHEAD.with_borrow_mut(|ahead| {
            let read_ahead = fetch.read_ahead(ahead.room.clone())?;
            ahead.left.push(Left { step, request, fetch, ahead: read_ahead });
            Ok(None)
        })
    } else {
        let left = AHEAD.with_borrow_mut(|ahead| {
            let is_it = |left: &Left| Some(left.step) == taken && left.request == request;
            ahead.left.iter().position(is_it).map(|place| ahead.left.swap_remove(place))
        });
        match left {
            Some(left) => Ok(Some(left.fetch.taken_over())),
            None => Fetch::start(table, user, plan, writers, tally).map(Some),
        }
    }
}
