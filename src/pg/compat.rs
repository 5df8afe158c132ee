//! This module holds the differences between the supported majors of Postgres, each in one place.

use std::time::Duration;

use pgrx::pg_sys;

use crate::pg::nodes::list;

// executor/execAsync.h, which pgrx does not bind. Only the last one can raise.
unsafe extern "C-unwind" {
    fn ExecAsyncRequestDone(request: *mut pg_sys::AsyncRequest, result: *mut pg_sys::TupleTableSlot);
    fn ExecAsyncRequestPending(request: *mut pg_sys::AsyncRequest);
    fn ExecAsyncResponse(request: *mut pg_sys::AsyncRequest);
}

/// Answers an Append's request: with a row, with none any more, or not yet.
pub fn answer(request: *mut pg_sys::AsyncRequest, row: Option<*mut pg_sys::TupleTableSlot>) {
    // SAFETY: callers pass core's own request, alive as long as its Append; they set its fields and
    // nothing else.
    unsafe {
        match row {
            Some(slot) => ExecAsyncRequestDone(request, slot),
            None => ExecAsyncRequestPending(request),
        }
    }
}

/// Delivers a row to the Append that it did not ask for just now.
pub fn deliver(request: *mut pg_sys::AsyncRequest) {
    // SAFETY: as above, on the backend's own thread.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| ExecAsyncResponse(request)) }
}

/// Returns the time after which Postgres cancels a statement or a transaction of this session.
pub fn timeout() -> Option<Duration> {
    // SAFETY: reads a variable of the backend, in milliseconds.
    let statement = unsafe { pg_sys::StatementTimeout };
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    // SAFETY: as above.
    let transaction = unsafe { pg_sys::TransactionTimeout };
    #[cfg(not(any(feature = "pg17", feature = "pg18")))]
    let transaction = 0;
    let shortest = [statement, transaction].into_iter().filter(|timeout| *timeout > 0).min();
    shortest.map(|timeout| Duration::from_millis(u64::from(timeout.unsigned_abs())))
}

/// Returns whether this session holds the lock.
///
/// # Safety
/// The tag is complete.
pub unsafe fn holds_lock(tag: &pg_sys::LOCKTAG, mode: pg_sys::LOCKMODE) -> bool {
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    // SAFETY: a look-up in the memory of the backend.
    let holds = unsafe { pg_sys::LockHeldByMe(tag, mode, false) };
    #[cfg(not(any(feature = "pg17", feature = "pg18")))]
    // SAFETY: as above.
    let holds = unsafe { pg_sys::LockHeldByMe(tag, mode) };
    holds
}

/// Whether members of this Merge Append may be left out when it runs.
pub fn may_be_pruned(append: *const pg_sys::MergeAppend) -> bool {
    // SAFETY: callers pass a node of a plan.
    let append = unsafe { &*append };
    #[cfg(feature = "pg18")]
    let may_be_pruned = append.part_prune_index >= 0;
    #[cfg(not(feature = "pg18"))]
    let may_be_pruned = !append.part_prune_info.is_null();
    may_be_pruned
}

/// The role that a foreign scan runs as: the view's owner, the definer, or the caller.
pub fn scan_user(plan: &pg_sys::ForeignScan, estate: *mut pg_sys::EState) -> pg_sys::Oid {
    #[cfg(feature = "pg15")]
    let user = {
        // SAFETY: the executor's range table holds the scan's relation.
        let entry = unsafe { pg_sys::exec_rt_fetch(plan.scan.scanrelid, estate) };
        // SAFETY: exec_rt_fetch returns an entry of that table.
        unsafe { (*entry).checkAsUser }
    };
    #[cfg(not(feature = "pg15"))]
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

/// Whether the role has the privilege USAGE on a foreign server.
pub fn may_use_server(server: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    #[cfg(feature = "pg15")]
    // SAFETY: a look-up in the catalogs, which raises where the server is gone.
    let found = unsafe { pg_sys::pg_foreign_server_aclcheck(server, role, pg_sys::ACL_USAGE) };
    #[cfg(not(feature = "pg15"))]
    let found = {
        // Wider since 16.
        let mode = pg_sys::AclMode::from(pg_sys::ACL_USAGE);
        // SAFETY: as above.
        unsafe { pg_sys::object_aclcheck(pg_sys::ForeignServerRelationId, server, role, mode) }
    };
    found == pg_sys::AclResult::ACLCHECK_OK
}

/// What a path gives and takes.
pub struct Costs {
    pub rows: f64,
    pub startup: f64,
    pub total: f64,
}

/// A path over a foreign table.
///
/// # Safety
/// `root`, `relation` and the sets and lists are the planner's, alive in this call.
pub unsafe fn foreign_path(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    costs: &Costs,
    pathkeys: *mut pg_sys::List,
    required_outer: pg_sys::Relids,
    private: *mut pg_sys::List,
) -> *mut pg_sys::Path {
    use std::ptr::null_mut;
    // SAFETY: as above; null stands for the default target and for no outer path.
    let path = unsafe {
        pg_sys::create_foreignscan_path(
            root,
            relation,
            null_mut(),
            costs.rows,
            #[cfg(feature = "pg18")]
            0,
            costs.startup,
            costs.total,
            pathkeys,
            required_outer,
            null_mut(),
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            null_mut(),
            private,
        )
    };
    path.cast()
}

/// What is equal to each other, as it stands for this relation: where that is a partition, its own
/// columns.
///
/// # Safety
/// The class is the planner's, alive in this call.
pub unsafe fn members(
    class: *const pg_sys::EquivalenceClass,
    relid: u32,
) -> Vec<*mut pg_sys::EquivalenceMember> {
    // SAFETY: as above. Until 17 all of them are in one list.
    let members = list((unsafe { &*class }).ec_members);
    #[cfg(feature = "pg18")]
    // SAFETY: as above; the array, null if there is none, has that many lists.
    let members = unsafe {
        let of_partitions = (*class).ec_childmembers;
        let has = !of_partitions.is_null() && relid < (*class).ec_childmembers_size as u32;
        let own = if has { list(*of_partitions.add(relid as usize)) } else { Vec::new() };
        [members, own].concat()
    };
    #[cfg(not(feature = "pg18"))]
    let _ = relid;
    members
}

/// Whether a path key is a descending order of times.
pub fn is_descending(key: &pg_sys::PathKey) -> bool {
    /// The btree family `datetime_ops`.
    const DATETIME: u32 = 434;
    #[cfg(not(feature = "pg18"))]
    let descending = key.pk_strategy == pg_sys::BTGreaterStrategyNumber as i32;
    #[cfg(feature = "pg18")]
    let descending = key.pk_cmptype == pg_sys::CompareType::COMPARE_GT;
    descending && key.pk_opfamily.to_u32() == DATETIME
}
