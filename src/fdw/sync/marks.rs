//! This module reads and writes what is kept of syncs: the tables `sync_marks` and `sync_log` of
//! sql/sync.sql. It does so as the current role, which row security admits to the lines of the
//! targets that it may write.

use pancake::error::{Error, Kind, Result};
use pancake::sync::marks::{Marks, Witnesses};
use pancake::sync::run::{self, Run};
use pancake::sync::settle::Counts;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::{IntoDatum, pg_sys};

use crate::fdw::functions::{micros, time};
use crate::fdw::sync::page::Page;
use crate::pg::catalog::{role_name, table_name};
use crate::pg::nodes::identifier;
use crate::pg::spi::{execute, execute_prepared, first, first_prepared};

/// The marks of a page, and what they are of.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMarks {
    pub object: String,
    pub marks: Marks,
}

pub fn at(value: Option<pancake::time::Micros>) -> DatumWithOid<'static> {
    time(value).into()
}

/// Row security leaves out without an error what a role may not change. This is the error.
pub fn check_rights(target: pg_sys::Oid) -> Result<()> {
    let may = "SELECT pg_catalog.has_table_privilege($1, 'INSERT')";
    match first_prepared(may, &[target.into()], |row| row.get_one::<bool>()).flatten() {
        Some(true) => Ok(()),
        Some(false) => Err(no_rights(target)),
        None => Err(Error::new(Kind::NoSuchTable, "the target of this sync does not exist any more")),
    }
}

pub fn no_rights(target: pg_sys::Oid) -> Error {
    // SAFETY: reads a variable of the backend.
    let role = identifier(&role_name(unsafe { pg_sys::GetUserId() }));
    let target = table_name(target);
    Error::new(Kind::NotPermitted, format!("permission denied for table {target}"))
        .hint(format!("GRANT SELECT, INSERT, UPDATE ON {target} TO {role};"))
}

const OF_PAGE: &str = "m.target = $1 AND m.page_id = $2 AND NOT m.forgotten";

/// Returns the marks of a page. They are locked if they are about to be moved: a delta and a full
/// rescan run beside each other, and both move marks. The lock is taken after the rows of the
/// target, in both, and held for an instant.
pub fn read(page: &Page, to_move: bool) -> Result<Option<StoredMarks>> {
    check_rights(page.target)?;
    let lock = if to_move { " FOR UPDATE" } else { "" };
    let query = format!(
        "SELECT object, mark, backfilled_to, backfill_from, backfill_done, first_since, last_success_at,
             last_reread_at, last_full_rescan_at, witnesses, sorted, known_to
         FROM pancake_internal.sync_marks m WHERE {OF_PAGE}{lock}"
    );
    Ok(first_prepared(&query, &[page.target.into(), page.page_id.as_str().into()], |row| {
        let time = |column| row.get::<TimestampWithTimeZone>(column).map(micros);
        let witnesses = row.get::<Vec<Option<String>>>(10)?;
        Ok(StoredMarks {
            object: row.get(1)?.unwrap_or_default(),
            marks: Marks {
                mark: time(2)?,
                backfilled_to: time(3)?,
                backfill_from: time(4)?,
                backfill_done: row.get(5)? == Some(true),
                first_since: time(6)?,
                last_success_at: time(7)?,
                last_reread_at: time(8)?,
                last_full_rescan_at: time(9)?,
                witnesses: witnesses.and_then(|ids| Witnesses::try_from(ids).ok()),
                is_sorted: row.get(11)? == Some(true),
                known_to: time(12)?,
            },
        })
    }))
}

pub fn write(page: &Page, marks: &Marks) -> Result<()> {
    check_rights(page.target)?;
    let statement = format!(
        "UPDATE pancake_internal.sync_marks m
         SET source = $3, mark = $4, backfilled_to = $5, backfill_from = $6, backfill_done = $7, first_since = $8,
             last_success_at = $9, last_reread_at = $10, last_full_rescan_at = $11, witnesses = $12, sorted = $13,
             known_to = $14
         WHERE {OF_PAGE}"
    );
    let values = [
        page.target.into(),
        page.page_id.as_str().into(),
        page.source.into(),
        at(marks.mark),
        at(marks.backfilled_to),
        at(marks.backfill_from),
        marks.backfill_done.into(),
        at(marks.first_since),
        at(marks.last_success_at),
        at(marks.last_reread_at),
        at(marks.last_full_rescan_at),
        texts(marks.witnesses.as_ref().map(|ids| ids.to_vec())),
        marks.is_sorted.into(),
        at(marks.known_to),
    ];
    execute_prepared(&statement, &values);
    Ok(())
}

/// A value of the type text[].
pub fn texts<T>(values: Option<Vec<T>>) -> DatumWithOid<'static>
where
    Vec<T>: IntoDatum,
{
    // SAFETY: an array of texts.
    unsafe { DatumWithOid::new(values.and_then(IntoDatum::into_datum), pg_sys::TEXTARRAYOID) }
}

/// Deletes what belongs to no table any more, and old runs.
fn sweep() {
    execute_prepared("SELECT pancake_internal.sync_sweep()", &[]);
}

/// Opens a run in the log, and returns its number. A broken run is closed by the next one of the
/// page, which is alone in its lane.
pub fn start(page: &Page, run: &Run) -> Result<i64> {
    check_rights(page.target)?;
    sweep();
    execute_prepared(
        "UPDATE pancake_internal.sync_log l
         SET (status, ended_at, sqlstate, error) =
             (SELECT b.status, pg_catalog.clock_timestamp(), b.sqlstate, b.error FROM pancake_internal.sync_broken(l) b)
         WHERE l.target = $1 AND l.page_id = $2 AND l.status = 'running'
           AND ((l.kind = 'full') = ($3 = 'full') OR NOT pancake_internal.sync_goes_on(l))",
        &[page.target.into(), page.page_id.as_str().into(), page.lane.name().into()],
    );
    let values = [
        page.target.into(),
        page.page_id.as_str().into(),
        page.object.name().into(),
        page.source.into(),
        at(run.first_since),
        at(run::floor(&page.walk, run.first_since)),
    ];
    execute_prepared(
        // Of first runs that brought nothing the parameters of the last one apply.
        "INSERT INTO pancake_internal.sync_marks AS m (target, page_id, object, source, first_since, backfill_from)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (target, page_id) DO UPDATE
         SET object = EXCLUDED.object, source = EXCLUDED.source, first_since = EXCLUDED.first_since,
             backfill_from = EXCLUDED.backfill_from, forgotten = false
         WHERE m.mark IS NULL OR m.forgotten",
        &values,
    );
    let is_of_another = "SELECT EXISTS (
             SELECT FROM pancake_internal.sync_marks m
             WHERE m.target = $1 AND m.page_id <> $2 AND NOT m.forgotten)
         AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = $1 AND a.attname = 'page_id')";
    let values = [page.target.into(), page.page_id.as_str().into()];
    if first_prepared(is_of_another, &values, |row| row.get_one::<bool>()).flatten() == Some(true) {
        let target = table_name(page.target);
        let message = format!("{target} holds another page already, and has no column page_id");
        return Err(Error::new(Kind::NoSuchColumn, message));
    }
    Ok(open_run(page, run.kind, "running", Some(run.began_at)))
}

/// Records a run that was not made.
pub fn skip(page: &Page, kind: run::Kind) -> Result<()> {
    check_rights(page.target)?;
    sweep();
    open_run(page, kind, "skipped", None);
    Ok(())
}

fn open_run(page: &Page, kind: run::Kind, status: &str, began_at: Option<pancake::time::Micros>) -> i64 {
    let opened = first_prepared(
        "INSERT INTO pancake_internal.sync_log (target, page_id, kind, status, started_at, ended_at)
         VALUES ($1, $2, $3, $4, coalesce($5, clock_timestamp()), CASE WHEN $4 <> 'running' THEN clock_timestamp() END)
         RETURNING run_id",
        &[page.target.into(), page.page_id.as_str().into(), kind.name().into(), status.into(), at(began_at)],
        |row| row.get_one::<i64>(),
    );
    opened.flatten().unwrap_or_default()
}

/// What a run has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunTotals {
    pub seen: i64,
    pub inserted: i64,
    pub updated: i64,
    pub unchanged: i64,
    pub removed: i64,
    pub requests: i64,
}

/// Counts a step in the log, and returns the totals.
pub fn count(page: &Page, run_id: i64, counts: Counts, requests: u64, is_over: bool) -> Result<RunTotals> {
    check_rights(page.target)?;
    let totals = first_prepared(
        "UPDATE pancake_internal.sync_log l
         SET status = CASE WHEN $7 THEN 'ok' ELSE 'running' END, ended_at = CASE WHEN $7 THEN clock_timestamp() END,
             seen = l.seen + $2, inserted = l.inserted + $3, updated = l.updated + $4,
             unchanged = l.unchanged + $2 - $3 - $4, removed = l.removed + $5, requests = l.requests + $6
         WHERE l.run_id = $1
         RETURNING l.seen, l.inserted, l.updated, l.unchanged, l.removed, l.requests",
        &[
            run_id.into(),
            (counts.seen as i64).into(),
            (counts.inserted as i64).into(),
            (counts.updated as i64).into(),
            (counts.removed as i64).into(),
            (requests as i64).into(),
            is_over.into(),
        ],
        |row| {
            let total = |column| row.get::<i64>(column).map(Option::unwrap_or_default);
            Ok(RunTotals {
                seen: total(1)?,
                inserted: total(2)?,
                updated: total(3)?,
                unchanged: total(4)?,
                removed: total(5)?,
                requests: total(6)?,
            })
        },
    );
    Ok(totals.unwrap_or_default())
}

/// Records the error that ended a run. An error that cannot be recorded must not hide the one that
/// happened: a role that may not write the target leaves no trace.
pub fn fail(page: &Page, kind: run::Kind, run_id: Option<i64>, sqlstate: &str, message: &str, requests: u64) {
    if check_rights(page.target).is_err() {
        return;
    }
    let run_id = run_id.unwrap_or_else(|| open_run(page, kind, "failed", None));
    execute(
        "UPDATE pancake_internal.sync_log l
         SET status = 'failed', ended_at = clock_timestamp(), sqlstate = $3, error = $4, requests = l.requests + $5
         WHERE l.run_id = $1 AND l.target = $2",
        &[run_id.into(), page.target.into(), sqlstate.into(), message.into(), (requests as i64).into()],
    );
    execute(
        &format!(
            "UPDATE pancake_internal.sync_marks m SET last_error_at = clock_timestamp(), last_error = $3 WHERE {OF_PAGE}"
        ),
        &[page.target.into(), page.page_id.as_str().into(), message.into()],
    );
    let census = census(run_id);
    let is_there = "SELECT to_regclass($1) IS NOT NULL";
    if first(is_there, &[census.as_str().into()], |row| row.get_one::<bool>()).flatten() == Some(true) {
        execute(&format!("DROP TABLE {census}"), &[]);
    }
}

/// The table of rows that a full rescan looks for.
pub fn census(run_id: i64) -> String {
    format!("pg_temp.pancake_sync_{run_id}")
}

/// Forgets how far the page is synced.
pub fn reset(page: &Page) {
    execute("SELECT pancake.sync_reset($1, $2)", &[page.target.into(), page.page_id.as_str().into()]);
}

/// Forgets how far all pages of a target are synced.
pub fn forget(target: pg_sys::Oid) {
    execute("SELECT pancake.sync_reset($1)", &[target.into()]);
}
