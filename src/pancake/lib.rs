//! What we know of the Pancake Public API: options, columns, filters, the walk, the meter, HTTP.
//! It cannot name Postgres: clock, shared memory, waking the backend come in through small traits.
//!
//! ```text
//! options ─┐
//! filter ──┴► plan (a union of chains) ─► scan ─► union ─► segment ─► walker ─► walk, thread, windows
//!                                          │       └► looks            (which reply proves which row: all pure)
//!                                          ├─► endpoint (an ask → an address), decode (a reply's bytes → rows of cells)
//!                                          └─► client ─► lane ─► meter (one budget for all sessions)
//!                                                │        ├─► pace (how far apart requests leave)
//!                                                │        └─► waiters (which request goes next)
//!                                                └─► reply (what counts as an answer)
//! sample (for ANALYZE) and doctor (experiments on a page) ask in a scan's name, without its union
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
pub mod doctor;
pub mod duration;
pub mod endpoint;
pub mod error;
pub mod fields;
pub mod filter;
pub mod handed;
pub mod html;
pub mod json;
pub mod lane;
pub mod ledger;
pub mod lists;
pub mod looks;
pub mod message;
pub mod meter;
pub mod options;
pub mod outlet;
pub mod pace;
pub mod place;
pub mod plan;
pub mod proof;
pub mod pushdown;
pub mod redaction;
pub mod refusal;
pub mod reply;
pub mod retry;
pub mod room;
pub mod sample;
pub mod scan;
pub mod secret;
pub mod seen;
pub mod segment;
pub mod sent;
pub mod spelling;
pub mod thread;
pub mod time;
pub mod tls;
pub mod token;
pub mod union;
pub mod url;
pub mod verdicts;
pub mod waiters;
pub mod walk;
pub mod walker;
pub mod windows;
