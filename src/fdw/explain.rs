//! This module writes the lines of EXPLAIN: what is sent and why not, how many requests, and with
//! ANALYZE what it really took. It needs neither network nor user mapping.

use std::collections::BTreeMap;
use std::time::Duration;

use pancake::paging::cursor::End;
use pancake::plan::describe::{NOTHING, Unsent, ends, sent};
use pancake::plan::filter::{Filter, Operand, Verdict};
use pancake::plan::request::fate;
use pancake::schema::keyset::Order;
use pgrx::{pg_guard, pg_sys};

use crate::fdw::fetch::Stopped;
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
    let Some(envelope) = ScanPrivate::unpack(unsafe { (*plan).fdw_private }) else { return };
    let out = Explained { explain };
    let state = state.filter(|_| analyze);
    let unsent = state.map(|state| &state.unsent);
    for (label, value) in planned(&envelope, unsent, &Deparser::new(plan, explain)) {
        out.line(label, &value);
    }
    for (label, value) in state.map(spent).unwrap_or_default() {
        out.line(label, &value);
    }
    if let Some(state) = state.filter(|_| verbose) {
        out.line("Pancake Ahead", &format!("at most {} rows", state.tally.ahead.get()));
    }
}

struct Explained {
    explain: *mut pg_sys::ExplainState,
}

impl Explained {
    fn line(&self, label: &str, value: &str) {
        let (label, value) = (c_string(label), c_string(value));
        // SAFETY: both strings are copied into the output.
        unsafe { pg_sys::ExplainPropertyText(label.as_ptr(), value.as_ptr(), self.explain) }
    }
}

/// What the planner decided, and where a run has shown more of the operands, what became of it.
fn planned(
    envelope: &ScanPrivate,
    unsent: Option<&Unsent>,
    deparser: &Deparser,
) -> Vec<(&'static str, String)> {
    let known = deparser.known(envelope);
    let may_be_sent =
        |filter: usize| fate(envelope.object, &envelope.filters[filter], envelope.order) == Verdict::Superset;
    let was_open = |filter: usize| known[filter].is_none() && may_be_sent(filter);
    let news = |filter: usize| unsent.filter(|unsent| unsent.is_known() && was_open(filter));
    let sent_ever = |filter: &usize| !news(*filter).is_some_and(|unsent| unsent.is_always(*filter));
    let asked = (0..envelope.filters.len()).filter(sent_ever).map(|filter| envelope.filters[filter]);
    let asked = match envelope.chains {
        0 => NOTHING.to_owned(),
        _ => {
            let asked = asked.collect::<Vec<_>>();
            let takes_windows = envelope.detour.is_none();
            sent(envelope.object, &asked, envelope.order, &known, &deparser.operands(), takes_windows)
        }
    };
    let mut lines = vec![("Pancake Sent", asked)];
    if envelope.chains > 0 {
        let ends = ends(envelope.object, &envelope.filters, envelope.order, &known, &deparser.operands());
        lines.extend(ends.map(|ends| ("Pancake Ends", ends)));
    }
    let mut not_sent: BTreeMap<usize, String> = envelope.not_sent.iter().cloned().collect();
    for (filter, place) in envelope.places.iter().enumerate() {
        if let Some(unsent) = news(filter) {
            not_sent.remove(place);
            not_sent.extend(unsent.told(filter).map(|why| (*place, why)));
        }
    }
    let quals = deparser.quals();
    let not_sent: Vec<_> =
        not_sent.iter().filter_map(|(i, why)| Some(format!("{} ({why})", bare(quals.get(*i)?)))).collect();
    if !not_sent.is_empty() {
        lines.push(("Pancake Not Sent", not_sent.join(", ")));
    }
    let (requests, rate) = (envelope.requests, envelope.requests_per_second);
    let seconds = requests as f64 * SPACING_SECONDS / rate;
    let noun = if requests == 1 { "request" } else { "requests" };
    let streams = match envelope.chains {
        0 | 1 => String::new(),
        n => format!(" in {n} streams"),
    };
    lines.push((
        "Pancake Estimate",
        format!("{requests} {noun}{streams}, at least {seconds:.1} s at {rate}/s"),
    ));
    lines.extend(envelope.detour.clone().map(|detour| ("Pancake Detour", detour)));
    if envelope.ordered && envelope.order == Order::UpdatedAt {
        lines.push(("Pancake Order", "updated_at DESC, each batch as of its own request".to_owned()));
    }
    lines
}

fn spent(state: &ScanState) -> Vec<(&'static str, String)> {
    let tally = &state.tally;
    let seconds = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
    let post_ids = "post_ids does not filter on this page, checked locally".to_owned();
    let proof = (tally.post_ids_refused.get() > 0).then_some(("Pancake Proof", post_ids));
    let mut lines = vec![
        (
            "Pancake Requests",
            format!(
                "{} ({} retried, {} throttled), {} rows, {} repeats, {}",
                tally.requests.get(),
                tally.retried.get(),
                tally.throttled.get(),
                tally.rows.get(),
                tally.repeats.get(),
                bytes(tally.bytes.get())
            ),
        ),
        (
            "Pancake Time",
            format!(
                "network {}, rate limit {}, retry waits {}",
                seconds(tally.network.get()),
                seconds(tally.limit_wait.get()),
                seconds(tally.retry_wait.get())
            ),
        ),
        ("Pancake Stopped", stopped(state.stopped).to_owned()),
    ];
    lines.extend(proof);
    lines
}

fn stopped(stopped: Stopped) -> &'static str {
    match stopped {
        Stopped::EnoughRows => "no more rows were wanted",
        Stopped::NeverStarted => "never started",
        Stopped::NothingCanMatch => "no row can match",
        Stopped::Ended(End::PassedBound) => "passed the lower bound",
        Stopped::Ended(End::ListEnded) => "end of the list",
        Stopped::Ended(End::FoundAll) => "found all ids",
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
    fn known(&self, envelope: &ScanPrivate) -> Vec<Option<Operand>> {
        let nodes = self.expressions();
        let value = |filter: &Filter| constant(filter, nodes.get(filter.operand)?.cast());
        envelope.filters.iter().map(value).collect()
    }

    fn expressions(&self) -> Vec<*mut pg_sys::Node> {
        // SAFETY: the plan that is explained.
        list(unsafe { (*self.plan).fdw_exprs })
    }
}
