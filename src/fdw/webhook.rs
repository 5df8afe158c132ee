//! This module applies the events of webhooks to the copies that sync keeps. Which of them is newer
//! than the stored row is decided in `pancake::webhook::apply`, under a lock on the row.

use pancake::error::{Error, Kind, Result};
use pancake::schema::catalogue::Object;
use pancake::sync::sql::{identifier, identifiers, literal};
use pancake::time::Micros;
use pancake::webhook::Event;
use pancake::webhook::apply::{Applied, StoredRow};
use pgrx::datum::{DatumWithOid, JsonB};
use pgrx::{PgSqlErrorCode, pg_extern, pg_sys};
use serde_json::{Map, Value, json};

use crate::pg::catalog::table_name;
use crate::pg::report::{OrRaise, replacing};
use crate::pg::shared::CLOCKS;
use crate::pg::spi::{execute, execute_prepared, first_prepared};

const VERSION: &str = "webhook_version";

/// A table that a sync keeps as a copy of a page.
struct Copy {
    name: String,
    /// How a row is found: $1 is its id, $2 the page.
    key: String,
    /// The columns that are written, as by sync those that the source declares by its names.
    columns: Vec<String>,
}

/// `pancake_internal.ingest(event, conversations, messages)`: applies an event, and returns what it
/// did. Of an event about a message that is what became of the message, if its table is given.
#[pg_extern(sql = false)]
fn pancake_fdw_ingest(
    event: Option<&str>,
    conversations: Option<pg_sys::Oid>,
    messages: Option<pg_sys::Oid>,
) -> String {
    let applied = match event.and_then(Event::read) {
        Some(event) => ingest(&event, conversations, messages).or_raise(),
        None => Applied::Ignored,
    };
    applied.name().to_owned()
}

fn ingest(
    event: &Event,
    conversations: Option<pg_sys::Oid>,
    messages: Option<pg_sys::Oid>,
) -> Result<Applied> {
    let mut of_conversations = Copy::find(conversations, &event.page_id, Object::Conversations)?;
    let of_messages = Copy::find(messages, &event.page_id, Object::Messages)?;
    // Before a row is locked: nothing else of this transaction waits while others read the table.
    if let (Some(_), Some(copy)) = (event.version, &mut of_conversations) {
        copy.add_version();
    }
    let of_message = match (&event.message, &of_messages) {
        (Some(message), Some(copy)) => Some(copy.apply_message(event, &message.id, &message.row)?),
        _ => None,
    };
    let applied = match &of_conversations {
        Some(copy) => copy.apply(event, of_message.map(|applied| applied != Applied::Inserted))?,
        None => Applied::Ignored,
    };
    Ok(of_message.unwrap_or(applied))
}

/// What a copy ($1) of a page ($2) holds, how a row is found, and the columns that are written.
const COPY: &str = "
    SELECT s.object, c.key, c.columns
    FROM (SELECT m.source, m.object, EXISTS (SELECT FROM pg_class c WHERE c.oid = m.source) AS is_there
          FROM pancake.sync_state m WHERE m.target = $1 AND m.page_id = $2) s,
    LATERAL (
        SELECT string_agg(
                format(CASE WHEN a.attname = 'page_id' AND NOT a.attnotnull
                            THEN '(t.%1$I = %2$s::%3$s OR t.%1$I IS NULL)' ELSE 't.%1$I = %2$s::%3$s' END,
                    a.attname, CASE a.attname WHEN 'id' THEN '$1' ELSE '$2' END, a.atttypid::regtype), ' AND ')
                FILTER (WHERE a.attname IN ('id', 'page_id')) AS key,
            array_agg(a.attname::text) FILTER (WHERE a.attgenerated = '' AND a.attidentity <> 'a'
                AND (d.attname IS NOT NULL OR NOT s.is_there
                    OR a.attname IN ('page_id', 'synced_at', 'removed_at', 'webhook_version'))) AS columns
        FROM pg_attribute a LEFT JOIN pg_attribute d
            ON d.attrelid = s.source AND d.attname = a.attname AND NOT d.attisdropped
               AND (d.attfdwoptions IS NULL
                    OR NOT EXISTS (SELECT FROM unnest(d.attfdwoptions) o WHERE starts_with(o, 'path=')))
        WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped) c";

fn now() -> Micros {
    Micros((CLOCKS.wall_micros)())
}

fn jsonb(cells: &Map<String, Value>) -> DatumWithOid<'static> {
    JsonB(Value::Object(cells.clone())).into()
}

impl Copy {
    fn find(target: Option<pg_sys::Oid>, page_id: &str, object: Object) -> Result<Option<Self>> {
        let Some(target) = target else { return Ok(None) };
        let copy = first_prepared(COPY, &[target.into(), page_id.into()], |row| {
            Ok((row.get::<String>(1)?, row.get::<String>(2)?, row.get::<Vec<String>>(3)?))
        });
        let Some((Some(stored), Some(key), Some(columns))) = copy else { return Ok(None) };
        let name = table_name(target);
        if stored != object.name() {
            let message = format!("{name} is a copy of {stored}, not of {}", object.name());
            return Err(Error::new(Kind::WrongObject, message));
        }
        Ok(Some(Self { name, key, columns }))
    }

    fn add_version(&mut self) {
        if self.columns.iter().any(|column| column == VERSION) {
            return;
        }
        let name = &self.name;
        let add = || execute(&format!("ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {VERSION} bigint"), &[]);
        let lacks = |kind: Kind| {
            move |reason: &str| {
                Error::new(kind, format!("{name} lacks the column {VERSION}")).detail(reason).hint(
                    "Its owner adds it once, of a partition to the parent: ALTER TABLE … ADD COLUMN webhook_version bigint;",
                )
            }
        };
        let add = || {
            let denied = PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE;
            replacing(denied, add, lacks(Kind::NotPermitted))
        };
        let wrong = PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE;
        replacing(wrong, add, lacks(Kind::WrongObject));
        self.columns.push(VERSION.to_owned());
    }

    /// Returns the stored row, locked until the end of the transaction. Of `raw` it has the tags.
    fn row(&self, id: &str, page_id: &str) -> Option<StoredRow> {
        let query = format!(
            "SELECT (s.row - 'raw') || jsonb_build_object('raw', jsonb_build_object('tags', s.row #> '{{raw,tags}}'))
             FROM (SELECT to_jsonb(t) AS row FROM {} t WHERE {} FOR UPDATE) s",
            self.name, self.key
        );
        let row = first_prepared(&query, &[id.into(), page_id.into()], |row| row.get_one::<JsonB>());
        row.flatten().map(|JsonB(row)| StoredRow(row))
    }

    /// Adds a row, and returns whether there was none. Cells that the copy has no column for are
    /// left out.
    fn insert(&self, cells: &Map<String, Value>) -> bool {
        let names = identifiers(self.columns.iter().filter(|name| cells.contains_key(*name)));
        let statement = format!(
            "INSERT INTO {target} ({names}) SELECT {names} FROM jsonb_populate_record(NULL::{target}, $1)
             ON CONFLICT DO NOTHING",
            target = self.name
        );
        execute_prepared(&statement, &[jsonb(cells)]) > 0
    }

    /// Returns the cells that differ from the stored row, by the types of the copy.
    fn differing(&self, stored: &StoredRow, cells: &Map<String, Value>) -> Vec<String> {
        let query = format!("SELECT to_jsonb(jsonb_populate_record(NULL::{}, $1))", self.name);
        let fresh = first_prepared(&query, &[jsonb(cells)], |row| row.get_one::<JsonB>()).flatten();
        let fresh = fresh.map_or(Value::Null, |JsonB(fresh)| fresh);
        let differs = |name: &&String| cells.contains_key(*name) && fresh.get(*name) != stored.0.get(*name);
        self.columns.iter().filter(differs).cloned().collect()
    }

    fn write(&self, id: &str, page_id: &str, mut cells: Map<String, Value>, mut names: Vec<String>) {
        let is_synced = self.columns.iter().any(|name| name == "synced_at");
        if is_synced && names != [VERSION] {
            cells.insert("synced_at".to_owned(), json!(now().iso()));
            names.push("synced_at".to_owned());
        }
        let set: Vec<_> =
            names.iter().map(|name| identifier(name)).map(|name| format!("{name} = f.{name}")).collect();
        let statement = format!(
            "UPDATE {target} t SET {} FROM jsonb_populate_record(NULL::{target}, $3) f WHERE {}",
            set.join(", "),
            self.key,
            target = self.name,
        );
        execute_prepared(&statement, &[id.into(), page_id.into(), jsonb(&cells)]);
    }

    /// A row can neither be added nor found.
    fn clash(&self, id: &str, page_id: &str) -> Error {
        let message =
            format!("row {} of page {page_id} conflicts with another row of {}", literal(id), self.name);
        Error::new(Kind::RowConflict, message)
            .hint("Give the target the key (page_id, id) and no other unique index, or each page a target of its own.")
    }

    fn apply(&self, event: &Event, is_known: Option<bool>) -> Result<Applied> {
        let (id, page_id) = (event.conversation_id.as_str(), event.page_id.as_str());
        let mut stored = self.row(id, page_id);
        for _ in 0..2 {
            if stored.is_some() {
                break;
            }
            let Some(row) = event.new_row(now()) else { return Ok(Applied::Ignored) };
            if self.insert(&row) {
                return Ok(Applied::Inserted);
            }
            // Another session has added it meanwhile.
            stored = self.row(id, page_id);
        }
        let stored = stored.ok_or_else(|| self.clash(id, page_id))?;
        let mut cells = match event.changes_to(&stored, is_known, now()) {
            Ok(cells) => cells,
            Err(applied) => return Ok(applied),
        };
        let mut names = self.differing(&stored, &cells);
        let applied = event.applied(&names);
        if let Some(version) = event.version {
            cells.insert(VERSION.to_owned(), json!(version));
            names.push(VERSION.to_owned());
        }
        if !names.is_empty() {
            self.write(id, page_id, cells, names);
        }
        Ok(applied)
    }

    fn apply_message(&self, event: &Event, id: &str, row: &Map<String, Value>) -> Result<Applied> {
        let mut row = row.clone();
        row.insert("synced_at".to_owned(), json!(now().iso()));
        if self.insert(&row) {
            return Ok(Applied::Inserted);
        }
        let stored = self.row(id, &event.page_id).ok_or_else(|| self.clash(id, &event.page_id))?;
        let cells = event.message_changes(&stored);
        let names = self.differing(&stored, &cells);
        let applied = event.message_applied(&stored, &cells, &names);
        if matches!(applied, Applied::Updated | Applied::Removed) {
            self.write(id, &event.page_id, cells, names);
        }
        Ok(applied)
    }
}
