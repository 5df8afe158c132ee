//! The settings (GUCs) of the extension.

use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

static PROGRESS_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(0);

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
    // A misspelt setting of ours is an error from now on, not a placeholder.
    // SAFETY: the prefix is a constant that ends with NUL.
    #[cfg(not(feature = "pg14"))]
    unsafe {
        pgrx::pg_sys::MarkGUCPrefixReserved(c"pancake_fdw".as_ptr());
    }
}

pub fn progress_interval() -> Option<Duration> {
    let milliseconds = u64::try_from(PROGRESS_INTERVAL.get()).ok().filter(|ms| *ms > 0);
    milliseconds.map(Duration::from_millis)
}
