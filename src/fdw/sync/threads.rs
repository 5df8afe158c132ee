//! This module reads which threads a step of messages reads, and leaves out those that cannot be
//! had. What follows from a failure is decided in `pancake::sync::skips`.

use std::sync::atomic::Ordering::Relaxed;

use pancake::error::Result;
use pancake::sync::run::{self, Phase};
use pancake::sync::settle::Counts;
use pancake::sync::skips::{self, AfterFailure, Reading, Skips};
use pancake::sync::sql::identifier;
use pancake::sync::threads::{ListResult, Thread, ThreadBatch};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::{SpiResult, SpiTupleTable};

use crate::fdw::functions::micros;
use crate::fdw::outcome::{FAILED_CONVERSATION, IS_CUT};
use crate::fdw::sync::failure::Failure;
use crate::fdw::sync::marks::{self, at, texts};
use crate::fdw::sync::page::{Page, PreparedStep, now, requests};
use crate::pg::catalog::table_name;
use crate::pg::report::notice;
use crate::pg::scope::SettingsScope;
use crate::pg::spi::{execute, first};

impl Page {
    /// Executes the query of a list. Returns also which of its conversations are left out.
    pub(super) fn read_list(&self, step: &PreparedStep) -> Result<(ThreadBatch, Vec<String>)> {
        let (Some(reading), Some((_, run))) = (&step.reading, &self.run) else {
            return Ok(Default::default());
        };
        let mut list = {
            let _settings = self.settings();
            first(reading, &[], read_list).unwrap_or_default()
        };
        list.batch.is_cut = IS_CUT.load(Relaxed);
        let is_head = run.reads_head(&self.walk);
        let mut batch = list.into_batch(run, is_head);
        let read_at = run.read_at.unwrap_or_else(now);
        if let Some(bounds) = self.step(&step.shape, run, read_at).thread_bounds() {
            let ids = batch.threads.iter().map(|thread| thread.id.clone()).collect();
            let bounds = first(&bounds, &[texts(Some(ids))], |row| {
                row.get_one::<Vec<Option<TimestampWithTimeZone>>>()
            });
            let bounds = bounds.flatten().unwrap_or_default();
            for (thread, bound) in batch.threads.iter_mut().zip(bounds) {
                thread.bound = micros(bound);
            }
        }
        let reading = match (run.kind, run.phase) {
            (run::Kind::Full | run::Kind::Backfill, _) => Reading::Whole,
            (run::Kind::Delta, Phase::Head) => Reading::HeadOfDelta,
            _ => Reading::Partial,
        };
        let left_out = self.skips.apply(&mut batch.threads, reading);
        Ok((batch, left_out))
    }

    /// Takes the threads that are read next. Returns whether there are any.
    pub(super) fn add_threads(&mut self, batch: ThreadBatch, left_out: &[String]) -> Result<bool> {
        let has_threads = !batch.threads.is_empty();
        let Some((run_id, run)) = &mut self.run else { return Ok(false) };
        let (run_id, has_census) = (*run_id, run.census.is_some());
        run.threads = Some(batch);
        let _scope = SettingsScope::internal();
        if has_census {
            left_out.iter().for_each(|id| self.forget_in_census(run_id, id));
        }
        if has_threads {
            let requests = requests() - self.requests_before;
            marks::count(self, run_id, Counts::default(), requests, false)?;
        }
        Ok(has_threads)
    }

    /// Reads which conversations failed before.
    pub(super) fn read_skips(&mut self) {
        if !self.walk.is_threads() {
            return;
        }
        let noted = "
            SELECT array_agg(s.conversation_id ORDER BY s.next_try_at),
                array_agg(s.next_try_at <= clock_timestamp() ORDER BY s.next_try_at)
            FROM pancake_internal.sync_skips s WHERE s.target = $1 AND s.page_id = $2 AND NOT s.forgotten";
        let noted = first(noted, &[self.target.into(), self.page_id.as_str().into()], |row| {
            Ok((row.get::<Vec<String>>(1)?, row.get::<Vec<bool>>(2)?))
        });
        let (ids, due) = noted.unwrap_or_default();
        self.skips = Skips::new(ids.unwrap_or_default().into_iter().zip(due.unwrap_or_default()));
    }

    /// The threads were read: what had failed of them is done.
    pub(super) fn end_skips(&mut self, threads: &[Thread]) {
        let read = self.skips.succeeded(threads);
        if !read.is_empty() {
            execute(
                "UPDATE pancake_internal.sync_skips s SET forgotten = true
                 WHERE s.target = $1 AND s.page_id = $2 AND s.conversation_id = ANY ($3)",
                &[self.target.into(), self.page_id.as_str().into(), texts(Some(read))],
            );
        }
    }

    /// Leaves out the conversation whose thread could not be had. Returns whether the run goes on
    /// without it.
    pub fn skips_conversation(&mut self, failure: &Failure) -> Result<bool> {
        let failed = FAILED_CONVERSATION.take().filter(|_| skips::is_of_one_thread(&failure.sqlstate));
        let (Some(id), Some((run_id, run))) = (failed, &mut self.run) else { return Ok(false) };
        let (run_id, has_census) = (*run_id, run.census.is_some());
        let Some(batch) = &mut run.threads else { return Ok(false) };
        if !batch.threads.iter().any(|thread| thread.id == id) {
            return Ok(false);
        }
        let after = self.skips.failed(&id, &mut batch.threads);
        let _scope = SettingsScope::internal();
        self.note_skip(&id, &failure.message);
        if has_census {
            self.forget_in_census(run_id, &id);
        }
        if after == AfterFailure::EndRun {
            return Ok(false);
        }
        self.prepared = None;
        marks::count(self, run_id, Counts::default(), requests() - self.requests_before, false)?;
        notice(format!("page {}: conversation {id} is skipped: {}", self.page_id, failure.message));
        Ok(true)
    }

    fn note_skip(&self, id: &str, message: &str) {
        let values = |tries: u32| {
            [
                self.target.into(),
                self.page_id.as_str().into(),
                id.into(),
                at(Some(now().plus(skips::pause(tries)))),
                message.into(),
            ]
        };
        let tries = first(
            "INSERT INTO pancake_internal.sync_skips AS s (target, page_id, conversation_id, since, tries, next_try_at, last_error)
             VALUES ($1, $2, $3, clock_timestamp(), 1, $4, $5)
             ON CONFLICT (target, page_id, conversation_id) DO UPDATE
             SET since = CASE WHEN s.forgotten THEN EXCLUDED.since ELSE s.since END,
                 tries = CASE WHEN s.forgotten THEN 1 ELSE s.tries + 1 END, forgotten = false,
                 next_try_at = EXCLUDED.next_try_at, last_error = EXCLUDED.last_error
             RETURNING s.tries",
            &values(1),
            |row| row.get_one::<i32>(),
        );
        let tries = tries.flatten().and_then(|tries| u32::try_from(tries).ok()).unwrap_or(1);
        if tries > 1 {
            execute(
                "UPDATE pancake_internal.sync_skips s SET next_try_at = $4, last_error = $5
                 WHERE s.target = $1 AND s.page_id = $2 AND s.conversation_id = $3",
                &values(tries),
            );
        }
    }

    /// What is left out is not gone.
    fn forget_in_census(&self, run_id: i64, id: &str) {
        let census = marks::census(run_id);
        let (target, thread) = (table_name(self.target), identifier(self.walk.thread.unwrap_or_default()));
        execute(
            &format!("DELETE FROM {census} c USING {target} t WHERE t.id = c.id AND t.{thread} = $1"),
            &[id.into()],
        );
    }
}

/// Reads ids, times, due, lowest, newest, walked, seam.
fn read_list(row: SpiTupleTable) -> SpiResult<ListResult> {
    let times = row.get::<Vec<Option<TimestampWithTimeZone>>>(2)?.unwrap_or_default();
    let time = |column| row.get::<TimestampWithTimeZone>(column).map(micros);
    Ok(ListResult {
        ids: row.get(1)?.unwrap_or_default(),
        times: times.into_iter().map(micros).collect(),
        due: row.get(3)?.unwrap_or_default(),
        batch: ThreadBatch {
            lowest: time(4)?,
            newest: time(5)?,
            walked: row.get::<i64>(6)?.unwrap_or(0) as u64,
            seam: row.get(7)?,
            ..ThreadBatch::default()
        },
    })
}
