//! This module writes the lines of EXPLAIN: what is sent and why not, how many requests, and with
//! ANALYZE what it really took. It needs neither network nor user mapping.

use std::collections::BTreeMap;
use std::time::Duration;

use pancake::paging::cursor::End;
use pancake::plan::describe::{NOTHING, Starts, ends, sent};
use pancake::plan::filter::{Filter, Operand};
use pancake::plan::pushdown::Pushdown;
use pancake::schema::keyset::Order;
use pgrx::{pg_guard, pg_sys};

use crate::fdw::fetch::StopReason;
use crate::fdw::params::constant;
use crate::fdw::private::ScanPrivate;
use crate::fdw::scan::ScanState;
use crate::pg::nodes::{c_string, list, text};

/// Seconds that a request takes of the page's budget at one request per second.
const SPACING_SECONDS: f64 = 1.025;

#[pg_guard]
pub unsafe extern "C-unwind" fn explain_foreign_scan(
    node: *mut pg_sys::ForeignScanState,
    explain: *mut pg_sys::ExplainState,
) {
    // SAFETY: Postgres's own node and plan; the state is null, or what Begin set.
    let (plan, state, analyze, verbose) = unsafe {
        let plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
        (plan, (*node).fdw_state.cast::<ScanState>().as_ref(), (*explain).analyze, (*explain).verbose)
    };
    // SAFETY: the plan is of this scan.
    let Some(private) = ScanPrivate::unpack(unsafe { (*plan).fdw_private }) else { return };
    let out = ExplainOutput { explain };
    let state = state.filter(|_| analyze);
    let starts = state.map(|state| &state.starts);
    let planned = planned(&private, starts, &Deparser::new(plan, explain));
    let spent = state.map(spent).unwrap_or_default();
    let ahead = state.filter(|_| verbose).map(ahead);
    planned.into_iter().chain(spent).chain(ahead).for_each(|line| out.line(&line));
}

/// A line of EXPLAIN's text. In the other formats each of its numbers is a property of its own, if
/// it has any.
struct Line {
    label: &'static str,
    text: String,
    numbers: Vec<(&'static str, Number)>,
}

impl Line {
    fn text(label: &'static str, text: impl Into<String>) -> Self {
        Self { label, text: text.into(), numbers: Vec::new() }
    }
}

enum Number {
    Count(u64),
    /// Given in milliseconds, as Postgres gives its own.
    Time(Duration),
}

struct ExplainOutput {
    explain: *mut pg_sys::ExplainState,
}

impl ExplainOutput {
    fn line(&self, line: &Line) {
        // SAFETY: EXPLAIN's own state.
        let is_text = unsafe { (*self.explain).format == pg_sys::ExplainFormat::EXPLAIN_FORMAT_TEXT };
        if is_text || line.numbers.is_empty() {
            let (label, text) = (c_string(line.label), c_string(&line.text));
            // SAFETY: both strings are copied into the output.
            unsafe { pg_sys::ExplainPropertyText(label.as_ptr(), text.as_ptr(), self.explain) }
        } else {
            line.numbers.iter().for_each(|(label, number)| self.number(label, number));
        }
    }

    fn number(&self, label: &str, number: &Number) {
        let (label, no_unit) = (c_string(label), std::ptr::null());
        // SAFETY: the label is copied into the output, and a unit may be missing.
        unsafe {
            match number {
                Number::Count(count) => {
                    pg_sys::ExplainPropertyInteger(label.as_ptr(), no_unit, *count as i64, self.explain);
                }
                Number::Time(time) => {
                    let millis = time.as_secs_f64() * 1e3;
                    pg_sys::ExplainPropertyFloat(label.as_ptr(), no_unit, millis, 3, self.explain);
                }
            }
        }
    }
}

/// What the planner decided, and where a run has shown more of the operands, what became of it.
fn planned(private: &ScanPrivate, starts: Option<&Starts>, deparser: &Deparser) -> Vec<Line> {
    let ScanPrivate { object, order, .. } = *private;
    let known = deparser.known(private);
    // What became of a filter that was open when it was planned.
    let of_starts = |filter: usize| starts.filter(|starts| starts.have_been() && known[filter].is_none());
    let of_filter = |filter: usize| match (private.pushdowns[private.places[filter]], of_starts(filter)) {
        (_, Some(starts)) if let Some(became) = starts.became(filter) => became,
        (Pushdown::Local(_), Some(_)) => Pushdown::Sent,
        (planned, _) => planned,
    };
    let asked = (0..private.filters.len()).map(|filter| (private.filters[filter], of_filter(filter)));
    let asked: Vec<_> = asked.collect();
    let mut lines = Vec::new();
    let mut not_sent = BTreeMap::new();
    if private.chains == 0 {
        lines.push(Line::text("Pancake Sent", NOTHING));
    } else {
        let sent = sent(object, &asked, order, &known, &deparser.operands());
        lines.push(Line::text("Pancake Sent", sent));
        let ends = ends(object, &asked, &deparser.operands());
        lines.extend(ends.map(|ends| Line::text("Pancake Ends", ends)));
        for (place, pushdown) in private.pushdowns.iter().enumerate() {
            let filter = private.places.iter().position(|of_filter| *of_filter == place);
            let why = match filter.and_then(|filter| Some((filter, of_starts(filter)?))) {
                Some((filter, starts)) => starts.why_not_sent(filter),
                None => None,
            };
            let filter = filter.map(|filter| &private.filters[filter]);
            let why = why.or_else(|| pushdown.why_not_sent(object, filter));
            not_sent.extend(why.map(|why| (place, why)));
        }
    }
    let quals = deparser.quals();
    let not_sent: Vec<_> =
        not_sent.iter().filter_map(|(i, why)| Some(format!("{} ({why})", bare(quals.get(*i)?)))).collect();
    if !not_sent.is_empty() {
        lines.push(Line::text("Pancake Not Sent", not_sent.join(", ")));
    }
    let (requests, rate) = (private.requests, private.requests_per_second);
    let seconds = requests as f64 * SPACING_SECONDS / rate;
    let noun = if requests == 1 { "request" } else { "requests" };
    let streams = match private.chains {
        0 | 1 => String::new(),
        n => format!(" in {n} streams"),
    };
    lines.push(Line {
        label: "Pancake Estimate",
        text: format!("{requests} {noun}{streams}, at least {seconds:.1} s at {rate}/s"),
        numbers: vec![
            ("Pancake Estimated Requests", Number::Count(requests)),
            ("Pancake Estimated Streams", Number::Count(private.chains)),
            ("Pancake Estimated Time", Number::Time(Duration::from_secs_f64(seconds))),
        ],
    });
    lines.extend(private.detour.clone().map(|detour| Line::text("Pancake Detour", detour)));
    if private.ordered && private.order == Order::UpdatedAt {
        lines.push(Line::text("Pancake Order", "updated_at DESC, each batch as of its own request"));
    }
    lines
}

fn spent(state: &ScanState) -> Vec<Line> {
    let tally = &state.tally;
    let (requests, retried, throttled) = (tally.requests.get(), tally.retried.get(), tally.throttled.get());
    let (rows, repeats, size) = (tally.rows.get(), tally.repeats.get(), tally.bytes.get());
    let requests = Line {
        label: "Pancake Requests",
        text: format!(
            "{requests} ({retried} retried, {throttled} throttled), {rows} rows, {repeats} repeats, {}",
            bytes(size)
        ),
        numbers: vec![
            ("Pancake Requests", Number::Count(requests)),
            ("Pancake Retries", Number::Count(retried)),
            ("Pancake Throttled", Number::Count(throttled)),
            ("Pancake Rows", Number::Count(rows)),
            ("Pancake Repeats", Number::Count(repeats)),
            ("Pancake Bytes", Number::Count(size)),
        ],
    };
    let (network, limit, retries) = (tally.network.get(), tally.limit_wait.get(), tally.retry_wait.get());
    let seconds = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
    let time = Line {
        label: "Pancake Time",
        text: format!(
            "network {}, rate limit {}, retry waits {}",
            seconds(network),
            seconds(limit),
            seconds(retries)
        ),
        numbers: vec![
            ("Pancake Network Time", Number::Time(network)),
            ("Pancake Rate Limit Time", Number::Time(limit)),
            ("Pancake Retry Wait Time", Number::Time(retries)),
        ],
    };
    let mut lines = vec![requests, time, Line::text("Pancake Stopped", stopped(state.stopped))];
    if tally.post_ids_refused.get() > 0 {
        lines.push(Line::text("Pancake Proof", "post_ids does not filter on this page, checked locally"));
    }
    lines
}

fn ahead(state: &ScanState) -> Line {
    let rows = state.tally.ahead.get();
    let numbers = vec![("Pancake Ahead", Number::Count(rows))];
    Line { label: "Pancake Ahead", text: format!("at most {rows} rows"), numbers }
}

fn stopped(stopped: StopReason) -> &'static str {
    match stopped {
        StopReason::EnoughRows => "no more rows were wanted",
        StopReason::NeverStarted => "never started",
        StopReason::NothingCanMatch => "no row can match",
        StopReason::Ended(End::PassedBound) => "passed the lower bound",
        StopReason::Ended(End::ListEnded) => "end of the list",
        StopReason::Ended(End::FoundAll) => "found all ids",
    }
}

/// A clause without the parentheses around the whole of it.
fn bare(clause: &str) -> &str {
    let inside = clause.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(clause);
    let depths = inside.chars().scan(0, |depth, c| {
        *depth += i32::from(c == '(') - i32::from(c == ')');
        Some(*depth)
    });
    if depths.min().unwrap_or(0) < 0 { clause } else { inside }
}

fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        small if small < 1e3 => format!("{small} B"),
        medium if medium < 1e6 => format!("{:.1} kB", medium / 1e3),
        large => format!("{:.1} MB", large / 1e6),
    }
}

/// Expressions of a plan as SQL text.
struct Deparser {
    plan: *mut pg_sys::ForeignScan,
    context: *mut pg_sys::List,
    prefixed: bool,
}

impl Deparser {
    fn new(plan: *mut pg_sys::ForeignScan, explain: *mut pg_sys::ExplainState) -> Self {
        // SAFETY: EXPLAIN's own state and the plan that it explains.
        unsafe {
            let context =
                pg_sys::set_deparse_context_plan((*explain).deparse_cxt, plan.cast(), std::ptr::null_mut());
            let prefixed = list::<pg_sys::Node>((*explain).rtable).len() > 1 || (*explain).verbose;
            Self { plan, context, prefixed }
        }
    }

    fn text(&self, node: *mut pg_sys::Node) -> String {
        // SAFETY: an expression of the plan that the context was made for.
        text(unsafe { pg_sys::deparse_expression(node, self.context, self.prefixed, false) })
    }

    fn quals(&self) -> Vec<String> {
        // SAFETY: the plan that is explained.
        let quals = unsafe { (*self.plan).scan.plan.qual };
        list(quals).into_iter().map(|node| self.text(node)).collect()
    }

    /// The text of each operand.
    fn operands(&self) -> Vec<String> {
        self.expressions().into_iter().map(|node| self.text(node)).collect()
    }

    /// The value of each operand that is a constant.
    fn known(&self, private: &ScanPrivate) -> Vec<Option<Operand>> {
        let nodes = self.expressions();
        let value = |filter: &Filter| constant(filter, nodes.get(filter.operand)?.cast());
        private.filters.iter().map(value).collect()
    }

    fn expressions(&self) -> Vec<*mut pg_sys::Node> {
        // SAFETY: the plan that is explained.
        list(unsafe { (*self.plan).fdw_exprs })
    }
}
