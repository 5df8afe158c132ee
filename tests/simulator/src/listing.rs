//! Decides which conversations a request gets: filters, order, cursor, and how many.
//! What the parameters mean is left to `query`.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};

use bytes::{Bytes, BytesMut};

use crate::page::{Page, Place, Tie};
use crate::readings::{CursorReading, FrozenReading, LostCursor};
use crate::reply::{JSON, Reply};
use crate::row::Row;
use crate::switches::Switches;
use crate::times::TimeColumn;
use crate::window::Window;

/// A conversations request as the server has understood it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ask {
    pub cursor: Option<String>,
    /// Empty: all.
    pub types: Vec<String>,
    pub tags: Vec<i64>,
    pub any_tag: bool,
    /// `None`: all; an empty list: none.
    pub posts: Option<Vec<String>>,
    pub by_inserted: bool,
    /// Bounds of the sort column.
    pub window: Window,
    pub unread_first: bool,
}

/// Replies remembered while nothing changes, up to so many bytes.
const CACHE_BYTES: usize = 512 << 20;

#[derive(Debug, Default)]
pub struct Cache {
    replies: HashMap<Ask, Reply>,
    bytes: usize,
}

impl Cache {
    pub fn clear(&mut self) {
        self.replies.clear();
        self.bytes = 0;
    }

    fn keep(&mut self, ask: &Ask, reply: &Reply) {
        self.bytes += reply.body.len() + reply.gzip.as_ref().map_or(0, Bytes::len);
        if self.bytes > CACHE_BYTES {
            self.clear();
        }
        self.replies.insert(ask.clone(), reply.clone());
    }
}

/// The reply to a request, from the cache where that is the same.
pub fn reply(page: &mut Page, ask: &Ask, gzip: bool, switches: &Switches) -> Reply {
    let by_chance = switches.short_batches > 0.0 || switches.repeated_rows > 0.0;
    if !by_chance
        && let Some(known) = page.cache.replies.get(ask)
        && (known.gzip.is_some() || !gzip)
    {
        return known.clone();
    }
    // A moved cursor row counts as served once it comes again, and one of the middle may end a
    // later batch: such replies must not be remembered.
    let in_middle = switches.middle_cursor != LostCursor::Continue && in_middle(page, ask);
    let passing = by_chance || in_middle || moved(page, ask);
    let batch = match batch(page, ask, switches) {
        Ok(batch) => batch,
        Err(lost) => return *lost,
    };
    let mut body = BytesMut::from(&b"{\"conversations\":["[..]);
    for (place, index) in batch.iter().enumerate() {
        if place > 0 {
            body.extend_from_slice(b",");
        }
        body.extend_from_slice(&page.text(*index));
        if let Some(row) = page.rows.get_mut(*index) {
            row.served = Some(row.updated);
        }
    }
    if let Some(row) = batch.last().and_then(|index| page.rows.get_mut(*index)) {
        row.ended = true;
    }
    body.extend_from_slice(b"],\"success\":true}");
    let mut reply = Reply { rows: batch.len(), ..Reply::new(200, JSON, body.freeze()) };
    if gzip {
        reply.gzip = Some(crate::reply::gzip(&reply.body));
    }
    if !passing {
        page.cache.keep(ask, &reply);
    }
    reply
}

fn moved(page: &Page, ask: &Ask) -> bool {
    let row = ask.cursor.as_deref().and_then(|id| page.find(id)).and_then(|index| page.rows.get(index));
    !ask.by_inserted && row.is_some_and(|row| row.served.is_some_and(|served| served != row.updated))
}

/// The rows of the next batch, or the reply to a cursor that is refused.
fn batch(page: &mut Page, ask: &Ask, switches: &Switches) -> Result<Vec<usize>, Box<Reply>> {
    let Some(cursor) = start(page, ask, switches)? else { return Ok(Vec::new()) };
    if ask.window.nothing {
        return Ok(Vec::new());
    }
    let mut rows = if ask.unread_first {
        unread_first(page, ask, cursor, switches)
    } else {
        in_order(page, ask, cursor, switches)
    };
    if rows.len() > 1 && page.dice.chance(switches.short_batches) {
        let kept = 1 + page.dice.index(rows.len() - 1);
        rows.truncate(kept);
    }
    if !rows.is_empty() && page.dice.chance(switches.repeated_rows) {
        let twice = page.dice.index(rows.len());
        if let Some(row) = rows.get(twice).copied() {
            let later = twice + 1 + page.dice.index(rows.len() - twice);
            rows.insert(later, row);
            rows.truncate(switches.batch.max(2));
        }
    }
    Ok(rows)
}

/// Where the batch starts: `Some(None)` at the top, `Some(Some(row))` after a row, `None` nowhere.
fn start(page: &Page, ask: &Ask, switches: &Switches) -> Result<Option<Option<usize>>, Box<Reply>> {
    let Some(id) = ask.cursor.as_deref() else { return Ok(Some(None)) };
    let found = page.find(id);
    let lost = match found {
        None => switches.lost_cursor,
        Some(index) if !page.shows(index) => switches.lost_cursor,
        Some(_) if moved(page, ask) => switches.moved_cursor,
        Some(_) if in_middle(page, ask) => switches.middle_cursor,
        Some(_) => LostCursor::Continue,
    };
    match lost {
        LostCursor::Continue => Ok(Some(found)),
        LostCursor::FirstPage => Ok(Some(None)),
        LostCursor::Empty => Ok(None),
        LostCursor::Http500 => Err(Reply::server_error().into()),
        LostCursor::SuccessFalse => Err(Reply::unsuccessful("Conversation not found").into()),
    }
}

/// Whether the cursor row was not the last one of any batch so far.
fn in_middle(page: &Page, ask: &Ask) -> bool {
    let row = ask.cursor.as_deref().and_then(|id| page.find(id)).and_then(|index| page.rows.get(index));
    row.is_some_and(|row| !row.ended)
}

fn in_order(page: &Page, ask: &Ask, cursor: Option<usize>, switches: &Switches) -> Vec<usize> {
    let list = if ask.by_inserted { &page.by_inserted } else { &page.by_updated };
    let from = cursor.map_or(Unbounded, |index| Excluded(after(page, ask, index, switches)));
    let top = (Reverse(ask.window.highest), Tie::Least, 0);
    // Rows out of order may be let in wherever they stand.
    let range = !page.out_of_order;
    let from = match from {
        Excluded(place) if !range || place >= top => Excluded(place),
        _ if range => Included(top),
        from => from,
    };
    list.range((from, Unbounded::<Place>))
        .take_while(|(Reverse(time), ..)| !range || *time >= ask.window.lowest)
        .map(|place| place.2)
        .filter(|index| page.rows.get(*index).is_some_and(|row| matches(page, row, ask, switches)))
        .take(switches.batch)
        .collect()
}

fn unread_first(page: &Page, ask: &Ask, cursor: Option<usize>, switches: &Switches) -> Vec<usize> {
    let list: &BTreeSet<Place> = if ask.by_inserted { &page.by_inserted } else { &page.by_updated };
    let seen = |index: usize| page.rows.get(index).is_some_and(|row| row.seen);
    let after = cursor.map(|index| (seen(index), after(page, ask, index, switches)));
    let mut places: Vec<(bool, &Place)> = list
        .iter()
        .filter(|place| page.rows.get(place.2).is_some_and(|row| matches(page, row, ask, switches)))
        .map(|place| (seen(place.2), place))
        .filter(|(seen, place)| after.as_ref().is_none_or(|after| (*seen, *place) > (after.0, &after.1)))
        .collect();
    places.sort_unstable();
    places.into_iter().take(switches.batch).map(|(_, place)| place.2).collect()
}

/// Returns the place behind which a cursor continues.
fn after(page: &Page, ask: &Ask, index: usize, switches: &Switches) -> Place {
    let place = match switches.frozen_cursor {
        _ if ask.by_inserted => page.inserted_place(index),
        FrozenReading::Hidden => page.updated_place(index),
        FrozenReading::Shown => page.shown_place(index),
    };
    match switches.cursor {
        CursorReading::AfterRow => place,
        CursorReading::StrictlyBelow => (place.0, Tie::Greatest, 0),
    }
}

/// Whether `since` and `until` let a row in. One without a time passes only if there are no bounds.
fn in_window(page: &Page, row: &Row, ask: &Ask, switches: &Switches) -> bool {
    let (column, time) = match switches.frozen_time {
        _ if ask.by_inserted => (TimeColumn::InsertedAt, row.inserted),
        FrozenReading::Hidden => (TimeColumn::UpdatedAt, row.updated),
        FrozenReading::Shown => (TimeColumn::UpdatedAt, row.shown(TimeColumn::UpdatedAt)),
    };
    if page.has_time(row, column) { ask.window.lets_in(time) } else { ask.window.is_open() }
}

fn matches(page: &Page, row: &Row, ask: &Ask, switches: &Switches) -> bool {
    let has = |tag: &i64| row.has_tag(*tag);
    let of_type = |wanted: &String| match wanted.as_str() {
        "POST" => row.post_id.is_some(),
        "COMMENT_LIVESTREAM" => row.kind == "LIVESTREAM" || row.kind == *wanted,
        other => row.kind == other,
    };
    in_window(page, row, ask, switches)
        && (ask.types.is_empty() || ask.types.iter().any(of_type))
        && (ask.tags.is_empty()
            || if ask.any_tag { ask.tags.iter().any(has) } else { ask.tags.iter().all(has) })
        && ask
            .posts
            .as_ref()
            .is_none_or(|posts| row.post_id.as_ref().is_some_and(|post| posts.contains(post)))
}
