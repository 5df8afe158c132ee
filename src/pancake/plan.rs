//! The request plan: a union of chains, bound from filters and the values of their operands.
//! It decides what is asked; how one chain is walked and proven is [`crate::walk`]'s.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::filter::{Bound, Comparison, Filter, Filterable, Operand, Verdict, verdict};
use crate::time::Micros;

/// The column by which a chain is walked, newest first. `inserted_at` never changes, `updated_at` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    InsertedAt,
    UpdatedAt,
}

impl Order {
    pub fn column(self) -> &'static str {
        match self {
            Order::InsertedAt => "inserted_at",
            Order::UpdatedAt => "updated_at",
        }
    }

    fn filterable(self) -> Filterable {
        match self {
            Order::InsertedAt => Filterable::InsertedAt,
            Order::UpdatedAt => Filterable::UpdatedAt,
        }
    }

    /// The immutable column, unless a lower bound on `updated_at` is all that keeps the walk short.
    pub fn choose(filters: &[Filter]) -> Order {
        let bounded_below = |column| {
            let bounds = [Comparison::Equal, Comparison::Greater, Comparison::GreaterOrEqual];
            filters.iter().any(|f| f.column == column && bounds.contains(&f.comparison))
        };
        match bounded_below(Filterable::UpdatedAt) && !bounded_below(Filterable::InsertedAt) {
            true => Order::UpdatedAt,
            false => Order::InsertedAt,
        }
    }
}

/// What becomes of a filter when chains are walked in this order.
pub fn fate(filter: &Filter, order: Order) -> Verdict {
    let time = matches!(filter.column, Filterable::UpdatedAt | Filterable::InsertedAt);
    match verdict(filter.column, filter.comparison) {
        // since and until act on the order_by column: the other column's bounds still tell when no row can match.
        Verdict::Superset if time && filter.column != order.filterable() => Verdict::Guard,
        verdict => verdict,
    }
}

/// Times from `low` to `high`, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub low: Option<Micros>,
    pub high: Option<Micros>,
}

impl Window {
    pub fn holds(&self, at: Micros) -> bool {
        self.low.is_none_or(|low| low <= at) && self.high.is_none_or(|high| at <= high)
    }
}

/// One cursor walk: the rows of a page that the server selects by these parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub order: Order,
    pub kind: Option<String>,
    pub tags: Vec<String>,
    pub window: Window,
}

/// The values of `type` that the parameter is known to share with the rows (API notes, section B).
const SENDABLE_TYPES: [&str; 2] = ["INBOX", "COMMENT"];

/// The chains whose union holds every row that the filters let through. None where no row can match.
pub fn bind(filters: &[Filter], order: Order, operands: &[Operand], page_id: &str) -> Vec<Chain> {
    let mut kinds: Option<BTreeSet<String>> = None;
    let mut tags = BTreeSet::new();
    let mut windows = [Limits::default(), Limits::default()];
    for filter in filters {
        let Some(operand) = operands.get(filter.operand) else { continue };
        let possible = match filter.column {
            Filterable::Type => {
                let allowed = values(operand);
                let both = |earlier: BTreeSet<String>| earlier.intersection(&allowed).cloned().collect();
                let left: BTreeSet<_> = kinds.take().map_or_else(|| allowed.clone(), both);
                let possible = !left.is_empty();
                kinds = Some(left);
                possible
            }
            Filterable::Tags => tags_of(operand, &mut tags),
            Filterable::PageId => values(operand).contains(page_id),
            Filterable::UpdatedAt => windows[0].narrow(filter.comparison, operand),
            Filterable::InsertedAt => windows[1].narrow(filter.comparison, operand),
        };
        if !possible {
            return Vec::new();
        }
    }
    let limits = match order {
        Order::UpdatedAt => windows[0],
        Order::InsertedAt => windows[1],
    };
    let kinds: Vec<Option<String>> = match kinds {
        Some(kinds) if kinds.iter().all(|kind| SENDABLE_TYPES.contains(&kind.as_str())) => {
            kinds.into_iter().map(Some).collect()
        }
        _ => vec![None],
    };
    let tags: Vec<String> = tags.into_iter().collect();
    let chain = |kind| Chain { order, kind, tags: tags.clone(), window: limits.window() };
    kinds.into_iter().map(chain).collect()
}

/// The values that `= x` or `= ANY (x)` lets through.
fn values(operand: &Operand) -> BTreeSet<String> {
    match operand {
        Operand::Text(text) => BTreeSet::from([text.clone()]),
        Operand::Texts(texts) => texts.iter().flatten().cloned().collect(),
        Operand::Null | Operand::Time(_) => BTreeSet::new(),
    }
}

/// Gathers the tag ids that a row must have all of. False where no row can: a NULL is contained in nothing.
/// Text that is no tag id is left to Postgres: sent, it would switch the server's filter off (API notes, section B).
fn tags_of(operand: &Operand, tags: &mut BTreeSet<String>) -> bool {
    let is_id = |text: &&String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match operand {
        Operand::Null | Operand::Time(_) => return false,
        Operand::Text(text) => tags.extend(Some(text).filter(is_id).cloned()),
        Operand::Texts(texts) if texts.contains(&None) => return false,
        Operand::Texts(texts) => tags.extend(texts.iter().flatten().filter(is_id).cloned()),
    }
    true
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    low: i64,
    high: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { low: i64::MIN, high: i64::MAX }
    }
}

impl Limits {
    /// False where nothing is left.
    fn narrow(&mut self, comparison: Comparison, operand: &Operand) -> bool {
        let Operand::Time(bound) = operand else { return false };
        let micros = match bound {
            // No row has an infinite time: MIN and MAX stand for what lies beyond every row.
            Bound::MinusInfinity => i64::MIN,
            Bound::At(micros) => micros.0,
            Bound::Infinity => i64::MAX,
        };
        let finite = matches!(bound, Bound::At(_));
        match comparison {
            Comparison::Equal if !finite => return false,
            Comparison::Equal => {
                self.low = self.low.max(micros);
                self.high = self.high.min(micros);
            }
            Comparison::Greater if micros == i64::MAX => return false,
            Comparison::Less if micros == i64::MIN => return false,
            Comparison::GreaterOrEqual if *bound == Bound::Infinity => return false,
            Comparison::LessOrEqual if *bound == Bound::MinusInfinity => return false,
            Comparison::Greater if finite => self.low = self.low.max(micros + 1),
            Comparison::Less if finite => self.high = self.high.min(micros - 1),
            Comparison::GreaterOrEqual => self.low = self.low.max(micros),
            Comparison::LessOrEqual => self.high = self.high.min(micros),
            _ => {}
        }
        self.low <= self.high
    }

    fn window(self) -> Window {
        Window {
            low: (self.low != i64::MIN).then_some(Micros(self.low)),
            high: (self.high != i64::MAX).then_some(Micros(self.high)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(column: Filterable, comparison: Comparison, operand: usize) -> Filter {
        Filter { column, comparison, operand }
    }

    fn chains(clauses: &[(Filterable, Comparison, Operand)]) -> Vec<Chain> {
        let filters: Vec<_> =
            clauses.iter().enumerate().map(|(i, (col, cmp, _))| filter(*col, *cmp, i)).collect();
        let operands: Vec<_> = clauses.iter().map(|(_, _, operand)| operand.clone()).collect();
        bind(&filters, Order::choose(&filters), &operands, "1")
    }

    fn text(value: &str) -> Operand {
        Operand::Text(value.to_owned())
    }

    fn texts(values: &[Option<&str>]) -> Operand {
        Operand::Texts(values.iter().map(|v| v.map(str::to_owned)).collect())
    }

    fn at(micros: i64) -> Operand {
        Operand::Time(Bound::At(Micros(micros)))
    }

    #[test]
    fn no_row_can_match_so_nothing_is_asked() {
        use Comparison::*;
        use Filterable::*;
        for impossible in [
            vec![(Type, Equal, Operand::Null)],
            vec![(Type, AnyOf, texts(&[]))],
            vec![(Type, AnyOf, texts(&[None]))],
            vec![(Type, Equal, text("INBOX")), (Type, Equal, text("COMMENT"))],
            vec![(Tags, Contains, texts(&[Some("61"), None]))],
            vec![(Tags, Has, Operand::Null)],
            vec![(PageId, Equal, text("2"))],
            vec![(UpdatedAt, Greater, at(5)), (UpdatedAt, Less, at(5))],
            vec![(UpdatedAt, Greater, at(5)), (UpdatedAt, Less, at(6))],
            vec![(UpdatedAt, Greater, Operand::Time(Bound::Infinity))],
            vec![(InsertedAt, LessOrEqual, Operand::Time(Bound::MinusInfinity))],
            vec![(InsertedAt, Equal, Operand::Time(Bound::Infinity))],
            vec![(InsertedAt, Less, at(5)), (UpdatedAt, Less, at(5)), (InsertedAt, Greater, at(5))],
        ] {
            assert_eq!(chains(&impossible), [], "{impossible:?}");
        }
    }

    #[test]
    fn every_row_may_match_so_everything_is_asked() {
        use Comparison::*;
        use Filterable::*;
        for everything in [
            vec![],
            vec![(Tags, Contains, texts(&[]))],
            vec![(Tags, Has, text("Đã mua"))],
            vec![(Type, Equal, text("LIVESTREAM"))],
            vec![(Type, AnyOf, texts(&[Some("INBOX"), Some("RATING")]))],
            vec![(PageId, AnyOf, texts(&[Some("1"), Some("2")]))],
            vec![(UpdatedAt, Less, Operand::Time(Bound::Infinity))],
        ] {
            let expected =
                Chain { order: Order::InsertedAt, kind: None, tags: vec![], window: Window::default() };
            assert_eq!(chains(&everything), [expected], "{everything:?}");
        }
    }

    #[test]
    fn one_chain_per_type_with_its_tags_and_window() {
        use Comparison::*;
        let bound = chains(&[
            (Filterable::Type, AnyOf, texts(&[Some("INBOX"), Some("COMMENT"), None])),
            (Filterable::Tags, Contains, texts(&[Some("62"), Some("61"), Some("VIP")])),
            (Filterable::UpdatedAt, Greater, at(10)),
            (Filterable::UpdatedAt, LessOrEqual, at(20)),
        ]);
        let kinds: Vec<_> = bound.iter().map(|chain| chain.kind.as_deref()).collect();
        assert_eq!(kinds, [Some("COMMENT"), Some("INBOX")]);
        assert_eq!(bound[0].tags, ["61", "62"]);
        assert_eq!(bound[0].order, Order::UpdatedAt);
        assert_eq!(bound[0].window, Window { low: Some(Micros(11)), high: Some(Micros(20)) });
    }

    #[test]
    fn the_immutable_column_leads_where_it_can() {
        use Comparison::*;
        let both =
            [filter(Filterable::UpdatedAt, Greater, 0), filter(Filterable::InsertedAt, GreaterOrEqual, 1)];
        assert_eq!(Order::choose(&both), Order::InsertedAt);
        assert_eq!(fate(&both[0], Order::InsertedAt), Verdict::Guard);
        assert_eq!(Order::choose(&[filter(Filterable::UpdatedAt, Less, 0)]), Order::InsertedAt);
        assert_eq!(Order::choose(&both[..1]), Order::UpdatedAt);
    }
}
