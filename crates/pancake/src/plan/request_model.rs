//! This module tests pushdown on random pages: whatever is asked, and however the server reads it,
//! no row that the filters let through is left out; and where nothing is asked, there is no such
//! row.

use proptest::prelude::*;

use super::*;
use crate::paging::cursor::CursorParams;
use crate::time::SECOND;

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) kind: &'static str,
    pub(crate) post_id: Option<&'static str>,
    pub(crate) tags: Vec<&'static str>,
    pub(crate) inserted_at: i64,
    pub(crate) updated_at: i64,
}

/// How the server reads what is not documented.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) any_tag_is_enough: bool,
    pub(crate) ignores_type: bool,
    pub(crate) ignores_tags: bool,
    pub(crate) inclusive: bool,
    pub(crate) whole_seconds: bool,
}

pub(crate) const PAGE: &str = "1";
/// Far enough from 1970 that every bound can be sent.
pub(crate) const BASE: i64 = 1_700_000_000 * SECOND;

pub(crate) fn row() -> impl Strategy<Value = Row> {
    let kind = prop::sample::select(vec!["INBOX", "COMMENT", "RATING"]);
    let post = prop::sample::select(vec![None, Some("p1"), Some("p2")]);
    let tags = prop::sample::subsequence(vec!["61", "62", "63", "vip"], 0..4);
    (0u8..8, kind, post, tags, time(), time()).prop_map(
        |(id, kind, post_id, tags, inserted_at, updated_at)| Row {
            id: id.to_string(),
            kind,
            post_id,
            tags,
            inserted_at,
            updated_at,
        },
    )
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![0..6 * SECOND, (0..6i64).prop_map(|s| s * SECOND)].prop_map(|offset| BASE + offset)
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["INBOX", "COMMENT", "RATING", "61", "62", "vip", "p1", "p2", "0", "3", PAGE])
        .prop_map(str::to_owned)
}

pub(crate) fn clause() -> impl Strategy<Value = (Filterable, Comparison, Operand)> {
    let texts = prop::collection::vec(prop::option::weighted(0.9, text()), 0..4).prop_map(Operand::Texts);
    let one = prop_oneof![9 => text().prop_map(Operand::Text), 1 => Just(Operand::Null)];
    let many = prop_oneof![9 => texts, 1 => Just(Operand::Null)];
    let bound = prop_oneof![8 => time().prop_map(|t| Timestamp::At(Micros(t))), 1 => Just(Timestamp::Infinity), 1 => Just(Timestamp::MinusInfinity)];
    let bound = prop_oneof![9 => bound.prop_map(Operand::Time), 1 => Just(Operand::Null)];
    let texty =
        prop::sample::select(vec![Filterable::Type, Filterable::PostId, Filterable::PageId, Filterable::Id]);
    let timey = prop::sample::select(vec![Filterable::UpdatedAt, Filterable::InsertedAt]);
    let ordering = prop::sample::select(vec![
        Comparison::Equal,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ]);
    prop_oneof![
        (texty.clone(), one.clone()).prop_map(|(column, operand)| (column, Comparison::Equal, operand)),
        (texty, many.clone()).prop_map(|(column, operand)| (column, Comparison::AnyOf, operand)),
        one.prop_map(|operand| (Filterable::Tags, Comparison::Has, operand)),
        many.clone().prop_map(|operand| (Filterable::Tags, Comparison::Contains, operand)),
        many.prop_map(|operand| (Filterable::Tags, Comparison::Overlaps, operand)),
        (timey, ordering, bound).prop_map(|(column, comparison, operand)| (column, comparison, operand)),
    ]
}

pub(crate) fn reading() -> impl Strategy<Value = Reading> {
    any::<[bool; 5]>().prop_map(
        |[any_tag_is_enough, ignores_type, ignores_tags, inclusive, whole_seconds]| Reading {
            any_tag_is_enough,
            ignores_type,
            ignores_tags,
            inclusive,
            whole_seconds,
        },
    )
}

/// Whether Postgres returns a row: NULL is not true.
pub(crate) fn lets_through(row: &Row, column: Filterable, comparison: Comparison, operand: &Operand) -> bool {
    let of_text = |value: Option<&str>| match operand {
        Operand::Text(text) => value == Some(text),
        Operand::Texts(texts) => texts.iter().flatten().any(|text| value == Some(text)),
        _ => false,
    };
    let has = |tag: &Option<String>| tag.as_deref().is_some_and(|tag| row.tags.contains(&tag));
    let of_time = |value: i64| match operand {
        Operand::Time(bound) => {
            let value = Timestamp::At(Micros(value));
            match comparison {
                Comparison::Equal => value == *bound,
                Comparison::Less => value < *bound,
                Comparison::LessOrEqual => value <= *bound,
                Comparison::Greater => value > *bound,
                _ => value >= *bound,
            }
        }
        _ => false,
    };
    match (column, comparison, operand) {
        (Filterable::Type, ..) => of_text(Some(row.kind)),
        (Filterable::PostId, ..) => of_text(row.post_id),
        (Filterable::PageId, ..) => of_text(Some(PAGE)),
        (Filterable::Id, ..) => of_text(Some(&row.id)),
        (Filterable::ConversationId, ..) => false,
        (Filterable::UpdatedAt, ..) => of_time(row.updated_at),
        (Filterable::InsertedAt, ..) => of_time(row.inserted_at),
        (Filterable::Tags, Comparison::Contains, Operand::Texts(tags)) => tags.iter().all(has),
        (Filterable::Tags, Comparison::Overlaps, Operand::Texts(tags)) => tags.iter().any(has),
        (Filterable::Tags, _, Operand::Text(tag)) => has(&Some(tag.clone())),
        (Filterable::Tags, ..) => false,
    }
}

pub(crate) fn time_of(row: &Row, order: Order) -> i64 {
    match order {
        Order::UpdatedAt => row.updated_at,
        _ => row.inserted_at,
    }
}

/// Whether a row is among those that the server selects, cursors aside.
pub(crate) fn serves(row: &Row, chain: &Chain, ask: &CursorParams, reading: Reading) -> bool {
    let at = time_of(row, chain.order);
    let unit = if reading.whole_seconds { SECOND } else { 1 };
    let at = at.div_euclid(unit);
    let bound = |seconds: Option<crate::time::UnixSeconds>| seconds.map(|s| s.0 * (SECOND / unit));
    let (since, until) = (bound(ask.since), bound(ask.until));
    let in_window = if reading.inclusive {
        since.is_none_or(|since| at >= since) && until.is_none_or(|until| at <= until)
    } else {
        since.is_none_or(|since| at > since) && until.is_none_or(|until| at < until)
    };
    let of_kind = reading.ignores_type || chain.kind.as_deref().is_none_or(|kind| kind == row.kind);
    let tagged = |tag: &String| row.tags.contains(&tag.as_str());
    let of_tags = reading.ignores_tags
        || chain.tags.is_empty()
        || if reading.any_tag_is_enough {
            chain.tags.iter().any(tagged)
        } else {
            chain.tags.iter().all(tagged)
        };
    let of_post = chain.post_id.as_deref().is_none_or(|post| row.post_id == Some(post));
    in_window && of_kind && of_tags && of_post
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn what_is_asked_holds_every_row_that_is_let_through(
        rows in prop::collection::vec(row(), 0..12),
        clauses in prop::collection::vec(clause(), 0..5),
        reading in reading(),
        order in prop::sample::select(vec![Order::InsertedAt, Order::UpdatedAt]),
    ) {
        let filters: Vec<_> = clauses.iter().enumerate().map(|(operand, (column, comparison, _))| {
            Filter { column: *column, comparison: *comparison, operand, slack: Slack::NONE, without_zone: false }
        }).collect();
        let operands: Vec<_> = clauses.iter().map(|(_, _, operand)| Some(operand.clone())).collect();
        let plan = bind(Object::Conversations, &filters, order, &operands, PAGE);
        for row in &rows {
            if clauses.iter().all(|(column, comparison, operand)| lets_through(row, *column, *comparison, operand)) {
                // Times are not sent but to find a row to begin from.
                let served = |chain: &Chain| {
                    serves(row, chain, &CursorParams::HEAD, reading) && chain.window.holds(Micros(time_of(row, chain.order)))
                };
                prop_assert!(plan.chains.iter().any(served), "{row:?} {plan:?}");
                prop_assert!(plan.ids.as_ref().is_none_or(|ids| ids.contains(&row.id)));
            }
        }
    }
}
