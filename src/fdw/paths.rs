//! This module finds the ways to scan a foreign table: as it is cheapest, in the server's order, or
//! with values from the other side of a join. What a way costs is counted in requests.

use std::collections::BTreeSet;

use pancake::paging::cursor::WIDTH_SECONDS;
use pancake::paging::time_slices::FLOOR;
use pancake::paging::verdicts::{Known, Sides};
use pancake::plan::filter::{Filter, Filterable, Operand, Slack};
use pancake::plan::pushdown::{Pushdown, pushdowns};
use pancake::plan::request::{Chain, RequestPlan, bind, choose_order};
use pancake::schema::catalogue::{Object, Pagination};
use pancake::schema::keyset::Order;
use pancake::time::Micros;
use pgrx::pg_sys;

use crate::fdw::column_expr::Columns;
use crate::fdw::params::constant;
use crate::fdw::quals::{self, Clause};
use crate::pg::catalog::ForeignTable;
use crate::pg::compat;
use crate::pg::nodes::{list, to_list};
use crate::pg::settings;
use crate::pg::shared::{CLOCKS, shared};

/// A request is worth a hundred pages of disk: 50–1,200 ms of network, and a slot of the page's
/// budget.
const COST_OF_A_REQUEST: f64 = 100.0;
/// Messages of a conversation that the planner assumes before ANALYZE.
pub const MESSAGES_OF_A_CONVERSATION: f64 = 20.0;
/// Of the rows of a page that was never looked at, how many have a tag whose value is a parameter.
/// Tags are a few dozen, and most rows have some; Postgres's guess for an array makes a walk for
/// each tag look cheaper than one over them all.
const OF_AN_OPEN_TAG: f64 = 0.1;
/// Messages of no conversation in particular cannot be had: any other plan is better, and FULL JOIN
/// has none.
const COST_OF_THE_IMPOSSIBLE: f64 = 1e10;

/// Ordered scans of several pages are merged: read one after another as rows are wanted, and never
/// together, which the planner does not take into account. So they pay if less than half of the
/// rows are needed; else all pages are read together and sorted.
const MERGED: f64 = 2.0;

/// What it takes to prove that a chain is at its end: many short walks cost more than their rows.
fn proofs_of_a_chain(object: Object) -> f64 {
    match object.paging() {
        Pagination::Cursor => 2.0,
        Pagination::Offset => 1.0,
        Pagination::TimeSlices { .. } | Pagination::Single => 0.0,
    }
}

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

/// On which sides a clause bounds the time of the order.
fn sides(filter: &Filter, order: Order) -> Sides {
    let is_of_order = Some(filter.column.column()) == order.column();
    let Filter { comparison, .. } = filter;
    Sides { above: is_of_order && comparison.is_upper(), below: is_of_order && comparison.is_lower() }
}

/// Requests for the slices of a page that takes no window of a month.
fn slices(plan: &RequestPlan, now: Micros) -> f64 {
    let of = |chain: &Chain| {
        let low = chain.window.low.map_or(FLOOR, |low| low.floor_second().0.max(FLOOR));
        let high = chain.window.high.map_or(now, |high| high.min(now)).floor_second().0;
        (high.saturating_sub(low).max(0) as f64 / WIDTH_SECONDS as f64).ceil()
    };
    plan.chains.iter().map(of).sum()
}

/// What is known of the page of a table by all sessions.
pub fn known_of(table: &ForeignTable, order: Order) -> Known {
    let (server, now) = (&table.server, Micros((CLOCKS.wall_micros)()));
    let page_id = table.table.page_id.as_deref().unwrap_or_default();
    let page = shared()
        .ok()
        .and_then(|shared| shared.memory.page(&server.base_url, page_id, server.requests_per_second));
    page.map_or(now.into(), |page| page.verdicts.known(table.table.object, order, now, false))
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
    impossible: bool,
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
        let rows_of_a_request = if object.needs_conversation() {
            // Each conversation is a walk of its own.
            rows_of_a_request(object).min(MESSAGES_OF_A_CONVERSATION)
        } else {
            rows_of_a_request(object)
        };
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
        let pushdowns = pushdowns(object, &filters, &known, &plan, order, useful);
        let requests = match chains {
            0 => 0.0,
            n => (self.fetched(clauses, &filters, &known, &plan, &pushdowns) / rows_of_a_request)
                .ceil()
                .max(n as f64),
        };
        let requests = match detour {
            Some(_) if !starts_above => requests.max(slices(&plan, of_page.now)),
            _ => requests,
        };
        let impossible = object.needs_conversation()
            && filters.iter().all(|filter| filter.column != Filterable::ConversationId);
        ScanCost { order, requests, chains, pushdowns, useful, detour, impossible }
    }

    /// Rows that come over the network.
    fn fetched(
        &self,
        clauses: &[Clause],
        filters: &[Filter],
        known: &[Option<Operand>],
        plan: &RequestPlan,
        pushdowns: &[Pushdown],
    ) -> f64 {
        let object = self.object();
        let used = clauses.iter().filter(|clause| clause.filter.is_ok());
        let sent = used.zip(filters).zip(pushdowns).filter(|((_, filter), of)| of.narrows(object, filter));
        // Postgres guesses one row in 200 for a type of a page that was never looked at, and the
        // average for one that is a parameter. Two types count, and any other that a join brings
        // means all rows.
        let is_open = |filter: &Filter| known.get(filter.operand).is_none_or(Option::is_none);
        let guessed = |filter: &Filter| {
            object == Object::Conversations
                && filter.column == Filterable::Type
                && (!self.analyzed || is_open(filter))
        };
        let (types, sent): (Vec<_>, Vec<_>) = sent.partition(|((_, filter), _)| guessed(filter));
        let kinds: BTreeSet<_> = plan.chains.iter().filter_map(|chain| chain.kind.as_deref()).collect();
        let of_types = if types.is_empty() || kinds.len() > 1 { 1.0 } else { 0.5 };
        let open_tag =
            |filter: &Filter| filter.column == Filterable::Tags && !self.analyzed && is_open(filter);
        let (tags, sent): (Vec<_>, Vec<_>) = sent.into_iter().partition(|((_, filter), _)| open_tag(filter));
        let of_tags = if tags.is_empty() { 1.0 } else { OF_AN_OPEN_TAG };
        let sent: Vec<_> = sent.into_iter().map(|((clause, _), _)| clause.info).collect();
        // SAFETY: the planner's own structures, alive while it plans.
        let (tuples, kept) = unsafe {
            let kept = pg_sys::clauselist_selectivity(
                self.root,
                to_list(&sent),
                (*self.relation).relid as i32,
                pg_sys::JoinType::JOIN_INNER,
                std::ptr::null_mut(),
            );
            ((*self.relation).tuples, kept * of_types * of_tags)
        };
        // Guessed selectivities multiply to one row soon; a batch is nearer to the truth.
        let guessed = !self.analyzed && object == Object::Conversations;
        if guessed { (tuples * kept).max(rows_of_a_request(object).min(tuples)) } else { tuples * kept }
    }

    pub fn add_paths(&self) {
        let base = quals::base_clauses(self.relation);
        let clauses = self.classify(&base);
        let way = self.way(&clauses, None);
        self.add(&way, std::ptr::null_mut(), None, std::ptr::null_mut());
        if let Some((order, pathkeys)) = self.useful_order() {
            self.add(&self.way(&clauses, Some(order)), pathkeys, Some(order), std::ptr::null_mut());
        }
        for parameters in self.parameterizations() {
            self.add_parameterized(&base, parameters);
        }
    }

    fn add(
        &self,
        way: &ScanCost,
        pathkeys: *mut pg_sys::List,
        order: Option<Order>,
        parameters: *mut pg_sys::ParamPathInfo,
    ) {
        // SAFETY: the planner's own structures; the parameters are null or what
        // get_baserel_parampathinfo gave.
        unsafe {
            let rows = if parameters.is_null() { (*self.relation).rows } else { (*parameters).ppi_rows };
            let outer = if parameters.is_null() {
                (*self.relation).lateral_relids
            } else {
                (*parameters).ppi_req_outer
            };
            let impossible = if way.impossible { COST_OF_THE_IMPOSSIBLE } else { 0.0 };
            let startup = impossible + way.chains.max(1) as f64 * COST_OF_A_REQUEST;
            let proofs = way.chains as f64 * proofs_of_a_chain(self.object());
            let merged = if !pathkeys.is_null() && self.has_siblings() { MERGED } else { 1.0 };
            let requests = (way.requests + proofs).max(1.0) * merged;
            let total = impossible + requests * COST_OF_A_REQUEST + rows * pg_sys::cpu_tuple_cost;
            let costs = compat::Costs { rows, startup, total };
            let private = order.map_or(std::ptr::null_mut(), super::private::pack_order);
            let path = compat::foreign_path(self.root, self.relation, &costs, pathkeys, outer, private);
            pg_sys::add_path(self.relation, path);
        }
    }

    /// Whether it is one of several partitions, or arms of a UNION ALL, that are to be read.
    fn has_siblings(&self) -> bool {
        // SAFETY: the planner's own structures, alive while it plans. What is pruned already is not
        // in the list.
        unsafe {
            let members = list::<pg_sys::AppendRelInfo>((*self.root).append_rel_list);
            let parent =
                |member: &&*mut pg_sys::AppendRelInfo| (***member).child_relid == (*self.relation).relid;
            let parent = members.iter().find(parent).map(|member| (**member).parent_relid);
            parent.is_some_and(|parent| {
                members.iter().filter(|member| (***member).parent_relid == parent).count() > 1
            })
        }
    }

    /// The first key of the order that the query needs, if the server lists in that order.
    fn useful_order(&self) -> Option<(Order, *mut pg_sys::List)> {
        if !self.object().comes_in_order() {
            return None;
        }
        // SAFETY: the planner's own structures, alive while it plans.
        unsafe {
            let first = *list::<pg_sys::PathKey>((*self.root).query_pathkeys).first()?;
            if !compat::is_descending(&*first) || (*(*first).pk_eclass).ec_has_volatile {
                return None;
            }
            let members = compat::members((*first).pk_eclass, (*self.relation).relid);
            let columns = self.columns();
            let order = members.into_iter().find_map(|member| {
                let found = columns.find((*member).em_expr.cast())?;
                match found.column {
                    _ if found.slack != Slack::NONE => None,
                    Filterable::InsertedAt => Some(Order::InsertedAt),
                    Filterable::UpdatedAt => Some(Order::UpdatedAt),
                    _ => None,
                }
            })?;
            if !self.object().orders().contains(&order) || !known_of(self.table, order).ends_by_time {
                return None;
            }
            // Read to its end, the order of a list that moves is a Sort over the exact walk.
            let in_part = (*self.root).limit_tuples > 0.0 || (*self.root).tuple_fraction > 0.0;
            (order == Order::InsertedAt || in_part).then(|| (order, to_list(&[first])))
        }
    }

    fn object(&self) -> Object {
        self.table.table.object
    }

    fn columns(&self) -> Columns<'_> {
        // SAFETY: the planner's relation, alive while it plans.
        let relid = unsafe { (*self.relation).relid };
        Columns { declared: &self.table.columns, object: self.table.table.object, relid }
    }

    /// The sets of other relations whose values could feed a filter.
    fn parameterizations(&self) -> Vec<*mut pg_sys::ParamPathInfo> {
        let mut found: Vec<*mut pg_sys::ParamPathInfo> = Vec::new();
        for clause in self.classify(&self.join_clauses()) {
            let Ok(filter) = &clause.filter else { continue };
            if Pushdown::of(self.object(), filter.column, filter.comparison) != Some(Pushdown::Sent) {
                continue;
            }
            // SAFETY: the planner's own structures; the sets are fresh ones.
            unsafe {
                let outer = pg_sys::bms_union((*clause.info).clause_relids, (*self.relation).lateral_relids);
                let outer = pg_sys::bms_del_member(outer, (*self.relation).relid as i32);
                if outer.is_null() || pg_sys::bms_next_member(outer, -1) < 0 {
                    continue;
                }
                let parameters = pg_sys::get_baserel_parampathinfo(self.root, self.relation, outer);
                if !found.contains(&parameters) {
                    found.push(parameters);
                }
            }
        }
        found
    }

    /// Clauses that compare a column with other relations: those of the joins, and those that
    /// follow from equality.
    fn join_clauses(&self) -> Vec<*mut pg_sys::RestrictInfo> {
        // SAFETY: the planner's own structures, alive while it plans.
        unsafe {
            let joins = list::<pg_sys::RestrictInfo>((*self.relation).joininfo);
            let movable =
                joins.into_iter().filter(|info| pg_sys::join_clause_is_movable_to(*info, self.relation));
            let mut clauses: Vec<_> = movable.collect();
            if (*self.relation).has_eclass_joins {
                for column in self
                    .table
                    .columns
                    .iter()
                    .filter(|column| is_filter(self.table.table.object, &column.name))
                {
                    let mut number = column.number;
                    clauses.extend(list::<pg_sys::RestrictInfo>(
                        pg_sys::generate_implied_equalities_for_column(
                            self.root,
                            self.relation,
                            Some(is_column),
                            (&raw mut number).cast(),
                            (*self.relation).lateral_referencers,
                        ),
                    ));
                }
            }
            clauses
        }
    }

    fn add_parameterized(&self, base: &[*mut pg_sys::RestrictInfo], parameters: *mut pg_sys::ParamPathInfo) {
        // SAFETY: what get_baserel_parampathinfo gave.
        let joined: Vec<*mut pg_sys::RestrictInfo> = list(unsafe { (*parameters).ppi_clauses });
        let clauses = self.classify(&[base, &joined].concat());
        self.add(&self.way(&clauses, None), std::ptr::null_mut(), None, parameters);
    }
}

fn is_filter(object: Object, name: &str) -> bool {
    object.column(name).is_some() && Filterable::by_column(name).is_some()
}

/// Whether a member of an equivalence class is the column of that number.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_column(
    _root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    _class: *mut pg_sys::EquivalenceClass,
    member: *mut pg_sys::EquivalenceMember,
    number: *mut std::ffi::c_void,
) -> bool {
    // SAFETY: the planner's own structures, and the number that join_clauses passes for the call.
    unsafe {
        let var = crate::pg::nodes::cast::<pg_sys::Var>((*member).em_expr.cast(), pg_sys::NodeTag::T_Var);
        var.is_some_and(|var| {
            (*var).varno as u32 == (*relation).relid && (*var).varattno == *number.cast::<i16>()
        })
    }
}
