//! Operands → values: evaluated when the scan really starts, never in planning or in Begin.
//! What the values mean for the requests is said in `pancake::plan`.

use pancake::filter::{Bound, Comparison, Filter, Filterable, Operand};
use pancake::time::Micros;
use pgrx::{FromDatum, pg_sys};

use crate::pg::nodes::list;

/// Microseconds from 1970 to 2000, where Postgres's times begin.
pub const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// The operands of a scan, ready to be evaluated.
pub struct Operands(Vec<*mut pg_sys::ExprState>);

impl Operands {
    /// Prepares the expressions of a plan, in the scan's memory.
    pub fn prepare(node: *mut pg_sys::ForeignScanState) -> Self {
        // SAFETY: the node is Postgres's, in Begin; the states live in the query's memory context.
        let states = unsafe {
            let plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
            pg_sys::ExecInitExprList((*plan).fdw_exprs, &mut (*node).ss.ps)
        };
        Self(list(states))
    }

    pub fn evaluate(&self, node: *mut pg_sys::ForeignScanState, filters: &[Filter]) -> Vec<Operand> {
        // SAFETY: the node's own context for expressions, alive while it runs.
        let context = unsafe { (*node).ss.ps.ps_ExprContext };
        let evaluate = |(i, state): (usize, &*mut pg_sys::ExprState)| {
            let mut is_null = false;
            // SAFETY: prepared for this node; the result lives in its per-tuple memory and is copied below.
            let datum = unsafe { pg_sys::ExecEvalExprSwitchContext(*state, context, &mut is_null) };
            match filters.iter().find(|filter| filter.operand == i) {
                Some(filter) if !is_null => operand(filter, datum),
                _ => Operand::Null,
            }
        };
        self.0.iter().enumerate().map(evaluate).collect()
    }
}

/// The value of an operand whose type `quals` has made that of the filter.
fn operand(filter: &Filter, datum: pg_sys::Datum) -> Operand {
    match (filter.column, filter.comparison) {
        (Filterable::UpdatedAt | Filterable::InsertedAt, _) => Operand::Time(match datum.value() as i64 {
            i64::MIN => Bound::MinusInfinity,
            i64::MAX => Bound::Infinity,
            micros => Bound::At(Micros(micros.saturating_add(POSTGRES_EPOCH))),
        }),
        (_, Comparison::AnyOf | Comparison::Contains) => {
            // SAFETY: quals made the operand a text[]; it is not null.
            let texts = unsafe { Vec::<Option<String>>::from_datum(datum, false) };
            texts.map_or(Operand::Null, Operand::Texts)
        }
        // SAFETY: quals made the operand a text; it is not null.
        _ => unsafe { String::from_datum(datum, false) }.map_or(Operand::Null, Operand::Text),
    }
}
