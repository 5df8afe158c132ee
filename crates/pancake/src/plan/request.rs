//! This module is the request plan: a union of chains, bound from filters and the values of their
//! operands. It decides what is asked; how one chain is walked and proven is
//! [`crate::paging::cursor`]'s.

use std::collections::BTreeSet;

use crate::error::{Error, Kind, Result};
use crate::plan::filter::{Comparison, Filter, Filterable, Operand, Slack, Timestamp};
use crate::schema::catalogue::{Object, Pagination};
use crate::schema::keyset::{Order, TimeRange};
use crate::time::Micros;
use crate::url::is_dots;

/// By `inserted_at`, which never changes, unless the other order costs less than half of its
/// requests. Before ANALYZE the age of the rows is a guess: then a lower bound on one column alone
/// decides, for it is seldom far from the present.
pub fn choose_order(filters: &[Filter], analyzed: bool, by_inserted_at: f64, by_updated_at: f64) -> Order {
    let bounded_below = |column| filters.iter().any(|f| f.column == column && f.comparison.is_lower());
    let below = (bounded_below(Filterable::UpdatedAt), bounded_below(Filterable::InsertedAt));
    let moving = match below {
        (true, false) if !analyzed => true,
        (false, _) if !analyzed => false,
        _ => by_updated_at * 2.0 < by_inserted_at,
    };
    if moving { Order::UpdatedAt } else { Order::InsertedAt }
}

/// One walk: the rows of a page that the server selects by these parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub order: Order,
    pub kind: Option<String>,
    pub tags: Vec<String>,
    pub post_id: Option<String>,
    /// Whose messages; never missing where messages are asked for.
    pub conversation_id: Option<String>,
    pub window: TimeRange,
}

impl Chain {
    /// All rows of the page.
    pub fn whole(order: Order) -> Self {
        let (kind, post_id, conversation_id) = (None, None, None);
        Self { order, kind, tags: Vec::new(), post_id, conversation_id, window: TimeRange::default() }
    }

    /// A superset of the same rows by a time that never changes, to the end of the list: what shows
    /// which time decides nothing.
    pub fn to_the_end(self) -> Self {
        Self { order: Order::InsertedAt, window: TimeRange::default(), ..self }
    }

    /// The filters that all chains share, as a chain of its own. None where there are no chains.
    pub fn common(chains: &[Chain]) -> Option<Chain> {
        let (first, others) = chains.split_first()?;
        let mut common = first.clone();
        for chain in others {
            let shared = |ours: Option<String>, theirs: &Option<String>| {
                ours.filter(|ours| theirs.as_ref() == Some(ours))
            };
            common.kind = shared(common.kind, &chain.kind);
            common.post_id = shared(common.post_id, &chain.post_id);
            common.conversation_id = shared(common.conversation_id, &chain.conversation_id);
            common.tags.retain(|tag| chain.tags.contains(tag));
        }
        Some(common)
    }
}

/// What is asked of the server for one scan: chains whose union holds every row that the filters
/// let through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestPlan {
    /// None where no row can match.
    pub chains: Vec<Chain>,
    /// For a page on which `post_ids` does not filter: the same rows without it.
    pub without_posts: Vec<Chain>,
    /// The scan is over when these have been found.
    pub ids: Option<BTreeSet<String>>,
    /// Rows must come in the order of the chains, newest first.
    pub ordered: bool,
    /// The limit of the query, if there is one; nothing is fetched ahead beyond it.
    pub limit: Option<u64>,
    /// All rows are needed, or as many as a limit that is not small: more is fetched ahead from the
    /// first batch on.
    pub whole: bool,
}

/// Beyond this, one chain that Postgres checks is cheaper than many that begin with a request each.
pub const MAX_CHAINS: usize = 32;

pub(crate) fn is_sendable(object: Object, kind: &str) -> bool {
    object.values_of("type").is_some_and(|kinds| kinds.contains(&kind))
}

/// Binds the filters with the values of their operands. A filter whose operand is not known yet is
/// passed over.
pub fn bind(
    object: Object,
    filters: &[Filter],
    order: Order,
    operands: &[Option<Operand>],
    page_id: &str,
) -> RequestPlan {
    let mut limits = Restriction::default();
    for filter in filters {
        let Some(Some(operand)) = operands.get(filter.operand) else { continue };
        if !limits.narrow(filter, operand, page_id) {
            return RequestPlan::default();
        }
    }
    limits.plan(object, order)
}

/// What the filters require of a row.
#[derive(Default)]
struct Restriction {
    kinds: Option<BTreeSet<String>>,
    ids: Option<BTreeSet<String>>,
    posts: Option<BTreeSet<String>>,
    conversations: Option<BTreeSet<String>>,
    /// Tags that a row must have all of.
    all_tags: BTreeSet<String>,
    /// Tags that a row must have one of.
    any_tag: Option<BTreeSet<String>>,
    updated_at: Limits,
    inserted_at: Limits,
}

impl Restriction {
    /// Takes a filter in. False where no row is left.
    fn narrow(&mut self, filter: &Filter, operand: &Operand, page_id: &str) -> bool {
        match (filter.column, filter.comparison) {
            (Filterable::Type, _) => keep(&mut self.kinds, values(operand)),
            (Filterable::PostId, _) => keep(&mut self.posts, values(operand)),
            (Filterable::ConversationId, _) => {
                let mut named = values(operand);
                // No conversation has such an id, and the address of its messages would be that of
                // something else.
                named.retain(|id| !id.is_empty() && !is_dots(id));
                keep(&mut self.conversations, named)
            }
            (Filterable::Id, _) => keep(&mut self.ids, values(operand)),
            (Filterable::PageId, _) => values(operand).contains(page_id),
            (Filterable::Tags, Comparison::Overlaps) => {
                let any = values(operand);
                let possible = !any.is_empty();
                // Of several such clauses the one with the fewest tags is sent; Postgres checks the
                // others.
                if any.iter().all(|text| is_tag_id(text))
                    && self.any_tag.as_ref().is_none_or(|tags| any.len() < tags.len())
                {
                    self.any_tag = Some(any);
                }
                possible
            }
            (Filterable::Tags, _) => must_have(operand, &mut self.all_tags),
            (Filterable::UpdatedAt, _) => self.updated_at.narrow(filter, operand),
            (Filterable::InsertedAt, _) => self.inserted_at.narrow(filter, operand),
        }
    }

    fn plan(self, object: Object, order: Order) -> RequestPlan {
        let window = match order {
            Order::UpdatedAt => self.updated_at.window(),
            Order::InsertedAt => self.inserted_at.window(),
            Order::Served => TimeRange::default(),
        };
        let whole = Chain { window, ..Chain::whole(order) };
        if object.needs_conversation() {
            // However many: there is no other way to them.
            let chains: Vec<_> = each(self.conversations)
                .into_iter()
                .map(|conversation_id| Chain { conversation_id, ..whole.clone() })
                .collect();
            // An id is unique in its page, but a scan that has found it in one conversation has not
            // seen the others.
            let ids = self.ids.filter(|_| chains.len() == 1);
            return RequestPlan { chains, ids, ..RequestPlan::default() };
        }
        let few = |values: &&BTreeSet<String>| values.len() <= MAX_CHAINS;
        let posts = self.posts.as_ref().filter(few);
        let chains = self.chains(object, &whole, posts);
        let without_posts = posts.map_or_else(Vec::new, |_| self.chains(object, &whole, None));
        RequestPlan { chains, without_posts, ids: self.ids, ..RequestPlan::default() }
    }

    fn chains(&self, object: Object, whole: &Chain, posts: Option<&BTreeSet<String>>) -> Vec<Chain> {
        let posts = each(posts.cloned());
        let sendable = |kinds: &BTreeSet<String>| kinds.iter().all(|kind| is_sendable(object, kind));
        let any_tag = self.any_tag.clone().filter(|tags| tags.len() * posts.len() <= MAX_CHAINS);
        let any_tag = each(any_tag);
        // Beside post_ids no type is sent: that is the form that is proven. Tags select fewer rows
        // than types. The whole time of a list in slices is walked for each type.
        let most = if object.paging() == Pagination::Cursor { MAX_CHAINS } else { 1 };
        let few_enough = |kinds: &BTreeSet<String>| kinds.len() * any_tag.len() <= most;
        let kinds =
            self.kinds.clone().filter(|kinds| sendable(kinds) && posts == [None] && few_enough(kinds));
        let kinds = each(kinds);
        let mut chains = Vec::new();
        for (post_id, kind) in posts.iter().flat_map(|post| kinds.iter().map(move |kind| (post, kind))) {
            for tag in &any_tag {
                let tags: BTreeSet<_> = self.all_tags.iter().chain(tag).cloned().collect();
                let (kind, post_id) = (kind.clone(), post_id.clone());
                chains.push(Chain { kind, post_id, tags: tags.into_iter().collect(), ..whole.clone() });
            }
        }
        chains
    }
}

impl RequestPlan {
    /// The same rows without the help of `post_ids`.
    pub fn without_posts(self) -> RequestPlan {
        RequestPlan { chains: self.without_posts, without_posts: Vec::new(), ..self }
    }

    /// A superset of the same rows that is read to the end of the list, for a page where rows stand
    /// far below the place of the time that they show.
    pub fn to_the_end(mut self) -> RequestPlan {
        for chain in self.chains.iter_mut().chain(&mut self.without_posts) {
            if self.ordered {
                chain.window.low = None;
            } else if chain.window != TimeRange::default() {
                *chain = chain.clone().to_the_end();
            }
        }
        self
    }

    /// Whether the same row may come in two chains: their filters may overlap, and a server may
    /// ignore one. What is asked for conversation by conversation does not.
    pub fn may_repeat(&self) -> bool {
        self.chains.len() > 1 && self.chains.iter().all(|chain| chain.conversation_id.is_none())
    }

    /// An error where messages are wanted of no conversation in particular.
    pub fn can_be_asked(&self, object: Object) -> Result<()> {
        if object.needs_conversation() && self.chains.iter().any(|chain| chain.conversation_id.is_none()) {
            Err(Error::new(Kind::NoConversation, "messages need a conversation_id").detail(
                "Pancake gives messages of one conversation at a time: a condition must say of which.",
            ))
        } else {
            Ok(())
        }
    }

    pub fn filters_posts(&self) -> bool {
        self.chains.iter().any(|chain| chain.post_id.is_some())
    }
}

/// One chain for each value, or one without.
fn each(values: Option<BTreeSet<String>>) -> Vec<Option<String>> {
    values.map_or_else(|| vec![None], |values| values.into_iter().map(Some).collect())
}

/// Keeps what both sets allow. False where that is nothing.
fn keep(allowed: &mut Option<BTreeSet<String>>, values: BTreeSet<String>) -> bool {
    let left: BTreeSet<String> = match allowed.take() {
        Some(earlier) => earlier.intersection(&values).cloned().collect(),
        None => values,
    };
    let possible = !left.is_empty();
    *allowed = Some(left);
    possible
}

/// The values that `= x` or `= ANY (x)` lets through.
pub(crate) fn values(operand: &Operand) -> BTreeSet<String> {
    match operand {
        Operand::Text(text) => BTreeSet::from([text.clone()]),
        Operand::Texts(texts) => texts.iter().flatten().cloned().collect(),
        Operand::Null | Operand::Time(_) => BTreeSet::new(),
    }
}

/// Text that is no tag id is left to Postgres: sent, it would switch the server's filter off
/// (docs/api.md).
pub(crate) fn is_tag_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Gathers the tag ids that a row must have all of. False where no row can: a NULL is contained in
/// nothing.
fn must_have(operand: &Operand, tags: &mut BTreeSet<String>) -> bool {
    match operand {
        Operand::Null | Operand::Time(_) => return false,
        Operand::Text(text) => tags.extend(Some(text).filter(|text| is_tag_id(text)).cloned()),
        Operand::Texts(texts) if texts.contains(&None) => return false,
        Operand::Texts(texts) => tags.extend(texts.iter().flatten().filter(|text| is_tag_id(text)).cloned()),
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
    fn narrow(&mut self, filter: &Filter, operand: &Operand) -> bool {
        let Operand::Time(bound) = operand else { return false };
        let (exact, slack) = (filter.slack == Slack::NONE, filter.slack);
        let low = |micros: &Micros| micros.minus_seconds(slack.before).0;
        let high = |micros: &Micros| micros.minus_seconds(-slack.after).0;
        // No row has an infinite time.
        match (filter.comparison, bound) {
            (Comparison::Equal, Timestamp::At(at)) => {
                self.low = self.low.max(low(at));
                self.high = self.high.min(high(at));
            }
            (Comparison::Greater, Timestamp::At(at)) => {
                self.low = self.low.max(low(at).saturating_add(i64::from(exact)))
            }
            (Comparison::Less, Timestamp::At(at)) => {
                self.high = self.high.min(high(at).saturating_sub(i64::from(exact)))
            }
            (Comparison::GreaterOrEqual, Timestamp::At(at)) => self.low = self.low.max(low(at)),
            (Comparison::LessOrEqual, Timestamp::At(at)) => self.high = self.high.min(high(at)),
            (Comparison::Greater | Comparison::GreaterOrEqual, Timestamp::MinusInfinity) => {}
            (Comparison::Less | Comparison::LessOrEqual, Timestamp::Infinity) => {}
            _ => return false,
        }
        self.low <= self.high
    }

    fn window(self) -> TimeRange {
        TimeRange {
            low: (self.low != i64::MIN).then_some(Micros(self.low)),
            high: (self.high != i64::MAX).then_some(Micros(self.high)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Object = Object::Conversations;

    fn filter(column: Filterable, comparison: Comparison, operand: usize) -> Filter {
        Filter { column, comparison, operand, slack: Slack::NONE, without_zone: false }
    }

    fn chains(clauses: &[(Filterable, Comparison, Operand)]) -> Vec<Chain> {
        plan(clauses).chains
    }

    fn plan(clauses: &[(Filterable, Comparison, Operand)]) -> RequestPlan {
        let filters: Vec<_> =
            clauses.iter().enumerate().map(|(i, (col, cmp, _))| filter(*col, *cmp, i)).collect();
        let operands: Vec<_> = clauses.iter().map(|(_, _, operand)| Some(operand.clone())).collect();
        bind(ALL, &filters, choose_order(&filters, false, 1.0, 1.0), &operands, "1")
    }

    fn text(value: &str) -> Operand {
        Operand::Text(value.to_owned())
    }

    fn texts(values: &[Option<&str>]) -> Operand {
        Operand::Texts(values.iter().map(|v| v.map(str::to_owned)).collect())
    }

    fn at(micros: i64) -> Operand {
        Operand::Time(Timestamp::At(Micros(micros)))
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
            vec![(Tags, Overlaps, texts(&[]))],
            vec![(Tags, Overlaps, texts(&[None]))],
            vec![(Id, Equal, text("a")), (Id, AnyOf, texts(&[Some("b")]))],
            vec![(PageId, Equal, text("2"))],
            vec![(UpdatedAt, Greater, at(5)), (UpdatedAt, Less, at(5))],
            vec![(UpdatedAt, Greater, at(5)), (UpdatedAt, Less, at(6))],
            vec![(UpdatedAt, Greater, Operand::Time(Timestamp::Infinity))],
            vec![(InsertedAt, LessOrEqual, Operand::Time(Timestamp::MinusInfinity))],
            vec![(InsertedAt, Equal, Operand::Time(Timestamp::Infinity))],
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
            vec![(Tags, Overlaps, texts(&[Some("61"), Some("VIP")]))],
            vec![(Id, Equal, text("a"))],
            vec![(Type, Equal, text("LIVESTREAM"))],
            vec![(Type, AnyOf, texts(&[Some("INBOX"), Some("RATING")]))],
            vec![(PageId, AnyOf, texts(&[Some("1"), Some("2")]))],
            vec![(UpdatedAt, Less, Operand::Time(Timestamp::Infinity))],
        ] {
            let expected = Chain::whole(Order::InsertedAt);
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
        assert_eq!(bound[0].window, TimeRange { low: Some(Micros(11)), high: Some(Micros(20)) });
    }

    #[test]
    fn one_chain_per_tag_of_which_one_is_enough() {
        use Comparison::*;
        let of = |tags: &[Option<&str>]| {
            chains(&[
                (Filterable::Tags, Overlaps, texts(tags)),
                (Filterable::Tags, Contains, texts(&[Some("60")])),
            ])
        };
        let tags: Vec<_> = of(&[Some("61"), None, Some("62")]).into_iter().map(|chain| chain.tags).collect();
        assert_eq!(tags, [["60", "61"], ["60", "62"]]);
        let many: Vec<String> = (0..=MAX_CHAINS).map(|tag| tag.to_string()).collect();
        let many: Vec<_> = many.iter().map(|tag| Some(tag.as_str())).collect();
        assert_eq!(of(&many).len(), 1);
    }

    #[test]
    fn one_chain_per_post_and_none_of_its_type() {
        use Comparison::*;
        let clauses = [
            (Filterable::PostId, AnyOf, texts(&[Some("p1"), Some("p2")])),
            (Filterable::Type, Equal, text("COMMENT")),
        ];
        let plan = plan(&clauses);
        assert!(plan.chains.iter().all(|chain| chain.kind.is_none()));
        let posts = |plan: &RequestPlan| -> Vec<_> {
            plan.chains.iter().filter_map(|chain| chain.post_id.clone()).collect()
        };
        assert_eq!(posts(&plan), ["p1", "p2"]);
        // Where post_ids is of no use, the type is.
        let fallback = plan.without_posts();
        assert!(posts(&fallback).is_empty());
        assert_eq!(
            fallback.chains.iter().map(|chain| chain.kind.as_deref()).collect::<Vec<_>>(),
            [Some("COMMENT")]
        );
    }

    #[test]
    fn messages_are_asked_for_conversation_by_conversation() {
        use Comparison::*;
        let of = |clauses: &[(Filterable, Comparison, Operand)]| {
            let filters: Vec<_> =
                clauses.iter().enumerate().map(|(i, (col, cmp, _))| filter(*col, *cmp, i)).collect();
            let operands: Vec<_> = clauses.iter().map(|(_, _, operand)| Some(operand.clone())).collect();
            bind(Object::Messages, &filters, Order::InsertedAt, &operands, "1")
        };
        let many: Vec<String> = (0..100).map(|id| id.to_string()).collect();
        let many = Operand::Texts(many.into_iter().map(Some).collect());
        let plan = of(&[
            (Filterable::ConversationId, AnyOf, many),
            (Filterable::InsertedAt, Greater, at(9)),
            (Filterable::Id, Equal, text("m")),
        ]);
        assert_eq!(plan.chains.len(), 100);
        assert!(plan.chains.iter().all(|chain| chain.window.low == Some(Micros(10))));
        assert!(!plan.may_repeat() && plan.ids.is_none() && plan.can_be_asked(Object::Messages).is_ok());
        assert_eq!(Chain::common(&plan.chains).unwrap().conversation_id, None);
        assert_eq!(Chain::common(&plan.chains[..1]).as_ref(), plan.chains.first());
        let without = of(&[(Filterable::InsertedAt, Greater, at(9))]);
        assert_eq!(without.can_be_asked(Object::Messages).unwrap_err().sqlstate(), "HV002");
        assert_eq!(of(&[(Filterable::ConversationId, Equal, Operand::Null)]).chains, []);
        for nobody in ["", ".", ".."] {
            let nobody = Operand::Text(nobody.to_owned());
            assert_eq!(of(&[(Filterable::ConversationId, Equal, nobody)]).chains, []);
        }
        let some = Operand::Texts(["..", "a", "."].map(|id| Some(id.to_owned())).into());
        assert_eq!(of(&[(Filterable::ConversationId, AnyOf, some)]).chains.len(), 1);
    }

    #[test]
    fn slack_widens_a_window_and_never_narrows_it() {
        let day = Slack { before: 10, after: 20 };
        let of = |comparison| {
            let filter = Filter { slack: day, ..filter(Filterable::UpdatedAt, comparison, 0) };
            bind(ALL, &[filter], Order::UpdatedAt, &[Some(at(100_000_000))], "1").chains[0].window
        };
        let (low, high) = (Some(Micros(90_000_000)), Some(Micros(120_000_000)));
        assert_eq!(of(Comparison::Equal), TimeRange { low, high });
        assert_eq!(of(Comparison::Greater), TimeRange { low, high: None });
        assert_eq!(of(Comparison::Less), TimeRange { low: None, high });
    }

    #[test]
    fn the_immutable_column_leads_unless_the_other_costs_less_than_half() {
        use Comparison::*;
        use Filterable::*;
        let both = [filter(UpdatedAt, Greater, 0), filter(InsertedAt, GreaterOrEqual, 1)];
        let upper = [filter(UpdatedAt, Less, 0)];
        for (filters, analyzed, by_inserted_at, by_updated_at, expected) in [
            (&both[..], true, 100.0, 49.0, Order::UpdatedAt),
            (&both[..], true, 100.0, 50.0, Order::InsertedAt),
            (&both[..], false, 100.0, 49.0, Order::UpdatedAt),
            (&both[..1], true, 100.0, 90.0, Order::InsertedAt),
            (&both[..1], false, 100.0, 90.0, Order::UpdatedAt),
            (&both[1..], true, 3.0, 100.0, Order::InsertedAt),
            (&upper[..], true, 100.0, 10.0, Order::UpdatedAt),
            (&upper[..], false, 100.0, 34.0, Order::InsertedAt),
            (&[], true, 100.0, 100.0, Order::InsertedAt),
        ] {
            let chosen = choose_order(filters, analyzed, by_inserted_at, by_updated_at);
            assert_eq!(chosen, expected, "{filters:?} {analyzed} {by_inserted_at} {by_updated_at}");
        }
    }
}

#[cfg(test)]
#[path = "request_model.rs"]
pub(crate) mod model;
