//! The messages of one conversation, newest first: what to ask next, and what a reply proves (API notes, section D).
//!
//! A request skips so many of the newest messages. A message that arrives between two requests shifts all others down,
//! one that is deleted shifts those below it up, and a row between two batches would be skipped in silence. So each
//! batch begins with the last known message, and
//!
//! 1. what stands behind the last message that is known is new, whatever came or went above it;
//! 2. a batch without any known message lies too low: it is asked for again higher up;
//! 3. a batch of nothing but the known message that it begins with is the end: nothing stands behind that one. A short
//!    batch proves nothing, for nobody has promised that batches are full.
//!
//! **Why nothing is lost.** Known messages and those that arrived meanwhile are always the upper part of the list, without
//! a gap: each piece joins on to it by a message that both hold. **Why nothing comes twice.** Only unknown ids are handed
//! out. **Why it ends.** A batch that brings nothing new is counted.

use std::collections::HashSet;

use crate::error::{Error, Kind, Result};
use crate::place::{Spot, Window};
use crate::seen::Seen;
use crate::time::Micros;
use crate::walk::{End, TERMS};

/// A server's batch of messages (API notes, section D).
const FULL_BATCH: u64 = 30;

#[derive(Clone, Debug)]
pub struct Thread {
    window: Window,
    full_batch: u64,
    /// How many of the newest messages the next request leaves out.
    skip: u64,
    known: Seen,
    /// The time of the oldest message that was handed out, or would have been.
    floor: Option<Micros>,
    /// The walk is back at the top, above all that came.
    above: bool,
    fruitless: u32,
    ended: Option<End>,
}

impl Thread {
    pub fn new(window: Window) -> Self {
        Self::with_batch(window, FULL_BATCH)
    }

    pub fn with_batch(window: Window, full_batch: u64) -> Self {
        let known = Seen::default();
        Self { window, full_batch, skip: 0, known, floor: None, above: false, fruitless: 0, ended: None }
    }

    /// How many of the newest messages to skip. `None` at the end.
    pub fn ask(&self) -> Option<u64> {
        self.ended.is_none().then_some(self.skip)
    }

    pub fn ended(&self) -> Option<End> {
        self.ended
    }

    /// Takes a reply in, and says which of its rows to hand out, newest first.
    pub fn reply(&mut self, rows: &[Spot]) -> Result<Vec<usize>> {
        let batch = newest_first(rows);
        let joint = batch.iter().rposition(|row| self.known.has(&rows[*row].id));
        let Some(oldest) = batch.last() else { return self.nothing_here() };
        let mut new = match (joint, self.floor) {
            (Some(joint), _) => &batch[joint + 1..],
            (None, None) => &batch[..],
            (None, Some(_)) if self.skip > 0 => return self.nothing_here(),
            // The top of the list, and nothing of it is known.
            (None, Some(_)) => {
                self.above = true;
                &batch[..]
            }
        };
        // What is newer than all that came has arrived since: it leads down to what came, or to what stood behind that.
        if let Some(floor) = self.floor.filter(|_| self.above) {
            let arrived = new.iter().take_while(|row| rows[**row].at > floor).count();
            new[..arrived].iter().for_each(|row| {
                self.known.is_new(&rows[*row].id);
            });
            new = &new[arrived..];
            self.above = new.is_empty();
        }
        let fresh: Vec<usize> = new.iter().copied().filter(|row| self.known.is_new(&rows[*row].id)).collect();
        self.floor = fresh.last().map(|row| rows[*row].at).or(self.floor);
        let in_order = batch.windows(2).all(|pair| rows[pair[0]].at >= rows[pair[1]].at);
        let beyond = self.window.low.is_some_and(|low| rows[*oldest].at < low);
        if beyond && in_order {
            self.ended = Some(End::PassedBound);
        } else if rows.len() == 1 {
            self.ended = Some(End::ListEnded);
        }
        // The last row of the batch is the first of the next.
        self.skip += (batch.len().max(2) - 1) as u64;
        match fresh.is_empty() {
            true => self.fruitless()?,
            false => self.fruitless = 0,
        }
        Ok(fresh.into_iter().filter(|row| self.window.holds(rows[*row].at)).collect())
    }

    /// Nothing of the reply is known, or it is empty: messages above were deleted, and the list has shifted up.
    fn nothing_here(&mut self) -> Result<Vec<usize>> {
        match self.skip {
            0 => self.ended = Some(End::ListEnded),
            _ => self.skip = self.skip.saturating_sub(self.full_batch.max(2) - 1),
        }
        self.fruitless()?;
        Ok(Vec::new())
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

/// The rows of a batch, newest first and each id once. They ascend as served; where they do not, they are taken as they
/// come.
fn newest_first(rows: &[Spot]) -> Vec<usize> {
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
#[path = "thread_worlds.rs"]
mod worlds;
