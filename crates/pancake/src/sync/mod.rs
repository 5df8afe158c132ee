//! This module holds what a sync decides, apart from the database that it writes to.

pub mod head;
