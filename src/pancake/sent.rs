//! How EXPLAIN says what is sent: the parameters of a request with the operands' own text.
//! Which labels EXPLAIN has is the extension's matter.

use crate::filter::{Comparison, Filter, Filterable, Slack, Verdict};
use crate::plan::{Order, fate};

/// `type=INBOX, order_by=updated_at, since=(now() - '1 day'::interval)`.
pub fn sent<'a>(filters: impl IntoIterator<Item = &'a Filter>, order: Order, operands: &[String]) -> String {
    let text = |filter: &Filter| operands.get(filter.operand).cloned().unwrap_or_default();
    let asked: Vec<_> =
        filters.into_iter().filter(|filter| fate(filter, order) == Verdict::Superset).collect();
    let posts = asked.iter().any(|filter| filter.column == Filterable::PostId);
    let mut parts = Vec::new();
    for filter in &asked {
        match (filter.column, filter.comparison) {
            // Beside post_ids no type is sent.
            (Filterable::Type, _) if posts => {}
            (Filterable::Type, Comparison::AnyOf) => parts.push(format!("type=any of {}", text(filter))),
            (Filterable::Type, _) => parts.push(format!("type={}", text(filter))),
            (Filterable::PostId, Comparison::AnyOf) => {
                parts.push(format!("post_ids=any of {}", text(filter)))
            }
            (Filterable::PostId, _) => parts.push(format!("post_ids={}", text(filter))),
            (Filterable::Tags, Comparison::Overlaps) => parts.push(format!("tags=any of {}", text(filter))),
            (Filterable::Tags, _) => parts.push(format!("tags={}", text(filter).trim_matches(['{', '}']))),
            _ => {}
        }
    }
    parts.push(format!("order_by={}", order.column()));
    for (name, comparisons) in [
        ("since", [Comparison::Greater, Comparison::GreaterOrEqual, Comparison::Equal]),
        ("until", [Comparison::Less, Comparison::LessOrEqual, Comparison::Equal]),
    ] {
        let bounds = asked.iter().filter(|f| comparisons.contains(&f.comparison));
        let bounds = bounds.filter(|f| matches!(f.column, Filterable::UpdatedAt | Filterable::InsertedAt));
        parts.extend(bounds.map(|filter| format!("{name}={}{}", text(filter), widened(name, filter.slack))));
    }
    parts.join(", ")
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
            sent(&filters, Order::UpdatedAt, &operands),
            "type=INBOX, order_by=updated_at, since=(now() - '1 day'::interval)"
        );
        assert_eq!(
            sent(&filters, Order::InsertedAt, &operands),
            "type=INBOX, order_by=inserted_at, until=(now() - '1 day'::interval)"
        );
    }
}
