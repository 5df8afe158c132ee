//! This module fills the table of callbacks that Postgres asks for. What is left null Postgres
//! refuses or does itself: writing, direct modification, parallel scans. (A scan that may run in
//! parallel is never driven together with others by an Append.)

use pgrx::{Internal, PgBox, pg_extern, pg_sys};

use crate::fdw::{analyze, append, explain, import, relation, scan};

/// `pancake.pancake_fdw_handler()`.
#[pg_extern(sql = false)]
fn pancake_fdw_handler() -> Internal {
    // SAFETY: the tag is that of the type.
    let mut routine = unsafe { PgBox::<pg_sys::FdwRoutine>::alloc_node(pg_sys::NodeTag::T_FdwRoutine) };
    routine.GetForeignRelSize = Some(relation::get_foreign_rel_size);
    routine.GetForeignPaths = Some(relation::get_foreign_paths);
    routine.GetForeignPlan = Some(relation::get_foreign_plan);
    routine.BeginForeignScan = Some(scan::begin_foreign_scan);
    routine.IterateForeignScan = Some(scan::iterate_foreign_scan);
    routine.ReScanForeignScan = Some(scan::rescan_foreign_scan);
    routine.EndForeignScan = Some(scan::end_foreign_scan);
    routine.IsForeignPathAsyncCapable = Some(append::is_foreign_path_async_capable);
    routine.ForeignAsyncRequest = Some(append::foreign_async_request);
    routine.ForeignAsyncConfigureWait = Some(append::foreign_async_configure_wait);
    routine.ForeignAsyncNotify = Some(append::foreign_async_notify);
    routine.ExplainForeignScan = Some(explain::explain_foreign_scan);
    routine.ImportForeignSchema = Some(import::import_foreign_schema);
    routine.AnalyzeForeignTable = Some(analyze::analyze_foreign_table);
    Internal::from(Some(pg_sys::Datum::from(routine.into_pg())))
}
