//! Planning a foreign table: how large, how expensive, and the plan itself.
//! Costs count requests; which clauses help is said in `quals`, what the plan carries in `envelope`.

use pancake::filter::Verdict;
use pancake::plan::{Order, fate};
use pgrx::{PgMemoryContexts, pg_guard, pg_sys};

use crate::fdw::envelope::Envelope;
use crate::fdw::quals::{self, Use};
use crate::pg::catalog::ForeignTable;
use crate::pg::compat;
use crate::pg::nodes::{list, to_list};
use crate::pg::report::OrRaise;

/// A request is worth a hundred pages of disk: 50–1,200 ms of network, and a slot of the page's budget.
const COST_OF_A_REQUEST: f64 = 100.0;
/// New rows in a batch of 60: neighbouring batches overlap by a row.
const ROWS_OF_A_REQUEST: f64 = 59.0;
/// A page of which nothing is known yet: a shop of middling size.
const UNKNOWN_ROWS: f64 = 6_000.0;

/// What planning of a relation has found out.
struct Planned {
    table: ForeignTable,
    order: Order,
    clauses: Vec<(*mut pg_sys::RestrictInfo, Use)>,
    requests: f64,
}

#[pg_guard]
pub unsafe extern "C-unwind" fn get_foreign_rel_size(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    table_id: pg_sys::Oid,
) {
    let table = ForeignTable::read(table_id).or_raise();
    let clauses = quals::classify(&table, relation);
    let (filters, _) = quals::filters(&clauses);
    let order = Order::choose(&filters);
    // SAFETY: the planner's own structures, alive while it plans; sizes are ours to set here.
    unsafe {
        let analyzed = (*relation).tuples > 0.0;
        if !analyzed {
            (*relation).tuples = UNKNOWN_ROWS;
        }
        pg_sys::set_baserel_size_estimates(root, relation);
        let sent: Vec<_> = clauses
            .iter()
            .filter(|(_, found)| matches!(found, Use::Filter { .. }))
            .zip(&filters)
            .filter(|(_, filter)| fate(filter, order) == Verdict::Superset)
            .map(|((info, _), _)| *info)
            .collect();
        let kept = pg_sys::clauselist_selectivity(
            root,
            to_list(&sent),
            (*relation).relid as i32,
            pg_sys::JoinType::JOIN_INNER,
            std::ptr::null_mut(),
        );
        let mut fetched = (*relation).tuples * kept;
        if !analyzed {
            // Guessed selectivities multiply to one row soon; a batch is nearer to the truth.
            fetched = fetched.max(ROWS_OF_A_REQUEST);
            (*relation).rows = (*relation).rows.max(ROWS_OF_A_REQUEST);
        }
        let requests = (fetched / ROWS_OF_A_REQUEST).ceil().max(1.0);
        let planned = Planned { table, order, clauses, requests };
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
    // SAFETY: get_foreign_rel_size left its result there; the planner's structures are alive.
    unsafe {
        let planned = &*(*relation).fdw_private.cast::<Planned>();
        let total = planned.requests * COST_OF_A_REQUEST + (*relation).rows * pg_sys::cpu_tuple_cost;
        let path = compat::foreign_path(root, relation, COST_OF_A_REQUEST, total);
        pg_sys::add_path(relation, path);
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn get_foreign_plan(
    _root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    _table_id: pg_sys::Oid,
    _path: *mut pg_sys::ForeignPath,
    target: *mut pg_sys::List,
    clauses: *mut pg_sys::List,
    outer: *mut pg_sys::Plan,
) -> *mut pg_sys::ForeignScan {
    // SAFETY: get_foreign_rel_size left its result there, and the planner's structures are alive.
    let (planned, relid) = unsafe { (&*(*relation).fdw_private.cast::<Planned>(), (*relation).relid) };
    let (filters, operands) = quals::filters(&planned.clauses);
    let checked: Vec<*mut pg_sys::RestrictInfo> = list(clauses);
    // SAFETY: the list holds RestrictInfo nodes. Constant clauses are checked once, in a node above.
    let checked: Vec<_> = checked.into_iter().filter(|info| unsafe { !(**info).pseudoconstant }).collect();
    // SAFETY: as above.
    let quals: Vec<_> = checked.iter().map(|info| unsafe { (**info).clause }).collect();
    let envelope = Envelope {
        order: planned.order,
        not_sent: not_sent(&planned.clauses, &checked, planned.order),
        columns: needed(relation, &planned.table),
        requests: planned.requests as u64,
        requests_per_second: planned.table.server.requests_per_second,
        filters,
    };
    // SAFETY: fresh lists and the planner's own; null stands for no tuple list of ours and no recheck of ours.
    unsafe {
        pg_sys::make_foreignscan(
            target,
            to_list(&quals),
            relid,
            to_list(&operands),
            envelope.pack(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            outer,
        )
    }
}

/// Where in the plan's list the clauses stand that Postgres checks alone, and why.
fn not_sent(
    clauses: &[(*mut pg_sys::RestrictInfo, Use)],
    checked: &[*mut pg_sys::RestrictInfo],
    order: Order,
) -> Vec<(usize, String)> {
    let (filters, _) = quals::filters(clauses);
    let mut filters = filters.iter();
    let mut reasons = Vec::new();
    for (info, found) in clauses {
        let reason = match found {
            Use::None(reason) => (*reason).to_owned(),
            Use::Filter { .. } => match filters.next() {
                Some(filter)
                    if fate(filter, order) == Verdict::Guard && filter.column.column() != "page_id" =>
                {
                    format!("the walk goes by {}", order.column())
                }
                _ => continue,
            },
        };
        if let Some(place) = checked.iter().position(|other| other == info) {
            reasons.push((place, reason));
        }
    }
    reasons.sort();
    reasons
}

/// The columns that the query reads: in its target, in joins, and in clauses that Postgres checks.
fn needed(relation: *mut pg_sys::RelOptInfo, table: &ForeignTable) -> Vec<i16> {
    let mut found = std::ptr::null_mut();
    // SAFETY: the planner's own expressions; the set is allocated in the current context.
    unsafe {
        let relid = (*relation).relid;
        pg_sys::pull_varattnos((*(*relation).reltarget).exprs.cast(), relid, &mut found);
        for info in list::<pg_sys::RestrictInfo>((*relation).baserestrictinfo) {
            pg_sys::pull_varattnos((*info).clause.cast(), relid, &mut found);
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
