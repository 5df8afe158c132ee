//! This module executes the steps of one page. Which step comes next, and what it means for the
//! marks, is decided in `pancake::sync`.
//!
//! A step is prepared in one transaction, from which on its rows are read ahead, and executed in a
//! later one. What it wrote and the marks commit together. So a run that is killed at any moment
//! has done some whole steps, and the marks show which.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pancake::error::{Error, Kind, Result};
use pancake::schema::catalogue::Object;
use pancake::schema::keyset::Order;
use pancake::sync::marks::Marks;
use pancake::sync::run::{self, Lane, Parameters, Phase, Run};
use pancake::sync::settle::{Facts, StepResult};
use pancake::sync::shape::Shape;
use pancake::sync::sql::{literal, texts as text_array};
use pancake::sync::statement::Step;
use pancake::sync::walk::Walk;
use pancake::time::Micros;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

use crate::fdw::cost::known_of;
use crate::fdw::fetch::{IS_CUT, REQUESTS};
use crate::fdw::functions::{micros, server_time};
use crate::fdw::sync::marks::{self, RunTotals, at, execute, first, texts};
use crate::fdw::sync::rows::read_frozen;
use crate::fdw::sync::tables;
use crate::pg::catalog::{ForeignTable, table_name};
use crate::pg::lock::SessionLock;
use crate::pg::report::{notice, warning};
use crate::pg::scope::SettingsScope;
use crate::pg::shared::CLOCKS;

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
    parameters: Parameters,
    /// How long to wait for another run.
    patience: Duration,
    /// The call is for one page.
    is_alone: bool,
    /// While a run of it is made.
    lock: Option<SessionLock>,
    run: Option<(i64, Run)>,
    prepared: Option<PreparedStep>,
    /// Requests of this backend before the step.
    requests_before: u64,
}

/// A step whose statement is executed when its rows are there.
struct PreparedStep {
    shape: Shape,
    /// The query that it reads with. None if it marks rows as removed.
    reading: Option<String>,
    statement: String,
    /// Requests that its preparation made.
    requests: u64,
}

/// What follows the preparation of a step.
pub enum Prepared {
    /// The step is executed when the rows of this query are there.
    Step(Option<String>),
    /// A run that ended meanwhile has moved the marks.
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

fn now() -> Micros {
    Micros((CLOCKS.wall_micros)())
}

fn requests() -> u64 {
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
            run: None,
            prepared: None,
            requests_before: requests(),
        }
    }

    fn values(&self) -> [pgrx::datum::DatumWithOid<'_>; 1] {
        [self.target.into()]
    }

    fn step<'a>(&'a self, shape: &'a Shape, run: &'a Run, read_at: Micros) -> Step<'a> {
        Step { shape, run, page_id: &self.page_id, read_at }
    }

    /// Returns whether no row of the list was seen far below the place of the `inserted_at` that it
    /// shows.
    fn is_dated(&self) -> Result<bool> {
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
        if run.phase == Phase::Census {
            let marks = self.marks(false)?.unwrap_or_default();
            let census = self.take_census(run_id, run, &shape, &marks);
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
        // A scan may go on for the next batch, and read its rows before that is prepared.
        let read_at = *run.read_at.get_or_insert_with(now);
        let step = self.step(&shape, run, read_at);
        let (reading, statement) = if run.phase == Phase::Gone {
            let removal = self.removal(run_id, &step)?;
            (None, format!("SELECT true, 0::pg_catalog.int8, 0::pg_catalog.int8, w.affected, NULL::pg_catalog.text[],
                 NULL::pg_catalog.timestamptz, NULL::pg_catalog.timestamptz, 0::pg_catalog.int8, NULL::pg_catalog.text[]
                 FROM pancake_internal.sync_execute({}) w", literal(&removal)))
        } else {
            let reading = step.reading();
            let witnesses = match &marks.witnesses {
                Some(ids) => text_array(&ids.iter().flatten().cloned().collect::<Vec<_>>()),
                None => "NULL::pg_catalog.text[]".to_owned(),
            };
            let statement = format!(
                "SELECT w.alive, a.seen, w.existing, w.written, a.ids, a.lowest, a.newest, a.walked, a.seam
                 FROM ({reading}) a, LATERAL pancake_internal.sync_write(a.rows, a.ids, {witnesses}, {look}, {upsert}) w",
                look = literal(&step.look()),
                upsert = literal(&step.upsert("pg_catalog.unnest($1)")),
            );
            (Some(reading), statement)
        };
        Ok(PreparedStep { shape, reading, statement, requests: 0 })
    }

    fn marks(&self, to_move: bool) -> Result<Option<Marks>> {
        Ok(marks::read(self, to_move)?.map(|stored| stored.marks))
    }

    /// Decides what is to be done, and takes the lane for it if it is free.
    fn begin(&mut self) -> Result<Prepared> {
        marks::check_rights(self.target)?;
        let may = "SELECT has_any_column_privilege($1, 'SELECT') AND has_any_column_privilege($1, 'UPDATE')";
        if first(may, &self.values(), |row| row.get_one::<bool>()).flatten() != Some(true) {
            return Err(marks::no_rights(self.target));
        }
        let shape = tables::shape(self)?;
        let stored = marks::read(self, false)?;
        let of_page = |marks: &Option<marks::StoredMarks>| {
            marks.as_ref().map(|stored| stored.marks.clone()).unwrap_or_default()
        };
        let mut marks = of_page(&stored);
        if let Some(stored) = stored.as_ref().filter(|stored| stored.object != self.object.name()) {
            let (target, page_id) = (table_name(self.target), &self.page_id);
            return Err(Error::new(
                Kind::WrongState,
                format!("{target} holds {} of page {page_id} already", stored.object),
            )
            .hint("Give each object a target of its own, or forget the marks with pancake.sync_reset()."));
        }
        self.explain(&shape, &marks)?;
        let is_alive = marks.witnesses.as_ref().is_none_or(|ids| self.is_alive(&shape, ids));
        let has_past = is_alive && marks.has_past(&self.walk);
        self.lane = if self.parameters.is_full && has_past { Lane::Full } else { Lane::Delta };
        if !self.take_lane() {
            return self.wait_or_skip(has_past);
        }
        if marks::read(self, false)? != stored {
            // What the other run left is looked at anew.
            self.lock = None;
            return Ok(Prepared::Again);
        }
        if !is_alive {
            notice(format!(
                "page {}: {} does not hold the rows any more that were copied into it: everything is read again",
                self.page_id,
                table_name(self.target)
            ));
            marks::reset(self);
            marks = Marks::default();
        }
        self.start(&marks, None)
    }

    /// Raises Postgres's own error if something is missing that the statements need.
    fn explain(&self, shape: &Shape, marks: &Marks) -> Result<()> {
        let now = now();
        let run = run::next(&self.walk, &self.parameters, Lane::Delta, marks, None, now);
        if let Some(run) = run {
            let upsert = self.step(shape, &run, now).upsert(&shape.source);
            execute(&format!("EXPLAIN {upsert}"), &[texts::<String>(None), at(Some(now))]);
        }
        Ok(())
    }

    fn is_alive(&self, shape: &Shape, witnesses: &[Option<String>]) -> bool {
        let query = format!(
            "SELECT EXISTS (SELECT FROM {} t WHERE t.id = ANY ($1){})",
            shape.target,
            shape.of_page(&self.page_id)
        );
        first(&query, &[texts(Some(witnesses.to_vec()))], |row| row.get_one::<bool>()).flatten() == Some(true)
    }

    fn take_lane(&mut self) -> bool {
        let key = "SELECT pancake_internal.sync_lane($1, $2, $3)";
        let values = [self.target.into(), self.page_id.as_str().into(), self.lane.name().into()];
        let key = first(key, &values, |row| row.get_one::<i64>()).flatten().unwrap_or_default();
        self.lock = SessionLock::try_take(key);
        self.lock.is_some()
    }

    fn wait_or_skip(&self, has_past: bool) -> Result<Prepared> {
        if now() < self.parameters.called_at.plus(self.patience) {
            return Ok(Prepared::Busy);
        }
        marks::skip(self, if has_past { self.lane.kind() } else { run::Kind::Backfill })?;
        let target = table_name(self.target);
        notice(format!("page {}: skipped: another sync into {target} is running", self.page_id));
        Ok(Prepared::Done)
    }

    /// Starts the run that follows, and prepares it again.
    fn start(&mut self, marks: &Marks, ended: Option<&Run>) -> Result<Prepared> {
        let Some(run) = run::next(&self.walk, &self.parameters, self.lane, marks, ended, now()) else {
            self.lock = None;
            return Ok(Prepared::Done);
        };
        let run_id = marks::start(self, &run)?;
        self.run = Some((run_id, run));
        Ok(Prepared::Again)
    }

    /// Stores which rows of the target a full rescan looks for: a row that was in the copy when it
    /// began, and that it does not find, is gone. Only rows that some run has seen count, for a
    /// webhook may know a conversation before the list shows it: those not newer than the mark. A
    /// list without times is known by the sync alone.
    fn take_census(&self, run_id: i64, run: &Run, shape: &Shape, marks: &Marks) -> Option<u64> {
        if !shape.has_removed || (!shape.has_inserted && marks.first_since.is_some()) {
            if run.kind == run::Kind::Full {
                notice(format!(
                    "page {}: rows that are gone are not marked: {} has no column {}",
                    self.page_id,
                    shape.target,
                    if shape.has_removed { "inserted_at" } else { "removed_at" }
                ));
            }
            return None;
        }
        let census = marks::census(run_id);
        let dated = self.walk.dated.map(|dated| format!(" AND t.{dated} <= $1")).unwrap_or_default();
        let since = if shape.has_inserted { " AND ($2 IS NULL OR t.inserted_at >= $2)" } else { "" };
        execute(&format!("CREATE TABLE {census} (id text PRIMARY KEY)"), &[]);
        let fill = format!(
            "INSERT INTO {census} SELECT t.id FROM {target} t WHERE t.removed_at IS NULL{dated}{since}{of_page}",
            target = shape.target,
            of_page = shape.of_page(&self.page_id),
        );
        Some(execute(&fill, &[at(marks.mark), at(marks.first_since)]))
    }

    /// Returns the statement that marks what is gone. A page that suddenly lacks a tenth of its
    /// rows is rather a fault on the way than a shop that deleted them. Of a whole list, which is
    /// short and comes in one reply, a delta takes only for a fault that it is empty.
    fn removal(&self, run_id: i64, step: &Step) -> Result<String> {
        const NOTHING: &str = "SELECT WHERE false";
        let Some(census) = step.run.census else { return Ok(NOTHING.to_owned()) };
        let query = format!("SELECT array_agg(id ORDER BY id) FROM {}", marks::census(run_id));
        let gone = first(&query, &[], |row| row.get_one::<Vec<String>>()).flatten().unwrap_or_default();
        let is_full = step.run.kind == run::Kind::Full;
        let count = gone.len() as u64;
        if count == 0 {
            return Ok(NOTHING.to_owned());
        }
        if count * 10 > census && (is_full || count == census) {
            let names: Vec<_> = gone.iter().take(5).map(|id| literal(id)).collect();
            let much = if is_full { "More than a tenth" } else { "A list without any of them" };
            warning(
                format!(
                    "page {}: {count} of {census} rows were not found, none is marked as removed",
                    self.page_id
                ),
                format!("The first of them: {}.", names.join(", ")),
                format!("{much} is taken for a fault. If they are really gone, set removed_at by hand."),
            );
            return Ok(NOTHING.to_owned());
        }
        Ok(step.removal(&gone, now()))
    }

    /// Executes the step that was prepared, and moves the marks by what it brought. Rows are
    /// written under the caller's search_path, for triggers of the target.
    pub fn execute(&mut self) -> Result<Executed> {
        let done = Executed { seen: 0, written: 0, is_done: true };
        self.resume();
        let Some(step) = self.prepared.take() else { return Ok(done) };
        let (is_alive, result) = {
            let _settings = self.settings();
            let brought = first(&step.statement, &[], read_result).unwrap_or_default();
            // What is checked at the commit is checked here, where an error can still be recorded.
            execute("SET CONSTRAINTS ALL IMMEDIATE", &[]);
            brought
        };
        let _scope = SettingsScope::internal();
        let (seen, written) = (result.seen, result.written);
        let is_done = matches!(self.settle(&step.shape, is_alive, result)?, Prepared::Done);
        Ok(Executed { seen, written, is_done })
    }

    fn settle(&mut self, shape: &Shape, is_alive: bool, result: StepResult) -> Result<Prepared> {
        let Some((run_id, mut run)) = self.run.clone() else { return Ok(Prepared::Done) };
        let Some(mut marks) = self.marks(true)?.filter(|_| is_alive) else {
            self.record_failure("55000", "the rows or the marks of the target went away meanwhile");
            let target = table_name(self.target);
            notice(format!(
                "page {}: the rows or the marks of {target} went away meanwhile: starting again",
                self.page_id
            ));
            self.leave();
            return Ok(Prepared::Again);
        };
        let step_requests = requests() - self.requests_before;
        let facts = Facts {
            server_time: server_time(),
            now: now(),
            is_cut: IS_CUT.load(Relaxed),
            is_dated: self.is_dated()?,
            requests: step_requests,
            kept: if run.needs_kept(&marks) { self.kept(shape, &result.ids) } else { Vec::new() },
        };
        if run.census.is_some() && !result.ids.is_empty() {
            let found = format!("DELETE FROM {} WHERE id = ANY ($1)", marks::census(run_id));
            execute(&found, &[texts(Some(result.ids.clone()))]);
        }
        let counts = result.counts(run.phase);
        let lowest = result.lowest;
        let is_over = run.settle(&self.walk, &self.parameters, &mut marks, result, &facts);
        marks::write(self, &marks)?;
        let totals = marks::count(self, run_id, counts, step_requests, is_over)?;
        self.run = Some((run_id, run));
        if !is_over {
            self.show_step(&totals, lowest);
            return Ok(Prepared::Again);
        }
        self.end_run(run_id, &marks, &totals)
    }

    fn end_run(&mut self, run_id: i64, marks: &Marks, totals: &RunTotals) -> Result<Prepared> {
        let Some((_, run)) = self.run.take() else { return Ok(Prepared::Done) };
        if run.census.is_some() {
            execute(&format!("DROP TABLE {}", marks::census(run_id)), &[]);
        }
        if self.is_alone {
            let RunTotals { seen, inserted, updated, unchanged, removed, requests } = *totals;
            let (page_id, kind) = (&self.page_id, run.kind.name());
            let noun = if requests == 1 { "request" } else { "requests" };
            notice(format!(
                "page {page_id}: {kind} done: {seen} seen, {inserted} inserted, {updated} updated, \
                 {unchanged} unchanged, {removed} removed, {requests} {noun}"
            ));
        }
        if run.kind == run::Kind::Backfill && self.parameters.is_full {
            // The rescan is made in the other lane.
            self.leave();
            return Ok(Prepared::Again);
        }
        self.start(marks, Some(&run))
    }

    fn show_step(&self, totals: &RunTotals, lowest: Option<Micros>) {
        if let (true, Some((_, run))) = (self.is_alone, &self.run) {
            let back = lowest.map(|at| format!(", back to {}", at.iso())).unwrap_or_default();
            notice(format!("page {}: {}: {} rows{back}", self.page_id, run.kind.name(), totals.seen));
        }
    }

    /// Returns those of the rows that the target holds, in their order.
    fn kept(&self, shape: &Shape, ids: &[String]) -> Vec<String> {
        let query = format!(
            "SELECT array_agg(i.id ORDER BY i.n) FROM unnest($1) WITH ORDINALITY i (id, n)
             WHERE EXISTS (SELECT FROM {} t WHERE t.id = i.id{})",
            shape.target,
            shape.of_page(&self.page_id)
        );
        let kept = first(&query, &[texts(Some(ids.to_vec()))], |row| row.get_one::<Vec<String>>());
        kept.flatten().unwrap_or_default()
    }

    fn leave(&mut self) {
        (self.run, self.lock, self.prepared) = (None, None, None);
    }

    fn record_failure(&self, sqlstate: &str, message: &str) {
        let _scope = SettingsScope::internal();
        let requests = requests() - self.requests_before;
        let (run_id, kind) = match &self.run {
            Some((run_id, run)) => (Some(*run_id), run.kind),
            None if self.parameters.is_full => (None, run::Kind::Full),
            None => (None, run::Kind::Delta),
        };
        marks::fail(self, kind, run_id, sqlstate, message, requests);
    }

    /// Returns whether the step is prepared again after an error: the scan met a row far below its
    /// place, and the list is sorted from now on.
    pub fn begins_anew(&mut self, sqlstate: &str) -> bool {
        if sqlstate != Kind::NotUnderstood.sqlstate() {
            return false;
        }
        let is_dated = self.is_dated().unwrap_or(true);
        match &mut self.run {
            Some((_, run)) if run.is_dated == Some(true) && run.begins_anew(is_dated) => {
                run.is_dated = None;
                self.prepared = None;
                true
            }
            _ => false,
        }
    }

    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Counts requests from here on as those of the step that is prepared.
    pub fn resume(&mut self) {
        self.requests_before = requests() - self.prepared.as_ref().map_or(0, |step| step.requests);
    }

    /// Records the error that ended a step, and ends the page.
    pub fn fail(&mut self, sqlstate: &str, message: &str) {
        self.record_failure(sqlstate, message);
        self.leave();
    }
}

/// Reads alive, seen, existing, written, ids, lowest, newest, walked, seam.
fn read_result(row: pgrx::spi::SpiTupleTable) -> pgrx::spi::SpiResult<(bool, StepResult)> {
    let count = |column| row.get::<i64>(column).map(|count| count.unwrap_or(0) as u64);
    let time = |column| row.get::<TimestampWithTimeZone>(column).map(micros);
    let result = StepResult {
        seen: count(2)?,
        existing: count(3)?,
        written: count(4)?,
        ids: row.get::<Vec<String>>(5)?.unwrap_or_default(),
        lowest: time(6)?,
        newest: time(7)?,
        walked: count(8)?,
        seam: row.get(9)?,
    };
    Ok((row.get(1)? == Some(true), result))
}
