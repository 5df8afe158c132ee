//! This module describes what is sent, for EXPLAIN: the parameters of the requests with what is
//! known of them, and why a filter is none. Which labels EXPLAIN has is the extension's matter.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::filter::{Comparison, Filter, Filterable, Operand, Slack, Timestamp, Verdict};
use crate::plan::request::{Chain, MAX_CHAINS, RequestPlan, bind, fate, is_sendable, is_tag_id, values};
use crate::schema::catalogue::{Object, Pagination};
use crate::schema::keyset::Order;

/// The line of EXPLAIN if no request is made.
pub const NOTHING: &str = "nothing, no row can match";
const INSTEAD: &str = "post_ids is sent instead";

/// `type=INBOX, order_by=inserted_at, until=now()`: values that are known stand as they are asked
/// for, for the others stands the text of their expression. `takes_windows`: whether an upper bound
/// is sent.
pub fn sent(
    object: Object,
    filters: &[Filter],
    order: Order,
    known: &[Option<Operand>],
    texts: &[String],
    takes_windows: bool,
) -> String {
    let asked: Vec<_> =
        filters.iter().copied().filter(|filter| fate(object, filter, order) == Verdict::Superset).collect();
    let plan = bind(object, &asked, order, known, "");
    if plan.chains.is_empty() {
        return NOTHING.to_owned();
    }
    let mut parts = Vec::new();
    let value = |filter: &Filter| known.get(filter.operand).and_then(Option::as_ref);
    let text = |filter: &Filter| texts.get(filter.operand).cloned().unwrap_or_default();
    let unknown = |column, comparison| {
        let of = move |f: &&Filter| f.column == column && f.comparison == comparison;
        asked.iter().filter(of).filter(|filter| value(filter).is_none()).map(text)
    };
    for (name, column) in [
        ("type", Filterable::Type),
        ("post_ids", Filterable::PostId),
        ("conversation_id", Filterable::ConversationId),
    ] {
        if column == Filterable::Type && asks_for_posts(&asked, known, &plan) {
            continue;
        }
        let of = |chain: &Chain| match column {
            Filterable::Type => chain.kind.clone(),
            Filterable::PostId => chain.post_id.clone(),
            _ => chain.conversation_id.clone(),
        };
        parts.extend(one_of(name, &plan.chains.iter().filter_map(of).collect()));
        parts.extend(unknown(column, Comparison::Equal).map(|text| format!("{name}={text}")));
        parts.extend(unknown(column, Comparison::AnyOf).map(|text| format!("{name}=any of {text}")));
    }
    let tags = |chain: &Chain| -> BTreeSet<String> { chain.tags.iter().cloned().collect() };
    let any: BTreeSet<String> = plan.chains.iter().flat_map(tags).collect();
    let all: BTreeSet<_> =
        any.iter().filter(|tag| plan.chains.iter().all(|c| c.tags.contains(tag))).collect();
    let contained = unknown(Filterable::Tags, Comparison::Contains);
    let both: Vec<_> = all.iter().copied().cloned().chain(contained).collect();
    let both: Vec<_> = both.into_iter().chain(unknown(Filterable::Tags, Comparison::Has)).collect();
    parts.extend((!both.is_empty()).then(|| format!("tags={}", both.join(","))));
    parts.extend(one_of("tags", &any.iter().filter(|tag| !all.contains(tag)).cloned().collect()));
    parts.extend(unknown(Filterable::Tags, Comparison::Overlaps).map(|text| format!("tags=any of {text}")));
    if let Some(column) = order.column().filter(|_| object.orders().len() > 1) {
        parts.push(format!("order_by={column}"));
    }
    for (name, comparisons) in [("since", LOWER), ("until", UPPER)] {
        // A list that goes by a cursor is read down to its lower bound, which is not sent, and from
        // the head if the page takes no windows.
        if object.paging() == Pagination::Cursor && (name == "since" || !takes_windows) {
            continue;
        }
        let bounds = asked.iter().filter(|f| comparisons.contains(&f.comparison) && is_time(f));
        let bounds = bounds.filter(|filter| !value(filter).is_some_and(is_infinite));
        parts.extend(bounds.map(|filter| format!("{name}={}{}", text(filter), widened(name, filter.slack))));
    }
    match (parts.is_empty(), object.paging()) {
        (false, _) => parts.join(", "),
        (true, Pagination::Offset) => "nothing, for want of a conversation_id".to_owned(),
        (true, _) => "nothing, the whole list is asked for".to_owned(),
    }
}

const LOWER: [Comparison; 3] = [Comparison::Greater, Comparison::GreaterOrEqual, Comparison::Equal];
const UPPER: [Comparison; 3] = [Comparison::Less, Comparison::LessOrEqual, Comparison::Equal];

/// `below updated_at > (now() - '1 day'::interval)`: where the walk of a list ends. None if that is
/// the list's end.
pub fn ends(
    object: Object,
    filters: &[Filter],
    order: Order,
    known: &[Option<Operand>],
    texts: &[String],
) -> Option<String> {
    if object.paging() != Pagination::Cursor {
        return None;
    }
    let is_lower = |filter: &&Filter| {
        is_time(filter)
            && LOWER.contains(&filter.comparison)
            && fate(object, filter, order) == Verdict::Superset
            && !known.get(filter.operand).and_then(Option::as_ref).is_some_and(is_infinite)
    };
    let bound = |filter: &Filter| {
        let operator = match filter.comparison {
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
            _ => "=",
        };
        let text = texts.get(filter.operand).cloned().unwrap_or_default();
        format!("{} {operator} {text}{}", filter.column.column(), widened("since", filter.slack))
    };
    let bounds: Vec<_> = filters.iter().filter(is_lower).map(bound).collect();
    (!bounds.is_empty()).then(|| format!("below {}", bounds.join(", ")))
}

/// For each filter why it is no part of the requests of a plan, where its operand's value is to
/// blame.
pub fn unsent(
    object: Object,
    filters: &[Filter],
    operands: &[Option<Operand>],
    plan: &RequestPlan,
) -> Vec<Option<&'static str>> {
    let posts = asks_for_posts(filters, operands, plan);
    let every = |test: &dyn Fn(&Chain) -> bool| plan.chains.iter().all(test);
    let reason = |filter: &Filter, operand: &Operand| {
        let texts = values(operand);
        let reason = match (filter.column, filter.comparison) {
            (Filterable::Type, _) if posts => INSTEAD,
            (Filterable::Type, _) if every(&|chain| chain.kind.is_some()) => return None,
            (Filterable::Type, _) if texts.iter().all(|kind| is_sendable(object, kind)) => "too many streams",
            (Filterable::Type, _) if object == Object::Posts => {
                "only video, photo, text and livestream are sent"
            }
            (Filterable::Type, _) => "only INBOX and COMMENT are sent",
            (Filterable::PostId, _) if every(&|chain| chain.post_id.is_some()) => return None,
            (Filterable::PostId, _) => "too many streams",
            (Filterable::Tags, Comparison::Overlaps) => {
                if every(&|chain| chain.tags.iter().any(|tag| texts.contains(tag))) {
                    return None;
                }
                match texts.iter().all(|tag| is_tag_id(tag)) {
                    true if texts.len() > MAX_CHAINS => "too many streams",
                    true => "other tags are sent",
                    false => "not tag ids",
                }
            }
            (Filterable::Tags, _) if !texts.iter().any(|tag| is_tag_id(tag)) => "no tag id",
            (Filterable::UpdatedAt | Filterable::InsertedAt, _) if is_infinite(operand) => "no bound",
            _ => return None,
        };
        Some(reason)
    };
    let told = |filter: &Filter| {
        let order = plan.chains.first()?.order;
        let why = match operands.get(filter.operand).and_then(Option::as_ref) {
            Some(operand) => reason(filter, operand),
            None => (posts && filter.column == Filterable::Type).then_some(INSTEAD),
        };
        why.filter(|_| fate(object, filter, order) == Verdict::Superset)
    };
    filters.iter().map(told).collect()
}

/// What became of each filter over all the starts of a scan, whose operands may have other values
/// each time.
#[derive(Debug, Default)]
pub struct Unsent {
    starts: usize,
    /// By filter: in how many starts it was not sent, and why the last time.
    times: BTreeMap<usize, (usize, &'static str)>,
}

impl Unsent {
    /// Adds the result of [`unsent`] for one start.
    pub fn started(&mut self, reasons: &[Option<&'static str>]) {
        self.starts += 1;
        for (filter, why) in reasons.iter().enumerate().filter_map(|(filter, why)| Some((filter, (*why)?))) {
            let (times, last) = self.times.entry(filter).or_default();
            (*times, *last) = (*times + 1, why);
        }
    }

    pub fn is_known(&self) -> bool {
        self.starts > 0
    }

    pub fn is_always(&self, filter: usize) -> bool {
        self.times.get(&filter).is_some_and(|(times, _)| *times == self.starts)
    }

    pub fn told(&self, filter: usize) -> Option<String> {
        let (times, why) = self.times.get(&filter)?;
        Some(if self.is_always(filter) {
            (*why).to_owned()
        } else {
            format!("{why}: {times} of {} times", self.starts)
        })
    }
}

/// Whether requests are by post: then no type is sent beside it.
fn asks_for_posts(filters: &[Filter], operands: &[Option<Operand>], plan: &RequestPlan) -> bool {
    let unknown = |filter: &Filter| !matches!(operands.get(filter.operand), Some(Some(_)));
    plan.filters_posts() || filters.iter().any(|f| f.column == Filterable::PostId && unknown(f))
}

fn one_of(name: &str, values: &BTreeSet<String>) -> Option<String> {
    let list: Vec<_> = values.iter().map(String::as_str).collect();
    match list[..] {
        [] => None,
        [one] => Some(format!("{name}={one}")),
        _ => Some(format!("{name}=any of {{{}}}", list.join(","))),
    }
}

fn is_time(filter: &Filter) -> bool {
    matches!(filter.column, Filterable::UpdatedAt | Filterable::InsertedAt)
}

fn is_infinite(operand: &Operand) -> bool {
    matches!(operand, Operand::Time(Timestamp::Infinity | Timestamp::MinusInfinity))
}

/// How far a bound is moved outwards, so that a day in any time zone lies inside.
fn widened(name: &str, slack: Slack) -> String {
    let (sign, seconds) = if name == "since" { ('-', slack.before) } else { ('+', slack.after) };
    match seconds {
        0 => String::new(),
        seconds => format!(" {sign} {} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Comparison::*;
    use Filterable::*;

    fn filters(of: &[(Filterable, Comparison)]) -> Vec<Filter> {
        let filter = |(operand, (column, comparison)): (usize, &(Filterable, Comparison))| Filter {
            column: *column,
            comparison: *comparison,
            operand,
            slack: Slack::NONE,
            without_zone: false,
        };
        of.iter().enumerate().map(filter).collect()
    }

    fn text(value: &str) -> Option<Operand> {
        Some(Operand::Text(value.to_owned()))
    }

    fn texts(values: &[&str]) -> Option<Operand> {
        Some(Operand::Texts(values.iter().map(|value| Some((*value).to_owned())).collect()))
    }

    #[test]
    fn reads_like_the_request() {
        let filters = filters(&[
            (UpdatedAt, Greater),
            (Type, Equal),
            (InsertedAt, Less),
            (PageId, Equal),
            (Type, AnyOf),
        ]);
        let known = [None, text("INBOX"), None, text("1"), texts(&["RATING", "INBOX"])];
        let expressions = ["(now() - '1 day'::interval)", "", "$1", "", ""].map(str::to_owned);
        assert_eq!(
            sent(Object::Conversations, &filters, Order::UpdatedAt, &known, &expressions, true),
            "type=INBOX, order_by=updated_at"
        );
        let ends = |order| ends(Object::Conversations, &filters, order, &known, &expressions);
        assert_eq!(ends(Order::UpdatedAt).as_deref(), Some("below updated_at > (now() - '1 day'::interval)"));
        assert_eq!(ends(Order::InsertedAt), None);
        assert_eq!(
            sent(Object::Conversations, &filters, Order::InsertedAt, &known, &expressions, true),
            "type=INBOX, order_by=inserted_at, until=$1"
        );
        let of = |object, order, what: &[(Filterable, Comparison)], known: &[Option<Operand>]| {
            sent(object, &self::filters(what), order, known, &["$1".to_owned()], true)
        };
        let conversations = [(Filterable::ConversationId, AnyOf)];
        assert_eq!(
            of(Object::Messages, Order::InsertedAt, &conversations, &[None]),
            "conversation_id=any of $1"
        );
        assert_eq!(
            of(Object::Messages, Order::InsertedAt, &conversations, &[texts(&["a"])]),
            "conversation_id=a"
        );
        assert_eq!(
            of(Object::Messages, Order::InsertedAt, &[], &[]),
            "nothing, for want of a conversation_id"
        );
        assert_eq!(of(Object::Tags, Order::Served, &[], &[]), "nothing, the whole list is asked for");
        assert_eq!(of(Object::Customers, Order::InsertedAt, &[], &[]), "order_by=inserted_at");
        let posts = [(Type, AnyOf), (InsertedAt, Greater)];
        assert_eq!(of(Object::Posts, Order::InsertedAt, &posts, &[texts(&["video"])]), "type=video, since=");
    }

    #[test]
    fn known_tags_stand_beside_unknown_ones() {
        let filters =
            filters(&[(Tags, Contains), (Tags, Has), (Tags, Overlaps), (Type, Equal), (PostId, Equal)]);
        let known = [texts(&["62", "61", "VIP"]), None, texts(&["63", "64"]), text("COMMENT"), None];
        let expressions = ["", "$1", "", "", "$2"].map(str::to_owned);
        assert_eq!(
            sent(Object::Conversations, &filters, Order::InsertedAt, &known, &expressions, true),
            "post_ids=$2, tags=61,62,$1, tags=any of {63,64}, order_by=inserted_at"
        );
    }

    #[test]
    fn loops_are_counted() {
        let mut unsent = Unsent::default();
        assert!(unsent.told(0).is_none() && !unsent.is_always(0));
        unsent.started(&[None, Some("no tag id")]);
        assert_eq!(unsent.told(1).unwrap(), "no tag id");
        unsent.started(&[None, None]);
        assert_eq!(unsent.told(1).unwrap(), "no tag id: 1 of 2 times");
        assert!(!unsent.is_always(1) && unsent.told(0).is_none());
    }

    /// Why the first of these clauses is no part of the requests of all of them.
    fn why(object: Object, clauses: &[(Filterable, Comparison, Option<Operand>)]) -> Option<&'static str> {
        let filters = filters(&clauses.iter().map(|(column, how, _)| (*column, *how)).collect::<Vec<_>>());
        let operands: Vec<_> = clauses.iter().map(|(_, _, operand)| operand.clone()).collect();
        let plan = bind(object, &filters, Order::InsertedAt, &operands, "1");
        unsent(object, &filters, &operands, &plan)[0]
    }

    #[test]
    fn what_cannot_be_sent_is_told_with_its_reason() {
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
            assert_eq!(why(Object::Conversations, &clauses), expected, "{clauses:?}");
        }
        let only = "only video, photo, text and livestream are sent";
        assert_eq!(why(Object::Posts, &[(Type, Equal, text("INBOX"))]), Some(only));
        assert_eq!(why(Object::Posts, &[(Type, Equal, text("video"))]), None);
        assert_eq!(why(Object::Messages, &[(ConversationId, AnyOf, texts(&many))]), None);
    }
}
