//! This module plans a foreign table: how large it is, and the plan itself. The ways to scan it are
//! in `paths`, which clauses help in `quals`, what the plan carries in `private`.

use pancake::plan::pushdown::{Pushdown, Reason};
use pancake::scan::merge::SMALL_LIMIT;
use pancake::schema::catalogue::Object;
use pgrx::{PgMemoryContexts, pg_guard, pg_sys};

use crate::fdw::cost::{Relation, ScanCost, rows_of_a_request};
use crate::fdw::private::{ScanPrivate, unpack_order};
use crate::fdw::quals::{self, Clause};
use crate::pg::catalog::ForeignTable;
use crate::pg::nodes::{list, to_list};
use crate::pg::report::OrRaise;

/// What the planner keeps of a relation from one callback to the next.
struct PlannedRelation {
    table: ForeignTable,
    analyzed: bool,
}

impl PlannedRelation {
    fn relation(&self, root: *mut pg_sys::PlannerInfo, relation: *mut pg_sys::RelOptInfo) -> Relation<'_> {
        Relation { root, relation, table: &self.table, analyzed: self.analyzed }
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn get_foreign_rel_size(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    table_id: pg_sys::Oid,
) {
    let table = ForeignTable::read(table_id).or_raise();
    // SAFETY: the planner's own structures, alive while it plans; sizes are ours to set here.
    unsafe {
        let analyzed = (*relation).tuples > 0.0;
        if !analyzed {
            (*relation).tuples = table.table.object.unknown_rows();
        }
        pg_sys::set_baserel_size_estimates(root, relation);
        if !analyzed && table.table.object == Object::Conversations {
            // Guessed selectivities multiply to one row soon; a batch is nearer to the truth.
            (*relation).rows = (*relation).rows.max(rows_of_a_request(table.table.object));
        }
        let planned = PlannedRelation { table, analyzed };
        (*relation).fdw_private =
            PgMemoryContexts::CurrentMemoryContext.leak_and_drop_on_delete(planned).cast();
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn get_foreign_paths(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    _table_id: pg_sys::Oid,
) {
    // SAFETY: get_foreign_rel_size left its result there.
    let planned = unsafe { &*(*relation).fdw_private.cast::<PlannedRelation>() };
    planned.relation(root, relation).add_paths();
}

#[pg_guard]
pub unsafe extern "C-unwind" fn get_foreign_plan(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    _table_id: pg_sys::Oid,
    path: *mut pg_sys::ForeignPath,
    target: *mut pg_sys::List,
    clauses: *mut pg_sys::List,
    outer: *mut pg_sys::Plan,
) -> *mut pg_sys::ForeignScan {
    // SAFETY: get_foreign_rel_size left its result there, and the planner's structures are alive.
    let (planned, limit, fraction, ordered) = unsafe {
        let planned = &*(*relation).fdw_private.cast::<PlannedRelation>();
        (planned, (*root).limit_tuples, (*root).tuple_fraction, unpack_order((*path).fdw_private))
    };
    let checked: Vec<*mut pg_sys::RestrictInfo> = list(clauses);
    // SAFETY: the list holds RestrictInfo nodes. Constant clauses are checked once, in a node
    // above.
    let checked: Vec<_> = checked.into_iter().filter(|info| unsafe { !(**info).pseudoconstant }).collect();
    // SAFETY: as above.
    let quals: Vec<_> = checked.iter().map(|info| unsafe { (**info).clause }).collect();
    let planner = planned.relation(root, relation);
    let clauses = planner.classify(&checked);
    let way = planner.way(&clauses, ordered);
    let (filters, operands) = quals::filters(&clauses);
    let object = planned.table.table.object;
    let private = ScanPrivate {
        object,
        order: way.order,
        ordered: ordered.is_some(),
        pushdowns: of_clauses(&clauses, &way.pushdowns),
        places: places(&clauses),
        useful: way.useful,
        columns: needed(relation, &planned.table, &checked),
        requests: up_to_limit(root, path, &way, object, ordered.is_some()) as u64,
        chains: way.chains as u64,
        detour: way.detour.map(str::to_owned),
        requests_per_second: planned.table.server.requests_per_second,
        limit: (limit > 0.0).then_some(limit as u64),
        whole: if limit > 0.0 { limit > SMALL_LIMIT as f64 && fraction >= limit } else { fraction == 0.0 },
        filters,
    };
    // SAFETY: fresh lists and the planner's own; null stands for no tuple list of ours and no
    // recheck of ours.
    unsafe {
        pg_sys::make_foreignscan(
            target,
            to_list(&quals),
            (*relation).relid,
            to_list(&operands),
            private.pack(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            outer,
        )
    }
}

/// Requests of a scan: a LIMIT ends one early that is alone and not sorted here. The fewer rows
/// pass what Postgres checks, the more are fetched to fill it.
fn up_to_limit(
    root: *const pg_sys::PlannerInfo,
    path: *const pg_sys::ForeignPath,
    way: &ScanCost,
    object: Object,
    is_ordered: bool,
) -> f64 {
    // SAFETY: the planner's own structures.
    let (limit, is_alone, as_it_comes, rows) = unsafe {
        (
            (*root).limit_tuples,
            pg_sys::bms_num_members((*root).all_baserels) == 1,
            is_ordered || (*root).query_pathkeys.is_null(),
            (*path).path.rows,
        )
    };
    let of_a_request = rows_of_a_request(object);
    if limit > 0.0 && is_alone && as_it_comes && of_a_request.is_finite() {
        let fetched_for_a_row = (way.requests * of_a_request / rows.max(1.0)).max(1.0);
        way.requests.min((limit * fetched_for_a_row / of_a_request).ceil().max(way.chains as f64))
    } else {
        way.requests
    }
}

/// What becomes of each clause of the plan's list.
fn of_clauses(clauses: &[Clause], of_filters: &[Pushdown]) -> Vec<Pushdown> {
    let mut of_filters = of_filters.iter().copied();
    let local = |reason: &Reason| Pushdown::Local(*reason);
    let of = |clause: &Clause| match &clause.filter {
        Ok(_) => of_filters.next().unwrap_or(local(&Reason::NoServerFilter)),
        Err(reason) => local(reason),
    };
    clauses.iter().map(of).collect()
}

/// Where in the plan's list the clauses stand that are filters.
fn places(clauses: &[Clause]) -> Vec<usize> {
    let filters = clauses.iter().enumerate().filter(|(_, clause)| clause.filter.is_ok());
    filters.map(|(place, _)| place).collect()
}

/// The columns that the query reads: in its target, in joins, and in clauses that Postgres checks.
fn needed(
    relation: *mut pg_sys::RelOptInfo,
    table: &ForeignTable,
    checked: &[*mut pg_sys::RestrictInfo],
) -> Vec<i16> {
    let mut found = std::ptr::null_mut();
    // SAFETY: the planner's own expressions; the set is allocated in the current context.
    unsafe {
        let relid = (*relation).relid;
        pg_sys::pull_varattnos((*(*relation).reltarget).exprs.cast(), relid, &mut found);
        for info in checked {
            pg_sys::pull_varattnos((**info).clause.cast(), relid, &mut found);
        }
    }
    let has = |number: i16| {
        let member = i32::from(number) - pg_sys::FirstLowInvalidHeapAttributeNumber;
        // SAFETY: a set that pull_varattnos made, or null for the empty one.
        unsafe { pg_sys::bms_is_member(member, found) }
    };
    let whole_row = has(0);
    table.columns.iter().map(|column| column.number).filter(|number| whole_row || has(*number)).collect()
}
