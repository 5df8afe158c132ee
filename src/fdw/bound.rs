//! Operands → values: evaluated when the scan really starts, never in planning or in Begin.
//! What the values mean for the requests is said in `pancake::plan`.

use pancake::filter::{Bound, Comparison, Filter, Filterable, Operand};
use pancake::time::Micros;
use pgrx::{FromDatum, pg_sys};

use crate::pg::nodes::list;

/// Microseconds from 1970 to 2000, where Postgres's times begin.
pub const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// The operands of a scan, ready to be evaluated, with their types.
pub struct Operands(Vec<(*mut pg_sys::ExprState, pg_sys::Oid)>);

impl Operands {
    /// Prepares the expressions of a plan, in the scan's memory.
    pub fn prepare(node: *mut pg_sys::ForeignScanState) -> Self {
        // SAFETY: the node is Postgres's, in Begin; the states live in the query's memory context.
        let (expressions, states) = unsafe {
            let plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
            ((*plan).fdw_exprs, pg_sys::ExecInitExprList((*plan).fdw_exprs, &mut (*node).ss.ps))
        };
        let types = list::<pg_sys::Node>(expressions).into_iter();
        // SAFETY: the list holds expressions.
        let types = types.map(|expression| unsafe { pg_sys::exprType(expression) });
        Self(list(states).into_iter().zip(types).collect())
    }

    pub fn evaluate(&self, node: *mut pg_sys::ForeignScanState, filters: &[Filter]) -> Vec<Operand> {
        // SAFETY: the node's own context for expressions, alive while it runs.
        let context = unsafe { (*node).ss.ps.ps_ExprContext };
        let evaluate = |(i, (state, type_id)): (usize, &(*mut pg_sys::ExprState, pg_sys::Oid))| {
            let mut is_null = false;
            // SAFETY: prepared for this node; the result lives in its per-tuple memory and is copied below.
            let datum = unsafe { pg_sys::ExecEvalExprSwitchContext(*state, context, &mut is_null) };
            match filters.iter().find(|filter| filter.operand == i) {
                Some(filter) if !is_null => operand(filter, datum, *type_id),
                _ => Operand::Null,
            }
        };
        self.0.iter().enumerate().map(evaluate).collect()
    }
}

/// The value of an operand whose type `quals` has made that of the filter, dates and timestamps left as they are.
fn operand(filter: &Filter, datum: pg_sys::Datum, type_id: pg_sys::Oid) -> Operand {
    match (filter.column, filter.comparison) {
        (Filterable::UpdatedAt | Filterable::InsertedAt, _) => Operand::Time(time(datum, type_id)),
        (_, Comparison::AnyOf | Comparison::Contains) => {
            // SAFETY: quals made the operand a text[]; it is not null.
            let texts = unsafe { Vec::<Option<String>>::from_datum(datum, false) };
            texts.map_or(Operand::Null, Operand::Texts)
        }
        // SAFETY: quals made the operand a text; it is not null.
        _ => unsafe { String::from_datum(datum, false) }.map_or(Operand::Null, Operand::Text),
    }
}

/// A timestamptz, or what the session's TimeZone makes of a date or timestamp. A cast would fail for dates that no
/// timestamptz reaches; comparisons take them for what they are, later or earlier than every row.
fn time(datum: pg_sys::Datum, type_id: pg_sys::Oid) -> Bound {
    let mut overflow = 0;
    // SAFETY: the datum is of the type; overflow is told in the variable and not raised.
    let micros = unsafe {
        match type_id {
            pg_sys::DATEOID => pg_sys::date2timestamptz_opt_overflow(datum.value() as i32, &mut overflow),
            pg_sys::TIMESTAMPOID => {
                pg_sys::timestamp2timestamptz_opt_overflow(datum.value() as i64, &mut overflow)
            }
            _ => datum.value() as i64,
        }
    };
    match (overflow.signum(), micros) {
        (-1, _) | (0, i64::MIN) => Bound::MinusInfinity,
        (1, _) | (0, i64::MAX) => Bound::Infinity,
        _ => Bound::At(Micros(micros.saturating_add(POSTGRES_EPOCH))),
    }
}
