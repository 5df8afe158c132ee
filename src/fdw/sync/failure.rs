//! This module records the errors that end a step, and with it a page.

use pancake::error::Kind;
use pancake::sync::run;

use crate::fdw::sync::marks;
use crate::fdw::sync::page::{Page, requests};
use crate::pg::scope::SettingsScope;

/// An error as the procedure raises it.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    pub page_id: String,
    pub sqlstate: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

impl Page {
    /// Returns whether the step is prepared again after an error: the scan met a row far below its
    /// place, and the list is sorted from now on.
    pub fn begins_anew(&mut self, sqlstate: &str) -> bool {
        if sqlstate != Kind::NotUnderstood.sqlstate() {
            return false;
        }
        let is_dated = self.is_dated().unwrap_or(true);
        match &mut self.run {
            Some((_, run)) if run.is_dated == Some(true) && run.begins_anew(is_dated) => {
                run.is_dated = None;
                self.prepared = None;
                true
            }
            _ => false,
        }
    }

    /// Records the error that ended a step, and ends the page.
    pub fn fail(&mut self, sqlstate: &str, message: &str) {
        self.record_failure(sqlstate, message);
        self.leave();
    }

    pub(super) fn record_failure(&self, sqlstate: &str, message: &str) {
        let _scope = SettingsScope::internal();
        let requests = requests() - self.requests_before;
        let (run_id, kind) = match &self.run {
            Some((run_id, run)) => (Some(*run_id), run.kind),
            None if self.parameters.is_full => (None, run::Kind::Full),
            None => (None, run::Kind::Delta),
        };
        marks::fail(self, kind, run_id, sqlstate, message, requests);
    }
}
