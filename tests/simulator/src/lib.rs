//! An honest, strict Pancake on a loopback address: pages of conversations by seed, every disputed
//! behaviour a switch, every fault at will, every request in a log with what was wrong with it.
//! What a client makes of it is left to its tests: this crate depends on no client.
//!
//! ```no_run
//! use pancake_simulator::{Fault, Only, Settings, Simulator, Times};
//! # fn main() -> std::io::Result<()> {
//! let simulator = Simulator::start(Settings::of(300))?;
//! simulator.switches(|switches| switches.batch = 2);
//! simulator.fault_on(Only::with_cursor(), Fault::Status(502), Times::On(vec![3]));
//! // … a client reads simulator.base_url() …
//! assert_eq!(simulator.violations(), Vec::<String>::new());
//! # Ok(()) }
//! ```
//!
//! A request's way: `server` → `request` (what was asked) → `world` → `door` (token, rate) →
//! `churn` (what happens meanwhile) → `query` (what it means under the switches) → `listing` or
//! `catalogue` (what it gets) → `wire`. A page is `shop` (its people, posts, tags) and `row`s, made
//! by `population`, kept in order by `page`, written by `render`.
//!
//! Switches are by default [as documented](Switches::as_documented). [`Simulator::as_seen`] sets
//! those in which the live API differs, and freezes some rows.

mod catalogue;
mod certificate;
mod churn;
mod clock;
mod dice;
mod door;
mod fault;
mod gauge;
mod handle;
mod listing;
mod log;
mod page;
mod population;
mod query;
mod readings;
mod render;
mod reply;
mod request;
mod row;
mod server;
mod settings;
mod shop;
mod simulator;
mod switches;
mod times;
pub mod webhook;
mod window;
mod wire;
mod words;
mod world;

pub use churn::{Event, Target};
pub use door::Denial;
pub use fault::{Fault, Only, Times};
pub use handle::PageHandle;
pub use log::{Endpoint, Entry};
pub use readings::*;
pub use settings::{PageSettings, Settings, Shape};
pub use simulator::Simulator;
pub use switches::{Churn, Switches};
pub use times::{TimeColumn, TimeForm};
