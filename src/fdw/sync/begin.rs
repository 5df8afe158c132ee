//! This module begins a page of a sync: it checks what the caller may and has, takes the lane, and
//! starts the runs that are due.

use pancake::error::{Error, Kind, Result};
use pancake::sync::marks::Marks;
use pancake::sync::run::{self, Lane, Run};
use pancake::sync::shape::Shape;
use pgrx::PgSqlErrorCode;

use crate::fdw::sync::marks::{self, at, texts};
use crate::fdw::sync::page::{Page, Prepared, now};
use crate::fdw::sync::tables;
use crate::pg::catalog::table_name;
use crate::pg::lock::SessionLock;
use crate::pg::report::{notice, replacing};
use crate::pg::spi::{execute, first};

impl Page {
    /// Decides what is to be done, and takes the lane for it if it is free.
    pub(super) fn begin(&mut self) -> Result<Prepared> {
        marks::check_rights(self.target)?;
        let may = "SELECT has_any_column_privilege($1, 'SELECT') AND has_any_column_privilege($1, 'UPDATE')";
        if first(may, &self.values(), |row| row.get_one::<bool>()).flatten() != Some(true) {
            return Err(marks::no_rights(self.target));
        }
        let shape = tables::shape(self)?;
        let stored = marks::read(self, false)?;
        let of_page = |marks: &Option<marks::StoredMarks>| {
            marks.as_ref().map(|stored| stored.marks.clone()).unwrap_or_default()
        };
        let mut marks = of_page(&stored);
        if let Some(stored) = stored.as_ref().filter(|stored| stored.object != self.object.name()) {
            let (target, page_id) = (table_name(self.target), &self.page_id);
            return Err(Error::new(
                Kind::WrongState,
                format!("{target} holds {} of page {page_id} already", stored.object),
            )
            .hint("Give each object a target of its own, or forget the marks with pancake.sync_reset()."));
        }
        self.explain(&shape, &marks)?;
        let is_alive = marks.witnesses.as_ref().is_none_or(|ids| self.is_alive(&shape, ids));
        let has_past = is_alive && marks.has_past(&self.walk);
        self.lane = if self.parameters.is_full && has_past { Lane::Full } else { Lane::Delta };
        if !self.take_lane() {
            return self.wait_or_skip(has_past);
        }
        if marks::read(self, false)? != stored {
            // What the other run left is looked at anew.
            self.lock = None;
            return Ok(Prepared::Again);
        }
        if !is_alive {
            notice(format!(
                "page {}: {} does not hold the rows any more that were copied into it: everything is read again",
                self.page_id,
                table_name(self.target)
            ));
            marks::reset(self);
            marks = Marks::default();
        }
        self.start(&marks, None)
    }

    /// Raises Postgres's own error if something is missing that the statements need.
    fn explain(&self, shape: &Shape, marks: &Marks) -> Result<()> {
        let now = now();
        let run = run::next(&self.walk, &self.parameters, Lane::Delta, marks, None, now);
        if let Some(run) = run {
            let upsert = self.step(shape, &run, now).upsert(&shape.source);
            let explain = || execute(&format!("EXPLAIN {upsert}"), &[texts::<String>(None), at(Some(now))]);
            replacing(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, explain, |message| {
                Error::new(Kind::NotSupported, message).hint(
                    "If the target is distributed, it needs the key (page_id, id), and page_id as its distribution column.",
                )
            });
        }
        Ok(())
    }

    pub(super) fn is_alive(&self, shape: &Shape, witnesses: &[Option<String>]) -> bool {
        let query = format!(
            "SELECT EXISTS (SELECT FROM {} t WHERE t.id = ANY ($1){})",
            shape.target,
            shape.of_page(&self.page_id)
        );
        first(&query, &[texts(Some(witnesses.to_vec()))], |row| row.get_one::<bool>()).flatten() == Some(true)
    }

    fn take_lane(&mut self) -> bool {
        let key = "SELECT pancake_internal.sync_lane($1, $2, $3)";
        let values = [self.target.into(), self.page_id.as_str().into(), self.lane.name().into()];
        let key = first(key, &values, |row| row.get_one::<i64>()).flatten().unwrap_or_default();
        self.lock = SessionLock::try_take(key);
        self.lock.is_some()
    }

    fn wait_or_skip(&self, has_past: bool) -> Result<Prepared> {
        if now() < self.parameters.called_at.plus(self.patience) {
            return Ok(Prepared::Busy);
        }
        marks::skip(self, if has_past { self.lane.kind() } else { run::Kind::Backfill })?;
        let target = table_name(self.target);
        notice(format!("page {}: skipped: another sync into {target} is running", self.page_id));
        Ok(Prepared::Done)
    }

    /// Starts the run that follows, and prepares it again.
    pub(super) fn start(&mut self, marks: &Marks, ended: Option<&Run>) -> Result<Prepared> {
        let Some(run) = run::next(&self.walk, &self.parameters, self.lane, marks, ended, now()) else {
            self.leave();
            return Ok(Prepared::Done);
        };
        let run_id = marks::start(self, &run)?;
        self.read_skips();
        self.run = Some((run_id, run));
        Ok(Prepared::Again)
    }
}
