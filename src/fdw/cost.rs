//! This module estimates what a scan costs, in requests: which rows come over the network for its
//! clauses, in which order that is cheaper, and what a page's detours add.

use std::collections::BTreeSet;

use pancake::paging::cursor::WIDTH_SECONDS;
use pancake::paging::time_slices::FLOOR;
use pancake::paging::verdicts::Assumptions;
use pancake::plan::filter::{Filter, Filterable, Operand};
use pancake::plan::pushdown::{Pushdown, pushdowns};
use pancake::plan::request::{RequestPlan, bind, choose_order};
use pancake::schema::catalogue::{Object, Pagination};
use pancake::schema::keyset::{Order, Sides, TimeRange};
use pancake::schema::messages::OF_A_CONVERSATION;
use pancake::time::{Micros, SECOND};
use pgrx::pg_sys;

use crate::fdw::column_expr::Columns;
use crate::fdw::params::{POSTGRES_EPOCH, constant};
use crate::fdw::quals::{self, Clause};
use crate::pg::catalog::{DeclaredColumn, ForeignTable};
use crate::pg::nodes::to_list;
use crate::pg::settings;
use crate::pg::shared::{CLOCKS, shared};

/// Half of the rows of a page that was never looked at are taken to be at least this old, and a
/// third at least twice as old.
const HALF_MICROS: f64 = 90.0 * 86_400.0 * SECOND as f64;
/// `timestamptz >= timestamptz` and `<=`, as every Postgres has them.
const TIMESTAMPTZ_GE: u32 = 1325;
const TIMESTAMPTZ_LE: u32 = 1323;
/// Of the rows of a page that was never looked at, how many have a tag whose value is a parameter.
/// Tags are a few dozen, and most rows have some; Postgres's guess for an array makes a walk for
/// each tag look cheaper than one over them all.
const OF_AN_OPEN_TAG: f64 = 0.1;

/// New rows that a request brings: neighbouring batches overlap by a row, slices of time are cut
/// for three quarters of a batch, whole lists come at once.
pub fn rows_of_a_request(object: Object) -> f64 {
    match object.paging() {
        Pagination::Cursor => 59.0,
        Pagination::Offset => 29.0,
        Pagination::TimeSlices { batch } => batch as f64 * 0.75,
        Pagination::Single => f64::INFINITY,
    }
}

/// The same, at most the rows of one walk: each conversation is a walk of its own.
fn rows_of_a_walk(object: Object) -> f64 {
    let most = if object.needs_conversation() { OF_A_CONVERSATION } else { f64::INFINITY };
    rows_of_a_request(object).min(most)
}

/// On which sides a clause bounds the time of the order.
fn sides(filter: &Filter, order: Order) -> Sides {
    let is_of_order = Some(filter.column.column()) == order.column();
    let Filter { comparison, .. } = filter;
    Sides { above: is_of_order && comparison.is_upper(), below: is_of_order && comparison.is_lower() }
}

/// Requests for the slices of a page that takes no window of a month.
fn slices(window: TimeRange, now: Micros) -> f64 {
    let low = window.low.map_or(FLOOR, |low| low.floor_second().0.max(FLOOR));
    let high = window.high.map_or(now, |high| high.min(now)).floor_second().0;
    (high.saturating_sub(low).max(0) as f64 / WIDTH_SECONDS as f64).ceil()
}

/// The stretch of time that the chains are walked over, as far as it can be estimated.
fn stretch(plan: &RequestPlan) -> TimeRange {
    let windows = || plan.chains.iter().map(|chain| chain.window);
    // None is no bound: before all lows, and behind all highs.
    let low = windows().map(|window| window.low).min().flatten();
    let is_open = windows().any(|window| window.high.is_none());
    let high = windows().filter_map(|window| window.high).max().filter(|_| !is_open);
    TimeRange { low, high }
}

/// What is known of the page of a table by all sessions.
pub fn known_of(table: &ForeignTable, order: Order) -> Assumptions {
    let (server, now) = (&table.server, Micros((CLOCKS.wall_micros)()));
    let page_id = table.table.page_id.as_deref().unwrap_or_default();
    let verdicts = shared().ok().and_then(|shared| shared.memory.verdicts_of(&server.base_url, page_id));
    verdicts.map_or(now.into(), |verdicts| verdicts.known(table.table.object, order, now, false))
}

/// One way to scan: by these clauses, walked in this order.
pub struct ScanCost {
    pub order: Order,
    /// Requests of the whole walk, and the chains that they are in.
    pub requests: f64,
    pub chains: usize,
    /// What becomes of each filter.
    pub pushdowns: Vec<Pushdown>,
    /// The sides on which bounds are of use on this page.
    pub useful: Sides,
    /// Why it is longer than it would be on most pages.
    pub detour: Option<&'static str>,
    /// No clause names the conversations whose messages are wanted.
    pub impossible: bool,
}

/// The planner's relation with what is known of its table.
pub struct Relation<'a> {
    pub root: *mut pg_sys::PlannerInfo,
    pub relation: *mut pg_sys::RelOptInfo,
    pub table: &'a ForeignTable,
    pub analyzed: bool,
}

impl Relation<'_> {
    pub fn classify(&self, clauses: &[*mut pg_sys::RestrictInfo]) -> Vec<Clause> {
        quals::classify(self.root, self.table, self.relation, clauses)
    }

    /// How these clauses are served, in the order that is asked for or in the better one.
    pub fn way(&self, clauses: &[Clause], order: Option<Order>) -> ScanCost {
        let by = |order| self.way_by(clauses, order);
        let object = self.object();
        if order.is_none() && object.orders().len() < 2 {
            return by(object.order());
        }
        let Some(order) = order.or_else(settings::order_by) else {
            let (stable, moving) = (by(Order::InsertedAt), by(Order::UpdatedAt));
            let (filters, _) = quals::filters(clauses);
            return match choose_order(&filters, self.analyzed, stable.requests, moving.requests) {
                Order::UpdatedAt => moving,
                _ => stable,
            };
        };
        by(order)
    }

    fn way_by(&self, clauses: &[Clause], order: Order) -> ScanCost {
        let (filters, operands) = quals::filters(clauses);
        let known: Vec<_> =
            filters.iter().zip(&operands).map(|(filter, node)| constant(filter, *node)).collect();
        let page_id = self.table.table.page_id.as_deref().unwrap_or_default();
        let object = self.object();
        let plan = bind(object, &filters, order, &known, page_id);
        let chains = plan.chains.len();
        // What `now()` and the like will be is estimated for the costs alone.
        let likely: Vec<_> =
            filters.iter().zip(&operands).map(|(filter, node)| self.likely(filter, *node)).collect();
        let estimated = bind(object, &filters, order, &likely, page_id);
        let bounds = filters.iter().map(|filter| sides(filter, order));
        let is_bounded = bounds.fold(Sides { above: false, below: false }, |all, one| Sides {
            above: all.above || one.above,
            below: all.below || one.below,
        });
        let of_page = known_of(self.table, order);
        let detour = of_page.detour(object, is_bounded).filter(|_| chains > 0);
        // Where a walk cannot begin at an upper bound it comes down to it, and a lower bound may
        // not end it.
        let starts_above = detour.is_some() && object.paging() == Pagination::Cursor;
        let useful = Sides { above: !starts_above, below: !starts_above || of_page.ends_by_time };
        let pushdowns = pushdowns(object, &filters, &known, &plan, order, useful, of_page.now);
        let begins_at_bound = filters
            .iter()
            .zip(&pushdowns)
            .any(|(filter, of)| filter.comparison.is_upper() && *of == Pushdown::Sent);
        let walked = stretch(&estimated);
        let walked = TimeRange {
            low: walked.low.filter(|_| useful.below),
            high: walked.high.filter(|_| begins_at_bound),
        };
        let can_estimate = !self.analyzed || self.time_column(order).is_some();
        let has_estimate = |filter: &Filter| {
            can_estimate
                && Some(filter.column.column()) == order.column()
                && matches!(likely.get(filter.operand), Some(Some(Operand::Time(_))))
        };
        let requests = match chains {
            0 => 0.0,
            n if estimated.chains.is_empty() => n as f64,
            n => {
                let sent = self.sent(clauses, &filters, &pushdowns, has_estimate);
                let rows = self.fetched(&sent, &known, &plan) * self.of_stretch(order, walked);
                (self.at_least_a_batch(rows) / rows_of_a_walk(object)).ceil().max(n as f64)
            }
        };
        let requests = match detour {
            Some(_) if !starts_above => requests.max(chains as f64 * slices(walked, of_page.now)),
            _ => requests,
        };
        let impossible = object.needs_conversation()
            && filters.iter().all(|filter| filter.column != Filterable::ConversationId);
        ScanCost { order, requests, chains, pushdowns, useful, detour, impossible }
    }

    /// The value of a bound that planning can estimate, or of any other constant.
    fn likely(&self, filter: &Filter, node: *mut pg_sys::Expr) -> Option<Operand> {
        // SAFETY: an expression of the query, which is copied; what Postgres evaluates for its own
        // estimates as well.
        let estimated = || unsafe { pg_sys::estimate_expression_value(self.root, node.cast()) };
        constant(filter, node).or_else(|| constant(filter, filter.is_time().then(estimated)?.cast()))
    }

    /// The clauses for which fewer rows come over the network, except bounds whose stretch of time
    /// is estimated.
    fn sent<'c>(
        &self,
        clauses: &'c [Clause],
        filters: &'c [Filter],
        pushdowns: &[Pushdown],
        has_estimate: impl Fn(&Filter) -> bool,
    ) -> Vec<(&'c Clause, &'c Filter)> {
        let object = self.object();
        let used = clauses.iter().filter(|clause| clause.filter.is_ok()).zip(filters);
        let sent = used.zip(pushdowns).filter(|((_, filter), of)| of.narrows(object, filter));
        sent.map(|(clause, _)| clause).filter(|(_, filter)| !has_estimate(filter)).collect()
    }

    /// The column of the order, if it has the type of whose values Postgres has a histogram.
    fn time_column(&self, order: Order) -> Option<&DeclaredColumn> {
        let name = order.column()?;
        let mut columns = self.table.columns.iter();
        columns.find(|column| column.name == name && column.type_id == pg_sys::TIMESTAMPTZOID)
    }

    /// The part of the rows that is in a stretch of time.
    fn of_stretch(&self, order: Order, stretch: TimeRange) -> f64 {
        let bounds = [(TIMESTAMPTZ_GE, stretch.low), (TIMESTAMPTZ_LE, stretch.high)];
        if !self.analyzed {
            let now = (CLOCKS.wall_micros)();
            let newer = |bound: Micros| {
                let age = now.saturating_sub(bound.0).max(0) as f64;
                age / (age + HALF_MICROS)
            };
            let (high, low) = (stretch.high.map_or(0.0, newer), stretch.low.map_or(1.0, newer));
            return (low - high).max(0.0);
        }
        let Some(column) = self.time_column(order) else { return 1.0 };
        // SAFETY: fresh nodes, and the planner's own structures.
        unsafe {
            let clause = |(operator, bound): (u32, Option<Micros>)| {
                let micros = bound?.0.saturating_sub(POSTGRES_EPOCH);
                let column = pg_sys::makeVar(
                    (*self.relation).relid as _,
                    column.number,
                    column.type_id,
                    -1,
                    pg_sys::InvalidOid,
                    0,
                );
                let bound = pg_sys::makeConst(
                    pg_sys::TIMESTAMPTZOID,
                    -1,
                    pg_sys::InvalidOid,
                    8,
                    pg_sys::Datum::from(micros),
                    false,
                    true,
                );
                Some(pg_sys::make_opclause(
                    pg_sys::Oid::from(operator),
                    pg_sys::BOOLOID,
                    false,
                    column.cast(),
                    bound.cast(),
                    pg_sys::InvalidOid,
                    pg_sys::InvalidOid,
                ))
            };
            let clauses: Vec<_> = bounds.into_iter().filter_map(clause).collect();
            self.selectivity(to_list(&clauses))
        }
    }

    /// Guessed selectivities multiply to one row soon; a batch is nearer to the truth.
    fn at_least_a_batch(&self, rows: f64) -> f64 {
        let object = self.object();
        if self.analyzed || object != Object::Conversations {
            return rows;
        }
        // SAFETY: the planner's own structure.
        rows.max(rows_of_a_request(object).min(unsafe { (*self.relation).tuples }))
    }

    fn selectivity(&self, clauses: *mut pg_sys::List) -> f64 {
        // SAFETY: the planner's own structures, alive while it plans.
        unsafe {
            let relid = (*self.relation).relid as i32;
            let (inner, no_join) = (pg_sys::JoinType::JOIN_INNER, std::ptr::null_mut());
            pg_sys::clauselist_selectivity(self.root, clauses, relid, inner, no_join)
        }
    }

    /// Rows that come over the network for these clauses, not yet reduced by a stretch of time.
    fn fetched(&self, sent: &[(&Clause, &Filter)], known: &[Option<Operand>], plan: &RequestPlan) -> f64 {
        let object = self.object();
        let sent = sent.iter().copied();
        // Postgres guesses one row in 200 for a type of a page that was never looked at, and the
        // average for one that is a parameter. Two types count, and any other that a join brings
        // means all rows.
        let is_open = |filter: &Filter| known.get(filter.operand).is_none_or(Option::is_none);
        let guessed = |filter: &Filter| {
            object == Object::Conversations
                && filter.column == Filterable::Type
                && (!self.analyzed || is_open(filter))
        };
        let (types, sent): (Vec<_>, Vec<_>) = sent.partition(|(_, filter)| guessed(filter));
        let kinds: BTreeSet<_> = plan.chains.iter().filter_map(|chain| chain.kind.as_deref()).collect();
        let of_types = if types.is_empty() || kinds.len() > 1 { 1.0 } else { 0.5 };
        let open_tag =
            |filter: &Filter| filter.column == Filterable::Tags && !self.analyzed && is_open(filter);
        let (tags, sent): (Vec<_>, Vec<_>) = sent.into_iter().partition(|(_, filter)| open_tag(filter));
        let of_tags = if tags.is_empty() { 1.0 } else { OF_AN_OPEN_TAG };
        let sent: Vec<_> = sent.into_iter().map(|(clause, _)| clause.info).collect();
        // SAFETY: the planner's own structure.
        unsafe { (*self.relation).tuples * self.selectivity(to_list(&sent)) * of_types * of_tags }
    }

    pub fn object(&self) -> Object {
        self.table.table.object
    }

    pub fn columns(&self) -> Columns<'_> {
        // SAFETY: the planner's relation, alive while it plans.
        let relid = unsafe { (*self.relation).relid };
        Columns { declared: &self.table.columns, object: self.table.table.object, relid }
    }
}
