//! This module reads the events that Pancake posts to a webhook, and decides what becomes of the
//! stored rows.

pub mod apply;
mod event;

pub use event::{Event, Message};
