//! This module runs syncs of small worlds: a page whose rows change between any two events, a copy,
//! and runs that are killed between any two events. In the end the copy is the page.
//!
//! An event is the preparation of a step, at which its rows are read, or its execution, at which
//! they are written and the marks move. What is read and written is what the statements of
//! [`super::statement`] ask for. Threads are in [`super::threads_model`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::head::{Head, HeadRow, Next};
use super::marks::Marks;
use super::run::{HEAD_ROWS, Kind, Lane, Parameters, Phase, Run, floor, next};
use super::settle::{Facts, StepResult};
use super::walk::{Batches, Walk};
use crate::schema::catalogue::Object;
use crate::time::{Micros, SECOND};

pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const DAY: i64 = 24 * 60 * MINUTE;
pub(super) const NOW: i64 = 1_790_000_000 * SECOND;

/// A linear congruential generator: a seed is a world.
pub(super) struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, most: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % most.max(1) as u64) as i64
    }

    pub fn one_in(&mut self, n: i64) -> bool {
        self.below(n) == 0
    }
}

/// A row of the page.
#[derive(Clone)]
struct Row {
    id: String,
    inserted_at: i64,
    updated_at: i64,
    /// Where it stands in the list: when it moved last.
    moved_at: i64,
    content: u32,
    /// It stands at the bottom of the list by `inserted_at`.
    is_bottom: bool,
}

/// A row of the copy.
#[derive(Clone)]
struct Copied {
    updated_at: i64,
    content: u32,
    synced_at: i64,
    is_removed: bool,
}

struct World {
    dice: Dice,
    now: i64,
    walk: Walk,
    rows: Vec<Row>,
    copy: BTreeMap<String, Copied>,
    marks: Option<Marks>,
    first_since: Option<Micros>,
    batch_rows: u64,
    lookback: Duration,
    /// Some rows change without a new time, or without moving.
    has_quiet_changes: bool,
    /// A scan has met a row at the bottom of the list.
    bottom_was_met: bool,
    created: usize,
    events: usize,
    /// The event at which the run is killed.
    killed_at: usize,
}

/// Why a run ended.
#[derive(PartialEq, Eq, Debug)]
enum Ended {
    Done,
    Killed,
}

/// Rows that a step has read.
struct Batch {
    rows: Vec<Row>,
    result: StepResult,
    is_cut: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let objects =
            [Object::Conversations, Object::Conversations, Object::Customers, Object::Posts, Object::Tags];
        let walk = Walk::of(objects[dice.below(5) as usize]).unwrap();
        let count = [0, 1, 7, 40, 60, 61, 150, 260][dice.below(8) as usize];
        let has_bottom = walk.batches == Batches::Rows && dice.one_in(3);
        let mut world = World {
            now: NOW,
            walk,
            rows: Vec::new(),
            copy: BTreeMap::new(),
            marks: None,
            first_since: dice.one_in(4).then(|| Micros(NOW - dice.below(40) * DAY)),
            batch_rows: 8 + dice.below(70) as u64,
            lookback: Duration::from_secs(60 * dice.below(12) as u64),
            has_quiet_changes: dice.one_in(3),
            bottom_was_met: false,
            created: 0,
            events: 0,
            killed_at: usize::MAX,
            dice,
        };
        for _ in 0..count {
            world.create();
            let ago = world.dice.below(60) * DAY + world.dice.below(DAY / SECOND) * SECOND;
            let since = world.dice.below(3) * world.dice.below(ago.max(1)) / 2;
            let is_bottom = has_bottom && world.dice.one_in(12);
            let now = world.now;
            if let Some(row) = world.rows.last_mut() {
                row.inserted_at = now - ago;
                row.updated_at = now - ago + since.min(ago);
                row.moved_at = row.updated_at;
                row.is_bottom = is_bottom;
            }
        }
        world
    }

    fn create(&mut self) {
        // Ids are in no order.
        let id = format!("{}_{}", self.dice.below(1_000), self.created);
        self.created += 1;
        let now = self.now;
        let is_bottom = false;
        self.rows.push(Row { id, inserted_at: now, updated_at: now, moved_at: now, content: 0, is_bottom });
    }

    /// The page goes on.
    fn change(&mut self) {
        self.now += (1 + self.dice.below(20)) * SECOND;
        for _ in 0..self.dice.below(4) {
            if self.dice.one_in(4) {
                self.create();
                continue;
            }
            let place = self.dice.below(self.rows.len() as i64) as usize;
            let (now, late) = (self.now, self.dice.below(60) * SECOND);
            let quiet = if self.has_quiet_changes { self.dice.below(4) } else { 3 };
            let is_moved_by = self.walk.version.is_some();
            let Some(row) = self.rows.get_mut(place) else { continue };
            match quiet {
                // A tag.
                0 => row.content += 1,
                // A time that is frozen.
                1 => (row.content, row.moved_at) = (row.content + 1, now),
                // A webhook stores it before the list is read.
                2 => {
                    let stored = Copied {
                        updated_at: row.updated_at,
                        content: row.content,
                        synced_at: now,
                        is_removed: false,
                    };
                    let id = row.id.clone();
                    self.copy.entry(id).and_modify(|copied| *copied = stored);
                }
                // A message, which surfaces up to a minute late.
                _ if is_moved_by => {
                    row.content += 1;
                    row.updated_at = row.updated_at.max(now - late);
                    row.moved_at = row.updated_at;
                }
                _ => {}
            }
        }
        if self.has_quiet_changes && self.dice.one_in(12) && self.rows.len() > 40 {
            let place = self.dice.below(self.rows.len() as i64) as usize;
            self.rows.remove(place);
        }
    }

    fn parameters(&self, is_full: bool) -> Parameters {
        Parameters {
            lookback: self.lookback,
            reread: Some(Duration::from_hours(24)),
            reread_every: Some(Duration::from_hours(1)),
            is_full,
            first_since: self.first_since,
            called_at: Micros(self.now),
            batch_rows: self.batch_rows,
            thread_replies: 64,
        }
    }

    fn is_dated(&self) -> bool {
        !self.bottom_was_met
    }

    fn is_alive(&self, marks: &Marks) -> bool {
        marks.witnesses.as_ref().is_none_or(|ids| ids.iter().flatten().any(|id| self.copy.contains_key(id)))
    }

    /// Returns whether the run is killed at this event. Before it the page has gone on.
    fn event(&mut self, changes: bool) -> bool {
        if changes {
            self.change();
        } else {
            self.now += SECOND;
        }
        self.events += 1;
        self.events == self.killed_at
    }

    /// A call for the page.
    fn sync(&mut self, is_full: bool, changes: bool) -> Ended {
        let parameters = self.parameters(is_full);
        'enter: for entered in 0.. {
            assert!(entered < 50, "it never ends");
            let marks = self.marks.clone().unwrap_or_default();
            let is_alive = self.is_alive(&marks);
            let marks = if is_alive { marks } else { Marks::default() };
            let lane = if is_full && marks.has_past(&self.walk) { Lane::Full } else { Lane::Delta };
            self.marks = self.marks.take().filter(|_| is_alive);
            let mut following = next(&self.walk, &parameters, lane, &marks, None, Micros(self.now));
            while let Some(mut run) = following {
                self.start(&run);
                let mut census = None;
                for step in 0.. {
                    assert!(step < 10_000, "a run never ends: {run:?}");
                    match self.step(&parameters, &mut run, &mut census, changes) {
                        None => return Ended::Killed,
                        Some(StepEnd::Again) => {}
                        Some(StepEnd::Anew) => continue 'enter,
                        Some(StepEnd::Over) => break,
                    }
                }
                if run.kind == Kind::Backfill && is_full {
                    continue 'enter;
                }
                let marks = self.marks.clone().unwrap_or_default();
                following = next(&self.walk, &parameters, lane, &marks, Some(&run), Micros(self.now));
            }
            break;
        }
        Ended::Done
    }

    fn start(&mut self, run: &Run) {
        let marks = self.marks.get_or_insert_default();
        if marks.mark.is_none() {
            marks.first_since = run.first_since;
            marks.backfill_from = floor(&self.walk, run.first_since);
        }
    }

    /// Prepares and executes a step. Returns None if it is killed.
    fn step(
        &mut self,
        parameters: &Parameters,
        run: &mut Run,
        census: &mut Option<Vec<String>>,
        changes: bool,
    ) -> Option<StepEnd> {
        if self.event(changes) {
            return None;
        }
        let mut marks = self.marks.clone().unwrap_or_default();
        if run.phase == Phase::Census {
            let taken = self.census(&marks);
            run.take_census(&self.walk, Some(taken.len() as u64));
            *census = Some(taken);
        }
        if run.set_window(&mut marks, self.is_dated(), Micros(self.now)) {
            self.marks = Some(marks.clone());
        }
        let read_at = *run.read_at.get_or_insert(Micros(self.now));
        let Some(batch) = self.read(run) else {
            // The scan met a row far below its place.
            self.bottom_was_met = true;
            run.is_dated = None;
            return Some(StepEnd::Again);
        };
        if self.event(changes) {
            return None;
        }
        if changes && self.dice.one_in(200) {
            self.copy.clear();
        }
        if !self.is_alive(&marks) {
            return Some(StepEnd::Anew);
        }
        let mut result = batch.result;
        (result.existing, result.written) = match run.phase {
            Phase::Gone => (0, self.remove(run, census)),
            _ => self.write(run, &batch.rows, read_at),
        };
        let kept = batch.rows.iter().map(|row| row.id.clone()).filter(|id| self.copy.contains_key(id));
        let facts = Facts {
            server_time: Micros(self.now),
            now: Micros(self.now),
            is_cut: batch.is_cut,
            is_dated: self.is_dated(),
            requests: 1,
            kept: kept.collect(),
        };
        census.iter_mut().for_each(|census| census.retain(|id| !result.ids.contains(id)));
        let is_over = run.settle(&self.walk, parameters, &mut marks, result, &facts);
        self.marks = Some(marks);
        Some(if is_over { StepEnd::Over } else { StepEnd::Again })
    }

    fn time(&self, run: &Run, row: &Row) -> Option<i64> {
        match run.column(&self.walk)? {
            "updated_at" => Some(row.updated_at),
            _ => Some(row.inserted_at),
        }
    }

    /// Returns what the step's query returns; None if its scan fails.
    fn read(&mut self, run: &Run) -> Option<Batch> {
        if run.phase == Phase::Gone {
            return Some(Batch { rows: Vec::new(), result: StepResult::default(), is_cut: false });
        }
        if run.reads_head(&self.walk) {
            return Some(self.read_head(run));
        }
        let low = if self.walk.is_slices() { run.edge } else { run.low };
        let is_within = |row: &&Row| {
            self.time(run, row).is_none_or(|at| {
                low.is_none_or(|low| Micros(at) >= low) && run.high.is_none_or(|high| Micros(at) <= high)
            })
        };
        let mut rows: Vec<Row> = self.rows.iter().filter(is_within).cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse((self.time(run, row), row.id.clone())));
        let by_inserted = run.column(&self.walk) == Some("inserted_at");
        if self.walk.batches == Batches::Rows && by_inserted && self.is_dated() {
            // Rows at the bottom are met where the list is read to its end.
            let above = rows.iter().filter(|row| !row.is_bottom).count();
            let reaches_end = (above as u64) < run.batch;
            if reaches_end && above < rows.len() {
                return None;
            }
            self.bottom_was_met = reaches_end && self.rows.iter().any(|row| row.is_bottom);
            rows.retain(|row| !row.is_bottom);
        }
        let mut is_cut = false;
        if self.walk.batches == Batches::Rows {
            rows.truncate(run.batch as usize);
            if matches!(run.phase, Phase::Past | Phase::All) && rows.len() > 9 && self.dice.one_in(5) {
                rows.truncate(1 + self.dice.below(rows.len() as i64) as usize);
                is_cut = true;
            }
        }
        let times: Vec<i64> = rows.iter().filter_map(|row| self.time(run, row)).collect();
        let (seen, walked) = (rows.len() as u64, rows.len() as u64);
        let newest = times.iter().filter(|at| **at <= self.now).max().map(|at| Micros(*at));
        let lowest = times.iter().min().map(|at| Micros(*at));
        if run.phase == Phase::Begun {
            rows.retain(|row| run.first_since.is_none_or(|since| Micros(row.inserted_at) >= since));
        }
        Some(self.batch(rows, StepResult { seen, walked, newest, lowest, ..StepResult::default() }, is_cut))
    }

    fn batch(&self, rows: Vec<Row>, result: StepResult, is_cut: bool) -> Batch {
        let ids = rows.iter().map(|row| row.id.clone()).collect();
        Batch { rows, result: StepResult { ids, ..result }, is_cut }
    }

    fn read_head(&self, run: &Run) -> Batch {
        let is_delta = run.kind == Kind::Delta;
        let since = run.since.filter(|_| is_delta).map_or(i64::MAX, |since| since.0);
        let wanted_since = run.first_since.map_or(i64::MIN, |since| since.0);
        let mut list: Vec<&Row> = self.rows.iter().collect();
        list.sort_by_key(|row| std::cmp::Reverse((row.moved_at, &row.id)));
        list.retain(|row| run.high.is_none_or(|high| Micros(row.updated_at) <= high));
        let mut head = Head::new(run.batch as usize, is_delta);
        let (mut received, mut requested, mut wanted): (usize, usize, Vec<Row>) = (0, 0, Vec::new());
        loop {
            match head.next(received, Micros(self.now)) {
                Next::FetchRow => {
                    let place = head.rows().len();
                    if received == 0 {
                        received = (HEAD_ROWS as usize - usize::from(requested > 0)).min(list.len() - place);
                        requested += 1;
                    }
                    received = received.saturating_sub(1);
                    let row = list.get(place).map(|row| HeadRow {
                        at: Some(Micros(row.updated_at)),
                        is_due: Some(row.updated_at >= since || row.inserted_at >= since),
                        is_wanted: row.updated_at >= since || row.inserted_at >= wanted_since,
                    });
                    if row.is_some_and(|row| row.is_wanted) {
                        wanted.extend(list.get(place).map(|row| (*row).clone()));
                    }
                    head.fetched(row);
                }
                Next::Compare(last) => {
                    let from = wanted.len().saturating_sub(last);
                    head.compared(wanted[from..].iter().any(|row| self.differs(row)));
                }
                Next::End => break,
            }
        }
        let read = head.rows().len() as u64;
        let result = StepResult {
            seen: read,
            walked: read,
            lowest: head.lowest(),
            newest: head.newest(),
            ..StepResult::default()
        };
        self.batch(wanted, result, false)
    }

    fn differs(&self, row: &Row) -> bool {
        self.copy.get(&row.id).is_none_or(|copied| copied.content != row.content || copied.is_removed)
    }

    /// Writes as the upsert does.
    fn write(&mut self, run: &Run, rows: &[Row], read_at: Micros) -> (u64, u64) {
        let (mut existing, mut written) = (0, 0);
        for row in rows {
            let fresh = Copied {
                updated_at: row.updated_at,
                content: row.content,
                synced_at: self.now,
                is_removed: false,
            };
            if let Some(stored) = self.copy.get(&row.id) {
                existing += 1;
                let is_later = stored.synced_at <= read_at.0;
                let has_version = self.walk.version.is_some() && run.kind != Kind::Full;
                let is_newer = if has_version {
                    stored.updated_at < row.updated_at || stored.updated_at == row.updated_at && is_later
                } else {
                    is_later
                };
                if !is_newer || !self.differs(row) {
                    continue;
                }
            }
            written += 1;
            self.copy.insert(row.id.clone(), fresh);
        }
        (existing, written)
    }

    fn census(&self, marks: &Marks) -> Vec<String> {
        let is_seen = |copied: &Copied| {
            self.walk.dated.is_none() || marks.mark.is_some_and(|mark| Micros(copied.updated_at) <= mark)
        };
        let began = |id: &str| self.rows.iter().find(|row| row.id == id).map(|row| Micros(row.inserted_at));
        let is_wanted =
            |id: &str| marks.first_since.is_none_or(|since| began(id).is_none_or(|at| at >= since));
        let listed =
            self.copy.iter().filter(|(id, copied)| !copied.is_removed && is_seen(copied) && is_wanted(id));
        listed.map(|(id, _)| id.clone()).collect()
    }

    fn remove(&mut self, run: &Run, census: &Option<Vec<String>>) -> u64 {
        let gone = census.clone().unwrap_or_default();
        if gone.len() as u64 * 10 > run.census.unwrap_or_default() {
            return 0;
        }
        for id in &gone {
            if let Some(copied) = self.copy.get_mut(id).filter(|copied| copied.synced_at <= run.began_at.0) {
                copied.is_removed = true;
            }
        }
        gone.len() as u64
    }

    /// Rows of the page that the copy lacks or holds otherwise.
    fn missing(&self) -> Vec<&str> {
        let since = self.marks.as_ref().and_then(|marks| marks.first_since);
        let is_wanted = |row: &&Row| since.is_none_or(|since| Micros(row.inserted_at) >= since);
        let missing = self.rows.iter().filter(is_wanted).filter(|row| self.differs(row));
        missing.map(|row| row.id.as_str()).collect()
    }
}

enum StepEnd {
    Again,
    /// The rows or the marks went away: the page is begun again.
    Anew,
    Over,
}

/// Kills runs at every event of a world, and goes on. Returns how many events there were.
fn check(seed: u64) -> usize {
    let mut events = 0;
    for killed_at in (1 + seed as usize % 3..).step_by(3) {
        let mut world = World::new(seed);
        world.killed_at = killed_at;
        let mut was_killed = world.sync(false, true) == Ended::Killed;
        // Some more, after some hours.
        let has_full = seed.is_multiple_of(2);
        for is_full in [false, has_full, false] {
            world.now += world.dice.below(180) * MINUTE;
            for _ in 0..world.dice.below(60) {
                world.change();
            }
            if world.dice.one_in(4) {
                // A burst of new conversations.
                for _ in 0..world.dice.below(200) {
                    world.now += SECOND;
                    world.create();
                }
            }
            was_killed |= world.sync(is_full, true) == Ended::Killed;
        }
        (world.now, world.killed_at) = (world.now + 5 * MINUTE, usize::MAX);
        let what = format!("seed {seed}, killed at {killed_at}");
        assert_eq!(world.sync(false, false), Ended::Done, "{what}");
        if !world.has_quiet_changes && world.walk.version.is_some() {
            assert_eq!(world.missing(), Vec::<&str>::new(), "{what}, after a delta");
        }
        assert_eq!(world.sync(true, false), Ended::Done, "{what}");
        assert_eq!(world.missing(), Vec::<&str>::new(), "{what}, after a full rescan");
        events += world.events;
        if !was_killed {
            return events;
        }
    }
    events
}

#[test]
fn a_run_that_is_killed_at_any_event_is_made_up_for() {
    let events: usize = (0..45).map(check).sum();
    assert!(events > 100_000, "{events} events");
}

/// `make soak`.
#[test]
#[ignore = "takes minutes"]
fn thousands_of_worlds() {
    let events: usize = (0..4_000).map(check).sum();
    assert!(events > 10_000_000, "{events} events");
    println!("{events} events");
}
