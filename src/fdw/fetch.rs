//! This module is the backend's side of a scan that runs in the worker thread: it is prepared, its
//! batches are ordered and awaited, and it shows how far it is. What becomes of the rows is
//! `scan`'s matter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use pancake::error::Result;
use pancake::paging::cursor::{End, FULL_BATCH};
use pancake::plan::filter::Filterable;
use pancake::plan::request::RequestPlan;
use pancake::reply::decode::Row;
use pancake::scan::ahead::{AheadScan, ByteLimit, RowTargets, Stage};
use pancake::scan::queue::{BatchQueue, Event};
use pancake::scan::run::Scan;
use pancake::stats::{ScanStats, Waiting};
use pancake::time::Micros;
use pgrx::pg_sys;

use crate::fdw::outcome::{FAILED_CONVERSATION, IS_CUT, RECEIVED, REPLIED_AT, REQUESTS};
use crate::fdw::session::{session, show_progress, wanted};
use crate::fdw::slot::ColumnWriter;
use crate::pg::catalog::ForeignTable;
use crate::pg::report::notice;
use crate::pg::settings;
use crate::pg::shared::Progress;
use crate::pg::wait::WakeEvent;
use crate::pg::worker::{RunningTask, Worker};

/// How often a waiting backend shows how far it is.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// Why a scan asks for nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// No further row was needed.
    EnoughRows,
    NeverStarted,
    NothingCanMatch,
    Ended(End),
}

/// A scan that runs, and the batch that is being handed out.
pub struct Fetch {
    queue: Arc<BatchQueue>,
    /// The queue has something that was not looked at.
    news: Arc<AtomicBool>,
    pub wake_event: &'static WakeEvent,
    pub tally: Arc<ScanStats>,
    page_id: String,
    /// Requests of the tally that are in `REQUESTS`, or were there before this fetch.
    counted: u64,
    _running: RunningTask,
    rows: std::vec::IntoIter<Row>,
    batches: usize,
    batch_size: usize,
    received: u64,
    /// The row, counted from the scan's first one, behind which nothing is fetched ahead.
    limit: Option<u64>,
    /// The limit is more than one reply may hold.
    is_long: bool,
    whole: bool,
    /// Another batch has been ordered and has not come yet.
    ordered: bool,
    /// While it is read ahead.
    ahead: Option<ReadAhead>,
    /// The row behind which the scan reads nothing.
    read_to: u64,
    /// The statement may end with the rows at hand: the rest is for a later one.
    may_be_cut: bool,
    /// Time of the last row that was handed to the statement.
    last_at: Option<Micros>,
    over: Option<StopReason>,
    progress: Option<&'static Progress>,
    last_notice: Instant,
    started: Instant,
}

/// Orders the batches of a fetch until it is dropped.
struct ReadAhead {
    _running: RunningTask,
    scan: Arc<AheadScan>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What a fetch has to give.
pub enum NextRow {
    Row(Row),
    Over(StopReason),
    /// Nothing yet, for a caller that may not wait.
    Later,
}

impl Fetch {
    /// Sets the worker to a plan. Nothing is asked before the first row is wanted.
    pub fn start(
        table: &ForeignTable,
        user: pg_sys::Oid,
        plan: RequestPlan,
        writers: &[ColumnWriter],
        tally: &Arc<ScanStats>,
    ) -> Result<Self> {
        let wake_event = &Worker::get()?.wake_event;
        let news = Arc::new(AtomicBool::new(false));
        let tell = news.clone();
        let queue = BatchQueue::new(Box::new(move || {
            tell.store(true, SeqCst);
            wake_event.notify();
        }));
        let (limit, whole) = (plan.limit, plan.whole);
        let wanted = wanted(table, writers)?;
        let session = session(table, user, tally.clone())?;
        let trusts_post_ids = table.table.pushdown.trusts(Filterable::PostId);
        let scan = Scan { session, plan, trusts_post_ids, wanted, queue: queue.clone() };
        Ok(Self {
            progress: show_progress(table, tally)?,
            _running: Worker::get()?.spawn(scan.run()),
            queue,
            news,
            wake_event,
            tally: tally.clone(),
            page_id: table.table.page_id.clone().unwrap_or_default(),
            counted: tally.requests.get(),
            rows: Vec::new().into_iter(),
            batches: 0,
            batch_size: 0,
            received: 0,
            limit,
            is_long: is_long(limit),
            whole,
            ordered: false,
            ahead: None,
            read_to: limit.unwrap_or(u64::MAX),
            may_be_cut: false,
            last_at: None,
            over: None,
            last_notice: Instant::now(),
            started: Instant::now(),
        })
    }

    /// The next row. Waits for it, if need be and if it may; raises where the statement is
    /// cancelled meanwhile.
    pub fn next(&mut self, may_wait: bool) -> Result<NextRow> {
        let next = self.take_next(may_wait);
        RECEIVED.store(self.rows.len() as u64, Relaxed);
        if let Ok(NextRow::Row(row)) = &next {
            self.last_at = Some(row.at);
        }
        next
    }

    fn take_next(&mut self, may_wait: bool) -> Result<NextRow> {
        if let Some(row) = self.rows.next() {
            // A long scan orders ahead, if it may; where it may be a short one, the first batch
            // alone must do.
            let enough = self.limit.is_some_and(|limit| self.received >= limit);
            let is_long = self.whole || (self.batches > 1 && settings::max_concurrency() > 1);
            if is_long && !enough && self.rows.len() <= self.batch_size / 2 {
                self.order();
            }
            return Ok(NextRow::Row(row));
        }
        loop {
            if let Some(over) = self.over {
                return Ok(NextRow::Over(over));
            }
            self.order();
            self.news.store(false, SeqCst);
            match self.queue.take() {
                Some(Event::Batch(rows)) => {
                    self.note_reply();
                    self.ordered = false;
                    self.batches += 1;
                    self.batch_size = rows.len();
                    self.received += rows.len() as u64;
                    self.ahead.iter().for_each(|ahead| ahead.scan.count());
                    self.rows = rows.into_iter();
                    self.show();
                    if let Some(first) = self.rows.next() {
                        return Ok(NextRow::Row(first));
                    }
                }
                Some(Event::Ended(end)) => {
                    self.note_reply();
                    self.over = Some(end.map_or(StopReason::NothingCanMatch, StopReason::Ended));
                    self.finish();
                }
                Some(Event::Failed(error)) => {
                    FAILED_CONVERSATION.set(error.conversation_id().map(str::to_owned));
                    self.finish();
                    return Err(error);
                }
                None if self.may_be_cut && self.last_at.is_some() => {
                    IS_CUT.store(true, Relaxed);
                    return Ok(NextRow::Over(StopReason::EnoughRows));
                }
                None if !may_wait => {
                    self.show();
                    return Ok(NextRow::Later);
                }
                None => {
                    self.show();
                    self.wake_event
                        .wait(settings::progress_interval().map_or(HEARTBEAT, |every| every.min(HEARTBEAT)));
                }
            }
        }
    }

    fn note_reply(&self) {
        if let Some(replied_at) = self.tally.replied_at.get() {
            REPLIED_AT.store(replied_at.0, Relaxed);
        }
    }

    /// Whether it is worth asking for the next row again.
    pub fn has_news(&self) -> bool {
        self.news.load(SeqCst)
    }

    /// Orders another batch of the worker.
    pub fn order(&mut self) {
        let is_ordered = std::mem::replace(&mut self.ordered, true);
        if !is_ordered && self.queue.requested() <= self.batches as u64 {
            self.queue.want();
        }
    }

    /// Orders batches before a statement takes rows: the first one, and the others that a long scan
    /// takes in any case. Of a sorted scan the rows of one statement more are ordered, so that the
    /// worker does not stop while rows are written.
    pub fn read_ahead(&mut self, bytes: ByteLimit, is_sorted: bool) -> Result<()> {
        let enough = match self.limit {
            Some(limit) if self.is_long => limit,
            None if self.whole => u64::MAX,
            _ => 0,
        };
        let most = if is_sorted { enough.saturating_add(enough - self.taken().min(enough)) } else { enough };
        if most > self.read_to {
            self.queue.raise_limit(most - self.read_to);
            self.read_to = most;
        }
        let scan = AheadScan::new(self.queue.clone(), bytes, RowTargets { enough, most });
        self.ahead = Some(ReadAhead { _running: Worker::get()?.spawn(scan.clone().order()), scan });
        Ok(())
    }

    /// Returns how far it is read ahead, and the bytes that a statement could take.
    pub fn ahead(&self) -> (Stage, usize) {
        self.ahead.as_ref().map_or((Stage::Complete, 0), |ahead| (ahead.scan.stage(), ahead.scan.bytes()))
    }

    /// Hands the scan to a statement. If it is long and sorted, a later statement can go on with
    /// it, so this one may end with the rows at hand.
    pub fn taken_over(mut self, is_sorted: bool) -> Self {
        self.may_be_cut = is_sorted && self.is_long;
        self.last_at = None;
        self.ahead = self.ahead.take_if(|_| self.may_be_cut);
        self
    }

    /// Returns the time of the last row, if this is a long scan that can go on behind it.
    pub fn stopped_at(&self) -> Option<Micros> {
        self.last_at.filter(|_| self.is_long && self.over.is_none())
    }

    /// Prepares for a later statement, which takes so many rows behind those that were taken.
    pub fn goes_on(mut self, limit: Option<u64>) -> Self {
        self.limit = limit.map(|limit| self.taken().saturating_add(limit));
        self.is_long = is_long(limit);
        self
    }

    /// Rows that statements have taken.
    fn taken(&self) -> u64 {
        self.received - self.rows.len() as u64
    }

    /// Shows how far it is in `pancake.progress`.
    pub fn show_progress(&self) {
        if let Some(progress) = self.progress {
            progress.show(&self.tally);
        }
    }

    /// Shows how far it is, also by a NOTICE.
    pub fn show(&mut self) {
        self.show_progress();
        let Some(every) = settings::progress_interval() else { return };
        if self.last_notice.elapsed() < every {
            return;
        }
        self.last_notice = Instant::now();
        let (requests, rows) = (self.tally.requests.get(), self.tally.rows.get());
        let rate = rows as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let back =
            self.tally.oldest_row.get().map(|at| format!(", back to {}", at.iso())).unwrap_or_default();
        let waiting = match self.tally.waiting_for() {
            Waiting::Nothing | Waiting::Consumer => String::new(),
            waiting => format!(", waiting for {}", waiting.text()),
        };
        let noun = if requests == 1 { "request" } else { "requests" };
        let page_id = &self.page_id;
        notice(format!(
            "pancake_fdw: page {page_id}: {requests} {noun}, {rows} rows, {rate:.0} rows/s{back}{waiting}"
        ));
    }

    /// The scan is over: nothing is shown as running any more.
    fn finish(&mut self) {
        self.hide_progress();
        self.count_requests();
    }

    /// Removes its line from `pancake.progress`.
    pub fn hide_progress(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.release();
        }
    }

    /// Adds the requests since the last time to those of this backend.
    pub fn count_requests(&mut self) {
        let requests = self.tally.requests.get();
        REQUESTS.fetch_add(requests - std::mem::replace(&mut self.counted, requests), Relaxed);
    }
}

fn is_long(limit: Option<u64>) -> bool {
    limit.is_some_and(|limit| limit > FULL_BATCH as u64)
}
