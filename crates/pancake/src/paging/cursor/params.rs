//! This module holds what a walk asks for, and what it takes for granted of the server.

use crate::schema::keyset::Order;
use crate::time::UnixSeconds;

/// What to ask beside the chain's own filters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct CursorParams {
    pub cursor: Option<String>,
    pub since: Option<UnixSeconds>,
    pub until: Option<UnixSeconds>,
}

impl CursorParams {
    pub const HEAD: CursorParams = CursorParams { cursor: None, since: None, until: None };

    pub fn from(cursor: &str) -> Self {
        Self { cursor: Some(cursor.to_owned()), ..Self::HEAD }
    }

    /// The newest rows up to this second, by a window that every page has been seen to take.
    pub fn up_to(until: UnixSeconds) -> Self {
        let since = UnixSeconds((until.0 - WIDTH_SECONDS).max(1));
        Self { cursor: None, since: Some(since), until: Some(until) }
    }
}

/// Why a walk came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub enum End {
    ListEnded,
    PassedBound,
    /// Every row that was asked for by id has come.
    FoundAll,
}

/// A server's batch is never larger than this (docs/api.md).
pub const FULL_BATCH: usize = 60;
/// Lengths of replies that may be the limit of a server. A list of such a length is not taken for
/// whole before a cursor has been seen to work.
pub(super) const LIKELY_BATCHES: [usize; 5] = [10, 20, 25, 30, 50];
/// The last second that a server cannot take for milliseconds, in the year 5138 (docs/api.md).
/// No row is so late, so a later bound is as good as none.
pub const LAST_SECOND: i64 = 99_999_999_999;
/// The widest window: windows of a month were refused, and 28 days can be a month (docs/api.md).
pub const WIDTH_SECONDS: i64 = 27 * 86_400;
/// Where rows stand so densely, an anchor this many of them above is hardly ever too low.
pub(super) const ROWS_ABOVE: i64 = 4;
/// Anchors that are tried before the head.
pub(super) const ANCHORS: u32 = 3;
/// Cursors that are tried before an anchor, or before the walk begins anew: on a busy page a row
/// can move away while it is asked from.
pub(super) const CURSORS: u32 = 6;

/// What a walk takes for granted; smaller in tests, so that all of a small model can be seen.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct Terms {
    /// A server's batch is never larger.
    pub full_batch: usize,
    /// Requests that bring no new row and do not lead further down, or looks at the head, before
    /// the walk gives up. It gives up as well after a sixth as many restarts without a new row.
    pub patience: u32,
    /// So many rows in a row beyond a bound pass it: one more than the rows that a row can stand
    /// too low by.
    pub beyond: usize,
}

impl Terms {
    /// A row that is newer than so many in a row above it stands lower than any that has been seen:
    /// by `inserted_at` no more than neighbours have been seen swapped.
    pub fn beyond_by(&self, order: Order) -> usize {
        match order {
            Order::UpdatedAt => self.beyond,
            Order::InsertedAt | Order::Served => self.beyond.min(2),
        }
    }
}

pub const TERMS: Terms = Terms { full_batch: FULL_BATCH, patience: 60, beyond: 8 };
