//! What the doctor knows of a conversation, and the questions that it asks about them. What the answers prove is
//! decided by the experiments.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::asking::Answer;
use crate::catalogue::Object;
use crate::cell::Cell;
use crate::column::Context;
use crate::decode::{Source, Wanted, spots};
use crate::endpoint::address;
use crate::error::Result;
use crate::place::Order;
use crate::plan::Chain;
use crate::reply::{Listed, Reply};
use crate::scan::Scan;
use crate::time::Micros;
use crate::url::Address;
use crate::walk;
use crate::walker::Ask;

/// A conversation as far as the experiments look at it.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub id: String,
    pub page_id: Option<String>,
    pub kind: Option<String>,
    pub post_id: Option<String>,
    pub tags: BTreeSet<String>,
    /// Who of the staff it is assigned to, and who answered last.
    pub staff: BTreeSet<String>,
    pub inserted_at: Micros,
    pub updated_at: Micros,
}

impl Known {
    pub fn time(&self, order: Order) -> Micros {
        if order == Order::UpdatedAt { self.updated_at } else { self.inserted_at }
    }
}

/// How an experiment was answered.
#[derive(Clone, Debug)]
pub enum Seen {
    Rows(Vec<Known>),
    /// By an error that speaks neither of the token nor of the page or the rate, twice.
    Refused,
}

const CELLS: [(&str, Option<&str>); 7] = [
    ("page_id", Some("/page_id")),
    ("page_uid", Some("/page_uid")),
    ("type", None),
    ("post_id", None),
    ("tags", None),
    ("assignee_ids", None),
    ("last_staff_id", None),
];

/// Reads the rows of a list of conversations.
pub fn read(listed: &Listed) -> Result<Vec<Known>> {
    const CONVERSATIONS: Object = Object::Conversations;
    let wanted: Vec<_> = CELLS
        .iter()
        .filter_map(|(name, path)| {
            let source = Source::find(CONVERSATIONS, name, *path)?;
            Some(Wanted { name: (*name).to_owned(), source })
        })
        .collect();
    let by = |order| spots(CONVERSATIONS, &listed.rows, order);
    let row = |(served, updated): (crate::decode::Served, crate::decode::Served)| {
        let row = served.cells(&wanted, &Context { page_id: "", conversation_id: None })?;
        let mut cells = row.cells.into_iter().map(texts);
        let mut next = || cells.next().unwrap_or_default();
        let (page_id, page_uid) = (next(), next());
        let (kind, post_id, tags, assignees, staff) = (next(), next(), next(), next(), next());
        Ok(Known {
            id: row.id,
            page_id: page_id.into_iter().chain(page_uid).next(),
            kind: kind.into_iter().next(),
            post_id: post_id.into_iter().next(),
            tags: tags.into_iter().collect(),
            staff: assignees.into_iter().chain(staff).collect(),
            inserted_at: row.at,
            updated_at: updated.spot.at,
        })
    };
    by(Order::InsertedAt)?.into_iter().zip(by(Order::UpdatedAt)?).map(row).collect()
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

impl Scan {
    /// The address of a chain's first batch.
    pub(crate) fn beginning(&self, chain: &Chain) -> Address {
        self.window(chain, None, None)
    }

    pub(crate) fn window(&self, chain: &Chain, since: Option<Micros>, until: Option<Micros>) -> Address {
        let second = |time: Option<Micros>| time.map(Micros::floor_second);
        let ask = walk::Ask { cursor: None, since: second(since), until: second(until) };
        address(Object::Conversations, &self.page_id, chain, &Ask::Cursor(ask))
    }

    /// Asks for conversations. Where the server only errs it is asked once more: such an error may pass.
    pub(crate) async fn look(&self, address: &Address) -> Result<Seen> {
        let take = |answer: Answer| match answer {
            Answer::Suspect => Ok(Some(Seen::Refused)),
            Answer::Rows(reply, listed) => self.note(reply, listed).map(|rows| Some(Seen::Rows(rows))),
        };
        match self.answer(address, None, take).await? {
            Seen::Refused => self.answer(address, None, take).await,
            seen => Ok(seen),
        }
    }

    /// The same where an error is one: tried again as any request, and told.
    pub(crate) async fn must_look(&self, address: &Address) -> Result<Vec<Known>> {
        let take = |answer: Answer| match answer {
            Answer::Suspect => Ok(None),
            Answer::Rows(reply, listed) => self.note(reply, listed).map(Some),
        };
        self.answer(address, None, take).await
    }

    fn note(&self, reply: &Reply, listed: &Listed) -> Result<Vec<Known>> {
        let rows = read(listed)?;
        self.tally.rows.add(rows.len());
        self.tally.bytes.add(reply.body.len());
        self.meter.stats.rows.add(rows.len());
        self.meter.stats.bytes.add(reply.body.len());
        Ok(rows)
    }
}
