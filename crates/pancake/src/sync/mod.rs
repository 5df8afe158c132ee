//! This module decides how a copy of a list is kept: which run comes next, what each of its steps
//! reads and writes, and what that means for the marks. It executes nothing.

pub mod frozen;
pub mod head;
pub mod marks;
pub mod run;
pub mod settle;
pub mod shape;
pub mod skips;
pub mod sql;
pub mod statement;
pub mod threads;
pub mod walk;

#[cfg(test)]
mod model;
#[cfg(test)]
mod threads_model;
