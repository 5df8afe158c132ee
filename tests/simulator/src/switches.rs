//! Knows every behaviour of Pancake that is disputed or unknown, one switch each; the default is the likeliest reading.
//! What a switch does is left to the code that answers.

use std::time::Duration;

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
    /// Continue from the row's place: a deleted row's last one, a moved row's present one; unknown ids: first page.
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

/// What happens on the page with each conversations request, before it is answered: averages, so 0.5 is every other time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Storm {
    /// Random rows that get a message.
    pub messages: f64,
    pub creates: f64,
    pub deletes: f64,
    pub retags: f64,
    /// The request's own cursor row gets a message.
    pub cursor_messages: f64,
    pub cursor_deletes: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Switches {
    pub repeated_type: RepeatedType,
    /// `type=A,B` is read as a list; else as one (matching nothing).
    pub type_comma: bool,
    pub unlisted_type: UnlistedType,
    pub tags: TagsReading,
    pub post_ids: PostIdsReading,
    pub since: Bound,
    pub until: Bound,
    pub ignore_type: bool,
    pub ignore_tags: bool,
    pub ignore_since: bool,
    pub ignore_until: bool,
    pub ignore_order_by: bool,
    pub ignore_cursor: bool,
    pub ignore_unread_first: bool,
    pub cursor: CursorReading,
    /// An unknown or deleted cursor row.
    pub lost_cursor: LostCursor,
    /// A cursor row whose `updated_at` changed since it was served (only in that order).
    pub moved_cursor: LostCursor,
    pub ties: Ties,
    pub batch: usize,
    /// The probability that a batch ends early (never empty).
    pub short_batches: f64,
    /// The probability that one row of a batch comes twice in it.
    pub repeated_rows: f64,
    pub message_batch: usize,
    /// The size of a batch of messages if any are skipped, `None` for the same.
    pub message_batch_later: Option<usize>,
    pub current_count: CountReading,
    pub lost_conversation: LostConversation,
    pub pages_form: PagesForm,
    pub v1_conversations: V1Conversations,
    pub auth: AuthForm,
    pub latency: Duration,
    /// Up to this much is added to the latency.
    pub jitter: Duration,
    /// Requests per page per second, all endpoints together; a page's own setting goes first.
    pub rate: Option<f64>,
    pub rate_window: RateWindow,
    /// A refused request counts against the budget as well.
    pub refused_count: bool,
    /// Requests over the budget are refused; else only complained about.
    pub refuse: bool,
    pub rate_form: RateForm,
    pub retry_after: RetryAfter,
    /// A message's or a new conversation's row appears up to so much later than its `updated_at` says.
    pub late: Duration,
    pub storm: Storm,
    pub gzip: bool,
}

impl Default for Switches {
    fn default() -> Switches {
        Switches {
            repeated_type: RepeatedType::LastWins,
            type_comma: false,
            unlisted_type: UnlistedType::Compared,
            tags: TagsReading::All,
            post_ids: PostIdsReading::CommaList,
            since: Bound::Inclusive,
            until: Bound::Inclusive,
            ignore_type: false,
            ignore_tags: false,
            ignore_since: false,
            ignore_until: false,
            ignore_order_by: false,
            ignore_cursor: false,
            ignore_unread_first: false,
            cursor: CursorReading::AfterRow,
            lost_cursor: LostCursor::FirstPage,
            moved_cursor: LostCursor::Continue,
            ties: Ties::IdDescending,
            batch: 60,
            short_batches: 0.0,
            repeated_rows: 0.0,
            message_batch: 30,
            message_batch_later: None,
            current_count: CountReading::Exact,
            lost_conversation: LostConversation::Empty,
            pages_form: PagesForm::Categorized,
            v1_conversations: V1Conversations::Http404,
            auth: AuthForm::Body200,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            rate: None,
            rate_window: RateWindow::Sliding,
            refused_count: false,
            refuse: true,
            rate_form: RateForm::Http429,
            retry_after: RetryAfter::None,
            late: Duration::ZERO,
            storm: Storm::default(),
            gzip: true,
        }
    }
}
