//! This module holds the place of each row in the two lists, and moves rows away from where their
//! times would put them. What the rows show is left to [`times`](crate::times), which of them a
//! request gets to `listing`.

use std::cmp::Reverse;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::Page;
use crate::clock::{Micros, SECOND, floor};
use crate::dice::Dice;
use crate::readings::{Ties, Undated};
use crate::row::Row;
use crate::shop::about;
use crate::switches::Switches;
use crate::times::{TimeColumn, TimeForm};

/// How rows of one sort value are ordered; `Least` stands before all of them, `Greatest` after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tie {
    Least,
    Ascending(Arc<str>),
    Descending(Reverse<Arc<str>>),
    Insertion(u64),
    Greatest,
}

/// A row's place in a list: newest first.
pub type Place = (Reverse<Micros>, Tie, usize);

/// The shortest time by which [`Page::freeze_share`] sets a row back.
const HOUR: Micros = 3600 * SECOND;
/// So many rows in a row do not show their real time at most.
const LONGEST_RUN: usize = 7;

impl Page {
    fn place(&self, time: Micros, index: usize) -> Place {
        let tie = match (self.ties, self.rows.get(index)) {
            (_, None) => Tie::Least,
            (Ties::IdAscending, Some(row)) => Tie::Ascending(row.id.clone()),
            (Ties::IdDescending, Some(row)) => Tie::Descending(Reverse(row.id.clone())),
            (Ties::Insertion, Some(row)) => Tie::Insertion(row.ordinal),
        };
        (Reverse(time), tie, index)
    }

    pub fn updated_place(&self, index: usize) -> Place {
        let time = |row: &Row| self.listed(row, TimeColumn::UpdatedAt, row.updated);
        self.place(self.rows.get(index).map_or(0, time), index)
    }

    pub fn inserted_place(&self, index: usize) -> Place {
        let real = |row: &Row| row.times.listed_inserted.unwrap_or(row.inserted);
        let time = |row: &Row| self.listed(row, TimeColumn::InsertedAt, real(row));
        self.place(self.rows.get(index).map_or(0, time), index)
    }

    /// Returns where the row would stand in the list by `updated_at` if that went by what the rows
    /// show.
    pub fn shown_place(&self, index: usize) -> Place {
        let time = |row: &Row| self.listed(row, TimeColumn::UpdatedAt, row.shown(TimeColumn::UpdatedAt));
        self.place(self.rows.get(index).map_or(0, time), index)
    }

    fn listed(&self, row: &Row, column: TimeColumn, time: Micros) -> Micros {
        match self.undated {
            _ if self.has_time(row, column) => time,
            Undated::Placed => time,
            Undated::Top => Micros::MAX,
            Undated::Bottom => Micros::MIN,
        }
    }

    /// Whether a row counts as dated, in its cell or by the moment when it was placed.
    pub fn has_time(&self, row: &Row, column: TimeColumn) -> bool {
        self.undated == Undated::Placed || row.form(column).is_time()
    }

    /// Changes a row and puts it where it belongs afterwards.
    pub fn move_row(&mut self, index: usize, change: impl FnOnce(&mut Row)) {
        let visible = self.shows(index);
        if visible {
            self.by_updated.remove(&self.updated_place(index));
            self.by_inserted.remove(&self.inserted_place(index));
        }
        if let Some(row) = self.rows.get_mut(index) {
            change(row);
            self.out_of_order |= row.is_out_of_order();
        }
        if visible {
            self.by_updated.insert(self.updated_place(index));
            self.by_inserted.insert(self.inserted_place(index));
        }
        self.changed();
    }

    /// Makes a row show this `updated_at` for good, and leaves it where it is.
    pub fn freeze(&mut self, index: usize, shown: Micros) {
        self.move_row(index, |row| {
            row.times.shown = Some(if row.whole_seconds { floor(shown) } else { shown });
            row.rewrite(TimeColumn::UpdatedAt);
        });
    }

    /// Freezes about this share of the rows, frozen ones counted, by an hour to months, never to
    /// before their beginning: runs of three to seven rows of the list, as when one channel stops
    /// to move its rows. Of eight rows in a row one shows its real time.
    pub fn freeze_share(&mut self, share: f64) {
        let order: Vec<usize> = self.by_updated.iter().map(|place| place.2).collect();
        let wanted = (order.len() as f64 * share).ceil() as usize;
        let mut frozen = self.frozen().count();
        let mut dice = Dice::of(&[self.shop.key, about::FROZEN]);
        for _ in 0..order.len() {
            let start = dice.index(order.len());
            let length = 3 + dice.index(LONGEST_RUN - 2);
            let around = order.iter().take(start + length + 1).skip(start.saturating_sub(1));
            if around.clone().any(|index| self.is_frozen(*index)) {
                continue;
            }
            for index in order.iter().skip(start).take(length) {
                if frozen >= wanted {
                    return;
                }
                frozen += usize::from(self.set_back(*index, &mut dice));
            }
        }
    }

    /// Freezes a row at a time between its beginning and an hour before its last message, if there
    /// is one.
    fn set_back(&mut self, index: usize, dice: &mut Dice) -> bool {
        let Some(row) = self.rows.get(index).filter(|row| row.times.shown.is_none()) else { return false };
        let most = (row.updated - row.inserted) as f64 / HOUR as f64;
        if most < 1.0 {
            return false;
        }
        // As often by one to ten hours as by ten to a hundred.
        let shown = row.updated - (most.powf(dice.unit()) * HOUR as f64) as Micros;
        self.freeze(index, shown);
        true
    }

    /// The visible rows that do not show their real `updated_at`, from the head of the list.
    pub fn frozen(&self) -> impl Iterator<Item = usize> {
        self.by_updated.iter().map(|place| place.2).filter(|index| self.is_frozen(*index))
    }

    fn is_frozen(&self, index: usize) -> bool {
        self.rows.get(index).is_some_and(|row| row.times.shown.is_some())
    }

    /// Moves a row down by at most so many places in the list by `updated_at`, and leaves what it
    /// shows. Returns `false` if no place between rows of different times is in reach.
    pub fn lower(&mut self, index: usize, places: usize) -> bool {
        let below = self.by_updated.range((Excluded(self.updated_place(index)), Unbounded));
        let times: Vec<Micros> = below.map(|place| place.0.0).take(places + 1).collect();
        let next = times.iter().skip(1).map(|time| Some(*time)).chain([None]);
        let room = times.iter().zip(next).take(places);
        let lowest = room.filter(|(time, next)| next.is_none_or(|next| next + 1 < **time)).last();
        let Some(time) = lowest.map(|(time, _)| *time - 1) else { return false };
        self.move_row(index, |row| {
            row.times.shown = Some(row.shown(TimeColumn::UpdatedAt));
            row.updated = time;
        });
        true
    }

    /// Exchanges a row and the one below it in the list by `inserted_at`. Returns `false` if there
    /// is none below it, or none of another time.
    pub fn swap(&mut self, index: usize) -> bool {
        let place = self.inserted_place(index);
        let below = self.by_inserted.range((Excluded(&place), Unbounded)).next();
        let Some((Reverse(time), _, other)) = below.filter(|below| below.0 != place.0).cloned() else {
            return false;
        };
        self.move_row(index, |row| row.times.listed_inserted = Some(time));
        self.move_row(other, |row| row.times.listed_inserted = Some(place.0.0));
        true
    }

    /// Sets a time of a row, which moves it.
    pub fn set_time(&mut self, index: usize, column: TimeColumn, time: Micros, now: Micros) {
        self.move_row(index, |row| {
            let time = if row.whole_seconds { floor(time) } else { time };
            match column {
                TimeColumn::InsertedAt => {
                    row.inserted = time;
                    row.times.listed_inserted = None;
                }
                TimeColumn::UpdatedAt => {
                    row.updated = time;
                    row.times.shown = None;
                    row.times.ahead = time > now;
                }
            }
            if !row.form(column).is_time() {
                row.set_form(column, TimeForm::Text);
            }
            row.rewrite(column);
        });
    }

    pub fn set_time_form(&mut self, index: usize, column: TimeColumn, form: TimeForm) {
        self.move_row(index, |row| {
            row.set_form(column, form);
            row.rewrite(column);
        });
    }

    /// Follows the switches: another order of ties or of rows without time, and nothing remembered.
    pub fn obey(&mut self, switches: &Switches) {
        self.cache.clear();
        if (self.ties, self.undated) == (switches.ties, switches.undated) {
            return;
        }
        (self.ties, self.undated) = (switches.ties, switches.undated);
        let visible: Vec<usize> = self.by_updated.iter().map(|place| place.2).collect();
        self.by_updated = visible.iter().map(|index| self.updated_place(*index)).collect();
        self.by_inserted = visible.iter().map(|index| self.inserted_place(*index)).collect();
    }
}
