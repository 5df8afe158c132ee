//! This module walks the messages of one conversation, newest first: it decides what to ask next
//! and what a reply proves (docs/api.md).
//!
//! A request skips so many of the newest messages (`current_count`). A message that arrives between
//! two requests shifts all others down, one that is deleted shifts those below it up, and in both
//! cases a row could be missed without a sign. The walk is keyset pagination on top of an offset: a
//! row is handed out only if a reply shows that it follows a known row.
//!
//! **The usual server.** Each request skips one row less than are known, so that the last known row
//! comes first again.
//!
//! 1. What stands behind the last known row of a reply is new, whatever came or went above it.
//! 2. A reply without any known row lies too low: the walk goes back up until a reply joins on.
//! 3. A short batch proves nothing, because no document promises that batches are full. A reply of
//!    nothing but the last known row is followed by a request for what stands behind it, and only
//!    if that reply is empty the list ends.
//!
//! **Servers whose batches never overlap**: those that reply with one row at a time (always, or
//! from the second request on), and those that round `current_count` to whole batches, down, up or
//! to the nearest. Two replies then have no row in common, and [`Step::Edge`] proves that they are
//! neighbours: `above` is the reply that ends with the last known row, `below` the one that begins
//! right behind it by its count of rows. They are asked for in turn until the last four replies are
//! above, below, above, below, each with the same ids as before. Then nothing stands between them,
//! and the rows of `below` are handed out, or the list ends if it is empty. Any difference leads
//! back to where the replies join. If a longer step was needed to leave the batch of `above` (a
//! short last batch whose `current_count` is rounded down), the place is narrowed by bisection
//! first.
//!
//! **Why nothing is lost.** Known messages and those that arrived meanwhile are always the upper
//! part of the list, without a gap. **Why nothing comes twice.** Only unknown ids are handed out.
//! **Why it ends.** Replies that bring nothing new are counted.
//!
//! **What is assumed.** A loss takes one of these coincidences, and the model in `offset_model.rs`
//! excludes exactly them:
//!
//! - At the end of a list, a batch holds one row although another follows, a row above is deleted
//!   before the very next request, and the reply to that is empty. (One more request for each
//!   conversation would be needed to see it.)
//! - Where batches do not overlap, the list shifts up, down and up again by as many rows, each time
//!   between two requests of one proof.
//! - A server that rounds `current_count` rounds it to its own batch size, and cuts no batch short
//!   to one row, nor the same batch twice.

use std::collections::HashSet;

use crate::error::{Error, Kind, Result};
use crate::paging::cursor::{End, TERMS};
use crate::paging::id_set::IdSet;
use crate::schema::keyset::{RowKey, TimeRange};
use crate::time::Micros;

/// So many replies, in turn from above and below an edge, prove that nothing stands between the
/// two.
const PROOF: u32 = 4;

#[derive(Clone, Debug)]
pub struct OffsetPager {
    window: TimeRange,
    /// How many of the newest messages the next request skips.
    skip: u64,
    step: Step,
    /// The last reply that ends with a known row.
    above: Batch,
    /// The number of rows of the longest batch.
    longest: u64,
    known: IdSet,
    /// The time of the oldest message that was handed out, or would have been.
    floor: Option<Micros>,
    /// The walk is back at the top, among messages that all arrived since.
    arrivals: bool,
    /// Replies do not overlap, so that each edge between two of them must be proven.
    apart: bool,
    /// Requests since the last new row that did not find the known row where it was expected.
    misses: u32,
    fruitless: u32,
    ended: Option<End>,
}

/// The reason of the next request.
#[derive(Clone, Debug)]
enum Step {
    /// The reply should begin with the last known row.
    Join,
    /// The reply should begin right behind `above`.
    Behind {
        /// So many rows further, because nearer requests brought the same batch again.
        leap: u64,
        /// The lowest skip whose reply holds no known row.
        unknown: Option<u64>,
    },
    /// `above` and `below` are asked for in turn; `agreed` of the last replies were as expected.
    Edge { below: Batch, agreed: u32 },
    /// The reply should hold a known row, so many rows further up than the request before.
    Climb(u64),
}

/// A reply: what it was asked for, and the ids that it held, newest first.
#[derive(Clone, Debug, Default)]
struct Batch {
    skip: u64,
    ids: Vec<String>,
}

impl Batch {
    /// The skip of what stands right behind.
    fn end(&self) -> u64 {
        self.skip.saturating_add(self.ids.len() as u64)
    }

    fn is(&self, other: &Batch) -> bool {
        self.skip == other.skip && self.ids == other.ids
    }
}

impl OffsetPager {
    pub fn new(window: TimeRange) -> Self {
        Self {
            window,
            skip: 0,
            step: Step::Join,
            above: Batch::default(),
            longest: 1,
            known: IdSet::default(),
            floor: None,
            arrivals: false,
            apart: false,
            misses: 0,
            fruitless: 0,
            ended: None,
        }
    }

    /// Returns how many of the newest messages the next request skips, `None` at the end.
    pub fn ask(&self) -> Option<u64> {
        self.ended.is_none().then_some(self.skip)
    }

    pub fn ended(&self) -> Option<End> {
        self.ended
    }

    /// Takes a reply in, and returns which of its rows to hand out, newest first.
    pub fn reply(&mut self, rows: &[RowKey]) -> Result<Vec<usize>> {
        self.known.reserve(rows.len())?;
        let batch = newest_first(rows);
        let ids = batch.iter().map(|row| rows[*row].id.clone()).collect();
        let reply = Batch { skip: self.skip, ids };
        self.longest = self.longest.max(batch.len() as u64);
        let fresh = if self.proves(&reply) {
            self.take(rows, &batch, &reply, 0)
        } else if self.confirms(&reply) {
            Vec::new()
        } else {
            let joint = batch.iter().rposition(|row| self.known.has(&rows[*row].id));
            match joint {
                Some(joint) => self.take(rows, &batch, &reply, joint + 1),
                // The top of the list, and nothing of it is known.
                None if self.skip == 0 => {
                    self.arrivals = self.floor.is_some();
                    self.take(rows, &batch, &reply, 0)
                }
                None => {
                    self.unjoined(reply);
                    Vec::new()
                }
            }
        };
        if fresh.is_empty() {
            self.fruitless()?;
        } else {
            self.fruitless = 0;
            self.misses = 0;
        }
        Ok(fresh.into_iter().filter(|row| self.window.holds(rows[*row].at)).collect())
    }

    /// Whether this reply is the last one of an edge's proof: it follows `above` directly.
    fn proves(&self, reply: &Batch) -> bool {
        matches!(&self.step, Step::Edge { below, agreed } if below.is(reply) && agreed + 1 >= PROOF)
    }

    /// Goes on with an edge's proof if the reply is what it was before. Returns false if not.
    fn confirms(&mut self, reply: &Batch) -> bool {
        let Step::Edge { below, agreed } = &mut self.step else { return false };
        self.skip = if self.above.is(reply) {
            below.skip
        } else if below.is(reply) {
            self.above.skip
        } else {
            return false;
        };
        *agreed += 1;
        true
    }

    /// Takes the rows from `first` on, which follow a known row, and chooses the next request.
    /// Returns those that no reply brought before.
    fn take(&mut self, rows: &[RowKey], batch: &[usize], reply: &Batch, first: usize) -> Vec<usize> {
        let Some(oldest) = batch.last() else {
            self.ended = Some(End::ListEnded);
            return Vec::new();
        };
        let behind = &batch[first..];
        let mut new = behind;
        // What is newer than all that came has arrived since: it leads down to what came, or to
        // what stood behind that.
        if let Some(floor) = self.floor.filter(|_| self.arrivals) {
            let arrived = new.iter().take_while(|row| rows[**row].at > floor).count();
            new[..arrived].iter().for_each(|row| {
                self.known.is_new(&rows[*row].id);
            });
            new = &new[arrived..];
            self.arrivals = new.is_empty();
        }
        let fresh: Vec<usize> = new.iter().copied().filter(|row| self.known.is_new(&rows[*row].id)).collect();
        self.floor = fresh.last().map(|row| rows[*row].at).or(self.floor);
        let in_order = batch.windows(2).all(|pair| rows[pair[0]].at >= rows[pair[1]].at);
        if in_order && self.window.low.is_some_and(|low| rows[*oldest].at < low) {
            self.ended = Some(End::PassedBound);
        }
        if behind.is_empty() {
            self.go_on_below(reply);
        } else {
            // Known and new rows in one reply: the server's batches overlap.
            self.apart &= first == 0 || batch.len() == 1;
            self.above = reply.clone();
            self.go_on(0, None);
        }
        fresh
    }

    /// The reply ends with a known row, so what is new stands further below.
    fn go_on_below(&mut self, reply: &Batch) {
        let again = reply.ids == self.above.ids;
        let (leap, unknown) = match self.step {
            // Bisection.
            Step::Behind { unknown: Some(unknown), .. } => (0, Some(unknown)),
            Step::Behind { leap, unknown: None } => {
                let doubled = leap.saturating_mul(2).max(1);
                // The same batch from another place: the server rounds, and the next batch begins a
                // batch further.
                (if again { doubled.max(self.longest) } else { doubled }, None)
            }
            _ => (0, None),
        };
        if reply.ids.len() > 1 {
            self.misses += 1;
            self.apart |= self.misses > 1 || (again && reply.skip != self.above.skip);
        }
        self.above = reply.clone();
        self.go_on(leap, unknown);
    }

    /// Asks for what follows `above`.
    fn go_on(&mut self, leap: u64, unknown: Option<u64>) {
        let behind = self.above.end();
        let unknown = unknown.filter(|unknown| *unknown > behind);
        if self.apart || self.above.ids.len() == 1 {
            self.skip = match unknown {
                Some(unknown) => behind + (unknown - behind) / 2,
                None => behind.saturating_add(leap),
            };
            self.step = Step::Behind { leap: if unknown.is_some() { 0 } else { leap }, unknown };
        } else {
            self.skip = behind - 1;
            self.step = Step::Join;
        }
    }

    /// The reply holds no known row, or none at all.
    fn unjoined(&mut self, reply: Batch) {
        let behind = self.above.end();
        match self.step {
            Step::Behind { .. } if reply.skip > behind => self.go_on(0, Some(reply.skip)),
            // Nothing but the known row, and nothing behind it.
            Step::Behind { unknown: None, .. } if reply.ids.is_empty() && !self.apart => {
                self.ended = Some(End::ListEnded);
            }
            Step::Behind { unknown, .. } => {
                self.apart = true;
                // If the requests before this one were for other places, they are no part of the
                // proof.
                let agreed = if unknown.is_none() { 2 } else { 1 };
                self.skip = self.above.skip;
                self.step = Step::Edge { below: reply, agreed };
            }
            // Messages above were deleted, and the list has shifted up; or the server rounds up.
            Step::Join | Step::Edge { .. } => {
                self.misses += 1;
                self.climb((self.above.ids.len() as u64).max(2) - 1);
            }
            Step::Climb(rows) => self.climb(rows.saturating_mul(2)),
        }
    }

    fn climb(&mut self, rows: u64) {
        self.skip = self.skip.saturating_sub(rows);
        self.step = Step::Climb(rows);
    }

    fn fruitless(&mut self) -> Result<()> {
        self.fruitless += 1;
        if self.fruitless > TERMS.patience {
            return Err(Error::new(Kind::NotUnderstood, "list of messages never rests")
                .detail("Twenty requests in a row found no message behind those that are known."));
        }
        Ok(())
    }
}

/// The rows of a batch, newest first and each id once. They ascend as served; where they do not,
/// they are taken as they come.
fn newest_first(rows: &[RowKey]) -> Vec<usize> {
    let ascending = rows.first().map(|row| row.at) <= rows.last().map(|row| row.at);
    let mut ids = HashSet::with_capacity(rows.len());
    let mut batch: Vec<usize> = (0..rows.len()).collect();
    if ascending {
        batch.reverse();
    }
    batch.retain(|row| ids.insert(rows[*row].id.as_str()));
    batch
}

#[cfg(test)]
#[path = "offset_model.rs"]
mod model;
