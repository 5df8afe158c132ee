//! This module decides which run of a page comes next, and where its next batch begins.
//!
//! ```text
//! Lists that are walked by rows:
//! backfill   head → past …             down by inserted_at, which never changes: backfilled_to is a true frontier
//! delta      head                       what changed since the mark, if one reply holds it; else
//!            head → changed … → begun   the rest of it, and what began since, whatever place it has
//! reread     again … → begun            the last days once more: tags, assignees, seen move no time
//! full       census → head → all … → gone
//! Lists that are walked by slices have no head, and what began is what changed:
//! backfill   past …            delta   changed …            reread, full   as above
//! Threads are walked by their conversations, as rows are. The head of a list reads threads only in a delta.
//! A whole list is read in every run, and what is not in it any more is gone:
//! backfill   all               delta, full   census → all → gone
//! ```
//!
//! The head is read as the server shows it, newest activity first. What moves up there later is
//! newer than the newest row of its first reply, less the minute that Pancake may take to show a
//! message: so that row's time is the mark, and the next delta begins before it. Without a head it
//! is the newest time in the first slice that is not empty: walked down by inserted_at its newest
//! row came first, walked up by updated_at last, and what changes later is newer either way.

use std::time::Duration;

use crate::sync::marks::Marks;
use crate::sync::threads::ThreadBatch;
use crate::sync::walk::{Batches, Walk};
use crate::time::Micros;

/// The first reply of a list.
pub const HEAD_ROWS: u64 = 60;
/// One reply in the order of a time: it holds also the rows that show that no newer one follows.
pub const BEGUN_ROWS: u64 = 50;
/// Three replies: in a smaller batch, rows beyond a delta's window that always differ have no end.
const LEAST_ROWS: u64 = 3 * 59 + 1;
/// A batch of the head leads further down by more than eight conversations.
const LEAST_REPLIES: u64 = 16;
/// Replies of a batch of threads.
pub const THREAD_REPLIES: u64 = 64;
/// Conversations in the first batch of threads, of which each takes a request or a hundred.
pub const FIRST_THREADS: u64 = 30;
/// A delta's window, and a day that is read again, are one slice, unless more is asked for.
pub const FIRST_SPAN: Duration = Duration::from_hours(48);
/// Messages surface up to a minute late, and comments are dated to the whole second.
const LATE: Duration = Duration::from_mins(2);
/// 2016-01-01. What is older than pages are is one slice, which begins above the floor that a scan
/// has on a page that takes no window of a month.
const OLDEST_SLICE: Micros = Micros(1_451_606_400_000_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Backfill,
    Delta,
    Reread,
    Full,
}

impl Kind {
    /// As `pancake.sync_runs` names it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Backfill => "backfill",
            Kind::Delta => "delta",
            Kind::Reread => "reread",
            Kind::Full => "full",
        }
    }
}

/// One run of each is made at a time, beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Delta,
    Full,
}

impl Lane {
    pub fn name(self) -> &'static str {
        match self {
            Lane::Delta => "delta",
            Lane::Full => "full",
        }
    }

    pub fn kind(self) -> Kind {
        match self {
            Lane::Delta => Kind::Delta,
            Lane::Full => Kind::Full,
        }
    }
}

/// What the next step of a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Census,
    Head,
    Changed,
    Begun,
    Past,
    Again,
    All,
    Gone,
}

/// What a page is synced with.
#[derive(Clone, Debug)]
pub struct Parameters {
    pub lookback: Duration,
    pub reread: Option<Duration>,
    pub reread_every: Option<Duration>,
    pub is_full: bool,
    pub first_since: Option<Micros>,
    pub called_at: Micros,
    /// Rows of a batch, if rows are counted.
    pub batch_rows: u64,
    /// Replies that a batch of threads is to take.
    pub thread_replies: u64,
}

impl Parameters {
    pub fn first_threads(&self) -> u64 {
        FIRST_THREADS.min(self.batch_rows).min(self.thread_replies)
    }

    /// Makes batches so small that a step takes a quarter of the time after which Postgres cancels
    /// the statement: what was committed before stays. `rate`: requests a second.
    pub fn fit_into(&mut self, timeout: Duration, rate: f64) {
        let replies = (timeout.as_secs_f64() / 4.0 * rate).max(1.0) as u64;
        let rows = replies.saturating_mul(59).saturating_add(1);
        self.batch_rows = self.batch_rows.min(rows.max(LEAST_ROWS));
        self.thread_replies = self.thread_replies.min(replies.max(LEAST_REPLIES));
    }
}

/// A run of a page, between two of its steps.
#[derive(Clone, Debug)]
pub struct Run {
    pub kind: Kind,
    pub phase: Phase,
    pub began_at: Micros,
    /// It is a backfill that another call began: what changed since comes after it.
    pub resumes: bool,
    /// What is older is not wanted.
    pub first_since: Option<Micros>,
    /// Where a delta begins.
    pub since: Option<Micros>,
    /// Of threads: before this a stored message has no unstored one before it.
    pub known_to: Option<Micros>,
    /// The newest time of the run's first reply.
    pub newest: Option<Micros>,
    /// Where the next batch begins.
    pub high: Option<Micros>,
    /// Where the last one ends.
    pub low: Option<Micros>,
    /// Where the next batch ends, if it is a slice of time.
    pub edge: Option<Micros>,
    /// How long that slice is.
    pub span: Duration,
    /// Rows of the next batch, if rows are counted.
    pub batch: u64,
    /// Conversations at `high` whose threads the batch before has read.
    pub seam: Option<Vec<String>>,
    /// Conversations that show a time before `first_since`, and have moved after it.
    pub frozen: Option<Vec<String>>,
    /// The batch before was read of a list whose rows all have their place.
    pub is_dated: Option<bool>,
    /// No row of this phase was read before.
    pub read_at: Option<Micros>,
    /// Rows of the target that a full rescan looks for.
    pub census: Option<u64>,
    /// Conversations that were walked, and whose threads are read next.
    pub threads: Option<ThreadBatch>,
}

/// Down to where a list is walked that holds what is wanted since a time. The conversation that
/// began first may have the newest message: of those the list is read to its end.
pub fn floor(walk: &Walk, first_since: Option<Micros>) -> Option<Micros> {
    first_since.filter(|_| !walk.is_threads())
}

/// Returns the run that follows, `ended` being the one before. None where the page is done.
pub fn next(
    walk: &Walk,
    parameters: &Parameters,
    lane: Lane,
    marks: &Marks,
    ended: Option<&Run>,
    now: Micros,
) -> Option<Run> {
    let kind = match ended.map(|run| run.kind) {
        None if marks.has_past(walk) => lane.kind(),
        None => Kind::Backfill,
        Some(Kind::Backfill) if ended.is_some_and(|run| run.resumes) => Kind::Delta,
        Some(Kind::Delta) if !marks.backfill_done => Kind::Backfill,
        Some(Kind::Delta | Kind::Backfill) if rereads(walk, parameters, marks) => Kind::Reread,
        Some(_) => return None,
    };
    let phase = first_phase(walk, kind, marks);
    let mut since = marks.mark.map(|mark| mark.minus(parameters.lookback.max(LATE)));
    if kind == Kind::Reread {
        since = since.map(|at| at.min(marks.last_reread_at.unwrap_or(at).minus(LATE)));
    }
    Some(Run {
        kind,
        phase,
        began_at: now,
        resumes: ended.is_none() && phase == Phase::Past && marks.mark.is_some(),
        // Of first runs that brought nothing the parameters of the last one apply.
        first_since: if marks.mark.is_some() { marks.first_since } else { parameters.first_since }
            .filter(|_| walk.begun.is_some()),
        since,
        known_to: marks.known_to.or(since),
        newest: None,
        high: None,
        low: match phase {
            Phase::Again => marks.mark.map(|mark| mark.minus(parameters.reread.unwrap_or_default())),
            Phase::Changed => since,
            _ => None,
        },
        edge: None,
        span: FIRST_SPAN,
        batch: match (walk.batches, phase) {
            (Batches::Threads, Phase::Head) => HEAD_ROWS,
            (Batches::Threads, _) => parameters.first_threads(),
            _ => parameters.batch_rows,
        },
        seam: None,
        frozen: None,
        is_dated: (phase == Phase::Past && marks.is_sorted).then_some(false),
        read_at: None,
        census: None,
        threads: None,
    })
}

fn first_phase(walk: &Walk, kind: Kind, marks: &Marks) -> Phase {
    match (kind, walk.batches) {
        (Kind::Backfill, Batches::Whole) => Phase::All,
        (Kind::Backfill, Batches::Rows | Batches::Threads) if marks.mark.is_none() => Phase::Head,
        (Kind::Backfill, _) => Phase::Past,
        (Kind::Delta, Batches::Slices) => Phase::Changed,
        (Kind::Delta, Batches::Whole) | (Kind::Full, _) => Phase::Census,
        (Kind::Delta, _) => Phase::Head,
        (Kind::Reread, _) => Phase::Again,
    }
}

fn rereads(walk: &Walk, parameters: &Parameters, marks: &Marks) -> bool {
    let is_due =
        |every: Duration| marks.last_reread_at.is_none_or(|last| last <= parameters.called_at.minus(every));
    walk.changed.is_some()
        && marks.mark.is_some()
        && parameters.reread.is_some_and(|reread| !reread.is_zero())
        && (marks.last_reread_at.is_none() || parameters.reread_every.is_some_and(is_due))
}

impl Run {
    /// Returns whether a step reads the head of a list as it is shown, and not a part of it in the
    /// order of a time.
    pub fn reads_head(&self, walk: &Walk) -> bool {
        self.phase == Phase::Head || (self.phase == Phase::Changed && !walk.is_slices())
    }

    /// Returns whether the batches before may lack rows that stand at the bottom of the list for
    /// want of a time: since the last one began, such a row was seen. From then on the list is
    /// sorted, and each batch holds those whose turn it is.
    pub fn begins_anew(&self, is_dated: bool) -> bool {
        matches!(self.phase, Phase::Past | Phase::All) && self.is_dated != Some(false) && !is_dated
    }

    /// Goes on from a census to what is read.
    pub fn take_census(&mut self, walk: &Walk, census: Option<u64>) {
        self.census = census;
        self.phase = match walk.batches {
            Batches::Rows | Batches::Threads => Phase::Head,
            Batches::Slices | Batches::Whole => Phase::All,
        };
        self.low = self.first_since.filter(|_| self.phase == Phase::All);
    }

    /// Sets where the next batch begins and ends. Returns whether the marks moved: a list that is
    /// read from its top again has no frontier.
    pub fn set_window(&mut self, marks: &mut Marks, is_dated: bool, now: Micros) -> bool {
        let begins_anew = self.begins_anew(is_dated);
        if begins_anew {
            (self.high, self.seam) = (None, None);
            if self.phase == Phase::Past {
                marks.backfilled_to = None;
            }
        }
        if matches!(self.phase, Phase::Past | Phase::All) {
            self.is_dated = Some(is_dated);
        }
        if self.phase == Phase::Past {
            self.high = marks.backfilled_to.or(self.high);
            self.low = marks.backfill_from;
        }
        let edge = self.high.unwrap_or(now).minus(self.span);
        self.edge = if edge > self.low.unwrap_or(OLDEST_SLICE) { Some(edge) } else { self.low };
        begins_anew
    }

    /// Returns the column by which the next batch is walked.
    pub fn column(&self, walk: &Walk) -> Option<&'static str> {
        match self.phase {
            Phase::Head | Phase::Changed | Phase::Again => walk.changed,
            Phase::Begun | Phase::Past | Phase::All => walk.begun,
            Phase::Census | Phase::Gone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_fit_into_a_timeout() {
        let fitted = |seconds: f64, rate: f64| {
            let mut parameters = Parameters {
                lookback: Duration::ZERO,
                reread: None,
                reread_every: None,
                is_full: false,
                first_since: None,
                called_at: Micros(0),
                batch_rows: 4_721,
                thread_replies: THREAD_REPLIES,
            };
            parameters.fit_into(Duration::from_secs_f64(seconds), rate);
            (parameters.batch_rows, parameters.thread_replies, parameters.first_threads())
        };
        assert_eq!(fitted(600.0, 4.0), (4_721, 64, 30));
        assert_eq!(fitted(20.0, 4.0), (20 * 59 + 1, 20, 20));
        assert_eq!(fitted(0.1, 4.0), (178, 16, 16));
    }
}
