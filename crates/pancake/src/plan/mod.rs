//! This module turns WHERE clauses into list queries: a superset of the rows that match, as data.

pub mod anchor;
pub mod describe;
pub mod filter;
pub mod pushdown;
pub mod request;
