//! What we know of the Pancake Public API: options, columns, filters, the walk, the meter, HTTP.
//! It cannot name Postgres: clock, shared memory, waking the backend come in through small traits.
//!
//! ```text
//! options ─┐
//! filter ──┴► plan (a union of chains) ─► scan ─► merge ─► walk ─► looks (which reply proves which row, pure)
//!                                          │  └─► decode (a reply's bytes → rows of cells)
//!                                          └────► client ─► lane ─► meter (one budget for all sessions)
//!                                                    └────► reply (what counts as an answer)
//! ```
#![forbid(unsafe_code)]

pub mod asking;
pub mod body;
pub mod catalogue;
pub mod cell;
pub mod cells;
pub mod client;
pub mod column;
pub mod conversation;
pub mod decode;
pub mod duration;
pub mod error;
pub mod fields;
pub mod filter;
pub mod json;
pub mod lane;
pub mod ledger;
pub mod looks;
pub mod merge;
pub mod meter;
pub mod options;
pub mod plan;
pub mod pushdown;
pub mod reply;
pub mod retry;
pub mod sample;
pub mod scan;
pub mod secret;
pub mod seen;
pub mod sent;
pub mod spelling;
pub mod time;
pub mod tls;
pub mod token;
pub mod url;
pub mod walk;
