//! The differences between the supported majors of Postgres, each in one place.

use pgrx::pg_sys;

/// The role that a foreign scan runs as: the view's owner, the definer, or the caller.
pub fn scan_user(plan: &pg_sys::ForeignScan, estate: *mut pg_sys::EState) -> pg_sys::Oid {
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    let user = {
        // SAFETY: the executor's range table holds the scan's relation.
        let entry = unsafe { pg_sys::exec_rt_fetch(plan.scan.scanrelid, estate) };
        // SAFETY: exec_rt_fetch returns an entry of that table.
        unsafe { (*entry).checkAsUser }
    };
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    let user = {
        let _ = estate;
        plan.checkAsUser
    };
    match user {
        // SAFETY: reads a variable of the backend.
        pg_sys::InvalidOid => unsafe { pg_sys::GetUserId() },
        user => user,
    }
}

/// A plain path over a foreign table, without order or parameters of its own.
///
/// # Safety
/// `root` and `relation` are the planner's, alive in this call.
pub unsafe fn foreign_path(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    startup_cost: f64,
    total_cost: f64,
) -> *mut pg_sys::Path {
    use std::ptr::null_mut;
    // SAFETY: as above; null stands for the default target, no path keys, no outer path and no private data.
    let path = unsafe {
        pg_sys::create_foreignscan_path(
            root,
            relation,
            null_mut(),
            (*relation).rows,
            #[cfg(feature = "pg18")]
            0,
            startup_cost,
            total_cost,
            null_mut(),
            (*relation).lateral_relids,
            null_mut(),
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            null_mut(),
            null_mut(),
        )
    };
    path.cast()
}
