//! This module finds the ways to scan a foreign table: as it is cheapest, in the server's order, or
//! with values from the other side of a join. What a way costs is estimated in `cost`.

use pancake::plan::filter::{Filterable, Slack};
use pancake::plan::pushdown::Pushdown;
use pancake::schema::catalogue::{Object, Pagination};
use pancake::schema::keyset::Order;
use pgrx::pg_sys;

use crate::fdw::cost::{Relation, ScanCost, known_of};
use crate::fdw::quals;
use crate::pg::compat;
use crate::pg::nodes::{list, to_list};

/// A request is worth a hundred pages of disk: 50–1,200 ms of network, and a slot of the page's
/// budget.
const COST_OF_A_REQUEST: f64 = 100.0;
/// Messages of no conversation in particular cannot be had: any other plan is better, and FULL JOIN
/// has none.
const COST_OF_THE_IMPOSSIBLE: f64 = 1e20;

/// Merge Append reads ordered scans one after another as rows are wanted, Append reads all at once,
/// which the planner does not take into account. Twice the cost, so that merging is chosen if less
/// than half of the rows are needed.
const MERGED: f64 = 2.0;

/// What it takes to prove that a chain is at its end: many short walks cost more than their rows.
fn proofs_of_a_chain(object: Object) -> f64 {
    match object.paging() {
        Pagination::Cursor => 2.0,
        Pagination::Offset => 1.0,
        Pagination::TimeSlices { .. } | Pagination::Single => 0.0,
    }
}

impl Relation<'_> {
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
            let known = known_of(self.table, order);
            let is_sliced = matches!(self.object().paging(), Pagination::TimeSlices { .. });
            if !self.object().comes_in_order(order)
                || !known.ends_by_time
                || (is_sliced && !known.is_in_order)
            {
                return None;
            }
            // Read to its end, the order of a list that moves is a Sort over the exact walk.
            let in_part = (*self.root).limit_tuples > 0.0 || (*self.root).tuple_fraction > 0.0;
            let is_exact = order == Order::InsertedAt && !is_sliced;
            (is_exact || in_part).then(|| (order, to_list(&[first])))
        }
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
