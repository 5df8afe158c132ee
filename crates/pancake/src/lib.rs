//! The Pancake Public API as a library: options, filters, list queries, paging, the rate limit,
//! HTTP. It does not depend on Postgres: the clock, shared memory and the waking of a backend are
//! passed in through small traits.
//!
//! ```text
//! options ─┐
//! plan ────┴► a union of list queries, as data
//!              └► scan (run → merge → segment; session) ─► paging (pager → cursor, offset, time_slices; head_check)
//!                  │                                which reply proves which row: all pure
//!                  ├─► http (client → lane → connection; endpoint, tls)
//!                  │    └─► rate (limiter, spacing, queue: one budget of a page for all sessions)
//!                  └─► reply (envelope, refusal, retry, decode) ─► schema (columns of the tables) ─► json
//! sync (which step of a copy comes next, its statements, its marks): pure
//! doctor (examines a page) and scan::sample (for ANALYZE) send requests through a session, as a scan does
//! ```
//!
//! # Example
//!
//! `WHERE type = 'INBOX' AND updated_at > '2026-11-01'` becomes one list query. The type is sent;
//! the lower bound is where paging ends.
//!
//! ```
//! use pancake::{Comparison, Filter, Filterable, Micros, Object, Operand, Order, Slack, Timestamp, bind};
//!
//! let filter = |column, comparison, operand| Filter { column, comparison, operand, slack: Slack::NONE, without_zone: false };
//! let filters = [
//!     filter(Filterable::Type, Comparison::Equal, 0),
//!     filter(Filterable::UpdatedAt, Comparison::Greater, 1),
//! ];
//! let november = Micros(1_793_491_200_000_000);
//! let operands = [Some(Operand::Text("INBOX".to_owned())), Some(Operand::Time(Timestamp::At(november)))];
//!
//! let plan = bind(Object::Conversations, &filters, Order::UpdatedAt, &operands, "100000000000001");
//! assert_eq!(plan.chains.len(), 1);
//! assert_eq!(plan.chains[0].kind.as_deref(), Some("INBOX"));
//! assert!(plan.chains[0].window.low.is_some_and(|low| low >= november));
//! ```
#![forbid(unsafe_code)]

pub mod doctor;
pub mod error;
pub mod http;
pub mod json;
pub mod memory;
pub mod options;
pub mod paging;
mod percent;
pub mod plan;
pub mod rate;
pub mod reply;
pub mod scan;
pub mod schema;
pub mod secret;
pub mod stats;
pub mod sync;
pub mod time;
pub mod url;
pub mod webhook;

pub use error::{Error, Kind, Result};
pub use plan::filter::{Comparison, Filter, Filterable, Operand, Slack, Timestamp};
pub use plan::request::{Chain, RequestPlan, bind};
pub use schema::catalogue::Object;
pub use schema::keyset::Order;
pub use time::Micros;
