//! This module finds the side of a clause that is a column: the column itself, or a day, month or
//! local time made of a time column. It decides how far the time may lie from what the function
//! makes of it; operators are `quals`' matter.

use pancake::plan::filter::{Filterable, Slack};
use pancake::schema::catalogue::Object;
use pancake::schema::column::Type;
use pgrx::{FromDatum, pg_sys};

use crate::pg::catalog::DeclaredColumn;
use crate::pg::nodes::{cast, list};

/// A side of a clause that follows from one column.
#[derive(Clone, Copy)]
pub struct DerivedColumn {
    pub column: Filterable,
    /// The type of the side.
    pub of: pg_sys::Oid,
    pub slack: Slack,
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Where the clocks go back over midnight, a day begins for Postgres at the second of two
/// midnights: up to an hour of its rows lie before that.
const SECOND_MIDNIGHT: Slack = Slack { before: 3 * HOUR, after: 0 };
/// No zone of the tz database was ever further from UTC.
const ANY_ZONE: Slack = Slack { before: 16 * HOUR, after: 16 * HOUR };
/// A POSIX zone may be written up to 168 hours away from UTC.
pub const WILD_ZONE: Slack = Slack { before: 8 * DAY, after: 8 * DAY };

/// The columns of a foreign table, as clauses name them.
pub struct Columns<'a> {
    pub declared: &'a [DeclaredColumn],
    pub object: Object,
    pub relid: u32,
}

impl Columns<'_> {
    pub fn find(&self, node: *mut pg_sys::Node) -> Option<DerivedColumn> {
        if let Some(var) = cast::<pg_sys::Var>(node, pg_sys::NodeTag::T_Var) {
            return self.column(var);
        }
        let function = cast::<pg_sys::FuncExpr>(node, pg_sys::NodeTag::T_FuncExpr)?;
        // SAFETY: the node's tag is T_FuncExpr.
        let function = unsafe { &*function };
        let arguments = list::<pg_sys::Node>(function.args);
        let (inside, slack) = match (function.funcid.to_u32(), &arguments[..]) {
            (pg_sys::F_DATE_TIMESTAMPTZ, [time]) => (*time, ANY_ZONE.and(within(DAY))),
            (pg_sys::F_DATE_TIMESTAMP, [time]) => (*time, within(DAY)),
            (pg_sys::F_TIMESTAMP_TIMESTAMPTZ, [time]) => (*time, ANY_ZONE),
            (pg_sys::F_TIMEZONE_TEXT_TIMESTAMPTZ, [zone, time]) => (*time, zone_slack(*zone)),
            (pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMP, [unit, time]) => (*time, within(width(*unit)?)),
            (
                pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMPTZ | pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT,
                [unit, time, ..],
            ) => (*time, within(width(*unit)?).and(SECOND_MIDNIGHT)),
            _ => return None,
        };
        let inside = self.find(inside)?;
        let is_time = matches!(inside.column, Filterable::UpdatedAt | Filterable::InsertedAt);
        is_time.then_some(DerivedColumn {
            of: function.funcresulttype,
            slack: inside.slack.and(slack),
            ..inside
        })
    }

    /// A column that filters, declared with the documented type and without a path of its own.
    fn column(&self, var: *mut pg_sys::Var) -> Option<DerivedColumn> {
        // SAFETY: the caller has looked at the node's tag.
        let var = unsafe { &*var };
        if var.varno as u32 != self.relid || var.varlevelsup != 0 {
            return None;
        }
        let declared = self.declared.iter().find(|column| column.number == var.varattno)?;
        let of = type_id(self.object.column(&declared.name)?.of);
        // A timestamptz(0) shows other times than are served.
        let documented = declared.type_id == of && declared.type_modifier == -1 && declared.path.is_none();
        let column = Filterable::by_column(&declared.name)?;
        documented.then_some(DerivedColumn { column, of, slack: Slack::NONE })
    }
}

fn type_id(of: Type) -> pg_sys::Oid {
    match of {
        Type::Text => pg_sys::TEXTOID,
        Type::TextArray => pg_sys::TEXTARRAYOID,
        Type::Bool => pg_sys::BOOLOID,
        Type::Int => pg_sys::INT4OID,
        Type::Numeric => pg_sys::NUMERICOID,
        Type::Time => pg_sys::TIMESTAMPTZOID,
        Type::Jsonb => pg_sys::JSONBOID,
    }
}

/// The time lies at most this long after the beginning that the function gives.
fn within(seconds: i64) -> Slack {
    Slack { before: 0, after: seconds }
}

/// A name of the tz database, or any text that Postgres takes for a zone.
fn zone_slack(zone: *mut pg_sys::Node) -> Slack {
    match constant_text(zone) {
        Some(name) if is_place(&name) => ANY_ZONE,
        _ => ANY_ZONE.and(WILD_ZONE),
    }
}

/// Whether a zone is one of the tz database, by its name. A POSIX zone may hold a slash too, but it
/// has digits.
pub fn is_place(zone: &str) -> bool {
    let named = zone.contains('/') && zone.chars().all(|c| c.is_ascii_alphabetic() || "/_-".contains(c));
    named || ["UTC", "GMT"].contains(&zone)
}

/// The longest that a unit of date_trunc can be, a change of the clocks included.
fn width(unit: *mut pg_sys::Node) -> Option<i64> {
    let days = match constant_text(unit)?.to_lowercase().as_str() {
        "microseconds" | "milliseconds" | "second" | "minute" | "hour" | "day" => 1,
        "week" => 7,
        "month" => 31,
        "quarter" => 92,
        "year" => 366,
        _ => return None,
    };
    Some(days * DAY + 3 * HOUR)
}

fn constant_text(node: *mut pg_sys::Node) -> Option<String> {
    let constant = cast::<pg_sys::Const>(node, pg_sys::NodeTag::T_Const)?;
    // SAFETY: the node's tag is T_Const.
    let constant = unsafe { &*constant };
    if constant.consttype != pg_sys::TEXTOID {
        return None;
    }
    // SAFETY: the constant is a text.
    unsafe { String::from_datum(constant.constvalue, constant.constisnull) }
}
