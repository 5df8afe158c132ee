//! Knows one conversation: its ids, times, tags and messages, and how a new message changes it.
//! How it is written as JSON is left to `render`, its place in the list to the page.

use std::cell::OnceCell;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::clock::{Micros, floor};
use crate::dice::Dice;
use crate::shop::{Shop, about};
use crate::times::{RowTimes, TimeColumn, TimeForm};
use crate::words;

#[derive(Debug)]
pub struct Row {
    pub id: Arc<str>,
    pub kind: String,
    pub post_id: Option<String>,
    pub inserted: Micros,
    /// The time of the last message; a frozen row shows another.
    pub updated: Micros,
    pub seen: bool,
    /// `None`: a removed tag, served as `null`.
    pub tags: Vec<Option<i64>>,
    /// Counted over the page, in the order of creation.
    pub ordinal: u64,
    /// Whose conversation it is: the ordinal of the person.
    pub person: u64,
    pub gone: bool,
    pub times: RowTimes,
    /// It was the last row of a batch.
    pub ended: bool,
    /// The `updated` it had when it was last served in a batch.
    pub served: Option<Micros>,
    /// RowTimes only to the second, as on COMMENT and RATING rows.
    pub whole_seconds: bool,
    pub talk: Talk,
    /// A row placed by hand, served verbatim.
    pub verbatim: Option<Value>,
    pub text: OnceCell<Bytes>,
}

/// The messages of a conversation: those it began with, spread over their span, and later ones one
/// by one.
#[derive(Debug)]
pub struct Talk {
    pub key: u64,
    pub first: Micros,
    pub last: Micros,
    pub count: u64,
    pub later: Vec<Micros>,
    /// Messages taken back, by number.
    pub removed: Vec<u64>,
}

impl Talk {
    pub fn total(&self) -> u64 {
        self.count + self.later.len() as u64
    }

    pub fn time(&self, number: u64, whole_seconds: bool) -> Micros {
        if number >= self.count {
            let later = usize::try_from(number - self.count).unwrap_or(usize::MAX);
            return self.later.get(later).copied().unwrap_or(self.last);
        }
        if number + 1 == self.count {
            return self.last;
        }
        let span = i128::from(self.last - self.first);
        let passed = span * i128::from(number) / i128::from(self.count - 1);
        let time = self.first + Micros::try_from(passed).unwrap_or(0);
        if whole_seconds { floor(time) } else { time }
    }

    /// The person of the page who wrote a message; `None`: the customer did.
    pub fn staff(&self, number: u64, staff: usize) -> Option<usize> {
        let mut dice = Dice::of(&[self.key, about::MESSAGE, number]);
        (number > 0 && dice.chance(0.45)).then(|| dice.index(staff))
    }

    pub fn words(&self, number: u64) -> &'static str {
        let mut dice = Dice::of(&[self.key, about::MESSAGE, number, 1]);
        match self.staff(number, 1) {
            Some(_) => dice.pick(words::SHOP_SAYS),
            None => dice.pick(words::CUSTOMER_SAYS),
        }
    }
}

impl Row {
    /// A row placed by hand; what it lacks is taken from `now`.
    pub fn by_hand(value: Value, ordinal: u64, now: Micros) -> Row {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let (inserted_form, inserted) = TimeForm::read(&value, TimeColumn::InsertedAt);
        let (updated_form, updated) = TimeForm::read(&value, TimeColumn::UpdatedAt);
        let (inserted, updated) = (inserted.unwrap_or(now), updated.unwrap_or(now));
        let count = value.get("message_count").and_then(Value::as_u64).unwrap_or(1).max(1);
        let kind = text("type").unwrap_or_default();
        Row {
            id: text("id").unwrap_or_else(|| format!("(row {ordinal} without id)")).into(),
            post_id: text("post_id"),
            inserted,
            updated,
            seen: value.get("seen").and_then(Value::as_bool).unwrap_or(true),
            tags: tag_ids(&value),
            ordinal,
            person: ordinal,
            gone: false,
            times: RowTimes { inserted_form, updated_form, ..RowTimes::default() },
            ended: false,
            served: None,
            whole_seconds: matches!(kind.as_str(), "COMMENT" | "RATING"),
            talk: Talk {
                key: ordinal,
                first: inserted.min(updated),
                last: updated,
                count,
                later: Vec::new(),
                removed: Vec::new(),
            },
            kind,
            verbatim: Some(value),
            text: OnceCell::new(),
        }
    }

    /// A new message at `time`. A frozen row goes on showing its old time.
    pub fn message(&mut self, time: Micros) {
        self.talk.later.push(time);
        self.updated = self.updated.max(time);
        self.seen = false;
        self.text = OnceCell::new();
        let words = self.talk.words(self.talk.total() - 1);
        let count = self.talk.total();
        if self.times.shown.is_none() {
            if !self.times.updated_form.is_time() {
                self.times.updated_form = TimeForm::Text;
            }
            self.rewrite(TimeColumn::UpdatedAt);
        }
        if let Some(Value::Object(cells)) = &mut self.verbatim {
            cells.insert("message_count".to_owned(), json!(count));
            cells.insert("seen".to_owned(), json!(false));
            cells.insert("snippet".to_owned(), json!(words));
        }
    }

    /// Takes back a message, by its place from the oldest.
    pub fn take_back(&mut self, place: usize) {
        let taken = (0..self.talk.total()).filter(|number| !self.talk.removed.contains(number)).nth(place);
        self.talk.removed.extend(taken);
    }

    pub fn retag(&mut self, tags: &[i64]) {
        self.tags = tags.iter().copied().map(Some).collect();
        self.text = OnceCell::new();
        if let Some(Value::Object(cells)) = &mut self.verbatim {
            let tags: Value = tags.iter().map(|id| Shop::tag(*id).unwrap_or(json!(id))).collect();
            cells.insert("tags".to_owned(), tags);
        }
    }

    pub fn read(&mut self, seen: bool) {
        self.seen = seen;
        self.text = OnceCell::new();
        if let Some(Value::Object(cells)) = &mut self.verbatim {
            cells.insert("seen".to_owned(), json!(seen));
        }
    }

    pub fn has_tag(&self, tag: i64) -> bool {
        self.tags.contains(&Some(tag))
    }
}

/// The tag ids of a row placed by hand, in whatever form it holds them.
fn tag_ids(row: &Value) -> Vec<Option<i64>> {
    let number = |tag: &Value| {
        let id = tag.get("id").unwrap_or(tag);
        id.as_i64().or_else(|| id.as_str()?.parse().ok())
    };
    row.get("tags")
        .and_then(Value::as_array)
        .map(|tags| tags.iter().map(number).collect())
        .unwrap_or_default()
}
