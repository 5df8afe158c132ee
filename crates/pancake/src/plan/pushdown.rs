//! This module decides what becomes of a clause: whether the server is asked for its rows, whether
//! it ends the scan, or why it is left to Postgres. The decision is made when the relation is
//! planned, and again for the values of its operands when the scan starts. Costs, EXPLAIN and the
//! tables of docs/reference.md derive from it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plan::anchor::is_too_recent;
use crate::plan::filter::{Comparison, Filter, Filterable, Operand};
use crate::plan::request::{Chain, MAX_CHAINS, RequestPlan, is_sendable, is_tag_id, values};
use crate::schema::catalogue::{Object, Pagination};
use crate::schema::keyset::{Order, Sides};
use crate::time::Micros;

/// What becomes of a clause. Postgres checks each one again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pushdown {
    /// A parameter selects the rows of the clause, and perhaps more.
    Sent,
    /// Nothing is sent, but the clause shows when no further row can match.
    EndsScan,
    /// Only Postgres checks it.
    Local(Reason),
}

/// Why a clause is left to Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    NoServerFilter,
    OptionPushdown,
    RowSecurity,
    VolatileOperand,
    /// since and until act on the order_by column, which is the other time.
    OtherOrder(Order),
    /// The page does not take such a bound, or lists its rows out of order.
    Detour,
    /// The scan begins at the newest row: an anchor would be less than a day old.
    TooRecent,
    PostIdsInstead,
    TooManyStreams,
    OnlyTypes(Object),
    OtherTags,
    NotTagIds,
    NoTagId,
    NoBound,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let text = match self {
            Self::NoServerFilter => "no server filter",
            Self::OptionPushdown => "option pushdown",
            Self::RowSecurity => "row security comes first",
            Self::VolatileOperand => "volatile operand",
            Self::OtherOrder(order) => {
                return write!(f, "the walk goes by {}", order.column().unwrap_or("no time"));
            }
            Self::Detour => "see Pancake Detour",
            Self::TooRecent => "less than a day ago",
            Self::PostIdsInstead => "post_ids is sent instead",
            Self::TooManyStreams => "too many streams",
            Self::OnlyTypes(object) => {
                let types = object.values_of("type").unwrap_or_default();
                let (last, others) = types.split_last().unwrap_or((&"none", &[]));
                return write!(f, "only {} and {last} are sent", others.join(", "));
            }
            Self::OtherTags => "other tags are sent",
            Self::NotTagIds => "not tag ids",
            Self::NoTagId => "no tag id",
            Self::NoBound => "no bound",
        };
        f.write_str(text)
    }
}

impl Pushdown {
    /// What can become of such a clause. `None` if nothing helps.
    pub fn of(object: Object, column: Filterable, comparison: Comparison) -> Option<Self> {
        use Comparison::{AnyOf, Contains, Equal, Has, Overlaps};
        let name = column.column();
        let is_one_of = matches!(comparison, Equal | AnyOf);
        let is_bound = comparison.is_lower() || comparison.is_upper();
        let is_order = object.orders().iter().any(|order| order.column() == Some(name));
        match object.paging() {
            _ if is_one_of && object.values_of(name).is_some() => Some(Self::Sent),
            _ if is_one_of && matches!(column, Filterable::PageId | Filterable::Id) => Some(Self::EndsScan),
            _ if matches!(comparison, Contains | Has | Overlaps) && object.selects_by_elements(name) => {
                Some(Self::Sent)
            }
            _ if !is_bound || !is_order => None,
            // The newest come first, and no time can be sent.
            Pagination::Offset if comparison.is_lower() => Some(Self::EndsScan),
            Pagination::Offset => Some(Self::Local(Reason::NoServerFilter)),
            Pagination::Cursor | Pagination::TimeSlices { .. } => Some(Self::Sent),
            Pagination::Single => None,
        }
    }

    /// Whether fewer rows come over the network because of the clause.
    pub fn narrows(self, object: Object, filter: &Filter) -> bool {
        match self {
            Self::Sent => true,
            Self::EndsScan => {
                filter.is_time()
                    && filter.comparison != Comparison::Equal
                    && object.paging() == Pagination::Cursor
            }
            Self::Local(_) => false,
        }
    }

    /// Why the clause is not sent, for EXPLAIN. `None` also if another line of EXPLAIN holds it.
    pub fn why_not_sent(self, object: Object, filter: Option<&Filter>) -> Option<String> {
        match (self, filter) {
            (Self::Local(reason), _) => Some(reason.to_string()),
            (Self::EndsScan, Some(filter)) if filter.column == Filterable::Id => {
                Some("stops the scan when all are found".to_owned())
            }
            (Self::EndsScan, Some(filter)) if filter.is_time() && object.paging() != Pagination::Cursor => {
                Some("ends the walk".to_owned())
            }
            (Self::EndsScan | Self::Sent, _) => None,
        }
    }
}

/// What becomes of each filter of a plan, as far as the values of the operands are known. `useful`:
/// the sides on which bounds are of use on this page at this time.
pub fn pushdowns(
    object: Object,
    filters: &[Filter],
    operands: &[Option<Operand>],
    plan: &RequestPlan,
    order: Order,
    useful: Sides,
    now: Micros,
) -> Vec<Pushdown> {
    let is_recent = object.paging() == Pagination::Cursor
        && plan
            .chains
            .iter()
            .any(|chain| chain.window.high.is_some_and(|high| is_too_recent(high, order, now)));
    let is_open = |filter: &Filter| !matches!(operands.get(filter.operand), Some(Some(_)));
    // Then no type is sent beside it.
    let by_post =
        plan.filters_posts() || filters.iter().any(|f| f.column == Filterable::PostId && is_open(f));
    let of = |filter: &Filter| {
        let possible = Pushdown::of(object, filter.column, filter.comparison);
        match possible.unwrap_or(Pushdown::Local(Reason::NoServerFilter)) {
            Pushdown::Sent => {}
            other => return other,
        }
        let operand = operands.get(filter.operand).and_then(Option::as_ref);
        let reason = if filter.is_time() {
            if order.column() != Some(filter.column.column()) {
                Some(Reason::OtherOrder(order))
            } else if operand.is_some_and(Operand::is_infinite) && !plan.chains.is_empty() {
                Some(Reason::NoBound)
            } else {
                return bound(object, filter, useful, is_recent);
            }
        } else if plan.chains.is_empty() {
            None
        } else if by_post && filter.column == Filterable::Type {
            Some(Reason::PostIdsInstead)
        } else {
            operand.and_then(|operand| value(object, filter, operand, &plan.chains))
        };
        reason.map_or(Pushdown::Sent, Pushdown::Local)
    };
    filters.iter().map(of).collect()
}

/// A list that goes by a cursor is read down to its lower bound, which is not sent.
fn bound(object: Object, filter: &Filter, useful: Sides, is_recent: bool) -> Pushdown {
    let by_cursor = object.paging() == Pagination::Cursor;
    let ends = filter.comparison.is_lower() && by_cursor && useful.below;
    let begins = filter.comparison.is_upper() && useful.above && !is_recent;
    match (begins || filter.comparison.is_lower() && !by_cursor, ends) {
        (true, _) => Pushdown::Sent,
        (false, true) => Pushdown::EndsScan,
        (false, false) if is_recent && useful.above => Pushdown::Local(Reason::TooRecent),
        (false, false) => Pushdown::Local(Reason::Detour),
    }
}

/// Why this value is no part of the requests.
fn value(object: Object, filter: &Filter, operand: &Operand, chains: &[Chain]) -> Option<Reason> {
    let texts = values(operand);
    let every = |test: &dyn Fn(&Chain) -> bool| chains.iter().all(test);
    match (filter.column, filter.comparison) {
        (Filterable::Type, _) if every(&|chain| chain.kind.is_some()) => None,
        (Filterable::Type, _) if texts.iter().all(|kind| is_sendable(object, kind)) => {
            Some(Reason::TooManyStreams)
        }
        (Filterable::Type, _) => Some(Reason::OnlyTypes(object)),
        (Filterable::PostId, _) if every(&|chain| chain.post_id.is_some()) => None,
        (Filterable::PostId, _) => Some(Reason::TooManyStreams),
        (Filterable::Tags, Comparison::Overlaps) => {
            if every(&|chain| chain.tags.iter().any(|tag| texts.contains(tag))) {
                None
            } else if !texts.iter().all(|tag| is_tag_id(tag)) {
                Some(Reason::NotTagIds)
            } else if texts.len() > MAX_CHAINS {
                Some(Reason::TooManyStreams)
            } else {
                Some(Reason::OtherTags)
            }
        }
        (Filterable::Tags, _) => (!texts.iter().any(|tag| is_tag_id(tag))).then_some(Reason::NoTagId),
        (
            Filterable::UpdatedAt
            | Filterable::InsertedAt
            | Filterable::ConversationId
            | Filterable::PageId
            | Filterable::Id,
            _,
        ) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::filter::{Slack, Timestamp};
    use crate::plan::request::bind;
    use Comparison::*;
    use Filterable::*;

    const USEFUL: Sides = Sides { above: true, below: true };
    const NOW: Micros = Micros(1_794_614_400_000_000);

    fn text(value: &str) -> Option<Operand> {
        Some(Operand::Text(value.to_owned()))
    }

    fn texts(values: &[&str]) -> Option<Operand> {
        Some(Operand::Texts(values.iter().map(|value| Some((*value).to_owned())).collect()))
    }

    type Clause = (Filterable, Comparison, Option<Operand>);

    /// What becomes of the first of these clauses.
    fn first(object: Object, clauses: &[Clause], order: Order, useful: Sides) -> Pushdown {
        let filter = |(operand, (column, comparison, _)): (usize, &Clause)| Filter {
            column: *column,
            comparison: *comparison,
            operand,
            slack: Slack::NONE,
            without_zone: false,
        };
        let filters: Vec<_> = clauses.iter().enumerate().map(filter).collect();
        let operands: Vec<_> = clauses.iter().map(|(_, _, operand)| operand.clone()).collect();
        let plan = bind(object, &filters, order, &operands, "1");
        pushdowns(object, &filters, &operands, &plan, order, useful, NOW)[0]
    }

    /// Why it is left to Postgres.
    fn why(object: Object, clauses: &[Clause]) -> Option<String> {
        match first(object, clauses, Order::InsertedAt, USEFUL) {
            Pushdown::Local(reason) => Some(reason.to_string()),
            Pushdown::Sent | Pushdown::EndsScan => None,
        }
    }

    #[test]
    fn bounds_are_sent_or_end_the_scan() {
        let bound = |object, column, comparison, order, useful| {
            first(object, &[(column, comparison, None)], order, useful)
        };
        use Object::{Conversations, Customers, Messages};
        let (by_inserted_at, by_updated_at) = (Order::InsertedAt, Order::UpdatedAt);
        let nothing = Sides { above: false, below: false };
        let lower = Sides { above: false, below: true };
        let detour = Pushdown::Local(Reason::Detour);
        for (object, comparison, order, useful, expected) in [
            (Conversations, Greater, by_updated_at, USEFUL, Pushdown::EndsScan),
            (Conversations, Less, by_updated_at, USEFUL, Pushdown::Sent),
            (Conversations, Equal, by_updated_at, USEFUL, Pushdown::Sent),
            (Conversations, Equal, by_updated_at, lower, Pushdown::EndsScan),
            (Conversations, Greater, by_updated_at, lower, Pushdown::EndsScan),
            (Conversations, Less, by_updated_at, lower, detour),
            (Conversations, Greater, by_updated_at, nothing, detour),
            (
                Conversations,
                Less,
                by_inserted_at,
                USEFUL,
                Pushdown::Local(Reason::OtherOrder(by_inserted_at)),
            ),
            (Customers, Greater, by_updated_at, USEFUL, Pushdown::Sent),
            (Customers, Less, by_updated_at, USEFUL, Pushdown::Sent),
        ] {
            let found = bound(object, UpdatedAt, comparison, order, useful);
            assert_eq!(found, expected, "{object:?} {comparison:?} {order:?} {useful:?}");
        }
        for (comparison, expected) in
            [(Greater, Pushdown::EndsScan), (Less, Pushdown::Local(Reason::NoServerFilter))]
        {
            assert_eq!(bound(Messages, InsertedAt, comparison, by_inserted_at, USEFUL), expected);
        }
    }

    #[test]
    fn a_bound_of_today_is_not_sent() {
        let at = |days: i64| Some(Operand::Time(Timestamp::At(NOW.minus_seconds(days * 86_400))));
        let of = |object, comparison, days, order| {
            first(object, &[(UpdatedAt, comparison, at(days))], order, USEFUL)
        };
        use Object::{Conversations, Customers};
        let (days, by) = ([0, 1, 2], Order::UpdatedAt);
        let recent = Pushdown::Local(Reason::TooRecent);
        // By updated_at a scan begins six hours above its bound.
        assert_eq!(days.map(|days| of(Conversations, Less, days, by)), [recent, recent, Pushdown::Sent]);
        assert_eq!(
            days.map(|days| of(Conversations, Equal, days, by)),
            [Pushdown::EndsScan, Pushdown::EndsScan, Pushdown::Sent]
        );
        assert_eq!(days.map(|days| of(Customers, Less, days, by)), [Pushdown::Sent; 3]);
    }

    #[test]
    fn what_is_not_sent_has_a_reason() {
        let ids: Vec<String> = (0..=MAX_CHAINS).map(|id| id.to_string()).collect();
        let many: Vec<&str> = ids.iter().map(String::as_str).collect();
        for (expected, clauses) in [
            (Some("only INBOX and COMMENT are sent"), vec![(Type, Equal, text("RATING"))]),
            (Some("only INBOX and COMMENT are sent"), vec![(Type, AnyOf, texts(&["INBOX", "RATING"]))]),
            (None, vec![(Type, AnyOf, texts(&["INBOX", "COMMENT"]))]),
            (None, vec![(Type, AnyOf, texts(&["INBOX", "RATING"])), (Type, Equal, text("INBOX"))]),
            (
                Some("post_ids is sent instead"),
                vec![(Type, Equal, text("INBOX")), (PostId, Equal, text("p"))],
            ),
            (Some("post_ids is sent instead"), vec![(Type, Equal, text("INBOX")), (PostId, Equal, None)]),
            (None, vec![(Type, Equal, text("INBOX")), (PostId, AnyOf, texts(&many))]),
            (
                Some("too many streams"),
                vec![(Type, AnyOf, texts(&["INBOX", "COMMENT"])), (Tags, Overlaps, texts(&many[..20]))],
            ),
            (Some("too many streams"), vec![(PostId, AnyOf, texts(&many))]),
            (None, vec![(Tags, Contains, texts(&["61", "VIP"]))]),
            (None, vec![(Tags, Contains, texts(&many))]),
            (Some("no tag id"), vec![(Tags, Has, text("VIP"))]),
            (Some("no tag id"), vec![(Tags, Contains, texts(&[]))]),
            (None, vec![(Tags, Overlaps, texts(&["61", "62"]))]),
            (Some("not tag ids"), vec![(Tags, Overlaps, texts(&["61", "VIP"]))]),
            (Some("too many streams"), vec![(Tags, Overlaps, texts(&many))]),
            (
                Some("other tags are sent"),
                vec![(Tags, Overlaps, texts(&["61", "62"])), (Tags, Overlaps, texts(&["63"]))],
            ),
            (Some("no bound"), vec![(InsertedAt, Less, Some(Operand::Time(Timestamp::Infinity)))]),
            (None, vec![(Type, Equal, None)]),
            (Some("post_ids is sent instead"), vec![(Type, Equal, None), (PostId, Equal, None)]),
            (None, vec![(Type, Equal, text("RATING")), (Type, Equal, text("INBOX"))]),
        ] {
            assert_eq!(why(Object::Conversations, &clauses).as_deref(), expected, "{clauses:?}");
        }
        let only = "only video, photo, text and livestream are sent";
        assert_eq!(why(Object::Posts, &[(Type, Equal, text("INBOX"))]).as_deref(), Some(only));
        assert_eq!(why(Object::Posts, &[(Type, Equal, text("video"))]), None);
        assert_eq!(why(Object::Messages, &[(ConversationId, AnyOf, texts(&many))]), None);
    }
}
