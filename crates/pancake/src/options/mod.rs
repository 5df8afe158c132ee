//! This module holds the options of servers, tables and user mappings, and their units and limits.

pub mod pushdown;
pub mod suggest;
pub mod table;
pub mod token_file;
pub mod units;
