//! This module ends a step: it moves the marks, counts what was done, and starts the run that
//! follows. What a step means for the marks is decided in `pancake::sync::settle`.

use std::sync::atomic::Ordering::Relaxed;

use pancake::error::Result;
use pancake::sync::marks::Marks;
use pancake::sync::run;
use pancake::sync::settle::{Facts, StepResult};
use pancake::sync::shape::Shape;
use pancake::time::Micros;

use crate::fdw::functions::server_time;
use crate::fdw::outcome::IS_CUT;
use crate::fdw::sync::marks::{self, RunTotals, texts};
use crate::fdw::sync::page::{Page, Prepared, now, requests};
use crate::pg::catalog::table_name;
use crate::pg::report::notice;
use crate::pg::spi::{execute, first};

impl Page {
    pub(super) fn settle(
        &mut self,
        shape: &Shape,
        is_alive: bool,
        mut result: StepResult,
    ) -> Result<Prepared> {
        let Some((run_id, mut run)) = self.run.clone() else { return Ok(Prepared::Done) };
        let Some(mut marks) = self.marks(true)?.filter(|_| is_alive) else {
            self.record_failure("55000", "the rows or the marks of the target went away meanwhile");
            let target = table_name(self.target);
            notice(format!(
                "page {}: the rows or the marks of {target} went away meanwhile: starting again",
                self.page_id
            ));
            self.leave();
            return Ok(Prepared::Again);
        };
        let step_requests = requests() - self.requests_before;
        let mut is_cut = IS_CUT.load(Relaxed);
        if let Some(batch) = run.threads.take() {
            self.end_skips(&batch.threads);
            is_cut = batch.is_cut;
            result = StepResult {
                walked: batch.walked,
                lowest: batch.lowest,
                newest: batch.newest,
                seam: batch.seam,
                ..result
            };
        }
        let facts = Facts {
            server_time: server_time(),
            now: now(),
            is_cut,
            is_dated: self.is_dated()?,
            requests: step_requests,
            kept: if run.needs_kept(&marks) { self.kept(shape, &result.ids) } else { Vec::new() },
        };
        if run.census.is_some() && !result.ids.is_empty() {
            let found = format!("DELETE FROM {} WHERE id = ANY ($1)", marks::census(run_id));
            execute(&found, &[texts(Some(result.ids.clone()))]);
        }
        let counts = result.counts(run.phase);
        let lowest = result.lowest;
        let is_over = run.settle(&self.walk, &self.parameters, &mut marks, result, &facts);
        marks::write(self, &marks)?;
        let totals = marks::count(self, run_id, counts, step_requests, is_over)?;
        self.run = Some((run_id, run));
        if !is_over {
            self.show_step(&totals, lowest);
            return Ok(Prepared::Again);
        }
        self.end_run(run_id, &marks, &totals)
    }

    fn end_run(&mut self, run_id: i64, marks: &Marks, totals: &RunTotals) -> Result<Prepared> {
        let Some((_, run)) = self.run.clone() else { return Ok(Prepared::Done) };
        if run.census.is_some() {
            execute(&format!("DROP TABLE {}", marks::census(run_id)), &[]);
        }
        if self.is_alone {
            let RunTotals { seen, inserted, updated, unchanged, removed, requests } = *totals;
            let (page_id, kind) = (&self.page_id, run.kind.name());
            let noun = if requests == 1 { "request" } else { "requests" };
            notice(format!(
                "page {page_id}: {kind} done: {seen} seen, {inserted} inserted, {updated} updated, \
                 {unchanged} unchanged, {removed} removed, {requests} {noun}"
            ));
        }
        if run.kind == run::Kind::Backfill && self.parameters.is_full {
            // The rescan is made in the other lane.
            self.leave();
            return Ok(Prepared::Again);
        }
        self.start(marks, Some(&run))
    }

    fn show_step(&self, totals: &RunTotals, lowest: Option<Micros>) {
        if let (true, Some((_, run))) = (self.is_alone, &self.run) {
            let back = lowest.map(|at| format!(", back to {}", at.iso())).unwrap_or_default();
            notice(format!("page {}: {}: {} rows{back}", self.page_id, run.kind.name(), totals.seen));
        }
    }

    /// Returns those of the rows that the target holds, in their order.
    fn kept(&self, shape: &Shape, ids: &[String]) -> Vec<String> {
        let query = format!(
            "SELECT array_agg(i.id ORDER BY i.n) FROM unnest($1) WITH ORDINALITY i (id, n)
             WHERE EXISTS (SELECT FROM {} t WHERE t.id = i.id{})",
            shape.target,
            shape.of_page(&self.page_id)
        );
        let kept = first(&query, &[texts(Some(ids.to_vec()))], |row| row.get_one::<Vec<String>>());
        kept.flatten().unwrap_or_default()
    }
}
