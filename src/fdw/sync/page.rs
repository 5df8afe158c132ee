//! This module executes the steps of one page. Which step comes next, and what it means for the
//! marks, is decided in `pancake::sync`.
//!
//! A step is prepared in one transaction, from which on its rows are read ahead, and executed in a
//! later one. What it wrote and the marks commit together. So a run that is killed at any moment
//! has done some whole steps, and the marks show which.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pancake::error::Result;
use pancake::schema::catalogue::Object;
use pancake::schema::keyset::Order;
use pancake::sync::marks::Marks;
use pancake::sync::run::{self, Lane, Parameters, Phase, Run};
use pancake::sync::settle::StepResult;
use pancake::sync::shape::Shape;
use pancake::sync::skips::Skips;
use pancake::sync::sql::{literal, texts as text_array};
use pancake::sync::statement::Step;
use pancake::sync::walk::Walk;
use pancake::time::Micros;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

use crate::fdw::cost::known_of;
use crate::fdw::functions::micros;
use crate::fdw::outcome::{FAILED_CONVERSATION, REQUESTS};
use crate::fdw::sync::marks;
use crate::fdw::sync::rows::read_frozen;
use crate::fdw::sync::tables;
use crate::pg::catalog::{ForeignTable, table_name};
use crate::pg::lock::SessionLock;
use crate::pg::scope::SettingsScope;
use crate::pg::shared::CLOCKS;
use crate::pg::spi::{execute, first};

/// A page that is copied.
pub struct Page {
    pub source: pg_sys::Oid,
    pub target: pg_sys::Oid,
    /// Of threads: the table of conversations.
    pub list: Option<pg_sys::Oid>,
    pub page_id: String,
    pub object: Object,
    pub walk: Walk,
    pub lane: Lane,
    pub(super) parameters: Parameters,
    /// How long to wait for another run.
    pub(super) patience: Duration,
    /// The call is for one page.
    pub(super) is_alone: bool,
    /// While a run of it is made.
    pub(super) lock: Option<SessionLock>,
    /// Until the transaction is committed that ended it.
    released: Option<SessionLock>,
    pub(super) run: Option<(i64, Run)>,
    pub(super) prepared: Option<PreparedStep>,
    /// Of threads: conversations that are left out.
    pub(super) skips: Skips,
    /// Requests of this backend before the step.
    pub(super) requests_before: u64,
}

/// A step that is executed when the rows of its query are there.
pub(super) struct PreparedStep {
    pub(super) shape: Shape,
    /// The query that it reads with, if it reads.
    pub(super) reading: Option<String>,
    action: Action,
    /// Requests that its preparation made.
    requests: u64,
}

/// What a step does.
enum Action {
    /// Reads which threads are read next.
    List,
    /// Executes a statement that reads and writes rows.
    Write(String),
    /// Executes a statement that marks rows as removed.
    Remove(String),
    /// All threads of the batch are left out.
    Nothing,
}

/// What follows the preparation of a step.
pub enum Prepared {
    /// The step is executed when the rows of this query are there.
    Step(Option<String>),
    /// There is another step to prepare.
    Again,
    /// Another run is made.
    Busy,
    Done,
}

/// What a step has done.
pub struct Executed {
    pub seen: u64,
    pub written: u64,
    pub is_done: bool,
}

pub(super) fn now() -> Micros {
    Micros((CLOCKS.wall_micros)())
}

pub(super) fn requests() -> u64 {
    REQUESTS.load(Relaxed)
}

impl Page {
    pub fn new(
        page: tables::SourcePage,
        target: pg_sys::Oid,
        parameters: Parameters,
        patience: Duration,
        is_alone: bool,
    ) -> Self {
        let tables::SourcePage { source, page_id, object, walk, list } = page;
        Self {
            source,
            target,
            list,
            page_id,
            object,
            walk,
            lane: Lane::Delta,
            parameters,
            patience,
            is_alone,
            lock: None,
            released: None,
            run: None,
            prepared: None,
            skips: Skips::default(),
            requests_before: requests(),
        }
    }

    pub(super) fn values(&self) -> [pgrx::datum::DatumWithOid<'_>; 1] {
        [self.target.into()]
    }

    pub(super) fn step<'a>(&'a self, shape: &'a Shape, run: &'a Run, read_at: Micros) -> Step<'a> {
        Step { shape, run, page_id: &self.page_id, read_at }
    }

    /// Returns whether no row of the list was seen far below the place of the `inserted_at` that it
    /// shows.
    pub(super) fn is_dated(&self) -> Result<bool> {
        let table = ForeignTable::read(self.list.unwrap_or(self.source))?;
        Ok(known_of(&table, Order::InsertedAt).ends_by_time)
    }

    /// Sets the settings that a step is read and executed with.
    pub fn settings(&self) -> SettingsScope {
        // A time that goes into a column of type text or jsonb is written alike by every caller. A
        // walk that is cut into pieces, to be quick, costs a delta a request or two more.
        let all = [(c"TimeZone", c"UTC"), (c"DateStyle", c"ISO"), (c"pancake_fdw.max_concurrency", c"1")];
        let is_delta = self.run.as_ref().is_some_and(|(_, run)| run.kind == run::Kind::Delta);
        SettingsScope::set(&all[..if is_delta { 3 } else { 2 }])
    }

    /// Prepares the next step.
    pub fn prepare(&mut self) -> Result<Prepared> {
        let _scope = SettingsScope::internal();
        self.prepared = None;
        self.requests_before = requests();
        if self.run.is_none() {
            return self.begin();
        }
        self.prepare_step().map(Prepared::Step)
    }

    fn prepare_step(&mut self) -> Result<Option<String>> {
        let Some((run_id, mut run)) = self.run.clone() else { return Ok(None) };
        let shape = tables::shape(self)?;
        let prepared = self.prepare_run(run_id, &mut run, shape)?;
        self.run = Some((run_id, run));
        let prepared = self.prepared.insert(prepared);
        prepared.requests = requests() - self.requests_before;
        Ok(prepared.reading.clone())
    }

    fn prepare_run(&self, run_id: i64, run: &mut Run, shape: Shape) -> Result<PreparedStep> {
        let marks = match run.threads {
            Some(_) => self.marks(false)?.unwrap_or_default(),
            None => self.open_window(run_id, run, &shape)?,
        };
        // A scan may go on for the next batch, and read its rows before that is prepared.
        let read_at = *run.read_at.get_or_insert_with(now);
        let step = self.step(&shape, run, read_at);
        let (reading, action) = match &run.threads {
            _ if run.phase == Phase::Gone => (None, Action::Remove(self.removal(run_id, &step)?)),
            None if self.walk.is_threads() => (Some(step.list()), Action::List),
            Some(batch) if batch.threads.is_empty() => (None, Action::Nothing),
            _ => {
                let reading = step.reading();
                let statement = statement(&step, &reading, &marks);
                (Some(reading), Action::Write(statement))
            }
        };
        Ok(PreparedStep { shape, reading, action, requests: 0 })
    }

    /// Decides where the batch begins and ends. Returns the marks.
    fn open_window(&self, run_id: i64, run: &mut Run, shape: &Shape) -> Result<Marks> {
        if run.phase == Phase::Census {
            let marks = self.marks(false)?.unwrap_or_default();
            let census = self.take_census(run_id, run, shape, &marks);
            run.take_census(&self.walk, census);
        }
        let is_dated = self.is_dated()?;
        let stored = self.marks(run.begins_anew(is_dated))?;
        let is_stored = stored.is_some();
        let mut marks = stored.unwrap_or_default();
        if run.set_window(&mut marks, is_dated, now()) && is_stored {
            marks::write(self, &marks)?;
        }
        if matches!(run.phase, Phase::Past | Phase::All)
            && run.frozen.is_none()
            && let (Some(list), Some(first_since)) = (self.list, run.first_since)
        {
            run.frozen = Some(read_frozen(&table_name(list), first_since));
        }
        Ok(marks)
    }

    pub(super) fn marks(&self, to_move: bool) -> Result<Option<Marks>> {
        Ok(marks::read(self, to_move)?.map(|stored| stored.marks))
    }

    /// Executes the step that was prepared, and moves the marks by what it brought. Rows are
    /// written under the caller's search_path, for triggers of the target.
    pub fn execute(&mut self) -> Result<Executed> {
        let done = Executed { seen: 0, written: 0, is_done: true };
        self.resume();
        FAILED_CONVERSATION.take();
        let Some(step) = self.prepared.take() else { return Ok(done) };
        let (is_alive, result) = match &step.action {
            Action::List => {
                let (batch, left_out) = self.read_list(&step)?;
                if self.add_threads(batch, &left_out)? {
                    return Ok(Executed { is_done: false, ..done });
                }
                (self.has_witness(&step.shape)?, StepResult::default())
            }
            Action::Write(statement) => {
                let _settings = self.settings();
                let written = first(statement, &[], read_result).unwrap_or_default();
                check_constraints();
                written
            }
            Action::Remove(statement) => {
                let _settings = self.settings();
                let written = execute(statement, &[]);
                check_constraints();
                (true, StepResult { written, ..StepResult::default() })
            }
            Action::Nothing => (self.has_witness(&step.shape)?, StepResult::default()),
        };
        let _scope = SettingsScope::internal();
        let (seen, written) = (result.seen, result.written);
        let is_done = matches!(self.settle(&step.shape, is_alive, result)?, Prepared::Done);
        Ok(Executed { seen, written, is_done })
    }

    fn has_witness(&self, shape: &Shape) -> Result<bool> {
        let _scope = SettingsScope::internal();
        let witnesses = self.marks(false)?.and_then(|marks| marks.witnesses);
        Ok(witnesses.is_none_or(|ids| self.is_alive(shape, &ids)))
    }

    /// Ends what is done for the page. Its lane is released when that is committed.
    pub(super) fn leave(&mut self) {
        self.released = self.lock.take();
        (self.run, self.prepared) = (None, None);
    }

    pub fn release(&mut self) {
        self.released = None;
    }

    /// Returns whether the scan of the prepared step goes on for the step after it. The one of a
    /// list of conversations does not: their threads come next.
    pub fn goes_on(&self) -> bool {
        !self.walk.is_threads()
    }

    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Counts requests from here on as those of the step that is prepared.
    pub fn resume(&mut self) {
        self.requests_before = requests() - self.prepared.as_ref().map_or(0, |step| step.requests);
    }
}

/// Returns the statement that reads a batch and writes it.
fn statement(step: &Step, reading: &str, marks: &Marks) -> String {
    let witnesses = match &marks.witnesses {
        Some(ids) => text_array(&ids.iter().flatten().cloned().collect::<Vec<_>>()),
        None => "NULL::pg_catalog.text[]".to_owned(),
    };
    format!(
        "SELECT w.alive, a.seen, w.existing, w.changed, w.written, a.ids, a.lowest, a.newest, a.walked, a.seam
         FROM ({reading}) a,
             LATERAL pancake_internal.sync_write(a.rows, a.ids, {witnesses}, {look}, {changed}, {upsert}) w",
        look = literal(&step.look()),
        changed = literal(&step.changed()),
        upsert = literal(&step.upsert("pg_catalog.unnest($1)")),
    )
}

/// What is checked at the commit is checked here, where an error can still be recorded.
fn check_constraints() {
    execute("SET CONSTRAINTS ALL IMMEDIATE", &[]);
}

/// Reads alive, seen, existing, changed, written, ids, lowest, newest, walked, seam.
fn read_result(row: pgrx::spi::SpiTupleTable) -> pgrx::spi::SpiResult<(bool, StepResult)> {
    let count = |column| row.get::<i64>(column).map(|count| count.unwrap_or(0) as u64);
    let time = |column| row.get::<TimestampWithTimeZone>(column).map(micros);
    let result = StepResult {
        seen: count(2)?,
        existing: count(3)?,
        changed: count(4)?,
        written: count(5)?,
        ids: row.get::<Vec<String>>(6)?.unwrap_or_default(),
        lowest: time(7)?,
        newest: time(8)?,
        walked: count(9)?,
        seam: row.get(10)?,
    };
    Ok((row.get(1)? == Some(true), result))
}
