//! This module finds the rows of a copy that a full rescan did not find.

use pancake::error::Result;
use pancake::sync::marks::Marks;
use pancake::sync::run::{self, Run};
use pancake::sync::shape::Shape;
use pancake::sync::sql::{literal, time_text};
use pancake::sync::statement::Step;

use crate::fdw::sync::marks::{self, at};
use crate::fdw::sync::page::{Page, now};
use crate::pg::report::{notice, warning};
use crate::pg::spi::{execute, first};

impl Page {
    /// Stores which rows of the target a full rescan looks for: a row that was in the copy when it
    /// began, and that it does not find, is gone. Only rows that some run has seen count, for a
    /// webhook may know a conversation before the list shows it: those not newer than the mark. A
    /// list without times is known by the sync alone.
    pub(super) fn take_census(&self, run_id: i64, run: &Run, shape: &Shape, marks: &Marks) -> Option<u64> {
        if !shape.has_removed || (!shape.has_inserted && marks.first_since.is_some()) {
            if run.kind == run::Kind::Full {
                notice(format!(
                    "page {}: rows that are gone are not marked: {} has no column {}",
                    self.page_id,
                    shape.target,
                    if shape.has_removed { "inserted_at" } else { "removed_at" }
                ));
            }
            return None;
        }
        let census = marks::census(run_id);
        let dated = self.walk.dated.map(|dated| format!(" AND t.{dated} <= $1")).unwrap_or_default();
        // Without a type, because the column may be of another.
        let since =
            marks.first_since.map(|since| format!(" AND t.inserted_at >= {}", literal(&time_text(since))));
        let since = since.unwrap_or_default();
        execute(&format!("CREATE TABLE {census} (id text PRIMARY KEY)"), &[]);
        let fill = format!(
            "INSERT INTO {census} SELECT t.id FROM {target} t WHERE t.removed_at IS NULL{dated}{since}{of_page}",
            target = shape.target,
            of_page = shape.of_page(&self.page_id),
        );
        Some(execute(&fill, &[at(marks.mark)]))
    }

    /// Returns the statement that marks what is gone. A page that suddenly lacks a tenth of its
    /// rows is rather a fault on the way than a shop that deleted them. Of a whole list, which is
    /// short and comes in one reply, a delta takes only for a fault that it is empty.
    pub(super) fn removal(&self, run_id: i64, step: &Step) -> Result<String> {
        const NOTHING: &str = "SELECT WHERE false";
        let Some(census) = step.run.census else { return Ok(NOTHING.to_owned()) };
        let query = format!("SELECT array_agg(id ORDER BY id) FROM {}", marks::census(run_id));
        let gone = first(&query, &[], |row| row.get_one::<Vec<String>>()).flatten().unwrap_or_default();
        let is_full = step.run.kind == run::Kind::Full;
        let count = gone.len() as u64;
        if count == 0 {
            return Ok(NOTHING.to_owned());
        }
        if count * 10 > census && (is_full || count == census) {
            let names: Vec<_> = gone.iter().take(5).map(|id| literal(id)).collect();
            let much = if is_full { "More than a tenth" } else { "A list without any of them" };
            warning(
                format!(
                    "page {}: {count} of {census} rows were not found, none is marked as removed",
                    self.page_id
                ),
                format!("The first of them: {}.", names.join(", ")),
                format!("{much} is taken for a fault. If they are really gone, set removed_at by hand."),
            );
            return Ok(NOTHING.to_owned());
        }
        Ok(step.removal(&gone, now()))
    }
}
