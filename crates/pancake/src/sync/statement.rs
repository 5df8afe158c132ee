//! This module writes the statements of a step: what it reads, and how its rows are written. They
//! are executed under the caller's search_path, so every name and operator is spelt out. How
//! threads are read is left to [`super::threads`].

use crate::sync::run::{Kind, Phase, Run};
use crate::sync::shape::Shape;
use crate::sync::sql::{identifier, literal, texts, time};
use crate::sync::walk::Batches;
use crate::time::Micros;

/// What the statements of a step are made of.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    pub shape: &'a Shape,
    pub run: &'a Run,
    pub page_id: &'a str,
    /// No row of the step was read before.
    pub read_at: Micros,
}

/// A window of time of the column of a table that `alias` names.
pub(super) fn bounds(alias: &str, column: &str, low: Option<Micros>, high: Option<Micros>) -> String {
    let column = format!("{alias}.{}", identifier(column));
    let at_most = high.map(|high| format!("{column} OPERATOR(pg_catalog.<=) {}", time(Some(high))));
    let at_least = low.map(|low| format!("{column} OPERATOR(pg_catalog.>=) {}", time(Some(low))));
    let both: Vec<_> = at_most.into_iter().chain(at_least).collect();
    if both.is_empty() { String::new() } else { format!(" WHERE {}", both.join(" AND ")) }
}

impl Step<'_> {
    /// Returns the query of the rows that the step writes. It returns one row: rows, ids, seen,
    /// lowest, newest, walked, seam.
    pub fn reading(&self) -> String {
        match &self.run.threads {
            Some(batch) => self.messages(batch),
            None if self.run.reads_head(&self.shape.walk) => self.head(),
            None => self.rows(),
        }
    }

    fn source_row(&self) -> String {
        format!("ROW({})::{}", self.shape.source_row, self.shape.source)
    }

    fn head(&self) -> String {
        let is_delta = self.run.kind == Kind::Delta;
        let differing = if is_delta { self.differing() } else { "SELECT 0".to_owned() };
        format!(
            "SELECT h.rows, h.ids, pg_catalog.cardinality(h.times)::pg_catalog.int8 AS seen,
                 h.lowest, h.newest, pg_catalog.cardinality(h.times)::pg_catalog.int8 AS walked,
                 NULL::pg_catalog.text[] AS seam
             FROM pancake_internal.sync_head(NULL::{source}, {list}, {differing}, {batch}, {is_delta}) h",
            source = self.shape.source,
            list = literal(&self.head_list(&self.source_row())),
            differing = literal(&differing),
            batch = self.run.batch,
        )
    }

    /// Returns the query of the list that a head is read from: row, id, at, is_due (it is of the
    /// window), is_wanted. What began too long ago is not wanted, unless it has changed since.
    pub(super) fn head_list(&self, row: &str) -> String {
        let Run { kind, since, first_since, high, .. } = *self.run;
        let since = if kind == Kind::Delta { since } else { Some(Micros(i64::MAX)) };
        // A conversation that began long ago may have the newest message.
        let is_wanted = if self.shape.walk.is_threads() {
            "true".to_owned()
        } else {
            format!(
                "s.updated_at OPERATOR(pg_catalog.>=) {}
                     OR s.inserted_at OPERATOR(pg_catalog.>=) {}",
                time(since),
                time(first_since.or(Some(Micros::NEGATIVE_INFINITY))),
            )
        };
        format!(
            "SELECT {row} AS row, s.id::pg_catalog.text AS id, s.updated_at AS at,
                 s.updated_at OPERATOR(pg_catalog.>=) {since}
                     OR s.inserted_at OPERATOR(pg_catalog.>=) {since} AS is_due,
                 {is_wanted} AS is_wanted
             FROM {list} AS s{bounds}",
            since = time(since),
            list = self.shape.list,
            bounds = bounds("s", "updated_at", None, high),
        )
    }

    /// The rows of a batch: so many in the order of a time, or a slice of it, from where the batch
    /// before ended, ties included; of a list without times, all. A row dated ahead of the reply is
    /// not the newest: the mark would stay up there, and hide all that comes after it.
    fn rows(&self) -> String {
        let (run, shape) = (self.run, self.shape);
        let column = run.column(&shape.walk);
        let at = column
            .map_or("NULL::pg_catalog.timestamptz".to_owned(), |column| format!("s.{}", identifier(column)));
        let low = if shape.walk.is_slices() { run.edge } else { run.low };
        let bounds = column.map(|column| bounds("s", column, low, run.high)).unwrap_or_default();
        let order = column.map(|_| format!(" ORDER BY {at} DESC")).unwrap_or_default();
        let limit =
            if shape.walk.batches == Batches::Rows { format!(" LIMIT {}", run.batch) } else { String::new() };
        let wanted = match (run.phase, run.first_since) {
            (Phase::Begun, Some(first_since)) => {
                format!(" FILTER (WHERE r.at OPERATOR(pg_catalog.>=) {})", time(Some(first_since)))
            }
            _ => String::new(),
        };
        format!(
            "SELECT pg_catalog.array_agg(r.row){wanted} AS rows, pg_catalog.array_agg(r.id){wanted} AS ids,
                 pg_catalog.count(*) AS seen, pg_catalog.min(r.at) AS lowest,
                 pg_catalog.max(r.at) FILTER (WHERE r.at OPERATOR(pg_catalog.<=) r.now) AS newest,
                 pg_catalog.count(*) AS walked, NULL::pg_catalog.text[] AS seam
             FROM (SELECT {row} AS row, s.id, {at} AS at, pancake_internal.sync_server_time() AS now
                   FROM {source} AS s{bounds}{order}{limit}) r",
            row = self.source_row(),
            source = shape.source,
        )
    }

    /// Returns the query that looks at the target before a batch is written: whether a witness is
    /// there ($2), how many rows of the batch ($1). From then on no session can TRUNCATE.
    pub fn look(&self) -> String {
        format!(
            "SELECT pg_catalog.bool_or(t.id OPERATOR(pg_catalog.=) ANY ($2)),
                 pg_catalog.count(*) FILTER (WHERE t.id OPERATOR(pg_catalog.=) ANY ($1))
             FROM {target} t
             WHERE t.id OPERATOR(pg_catalog.=) ANY ($1 OPERATOR(pg_catalog.||) $2){of_page}",
            target = self.shape.target,
            of_page = self.of_page(),
        )
    }

    /// Returns the condition that a row `t` of the target is of the page.
    pub(super) fn of_page(&self) -> String {
        self.shape.of_page(self.page_id)
    }

    /// Returns the statement that writes rows: `rows` is a table of the source's columns.
    /// The rows come in the order of the key, so that two runs cannot wait for each other's rows.
    pub fn upsert(&self, rows: &str) -> String {
        let shape = self.shape;
        let if_has = |has: bool, text: &str| if has { text.to_owned() } else { String::new() };
        format!(
            "INSERT INTO {target} AS t ({columns}{page}{synced})
             SELECT {cells}{page_value}{synced_value} FROM {rows} AS s ORDER BY s.id
             ON CONFLICT ({key}) DO UPDATE SET {assignments}{page_set}{synced_set}{removed_set}
             WHERE {condition}",
            target = shape.target,
            columns = shape.columns,
            page = if_has(shape.has_page, ", page_id"),
            synced = if_has(shape.has_synced, ", synced_at"),
            cells = shape.cells,
            page_value = if_has(shape.has_page, &format!(", {}", literal(self.page_id))),
            synced_value = if_has(shape.has_synced, ", pg_catalog.clock_timestamp()"),
            key = shape.key,
            assignments = shape.assignments,
            page_set = if_has(shape.has_page && shape.is_keyed_by_id, ", page_id = EXCLUDED.page_id"),
            synced_set = if_has(shape.has_synced, ", synced_at = EXCLUDED.synced_at"),
            removed_set = if_has(shape.has_removed, ", removed_at = NULL"),
            condition = self.condition(),
        )
    }

    /// Returns which stored rows are written over: `t` is the stored row, EXCLUDED the one that was
    /// read, $2 when the reply left its server.
    ///
    /// A webhook writes the same rows: the newer version wins, and of two readings of one version
    /// the later one, which is the other writer's if it wrote after the statement that read ours
    /// had started. A stored time that is ahead of the reply's proves no newer version, and in a
    /// full rescan none does: there the later reading wins, if the target has synced_at. A row that
    /// does not differ is not written: no dead tuple, and synced_at is when it changed.
    fn condition(&self) -> String {
        let shape = self.shape;
        // By one id the rows of two pages are one row. Tags have small numbers on every page.
        let is_shared = shape.has_page && shape.is_keyed_by_id;
        let of_page = if is_shared {
            "(t.page_id IS NULL
              OR t.page_id::pg_catalog.text OPERATOR(pg_catalog.=) EXCLUDED.page_id::pg_catalog.text
              OR pancake_internal.sync_clash(t.id, t.page_id::pg_catalog.text, EXCLUDED.page_id::pg_catalog.text))
             AND "
        } else {
            ""
        };
        let is_later = if shape.has_synced {
            let read_at = time(Some(self.read_at));
            format!("(t.synced_at IS NULL OR t.synced_at OPERATOR(pg_catalog.<=) {read_at})")
        } else {
            "true".to_owned()
        };
        let is_newer = match shape.walk.version {
            Some(version) if !(self.run.kind == Kind::Full && shape.has_synced) => {
                let is_ahead = if shape.has_synced {
                    format!(" OR t.{version} OPERATOR(pg_catalog.>) $2")
                } else {
                    String::new()
                };
                format!(
                    "t.{version} IS NULL OR t.{version} OPERATOR(pg_catalog.<) EXCLUDED.{version}
                     OR (t.{version} OPERATOR(pg_catalog.=) EXCLUDED.{version}{is_ahead}) AND {is_later}"
                )
            }
            _ => is_later,
        };
        let had_no_page = if is_shared { " OR t.page_id IS NULL" } else { "" };
        let was_removed = if shape.has_removed { " OR t.removed_at IS NOT NULL" } else { "" };
        format!("{of_page}({is_newer}) AND ({differs}{had_no_page}{was_removed})", differs = shape.differs)
    }

    /// Returns the query that counts how many of the rows in $1 a write would change or add,
    /// without a lock.
    fn differing(&self) -> String {
        self.compare("LEFT JOIN", "t.id IS NULL OR ")
    }

    /// The same of the rows that the target has.
    pub fn changed(&self) -> String {
        self.compare("JOIN", "")
    }

    fn compare(&self, join: &str, or_added: &str) -> String {
        let shape = self.shape;
        let page = if shape.has_page {
            format!(", {}::pg_catalog.text AS page_id", literal(self.page_id))
        } else {
            String::new()
        };
        format!(
            "SELECT pg_catalog.count(*)
             FROM (SELECT {compared}{page} FROM pg_catalog.unnest($1) AS s) AS excluded
             {join} {target} AS t ON t.id OPERATOR(pg_catalog.=) excluded.id{of_page}
             WHERE {or_added}({condition})",
            compared = shape.compared,
            target = shape.target,
            of_page = if shape.is_keyed_by_id { String::new() } else { self.of_page() },
            condition = self.condition(),
        )
    }

    /// Returns the statement that marks rows as removed. A row that another session wrote while the
    /// rescan ran is not gone.
    pub fn removal(&self, gone: &[String], now: Micros) -> String {
        let shape = self.shape;
        let (now, began_at) = (time(Some(now)), time(Some(self.run.began_at)));
        let (synced, unchanged) = if shape.has_synced {
            (
                format!(", synced_at = {now}"),
                format!(" AND (t.synced_at IS NULL OR t.synced_at OPERATOR(pg_catalog.<=) {began_at})"),
            )
        } else {
            (String::new(), String::new())
        };
        format!(
            "UPDATE {target} AS t SET removed_at = {now}{synced}
             WHERE t.id OPERATOR(pg_catalog.=) ANY ({gone}) AND t.removed_at IS NULL{of_page}{unchanged}",
            target = shape.target,
            gone = texts(gone),
            of_page = self.of_page(),
        )
    }
}
