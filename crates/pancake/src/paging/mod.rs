//! This module pages through one list query, each row exactly once. Pure: what a page refuses is
//! remembered by `verdicts`; HTTP, retries and the clock are passed in.

pub mod cursor;
pub mod handed;
pub mod head_check;
pub mod id_set;
pub mod offset;
pub mod pager;
pub mod time_slices;
pub mod verdicts;
