//! This module turns clauses of a query into filters. Which clauses are filters is decided here,
//! and what becomes of a filter in `pancake::plan::pushdown`. Every clause stays in Postgres's own
//! check.

use pancake::plan::filter::{Comparison, Filter, Filterable, Slack};
use pancake::plan::pushdown::{Pushdown, Reason};
use pgrx::pg_sys;

use crate::fdw::column_expr::{Columns, DerivedColumn};
use crate::pg::catalog::ForeignTable;
use crate::pg::nodes::{cast, list, to_list};

/// A clause of the planner, as a filter or with the reason why it is none.
pub struct Clause {
    pub info: *mut pg_sys::RestrictInfo,
    pub filter: Result<ClauseFilter, Reason>,
}

/// A clause that compares a column with something that does not depend on the table.
#[derive(Clone, Copy)]
pub struct ClauseFilter {
    pub column: Filterable,
    pub comparison: Comparison,
    pub operand: *mut pg_sys::Expr,
    pub slack: Slack,
    /// The column's side shows the time of a clock on a wall: it has no zone.
    pub without_zone: bool,
}

/// Returns these clauses, each as a filter if it is one.
pub fn classify(
    root: *mut pg_sys::PlannerInfo,
    table: &ForeignTable,
    relation: *mut pg_sys::RelOptInfo,
    clauses: &[*mut pg_sys::RestrictInfo],
) -> Vec<Clause> {
    let judge = |info: *mut pg_sys::RestrictInfo| {
        // SAFETY: both are the planner's, alive while it plans.
        let (clause, safe) =
            unsafe { ((*info).clause, pg_sys::restriction_is_securely_promotable(info, relation)) };
        let filter = match understand(root, clause.cast(), table, relation) {
            Some(found) if !table.table.pushdown.allows(found.column) => Err(Reason::OptionPushdown),
            Some(_) if !safe => Err(Reason::RowSecurity),
            // SAFETY: the operand is a node of the clause.
            Some(found) if unsafe { pg_sys::contain_volatile_functions(found.operand.cast()) } => {
                Err(Reason::VolatileOperand)
            }
            Some(found) => Ok(found),
            None => Err(Reason::NoServerFilter),
        };
        Clause { info, filter }
    };
    clauses.iter().map(|info| judge(*info)).collect()
}

/// The clauses that Postgres itself gave to the table.
pub fn base_clauses(relation: *mut pg_sys::RelOptInfo) -> Vec<*mut pg_sys::RestrictInfo> {
    // SAFETY: the planner's relation, alive while it plans.
    list(unsafe { (*relation).baserestrictinfo })
}

/// The filters of a plan in the order of their operands.
pub fn filters(clauses: &[Clause]) -> (Vec<Filter>, Vec<*mut pg_sys::Expr>) {
    let found = clauses.iter().filter_map(|clause| clause.filter.as_ref().ok());
    let filter = |(operand, found): (usize, &ClauseFilter)| {
        let ClauseFilter { column, comparison, slack, without_zone, .. } = *found;
        (Filter { column, comparison, operand, slack, without_zone }, found.operand)
    };
    found.enumerate().map(filter).unzip()
}

fn understand(
    root: *mut pg_sys::PlannerInfo,
    clause: *mut pg_sys::Node,
    table: &ForeignTable,
    relation: *mut pg_sys::RelOptInfo,
) -> Option<ClauseFilter> {
    // SAFETY: the planner's relation, alive while it plans.
    let relid = unsafe { (*relation).relid };
    let columns = Columns { declared: &table.columns, object: table.table.object, relid };
    let found = read(root, &columns, clause)?;
    // SAFETY: the operand is a node of the clause; the set is a fresh one.
    let independent =
        unsafe { !pg_sys::bms_is_member(relid as i32, pg_sys::pull_varnos(root, found.operand.cast())) };
    let is_useful = Pushdown::of(table.table.object, found.column, found.comparison).is_some();
    (independent && is_useful).then_some(found)
}

fn read(
    root: *mut pg_sys::PlannerInfo,
    columns: &Columns,
    clause: *mut pg_sys::Node,
) -> Option<ClauseFilter> {
    if let Some(op) = cast(clause, pg_sys::NodeTag::T_OpExpr) {
        return operator(columns, op);
    }
    if let Some(op) = cast(clause, pg_sys::NodeTag::T_ScalarArrayOpExpr) {
        return any_of(columns, op);
    }
    alternatives(root, columns, cast(clause, pg_sys::NodeTag::T_BoolExpr)?)
}

/// `column operator operand`, or the other way round.
fn operator(columns: &Columns, op: *mut pg_sys::OpExpr) -> Option<ClauseFilter> {
    // SAFETY: the node's tag is T_OpExpr.
    let op = unsafe { &*op };
    let [left, right] = list::<pg_sys::Node>(op.args)[..] else { return None };
    let (DerivedColumn { column, of, slack }, operand, swapped) =
        match (columns.find(left), columns.find(right)) {
            (Some(column), None) => (column, right, false),
            (None, Some(column)) => (column, left, true),
            _ => return None,
        };
    let comparison = match column {
        Filterable::UpdatedAt | Filterable::InsertedAt => ordering(op.opno)?,
        Filterable::Type
        | Filterable::PostId
        | Filterable::ConversationId
        | Filterable::PageId
        | Filterable::Id => equality(op.opno, op.inputcollid)?,
        Filterable::Tags => array_operator(op.opno, op.inputcollid, swapped)?,
    };
    let comparison = if swapped { comparison.commuted() } else { comparison };
    let without_zone = matches!(of, pg_sys::DATEOID | pg_sys::TIMESTAMPOID);
    Some(ClauseFilter { column, comparison, operand: as_type(operand, of)?, slack, without_zone })
}

/// `column = ANY (operand)`, or `operand = ANY (tags)`.
fn any_of(columns: &Columns, op: *mut pg_sys::ScalarArrayOpExpr) -> Option<ClauseFilter> {
    // SAFETY: the node's tag is T_ScalarArrayOpExpr.
    let op = unsafe { &*op };
    let [scalar, array] = list::<pg_sys::Node>(op.args)[..] else { return None };
    if !op.useOr || equality(op.opno, op.inputcollid).is_none() {
        return None;
    }
    let (column, comparison, operand) = match (columns.find(scalar), columns.find(array)) {
        (Some(DerivedColumn { column, of: pg_sys::TEXTOID, .. }), None) => {
            (column, Comparison::AnyOf, as_type(array, pg_sys::TEXTARRAYOID)?)
        }
        (None, Some(DerivedColumn { column: Filterable::Tags, .. })) => {
            (Filterable::Tags, Comparison::Has, as_type(scalar, pg_sys::TEXTOID)?)
        }
        _ => return None,
    };
    Some(ClauseFilter { column, comparison, operand, slack: Slack::NONE, without_zone: false })
}

/// `column = a OR column = b` is `column = ANY (ARRAY[a, b])`; of tags, `tags && ARRAY[a, b]`.
fn alternatives(
    root: *mut pg_sys::PlannerInfo,
    columns: &Columns,
    either: *mut pg_sys::BoolExpr,
) -> Option<ClauseFilter> {
    // SAFETY: the node's tag is T_BoolExpr.
    let either = unsafe { &*either };
    if either.boolop != pg_sys::BoolExprType::OR_EXPR {
        return None;
    }
    let arms = list::<pg_sys::Node>(either.args).into_iter().map(|arm| read(root, columns, arm));
    let arms: Vec<ClauseFilter> = arms.collect::<Option<_>>()?;
    let first = *arms.first()?;
    let comparison = match first.comparison {
        Comparison::Equal if first.slack == Slack::NONE => Comparison::AnyOf,
        Comparison::Has => Comparison::Overlaps,
        _ => return None,
    };
    let is_time = matches!(first.column, Filterable::UpdatedAt | Filterable::InsertedAt);
    let alike = arms.iter().all(|arm| arm.column == first.column && arm.comparison == first.comparison);
    let operands: Vec<_> = arms.iter().map(|arm| arm.operand).collect();
    let operand = (alike && !is_time).then(|| array_of(root, &operands))?;
    Some(ClauseFilter { comparison, operand, ..first })
}

/// A text[] of text expressions; of constants, a constant.
fn array_of(root: *mut pg_sys::PlannerInfo, elements: &[*mut pg_sys::Expr]) -> *mut pg_sys::Expr {
    // SAFETY: the tag is that of the type; the elements are texts.
    let mut array = unsafe { pgrx::PgBox::<pg_sys::ArrayExpr>::alloc_node(pg_sys::NodeTag::T_ArrayExpr) };
    array.array_typeid = pg_sys::TEXTARRAYOID;
    array.array_collid = pg_sys::DEFAULT_COLLATION_OID;
    array.element_typeid = pg_sys::TEXTOID;
    array.elements = to_list(elements);
    array.location = -1;
    // SAFETY: the planner's own structure, alive while it plans, and the fresh node.
    unsafe { pg_sys::eval_const_expressions(root, array.into_pg().cast()).cast() }
}

/// By operator family, so that comparisons with dates and timestamps count too.
fn ordering(operator: pg_sys::Oid) -> Option<Comparison> {
    /// The btree family `datetime_ops`.
    const DATETIME: u32 = 434;
    // SAFETY: a look-up by two oids.
    let strategy = unsafe { pg_sys::get_op_opfamily_strategy(operator, DATETIME.into()) };
    Some(match strategy {
        1 => Comparison::Less,
        2 => Comparison::LessOrEqual,
        3 => Comparison::Equal,
        4 => Comparison::GreaterOrEqual,
        5 => Comparison::Greater,
        _ => return None,
    })
}

fn equality(operator: pg_sys::Oid, collation: pg_sys::Oid) -> Option<Comparison> {
    // SAFETY: a look-up by two oids.
    let strategy = unsafe { pg_sys::get_op_opfamily_strategy(operator, pg_sys::TEXT_BTREE_FAM_OID) };
    (strategy == 3 && deterministic(collation)).then_some(Comparison::Equal)
}

/// `tags @> operand`, `operand <@ tags`, `tags && operand`.
fn array_operator(operator: pg_sys::Oid, collation: pg_sys::Oid, swapped: bool) -> Option<Comparison> {
    let comparison = match operator.to_u32() {
        pg_sys::OID_ARRAY_CONTAINS_OP if !swapped => Comparison::Contains,
        pg_sys::OID_ARRAY_CONTAINED_OP if swapped => Comparison::Contains,
        pg_sys::OID_ARRAY_OVERLAP_OP => Comparison::Overlaps,
        _ => return None,
    };
    deterministic(collation).then_some(comparison)
}

/// Under other collations equal texts may differ in their bytes, which is all that the server
/// compares.
fn deterministic(collation: pg_sys::Oid) -> bool {
    // SAFETY: a look-up by oid.
    collation == pg_sys::InvalidOid || unsafe { pg_sys::get_collation_isdeterministic(collation) }
}

/// The operand as the column's own type; None if Postgres has no implicit cast. Dates and
/// timestamps stay what they are: `params` reads them without an error for those that are out of
/// the other type's range.
fn as_type(operand: *mut pg_sys::Node, wanted: pg_sys::Oid) -> Option<*mut pg_sys::Expr> {
    // SAFETY: the operand is a node of the clause.
    let type_id = unsafe { pg_sys::exprType(operand) };
    let stays = match wanted {
        pg_sys::TIMESTAMPTZOID => [pg_sys::DATEOID, pg_sys::TIMESTAMPOID].contains(&type_id),
        pg_sys::TIMESTAMPOID => type_id == pg_sys::DATEOID,
        _ => false,
    };
    if stays {
        return Some(operand.cast());
    }
    // SAFETY: the operand is a node of the clause; a cast is put around it, the node itself stays
    // as it is.
    let cast = unsafe {
        pg_sys::coerce_to_target_type(
            std::ptr::null_mut(),
            operand,
            type_id,
            wanted,
            -1,
            pg_sys::CoercionContext::COERCION_IMPLICIT,
            pg_sys::CoercionForm::COERCE_IMPLICIT_CAST,
            -1,
        )
    };
    (!cast.is_null()).then_some(cast.cast())
}
