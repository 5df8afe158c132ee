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
