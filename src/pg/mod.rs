//! This module wraps the parts of Postgres that the wrapper calls in safe Rust. It depends on no
//! plan and no scan.

pub mod catalog;
pub mod compat;
pub mod jsonb;
pub mod lock;
pub mod nodes;
pub mod report;
pub mod rights;
pub mod scope;
pub mod settings;
pub mod shared;
pub mod spi;
pub mod wait;
pub mod worker;
