//! All tests that speak SQL, in one binary: one link, one private Postgres, one shared cluster.
//! Each module keeps to one promise of the extension; `harness` asks whether the ground holds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ahead;
mod answers;
mod cancel;
mod columns;
mod cost;
mod disorder;
mod doctor;
mod documents;
mod errors;
mod harness;
mod joins;
mod lists;
mod memory;
mod messages;
mod moving;
mod options;
mod page_forms;
mod pages;
mod plans;
mod pushdown;
mod random;
mod rate_limit;
mod secrets;
mod sync;
mod verdicts;
mod words;
