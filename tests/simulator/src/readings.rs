//! This module holds the readings of what is disputed or unknown about Pancake, one enum for each
//! question.
//! [`switches`](crate::switches) holds the value of each.

/// `type=A&type=B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepeatedType {
    LastWins,
    Or,
    /// Observed once: success and no rows.
    NoRows,
}

/// A `type` that no document lists as a parameter value (LIVESTREAM, RATING, nonsense).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlistedType {
    Compared,
    Ignored,
    Nothing,
    Http500,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagsReading {
    All,
    Any,
}

/// How `post_ids` is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostIdsReading {
    /// A comma-separated list, whatever the type.
    CommaList,
    /// A list that acts only beside `type=COMMENT`, else ignored.
    NeedsComment,
    /// A list that acts only beside `type=POST`, else ignored.
    NeedsPost,
    /// One id; a comma is part of it, so a list matches nothing.
    SingleOnly,
    Ignored,
    /// Without `type=POST`: HTTP 500.
    Http500WithoutPost,
    /// Without `type=POST`: no rows.
    NothingWithoutPost,
}

/// Whether a bound holds its own second, and how finely it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `time >= since`, `time <= until`, to the microsecond.
    Inclusive,
    /// The row's time cut to whole seconds, then as `Inclusive`.
    InclusiveSeconds,
    /// `time > since`, `time < until`, to the microsecond.
    Exclusive,
    /// The row's time cut to whole seconds, then as `Exclusive`.
    ExclusiveSeconds,
}

/// From where `last_conversation_id` continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorReading {
    /// After the row itself, at its present place.
    AfterRow,
    /// Strictly below the row's present value: ties are lost.
    StrictlyBelow,
}

/// What a cursor gets that cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostCursor {
    FirstPage,
    Empty,
    Http500,
    SuccessFalse,
    /// Continue from the row's place: a deleted row's last one, a moved row's present one; unknown
    /// ids: first page.
    Continue,
}

/// The order of rows of one sort value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    IdAscending,
    IdDescending,
    Insertion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateWindow {
    Sliding,
    Fixed,
}

/// The form of a refusal for its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateForm {
    Http429,
    Body200,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    None,
    Seconds(u64),
    /// An HTTP date so many seconds from now.
    Date(u64),
}

/// The form of an authentication error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthForm {
    Body200,
    Http401,
}

/// What the deprecated `/v1/…/conversations` gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V1Conversations {
    Http404,
    Answers,
}

/// How `current_count` is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountReading {
    /// That many messages are skipped.
    Exact,
    /// It is rounded to whole batches (`message_batch`) first.
    RoundDown,
    RoundUp,
    Nearest,
}

/// What messages of an unknown or deleted conversation are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostConversation {
    Empty,
    SuccessFalse,
    Http404,
}

/// The reply of `GET /api/v1/pages`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagesForm {
    Categorized,
    Flat,
    Data,
}

/// The reply to a form of request that the live API refuses on some pages or at some times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormReading {
    Taken,
    /// HTTP 200, `success: false` without a code, and a message.
    Refused,
    /// A successful reply without rows; its total is 0.
    Empty,
    Http500,
}

/// Which `updated_at` of a frozen row is used: the time of its last message, or the older one in
/// the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrozenReading {
    Hidden,
    Shown,
}

/// The place of rows without a time in the list sorted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undated {
    /// As if dated at the moment when the row was placed. `since` and `until` compare that time.
    Placed,
    /// Above all others. `since` and `until` leave the row out, as SQL does with NULL.
    Top,
    /// Below all others. `since` and `until` leave the row out.
    Bottom,
}

/// The order of messages inside a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageOrder {
    /// Recorded live.
    Ascending,
    /// Documented: newest first.
    Descending,
}

/// `total` of a numbered list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TotalReading {
    Exact,
    /// The number of rows in this batch.
    OfBatch,
    Missing,
}

/// The key that holds the text of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordsUnder {
    Message,
    Error,
    Reason,
}
