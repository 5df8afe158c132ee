//! This module holds every behaviour of Pancake that is disputed or unknown, one switch each; the
//! default is the likeliest reading of the documents. [`Switches::as_seen`] is what clients met
//! since.

use std::time::Duration;

use crate::log::Endpoint;
use crate::readings::*;

/// What happens on the page with each conversations request, before it is answered: averages, so
/// 0.5 is every other time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Churn {
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
    /// `since` without `until`, or the reverse, for conversations.
    pub lone_bound: FormReading,
    /// An `until` that is not before `since` plus one month of the UTC calendar.
    pub wide_window: FormReading,
    /// The lists that `wide_window` acts on.
    pub wide_window_of: Vec<Endpoint>,
    /// An `until` later than the end of the current day in UTC+7, for conversations.
    pub late_until: FormReading,
    /// `since` beside `until`, however close, for conversations.
    pub windows: FormReading,
    /// The time of a frozen row that `since` and `until` compare.
    pub frozen_time: FrozenReading,
    /// The time of a frozen row from which its cursor continues.
    pub frozen_cursor: FrozenReading,
    pub undated: Undated,
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
    /// A cursor row that was not the last row of any batch so far.
    pub middle_cursor: LostCursor,
    /// Beside a cursor, `type`, `tags` and `post_ids` are ignored.
    pub cursor_forgets_filters: bool,
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
    pub message_order: MessageOrder,
    pub lost_conversation: LostConversation,
    /// `total` of posts and customers.
    pub total: TotalReading,
    /// Posts and customers: every `page_number` gets the first batch.
    pub page_number_ignored: bool,
    pub pages_form: PagesForm,
    pub v1_conversations: V1Conversations,
    pub auth: AuthForm,
    /// The key of the text in refusals, armed faults excepted.
    pub words_under: WordsUnder,
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
    /// A message's or a new conversation's row appears up to so much later than its `updated_at`.
    pub late: Duration,
    pub churn: Churn,
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
            lone_bound: FormReading::Taken,
            wide_window: FormReading::Taken,
            wide_window_of: vec![Endpoint::Conversations, Endpoint::Posts, Endpoint::Customers],
            late_until: FormReading::Taken,
            windows: FormReading::Taken,
            frozen_time: FrozenReading::Hidden,
            frozen_cursor: FrozenReading::Hidden,
            undated: Undated::Placed,
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
            middle_cursor: LostCursor::Continue,
            cursor_forgets_filters: false,
            ties: Ties::IdDescending,
            batch: 60,
            short_batches: 0.0,
            repeated_rows: 0.0,
            message_batch: 30,
            message_batch_later: None,
            current_count: CountReading::Exact,
            message_order: MessageOrder::Ascending,
            lost_conversation: LostConversation::Empty,
            total: TotalReading::Exact,
            page_number_ignored: false,
            pages_form: PagesForm::Categorized,
            v1_conversations: V1Conversations::Http404,
            auth: AuthForm::Body200,
            words_under: WordsUnder::Message,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            rate: None,
            rate_window: RateWindow::Sliding,
            refused_count: false,
            refuse: true,
            rate_form: RateForm::Http429,
            retry_after: RetryAfter::None,
            late: Duration::ZERO,
            churn: Churn::default(),
            gzip: true,
        }
    }
}

impl Switches {
    /// Returns the readings of the documents, which are the defaults.
    pub fn as_documented() -> Switches {
        Switches::default()
    }

    /// Returns what clients met at the live API from April to October 2026, other switches by
    /// default.
    ///
    /// The rest of what they met is served in any case: batches of messages ascend, 16 % of the
    /// messages have an empty `original_message`, `categorized` holds the strings
    /// `activated_page_ids`, and an unknown path gets HTTP 406. Frozen rows are not a switch: see
    /// [`PageSettings::frozen`](crate::PageSettings::frozen).
    pub fn as_seen() -> Switches {
        let mut switches = Switches::default();
        switches.apply_seen();
        switches
    }

    /// Sets the switches in which the live API differs from the documents, and leaves the others.
    pub fn apply_seen(&mut self) {
        self.lone_bound = FormReading::Refused;
        self.wide_window = FormReading::Refused;
        // Never measured: no client sends such an `until`.
        self.late_until = FormReading::Refused;
        self.message_order = MessageOrder::Ascending;
        self.pages_form = PagesForm::Categorized;
    }
}
