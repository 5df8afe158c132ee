//! This module is a segment, a stretch of a chain that is walked by itself: what it has brought,
//! how much is left of it by its own density, and where it can be cut in two. Which one is asked
//! and which one is cut, the union decides.

use std::collections::VecDeque;

use crate::paging::pager::Pager;
use crate::reply::decode::Row;
use crate::schema::keyset::{RowKey, TimeRange};
use crate::time::{Micros, SECOND};

/// New rows in a batch of 60: neighbouring batches overlap by a row.
pub const ROWS_OF_A_BATCH: f64 = 59.0;
/// What a cut leaves to the newer part, in batches. A cut costs about half a batch, which both
/// parts fetch: 2 %.
const PIECE: f64 = 24.0;
/// The same where rows of older parts wait for those of the newer ones.
const ORDERED_PIECE: f64 = 12.0;
/// Less than this is not worth a cut.
const SMALLEST: f64 = 2.5;
/// `until` is in whole seconds and widened by one: a shorter stretch would be served twice.
const SHORTEST_MICROS: i64 = 4 * SECOND;

#[derive(Clone, Debug)]
pub struct Segment {
    /// Identifies it, wherever it stands in the list of segments.
    pub number: usize,
    pub chain: usize,
    pub walk: Pager,
    /// A request is on its way.
    pub busy: bool,
    /// What came and was not handed out yet, newest first.
    pub rows: VecDeque<Row>,
    newest: Option<Micros>,
    count: usize,
    /// Microseconds from one row to the next, as the neighbour knew it before this one did.
    inherited_gap: Option<f64>,
}

impl Segment {
    pub fn new(number: usize, chain: usize, walk: Pager) -> Self {
        let rows = VecDeque::new();
        Self { number, chain, walk, busy: false, rows, newest: None, count: 0, inherited_gap: None }
    }

    /// Takes note of a reply.
    pub fn saw(&mut self, rows: &[RowKey]) {
        self.newest = self.newest.or(rows.first().map(|row| row.at));
        self.count += rows.len();
    }

    pub fn is_idle(&self) -> bool {
        !self.busy && self.walk.ended().is_none()
    }

    /// Its next row is not known yet.
    pub fn is_starved(&self) -> bool {
        self.first().is_none() && self.walk.ended().is_none()
    }

    /// The next row of an ordered stream, if no newer one can follow it.
    pub fn first(&self) -> Option<&Row> {
        let low = self.walk.holds_back_below();
        self.rows.front().filter(|row| low.is_none_or(|low| row.at > low))
    }

    /// Takes rows in; in an ordered stream newest first, ties as they came.
    pub fn feed(&mut self, rows: impl IntoIterator<Item = Row>, ordered: bool) {
        for row in rows {
            let newer = |other: &Row| other.at >= row.at;
            let place = if ordered { self.rows.partition_point(newer) } else { self.rows.len() };
            self.rows.insert(place, row);
        }
    }

    pub fn is_done(&self) -> bool {
        self.rows.is_empty() && self.walk.ended().is_some()
    }

    /// Where the walk is, or begins.
    pub fn position(&self) -> Option<Micros> {
        self.walk.depth().or(self.walk.window().high)
    }

    fn gap(&self) -> Option<f64> {
        let span =
            self.newest.zip(self.walk.depth()).map(|(newest, place)| newest.0.saturating_sub(place.0) as f64);
        span.filter(|_| self.count > 1).map(|span| span / (self.count - 1) as f64).or(self.inherited_gap)
    }

    /// Batches that are left, by estimate: of a chain that has no lower bound any number, of one
    /// that has not begun none that are known.
    pub fn left(&self) -> f64 {
        match (self.position(), self.gap(), self.walk.window().low) {
            (Some(_), Some(_), None) => f64::INFINITY,
            (Some(at), Some(gap), Some(low)) => {
                at.0.saturating_sub(low.0).max(0) as f64 / (gap.max(1.0) * ROWS_OF_A_BATCH)
            }
            _ => 0.0,
        }
    }

    /// Where to cut, if so many batches are wanted of it, so that both parts are worth while;
    /// nowhere if that is too little, or unknown.
    pub fn cut_of(&self, batches: f64, ordered: bool) -> Option<Micros> {
        if batches < SMALLEST || !self.walk.goes_on() || self.walk.depth().is_none() {
            return None;
        }
        let piece = if ordered { ORDERED_PIECE } else { PIECE };
        let newer = if batches > piece + SMALLEST { piece } else { batches / 2.0 };
        let span = (newer * ROWS_OF_A_BATCH * self.gap()?) as i64;
        let low = Micros(self.position()?.0.saturating_sub(span.max(SHORTEST_MICROS)));
        if !self.walk.can_be_cut(low) {
            return None;
        }
        let TimeRange { low: oldest, .. } = self.walk.window();
        oldest.is_none_or(|oldest| oldest.0 < low.0.saturating_sub(SHORTEST_MICROS)).then_some(low)
    }

    /// The older part, with the rows that came ahead of it: in an ordered stream they come out
    /// among its own.
    pub fn cut(&mut self, low: Micros, number: usize, ordered: bool) -> Option<Segment> {
        let gap = self.gap();
        let walk = self.walk.cut(low, gap.unwrap_or_default() as i64)?;
        let newer = if ordered { self.rows.partition_point(|row| row.at >= low) } else { self.rows.len() };
        let rows = self.rows.split_off(newer);
        Some(Segment { inherited_gap: gap, rows, ..Segment::new(number, self.chain, walk) })
    }

    /// Takes back an older part that found no row to begin from.
    pub fn take_back(&mut self, older: Segment, ordered: bool) {
        self.walk.take_back(older.walk.window().low);
        self.feed(older.rows, ordered);
    }
}
