//! This module executes a CALL of `pancake.sync`: the pages are read at the same time, their steps
//! executed one after the other, whichever has its rows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pancake::error::Result;

use crate::fdw::ahead;
use crate::fdw::sync::failure::Failure;
use crate::fdw::sync::page::{Page, Prepared};
use crate::pg::report::notice;
use crate::pg::spi::execute;

/// How often a lane that is busy is tried again.
const PAUSE: Duration = Duration::from_millis(200);
const SHOW_EVERY: Duration = Duration::from_secs(10);
/// SQLSTATE of a statement that was cancelled.
const CANCELED: &str = "57014";

/// A CALL between two of its transactions.
pub struct Call {
    pages: Vec<Page>,
    unprepared: VecDeque<usize>,
    /// Pages whose lane is busy.
    paused: Vec<usize>,
    paused_at: Option<Instant>,
    /// The page whose step is prepared or executed.
    current: Option<usize>,
    done: usize,
    failures: Vec<Failure>,
    /// The error that ends the statement.
    ended: Option<Failure>,
    seen: u64,
    written: u64,
    shown_at: Instant,
}

impl Call {
    pub fn new(pages: Vec<Page>) -> Self {
        Self {
            unprepared: (0..pages.len()).collect(),
            pages,
            paused: Vec::new(),
            paused_at: None,
            current: None,
            done: 0,
            failures: Vec::new(),
            ended: None,
            seen: 0,
            written: 0,
            shown_at: Instant::now(),
        }
    }

    /// Prepares or executes a step. Returns whether there are more.
    pub fn step(&mut self) -> Result<bool> {
        // What their runs have written is committed.
        self.pages.iter_mut().for_each(Page::release);
        self.current = self.unprepared.pop_front();
        if let Some(place) = self.current {
            self.prepare(place)?;
        } else {
            self.current = ahead::ready();
            match self.current {
                Some(place) => self.execute(place)?,
                None if self.paused.is_empty() => return Ok(false),
                None => {
                    execute(&format!("SELECT pg_catalog.pg_sleep({})", PAUSE.as_secs_f64()), &[]);
                    self.unprepared.extend(self.paused.drain(..));
                }
            }
        }
        self.show();
        Ok(true)
    }

    fn prepare(&mut self, place: usize) -> Result<()> {
        let page = &mut self.pages[place];
        match page.prepare()? {
            Prepared::Step(reading) => {
                let _settings = page.settings();
                ahead::begin(place, reading.as_deref(), page.goes_on());
            }
            Prepared::Again => self.unprepared.push_back(place),
            Prepared::Busy => {
                self.paused.push(place);
                self.paused_at = Some(Instant::now());
            }
            Prepared::Done => self.done += 1,
        }
        Ok(())
    }

    fn execute(&mut self, place: usize) -> Result<()> {
        let executed = self.pages[place].execute()?;
        self.seen += executed.seen;
        self.written += executed.written;
        if executed.is_done {
            self.done += 1;
        } else {
            self.unprepared.push_back(place);
        }
        if self.paused_at.is_some_and(|at| at.elapsed() > PAUSE) {
            self.unprepared.extend(self.paused.drain(..));
        }
        Ok(())
    }

    /// Takes in the error that ended a step: it ends the page, or the statement. Returns whether
    /// there are more steps.
    pub fn fail(&mut self, failure: Failure) -> Result<bool> {
        let Failure { sqlstate, message, .. } = &failure;
        let current = self.current.take();
        if let Some(place) = current {
            let page = &mut self.pages[place];
            if page.begins_anew(sqlstate) {
                self.unprepared.push_back(place);
                return Ok(true);
            }
            // What its scans have requested counts.
            ahead::abandon(place);
            if page.skips_conversation(&failure)? {
                self.unprepared.push_back(place);
                return Ok(true);
            }
            page.fail(sqlstate, message);
            self.done += 1;
        }
        if current.is_none() || sqlstate == CANCELED {
            for (place, page) in self.pages.iter_mut().enumerate() {
                if page.is_running() {
                    page.resume();
                    ahead::abandon(place);
                    page.fail(sqlstate, message);
                }
            }
            self.ended = Some(failure);
            return Ok(false);
        }
        let page_id = current.map(|place| self.pages[place].page_id.clone()).unwrap_or_default();
        self.failures.push(Failure { page_id, ..failure });
        self.show();
        Ok(true)
    }

    /// Sends one line for all pages, if there are several: those of a page are in
    /// `pancake.progress`.
    fn show(&mut self) {
        let (done, pages) = (self.done, self.pages.len());
        let is_over = done == pages && self.current.is_some();
        if pages == 1 || !(is_over || self.shown_at.elapsed() > SHOW_EVERY) {
            return;
        }
        self.shown_at = Instant::now();
        let failed = match self.failures.len() {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        let (seen, written) = (self.seen, self.written);
        let synced = done - self.failures.len();
        notice(format!("{synced} of {pages} pages done{failed}: {seen} rows seen, {written} written"));
    }

    /// Returns the error of the statement. One error for all pages that failed: the others were
    /// synced.
    pub fn outcome(&mut self) -> Option<Failure> {
        if let Some(ended) = self.ended.take() {
            return Some(ended);
        }
        self.failures.sort_by(|a, b| a.page_id.cmp(&b.page_id));
        let (failed, pages) = (self.failures.len(), self.pages.len());
        let first = self.failures.first()?.clone();
        if pages == 1 {
            return Some(first);
        }
        let list = |of: &dyn Fn(&Failure) -> String, by: &str| {
            self.failures.iter().map(of).collect::<Vec<_>>().join(by)
        };
        let names = list(&|f| f.page_id.clone(), ", ");
        let others = if failed < pages { "The other pages were synced. " } else { "" };
        Some(Failure {
            message: format!("sync failed for {failed} of {pages} pages: {names}"),
            detail: list(&|f| format!("Page {}: {} ({}).", f.page_id, f.message, f.sqlstate), " "),
            hint: format!("{others}{}", first.hint).trim_end().to_owned(),
            ..first
        })
    }
}
