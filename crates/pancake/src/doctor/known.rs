//! This module reads of a conversation what the experiments need. What they prove is decided in a
//! file for each.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::rows::{self, Oddity};
use crate::error::Result;
use crate::json::cell::Cell;
use crate::json::object::Fields;
use crate::reply::decode::{ServedRow, Source, WantedCell, spots};
use crate::reply::envelope::RowList;
use crate::schema::catalogue::Object;
use crate::schema::column::Context;
use crate::schema::keyset::Order;
use crate::time::Micros;

/// A conversation as far as the experiments look at it.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownRow {
    pub id: String,
    pub page_id: Option<String>,
    pub kind: Option<String>,
    pub post_id: Option<String>,
    pub tags: BTreeSet<String>,
    /// The members of staff that it is assigned to, and the one that answered last.
    pub staff: BTreeSet<String>,
    pub inserted_at: Micros,
    pub updated_at: Micros,
    /// The times are the row's own; else it shows another one there.
    pub has_inserted_at: bool,
    pub has_updated_at: bool,
    pub messages: Option<i64>,
    pub oddities: Vec<Oddity>,
}

impl KnownRow {
    pub fn time(&self, order: Order) -> Micros {
        if order == Order::UpdatedAt { self.updated_at } else { self.inserted_at }
    }

    pub fn is_dated(&self, order: Order) -> bool {
        if order == Order::UpdatedAt { self.has_updated_at } else { self.has_inserted_at }
    }

    /// Whether nothing that a filter compares has changed; a message that came since changes none
    /// of it.
    pub fn is_still(&self, now: &KnownRow) -> bool {
        let then = KnownRow {
            updated_at: now.updated_at,
            has_updated_at: now.has_updated_at,
            messages: now.messages,
            oddities: now.oddities.clone(),
            ..self.clone()
        };
        then == *now
    }
}

/// How an experiment was answered.
#[derive(Clone, Debug)]
pub enum Answer {
    Rows(Vec<KnownRow>),
    /// By an error that is about neither the token nor the page nor the rate.
    Refused,
}

const CELLS: [(&str, Option<&str>); 8] = [
    ("page_id", Some("/page_id")),
    ("page_uid", Some("/page_uid")),
    ("type", None),
    ("post_id", None),
    ("tags", None),
    ("assignee_ids", None),
    ("last_staff_id", None),
    ("message_count", None),
];

/// Reads the rows of a list of conversations.
pub fn read(listed: &RowList) -> Result<Vec<KnownRow>> {
    const CONVERSATIONS: Object = Object::Conversations;
    let wanted: Vec<_> = CELLS
        .iter()
        .filter_map(|(name, path)| {
            let source = Source::find(CONVERSATIONS, name, *path)?;
            Some(WantedCell { name: (*name).to_owned(), source })
        })
        .collect();
    let by = |order| spots(CONVERSATIONS, &listed.rows, order);
    let row = |((served, updated), fields): ((ServedRow, ServedRow), &Fields)| {
        let row = served.cells(&wanted, &Context { page_id: "", conversation_id: None })?;
        let mut cells = row.cells.into_iter().map(texts);
        let mut next = || cells.next().unwrap_or_default();
        let (page_id, page_uid) = (next(), next());
        let (kind, post_id, tags, assignees, staff) = (next(), next(), next(), next(), next());
        let messages = next();
        Ok(KnownRow {
            id: row.id,
            page_id: page_id.into_iter().chain(page_uid).next(),
            kind: kind.into_iter().next(),
            post_id: post_id.into_iter().next(),
            tags: tags.into_iter().collect(),
            staff: assignees.into_iter().chain(staff).collect(),
            inserted_at: row.at,
            updated_at: updated.spot.at,
            has_inserted_at: served.spot.is_dated,
            has_updated_at: updated.spot.is_dated,
            messages: messages.first().and_then(|count| count.parse().ok()),
            oddities: rows::oddities(fields),
        })
    };
    let both = by(Order::InsertedAt)?.into_iter().zip(by(Order::UpdatedAt)?);
    both.zip(&listed.rows).map(row).collect()
}

/// The texts of a cell.
pub fn texts(cell: Cell) -> Vec<String> {
    match cell {
        Cell::Text(text) => vec![text.into_owned()],
        Cell::Json(json) => vec![json.trim_matches('"').to_owned()],
        Cell::Int(number) => vec![number.to_string()],
        Cell::Texts(texts) => texts.into_iter().flatten().map(Cow::into_owned).collect(),
        Cell::Null | Cell::Bool(_) | Cell::Time(_) => Vec::new(),
    }
}
