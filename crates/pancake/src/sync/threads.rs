//! This module writes the query that a step of threads reads with: lists without a list of their
//! own. What is walked are the conversations of the page, and of each that is wanted its thread is
//! read.
//!
//! Of a conversation that is known, its messages are read down to one that is stored, and in a
//! delta only: so each has a bound of its own, and they are read one after the other. Those of
//! which nothing is stored, or all is to be read, are asked for at once, as many at a time as the
//! latency needs.
//!
//! A webhook stores the newest message first, so not every stored message proves that those before
//! it are stored as well. Those from before the delta's window do: the runs before have read the
//! threads of all that had changed by then. Not so a run of several batches, for a conversation
//! that moved up meanwhile may have been in none of them: then `known_to` stays where it was, until
//! the head of a delta holds all that changed.

use crate::sync::run::{Kind, Phase, Run};
use crate::sync::sql::{identifier, texts, time};
use crate::sync::statement::{Step, bounds};

pub fn reading(step: &Step) -> String {
    let Step { shape, run, .. } = step;
    let is_delta = run.kind == Kind::Delta;
    let thread = identifier(shape.walk.thread.unwrap_or_default());
    let message = format!(
        "SELECT ROW({row})::{source} AS row, s.id, s.inserted_at FROM {source} AS s",
        row = shape.source_row,
        source = shape.source,
    );
    let since = if run.phase == Phase::Again { run.low.max(run.first_since) } else { run.first_since };
    let since = since
        .map(|since| format!(" AND s.inserted_at OPERATOR(pg_catalog.>=) {}", time(Some(since))))
        .unwrap_or_default();
    let (known, of_known) = if is_delta {
        let is_there = if shape.has_removed { " AND t.removed_at IS NULL" } else { "" };
        (
            format!(
                "(SELECT pg_catalog.max(t.inserted_at) FROM {target} t
                  WHERE t.{thread} OPERATOR(pg_catalog.=) c.id
                    AND t.inserted_at OPERATOR(pg_catalog.<) {known_to}{of_page}{is_there})",
                target = shape.target,
                known_to = time(run.known_to),
                of_page = step.of_page(),
            ),
            format!(
                " UNION ALL
                 SELECT o.* FROM k, LATERAL (
                     {message} WHERE s.{thread} OPERATOR(pg_catalog.=) k.id
                       AND s.inserted_at OPERATOR(pg_catalog.>) k.bound{since} OFFSET 0) o
                 WHERE k.bound IS NOT NULL"
            ),
        )
    } else {
        ("NULL::pg_catalog.timestamptz".to_owned(), String::new())
    };
    let unread = match &run.seam {
        Some(seam) => format!(" AND c.id OPERATOR(pg_catalog.<>) ALL ({})", texts(seam)),
        None => String::new(),
    };
    // A message that two conversations show is one row.
    format!(
        "WITH {walked},
         k AS MATERIALIZED (SELECT c.id, {known} AS bound FROM c WHERE c.wanted{unread}),
         m AS ({message} WHERE s.{thread} OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT k.id FROM k WHERE k.bound IS NULL)){since}{of_known})
         SELECT r.rows, r.ids, r.seen, l.*
         FROM (SELECT pg_catalog.array_agg(d.row) AS rows,
                   pg_catalog.array_agg(d.id ORDER BY d.inserted_at DESC) AS ids, pg_catalog.count(*) AS seen
               FROM (SELECT DISTINCT ON (m.id) m.row, m.id, m.inserted_at FROM m ORDER BY m.id) d) r, l",
        walked = if run.reads_head(&shape.walk) { head(step) } else { in_order(step) },
    )
}

/// Returns c, the conversations of the head, and l, what was walked. A conversation that shows an
/// older time than one below it has moved since that time: whether it has a new message, its thread
/// alone shows.
fn head(step: &Step) -> String {
    let is_delta = step.run.kind == Kind::Delta;
    let wanted = if is_delta {
        "i.is_due OR coalesce(i.at OPERATOR(pg_catalog.<) pg_catalog.max(i.at) OVER (
             ORDER BY i.place ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING), false)"
    } else {
        "false"
    };
    format!(
        "h AS MATERIALIZED (
             SELECT * FROM pancake_internal.sync_head(NULL::pg_catalog.text, {list}, 'SELECT 0', {batch}, {is_delta})),
         c AS MATERIALIZED (
             SELECT i.id, i.at, {wanted} AS wanted
             FROM h, ROWS FROM (pg_catalog.unnest(h.ids), pg_catalog.unnest(h.times), pg_catalog.unnest(h.due))
                 WITH ORDINALITY AS i (id, at, is_due, place)),
         l AS (SELECT h.lowest, h.newest, pg_catalog.cardinality(h.times)::pg_catalog.int8 AS walked,
                   (SELECT pg_catalog.array_agg(c.id) FROM c
                    WHERE c.wanted AND c.at OPERATOR(pg_catalog.<=) h.lowest) AS seam
               FROM h)",
        list = crate::sync::sql::literal(&step.head_list("s.id::pg_catalog.text")),
        batch = step.run.batch,
    )
}

/// The same of a batch in the order of a time.
fn in_order(step: &Step) -> String {
    let Step { shape, run, .. } = step;
    let column = run.column(&shape.walk).unwrap_or_default();
    format!(
        "c AS MATERIALIZED (
             SELECT c.id, c.{at} AS at, {wanted} AS wanted, pancake_internal.sync_server_time() AS now
             FROM {list} c{bounds} ORDER BY c.{at} DESC LIMIT {batch}),
         l AS (SELECT pg_catalog.min(c.at) AS lowest,
                   pg_catalog.max(c.at) FILTER (WHERE c.at OPERATOR(pg_catalog.<=) c.now) AS newest,
                   pg_catalog.count(*) AS walked,
                   (SELECT pg_catalog.array_agg(c.id) FROM c
                    WHERE c.at OPERATOR(pg_catalog.=) (SELECT pg_catalog.min(c.at) FROM c)) AS seam
               FROM c)",
        at = identifier(column),
        wanted = wanted(step),
        list = shape.list,
        bounds = bounds("c", column, run.low, run.high),
        batch = run.batch,
    )
}

/// Returns which of the conversations that are walked in the order of a time are wanted: the others
/// are known.
fn wanted(step: &Step) -> String {
    let Step { shape, run, .. } = step;
    let Run { phase, kind, low, first_since, since, .. } = **run;
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
    // A conversation that rests since before `first_since` has no message that is wanted, unless it
    // shows an older time than its newest message has.
    if let Some(first_since) = first_since {
        let frozen = run
            .frozen
            .as_ref()
            .map(|frozen| format!(" OR c.id OPERATOR(pg_catalog.=) ANY ({})", texts(frozen)));
        let is_stored = if kind == Kind::Full {
            format!(
                " OR EXISTS (SELECT FROM {} t WHERE t.{} OPERATOR(pg_catalog.=) c.id)",
                shape.target,
                identifier(shape.walk.thread.unwrap_or_default())
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
