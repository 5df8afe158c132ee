//! One chain, each row exactly once: which request comes next, and what a reply proves.
//! Pure: HTTP, retries and the clock are lent by [`crate::scan`].
//!
//! The visible list is ordered by a time, newest first; a batch is an unbroken piece of it. While the walk goes on,
//! rows get messages (and jump to the head when the order is `updated_at`), vanish, and surface up to 60 s late.
//!
//! **The rule.** The walk knows the list down to its *place*, the last row it has seen. A reply carries it on only if
//! it shows the last row in its old place with rows behind it, or is a piece that begins at or above that place:
//!
//! 1. *Step*: ask from the last row of the previous distinct time, so that the last row must come back. That re-reads
//!    ties, proves that the cursor was honoured, and costs one row in sixty.
//! 2. *Around*: the last row did not come back, or the request failed. Ask without cursor, from the end of its
//!    second. Such a piece begins above the place under every reading of `until`; what is known is dropped.
//! 3. *Probe* and *Confirm*: nothing came behind the last row. Ask from that row itself: an empty answer proves the
//!    end only if the row is then still seen in its old place with nothing behind it.
//! 4. A lower bound is proven by a row beyond it. It is sent as `since` until a batch comes short; then it is left
//!    out, and one more reply proves both the cursor and the bound.
//!
//! **Why nothing is lost.** Every pair of neighbours was seen side by side in one reply, so no row that kept its place
//! is skipped; a row that left its place went to the head, where [`crate::looks`] finds it. **Why nothing comes twice.**
//! Below the *floor* (the oldest time handed out, with the ids at that time) every row is new, above it every row is
//! known. **Why it ends.** Steps only go down; asks around one place that bring nothing new are counted.

use std::collections::{BTreeSet, HashSet};

use crate::error::{Error, Kind, Result};
use crate::place::{Spot, Window};
use crate::time::{Micros, UnixSeconds};

/// What to ask beside the chain's own filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub cursor: Option<String>,
    pub since: Option<UnixSeconds>,
    pub until: Option<UnixSeconds>,
}

/// Why a walk came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub enum End {
    ListEnded,
    PassedBound,
    /// Every row that was asked for by id has come.
    FoundAll,
}

/// A server's batch is never larger than this (API notes, section B).
pub const FULL_BATCH: usize = 60;
/// The last second that a server cannot take for milliseconds, in the year 5138 (API notes, section B). No row is so
/// late, so a later bound is as good as none.
pub const LAST_SECOND: i64 = 99_999_999_999;

/// What a walk takes for granted; smaller in tests, so that all of a small world can be seen.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct Terms {
    /// A server's batch is never larger.
    pub full_batch: usize,
    /// Asks around one place, or looks at the head, that bring no rest before the walk gives up.
    pub patience: u32,
}

pub const TERMS: Terms = Terms { full_batch: FULL_BATCH, patience: 20 };

#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct Walk {
    window: Window,
    terms: Terms,
    state: State,
    since_sent: bool,
    place: Option<Place>,
    floor: Option<Floor>,
    /// A probe showed rows that have not been seen behind the last one yet.
    more_follows: bool,
    fruitless: u32,
    /// The last reply was as long as a reply can be.
    was_full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
enum State {
    Head,
    Step { confirming: bool },
    Probe,
    Around { confirming: bool },
    Ended(End),
}

/// How far down the list is known.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
struct Place {
    last: Spot,
    /// The row just before the last one, if it has the same time.
    before: Option<String>,
    /// The last row of the previous distinct time.
    above: Option<String>,
    /// Rows known at the time of the last one.
    ties: usize,
}

/// The oldest time handed out, and the rows handed out at that time.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
struct Floor {
    at: Micros,
    ids: BTreeSet<String>,
}

impl Walk {
    pub fn new(window: Window) -> Self {
        Self::on(TERMS, window)
    }

    pub fn on(terms: Terms, window: Window) -> Self {
        Self {
            window,
            terms,
            state: State::Head,
            since_sent: true,
            place: None,
            floor: None,
            more_follows: false,
            fruitless: 0,
            was_full: false,
        }
    }

    /// Sends no lower bound: what is found beyond it is the proof.
    pub fn without_since(self) -> Self {
        Self { since_sent: false, ..self }
    }

    /// Leaves what is older than `low` to another walk, which this gives back. A row beyond the new bound proves it.
    pub fn cut(&mut self, low: Micros) -> Self {
        let older = Window { low: self.window.low, high: Some(Micros(low.0.saturating_sub(1))) };
        let older = Self { since_sent: self.since_sent, ..Self::on(self.terms, older) };
        self.window.low = Some(low);
        self.since_sent = false;
        older
    }

    pub fn window(&self) -> Window {
        self.window
    }

    /// How far down the walk has come. After a lost cursor the place may be above rows that were handed out, and the
    /// first rows of a window that ends in mid-second lie above it.
    pub fn depth(&self) -> Option<Micros> {
        let place = self.place.as_ref().map(|place| place.last.at)?;
        let floor = self.floor.as_ref().map(|floor| floor.at);
        [floor, self.window.high].into_iter().flatten().fold(place, Micros::min).into()
    }

    /// The last reply was full: more rows are likely to follow.
    pub fn goes_on(&self) -> bool {
        self.was_full && self.ended().is_none()
    }

    pub fn ended(&self) -> Option<End> {
        match self.state {
            State::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// The next request. `None` at the end.
    pub fn ask(&self) -> Option<Ask> {
        let last = self.place.as_ref().map(|place| &place.last);
        match (self.state, last) {
            (State::Ended(_), _) => None,
            (State::Probe, Some(last)) => Some(self.after(last.id.clone())),
            (State::Step { .. }, Some(last)) => {
                Some(self.anchor().map_or_else(|| self.around(last.at), |id| self.after(id)))
            }
            (State::Around { .. }, Some(last)) => Some(self.around(last.at)),
            (State::Head, _) | (_, None) => Some(self.after_nothing()),
        }
    }

    /// The row to ask from so that the last row comes back; none where only the time can be asked for.
    fn anchor(&self) -> Option<String> {
        let place = self.place.as_ref()?;
        // A batch that is all one time would show the same rows again: rely on the cursor's own row then. A server
        // that skips a cursor's ties does not bring the last row back, and is found out.
        let room = place.ties < self.terms.full_batch && !(self.more_follows && place.above.is_none());
        let row = if room { &place.above } else { &place.before };
        row.clone()
    }

    fn after_nothing(&self) -> Ask {
        let low = self.window.low.filter(|_| self.since_sent);
        // ±1 s: right whether the bounds are inclusive or not, and whether rows are compared in whole seconds.
        let since = low.map(|low| (low.floor_second().0 - 1).min(LAST_SECOND)).filter(|since| *since > 0);
        let until = self.window.high.map(|high| (high.ceil_second().0 + 1).max(1));
        let until = until.filter(|until| *until <= LAST_SECOND);
        // `until` alone was never measured: give it a `since` that excludes nothing.
        let since = since.or(until.map(|_| 1));
        Ask { cursor: None, since: since.map(UnixSeconds), until: until.map(UnixSeconds) }
    }

    fn after(&self, id: String) -> Ask {
        Ask { cursor: Some(id), ..self.after_nothing() }
    }

    fn around(&self, at: Micros) -> Ask {
        // No further up than the window's own bound: rows beyond that are not shown to a cursor.
        let until = (at.floor_second().0 + 1).max(1);
        let until = self.after_nothing().until.map_or(until, |bound| bound.0.min(until));
        Ask { cursor: None, since: Some(UnixSeconds(1)), until: Some(UnixSeconds(until)) }
    }

    /// A request with a cursor failed in a way that says nothing of the page: the cursor may be what is wrong.
    /// False where no cursor was sent, and the failure is one.
    pub fn lost(&mut self) -> Result<bool> {
        if self.ask().is_none_or(|ask| ask.cursor.is_none()) {
            return Ok(false);
        }
        self.go_around(self.state == State::Step { confirming: true }).map(|()| true)
    }

    /// Takes a reply in, and says which of its rows to hand out.
    pub fn reply(&mut self, rows: &[Spot]) -> Result<Vec<usize>> {
        let unique = without_repeats(rows);
        let rows: Vec<&Spot> = unique.iter().map(|i| &rows[*i]).collect();
        in_order(&rows)?;
        self.was_full = rows.len() >= self.terms.full_batch;
        let fresh = self.take(&rows)?;
        Ok(fresh.into_iter().map(|i| unique[i]).collect())
    }

    fn take(&mut self, rows: &[&Spot]) -> Result<Vec<usize>> {
        let found = |last: &Spot| rows.iter().position(|row| *row == last);
        let found = self.place.as_ref().and_then(|place| found(&place.last));
        match self.state {
            State::Head | State::Around { .. } if rows.is_empty() => {
                self.state = State::Ended(End::ListEnded);
                Ok(Vec::new())
            }
            State::Head => self.settle(rows),
            State::Probe => {
                // More rows prove nothing by themselves, for the cursor may have been ignored: they must come behind
                // the last row.
                self.more_follows = !rows.is_empty();
                self.state = State::Step { confirming: rows.is_empty() };
                Ok(Vec::new())
            }
            State::Step { confirming } | State::Around { confirming } => match found {
                Some(last) if last + 1 == rows.len() => {
                    self.nothing_behind(rows, confirming)?;
                    Ok(Vec::new())
                }
                None if matches!(self.state, State::Step { .. }) => {
                    self.go_around(confirming)?;
                    Ok(Vec::new())
                }
                _ => self.settle(rows),
            },
            State::Ended(_) => Ok(Vec::new()),
        }
    }

    fn go_around(&mut self, confirming: bool) -> Result<()> {
        self.fruitless += 1;
        if self.fruitless > self.terms.patience {
            return Err(restless("The cursor did not lead on from the last row, asked in every form."));
        }
        if let Some(place) = &mut self.place {
            (place.above, place.before) = (None, None);
        }
        self.state = State::Around { confirming };
        Ok(())
    }

    /// The last row came back as the last one of the reply.
    fn nothing_behind(&mut self, rows: &[&Spot], confirming: bool) -> Result<()> {
        let asked_from = self.anchor();
        self.place_at(rows);
        // A full batch has no room for what may follow: ask from nearer by, if there is such a row. If not, the
        // reply began above the row that was asked from: the cursor was ignored, and would be again.
        let full = rows.len() >= self.terms.full_batch;
        let nearer = self.anchor() != asked_from;
        if (full || std::mem::take(&mut self.more_follows)) && !nearer {
            return self.go_around(confirming);
        }
        self.state = if nearer {
            State::Step { confirming }
        } else if confirming {
            State::Ended(End::ListEnded)
        } else if self.since_is_sent() {
            self.since_sent = false;
            State::Step { confirming: false }
        } else {
            State::Probe
        };
        Ok(())
    }

    fn since_is_sent(&self) -> bool {
        self.since_sent && self.window.low.is_some()
    }

    /// Moves the place to the end of a piece that is known to join on to it.
    fn settle(&mut self, rows: &[&Spot]) -> Result<Vec<usize>> {
        let mut fresh = Vec::new();
        let mut beyond = false;
        for (i, row) in rows.iter().enumerate() {
            if self.window.low.is_some_and(|low| row.at < low) {
                beyond = true;
                break;
            }
            if self.is_below_floor(row) && self.window.high.is_none_or(|high| row.at <= high) {
                fresh.push(i);
            }
        }
        if !fresh.is_empty() {
            self.fruitless = 0;
        }
        self.place_at(rows);
        self.more_follows = false;
        self.state = if beyond {
            State::Ended(End::PassedBound)
        } else if rows.len() >= self.terms.full_batch {
            State::Step { confirming: false }
        } else if self.since_is_sent() {
            self.since_sent = false;
            State::Step { confirming: false }
        } else {
            State::Probe
        };
        Ok(fresh)
    }

    /// Whether the row is new; if so the floor sinks to it.
    fn is_below_floor(&mut self, row: &Spot) -> bool {
        match &mut self.floor {
            Some(floor) if row.at > floor.at => false,
            Some(floor) if row.at == floor.at => floor.ids.insert(row.id.clone()),
            _ => {
                self.floor = Some(Floor { at: row.at, ids: BTreeSet::from([row.id.clone()]) });
                true
            }
        }
    }

    /// Takes the end of a piece as the place. A tie that the piece only goes on with keeps its earlier anchors.
    fn place_at(&mut self, rows: &[&Spot]) {
        let Some(last) = rows.last() else { return };
        let earlier = self.place.take().and_then(|place| {
            let joint = rows.iter().position(|row| **row == place.last)?;
            Some((place, rows.len() - 1 - joint))
        });
        let same = rows.iter().rev().take_while(|row| row.at == last.at).count();
        let first = rows.len() - same;
        let mut place = Place {
            last: (*last).clone(),
            before: (same > 1).then(|| rows[rows.len() - 2].id.clone()),
            above: first.checked_sub(1).map(|i| rows[i].id.clone()),
            ties: same,
        };
        if let Some((earlier, behind)) =
            earlier.filter(|(earlier, _)| first == 0 && earlier.last.at == last.at)
        {
            place.before = place.before.or(earlier.before);
            place.above = earlier.above;
            place.ties = same.max(earlier.ties + behind);
        }
        self.place = Some(place);
    }
}

/// The rows of a batch, each id once.
fn without_repeats(rows: &[Spot]) -> Vec<usize> {
    let mut ids = HashSet::with_capacity(rows.len());
    (0..rows.len()).filter(|i| ids.insert(rows[*i].id.as_str())).collect()
}

fn in_order(rows: &[&Spot]) -> Result<()> {
    match rows.windows(2).find(|pair| pair[0].at < pair[1].at) {
        None => Ok(()),
        Some(pair) => Err(Error::new(Kind::NotUnderstood, "reply is not in the order that was asked for")
            .detail(format!(
                "Row \"{}\" of {} comes before row \"{}\" of {}.",
                pair[0].id,
                pair[0].at.iso(),
                pair[1].id,
                pair[1].at.iso()
            ))),
    }
}

pub fn restless(detail: &str) -> Error {
    Error::new(Kind::NotUnderstood, "cursor of the conversations list never ends").detail(detail)
}
