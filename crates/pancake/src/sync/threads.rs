//! This module reads lists without a list of their own. What is walked are the conversations of the
//! page, in one step, and of each that is wanted its thread is read in the next one.
//!
//! Of a conversation that is known, its messages are read down to one that is stored, and in a
//! delta only: so each has a bound of its own, and a scan of its own. Those of which nothing is
//! stored, or all is to be read, are read by one scan.
//!
//! A webhook stores the newest message first, so not every stored message proves that those before
//! it are stored as well. Those from before the delta's window do: the runs before have read the
//! threads of all that had changed by then. Not so a run of several batches, for a conversation
//! that moved up meanwhile may have been in none of them: then `known_to` stays where it was, until
//! the head of a delta holds all that changed.

use crate::sync::run::{Kind, Phase, Run};
use crate::sync::sql::{identifier, literal, texts, time};
use crate::sync::statement::{Step, bounds};
use crate::time::Micros;

/// A conversation whose thread is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub id: String,
    /// Its messages are read down to this time. None: all that are wanted.
    pub bound: Option<Micros>,
}

/// The conversations of a batch.
#[derive(Clone, Debug, Default)]
pub struct ThreadBatch {
    pub threads: Vec<Thread>,
    pub walked: u64,
    pub lowest: Option<Micros>,
    pub newest: Option<Micros>,
    /// Conversations that the next batch begins with, too.
    pub seam: Option<Vec<String>>,
    /// The list was read to the rows at hand, and more follow.
    pub is_cut: bool,
}

/// What the query of a list of conversations has returned.
#[derive(Clone, Debug, Default)]
pub struct ListResult {
    /// Of a head all conversations, else those that are wanted.
    pub ids: Vec<String>,
    /// Of a head, the time that each shows, and whether it is of the window.
    pub times: Vec<Option<Micros>>,
    pub due: Vec<Option<bool>>,
    pub batch: ThreadBatch,
}

impl ListResult {
    /// Returns the conversations of the batch. Their bounds are left to be set.
    ///
    /// A conversation of the head that shows an older time than one below it has moved since that
    /// time: whether it has a new message, its thread alone shows.
    pub fn into_batch(self, run: &Run, is_head: bool) -> ThreadBatch {
        let Self { ids, times, due, mut batch } = self;
        let mut wanted = ids;
        if is_head {
            let is_delta = run.kind == Kind::Delta;
            let mut latest_below = None;
            let mut kept = Vec::new();
            for ((id, at), is_due) in wanted.into_iter().zip(times).zip(due).rev() {
                let has_moved = at.is_some() && at < latest_below;
                latest_below = latest_below.max(at);
                if is_delta && (is_due == Some(true) || has_moved) {
                    kept.push((id, at));
                }
            }
            kept.reverse();
            let at_seam = |(id, at): &(String, Option<Micros>)| (*at <= batch.lowest).then(|| id.clone());
            batch.seam = batch.lowest.map(|_| kept.iter().filter_map(at_seam).collect());
            wanted = kept.into_iter().map(|(id, _)| id).collect();
        }
        wanted.retain(|id| run.seam.as_ref().is_none_or(|seam| !seam.contains(id)));
        batch.threads = wanted.into_iter().map(|id| Thread { id, bound: None }).collect();
        batch
    }
}

impl Step<'_> {
    /// Returns the query of the conversations that are walked. It returns one row: ids, times, due,
    /// lowest, newest, walked, seam.
    pub fn list(&self) -> String {
        if self.run.reads_head(&self.shape.walk) { self.listed_head() } else { self.listed_in_order() }
    }

    fn listed_head(&self) -> String {
        format!(
            "SELECT h.ids, h.times, h.due, h.lowest, h.newest,
                 pg_catalog.cardinality(h.times)::pg_catalog.int8 AS walked, NULL::pg_catalog.text[] AS seam
             FROM pancake_internal.sync_head(NULL::pg_catalog.text, {list}, 'SELECT 0', {batch}, {is_delta}) h",
            list = literal(&self.head_list("s.id::pg_catalog.text")),
            batch = self.run.batch,
            is_delta = self.run.kind == Kind::Delta,
        )
    }

    fn listed_in_order(&self) -> String {
        let (shape, run) = (self.shape, self.run);
        let column = run.column(&shape.walk).unwrap_or_default();
        format!(
            "WITH c AS MATERIALIZED (
                 SELECT c.id::pg_catalog.text AS id, c.{at} AS at, {wanted} AS wanted,
                     pancake_internal.sync_server_time() AS now
                 FROM {list} c{bounds} ORDER BY c.{at} DESC LIMIT {batch})
             SELECT pg_catalog.array_agg(c.id) FILTER (WHERE c.wanted) AS ids,
                 NULL::pg_catalog.timestamptz[] AS times, NULL::pg_catalog.bool[] AS due,
                 pg_catalog.min(c.at) AS lowest,
                 pg_catalog.max(c.at) FILTER (WHERE c.at OPERATOR(pg_catalog.<=) c.now) AS newest,
                 pg_catalog.count(*) AS walked,
                 (SELECT pg_catalog.array_agg(d.id) FROM c d
                  WHERE d.at OPERATOR(pg_catalog.=) (SELECT pg_catalog.min(e.at) FROM c e)) AS seam
             FROM c",
            at = identifier(column),
            wanted = self.wanted(),
            list = shape.list,
            bounds = bounds("c", column, run.low, run.high),
            batch = run.batch,
        )
    }

    /// Returns which of the conversations that are walked in the order of a time are wanted: the
    /// others are known.
    fn wanted(&self) -> String {
        let Run { phase, kind, low, first_since, since, .. } = *self.run;
        if phase == Phase::Begun {
            // What changed since has been read under that head.
            let since = time(since);
            return format!(
                "c.inserted_at OPERATOR(pg_catalog.>=) {since} AND c.updated_at OPERATOR(pg_catalog.<) {since}"
            );
        }
        let mut conditions = vec!["true".to_owned()];
        if let Some(low) = low.filter(|_| phase == Phase::Past) {
            conditions.push(format!("c.updated_at OPERATOR(pg_catalog.<) {}", time(Some(low))));
        }
        // A conversation that rests since before `first_since` has no message that is wanted,
        // unless it shows an older time than its newest message has.
        if let Some(first_since) = first_since {
            let frozen = self.run.frozen.as_ref();
            let frozen =
                frozen.map(|frozen| format!(" OR c.id OPERATOR(pg_catalog.=) ANY ({})", texts(frozen)));
            let is_stored = if kind == Kind::Full {
                format!(
                    " OR EXISTS (SELECT FROM {} t WHERE t.{} OPERATOR(pg_catalog.=) c.id)",
                    self.shape.target,
                    self.thread()
                )
            } else {
                String::new()
            };
            conditions.push(format!(
                "(c.updated_at OPERATOR(pg_catalog.>=) {}{}{is_stored})",
                time(Some(first_since)),
                frozen.unwrap_or_default()
            ));
        }
        conditions.join(" AND ")
    }

    fn thread(&self) -> String {
        identifier(self.shape.walk.thread.unwrap_or_default())
    }

    /// Returns the query of the times down to which the threads of conversations ($1) are read, in
    /// their order. None where they are read whole.
    pub fn thread_bounds(&self) -> Option<String> {
        let is_there = if self.shape.has_removed { " AND t.removed_at IS NULL" } else { "" };
        (self.run.kind == Kind::Delta).then(|| {
            format!(
                "SELECT pg_catalog.array_agg(
                     (SELECT pg_catalog.max(t.inserted_at) FROM {target} t
                      WHERE t.{thread} OPERATOR(pg_catalog.=) i.id
                        AND t.inserted_at OPERATOR(pg_catalog.<) {known_to}{of_page}{is_there})
                     ORDER BY i.place)
                 FROM pg_catalog.unnest($1) WITH ORDINALITY AS i (id, place)",
                target = self.shape.target,
                thread = self.thread(),
                known_to = time(self.run.known_to),
                of_page = self.of_page(),
            )
        })
    }

    /// Returns the query of the messages of a batch. A message that two conversations show is one
    /// row.
    pub fn messages(&self, batch: &ThreadBatch) -> String {
        let (shape, run) = (self.shape, self.run);
        let thread = self.thread();
        let message = format!(
            "SELECT ROW({row})::{source} AS row, s.id, s.inserted_at FROM {source} AS s",
            row = shape.source_row,
            source = shape.source,
        );
        let since = if run.phase == Phase::Again { run.low.max(run.first_since) } else { run.first_since };
        let since = since
            .map(|since| format!(" AND s.inserted_at OPERATOR(pg_catalog.>=) {}", time(Some(since))))
            .unwrap_or_default();
        let (known, unknown): (Vec<_>, Vec<_>) =
            batch.threads.iter().partition(|thread| thread.bound.is_some());
        let mut parts = Vec::new();
        if !unknown.is_empty() {
            let ids: Vec<_> = unknown.iter().map(|thread| thread.id.clone()).collect();
            parts.push(format!(
                "{message} WHERE s.{thread} OPERATOR(pg_catalog.=) ANY ({}){since}",
                texts(&ids)
            ));
        }
        if !known.is_empty() {
            let values: Vec<_> = known
                .iter()
                .map(|thread| format!("({}, {})", literal(&thread.id), time(thread.bound)))
                .collect();
            parts.push(format!(
                "SELECT o.* FROM (VALUES {}) AS k (id, bound), LATERAL (
                     {message} WHERE s.{thread} OPERATOR(pg_catalog.=) k.id
                       AND s.inserted_at OPERATOR(pg_catalog.>) k.bound{since} OFFSET 0) o",
                values.join(", ")
            ));
        }
        format!(
            "SELECT pg_catalog.array_agg(d.row) AS rows,
                 pg_catalog.array_agg(d.id ORDER BY d.inserted_at DESC) AS ids, pg_catalog.count(*) AS seen,
                 NULL::pg_catalog.timestamptz AS lowest, NULL::pg_catalog.timestamptz AS newest,
                 0::pg_catalog.int8 AS walked, NULL::pg_catalog.text[] AS seam
             FROM (SELECT DISTINCT ON (m.id) m.row, m.id, m.inserted_at FROM ({}) m ORDER BY m.id) d",
            parts.join(" UNION ALL ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::catalogue::Object;
    use crate::sync::marks::Marks;
    use crate::sync::run::{Lane, Parameters, next};
    use crate::sync::walk::Walk;
    use std::time::Duration;

    fn run(kind: Kind) -> Run {
        let walk = Walk::of(Object::Messages).unwrap();
        let parameters = Parameters {
            lookback: Duration::ZERO,
            reread: None,
            reread_every: None,
            is_full: false,
            first_since: None,
            called_at: Micros(0),
            batch_rows: 100,
            thread_replies: 64,
        };
        let marks = Marks { mark: Some(Micros(0)), backfill_done: true, ..Marks::default() };
        Run { kind, ..next(&walk, &parameters, Lane::Delta, &marks, None, Micros(0)).unwrap() }
    }

    fn head(rows: &[(&str, i64, bool)], lowest: Option<i64>) -> ListResult {
        ListResult {
            ids: rows.iter().map(|row| row.0.to_owned()).collect(),
            times: rows.iter().map(|row| Some(Micros(row.1))).collect(),
            due: rows.iter().map(|row| Some(row.2)).collect(),
            batch: ThreadBatch { lowest: lowest.map(Micros), ..ThreadBatch::default() },
        }
    }

    fn ids(batch: &ThreadBatch) -> Vec<&str> {
        batch.threads.iter().map(|thread| thread.id.as_str()).collect()
    }

    #[test]
    fn a_conversation_above_a_later_one_has_moved() {
        let rows = [("a", 90, true), ("b", 10, false), ("c", 50, false), ("d", 40, false)];
        assert_eq!(ids(&head(&rows, None).into_batch(&run(Kind::Delta), true)), ["a", "b"]);
        assert!(ids(&head(&rows, None).into_batch(&run(Kind::Full), true)).is_empty(), "read later");
    }

    #[test]
    fn a_seam_is_read_once() {
        let rows = [("a", 90, true), ("b", 80, true), ("c", 80, true)];
        let mut run = run(Kind::Delta);
        let batch = head(&rows, Some(80)).into_batch(&run, true);
        assert_eq!(batch.seam, Some(vec!["b".to_owned(), "c".to_owned()]));
        run.seam = batch.seam;
        assert_eq!(ids(&head(&rows[1..], None).into_batch(&run, true)), Vec::<&str>::new());
    }
}
