//! This module defines where rows stand in a remote list: by which time it is ordered, and what of
//! it a walk is to cover. Which order is asked for is the plan's to decide, how the list is read
//! the walkers'.

use serde::{Deserialize, Serialize};

use crate::time::Micros;

/// The time by which a chain is walked. `inserted_at` never changes, `updated_at` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Hash))]
pub enum Order {
    InsertedAt,
    UpdatedAt,
    /// By none: the list comes whole.
    Served,
}

impl Order {
    pub fn column(self) -> Option<&'static str> {
        match self {
            Order::InsertedAt => Some("inserted_at"),
            Order::UpdatedAt => Some("updated_at"),
            Order::Served => None,
        }
    }
}

/// On which sides a query bounds the time of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides {
    pub above: bool,
    pub below: bool,
}

/// Times from `low` to `high`, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct TimeRange {
    pub low: Option<Micros>,
    pub high: Option<Micros>,
}

impl TimeRange {
    pub fn holds(&self, at: Micros) -> bool {
        self.low.is_none_or(|low| low <= at) && self.high.is_none_or(|high| at <= high)
    }
}

/// A row of a reply as far as a walk is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct RowKey {
    pub id: String,
    /// The time that it shows.
    pub at: Micros,
    /// It has the time of the order; else it shows another one there.
    pub is_dated: bool,
}

impl RowKey {
    pub fn new(id: impl Into<String>, at: Micros) -> Self {
        Self { id: id.into(), at, is_dated: true }
    }
}
