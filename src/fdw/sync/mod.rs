//! This module is `pancake.sync` as Postgres executes it. The procedure commits and catches errors,
//! and calls the functions below for all the rest. What is done next is decided in `pancake::sync`.
//!
//! A procedure that commits can neither be SECURITY DEFINER nor carry a SET clause. So everything
//! that is executed under the caller's search_path names schema and operator, and the rest sets a
//! search_path of its own. All of it runs with the rights of `current_user`.

mod begin;
mod call;
mod failure;
mod gone;
mod marks;
mod page;
mod rows;
mod settle;
mod tables;
mod threads;

use std::cell::RefCell;
use std::sync::Once;
use std::time::Duration;

use pancake::error::{Error, Kind, Result};
use pancake::sync::run::{Parameters, THREAD_REPLIES};
use pancake::time::Micros;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_guard, pg_sys};

use crate::fdw::ahead;
use crate::fdw::functions::micros;
use crate::fdw::sync::call::Call;
use crate::fdw::sync::failure::Failure;
use crate::fdw::sync::page::Page;
use crate::pg::catalog::{ForeignTable, table_name};
use crate::pg::report::{OrRaise, notice};
use crate::pg::scope::SettingsScope;
use crate::pg::shared::CLOCKS;
use crate::pg::spi::first;
use crate::pg::{compat, lock};

/// A CALL whose arguments were read.
struct Opened {
    parameters: Parameters,
    patience: Duration,
    pages: Vec<tables::SourcePage>,
}

#[derive(Default)]
struct State {
    user: Option<pg_sys::Oid>,
    opened: Option<Opened>,
    call: Option<Call>,
}

thread_local! {
    /// The CALL that this session executes.
    static STATE: RefCell<State> = RefCell::default();
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
        let state = STATE.with(|state| state.try_borrow_mut().map(|mut state| std::mem::take(&mut *state)));
        drop(state);
        ahead::end();
    }
}

/// Calls `with` with the state of the CALL, which the current role made. What a statement of the
/// CALL executes has no access to it.
fn with_state<T>(with: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
    let refused = || Error::new(Kind::NotPermitted, "this function is of pancake.sync alone");
    STATE.with(|state| {
        let mut state = state.try_borrow_mut().map_err(|_| refused())?;
        if state.user != Some(current_user()) {
            return Err(refused());
        }
        with(&mut state)
    })
}

fn duration(interval: Interval) -> Result<Duration> {
    let micros = u64::try_from(interval.as_micros().min(i128::from(i64::MAX)));
    micros.map(Duration::from_micros).map_err(|_| {
        Error::new(Kind::BadArgument, "an interval of a sync cannot be negative, nor lookback NULL")
    })
}

/// `pancake_internal.sync_open(…)`: reads the arguments. Returns the statements that create the
/// target if it does not exist.
#[pg_extern(sql = false)]
#[expect(clippy::too_many_arguments, reason = "the parameters of the procedure")]
fn pancake_fdw_sync_open(
    source: Option<pg_sys::Oid>,
    target: Option<&str>,
    lookback: Option<Interval>,
    reread: Option<Interval>,
    reread_every: Option<Interval>,
    full_rescan: Option<bool>,
    wait: Option<Interval>,
    first_since: Option<TimestampWithTimeZone>,
) -> Option<Vec<String>> {
    must_commit().or_raise();
    let optional = |interval: Option<Interval>| interval.map(duration).transpose().or_raise();
    let (Some(source), Some(target)) = (source, target) else {
        return Err(Error::new(Kind::NullArgument, "a sync needs a source and a target")).or_raise();
    };
    let no_lookback =
        || Error::new(Kind::BadArgument, "an interval of a sync cannot be negative, nor lookback NULL");
    let called_at = Micros((CLOCKS.wall_micros)());
    let batch_rows = "SELECT pancake_internal.sync_batch_rows()";
    let batch_rows = first(batch_rows, &[], |row| row.get_one::<i64>()).flatten().unwrap_or_default();
    let parameters = Parameters {
        lookback: optional(lookback).ok_or_else(no_lookback).or_raise(),
        reread: optional(reread),
        reread_every: optional(reread_every),
        is_full: full_rescan == Some(true),
        first_since: micros(first_since),
        called_at,
        batch_rows: batch_rows as u64,
        thread_replies: THREAD_REPLIES,
    };
    let patience = optional(wait).unwrap_or_default();
    let pages = {
        let _scope = SettingsScope::internal();
        tables::pages(source).or_raise()
    };
    let definition = missing(target).map(|schema| {
        let _scope = SettingsScope::internal();
        tables::definition(&pages[0], target, schema).or_raise()
    });
    STATE.with_borrow_mut(|state| {
        let opened = Some(Opened { parameters, patience, pages });
        *state = State { user: Some(current_user()), opened, call: None };
    });
    ahead::open();
    definition
}

/// Raises unless the procedure may commit, as core will judge when it does. It may not in a
/// transaction block, in a string of several statements, in a function, in an EXCEPTION block.
fn must_commit() -> Result<()> {
    static ONCE: Once = Once::new();
    // SAFETY: the callback lives as long as the library, which is never unloaded.
    ONCE.call_once(|| unsafe { pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut()) });
    // SAFETY: both look at variables of the backend.
    if unsafe { pg_sys::SPI_inside_nonatomic_context() && !pg_sys::IsTransactionBlock() } {
        return Ok(());
    }
    let message = "pancake.sync commits, so it cannot run inside a transaction block or a function";
    Err(Error::new(Kind::NotInTransaction, message).hint(
        "Give it as one statement of its own: one CALL per line, with autocommit on, and not beside other \
         statements in one string.",
    ))
}

/// Returns the schema in which the target is created if it does not exist. Two first calls at once
/// would both create it, so the second one waits.
fn missing(target: &str) -> Option<Option<String>> {
    let exists = || find(target, "SELECT pg_catalog.to_regclass($1)").is_some();
    if exists() {
        return None;
    }
    if !may_create(target) {
        // The statement that creates it fails. Nothing is locked for it.
        return Some(current_schema());
    }
    let key = "SELECT pg_catalog.hashtextextended($1, 0)";
    let key = first(key, &[target.into()], |row| row.get_one::<i64>()).flatten();
    lock::take_until_end(key.unwrap_or_default());
    if exists() {
        return None;
    }
    Some(current_schema())
}

fn current_schema() -> Option<String> {
    let schema = "SELECT pg_catalog.current_schema()::pg_catalog.text";
    first(schema, &[], |row| row.get_one::<String>()).flatten()
}

fn may_create(target: &str) -> bool {
    const MAY: &str = "
        SELECT pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace(pg_catalog.quote_ident(
            CASE WHEN pg_catalog.cardinality(p) OPERATOR(pg_catalog.=) 1
                THEN pg_catalog.current_schema()::pg_catalog.text ELSE p[1] END))::pg_catalog.oid, 'CREATE')
        FROM pg_catalog.parse_ident($1) AS p";
    first(MAY, &[target.into()], |row| row.get_one::<bool>()).flatten() == Some(true)
}

fn find(target: &str, query: &str) -> Option<pg_sys::Oid> {
    first(query, &[target.into()], |row| row.get_one::<pg_sys::Oid>()).flatten()
}

/// `pancake_internal.sync_created(target)`: what cannot be copied leaves no table behind.
#[pg_extern(sql = false)]
fn pancake_fdw_sync_created(target: pg_sys::Oid) {
    let created = with_state(|state| {
        let Some(opened) = &state.opened else { return Ok(()) };
        let _scope = SettingsScope::internal();
        let page = opened.pages[0].clone();
        let page = Page::new(page, target, opened.parameters.clone(), opened.patience, true);
        // Of a table that is gone marks may be left, and its oid is given out again one day.
        marks::forget(target);
        tables::shape(&page)?;
        notice(format!("created table {}", table_name(target)));
        Ok(())
    });
    created.or_raise();
}

/// `pancake_internal.sync_start(target)`: takes the pages in.
#[pg_extern(sql = false)]
fn pancake_fdw_sync_start(target: pg_sys::Oid) {
    let started = with_state(|state| {
        let Some(Opened { parameters, patience, pages }) = state.opened.take() else { return Ok(()) };
        let is_alone = pages.len() == 1;
        let page = |page: tables::SourcePage| {
            let mut parameters = parameters.clone();
            // A page whose options cannot be read fails when it is begun.
            if let (Some(timeout), Ok(table)) = (compat::timeout(), ForeignTable::read(page.source)) {
                parameters.fit_into(timeout, table.server.requests_per_second);
            }
            Page::new(page, target, parameters, patience, is_alone)
        };
        state.call = Some(Call::new(pages.into_iter().map(page).collect()));
        Ok(())
    });
    started.or_raise();
}

/// `pancake_internal.sync_step()`: prepares or executes a step. Returns whether there are more.
#[pg_extern(sql = false)]
fn pancake_fdw_sync_step() -> bool {
    with_state(|state| state.call.as_mut().map_or(Ok(false), Call::step)).or_raise()
}

/// `pancake_internal.sync_failed(…)`: takes in the error that ended a step. Returns whether there
/// are more.
#[pg_extern(sql = false)]
fn pancake_fdw_sync_failed(sqlstate: String, message: String, detail: String, hint: String) -> bool {
    let failure = Failure { page_id: String::new(), sqlstate, message, detail, hint };
    with_state(|state| state.call.as_mut().map_or(Ok(false), |call| call.fail(failure))).or_raise()
}

/// `pancake_internal.sync_outcome()`: the error that the statement ends with, if it does.
#[pg_extern(sql = false)]
fn pancake_fdw_sync_outcome() -> TableIterator<
    'static,
    (name!(sqlstate, String), name!(message, String), name!(detail, String), name!(hint, String)),
> {
    let outcome = with_state(|state| Ok(state.call.as_mut().and_then(Call::outcome))).or_raise();
    let outcome = outcome.map(|f| (f.sqlstate, f.message, f.detail, f.hint));
    TableIterator::new(outcome)
}
