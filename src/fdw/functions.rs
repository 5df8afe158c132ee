//! This module holds the functions behind the views and functions of the schema `pancake`. Of the
//! work of other roles they return only what the current role may see. What that is, is left to
//! `pg::rights`. Their SQL declarations are in sql/.

use std::sync::atomic::Ordering::Relaxed;

use pancake::stats::PageStats;
use pancake::time::Micros;
use pgrx::datum::{AnyNumeric, TimestampWithTimeZone};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};

use crate::fdw::outcome::REPLIED_AT;
use crate::fdw::params::POSTGRES_EPOCH;
use crate::pg::report::OrRaise;
use crate::pg::rights::{has_privileges_of, is_monitor, visible_pages};
use crate::pg::shared::{CLOCKS, shared};

/// `pancake.version()` is made of this: library, and pgrx.
#[pg_extern(sql = false)]
fn pancake_fdw_build() -> TableIterator<'static, (name!(library, &'static str), name!(pgrx, &'static str))> {
    TableIterator::once((env!("CARGO_PKG_VERSION"), env!("PGRX_VERSION")))
}

/// The view `pancake.request_stats`: all pages for members of pg_monitor, for others the pages of
/// servers and tables that they may use.
#[pg_extern(sql = false)]
#[expect(clippy::type_complexity, reason = "the columns of a view")]
fn pancake_fdw_request_stats() -> TableIterator<
    'static,
    (
        name!(page_id, Option<String>),
        name!(requests, i64),
        name!(rows, i64),
        name!(bytes, i64),
        name!(retries, i64),
        name!(throttled, i64),
        name!(errors, i64),
        name!(limit_wait_ms, i64),
        name!(rate, Option<AnyNumeric>),
        name!(last_request_at, Option<TimestampWithTimeZone>),
        name!(last_error_at, Option<TimestampWithTimeZone>),
        name!(last_sqlstate, Option<String>),
        name!(last_error, Option<String>),
        name!(since, Option<TimestampWithTimeZone>),
    ),
> {
    let visible = (!is_monitor()).then(visible_pages);
    let pages = shared().or_raise().memory.stats.iter().filter(|page| page.is_used());
    let page = |page: &PageStats| {
        // Read once: another backend may write a page into the same slot.
        let page_id = page.page_id.read();
        if visible.as_ref().is_some_and(|pages| !pages.contains(&page_id)) {
            return None;
        }
        let rate = page.rate_milli.get().map(|milli| milli.0 as f64 / 1000.0);
        Some((
            // A user's list of pages is of no page.
            some(page_id),
            page.requests.get() as i64,
            page.rows.get() as i64,
            page.bytes.get() as i64,
            page.retries.get() as i64,
            page.throttled.get() as i64,
            page.errors.get() as i64,
            page.limit_wait.get().as_millis() as i64,
            rate.and_then(|rate| rate.try_into().ok()),
            time(page.last_request_at.get()),
            time(page.last_error_at.get()),
            some(page.last_sqlstate.read()),
            some(page.last_error.read()),
            time(page.since.get()),
        ))
    };
    TableIterator::new(pages.filter_map(page).collect::<Vec<_>>())
}

/// `pancake.request_stats_reset()`.
#[pg_extern(sql = false)]
fn pancake_fdw_request_stats_reset() {
    let now = (CLOCKS.wall_micros)();
    shared().or_raise().memory.stats.iter().filter(|page| page.is_used()).for_each(|page| page.reset(now));
}

/// The view `pancake.progress`: all scans for members of pg_monitor, for others those of the roles
/// whose privileges they have.
#[pg_extern(sql = false)]
#[expect(clippy::type_complexity, reason = "the columns of a view")]
fn pancake_fdw_progress() -> TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(page_id, Option<String>),
        name!(object, String),
        name!(started_at, Option<TimestampWithTimeZone>),
        name!(requests, i64),
        name!(rows, i64),
        name!(oldest_row, Option<TimestampWithTimeZone>),
        name!(waiting_for, String),
    ),
> {
    let mut running = Vec::new();
    let sees_all = is_monitor();
    for scan in shared().or_raise().scans {
        let Some(pid) = scan.owner().map(|pid| pid as i32) else { continue };
        // SAFETY: a look-up in shared memory; a backend that died without a word is left out.
        if unsafe { pg_sys::BackendPidGetProc(pid).is_null() } {
            continue;
        }
        let role = scan.role.get();
        if !sees_all && !has_privileges_of(role.try_into().map_or(pg_sys::InvalidOid, pg_sys::Oid::from_u32))
        {
            continue;
        }
        let line = (
            pid,
            some(scan.page_id.read()),
            scan.object.read(),
            time(scan.started_at.get()),
            scan.requests.get().map_or(0, |n| n.0),
            scan.rows.get().map_or(0, |n| n.0),
            time(scan.oldest_row.get()),
            scan.waiting_for.read(),
        );
        // A scan of another role may have taken the slot while it was read.
        if scan.role.get() == role {
            running.push(line);
        }
    }
    TableIterator::new(running)
}

/// `pancake_internal.sync_server_time()`: when the last reply left Pancake, by its `Date` and a
/// second, or now by our clock. A row of a later time is dated ahead.
#[pg_extern(sql = false)]
fn pancake_fdw_server_time() -> Option<TimestampWithTimeZone> {
    time(Some(server_time()))
}

pub fn server_time() -> Micros {
    Micros(match REPLIED_AT.load(Relaxed) {
        0 => (CLOCKS.wall_micros)(),
        replied_at => replied_at,
    })
}

pub fn time(at: Option<Micros>) -> Option<TimestampWithTimeZone> {
    let micros = match at?.0 {
        infinite @ (i64::MIN | i64::MAX) => infinite,
        micros => micros.saturating_sub(POSTGRES_EPOCH),
    };
    micros.try_into().ok()
}

pub fn micros(at: Option<TimestampWithTimeZone>) -> Option<Micros> {
    at.map(|at| match i64::from(at) {
        infinite @ (i64::MIN | i64::MAX) => Micros(infinite),
        micros => Micros(micros.saturating_add(POSTGRES_EPOCH)),
    })
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
