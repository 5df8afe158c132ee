//! What Postgres lends us, in safe Rust. Nothing here knows what a plan or a scan is.

pub mod catalog;
pub mod compat;
pub mod jsonb;
pub mod nodes;
pub mod report;
pub mod rights;
pub mod settings;
pub mod shared;
pub mod wait;
pub mod worker;
