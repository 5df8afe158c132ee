//! This module pages through one list query, each row exactly once. Pure: HTTP, retries and the clock are passed in.

pub mod cursor;
pub mod handed;
pub mod head_check;
pub mod id_set;
pub mod offset;
pub mod pager;
pub mod time_slices;
