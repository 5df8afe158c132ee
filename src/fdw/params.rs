//! This module evaluates operands: when the scan really starts, never in planning or in Begin.
//! What the values mean for the requests: `pancake::plan::request`.

use pancake::plan::filter::{Comparison, Filter, Filterable, Operand, Slack, Timestamp};
use pancake::time::Micros;
use pgrx::{FromDatum, pg_sys};

use crate::fdw::column_expr::{WILD_ZONE, is_place};
use crate::pg::nodes::{cast, list, text};

/// Microseconds from 1970 to 2000, where Postgres's times begin.
pub const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// The operands of a scan, ready to be evaluated.
pub struct Operands(Vec<(*mut pg_sys::ExprState, pg_sys::Oid)>);

impl Operands {
    /// Prepares the expressions of a plan, in the scan's memory.
    pub fn prepare(node: *mut pg_sys::ForeignScanState) -> Self {
        // SAFETY: the node is Postgres's, in Begin; the states live in the query's memory context.
        let (nodes, states) = unsafe {
            let plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
            let states = pg_sys::ExecInitExprList((*plan).fdw_exprs, &mut (*node).ss.ps);
            (list::<pg_sys::Node>((*plan).fdw_exprs), list::<pg_sys::ExprState>(states))
        };
        let typed = |(state, node): (*mut pg_sys::ExprState, *mut pg_sys::Node)| {
            // SAFETY: the plan's own expressions.
            (state, unsafe { pg_sys::exprType(node) })
        };
        Self(states.into_iter().zip(nodes).map(typed).collect())
    }

    pub fn evaluate(&self, node: *mut pg_sys::ForeignScanState, filters: &[Filter]) -> Vec<Option<Operand>> {
        // SAFETY: the node's own context for expressions, alive while it runs.
        let context = unsafe { (*node).ss.ps.ps_ExprContext };
        let evaluate = |(i, (state, of)): (usize, &(*mut pg_sys::ExprState, pg_sys::Oid))| {
            let mut is_null = false;
            // SAFETY: prepared for this node; the result lives in its per-tuple memory and is
            // copied below.
            let datum = unsafe { pg_sys::ExecEvalExprSwitchContext(*state, context, &mut is_null) };
            let filter = filters.iter().find(|filter| filter.operand == i)?;
            Some(operand(filter, *of, datum, is_null))
        };
        self.0.iter().enumerate().map(evaluate).collect()
    }
}

/// The filters as they are to be bound in this session: a time zone of no place widens what depends
/// on it.
pub fn in_this_zone(filters: &[Filter]) -> Vec<Filter> {
    // SAFETY: the session's own zone, which is always set; its name ends with NUL.
    let zone = text(unsafe { pg_sys::pg_get_timezone_name(pg_sys::session_timezone) });
    let tame = is_place(&zone);
    let widened = |filter: &Filter| match filter.slack {
        slack if tame || slack == Slack::NONE => *filter,
        slack => Filter { slack: slack.and(WILD_ZONE), ..*filter },
    };
    filters.iter().map(widened).collect()
}

/// The value of an operand that is constant at planning.
pub fn constant(filter: &Filter, node: *mut pg_sys::Expr) -> Option<Operand> {
    let constant = cast::<pg_sys::Const>(node.cast(), pg_sys::NodeTag::T_Const)?;
    // SAFETY: the node's tag is T_Const.
    let constant = unsafe { &*constant };
    Some(operand(filter, constant.consttype, constant.constvalue, constant.constisnull))
}

/// The value of an operand whose type `quals` has made that of the filter.
fn operand(filter: &Filter, of: pg_sys::Oid, datum: pg_sys::Datum, is_null: bool) -> Operand {
    if is_null {
        return Operand::Null;
    }
    match (filter.column, filter.comparison) {
        (Filterable::UpdatedAt | Filterable::InsertedAt, _) => {
            Operand::Time(time(filter.without_zone, of, datum))
        }
        (_, Comparison::AnyOf | Comparison::Contains | Comparison::Overlaps) => {
            // SAFETY: quals made the operand a text[]; it is not null.
            let texts = unsafe { Vec::<Option<String>>::from_datum(datum, false) };
            texts.map_or(Operand::Null, Operand::Texts)
        }
        // SAFETY: quals made the operand a text; it is not null.
        _ => unsafe { String::from_datum(datum, false) }.map_or(Operand::Null, Operand::Text),
    }
}

/// A date or a timestamp without zone is what the session's TimeZone makes of it; that of a wall
/// clock is read as UTC. A cast would fail for dates that no timestamptz reaches: they are later or
/// earlier than every row.
fn time(without_zone: bool, of: pg_sys::Oid, datum: pg_sys::Datum) -> Timestamp {
    const DAY: i64 = 86_400_000_000;
    let mut overflow = 0;
    let micros = match (of, datum.value()) {
        (pg_sys::DATEOID, days) if days as i32 == i32::MIN => i64::MIN,
        (pg_sys::DATEOID, days) if days as i32 == i32::MAX => i64::MAX,
        (pg_sys::DATEOID, days) if without_zone => i64::from(days as i32).saturating_mul(DAY),
        // SAFETY: the datum is of the type; overflow sets the variable and is not raised.
        (pg_sys::DATEOID, days) => unsafe {
            pg_sys::date2timestamptz_opt_overflow(days as i32, &mut overflow)
        },
        // SAFETY: as above.
        (pg_sys::TIMESTAMPOID, micros) if !without_zone => unsafe {
            pg_sys::timestamp2timestamptz_opt_overflow(micros as i64, &mut overflow)
        },
        (_, micros) => micros as i64,
    };
    match (overflow.signum(), micros) {
        (-1, _) | (0, i64::MIN) => Timestamp::MinusInfinity,
        (1, _) | (0, i64::MAX) => Timestamp::Infinity,
        _ => Timestamp::At(Micros(micros.saturating_add(POSTGRES_EPOCH))),
    }
}
