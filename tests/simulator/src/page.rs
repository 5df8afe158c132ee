//! Knows the conversations of one page in both orders, and changes them: messages, tags, deletions,
//! new rows. Which of them a request gets is left to `listing`.

mod order;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::catalogue::Writer;
use crate::churn::Script;
use crate::clock::{Micros, SECOND, floor, micros};
use crate::dice::{Dice, number_of};
use crate::door::Door;
use crate::listing::Cache;
use crate::population::Population;
use crate::readings::{Ties, Undated};
use crate::render;
use crate::row::Row;
use crate::settings::{PageSettings, Shape};
use crate::shop::Shop;
use crate::switches::Switches;
use crate::times::TimeColumn;

pub use order::{Place, Tie};

/// A message or a new row that has a time already but does not show yet.
#[derive(Debug)]
struct Late {
    due: Micros,
    row: usize,
    time: Micros,
}

#[derive(Debug)]
pub struct Page {
    pub shop: Shop,
    pub door: Door,
    pub rows: Vec<Row>,
    by_id: HashMap<Arc<str>, usize>,
    pub by_updated: BTreeSet<Place>,
    pub by_inserted: BTreeSet<Place>,
    pub cache: Cache,
    pub dice: Dice,
    pub script: Script,
    pub message_script: Script,
    /// Waits for requests for posts and customers.
    pub list_script: Script,
    /// The people who wrote, as of a version.
    pub writers: Option<(u64, Arc<Vec<Writer>>)>,
    ties: Ties,
    undated: Undated,
    /// Some rows are listed out of the order of their times, so that a window is no range of the
    /// list.
    pub out_of_order: bool,
    late: Vec<Late>,
    people: Population,
    /// Grows with every change.
    pub version: u64,
}

impl Page {
    pub fn new(settings: &PageSettings, seed: u64, now: Micros, switches: &Switches) -> Page {
        let shop = Shop::open(settings, seed, now);
        let mut people = Population::default();
        let rows = people.settle(&shop, settings.conversations, now);
        let mut page = Page {
            dice: Dice::of(&[seed, number_of(&settings.id), 7]),
            door: Door::new(settings),
            shop,
            rows: Vec::new(),
            by_id: HashMap::new(),
            by_updated: BTreeSet::new(),
            by_inserted: BTreeSet::new(),
            cache: Cache::default(),
            script: Script::default(),
            message_script: Script::default(),
            list_script: Script::default(),
            writers: None,
            ties: switches.ties,
            undated: switches.undated,
            out_of_order: false,
            late: Vec::new(),
            people,
            version: 0,
        };
        for row in rows {
            page.add(row, true);
        }
        page.freeze_share(settings.frozen);
        page
    }

    fn changed(&mut self) {
        self.version += 1;
        self.cache.clear();
    }

    fn add(&mut self, row: Row, visible: bool) -> usize {
        let index = self.rows.len();
        if let Some(old) = self.by_id.insert(row.id.clone(), index) {
            self.hide(old);
        }
        self.out_of_order |= row.is_out_of_order();
        self.rows.push(row);
        if visible {
            self.show(index);
        }
        index
    }

    fn show(&mut self, index: usize) {
        self.by_updated.insert(self.updated_place(index));
        self.by_inserted.insert(self.inserted_place(index));
        self.changed();
    }

    fn hide(&mut self, index: usize) {
        self.by_updated.remove(&self.updated_place(index));
        self.by_inserted.remove(&self.inserted_place(index));
        if let Some(row) = self.rows.get_mut(index) {
            row.gone = true;
        }
        self.changed();
    }

    /// A row by its id, deleted ones and such as do not show yet included.
    pub fn find(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    pub fn shows(&self, index: usize) -> bool {
        self.by_inserted.contains(&self.inserted_place(index))
    }

    pub fn json(&self, index: usize) -> Value {
        self.rows.get(index).map_or(Value::Null, |row| render::conversation(row, &self.shop))
    }

    /// A row as served, written once.
    pub fn text(&self, index: usize) -> Bytes {
        let write = |row: &Row| {
            row.text.get_or_init(|| render::conversation(row, &self.shop).to_string().into()).clone()
        };
        self.rows.get(index).map(write).unwrap_or_default()
    }

    /// The time of something new: later than everything on the page, rows dated ahead of now
    /// excepted.
    pub fn newest(&self, now: Micros) -> Micros {
        let mut rows = self.by_updated.iter().filter_map(|place| self.rows.get(place.2));
        let head = rows.find(|row| !row.times.ahead && self.has_time(row, TimeColumn::UpdatedAt));
        let head = head.map_or(Micros::MIN, |row| row.updated);
        let late = self.late.iter().map(|late| late.time).max().unwrap_or(Micros::MIN);
        now.max(head.max(late).saturating_add(1))
    }

    /// A time as this row can have it; `to_head`: rather up to a second early than beside or below
    /// other rows.
    fn fit(time: Micros, newest: Micros, whole_seconds: bool, to_head: bool) -> Micros {
        if !whole_seconds {
            time
        } else if !to_head || floor(time) >= newest {
            floor(time)
        } else {
            floor(time) + SECOND
        }
    }

    /// A new message: the row's `updated_at` becomes the newest of the page, at once or up to
    /// `late` afterwards.
    pub fn message(&mut self, index: usize, now: Micros, switches: &Switches, to_head: bool) {
        let newest = self.newest(now);
        let Some(row) = self.rows.get(index).filter(|_| self.shows(index)) else { return };
        let time = Page::fit(newest, newest, row.whole_seconds, to_head).max(row.updated);
        let wait = self.lateness(switches);
        if wait > 0 {
            self.late.push(Late { due: now + wait, row: index, time });
        } else {
            self.arrive(index, time);
        }
    }

    fn lateness(&mut self, switches: &Switches) -> Micros {
        let most = u64::try_from(micros(switches.late)).unwrap_or(0);
        Micros::try_from(self.dice.below(most)).unwrap_or(0)
    }

    fn arrive(&mut self, index: usize, time: Micros) {
        self.move_row(index, |row| row.message(time));
    }

    /// Shows what is due by now.
    pub fn surface(&mut self, now: Micros) {
        if self.late.iter().all(|late| late.due > now) {
            return;
        }
        let (due, waiting): (Vec<Late>, Vec<Late>) = self.late.drain(..).partition(|late| late.due <= now);
        self.late = waiting;
        for late in due {
            match self.rows.get(late.row) {
                Some(row) if row.gone => {}
                Some(_) if self.shows(late.row) => self.arrive(late.row, late.time),
                _ => self.show(late.row),
            }
        }
    }

    /// A new conversation of one message, begun now; gives its id.
    pub fn create(&mut self, kind: &str, now: Micros, switches: &Switches, to_head: bool) -> Arc<str> {
        let newest = self.newest(now);
        let whole = matches!(kind, "COMMENT" | "RATING") || self.shop.shape == Shape::Article;
        let time = Page::fit(newest, newest, whole, to_head);
        let row = self.people.make(&self.shop, kind, time);
        let (id, wait) = (row.id.clone(), self.lateness(switches));
        let index = self.add(row, wait == 0);
        if wait > 0 {
            self.late.push(Late { due: now + wait, row: index, time });
        }
        id
    }

    /// Places a row by hand; one of the same id goes.
    pub fn insert(&mut self, value: Value, now: Micros) {
        let row = Row::by_hand(value, self.people.ordinal(), now);
        self.add(row, true);
    }

    pub fn delete(&mut self, index: usize) {
        self.hide(index);
    }

    pub fn delete_all(&mut self) {
        self.late.clear();
        for index in 0..self.rows.len() {
            self.hide(index);
        }
    }

    /// Changes cells that move nothing.
    pub fn edit(&mut self, index: usize, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.rows.get_mut(index) {
            change(row);
        }
        self.changed();
    }

    /// A visible row, by chance.
    pub fn any(&mut self) -> Option<usize> {
        for _ in 0..64 {
            let index = self.dice.index(self.rows.len());
            if self.shows(index) {
                return Some(index);
            }
        }
        let drawn = self.dice.index(self.by_updated.len());
        self.by_updated.iter().nth(drawn).map(|place| place.2)
    }
}
