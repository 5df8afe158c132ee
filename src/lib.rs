//! pancake_fdw
pgrx::pg_module_magic!();
