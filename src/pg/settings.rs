//! This module defines the settings (GUCs) of the extension.

use std::time::Duration;

use pancake::schema::keyset::Order;
use pgrx::PostgresGucEnum;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
enum OrderBy {
    #[name = c"auto"]
    Auto,
    #[name = c"inserted_at"]
    InsertedAt,
    #[name = c"updated_at"]
    UpdatedAt,
}

static ORDER_BY: GucSetting<OrderBy> = GucSetting::<OrderBy>::new(OrderBy::Auto);
static PROGRESS_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(0);
/// 200 pages of 300 rows take 95 MB of the backend with it, and 5.5 s; with 1 MB 40 MB and 15 s
/// (docs/benchmark.md, Copies).
static SYNC_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(44 << 10);
static MAX_CONCURRENCY: GucSetting<i32> = GucSetting::<i32>::new(64);

pub fn define() {
    GucRegistry::define_int_guc(
        c"pancake_fdw.progress_interval",
        c"Sends a NOTICE at this interval while a statement fetches from Pancake.",
        c"Zero turns it off.",
        &PROGRESS_INTERVAL,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"pancake_fdw.max_concurrency",
        c"Lowers the server option max_concurrency for this session: requests of one scan at once.",
        c"One walks the list with as few requests as there can be.",
        &MAX_CONCURRENCY,
        1,
        64,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pancake_fdw.sync_memory",
        c"Limits the memory for rows that pancake.sync reads ahead, of all pages of a CALL together.",
        c"With less, steps are smaller and more.",
        &SYNC_MEMORY,
        64,
        1 << 20,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_enum_guc(
        c"pancake_fdw.order_by",
        c"The order in which a list that has two is read where a query asks for none.",
        c"auto chooses the one that costs fewer requests.",
        &ORDER_BY,
        GucContext::Userset,
        GucFlags::default(),
    );
    // A misspelt setting of ours is an error from now on, not a placeholder.
    // SAFETY: the prefix is a constant that ends with NUL.
    unsafe {
        pgrx::pg_sys::MarkGUCPrefixReserved(c"pancake_fdw".as_ptr());
    }
}

pub fn progress_interval() -> Option<Duration> {
    let milliseconds = u64::try_from(PROGRESS_INTERVAL.get()).ok().filter(|ms| *ms > 0);
    milliseconds.map(Duration::from_millis)
}

/// Returns the bytes that a sync may read ahead.
pub fn sync_memory() -> usize {
    usize::try_from(SYNC_MEMORY.get()).unwrap_or_default() << 10
}

/// What the session allows of the server's option.
pub fn max_concurrency() -> u32 {
    u32::try_from(MAX_CONCURRENCY.get()).unwrap_or(1)
}

/// Returns the order in which the session reads lists, if it is set.
pub fn order_by() -> Option<Order> {
    match ORDER_BY.get() {
        OrderBy::Auto => None,
        OrderBy::InsertedAt => Some(Order::InsertedAt),
        OrderBy::UpdatedAt => Some(Order::UpdatedAt),
    }
}
