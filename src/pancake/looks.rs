//! Looks at the head of a list that moves: what went up there while the walk went down (rule 5 of [`crate::walk`]).
//! How one look reads down to where it must is the walk's matter again.

use crate::error::Result;
use crate::plan::Window;
use crate::seen::Seen;
use crate::time::Micros;
use crate::walk::{Ask, End, PATIENCE, Spot, Walk, restless};

/// A message surfaces at most this long after its `updated_at`.
const LATE_SECONDS: i64 = 60;

#[derive(Debug)]
pub struct Looks {
    window: Window,
    full_batch: usize,
    /// Every row that was handed out.
    seen: Seen,
    /// The newest row of the first reply, of the walk and then of each look.
    newest: Option<Micros>,
    current: Option<Box<Walk>>,
    count: u32,
    /// The first reply of the current look; nothing before it is had.
    head: Option<Vec<Spot>>,
    /// The first reply of the look before, if that look found nothing new.
    quiet_head: Option<Vec<Spot>>,
    /// New rows that the current look found.
    found: usize,
    replies: u32,
}

impl Looks {
    pub fn new(window: Window, full_batch: usize) -> Self {
        Self {
            window,
            full_batch,
            seen: Seen::default(),
            newest: None,
            current: None,
            count: 0,
            head: None,
            quiet_head: None,
            found: 0,
            replies: 0,
        }
    }

    /// Takes note of a reply of the walk itself, and of the rows handed out of it.
    pub fn note<'a>(&mut self, newest: Option<Micros>, fresh: impl Iterator<Item = &'a str>) {
        self.newest = self.newest.or(newest);
        fresh.for_each(|id| {
            self.seen.is_new(id);
        });
    }

    /// The walk has come to its end. False where the list was empty: nothing can have moved.
    pub fn begin(&mut self) -> bool {
        let down_to = self.newest.map(|newest| newest.minus_seconds(LATE_SECONDS));
        down_to.map(|down_to| self.look(down_to)).is_some()
    }

    fn look(&mut self, down_to: Micros) {
        let low = Some(self.window.low.map_or(down_to, |low| low.max(down_to)));
        self.current = Some(Box::new(Walk::look(Window { low, high: self.window.high }, self.full_batch)));
        self.count += 1;
        self.quiet_head = self.head.take().filter(|_| self.found == 0);
        self.found = 0;
        self.replies = 0;
    }

    pub fn ask(&self) -> Option<Ask> {
        self.current.as_ref()?.ask()
    }

    pub fn lost(&mut self) -> Result<bool> {
        self.current.as_mut().map_or(Ok(false), |look| look.lost())
    }

    /// Takes a reply in: the rows that are new, and the end, if there is rest.
    pub fn reply(&mut self, rows: &[Spot]) -> Result<(Vec<usize>, Option<End>)> {
        let Some(mut look) = self.current.take() else { return Ok((Vec::new(), Some(End::ListEnded))) };
        let mut fresh = look.reply(rows)?;
        self.replies += 1;
        if self.replies == 1 {
            self.newest = rows.first().map(|row| row.at);
            self.head = Some(rows.to_vec());
        }
        // One reply is one moment. Longer looks are over when the next begins as this one did: then no row came up
        // from below in between.
        let unmoved = self.head.is_some() && self.head == self.quiet_head;
        let rest = look.ended().filter(|_| self.replies == 1).or(unmoved.then_some(End::ListEnded));
        fresh.retain(|i| self.seen.is_new(&rows[*i].id));
        self.found += fresh.len();
        match (rest, look.ended(), self.newest) {
            (Some(end), _, _) | (None, Some(end), None) => return Ok((fresh, Some(end))),
            (None, None, _) => self.current = Some(look),
            (None, Some(_), Some(_)) if self.count >= PATIENCE => {
                return Err(restless(
                    "Conversations moved during each of twenty looks at the head of the list.",
                ));
            }
            (None, Some(_), Some(newest)) => self.look(newest),
        }
        Ok((fresh, None))
    }
}
