//! A throw-away Postgres with pancake_fdw in it: what the SQL tests, the demo and the benchmark
//! stand on.
//!
//! From the ground up: a [`folder`] in /tmp that goes when the process goes, in it a [`tree`] (a
//! private copy of Postgres with the extension installed), in that a [`cluster`] with its
//! databases, talked to through [`sql`]; and a [`shop`], which joins a database to a simulated
//! page. What is tested, shown or measured is left to the callers.

pub mod account;
pub mod cluster;
pub mod database;
pub mod folder;
mod once;
pub mod page;
pub mod shop;
pub mod sql;
pub mod tree;

pub use cluster::{Cluster, Mode};
pub use database::{Database, Output};
pub use shop::{ONE_CHAIN, Shop};
pub use sql::{Session, SqlError};
pub use tree::Tree;
