//! This module decides whether an event is newer than the stored row, and what of it is written.
//!
//! A conversation follows an event about itself that has a greater version than the last one and
//! was not sent long before the row was written, and an event about a message that is not older
//! than the row's newest. A message has no version: one that differs is written over if the event
//! was not sent long before the row was written.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::json::cell::whole;
use crate::time::Micros;
use crate::webhook::Event;

/// How much older than the row an event may be.
const LATE: Duration = Duration::from_mins(1);

/// What an event did. The names are what `pancake.ingest` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Inserted,
    Updated,
    Unchanged,
    Stale,
    Removed,
    Ignored,
}

impl Applied {
    pub fn name(self) -> &'static str {
        match self {
            Applied::Inserted => "inserted",
            Applied::Updated => "updated",
            Applied::Unchanged => "unchanged",
            Applied::Stale => "stale",
            Applied::Removed => "removed",
            Applied::Ignored => "ignored",
        }
    }
}

/// A stored row as JSON by column.
pub struct StoredRow(pub Value);

impl StoredRow {
    fn time(&self, column: &str) -> Option<Micros> {
        match self.0.get(column)?.as_str()? {
            "infinity" => Some(Micros(i64::MAX)),
            "-infinity" => Some(Micros::NEGATIVE_INFINITY),
            time => Micros::parse(time),
        }
    }

    fn version(&self) -> Option<i64> {
        // The column may be of another type than the one that is added.
        let version = self.0.get("webhook_version")?;
        version.as_i64().or_else(|| whole(version.as_str().unwrap_or(&version.to_string())))
    }

    /// The names of the tags of an event, which has ids alone: those that the row came with, or
    /// has, are kept.
    fn tag_names(&self, tags: &Value) -> Value {
        let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let served = list(self.0.pointer("/raw/tags"));
        let (ids, names) = (list(self.0.get("tags")), list(self.0.get("tag_names")));
        let name = |tag: &Value| {
            let is_it = |id: &Value| text(id) == text(tag);
            let served = served.iter().find(|tag| tag.get("id").is_some_and(is_it));
            let stored = || names.get(ids.iter().position(is_it)?).cloned();
            served.and_then(|tag| tag.get("text").cloned()).or_else(stored).unwrap_or_default()
        };
        list(Some(tags)).iter().map(name).collect()
    }
}

fn is_before(earlier: Option<Micros>, later: Option<Micros>) -> bool {
    earlier.zip(later).is_some_and(|(earlier, later)| earlier < later)
}

fn moment(at: Micros) -> Value {
    json!(at.iso())
}

impl Event {
    fn message_at(&self) -> Option<Micros> {
        self.message.as_ref().map(|message| message.at)
    }

    fn is_late(&self, stored: &StoredRow) -> bool {
        is_before(self.at, stored.time("synced_at").map(|at| at.minus(LATE)))
    }

    /// Returns the row of a conversation that is not stored. Without a message nothing dates it:
    /// the next delta reads it.
    pub fn new_row(&self, now: Micros) -> Option<Map<String, Value>> {
        let at = self.message_at()?;
        let mut row = self.row.clone();
        row.insert("inserted_at".to_owned(), moment(at));
        row.insert("updated_at".to_owned(), moment(at));
        row.insert("synced_at".to_owned(), moment(now));
        row.insert(
            "removed_at".to_owned(),
            if self.is_removed == Some(true) { moment(now) } else { Value::Null },
        );
        Some(row)
    }

    /// Returns the cells of a stored conversation that follow the event, or why none does.
    /// `is_known`: whether the message was stored before, if that can be seen.
    pub fn changes_to(
        &self,
        stored: &StoredRow,
        is_known: Option<bool>,
        now: Micros,
    ) -> Result<Map<String, Value>, Applied> {
        let updated_at = stored.time("updated_at");
        let versions = stored.version().zip(self.version);
        let is_same = self.message_at().is_some() && self.message_at() == updated_at;
        let is_again = is_same && is_known.unwrap_or_else(|| is_before(self.at, stored.time("synced_at")));
        if is_again || versions.is_some_and(|(stored, sent)| stored == sent) {
            return Err(Applied::Unchanged);
        }
        let is_older = versions.is_some_and(|(stored, sent)| stored > sent);
        let is_late = self.version.is_some() && self.is_late(stored);
        if is_older || is_late || is_before(self.message_at(), updated_at) {
            return Err(Applied::Stale);
        }
        let mut cells = self.changes.clone();
        if let Some(tags) = cells.get("tags") {
            let names = stored.tag_names(tags);
            cells.insert("tag_names".to_owned(), names);
        }
        if let Some(at) = self.message_at() {
            cells.insert("updated_at".to_owned(), moment(at));
        }
        let removed_at = stored.time("removed_at");
        // A message that was sent before the removal does not bring the conversation back.
        let returns = || self.version.is_some() || is_before(removed_at, self.at.or(self.message_at()));
        match self.is_removed {
            Some(true) if removed_at.is_none() => cells.insert("removed_at".to_owned(), moment(now)),
            Some(false) if returns() => cells.insert("removed_at".to_owned(), Value::Null),
            _ => None,
        };
        Ok(cells)
    }

    /// Returns what became of a conversation of which these cells differ.
    pub fn applied(&self, differing: &[String]) -> Applied {
        match self.is_removed {
            _ if differing.is_empty() => Applied::Unchanged,
            Some(true) if differing.iter().any(|name| name == "removed_at") => Applied::Removed,
            _ => Applied::Updated,
        }
    }

    /// Returns the cells of a stored message that follow the event. One that was taken back stays
    /// so, and `raw` is as another endpoint has it.
    pub fn message_changes(&self, stored: &StoredRow) -> Map<String, Value> {
        let mut cells = self.message.as_ref().map(|message| message.row.clone()).unwrap_or_default();
        cells.remove("raw");
        if stored.0.get("is_removed") == Some(&Value::Bool(true)) {
            cells.remove("is_removed");
        }
        cells
    }

    /// Returns what becomes of a message of which these cells differ.
    pub fn message_applied(
        &self,
        stored: &StoredRow,
        cells: &Map<String, Value>,
        differing: &[String],
    ) -> Applied {
        let is_taken_back = cells.get("is_removed") == Some(&Value::Bool(true));
        match differing {
            [] => Applied::Unchanged,
            _ if self.at.is_none() || self.is_late(stored) => Applied::Stale,
            names if is_taken_back && names.iter().any(|name| name == "is_removed") => Applied::Removed,
            _ => Applied::Updated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Micros {
        Micros(1_790_000_000_000_000 + second * 1_000_000)
    }

    fn event(version: i64, sent: i64, is_removed: Option<bool>) -> Event {
        let changes = json!({"snippet": "new", "tags": ["1", "2", "3"]});
        Event {
            page_id: "1".to_owned(),
            conversation_id: "c".to_owned(),
            version: Some(version),
            at: Some(at(sent)),
            is_removed,
            row: Map::new(),
            changes: changes.as_object().cloned().unwrap_or_default(),
            message: None,
        }
    }

    fn stored(version: Value, removed_at: Value) -> StoredRow {
        StoredRow(json!({
            "webhook_version": version, "updated_at": at(0).iso(), "synced_at": at(100).iso(),
            "removed_at": removed_at, "tags": ["2", "3"], "tag_names": ["two", "three"],
            "raw": {"tags": [{"id": 1, "text": "one"}]},
        }))
    }

    #[test]
    fn a_greater_version_is_applied() {
        let row = stored(json!(5), Value::Null);
        let cells = event(6, 90, None).changes_to(&row, None, at(200)).unwrap();
        assert_eq!(cells["tag_names"], json!(["one", "two", "three"]));
        assert!(!cells.contains_key("removed_at") && !cells.contains_key("updated_at"));
        assert_eq!(event(5, 90, None).changes_to(&row, None, at(200)), Err(Applied::Unchanged));
        assert_eq!(event(4, 90, None).changes_to(&row, None, at(200)), Err(Applied::Stale));
        assert_eq!(event(6, 39, None).changes_to(&row, None, at(200)), Err(Applied::Stale), "61 s before");
        assert!(event(6, 40, None).changes_to(&row, None, at(200)).is_ok());
        assert!(event(1, 90, None).changes_to(&stored(Value::Null, Value::Null), None, at(200)).is_ok());
    }

    #[test]
    fn a_removal_is_marked_once_and_taken_back() {
        let removed = |event: Event, removed_at: Value| {
            let cells = event.changes_to(&stored(Value::Null, removed_at), None, at(200)).unwrap();
            cells.get("removed_at").cloned()
        };
        assert_eq!(removed(event(1, 90, Some(true)), Value::Null), Some(moment(at(200))));
        assert_eq!(removed(event(1, 90, Some(true)), moment(at(50))), None);
        assert_eq!(removed(event(1, 90, Some(false)), moment(at(50))), Some(Value::Null));
        assert_eq!(event(1, 90, Some(true)).applied(&["removed_at".to_owned()]), Applied::Removed);
    }
}
