//! How EXPLAIN says what is sent: the parameters of a request with the operands' own text.
//! Which labels EXPLAIN has is the extension's matter.

use crate::catalogue::{Object, Paging};
use crate::filter::{Comparison, Filter, Filterable, Slack, Verdict};
use crate::plan::{Order, fate};

/// `type=INBOX, order_by=updated_at, since=(now() - '1 day'::interval)`.
pub fn sent<'a>(
    object: Object,
    filters: impl IntoIterator<Item = &'a Filter>,
    order: Order,
    operands: &[String],
) -> String {
    let text = |filter: &Filter| operands.get(filter.operand).cloned().unwrap_or_default();
    let asked: Vec<_> =
        filters.into_iter().filter(|filter| fate(object, filter, order) == Verdict::Superset).collect();
    let posts = asked.iter().any(|filter| filter.column == Filterable::PostId);
    let mut parts = Vec::new();
    for filter in &asked {
        let any = match filter.comparison {
            Comparison::AnyOf | Comparison::Overlaps => "any of ",
            _ => "",
        };
        match filter.column {
            // Beside post_ids no type is sent.
            Filterable::Type if posts => {}
            Filterable::Type => parts.push(format!("type={any}{}", text(filter))),
            Filterable::PostId => parts.push(format!("post_ids={any}{}", text(filter))),
            Filterable::ConversationId => parts.push(format!("conversation_id={any}{}", text(filter))),
            Filterable::Tags if any.is_empty() => {
                parts.push(format!("tags={}", text(filter).trim_matches(['{', '}'])));
            }
            Filterable::Tags => parts.push(format!("tags={any}{}", text(filter))),
            Filterable::UpdatedAt | Filterable::InsertedAt | Filterable::PageId | Filterable::Id => {}
        }
    }
    if let Some(column) = order.column().filter(|_| object.orders().len() > 1) {
        parts.push(format!("order_by={column}"));
    }
    for (name, comparisons) in [
        ("since", [Comparison::Greater, Comparison::GreaterOrEqual, Comparison::Equal]),
        ("until", [Comparison::Less, Comparison::LessOrEqual, Comparison::Equal]),
    ] {
        let bounds = asked.iter().filter(|f| comparisons.contains(&f.comparison));
        let bounds = bounds.filter(|f| matches!(f.column, Filterable::UpdatedAt | Filterable::InsertedAt));
        parts.extend(bounds.map(|filter| format!("{name}={}{}", text(filter), widened(name, filter.slack))));
    }
    match (parts.is_empty(), object.paging()) {
        (false, _) => parts.join(", "),
        (true, Paging::Skip) => "nothing, for want of a conversation_id".to_owned(),
        (true, _) => "nothing, the whole list is asked for".to_owned(),
    }
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

    #[test]
    fn reads_like_the_request() {
        let filter = |column, comparison, operand| Filter {
            column,
            comparison,
            operand,
            slack: Slack::NONE,
            wall: false,
        };
        let filters = [
            filter(Filterable::UpdatedAt, Comparison::Greater, 0),
            filter(Filterable::Type, Comparison::Equal, 1),
            filter(Filterable::InsertedAt, Comparison::Less, 0),
            filter(Filterable::PageId, Comparison::Equal, 1),
        ];
        let operands = ["(now() - '1 day'::interval)".to_owned(), "INBOX".to_owned()];
        assert_eq!(
            sent(Object::Conversations, &filters, Order::UpdatedAt, &operands),
            "type=INBOX, order_by=updated_at, since=(now() - '1 day'::interval)"
        );
        assert_eq!(
            sent(Object::Conversations, &filters, Order::InsertedAt, &operands),
            "type=INBOX, order_by=inserted_at, until=(now() - '1 day'::interval)"
        );
        assert_eq!(
            sent(
                Object::Messages,
                &[filter(Filterable::ConversationId, Comparison::AnyOf, 1)],
                Order::InsertedAt,
                &operands
            ),
            "conversation_id=any of INBOX"
        );
        assert_eq!(sent(Object::Tags, &[], Order::Served, &[]), "nothing, the whole list is asked for");
        assert_eq!(sent(Object::Customers, &[], Order::InsertedAt, &[]), "order_by=inserted_at");
    }
}
