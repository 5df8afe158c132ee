//! A throw-away Postgres with pancake_fdw in it.
