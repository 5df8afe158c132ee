//! This module sends the doctor's requests. A refusal is an answer like any other: only errors
//! about the token, the page or its rate end the examination, and a network that fails twice in a
//! row. What is asked for is decided by [`super`], what the answers prove in a file for each
//! subject.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::known::{Answer, KnownRow, read};
use crate::error::{Error, Kind, Result};
use crate::http::endpoint::address;
use crate::json::cell;
use crate::json::object::Fields;
use crate::paging::cursor;
use crate::paging::pager::BatchParams;
use crate::plan::request::Chain;
use crate::reply::decode::spots;
use crate::reply::envelope::{Reply, RowList};
use crate::scan::session::Session;
use crate::schema::catalogue::Object;
use crate::schema::keyset::Order;
use crate::time::Micros;
use crate::url::Address;

/// Requests that are sent again after a refusal, because it may have been a failure that passes.
/// The experiments send at most 35, and the list of the user's pages takes one, so that no
/// examination sends more than 40.
const SPARE: u32 = 4;

/// A row of another list than the conversations.
#[derive(Clone, Debug, PartialEq)]
pub struct ListRow {
    pub id: String,
    pub at: Micros,
    /// The id at the platform.
    pub fb_id: Option<String>,
}

/// How a request for another list was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Listing {
    Rows { rows: Vec<ListRow>, total: Option<u64> },
    Refused,
}

pub struct Requests<'a> {
    pub session: &'a Session,
    spare: AtomicU32,
    /// Requests in a row that got no reply.
    unanswered: AtomicU32,
}

impl<'a> Requests<'a> {
    pub fn of(session: &'a Session) -> Self {
        Self { session, spare: AtomicU32::new(SPARE), unanswered: AtomicU32::new(0) }
    }

    /// The address of a chain's first batch.
    pub fn head(&self, chain: &Chain) -> Address {
        self.page(chain, cursor::CursorParams::HEAD)
    }

    pub fn window(&self, chain: &Chain, since: Micros, until: Micros) -> Address {
        let (since, until) = (Some(since.floor_second()), Some(until.floor_second()));
        self.page(chain, cursor::CursorParams { cursor: None, since, until })
    }

    pub fn page(&self, chain: &Chain, ask: cursor::CursorParams) -> Address {
        address(Object::Conversations, &self.session.page_id, chain, &BatchParams::Cursor(ask))
    }

    /// Asks for conversations, and once more after a refusal.
    pub async fn look(&self, address: &Address) -> Result<Answer> {
        match self.look_once(address).await? {
            Answer::Refused if self.may_repeat() => self.look_once(address).await,
            seen => Ok(seen),
        }
    }

    /// Asks for conversations in both orders, first by `inserted_at`. Two refusals confirm each
    /// other; after a single one that request is sent again.
    pub async fn look_in_both(&self, address: impl Fn(Order) -> Address) -> Result<[Answer; 2]> {
        let [inserted, updated] = [Order::InsertedAt, Order::UpdatedAt].map(address);
        let seen = [self.look_once(&inserted).await?, self.look_once(&updated).await?];
        Ok(match seen {
            [Answer::Refused, by_updated @ Answer::Rows(_)] if self.may_repeat() => {
                [self.look_once(&inserted).await?, by_updated]
            }
            [by_inserted @ Answer::Rows(_), Answer::Refused] if self.may_repeat() => {
                [by_inserted, self.look_once(&updated).await?]
            }
            seen => seen,
        })
    }

    pub async fn look_once(&self, address: &Address) -> Result<Answer> {
        let rows = |reply: &Reply, listed: &RowList| self.note(reply, listed).map(Answer::Rows);
        let seen = self.session.read_unless_refused(address, 1, rows).await;
        let seen = seen.map(|seen| seen.unwrap_or(Answer::Refused));
        self.unless_refused(seen, Object::Conversations, Answer::Refused)
    }

    /// Asks for conversations like a scan: a failure is tried again as any other, and is an error
    /// in the end.
    pub async fn must_look(&self, address: &Address) -> Result<Vec<KnownRow>> {
        self.session.read(address, |reply, listed| self.note(reply, listed)).await
    }

    /// Asks for another list of the page, and once more after a refusal.
    pub async fn list(&self, object: Object, chain: &Chain, ask: &BatchParams) -> Result<Listing> {
        match self.list_once(object, chain, ask).await? {
            Listing::Refused if self.may_repeat() => self.list_once(object, chain, ask).await,
            listing => Ok(listing),
        }
    }

    async fn list_once(&self, object: Object, chain: &Chain, ask: &BatchParams) -> Result<Listing> {
        let address = address(object, &self.session.page_id, chain, ask);
        let session = Session { object, ..self.session.clone() };
        let rows = |_: &Reply, listed: &RowList| {
            let served = spots(object, &listed.rows, chain.order)?;
            let rows = served.into_iter().zip(&listed.rows).map(|(served, fields)| ListRow {
                id: served.spot.id,
                at: served.spot.at,
                fb_id: text(fields, "fb_id"),
            });
            Ok(Listing::Rows { rows: rows.collect(), total: listed.total })
        };
        let listing = session.read_unless_refused(&address, 1, rows).await;
        let listing = listing.map(|listing| listing.unwrap_or(Listing::Refused));
        self.unless_refused(listing, object, Listing::Refused)
    }

    /// The answer, or `refused` if the request failed in a way that does not end the examination.
    fn unless_refused<T>(&self, answer: Result<T>, object: Object, refused: T) -> Result<T> {
        let is_unanswered = answer.as_ref().is_err_and(|error| error.kind() == Kind::Unreachable);
        let unanswered = if is_unanswered { self.unanswered.load(Relaxed) + 1 } else { 0 };
        self.unanswered.store(unanswered, Relaxed);
        match answer {
            Err(error) if unanswered < 2 && is_refusal(&error, object) => Ok(refused),
            answer => answer,
        }
    }

    pub fn may_repeat(&self) -> bool {
        let left = self.spare.load(Relaxed);
        self.spare.store(left.saturating_sub(1), Relaxed);
        left > 0
    }

    fn note(&self, reply: &Reply, listed: &RowList) -> Result<Vec<KnownRow>> {
        let rows = read(listed)?;
        let (tally, stats) = (&self.session.tally, self.session.limiter.stats);
        tally.rows.add(rows.len());
        tally.bytes.add(reply.body.len());
        stats.rows.add(rows.len());
        stats.bytes.add(reply.body.len());
        Ok(rows)
    }
}

fn text(fields: &Fields, key: &str) -> Option<String> {
    cell::text(fields.get(key)).map(|text| text.into_owned())
}

/// Whether an error is about the request and not about the token, the page or its rate.
fn is_refusal(error: &Error, object: Object) -> bool {
    match error.kind() {
        Kind::ServerFault | Kind::NotUnderstood | Kind::Unreachable => true,
        Kind::PageNotFound => object.needs_conversation(),
        _ => false,
    }
}
