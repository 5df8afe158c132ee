//! This module holds the C functions behind the views and functions of the schema `pancake`. They
//! return JSON, and of the work of other roles only what the current role may see. What that is, is
//! left to `pg::rights`.

use std::sync::atomic::Ordering::Relaxed;

use pancake::schema::keyset::Order;
use pancake::time::Micros;
use pgrx::{FromDatum, IntoDatum, pg_guard, pg_sys};
use serde_json::{Value, json};

use crate::fdw::cost::known_of;
use crate::fdw::fetch::{REPLIED_AT, REQUESTS};
use crate::pg::catalog::ForeignTable;
use crate::pg::report::OrRaise;
use crate::pg::rights::{has_privileges_of, is_monitor, visible_pages};
use crate::pg::shared::{CLOCKS, shared};
use crate::sql_function;

sql_function!(pg_finfo_pancake_fdw_library_version);
sql_function!(pg_finfo_pancake_fdw_request_stats);
sql_function!(pg_finfo_pancake_fdw_request_stats_reset);
sql_function!(pg_finfo_pancake_fdw_progress);
sql_function!(pg_finfo_pancake_fdw_may_commit);
sql_function!(pg_finfo_pancake_fdw_requests);
sql_function!(pg_finfo_pancake_fdw_server_time);
sql_function!(pg_finfo_pancake_fdw_is_dated);

/// `pancake.version()` is made of this: library, Postgres it was built for, pgrx.
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn pancake_fdw_library_version(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let built_for = pg_sys::PG_VERSION.to_str().unwrap_or_default();
    json_text(json!({
        "library": env!("CARGO_PKG_VERSION"),
        "postgres": built_for,
        "pgrx": env!("PGRX_VERSION"),
    }))
}

/// Behind the view `pancake.request_stats`: all pages for members of pg_monitor, for others the
/// pages of servers and tables that they may use.
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn pancake_fdw_request_stats(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let visible = (!is_monitor()).then(visible_pages);
    let pages = shared().or_raise().memory.stats.iter().filter(|page| page.is_used());
    let page = |page: &pancake::stats::PageStats| {
        // Read once: another backend may write a page into the same slot.
        let page_id = page.page_id.read();
        if visible.as_ref().is_some_and(|pages| !pages.contains(&page_id)) {
            return None;
        }
        Some(json!({
            "page_id": of_page(page_id),
            "requests": page.requests.get(),
            "rows": page.rows.get(),
            "bytes": page.bytes.get(),
            "retries": page.retries.get(),
            "throttled": page.throttled.get(),
            "errors": page.errors.get(),
            "limit_wait_ms": page.limit_wait.get().as_millis() as u64,
            "rate": page.rate_milli.get().map(|milli| milli.0 as f64 / 1000.0),
            "last_request_at": time(page.last_request_at.get()),
            "last_error_at": time(page.last_error_at.get()),
            "last_sqlstate": some(page.last_sqlstate.read()),
            "last_error": some(page.last_error.read()),
            "since": time(page.since.get()),
        }))
    };
    json_text(pages.filter_map(page).collect())
}

/// `pancake.request_stats_reset()`.
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn pancake_fdw_request_stats_reset(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let now = (CLOCKS.wall_micros)();
    shared().or_raise().memory.stats.iter().filter(|page| page.is_used()).for_each(|page| page.reset(now));
    pg_sys::Datum::from(0)
}

/// Behind the view `pancake.progress`: all scans for members of pg_monitor, for others those of the
/// roles whose privileges they have.
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn pancake_fdw_progress(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let mut running = Vec::new();
    let sees_all = is_monitor();
    for scan in shared().or_raise().scans {
        let Some(pid) = scan.owner() else { continue };
        // SAFETY: a look-up in shared memory; a backend that died without a word is left out.
        if unsafe { pg_sys::BackendPidGetProc(pid as i32).is_null() } {
            continue;
        }
        let role = scan.role.get();
        if !sees_all && !has_privileges_of(role.try_into().map_or(pg_sys::InvalidOid, pg_sys::Oid::from_u32))
        {
            continue;
        }
        let line = json!({
            "pid": pid,
            "page_id": of_page(scan.page_id.read()),
            "object": scan.object.read(),
            "started_at": time(scan.started_at.get()),
            "requests": scan.requests.get().map_or(0, |n| n.0),
            "rows": scan.rows.get().map_or(0, |n| n.0),
            "oldest_row": time(scan.oldest_row.get()),
            "waiting_for": scan.waiting_for.read(),
        });
        // A scan of another role may have taken the slot while it was read.
        if scan.role.get() == role {
            running.push(line);
        }
    }
    json_text(Value::from(running))
}

/// `pancake.sync_may_commit()`: whether the procedure that asks may commit, as core will judge when
/// it does. False in a transaction block, in a string of several statements, in a function, in an
/// EXCEPTION block.
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn pancake_fdw_may_commit(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: both look at variables of the backend.
    let may = unsafe { pg_sys::SPI_inside_nonatomic_context() && !pg_sys::IsTransactionBlock() };
    pg_sys::Datum::from(may)
}

/// `pancake.sync_requests()`: requests that this session's scans have made, those that run now left
/// out.
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn pancake_fdw_requests(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    pg_sys::Datum::from(REQUESTS.load(Relaxed) as i64)
}

/// `pancake.sync_server_time()`: when the last reply left Pancake, by its `Date` and a second, or
/// now by our clock. A row of a later time is dated ahead.
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn pancake_fdw_server_time(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let replied_at = match REPLIED_AT.load(Relaxed) {
        0 => (CLOCKS.wall_micros)(),
        replied_at => replied_at,
    };
    pg_sys::Datum::from(replied_at - MICROS_OF_2000)
}

/// `pancake.sync_is_dated(list)`: whether no row was seen far below the place of the `inserted_at`
/// that it shows.
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn pancake_fdw_is_dated(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the function is declared with one argument, and STRICT.
    let table = unsafe { pg_sys::Oid::from_datum((*call).args.as_slice(1)[0].value, false) };
    let table = ForeignTable::read(table.unwrap_or(pg_sys::InvalidOid)).or_raise();
    pg_sys::Datum::from(known_of(&table, Order::InsertedAt).ends_by_time)
}

/// Postgres counts from 2000-01-01.
const MICROS_OF_2000: i64 = 946_684_800_000_000;

fn time(at: Option<Micros>) -> Value {
    at.map_or(Value::Null, |at| Value::from(at.iso()))
}

fn some(text: String) -> Value {
    if text.is_empty() { Value::Null } else { Value::from(text) }
}

fn json_text(value: Value) -> pg_sys::Datum {
    value.to_string().into_datum().unwrap_or(pg_sys::Datum::from(0))
}

/// A user's list of pages is of no page.
fn of_page(page_id: String) -> Option<String> {
    Some(page_id).filter(|page_id| !page_id.is_empty())
}
