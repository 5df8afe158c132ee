//! This module defines filters: the clauses of a query that the API can help with. Turning
//! Postgres's clauses into filters is the extension's matter; turning filters into requests,
//! [`crate::plan::request`]'s.

use serde::{Deserialize, Serialize};

use crate::schema::catalogue::Object;
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

/// What the server is asked because of a clause: nothing narrower than the clause itself, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The parameter selects the rows of the clause and perhaps more; Postgres checks again.
    Superset,
    /// Nothing is sent, but the value shows when no row can match, or when all rows have been
    /// found.
    Guard,
    /// Of no use.
    None,
}

/// The one table of what helps: object × column × comparison → how. The tables of docs/reference.md
/// are tested against it.
pub fn verdict(object: Object, column: Filterable, comparison: Comparison) -> Verdict {
    use Comparison::*;
    use Filterable as F;
    use Object::{Conversations, Customers, Messages, Posts};
    let is_one_of = matches!(comparison, Equal | AnyOf);
    let is_bound = matches!(comparison, Equal | Less | LessOrEqual | Greater | GreaterOrEqual);
    match (object, column) {
        (Conversations, F::Type | F::PostId) | (Posts, F::Type) | (Messages, F::ConversationId)
            if is_one_of =>
        {
            Verdict::Superset
        }
        (Conversations, F::Tags) if matches!(comparison, Contains | Has | Overlaps) => Verdict::Superset,
        (Conversations | Customers, F::UpdatedAt | F::InsertedAt) | (Posts, F::InsertedAt) if is_bound => {
            Verdict::Superset
        }
        // A walk back in time: nothing is sent, but a lower bound ends it.
        (Messages, F::InsertedAt) if is_bound => Verdict::Guard,
        (_, F::PageId | F::Id) if is_one_of => Verdict::Guard,
        _ => Verdict::None,
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
