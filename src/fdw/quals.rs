//! Clauses of a query → filters. It decides which clause can help and why another cannot; what a filter is worth
//! is said in `pancake::filter`. Every clause stays in Postgres's own check.

use pancake::catalogue::{Object, Type};
use pancake::filter::{Comparison, Filter, Filterable, Verdict, verdict};
use pgrx::pg_sys;

use crate::pg::catalog::{DeclaredColumn, ForeignTable};
use crate::pg::nodes::{cast, list};

/// What a clause is good for.
pub enum Use {
    /// The filter lacks only its operand's place; the operand is the expression.
    Filter {
        column: Filterable,
        comparison: Comparison,
        operand: *mut pg_sys::Expr,
    },
    None(&'static str),
}

pub const NO_SERVER_FILTER: &str = "no server filter";

/// The clauses of a relation, each with what it is good for.
pub fn classify(
    table: &ForeignTable,
    relation: *mut pg_sys::RelOptInfo,
) -> Vec<(*mut pg_sys::RestrictInfo, Use)> {
    // SAFETY: the planner's relation, alive while it plans.
    let (relid, clauses) =
        unsafe { ((*relation).relid, list::<pg_sys::RestrictInfo>((*relation).baserestrictinfo)) };
    let judge = |info: *mut pg_sys::RestrictInfo| {
        // SAFETY: both are the planner's, alive while it plans.
        let (clause, safe) =
            unsafe { ((*info).clause, pg_sys::restriction_is_securely_promotable(info, relation)) };
        let found = match understand(clause.cast(), table, relid) {
            Some((column, _, _)) if !table.table.pushdown.allows(column) => Use::None("option pushdown"),
            Some(_) if !safe => Use::None("row security comes first"),
            // SAFETY: the operand is a node of the clause.
            Some((_, _, operand)) if unsafe { pg_sys::contain_volatile_functions(operand.cast()) } => {
                Use::None("volatile operand")
            }
            Some((column, comparison, operand)) => Use::Filter { column, comparison, operand },
            None => Use::None(NO_SERVER_FILTER),
        };
        (info, found)
    };
    clauses.into_iter().map(judge).collect()
}

type Found = (Filterable, Comparison, *mut pg_sys::Expr);

fn understand(clause: *mut pg_sys::Node, table: &ForeignTable, relid: u32) -> Option<Found> {
    let sides = Sides { table, relid };
    let (column, comparison, operand) = if let Some(op) = cast(clause, pg_sys::NodeTag::T_OpExpr) {
        sides.operator(op)?
    } else if let Some(op) = cast(clause, pg_sys::NodeTag::T_ScalarArrayOpExpr) {
        sides.any_of(op)?
    } else {
        return None;
    };
    // SAFETY: the operand is a node of the clause.
    let independent = unsafe { !pg_sys::contain_var_clause(operand.cast()) };
    (independent && verdict(column, comparison) != Verdict::None).then_some((column, comparison, operand))
}

struct Sides<'a> {
    table: &'a ForeignTable,
    relid: u32,
}

impl Sides<'_> {
    /// `column operator operand`, or the other way round.
    fn operator(&self, op: *mut pg_sys::OpExpr) -> Option<Found> {
        // SAFETY: the node's tag says that it is an OpExpr.
        let op = unsafe { &*op };
        let [left, right] = list::<pg_sys::Node>(op.args)[..] else { return None };
        let (column, operand, swapped) = match (self.column(left), self.column(right)) {
            (Some(column), None) => (column, right, false),
            (None, Some(column)) => (column, left, true),
            _ => return None,
        };
        let comparison = match column {
            Filterable::UpdatedAt | Filterable::InsertedAt => ordering(op.opno)?,
            Filterable::Type | Filterable::PageId => equality(op.opno, op.inputcollid)?,
            // Containment is not symmetric: swapped, it is another operator.
            Filterable::Tags => {
                let contains =
                    if swapped { pg_sys::OID_ARRAY_CONTAINED_OP } else { pg_sys::OID_ARRAY_CONTAINS_OP };
                (op.opno.to_u32() == contains && deterministic(op.inputcollid))
                    .then_some(Comparison::Contains)?
            }
        };
        let comparison = if swapped { comparison.commuted() } else { comparison };
        let wanted = match column {
            Filterable::UpdatedAt | Filterable::InsertedAt => pg_sys::TIMESTAMPTZOID,
            Filterable::Tags => pg_sys::TEXTARRAYOID,
            Filterable::Type | Filterable::PageId => pg_sys::TEXTOID,
        };
        Some((column, comparison, as_type(operand, wanted)?))
    }

    /// `column = ANY (operand)`, or `operand = ANY (tags)`.
    fn any_of(&self, op: *mut pg_sys::ScalarArrayOpExpr) -> Option<Found> {
        // SAFETY: the node's tag says that it is a ScalarArrayOpExpr.
        let op = unsafe { &*op };
        let [scalar, array] = list::<pg_sys::Node>(op.args)[..] else { return None };
        if !op.useOr || equality(op.opno, op.inputcollid).is_none() {
            return None;
        }
        match (self.column(scalar), self.column(array)) {
            (Some(column @ (Filterable::Type | Filterable::PageId)), None) => {
                Some((column, Comparison::AnyOf, as_type(array, pg_sys::TEXTARRAYOID)?))
            }
            (None, Some(Filterable::Tags)) => {
                Some((Filterable::Tags, Comparison::Has, as_type(scalar, pg_sys::TEXTOID)?))
            }
            _ => None,
        }
    }

    /// The column that a node is, if it is one that filters, as documented.
    fn column(&self, node: *mut pg_sys::Node) -> Option<Filterable> {
        let var = cast::<pg_sys::Var>(node, pg_sys::NodeTag::T_Var)?;
        // SAFETY: the node's tag says that it is a Var.
        let var = unsafe { &*var };
        if var.varno as u32 != self.relid || var.varlevelsup != 0 {
            return None;
        }
        let declared = self.table.columns.iter().find(|column| column.number == var.varattno)?;
        documented(declared, self.table.table.object).then(|| Filterable::by_column(&declared.name))?
    }
}

/// Declared with the documented type, and without a path of its own. A `timestamptz(0)` shows other times than are
/// served.
fn documented(declared: &DeclaredColumn, object: Object) -> bool {
    let Some(column) = object.column(&declared.name) else { return false };
    let type_id = match column.of {
        Type::Text => pg_sys::TEXTOID,
        Type::TextArray => pg_sys::TEXTARRAYOID,
        Type::Bool => pg_sys::BOOLOID,
        Type::Int => pg_sys::INT4OID,
        Type::Time => pg_sys::TIMESTAMPTZOID,
        Type::Jsonb => pg_sys::JSONBOID,
    };
    declared.type_id == type_id && declared.type_modifier == -1 && declared.path.is_none()
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

/// Under other collations equal texts may differ in their bytes, which is all that the server compares.
fn deterministic(collation: pg_sys::Oid) -> bool {
    // SAFETY: a look-up by oid.
    collation == pg_sys::InvalidOid || unsafe { pg_sys::get_collation_isdeterministic(collation) }
}

/// The operand as the column's own type; None where Postgres knows no implicit cast. Dates and timestamps stay what
/// they are: `bound` reads them without an error for those that are out of a timestamptz's range.
fn as_type(operand: *mut pg_sys::Node, wanted: pg_sys::Oid) -> Option<*mut pg_sys::Expr> {
    // SAFETY: the operand is a node of the clause.
    let type_id = unsafe { pg_sys::exprType(operand) };
    if wanted == pg_sys::TIMESTAMPTZOID && [pg_sys::DATEOID, pg_sys::TIMESTAMPOID].contains(&type_id) {
        return Some(operand.cast());
    }
    // SAFETY: the operand is a node of the clause; a cast is put around it, the node itself stays as it is.
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

/// The filters of a plan in the order of their operands.
pub fn filters(clauses: &[(*mut pg_sys::RestrictInfo, Use)]) -> (Vec<Filter>, Vec<*mut pg_sys::Expr>) {
    let found = clauses.iter().filter_map(|(_, found)| match found {
        Use::Filter { column, comparison, operand } => Some((*column, *comparison, *operand)),
        Use::None(_) => None,
    });
    let numbered = found.enumerate();
    numbered
        .map(|(i, (column, comparison, operand))| (Filter { column, comparison, operand: i }, operand))
        .unzip()
}
