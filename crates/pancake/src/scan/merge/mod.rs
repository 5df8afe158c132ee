//! This module merges the chains of a union into one stream, each row once, newest first where that
//! is promised. Which piece is asked next is left to `choice`, where pieces are cut and meet to
//! `cuts`, what replies show of the list to `order`, and how rows are handed out to `output`.
//! Pure: when a request may leave, and how it is made, is [`crate::scan::run`]'s matter.
//!
//! A chain begins as one *segment*. Where every segment waits for its reply and the page's budget
//! would allow another request, one of them is cut in two by time, and both are walked at once: a
//! scan has as many requests on their way as its latency needs, and at a low latency it is one
//! chain.

mod choice;
mod cuts;
mod order;
mod output;

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::paging::cursor::{End, TERMS, Terms};
use crate::paging::head_check::{HeadCheck, newest};
use crate::paging::id_set::IdSet;
use crate::paging::pager::{BatchParams, Pager};
use crate::paging::time_slices::NumberedBatch;
use crate::paging::verdicts::Assumptions;
use crate::plan::request::{Chain, RequestPlan};
use crate::reply::decode::Row;
use crate::scan::segment::Segment;
use crate::schema::catalogue::{Object, Pagination};
use crate::schema::keyset::RowKey;
use crate::time::Micros;
use choice::Choice;
pub use order::Findings;

/// As many rows, or fewer, cost a request for each batch and no more: in an order their chain is
/// not cut, and of several pages each is asked ahead only once it has proved long.
pub const SMALL_LIMIT: u64 = 1_000;

#[derive(Clone, Debug)]
pub struct Union {
    terms: Terms,
    object: Object,
    known: Assumptions,
    chains: Vec<Chain>,
    /// By chain, and newest first.
    segments: Vec<Segment>,
    segments_made: usize,
    ordered: bool,
    limit: Option<u64>,
    /// In `updated_at` order: what moved up meanwhile is looked for at the head.
    looks: Option<HeadCheck>,
    look_is_asked: bool,
    /// When each chain began that has shown a row: what shows a later time has come since.
    begun: BTreeMap<usize, Micros>,
    /// The time of the last row that was handed out.
    last: Option<Micros>,
    /// Ids that came, where a row may come by two ways.
    came: Option<IdSet>,
    /// Ids of rows that came without the time of the order: they may stand in the pieces of several
    /// walks.
    undated: IdSet,
    /// Ids that are still to come, where the query names them all.
    missing: Option<BTreeSet<String>>,
    /// Rows that were handed out.
    handed: u64,
    /// Replies so far: one alone is a snapshot.
    replies: u32,
    /// Segments that were cut off in vain.
    folded: u32,
    /// Chains that began at an anchor because the list was believed to be in order.
    from_anchor: BTreeSet<usize>,
    /// A segment has ended that did not see its list in one reply.
    took_a_while: bool,
    found: Findings,
    /// What of it has been returned.
    returned: Findings,
}

/// The part of the union that a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub enum Asker {
    Segment(usize),
    Look,
}

/// A request to make.
#[derive(Clone, Debug)]
pub struct Question {
    pub asker: Asker,
    pub chain: Chain,
    pub ask: BatchParams,
}

impl Union {
    /// `moves`: the order is `updated_at`, and rows may still move into the window.
    pub fn new(object: Object, plan: &RequestPlan, moves: bool, known: impl Into<Assumptions>) -> Self {
        Self::on(TERMS, object, plan, moves, known)
    }

    pub fn on(
        terms: Terms,
        object: Object,
        plan: &RequestPlan,
        moves: bool,
        known: impl Into<Assumptions>,
    ) -> Self {
        let known = known.into();
        let walk = |chain: &Chain| Pager::on(terms, object, chain, moves, known);
        // Other walkers know by themselves what to do about it.
        let looks = moves && object.paging() == Pagination::Cursor;
        let segment = |(i, chain)| Segment::new(i, i, walk(chain));
        let window = plan.chains.first().map(|chain| chain.window).unwrap_or_default();
        let segments: Vec<Segment> = plan.chains.iter().enumerate().map(segment).collect();
        let found = Findings { window: None, is_loose: !known.is_in_order, has_low_row: !known.ends_by_time };
        let begins_below = |segment: &&Segment| !segment.walk.begins_at_head();
        Self {
            terms,
            object,
            known,
            chains: plan.chains.clone(),
            from_anchor: segments.iter().filter(begins_below).map(|segment| segment.chain).collect(),
            segments,
            segments_made: plan.chains.len(),
            ordered: plan.ordered,
            limit: plan.limit,
            looks: (looks && !plan.chains.is_empty()).then(|| HeadCheck::new(terms, window)),
            look_is_asked: false,
            begun: BTreeMap::new(),
            last: None,
            came: plan.may_repeat().then(IdSet::default),
            undated: IdSet::default(),
            missing: plan.ids.clone(),
            handed: 0,
            replies: 0,
            folded: 0,
            took_a_while: false,
            found,
            returned: found,
        }
    }

    /// Whether there is something to ask: for the next row, or `ahead` of it.
    pub fn has_next(&self, ahead: bool) -> bool {
        self.choose(ahead).is_some()
    }

    /// The next request, which is on its way from now on.
    pub fn next(&mut self, ahead: bool) -> Option<Question> {
        let at = match self.choose(ahead)? {
            Choice::Look => {
                let ask = BatchParams::Cursor(self.looks.as_ref()?.ask()?);
                self.look_is_asked = true;
                return Some(Question { asker: Asker::Look, chain: Chain::common(&self.chains)?, ask });
            }
            Choice::Ask(at) => at,
            Choice::Cut(at, low) => {
                self.divide(at, low)?;
                at + 1
            }
        };
        let segment = &mut self.segments[at];
        let ask = segment.walk.ask()?;
        segment.busy = true;
        let asker = Asker::Segment(segment.number);
        Some(Question { asker, chain: self.chains[segment.chain].clone(), ask })
    }

    /// From now on a row may come by two ways.
    fn keep_ids(&mut self) {
        let ids = || self.segments.iter().filter_map(|segment| segment.walk.ids());
        self.came.get_or_insert_with(|| {
            ids().fold(IdSet::default(), |mut all, ids| {
                all.extend(ids);
                all
            })
        });
    }

    /// Sets how many rows are wanted in all.
    pub fn limit_to(&mut self, limit: Option<u64>) {
        self.limit = limit;
    }

    /// Rows that came and were not handed out yet.
    pub fn waiting(&self) -> usize {
        self.segments.iter().map(|segment| segment.rows.len()).sum()
    }

    /// Returns their bytes.
    pub fn waiting_bytes(&self) -> usize {
        self.segments.iter().flat_map(|segment| &segment.rows).map(Row::size).sum()
    }

    fn segment(&mut self, number: usize) -> Option<&mut Segment> {
        self.segments.iter_mut().find(|segment| segment.number == number)
    }

    /// Takes a reply in, with its total, and returns which of its rows are to be fed.
    pub fn reply(
        &mut self,
        asker: Asker,
        rows: &[RowKey],
        total: Option<u64>,
        now: Micros,
    ) -> Result<Vec<usize>> {
        self.replies += 1;
        let undated_rows = rows.iter().filter(|row| !row.is_dated).count();
        self.undated.reserve(undated_rows)?;
        self.came.as_mut().map_or(Ok(()), |came| came.reserve(rows.len()))?;
        let (came, undated) = (&mut self.came, &mut self.undated);
        let mut is_new = |row: &RowKey| {
            let is_new = row.is_dated || undated.is_new(&row.id);
            came.as_mut().map_or(is_new, |came| came.is_new(&row.id))
        };
        let Asker::Segment(number) = asker else {
            self.look_is_asked = false;
            let Some(looks) = &mut self.looks else { return Ok(Vec::new()) };
            let fresh = looks.reply(rows, now, is_new)?;
            if looks.has_low_row {
                self.found.has_low_row = true;
                self.go_by_inserted_at(None);
            }
            return Ok(fresh);
        };
        let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == number) else {
            return Ok(Vec::new());
        };
        segment.busy = false;
        segment.saw(rows, now);
        let mut fresh = segment.walk.reply(rows, total, now)?;
        fresh.retain(|i| is_new(&rows[*i]));
        let disorder = segment.walk.take_disorder();
        if !rows.is_empty() && !self.begun.contains_key(&segment.chain) {
            let newest = newest(rows, now).filter(|_| segment.walk.begins_at_head());
            self.begun.insert(segment.chain, newest.unwrap_or(now));
            if let Some(looks) = &mut self.looks {
                looks.note(rows, now);
            }
        }
        self.note(number);
        self.look_at_order(number, disorder)?;
        self.look_at_cuts(number, !fresh.is_empty());
        self.walks_may_be_over();
        Ok(fresh)
    }

    /// A request failed in a way that may be due to its form, which the refusal may name. False
    /// where it was not, and the failure is one.
    pub fn lost(&mut self, asker: Asker, is_named: bool) -> bool {
        match asker {
            Asker::Look => {
                let lost = self.looks.as_mut().is_some_and(HeadCheck::lost);
                self.look_is_asked &= !lost;
                lost
            }
            Asker::Segment(number) => {
                // Without it the union does by now.
                let Some(segment) = self.segment(number) else { return true };
                let lost = segment.walk.lost(is_named);
                segment.busy &= !lost;
                self.note(number);
                self.look_at_cuts(number, false);
                self.walks_may_be_over();
                lost
            }
        }
    }

    /// Whether the union does without the reply to this request by now: what asked has ended, or
    /// was replaced.
    pub fn does_without(&mut self, asker: Asker) -> bool {
        match asker {
            Asker::Look => self.looks.is_none(),
            Asker::Segment(number) => {
                let segment = self.segment(number);
                segment.is_none_or(|segment| segment.walk.ended().is_some()) && self.lost(asker, false)
            }
        }
    }

    fn walks_may_be_over(&mut self) {
        let over = self.segments.iter().all(|segment| segment.walk.ended().is_some() && !segment.busy);
        let Some(looks) = self.looks.as_mut().filter(|_| over) else { return };
        if self.replies == 1 || !self.took_a_while || !looks.begin() {
            self.looks = None;
        } else {
            self.keep_ids();
        }
    }

    fn found_all(&self) -> bool {
        self.missing.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// Nothing is left to ask or to wait for.
    pub fn is_over(&self) -> bool {
        let walked = self.segments.iter().all(|segment| segment.walk.ended().is_some());
        let rests = self.looks.as_ref().is_none_or(|looks| looks.have_begun() && looks.ask().is_none());
        self.found_all() || (walked && rests)
    }

    /// How many rows there are, if the list has a total.
    pub fn total(&self) -> Option<u64> {
        self.segments.first()?.walk.total()
    }

    /// One of the windows of a numbered list that have not been read, counted from the newest.
    pub fn unread(&self, index: i64) -> Option<NumberedBatch> {
        self.segments.first()?.walk.unread(index)
    }

    /// Why the stream is over.
    pub fn end(&self) -> Option<End> {
        if self.found_all() {
            Some(End::FoundAll)
        } else {
            self.segments.last().and_then(|segment| segment.walk.ended())
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod ceiling_model;

#[cfg(test)]
mod small_model;

#[cfg(test)]
mod model;

#[cfg(test)]
mod moving_model;
