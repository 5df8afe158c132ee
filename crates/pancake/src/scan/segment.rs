//! This module is a segment, a stretch of a chain that is walked by itself: what it has brought,
//! how much is left of it by its own density, and where it can be cut in two. Which one is asked
//! and which one is cut, the union decides.

use std::collections::VecDeque;

use crate::paging::head_check::newest;
use crate::paging::pager::Pager;
use crate::reply::decode::Row;
use crate::schema::keyset::{RowKey, TimeRange};
use crate::time::{Micros, SECOND};

/// New rows in a batch of 60: neighbouring batches overlap by a row.
pub const ROWS_OF_A_BATCH: f64 = 59.0;
/// What a cut leaves to the newer part, in batches. A cut costs about half a batch, which both
/// parts fetch, and by `updated_at` the request for a place to begin: 2 or 6 %.
const PIECE: f64 = 24.0;
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
    /// No row was found right below this.
    bottom: Option<Micros>,
    /// It was cut off in vain.
    pub is_in_vain: bool,
}

impl Segment {
    pub fn new(number: usize, chain: usize, walk: Pager) -> Self {
        let rows = VecDeque::new();
        Self {
            number,
            chain,
            walk,
            busy: false,
            rows,
            newest: None,
            count: 0,
            inherited_gap: None,
            bottom: None,
            is_in_vain: false,
        }
    }

    /// Takes note of a reply.
    pub fn saw(&mut self, rows: &[RowKey], now: Micros) {
        self.newest = self.newest.or_else(|| newest(rows, now));
        self.count += rows.len();
    }

    /// Whether this segment could walk on instead of an older one of its chain: by time only where
    /// that begins where this one ends.
    pub fn can_replace(&self, older: &Segment) -> bool {
        let (low, high) = (self.walk.window().low, older.walk.window().high);
        let is_next = low.zip(high).is_some_and(|(low, high)| low.0.saturating_sub(1) == high.0);
        self.chain == older.chain && (is_next || self.walk.meets_by_ids())
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

    /// Takes rows in, newest first, ties as they came.
    pub fn feed(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            let place = self.rows.partition_point(|other| other.at >= row.at);
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
        let bottom = self.bottom.filter(|bottom| self.position().is_some_and(|at| *bottom < at));
        match (self.position(), self.gap(), self.walk.window().low.or(bottom)) {
            (Some(_), Some(_), None) => f64::INFINITY,
            (Some(at), Some(gap), Some(low)) => {
                at.0.saturating_sub(low.0).max(0) as f64 / (gap.max(1.0) * ROWS_OF_A_BATCH)
            }
            _ => 0.0,
        }
    }

    /// Where to cut, if so many batches are wanted of it, so that both parts are worth while;
    /// nowhere if that is too little, or unknown.
    pub fn cut_of(&self, batches: f64) -> Option<Micros> {
        if batches < SMALLEST || !self.walk.goes_on() || self.walk.depth().is_none() {
            return None;
        }
        let newer = if batches > PIECE + SMALLEST { PIECE } else { batches / 2.0 };
        let span = (newer * ROWS_OF_A_BATCH * self.gap()?) as i64;
        let low = Micros(self.position()?.0.saturating_sub(span.max(SHORTEST_MICROS)));
        if !self.walk.can_be_cut(low) {
            return None;
        }
        let TimeRange { low: oldest, .. } = self.walk.window();
        oldest.is_none_or(|oldest| oldest.0 < low.0.saturating_sub(SHORTEST_MICROS)).then_some(low)
    }

    /// The older part, with the rows that wait for their order and come out among its own.
    pub fn cut(&mut self, low: Micros, number: usize) -> Option<Segment> {
        let gap = self.gap();
        let walk = self.walk.cut(low, gap.unwrap_or_default() as i64)?;
        let rows = self.rows.split_off(self.rows.partition_point(|row| row.at >= low));
        let bottom = self.bottom.take();
        Some(Segment { inherited_gap: gap, rows, bottom, ..Segment::new(number, self.chain, walk) })
    }

    /// Takes back an older part that found no row to begin from.
    pub fn take_back(&mut self, older: Segment) {
        self.walk.take_back(older.walk.window().low);
        self.bottom = older.walk.window().high.filter(|_| older.walk.is_empty());
        self.feed(older.rows);
    }
}
