//! This module describes a scan for EXPLAIN: the parameters of the requests with what is known of
//! them, and where the walk ends. Which labels EXPLAIN has is the extension's matter; why a clause
//! is not sent is decided in [`crate::plan::pushdown`].

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::filter::{Comparison, Filter, Filterable, Operand};
use crate::plan::pushdown::{Pushdown, Reason};
use crate::plan::request::{Chain, bind};
use crate::schema::catalogue::{Object, Pagination};
use crate::schema::keyset::Order;

/// The line of EXPLAIN if no request is made.
pub const NOTHING: &str = "nothing, no row can match";

/// Returns the parameters that are sent because of these filters, for example `type=INBOX,
/// order_by=inserted_at, until=now()`: values that are known stand as they are asked for, for the
/// others stands the text of their expression.
pub fn sent(
    object: Object,
    filters: &[(Filter, Pushdown)],
    order: Order,
    known: &[Option<Operand>],
    texts: &[String],
) -> String {
    let are_sent = filters.iter().filter(|(_, pushdown)| *pushdown == Pushdown::Sent);
    let filters: Vec<Filter> = are_sent.map(|(filter, _)| *filter).collect();
    let plan = bind(object, &filters, order, known, "");
    if plan.chains.is_empty() {
        return NOTHING.to_owned();
    }
    let mut parts = Vec::new();
    let value = |filter: &Filter| known.get(filter.operand).and_then(Option::as_ref);
    let text = |filter: &Filter| texts.get(filter.operand).cloned().unwrap_or_default();
    let unknown = |column, comparison| {
        let of = move |f: &&Filter| f.column == column && f.comparison == comparison;
        filters.iter().filter(of).filter(|filter| value(filter).is_none()).map(text)
    };
    for (name, column) in [
        ("type", Filterable::Type),
        ("post_ids", Filterable::PostId),
        ("conversation_id", Filterable::ConversationId),
    ] {
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
    let times = || filters.iter().filter(|filter| filter.is_time());
    let since = times().filter(|f| f.comparison.is_lower() && object.paging() != Pagination::Cursor);
    parts.extend(since.map(|f| format!("since={}{}", text(f), widened('-', f.slack.before))));
    let until = times().filter(|f| f.comparison.is_upper());
    parts.extend(until.map(|f| format!("until={}{}", text(f), widened('+', f.slack.after))));
    match (parts.is_empty(), object.paging()) {
        (false, _) => parts.join(", "),
        (true, Pagination::Offset) => "nothing, for want of a conversation_id".to_owned(),
        (true, _) => "nothing, the whole list is asked for".to_owned(),
    }
}

/// Returns where the walk of a list by cursor ends, for example
/// `below updated_at > (now() - '1 day'::interval)`. None if that is the list's end.
pub fn ends(object: Object, filters: &[(Filter, Pushdown)], texts: &[String]) -> Option<String> {
    let is_end = |(filter, pushdown): &&(Filter, Pushdown)| {
        filter.is_time() && filter.comparison.is_lower() && !matches!(pushdown, Pushdown::Local(_))
    };
    let bound = |(filter, _): &(Filter, Pushdown)| {
        let operator = match filter.comparison {
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
            _ => "=",
        };
        let text = texts.get(filter.operand).cloned().unwrap_or_default();
        format!("{} {operator} {text}{}", filter.column.column(), widened('-', filter.slack.before))
    };
    let bounds: Vec<_> = filters.iter().filter(is_end).map(bound).collect();
    let has_end = object.paging() == Pagination::Cursor && !bounds.is_empty();
    has_end.then(|| format!("below {}", bounds.join(", ")))
}

/// What became of the filters over all the starts of a scan, whose operands may have other values
/// each time.
#[derive(Debug, Default)]
pub struct Starts {
    count: usize,
    /// What became of each filter, if that was the same in all starts.
    became: Vec<Option<Pushdown>>,
    /// By filter: in how many starts it was left to Postgres, and why the last time.
    local: BTreeMap<usize, (usize, Reason)>,
}

impl Starts {
    /// Adds the result of [`crate::plan::pushdown::pushdowns`] for one start.
    pub fn add(&mut self, pushdowns: &[Pushdown]) {
        self.count += 1;
        if self.became.is_empty() {
            self.became = pushdowns.iter().copied().map(Some).collect();
        }
        for (became, now) in self.became.iter_mut().zip(pushdowns) {
            *became = became.filter(|before| before == now);
        }
        for (filter, pushdown) in pushdowns.iter().enumerate() {
            if let Pushdown::Local(reason) = pushdown {
                let (times, last) = self.local.entry(filter).or_insert((0, *reason));
                (*times, *last) = (*times + 1, *reason);
            }
        }
    }

    pub fn have_been(&self) -> bool {
        self.count > 0
    }

    /// Returns what became of a filter, if that was the same in all starts.
    pub fn became(&self, filter: usize) -> Option<Pushdown> {
        self.became.get(filter).copied().flatten()
    }

    /// Returns why a filter was not sent, and how often.
    pub fn why_not_sent(&self, filter: usize) -> Option<String> {
        let (times, reason) = self.local.get(&filter)?;
        Some(if *times == self.count {
            reason.to_string()
        } else {
            format!("{reason}: {times} of {} times", self.count)
        })
    }
}

fn one_of(name: &str, values: &BTreeSet<String>) -> Option<String> {
    let list: Vec<_> = values.iter().map(String::as_str).collect();
    match list[..] {
        [] => None,
        [one] => Some(format!("{name}={one}")),
        _ => Some(format!("{name}=any of {{{}}}", list.join(","))),
    }
}

/// How far a bound is moved outwards, so that a day in any time zone lies inside.
fn widened(sign: char, seconds: i64) -> String {
    match seconds {
        0 => String::new(),
        seconds => format!(" {sign} {} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::filter::Slack;
    use crate::plan::pushdown::pushdowns;
    use crate::schema::keyset::Sides;
    use crate::time::Micros;
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

    fn pushed(
        object: Object,
        filters: &[Filter],
        order: Order,
        known: &[Option<Operand>],
    ) -> Vec<(Filter, Pushdown)> {
        let plan = bind(object, filters, order, known, "1");
        let useful = Sides { above: true, below: true };
        let pushdowns = pushdowns(object, filters, known, &plan, order, useful, Micros(0));
        filters.iter().copied().zip(pushdowns).collect()
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
        let of = |order| {
            let filters = pushed(Object::Conversations, &filters, order, &known);
            let sent = sent(Object::Conversations, &filters, order, &known, &expressions);
            (sent, ends(Object::Conversations, &filters, &expressions))
        };
        let (sent, ends) = of(Order::UpdatedAt);
        assert_eq!(sent, "type=INBOX, order_by=updated_at");
        assert_eq!(ends.as_deref(), Some("below updated_at > (now() - '1 day'::interval)"));
        let (sent, ends) = of(Order::InsertedAt);
        assert_eq!((sent.as_str(), ends), ("type=INBOX, order_by=inserted_at, until=$1", None));
        let of = |object, order, what: &[(Filterable, Comparison)], known: &[Option<Operand>]| {
            let filters = pushed(object, &self::filters(what), order, known);
            super::sent(object, &filters, order, known, &["$1".to_owned()])
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
        let filters = pushed(Object::Conversations, &filters, Order::InsertedAt, &known);
        assert_eq!(
            sent(Object::Conversations, &filters, Order::InsertedAt, &known, &expressions),
            "post_ids=$2, tags=61,62,$1, tags=any of {63,64}, order_by=inserted_at"
        );
    }

    #[test]
    fn loops_are_counted() {
        let (sent, local) = (Pushdown::Sent, Pushdown::Local(Reason::NoTagId));
        let mut starts = Starts::default();
        assert!(starts.why_not_sent(0).is_none() && starts.became(0).is_none());
        starts.add(&[sent, local]);
        assert_eq!(starts.why_not_sent(1).unwrap(), "no tag id");
        starts.add(&[sent, sent]);
        assert_eq!(starts.why_not_sent(1).unwrap(), "no tag id: 1 of 2 times");
        assert!(starts.became(1).is_none() && starts.why_not_sent(0).is_none());
        assert_eq!(starts.became(0), Some(sent));
    }
}
