//! This module runs a foreign scan: begin, rows one by one, again, end. Batches come from the
//! worker thread as they are wanted; nothing is asked before the first row is. How an Append drives
//! several scans at once: `append`; a Merge Append: `merge_append`.

use std::rc::Rc;
use std::sync::Arc;

use pancake::error::{Error, Kind, Result};
use pancake::memory;
use pancake::plan::describe::Starts;
use pancake::plan::pushdown::pushdowns;
use pancake::plan::request::{RequestPlan, bind};
use pancake::reply::decode::Row;
use pancake::schema::catalogue::Object;
use pancake::stats::ScanStats;
use pancake::time::Micros;
use pgrx::{PgMemoryContexts, pg_guard, pg_sys};

use crate::fdw::ahead::{self, Request};
use crate::fdw::fetch::{Fetch, NextRow, StopReason};
use crate::fdw::merge_append::Query;
use crate::fdw::params::{Operands, in_this_zone};
use crate::fdw::private::ScanPrivate;
use crate::fdw::slot::ColumnWriter;
use crate::pg::catalog::{self, ForeignTable};
use crate::pg::compat;
use crate::pg::report::OrRaise;
use crate::pg::shared::CLOCKS;

/// A result up to this size is kept for a rescan with the same parameters: a few megabytes at most.
const KEPT_ROWS: usize = 1_000;

/// A foreign scan from Begin to End.
pub struct ScanState {
    table: ForeignTable,
    user: pg_sys::Oid,
    private: ScanPrivate,
    operands: Operands,
    writers: Vec<ColumnWriter>,
    /// Holds the datums of one row. A child of the query's memory, which deletes it.
    row_memory: PgMemoryContexts,
    pub fetch: Option<Fetch>,
    /// What it requests, if a later statement may go on with it.
    request: Option<Request>,
    /// From Begin to End.
    query: Option<Rc<Query>>,
    /// Unless an Append drives this scan together with others: then it is the Append that waits.
    may_wait: bool,
    /// There was no row yet, and it may not wait for one.
    pub is_pending: bool,
    /// The rows of a small result, where the plan may want them again; None where it does not, or
    /// they are many.
    kept: Option<Vec<Row>>,
    /// The next of the kept rows to hand out again.
    again: Option<usize>,
    pub tally: Arc<ScanStats>,
    pub stopped: StopReason,
    /// What became of the filters, by the values of their operands.
    pub starts: Starts,
}

#[pg_guard]
pub unsafe extern "C-unwind" fn begin_foreign_scan(node: *mut pg_sys::ForeignScanState, flags: i32) {
    if flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 != 0 {
        return;
    }
    let may_rewind = flags & pg_sys::EXEC_FLAG_REWIND as i32 != 0;
    let state = ScanState::begin(node, may_rewind).or_raise();
    // SAFETY: Postgres's own node; the state is dropped with the query's memory, also when End is
    // skipped by an error.
    unsafe {
        let memory = (*(*node).ss.ps.state).es_query_cxt;
        let state = PgMemoryContexts::For(memory).leak_and_drop_on_delete(state);
        (*node).fdw_state = state.cast();
        (*state).query = Some(Query::of(node));
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn iterate_foreign_scan(
    node: *mut pg_sys::ForeignScanState,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: Begin set the state and the slot, and nothing else holds them.
    let (state, slot) = unsafe { (&mut *(*node).fdw_state.cast::<ScanState>(), (*node).ss.ss_ScanTupleSlot) };
    state.next(node, slot).or_raise();
    slot
}

#[pg_guard]
pub unsafe extern "C-unwind" fn rescan_foreign_scan(node: *mut pg_sys::ForeignScanState) {
    // SAFETY: Begin set the state; the node holds whether its parameters have changed.
    let (state, changed) =
        unsafe { (&mut *(*node).fdw_state.cast::<ScanState>(), !(*node).ss.ps.chgParam.is_null()) };
    state.rescan(changed);
}

#[pg_guard]
pub unsafe extern "C-unwind" fn end_foreign_scan(node: *mut pg_sys::ForeignScanState) {
    // SAFETY: null after EXPLAIN without ANALYZE, else what Begin set.
    if let Some(state) = unsafe { (*node).fdw_state.cast::<ScanState>().as_mut() } {
        if let (Some(fetch), Some(request)) = (state.fetch.take(), state.request.take()) {
            ahead::keep(fetch, request).or_raise();
        }
        if let Some(query) = state.query.take() {
            query.leave(node);
        }
    }
}

impl ScanState {
    fn begin(node: *mut pg_sys::ForeignScanState, may_rewind: bool) -> Result<Self> {
        // SAFETY: Postgres's own node, its plan and its relation, alive until End.
        let (plan, relation, estate, is_async) = unsafe {
            let plan = &*(*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
            let relation = (*(*node).ss.ss_currentRelation).rd_id;
            (plan, relation, (*node).ss.ps.state, (*node).ss.ps.async_capable)
        };
        let table = ForeignTable::read(relation)?;
        catalog::must_be_utf8()?;
        let private = ScanPrivate::unpack(plan.fdw_private).ok_or_else(|| {
            Error::new(Kind::NotUnderstood, "the plan was made by another release of pancake_fdw")
        })?;
        let declared = table.columns.iter().filter(|column| private.columns.contains(&column.number));
        Ok(Self {
            user: compat::scan_user(plan, estate),
            operands: Operands::prepare(node),
            writers: declared.cloned().map(ColumnWriter::new).collect(),
            row_memory: row_memory(estate),
            fetch: None,
            request: None,
            query: None,
            may_wait: !is_async,
            is_pending: false,
            kept: may_rewind.then(Vec::new),
            again: None,
            tally: Arc::default(),
            stopped: StopReason::NeverStarted,
            starts: Starts::default(),
            private,
            table,
        })
    }

    /// With new parameters a read of its own: operands are evaluated anew at the next row. With the
    /// same ones, a small result that was read to its end is handed out again.
    fn rescan(&mut self, changed: bool) {
        let finished = matches!(self.stopped, StopReason::Ended(_) | StopReason::NothingCanMatch);
        self.fetch = None;
        if changed || !finished || self.kept.is_none() {
            self.again = None;
            self.kept = self.kept.take().map(|_| Vec::new());
            self.stopped = StopReason::NeverStarted;
        } else {
            self.again = Some(0);
        }
    }

    /// Puts the next row into the slot; leaves it empty at the end, and while it is pending.
    fn next(&mut self, node: *mut pg_sys::ForeignScanState, slot: *mut pg_sys::TupleTableSlot) -> Result<()> {
        // SAFETY: the node's own slot; another row is asked for, so the datums of the last one are
        // not used any more.
        unsafe {
            pg_sys::ExecClearTuple(slot);
            pg_sys::MemoryContextReset(self.row_memory.value());
        }
        self.is_pending = false;
        if let (Some(next), Some(kept)) = (self.again, self.kept.take_if(|_| self.again.is_some())) {
            let filled = kept.get(next).map_or(Ok(()), |row| self.fill(slot, row));
            (self.again, self.kept) = (Some(next + 1), Some(kept));
            return filled;
        }
        let Some(row) = self.next_row(node)? else { return Ok(()) };
        self.fill(slot, &row)?;
        self.kept = self.kept.take().filter(|kept| kept.len() < KEPT_ROWS);
        if let Some(kept) = &mut self.kept {
            kept.push(row);
        }
        Ok(())
    }

    fn next_row(&mut self, node: *mut pg_sys::ForeignScanState) -> Result<Option<Row>> {
        if self.stopped == StopReason::NeverStarted {
            self.start(node)?;
            for other in self.query.as_ref().map(|query| query.beside(node)).unwrap_or_default() {
                // SAFETY: Begin set the state of each; this one is not among them.
                if let Some(state) = unsafe { (*other).fdw_state.cast::<Self>().as_mut() } {
                    state.start_ahead(other)?;
                }
            }
        }
        let Some(fetch) = &mut self.fetch else { return Ok(None) };
        match fetch.next(self.may_wait)? {
            NextRow::Row(row) => Ok(Some(row)),
            NextRow::Over(why) => {
                self.stopped = why;
                Ok(None)
            }
            NextRow::Later => {
                self.is_pending = true;
                Ok(None)
            }
        }
    }

    /// Requests the first batch before the first row is asked for.
    pub fn start_ahead(&mut self, node: *mut pg_sys::ForeignScanState) -> Result<()> {
        if self.stopped == StopReason::NeverStarted {
            self.start(node)?;
            self.fetch.iter_mut().for_each(Fetch::order);
        }
        Ok(())
    }

    /// Evaluates the operands, binds them into chains, and sets the worker to walk them, unless no
    /// row can match.
    fn start(&mut self, node: *mut pg_sys::ForeignScanState) -> Result<()> {
        let operands = self.operands.evaluate(node, &self.private.filters);
        let filters = in_this_zone(&self.private.filters);
        let page_id = self.table.table.page_id.as_deref().unwrap_or_default();
        let object = self.table.table.object;
        let plan = bind(object, &filters, self.private.order, &operands, page_id);
        // SAFETY: the node's own relation, open until End.
        let relation = unsafe { (*(*node).ss.ss_currentRelation).rd_id };
        plan.can_be_asked(object).map_err(|error| error.hint(how_to_name_conversations(relation)))?;
        let ScanPrivate { order, useful, .. } = self.private;
        let now = Micros((CLOCKS.wall_micros)());
        self.starts.add(&pushdowns(object, &filters, &operands, &plan, order, useful, now));
        if plan.chains.is_empty() {
            self.stopped = StopReason::NothingCanMatch;
            return Ok(());
        }
        self.stopped = StopReason::EnoughRows;
        let ScanPrivate { ordered, limit, whole, .. } = self.private;
        let plan = RequestPlan { ordered, limit, whole, ..plan };
        match ahead::start(&self.table, relation, self.user, plan, &self.writers, &self.tally)? {
            Some((fetch, request)) => {
                self.tally = fetch.tally.clone();
                (self.fetch, self.request) = (Some(fetch), request);
            }
            None => self.stopped = StopReason::NothingCanMatch,
        }
        Ok(())
    }

    fn fill(&mut self, slot: *mut pg_sys::TupleTableSlot, row: &Row) -> Result<()> {
        // SAFETY: the slot has room for every attribute of the relation, whose numbers begin with
        // 1.
        let (values, nulls) = unsafe {
            let width = (*(*slot).tts_tupleDescriptor).natts as usize;
            let values = std::slice::from_raw_parts_mut((*slot).tts_values, width);
            (values, std::slice::from_raw_parts_mut((*slot).tts_isnull, width))
        };
        nulls.fill(true);
        memory::probe_decoding(row.cells.size(), 1)?;
        let writers = &mut self.writers;
        // SAFETY: the context lives as long as the state.
        unsafe {
            self.row_memory.switch_to(|_| {
                for (writer, cell) in writers.iter_mut().zip(&row.cells) {
                    let place = (writer.column.number - 1) as usize;
                    if let Some(datum) = writer.datum(cell, &row.id)? {
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

fn how_to_name_conversations(messages: pg_sys::Oid) -> String {
    let conversations = catalog::beside(messages, Object::Conversations);
    let conversations = conversations.map_or("…".to_owned(), catalog::table_name);
    let messages = catalog::table_name(messages);
    format!(
        "Join the conversations: SELECT m.* FROM {conversations} c JOIN {messages} m ON m.conversation_id = c.id \
         WHERE c.updated_at > now() - interval '1 hour'; or name them: WHERE conversation_id = '…', or IN ('…', '…'); \
         beside an OR with any other condition they are not named."
    )
}

/// Room that stays allocated from row to row: what a row of usual size takes.
const USUAL_ROW: usize = 64 << 10;

fn row_memory(estate: *mut pg_sys::EState) -> PgMemoryContexts {
    // SAFETY: the query's own memory context; the name is a constant, as Postgres demands.
    let context = unsafe {
        pg_sys::AllocSetContextCreateInternal(
            (*estate).es_query_cxt,
            c"pancake_fdw row".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            USUAL_ROW,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    };
    PgMemoryContexts::For(context)
}
