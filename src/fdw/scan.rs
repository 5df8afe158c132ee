//! Running a foreign scan: begin, rows one by one, again, end. Batches come from the worker thread as they are
//! wanted; nothing is asked before the first row is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pancake::decode::{Row, Source, Wanted};
use pancake::error::{Error, Kind, Result};
use pancake::filter::Filterable;
use pancake::ledger::{Tally, Waiting};
use pancake::plan::{RequestPlan, bind};
use pancake::scan::{Event, Outlet, Scan};
use pancake::walk::End;
use pgrx::{PgMemoryContexts, pg_guard, pg_sys};

use crate::fdw::bound::{Operands, in_this_zone};
use crate::fdw::envelope::Envelope;
use crate::fdw::slot::Filler;
use crate::pg::catalog::{self, ForeignTable};
use crate::pg::report::{OrRaise, notice};
use crate::pg::shared::{Progress, shared};
use crate::pg::wait::Bell;
use crate::pg::worker::{Running, Worker};
use crate::pg::{compat, settings};

/// How often a waiting backend shows how far it is.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A result up to this size is kept for a rescan with the same parameters: a few megabytes at most.
const KEPT_ROWS: usize = 1_000;

/// A foreign scan from Begin to End.
pub struct ScanState {
    table: ForeignTable,
    page_id: String,
    user: pg_sys::Oid,
    envelope: Envelope,
    operands: Operands,
    fillers: Vec<Filler>,
    /// Holds the datums of one batch. A child of the query's memory, which deletes it.
    batch_memory: PgMemoryContexts,
    fetch: Option<Fetch>,
    /// The rows of a small result, where the plan may want them again; None where it does not, or they are many.
    kept: Option<Vec<Row>>,
    /// The next of the kept rows to hand out again.
    again: Option<usize>,
    pub tally: Arc<Tally>,
    pub stopped: Stopped,
}

/// Why a scan asks for nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Nobody wanted another row.
    EnoughRows,
    NeverStarted,
    NothingCanMatch,
    Ended(End),
}

/// A walk that runs, and the batch that is being handed out.
struct Fetch {
    outlet: Arc<Outlet>,
    bell: Bell,
    _running: Option<Running>,
    rows: std::vec::IntoIter<Row>,
    batches: usize,
    batch_size: usize,
    received: u64,
    /// Another batch has been ordered and has not come yet.
    ordered: bool,
    progress: Option<&'static Progress>,
    last_notice: Instant,
    started: Instant,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some(progress) = self.progress {
            progress.release();
        }
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn begin_foreign_scan(node: *mut pg_sys::ForeignScanState, flags: i32) {
    if flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 != 0 {
        return;
    }
    let may_rewind = flags & pg_sys::EXEC_FLAG_REWIND as i32 != 0;
    let state = ScanState::begin(node, may_rewind).or_raise();
    // SAFETY: Postgres's own node; the state is dropped with the query's memory, also when End is skipped by an error.
    unsafe {
        let memory = (*(*node).ss.ps.state).es_query_cxt;
        (*node).fdw_state = PgMemoryContexts::For(memory).leak_and_drop_on_delete(state).cast();
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn iterate_foreign_scan(
    node: *mut pg_sys::ForeignScanState,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: Begin set the state and the slot, and nobody else holds them.
    let (state, slot) = unsafe { (&mut *(*node).fdw_state.cast::<ScanState>(), (*node).ss.ss_ScanTupleSlot) };
    state.next(node, slot).or_raise();
    slot
}

#[pg_guard]
pub unsafe extern "C-unwind" fn rescan_foreign_scan(node: *mut pg_sys::ForeignScanState) {
    // SAFETY: Begin set the state; the node knows whether its parameters have changed.
    let (state, changed) =
        unsafe { (&mut *(*node).fdw_state.cast::<ScanState>(), !(*node).ss.ps.chgParam.is_null()) };
    state.rescan(changed);
}

#[pg_guard]
pub unsafe extern "C-unwind" fn end_foreign_scan(node: *mut pg_sys::ForeignScanState) {
    // SAFETY: null after EXPLAIN without ANALYZE, else what Begin set.
    if let Some(state) = unsafe { (*node).fdw_state.cast::<ScanState>().as_mut() } {
        state.fetch = None;
    }
}

impl ScanState {
    fn begin(node: *mut pg_sys::ForeignScanState, may_rewind: bool) -> Result<Self> {
        // SAFETY: Postgres's own node, its plan and its relation, alive until End.
        let (plan, relation, estate) = unsafe {
            let plan = &*(*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
            (plan, (*(*node).ss.ss_currentRelation).rd_id, (*node).ss.ps.state)
        };
        let table = ForeignTable::read(relation)?;
        catalog::must_be_utf8()?;
        let envelope = Envelope::unpack(plan.fdw_private).ok_or_else(|| {
            Error::new(Kind::NotUnderstood, "the plan was made by another release of pancake_fdw")
        })?;
        let declared = table.columns.iter().filter(|column| envelope.columns.contains(&column.number));
        Ok(Self {
            page_id: table.table.page_id.clone().unwrap_or_default(),
            user: compat::scan_user(plan, estate),
            operands: Operands::prepare(node),
            fillers: declared.cloned().map(Filler::new).collect(),
            batch_memory: batch_memory(estate),
            fetch: None,
            kept: may_rewind.then(Vec::new),
            again: None,
            tally: Arc::default(),
            stopped: Stopped::NeverStarted,
            envelope,
            table,
        })
    }

    /// With new parameters a read of its own: operands are evaluated anew at the next row. With the same ones, a
    /// small result that was read to its end is handed out again.
    fn rescan(&mut self, changed: bool) {
        let finished = matches!(self.stopped, Stopped::Ended(_) | Stopped::NothingCanMatch);
        self.fetch = None;
        if changed || !finished || self.kept.is_none() {
            self.again = None;
            self.kept = self.kept.take().map(|_| Vec::new());
        } else {
            self.again = Some(0);
        }
    }

    /// Puts the next row into the slot; leaves it empty at the end.
    fn next(&mut self, node: *mut pg_sys::ForeignScanState, slot: *mut pg_sys::TupleTableSlot) -> Result<()> {
        // SAFETY: the node's own slot.
        unsafe { pg_sys::ExecClearTuple(slot) };
        if let (Some(next), Some(kept)) = (self.again, self.kept.take_if(|_| self.again.is_some())) {
            if next == 0 {
                // SAFETY: the slot is clear: nobody uses the datums of the run before.
                unsafe { pg_sys::MemoryContextReset(self.batch_memory.value()) };
            }
            let filled = kept.get(next).map_or(Ok(()), |row| self.fill(slot, row));
            (self.again, self.kept) = (Some(next + 1), Some(kept));
            return filled;
        }
        if self.fetch.is_none() {
            self.fetch = Some(self.start(node)?);
        }
        let Some(row) = self.next_row()? else { return Ok(()) };
        self.fill(slot, &row)?;
        self.kept = self.kept.take().filter(|kept| kept.len() < KEPT_ROWS);
        if let Some(kept) = &mut self.kept {
            kept.push(row);
        }
        Ok(())
    }

    /// Evaluates the operands, binds them into chains, and sets the worker to walk them.
    fn start(&mut self, node: *mut pg_sys::ForeignScanState) -> Result<Fetch> {
        let operands = self.operands.evaluate(node, &self.envelope.filters);
        let filters = in_this_zone(&self.envelope.filters);
        let plan = bind(&filters, self.envelope.order, &operands, &self.page_id);
        let bell = Bell::new()?;
        let ring = bell.clone();
        let outlet = Outlet::new(Box::new(move || ring.ring()));
        let mut fetch = Fetch {
            outlet: outlet.clone(),
            bell,
            _running: None,
            rows: Vec::new().into_iter(),
            batches: 0,
            batch_size: 0,
            received: 0,
            ordered: false,
            progress: None,
            last_notice: Instant::now(),
            started: Instant::now(),
        };
        if plan.chains.is_empty() {
            self.stopped = Stopped::NothingCanMatch;
            return Ok(fetch);
        }
        self.stopped = Stopped::EnoughRows;
        fetch.progress = self.show_progress(shared()?.scans);
        let wanted = wanted(&self.table, &self.fillers)?;
        let (ordered, tally) = (self.envelope.ordered, self.tally.clone());
        let scan = prepare(&self.table, self.user, plan, ordered, wanted, tally, outlet)?;
        fetch._running = Some(Worker::get()?.spawn(scan.run()));
        Ok(fetch)
    }

    fn show_progress(&self, slots: &'static [Progress]) -> Option<&'static Progress> {
        // SAFETY: a variable of this backend, and a look-up in shared memory.
        let alive = |pid: u64| unsafe { !pg_sys::BackendPidGetProc(pid as i32).is_null() };
        let progress = Progress::claim(slots, u64::from(std::process::id()), alive)?;
        // SAFETY: variables of this backend.
        let (database, role) = unsafe { (pg_sys::MyDatabaseId, pg_sys::GetUserId()) };
        progress.database.set(u64::from(database.to_u32()));
        progress.role.set(u64::from(role.to_u32()));
        progress.object.write(self.table.table.object.name());
        progress.page_id.write(&self.page_id);
        progress.started_at.set((crate::pg::shared::CLOCKS.wall_micros)());
        progress.show(&self.tally);
        Some(progress)
    }

    fn next_row(&mut self) -> Result<Option<Row>> {
        let Some(fetch) = &mut self.fetch else { return Ok(None) };
        loop {
            if let Some(row) = fetch.rows.next() {
                // A long scan orders ahead; the first batch alone must do for a small LIMIT.
                let enough = self.envelope.limit.is_some_and(|limit| fetch.received >= limit);
                if fetch.batches > 1 && !enough && fetch.rows.len() <= fetch.batch_size / 2 {
                    fetch.order();
                }
                return Ok(Some(row));
            }
            if !matches!(self.stopped, Stopped::EnoughRows) {
                return Ok(None);
            }
            fetch.order();
            match fetch.outlet.take() {
                Some(Event::Batch(rows)) => {
                    fetch.ordered = false;
                    fetch.batches += 1;
                    fetch.batch_size = rows.len();
                    fetch.received += rows.len() as u64;
                    fetch.rows = rows.into_iter();
                    fetch.show(&self.tally);
                    // SAFETY: the datums of the batch before are not used any more: another row is asked for.
                    unsafe { pg_sys::MemoryContextReset(self.batch_memory.value()) };
                }
                Some(Event::Ended(end)) => {
                    self.stopped = end.map_or(Stopped::NothingCanMatch, Stopped::Ended);
                    fetch.finish();
                }
                Some(Event::Failed(error)) => {
                    fetch.finish();
                    return Err(error);
                }
                None => {
                    fetch.show(&self.tally);
                    fetch
                        .bell
                        .wait(settings::progress_interval().map_or(HEARTBEAT, |every| every.min(HEARTBEAT)));
                }
            }
        }
    }

    fn fill(&mut self, slot: *mut pg_sys::TupleTableSlot, row: &Row) -> Result<()> {
        // SAFETY: the slot has room for every attribute of the relation, whose numbers begin with 1.
        let (values, nulls) = unsafe {
            let width = (*(*slot).tts_tupleDescriptor).natts as usize;
            let values = std::slice::from_raw_parts_mut((*slot).tts_values, width);
            (values, std::slice::from_raw_parts_mut((*slot).tts_isnull, width))
        };
        nulls.fill(true);
        let fillers = &mut self.fillers;
        // SAFETY: the context lives as long as the state.
        unsafe {
            self.batch_memory.switch_to(|_| {
                for (filler, cell) in fillers.iter_mut().zip(&row.cells) {
                    let place = (filler.column.number - 1) as usize;
                    if let Some(datum) = filler.datum(cell, &row.id)? {
                        (values[place], nulls[place]) = (datum, false);
                    }
                }
                Ok::<(), Error>(())
            })?;
        }
        // SAFETY: all values and null flags are set.
        unsafe { pg_sys::ExecStoreVirtualTuple(slot) };
        Ok(())
    }
}

impl Fetch {
    fn order(&mut self) {
        if !self.ordered {
            self.ordered = true;
            self.outlet.want();
        }
    }

    fn show(&mut self, tally: &Tally) {
        if let Some(progress) = self.progress {
            progress.show(tally);
        }
        let Some(every) = settings::progress_interval() else { return };
        if self.last_notice.elapsed() < every {
            return;
        }
        self.last_notice = Instant::now();
        let (requests, rows) = (tally.requests.get(), tally.rows.get());
        let rate = rows as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let back = tally.oldest_row.get().map(|at| format!(", back to {}", at.iso())).unwrap_or_default();
        let waiting = match tally.waiting_for() {
            Waiting::Nothing | Waiting::Consumer => String::new(),
            waiting => format!(", waiting for {}", waiting.text()),
        };
        notice(format!("pancake_fdw: {requests} requests, {rows} rows, {rate:.0} rows/s{back}{waiting}"));
    }

    /// The walk is over: nothing is shown as running any more.
    fn finish(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.release();
        }
    }
}

/// The columns that a scan fetches.
pub fn wanted(table: &ForeignTable, fillers: &[Filler]) -> Result<Vec<Wanted>> {
    let object = table.table.object;
    let wanted = |filler: &Filler| {
        let (name, path) = (&filler.column.name, filler.column.path.as_deref());
        let source = Source::find(object, name, path).ok_or_else(|| unknown_column(name, object.name()))?;
        Ok(Wanted { name: name.clone(), source })
    };
    fillers.iter().map(wanted).collect()
}

/// A scan that lacks only a thread to run in.
pub fn prepare(
    table: &ForeignTable,
    user: pg_sys::Oid,
    plan: RequestPlan,
    ordered: bool,
    wanted: Vec<Wanted>,
    tally: Arc<Tally>,
    outlet: Arc<Outlet>,
) -> Result<Scan> {
    let page_id = table.table.page_id.clone().unwrap_or_default();
    let token = catalog::token(table, user, &page_id)?;
    let server = table.server.clone();
    let meter = shared()?
        .memory
        .page(&server.base_url, &page_id, server.requests_per_second)
        .ok_or_else(|| Error::new(Kind::NoSharedMemory, "no room in the shared rate limit"))?;
    let trusts_post_ids = table.table.pushdown.trusts(Filterable::PostId);
    let client = Worker::get()?.client.clone();
    Ok(Scan { server, page_id, token, plan, ordered, trusts_post_ids, wanted, meter, tally, client, outlet })
}

fn batch_memory(estate: *mut pg_sys::EState) -> PgMemoryContexts {
    // SAFETY: the query's own memory context; the name is a constant, as Postgres demands.
    let context = unsafe {
        pg_sys::AllocSetContextCreateInternal(
            (*estate).es_query_cxt,
            c"pancake_fdw batch".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    };
    PgMemoryContexts::For(context)
}

fn unknown_column(name: &str, object: &str) -> Error {
    let names: Vec<_> = pancake::catalogue::Object::by_name(object)
        .map(|o| o.columns())
        .unwrap_or_default()
        .iter()
        .map(|c| c.name)
        .collect();
    let closest = pancake::spelling::closest(name, &names);
    let perhaps = closest.map(|closest| format!("Perhaps you meant \"{closest}\". ")).unwrap_or_default();
    Error::new(Kind::BadDefinition, format!("column \"{name}\" is not a column of {object}"))
        .detail(format!("The columns are: {}.", names.join(", ")))
        .hint(format!("{perhaps}To read anything else of a row, give the column the option path, such as OPTIONS (path '/page_customer/gender')."))
}
