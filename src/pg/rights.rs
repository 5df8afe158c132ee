//! This module decides what the current role may see of the work of others.
//!
//! The current role is SQL's `current_user`: inside a SECURITY DEFINER function the owner of the
//! function, inside an index function that ANALYZE or an autovacuum worker runs the owner of the
//! table. The session's user has no part in it, because code of any role may run in a superuser's
//! session.

use std::collections::HashSet;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::spi::{Spi, SpiResult};

/// Returns whether the current role has the privileges of `role`, itself or as a member.
pub fn has_privileges_of(role: pg_sys::Oid) -> bool {
    // SAFETY: reads a variable of the backend.
    let current = unsafe { pg_sys::GetUserId() };
    // SAFETY: a look-up in the caches; a role that was dropped has no members.
    unsafe { pg_sys::has_privs_of_role(current, role) }
}

/// Returns whether the current role has the privileges of `pg_monitor`.
pub fn is_monitor() -> bool {
    has_privileges_of(pg_sys::ROLE_PG_MONITOR.into())
}

/// Names and operators are spelt out, because the query is executed under the caller's search_path,
/// and by the caller, because the functions in it that ask for privileges mean `current_user`.
const VISIBLE_PAGES: &str = "
    SELECT o.option_value
    FROM pg_catalog.pg_foreign_data_wrapper w
    JOIN pg_catalog.pg_foreign_server s ON s.srvfdw OPERATOR(pg_catalog.=) w.oid
    CROSS JOIN LATERAL pg_catalog.pg_options_to_table(s.srvoptions) o
    WHERE w.fdwname OPERATOR(pg_catalog.=) 'pancake_fdw' AND o.option_name OPERATOR(pg_catalog.=) 'page_id'
      AND pg_catalog.has_server_privilege(s.oid, 'USAGE')
    UNION ALL
    SELECT o.option_value
    FROM pg_catalog.pg_foreign_data_wrapper w
    JOIN pg_catalog.pg_foreign_server s ON s.srvfdw OPERATOR(pg_catalog.=) w.oid
    JOIN pg_catalog.pg_foreign_table t ON t.ftserver OPERATOR(pg_catalog.=) s.oid
    CROSS JOIN LATERAL pg_catalog.pg_options_to_table(t.ftoptions) o
    WHERE w.fdwname OPERATOR(pg_catalog.=) 'pancake_fdw' AND o.option_name OPERATOR(pg_catalog.=) 'page_id'
      AND pg_catalog.has_table_privilege(t.ftrelid, 'SELECT')";

/// Returns the pages that servers and tables of the current database name, if the current role has
/// USAGE on the server or SELECT on the table.
pub fn visible_pages() -> HashSet<String> {
    let pages = Spi::connect(|client| -> SpiResult<HashSet<String>> {
        let mut pages = HashSet::new();
        for row in client.select(VISIBLE_PAGES, None, &[])? {
            pages.extend(row.get::<String>(1)?);
        }
        Ok(pages)
    });
    pages.unwrap_or_report()
}
