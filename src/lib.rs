//! pancake_fdw: the conversations of a Pancake (pages.fm) page as PostgreSQL tables.
//!
//! ```text
//! src/fdw      the callbacks of a foreign data wrapper: plan, scan, explain, import, validate
//!   │  └─────► src/pg          Postgres in safe Rust: catalogue, rights, shared memory, waiting, errors
//!   └────────► crates/pancake  the Pancake API: filters, list queries, paging, rate limit, HTTP (no Postgres)
//! sql/         the SQL objects, written by hand
//! ```
//!
//! The life of a query: `fdw::quals` turns clauses into filters, `fdw::private` carries them
//! through the plan as data, `fdw::scan` evaluates the operands at the first row and binds them
//! into chains, `pg::worker` runs `scan::run` in its thread, `fdw::slot` turns cells into datums,
//! and Postgres checks every clause again.

mod fdw;
mod pg;

pgrx::pg_module_magic!();
pgrx::extension_sql_file!("../sql/pancake_fdw--0.1.sql", name = "install");
pgrx::extension_sql_file!("../sql/sync.sql", name = "sync", requires = ["install"]);
pgrx::extension_sql_file!("../sql/webhook.sql", name = "webhook", requires = ["sync"]);

/// Called by Postgres when the library is loaded.
#[allow(non_snake_case)]
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    pg::settings::define();
}
