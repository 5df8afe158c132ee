//! This module defines filters: the clauses of a query that the API can help with. Turning
//! Postgres's clauses into filters is the extension's matter; what becomes of them is decided in
//! [`crate::plan::pushdown`], and turning them into requests in [`crate::plan::request`].

use serde::{Deserialize, Serialize};

use crate::time::Micros;

/// The columns whose clauses can be of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filterable {
    Type,
    Tags,
    PostId,
    UpdatedAt,
    InsertedAt,
    ConversationId,
    PageId,
    Id,
}

impl Filterable {
    pub fn by_column(name: &str) -> Option<Self> {
        Some(match name {
            "type" => Self::Type,
            "tags" => Self::Tags,
            "post_id" => Self::PostId,
            "updated_at" => Self::UpdatedAt,
            "inserted_at" => Self::InsertedAt,
            "conversation_id" => Self::ConversationId,
            "page_id" => Self::PageId,
            "id" => Self::Id,
            _ => return None,
        })
    }

    pub fn column(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Tags => "tags",
            Self::PostId => "post_id",
            Self::UpdatedAt => "updated_at",
            Self::InsertedAt => "inserted_at",
            Self::ConversationId => "conversation_id",
            Self::PageId => "page_id",
            Self::Id => "id",
        }
    }
}

/// How a clause compares its column with its operand, the column on the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `column = ANY (operand)`
    AnyOf,
    /// `column @> operand`
    Contains,
    /// `operand = ANY (column)`
    Has,
    /// `column && operand`
    Overlaps,
}

impl Comparison {
    /// Whether it bounds a time from below.
    pub fn is_lower(self) -> bool {
        matches!(self, Self::Equal | Self::Greater | Self::GreaterOrEqual)
    }

    /// Whether it bounds a time from above.
    pub fn is_upper(self) -> bool {
        matches!(self, Self::Equal | Self::Less | Self::LessOrEqual)
    }

    pub const ALL: [Comparison; 9] = [
        Self::Equal,
        Self::Less,
        Self::LessOrEqual,
        Self::Greater,
        Self::GreaterOrEqual,
        Self::AnyOf,
        Self::Contains,
        Self::Has,
        Self::Overlaps,
    ];

    /// The same clause with its sides swapped; twice is where it began.
    pub fn commuted(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            other => other,
        }
    }
}

impl Filter {
    pub fn is_time(&self) -> bool {
        matches!(self.column, Filterable::UpdatedAt | Filterable::InsertedAt)
    }
}

/// A filter of a plan; its operand is the plan's expression of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    pub column: Filterable,
    pub comparison: Comparison,
    pub operand: usize,
    #[serde(default)]
    pub slack: Slack,
    /// The operand is the time of a clock on a wall, read as UTC; the slack is how far that may be
    /// off.
    #[serde(default)]
    pub without_zone: bool,
}

/// How far a time may lie from what a function makes of it: a day's rows lie up to a day after the
/// day's beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slack {
    /// The time is at most this many seconds before the function's value …
    pub before: i64,
    /// … and at most this many after it.
    pub after: i64,
}

impl Slack {
    pub const NONE: Slack = Slack { before: 0, after: 0 };

    /// A function of a function.
    pub fn and(self, other: Slack) -> Slack {
        Slack { before: self.before + other.before, after: self.after + other.after }
    }
}

/// The value of an operand, had when the scan really starts.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    Null,
    Text(String),
    Texts(Vec<Option<String>>),
    Time(Timestamp),
}

impl Operand {
    pub fn is_infinite(&self) -> bool {
        matches!(self, Self::Time(Timestamp::Infinity | Timestamp::MinusInfinity))
    }
}

/// A time that may be infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timestamp {
    MinusInfinity,
    At(Micros),
    Infinity,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commuted_twice_is_the_same() {
        for comparison in Comparison::ALL {
            assert_eq!(comparison.commuted().commuted(), comparison);
        }
        assert_eq!(Comparison::Less.commuted(), Comparison::Greater);
    }
}
