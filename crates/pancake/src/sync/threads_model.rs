//! This module runs syncs of messages of small worlds: conversations get messages between any two
//! events, a webhook stores the newest ones first, threads fail for a while, and runs are killed.
//! In the end the copy has every message of the page.
//!
//! An event is the preparation of a step, at which its rows are read, or its execution.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::frozen::Frozen;
use super::head::{Head, HeadRow, Next};
use super::marks::Marks;
use super::model::{DAY, Dice, MINUTE, NOW};
use super::run::{HEAD_ROWS, Kind, Lane, Parameters, Phase, Run, floor, next};
use super::settle::{Facts, StepResult};
use super::skips::{AfterFailure, Reading, Skips, pause};
use super::threads::{ListResult, ThreadBatch};
use super::walk::Walk;
use crate::schema::catalogue::Object;
use crate::time::{Micros, SECOND};

#[derive(Clone)]
struct Message {
    id: String,
    at: i64,
}

#[derive(Clone)]
struct Conversation {
    id: String,
    inserted_at: i64,
    updated_at: i64,
    /// Where it stands in the list.
    moved_at: i64,
    messages: Vec<Message>,
    fails: bool,
}

/// A message of the copy.
struct Stored {
    thread: String,
    at: i64,
    synced_at: i64,
    is_removed: bool,
}

#[derive(PartialEq, Eq, Debug)]
enum StepEnd {
    Again,
    /// The rows or the marks went away: the page is begun again.
    Anew,
    Failed,
    Over,
}

struct World {
    dice: Dice,
    now: i64,
    walk: Walk,
    list: Vec<Conversation>,
    copy: BTreeMap<String, Stored>,
    marks: Option<Marks>,
    /// Conversations that failed: how often, and when they are due.
    notes: BTreeMap<String, (u32, i64)>,
    skips: Skips,
    first_since: Option<Micros>,
    batch_rows: u64,
    lookback: Duration,
    /// Some messages move no time, and conversations are deleted.
    has_quiet_changes: bool,
    has_failures: bool,
    made: usize,
    events: usize,
    killed_at: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(7_919));
        let count = [1, 9, 40, 70, 130][dice.below(5) as usize];
        let mut world = World {
            now: NOW,
            walk: Walk::of(Object::Messages).unwrap(),
            list: Vec::new(),
            copy: BTreeMap::new(),
            marks: None,
            notes: BTreeMap::new(),
            skips: Skips::default(),
            first_since: dice.one_in(3).then(|| Micros(NOW - dice.below(20) * DAY)),
            batch_rows: 16 + dice.below(60) as u64,
            lookback: Duration::from_secs(60 * dice.below(12) as u64),
            has_quiet_changes: dice.one_in(3),
            has_failures: dice.one_in(3),
            made: 0,
            events: 0,
            killed_at: usize::MAX,
            dice,
        };
        for _ in 0..count {
            let (ago, messages) = (world.dice.below(30 * 1_440) * MINUTE, 1 + world.dice.below(4));
            let begun = world.now - ago;
            world.begin(begun);
            for _ in 1..messages {
                let at = begun + world.dice.below(ago / SECOND + 1) * SECOND;
                let place = world.list.len() - 1;
                world.message(place, at, at);
            }
        }
        world
    }

    fn begin(&mut self, at: i64) {
        self.made += 1;
        let id = format!("{}_{}", self.dice.below(1_000), self.made);
        let (inserted_at, updated_at, moved_at, messages, fails) = (at, at, at, Vec::new(), false);
        self.list.push(Conversation { id, inserted_at, updated_at, moved_at, messages, fails });
        self.message(self.list.len() - 1, at, at);
    }

    /// A message of this time, which moves the conversation to that one.
    fn message(&mut self, place: usize, at: i64, shown: i64) {
        self.made += 1;
        let id = format!("m{}", self.made);
        let conversation = &mut self.list[place];
        let at = conversation.messages.last().map_or(at, |last| at.max(last.at + 1));
        conversation.messages.push(Message { id, at });
        conversation.updated_at = conversation.updated_at.max(shown);
        conversation.moved_at = conversation.moved_at.max(at);
    }

    /// The page goes on.
    fn change(&mut self) {
        self.now += (1 + self.dice.below(20)) * SECOND;
        for _ in 0..self.dice.below(3) {
            let place = self.dice.below(self.list.len() as i64) as usize;
            let late = self.dice.below(60) * SECOND;
            match self.dice.below(if self.has_quiet_changes { 8 } else { 6 }) {
                0 => self.begin(self.now),
                // A webhook stores the newest message before those that came before it are read.
                1 => self.store_newest(place),
                2 if self.has_failures => self.list[place].fails = self.dice.one_in(2),
                // A time that is frozen.
                6 => self.message(place, self.now, i64::MIN),
                7 if self.list.len() > 40 && self.dice.one_in(4) => drop(self.list.remove(place)),
                _ => self.message(place, self.now - late, self.now - late),
            }
        }
    }

    /// Most conversations get two messages, and a webhook stores the later one.
    fn burst(&mut self) {
        for place in 0..self.list.len() {
            if self.dice.one_in(4) {
                continue;
            }
            self.now += SECOND;
            self.message(place, self.now, self.now);
            self.message(place, self.now, self.now);
            self.store_newest(place);
        }
    }

    fn store_newest(&mut self, place: usize) {
        let conversation = &self.list[place];
        if let Some(newest) = conversation.messages.last() {
            let (thread, at, synced_at) = (conversation.id.clone(), newest.at, self.now);
            let stored = Stored { thread, at, synced_at, is_removed: false };
            self.copy.entry(newest.id.clone()).or_insert(stored);
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
            thread_replies: 16,
        }
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

    /// A call for the page. Returns whether it was killed.
    fn sync(&mut self, is_full: bool, changes: bool) -> bool {
        let parameters = self.parameters(is_full);
        'enter: for entered in 0.. {
            assert!(entered < 50, "it never ends");
            let marks = self.marks.clone().unwrap_or_default();
            let is_alive = self.is_alive(&marks);
            if !is_alive {
                self.notes.clear();
            }
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
                        None => return true,
                        Some(StepEnd::Failed) => return false,
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
        false
    }

    fn start(&mut self, run: &Run) {
        let marks = self.marks.get_or_insert_default();
        if marks.mark.is_none() {
            marks.first_since = run.first_since;
            marks.backfill_from = floor(&self.walk, run.first_since);
        }
        let mut notes: Vec<_> = self.notes.iter().collect();
        notes.sort_by_key(|(_, (_, next_try_at))| *next_try_at);
        let notes = notes.into_iter().map(|(id, (_, at))| (id.clone(), *at <= self.now));
        self.skips = Skips::new(notes);
    }

    /// Prepares and executes a step. Returns None if it is killed.
    fn step(
        &mut self,
        parameters: &Parameters,
        run: &mut Run,
        census: &mut Option<BTreeSet<String>>,
        changes: bool,
    ) -> Option<StepEnd> {
        if self.event(changes) {
            return None;
        }
        let mut marks = self.marks.clone().unwrap_or_default();
        if run.threads.is_none() {
            if run.phase == Phase::Census {
                let taken = self.census(&marks);
                run.take_census(&self.walk, Some(taken.len() as u64));
                *census = Some(taken);
            }
            run.set_window(&mut marks, true, Micros(self.now));
            if matches!(run.phase, Phase::Past | Phase::All) && run.frozen.is_none() {
                run.frozen = run.first_since.map(|since| self.frozen(since));
            }
        }
        let read_at = *run.read_at.get_or_insert(Micros(self.now));
        let is_gone = run.phase == Phase::Gone;
        let list = (run.threads.is_none() && !is_gone).then(|| self.read_list(run));
        let messages = run.threads.as_ref().map(|batch| self.read_threads(run, batch));
        if self.event(changes) {
            return None;
        }
        if changes && self.dice.one_in(200) {
            self.copy.clear();
        }
        if !self.is_alive(&marks) {
            return Some(StepEnd::Anew);
        }
        let rows = match (list, messages) {
            (Some(list), _) => {
                let batch = self.batch(run, list, census);
                let is_empty = batch.threads.is_empty();
                run.threads = Some(batch);
                if !is_empty {
                    return Some(StepEnd::Again);
                }
                Vec::new()
            }
            (None, Some(Err(id))) => return Some(self.skip(run, &id, census)),
            (None, Some(Ok(rows))) => rows,
            (None, None) => Vec::new(),
        };
        Some(self.settle(parameters, run, &mut marks, census, rows, read_at))
    }

    fn settle(
        &mut self,
        parameters: &Parameters,
        run: &mut Run,
        marks: &mut Marks,
        census: &mut Option<BTreeSet<String>>,
        rows: Vec<(String, Message)>,
        read_at: Micros,
    ) -> StepEnd {
        let mut result = StepResult { seen: rows.len() as u64, ..StepResult::default() };
        (result.existing, result.written) =
            if run.phase == Phase::Gone { (0, self.remove(run, census)) } else { self.write(&rows, read_at) };
        result.ids = rows.into_iter().map(|(_, message)| message.id).collect();
        if let Some(batch) = run.threads.take() {
            for id in self.skips.succeeded(&batch.threads) {
                self.notes.remove(&id);
            }
            let ThreadBatch { walked, lowest, newest, seam, .. } = batch;
            result = StepResult { walked, lowest, newest, seam, ..result };
        }
        let kept = result.ids.iter().filter(|id| self.copy.contains_key(*id)).cloned().collect();
        let (now, requests) = (Micros(self.now), 1 + result.seen);
        let facts = Facts { server_time: now, now, is_cut: false, is_dated: true, requests, kept };
        census.iter_mut().for_each(|census| census.retain(|id| !result.ids.contains(id)));
        let is_over = run.settle(&self.walk, parameters, marks, result, &facts);
        self.marks = Some(marks.clone());
        if is_over { StepEnd::Over } else { StepEnd::Again }
    }

    fn frozen(&self, since: Micros) -> Vec<String> {
        let mut frozen = Frozen::new(since);
        for conversation in self.served() {
            if frozen.is_over() {
                break;
            }
            frozen.push(conversation.id.clone(), Some(Micros(conversation.updated_at)));
        }
        frozen.into_ids()
    }

    fn served(&self) -> Vec<&Conversation> {
        let mut list: Vec<_> = self.list.iter().collect();
        list.sort_by_key(|conversation| std::cmp::Reverse((conversation.moved_at, &conversation.id)));
        list
    }

    fn read_list(&self, run: &Run) -> ListResult {
        if run.reads_head(&self.walk) { self.read_head(run) } else { self.read_in_order(run) }
    }

    fn read_head(&self, run: &Run) -> ListResult {
        let is_delta = run.kind == Kind::Delta;
        let since = run.since.filter(|_| is_delta).map_or(i64::MAX, |since| since.0);
        let mut list = self.served();
        list.retain(|row| run.high.is_none_or(|high| Micros(row.updated_at) <= high));
        let mut head = Head::new(run.batch as usize, is_delta);
        let mut received = 0;
        loop {
            match head.next(received, Micros(self.now)) {
                Next::FetchRow => {
                    let place = head.rows().len();
                    if received == 0 {
                        received = (HEAD_ROWS as usize - usize::from(place > 0)).min(list.len() - place);
                    }
                    received = received.saturating_sub(1);
                    head.fetched(list.get(place).map(|row| HeadRow {
                        at: Some(Micros(row.updated_at)),
                        is_due: Some(row.updated_at >= since || row.inserted_at >= since),
                        is_wanted: true,
                    }));
                }
                Next::Compare(_) => head.compared(false),
                Next::End => break,
            }
        }
        let read = &list[..head.rows().len()];
        ListResult {
            ids: read.iter().map(|row| row.id.clone()).collect(),
            times: head.rows().iter().map(|row| row.at).collect(),
            due: head.rows().iter().map(|row| row.is_due).collect(),
            batch: ThreadBatch {
                walked: read.len() as u64,
                lowest: head.lowest(),
                newest: head.newest(),
                ..ThreadBatch::default()
            },
        }
    }

    fn read_in_order(&self, run: &Run) -> ListResult {
        let time = |row: &Conversation| {
            if run.column(&self.walk) == Some("updated_at") { row.updated_at } else { row.inserted_at }
        };
        let is_within = |row: &&Conversation| {
            let at = Micros(time(row));
            run.low.is_none_or(|low| at >= low) && run.high.is_none_or(|high| at <= high)
        };
        let mut rows: Vec<_> = self.list.iter().filter(is_within).collect();
        rows.sort_by_key(|row| std::cmp::Reverse((time(row), &row.id)));
        rows.truncate(run.batch as usize);
        let lowest = rows.iter().map(|row| time(row)).min();
        let newest = rows.iter().map(|row| time(row)).filter(|at| *at <= self.now).max();
        let seam = rows.iter().filter(|row| Some(time(row)) == lowest).map(|row| row.id.clone());
        ListResult {
            ids: rows.iter().filter(|row| self.is_wanted(run, row)).map(|row| row.id.clone()).collect(),
            batch: ThreadBatch {
                walked: rows.len() as u64,
                lowest: lowest.map(Micros),
                newest: newest.map(Micros),
                seam: Some(seam.collect()).filter(|seam: &Vec<_>| !seam.is_empty()),
                ..ThreadBatch::default()
            },
            ..ListResult::default()
        }
    }

    fn is_wanted(&self, run: &Run, row: &Conversation) -> bool {
        let (inserted_at, updated_at) = (Micros(row.inserted_at), Micros(row.updated_at));
        if run.phase == Phase::Begun {
            return run.since.is_some_and(|since| inserted_at >= since && updated_at < since);
        }
        let is_below = run.phase != Phase::Past || run.low.is_none_or(|low| updated_at < low);
        let is_stored = || run.kind == Kind::Full && self.copy.values().any(|stored| stored.thread == row.id);
        let is_frozen = || run.frozen.as_ref().is_some_and(|frozen| frozen.contains(&row.id));
        is_below && run.first_since.is_none_or(|since| updated_at >= since || is_frozen() || is_stored())
    }

    fn batch(&self, run: &Run, list: ListResult, census: &mut Option<BTreeSet<String>>) -> ThreadBatch {
        let mut batch = list.into_batch(run, run.reads_head(&self.walk));
        if run.kind == Kind::Delta {
            for thread in &mut batch.threads {
                let known =
                    self.copy.values().filter(|stored| stored.thread == thread.id && !stored.is_removed);
                let known = known.map(|stored| Micros(stored.at));
                thread.bound = known.filter(|at| run.known_to.is_some_and(|known_to| *at < known_to)).max();
            }
        }
        let reading = match (run.kind, run.phase) {
            (Kind::Full | Kind::Backfill, _) => Reading::Whole,
            (Kind::Delta, Phase::Head) => Reading::HeadOfDelta,
            _ => Reading::Partial,
        };
        for id in self.skips.apply(&mut batch.threads, reading) {
            self.forget_in_census(census, &id);
        }
        batch
    }

    fn forget_in_census(&self, census: &mut Option<BTreeSet<String>>, thread: &str) {
        let is_of = |id: &String| self.copy.get(id).is_some_and(|stored| stored.thread == thread);
        census.iter_mut().for_each(|census| census.retain(|id| !is_of(id)));
    }

    /// Returns the messages of a batch, newest first, or the conversation that fails.
    fn read_threads(&self, run: &Run, batch: &ThreadBatch) -> Result<Vec<(String, Message)>, String> {
        let since = if run.phase == Phase::Again { run.low.max(run.first_since) } else { run.first_since };
        let mut rows = Vec::new();
        for thread in &batch.threads {
            // One that was deleted meanwhile has an empty list.
            let Some(conversation) = self.list.iter().find(|row| row.id == thread.id) else { continue };
            if conversation.fails {
                return Err(thread.id.clone());
            }
            let is_wanted = |message: &&Message| {
                let at = Micros(message.at);
                since.is_none_or(|since| at >= since) && thread.bound.is_none_or(|bound| at > bound)
            };
            let wanted = conversation.messages.iter().filter(is_wanted);
            rows.extend(wanted.map(|message| (thread.id.clone(), message.clone())));
        }
        rows.sort_by_key(|(_, message)| std::cmp::Reverse(message.at));
        Ok(rows)
    }

    fn skip(&mut self, run: &mut Run, id: &str, census: &mut Option<BTreeSet<String>>) -> StepEnd {
        let Some(batch) = &mut run.threads else { return StepEnd::Failed };
        let after = self.skips.failed(id, &mut batch.threads);
        let (tries, next_try_at) = self.notes.entry(id.to_owned()).or_default();
        *tries += 1;
        *next_try_at = Micros(self.now).plus(pause(*tries)).0;
        self.forget_in_census(census, id);
        if after == AfterFailure::EndRun { StepEnd::Failed } else { StepEnd::Again }
    }

    fn differs(&self, message: &Message) -> bool {
        self.copy.get(&message.id).is_none_or(|stored| stored.is_removed)
    }

    fn write(&mut self, rows: &[(String, Message)], read_at: Micros) -> (u64, u64) {
        let (mut existing, mut written) = (0, 0);
        for (thread, message) in rows {
            if let Some(stored) = self.copy.get(&message.id) {
                existing += 1;
                if stored.synced_at > read_at.0 || !self.differs(message) {
                    continue;
                }
            }
            written += 1;
            let (thread, at, synced_at) = (thread.clone(), message.at, self.now);
            self.copy.insert(message.id.clone(), Stored { thread, at, synced_at, is_removed: false });
        }
        (existing, written)
    }

    fn census(&self, marks: &Marks) -> BTreeSet<String> {
        let is_seen = |stored: &Stored| {
            let at = Micros(stored.at);
            marks.mark.is_some_and(|mark| at <= mark) && marks.first_since.is_none_or(|since| at >= since)
        };
        let listed = self.copy.iter().filter(|(_, stored)| !stored.is_removed && is_seen(stored));
        listed.map(|(id, _)| id.clone()).collect()
    }

    fn remove(&mut self, run: &Run, census: &Option<BTreeSet<String>>) -> u64 {
        let gone = census.clone().unwrap_or_default();
        if gone.len() as u64 * 10 > run.census.unwrap_or_default() {
            return 0;
        }
        for id in &gone {
            if let Some(stored) = self.copy.get_mut(id).filter(|stored| stored.synced_at <= run.began_at.0) {
                stored.is_removed = true;
            }
        }
        gone.len() as u64
    }

    /// Messages of the page that the copy lacks.
    fn missing(&self) -> Vec<String> {
        let since = self.marks.as_ref().and_then(|marks| marks.first_since);
        let messages = self.list.iter().flat_map(|row| row.messages.iter().map(move |m| (&row.id, m)));
        let is_wanted = |message: &Message| since.is_none_or(|since| Micros(message.at) >= since);
        let missing = messages.filter(|(_, message)| is_wanted(message) && self.differs(message));
        missing.map(|(thread, message)| format!("{} of {thread}", message.id)).collect()
    }
}

/// Kills runs at the events of a world, and goes on. Returns how many events there were.
fn check(seed: u64) -> usize {
    let mut events = 0;
    for killed_at in (1 + seed as usize % 3..).step_by(3) {
        let mut world = World::new(seed);
        world.killed_at = killed_at;
        let mut was_killed = world.sync(false, true);
        for is_full in [false, seed.is_multiple_of(2), false] {
            world.now += world.dice.below(180) * MINUTE;
            for _ in 0..world.dice.below(40) {
                world.change();
            }
            if world.dice.one_in(3) {
                world.burst();
            }
            was_killed |= world.sync(is_full, true);
        }
        world.killed_at = usize::MAX;
        world.list.iter_mut().for_each(|conversation| conversation.fails = false);
        let what = format!("seed {seed}, killed at {killed_at}");
        for call in 0.. {
            assert!(call < 40, "{what}: {:?} are never read", world.notes);
            world.now += 5 * MINUTE;
            world.notes.values_mut().for_each(|(_, next_try_at)| *next_try_at = 0);
            world.sync(false, false);
            // Those of conversations that are deleted end as well, because their lists are empty.
            if world.notes.is_empty() {
                break;
            }
        }
        if !world.has_quiet_changes {
            assert_eq!(world.missing(), Vec::<String>::new(), "{what}, after a delta");
        }
        world.sync(true, false);
        assert_eq!(world.missing(), Vec::<String>::new(), "{what}, after a full rescan");
        events += world.events;
        if !was_killed {
            return events;
        }
    }
    events
}

#[test]
fn no_message_is_lost_at_any_event() {
    let events: usize = (0..45).map(check).sum();
    assert!(events > 50_000, "{events} events");
}

/// `make soak`.
#[test]
#[ignore = "takes minutes"]
fn thousands_of_worlds_of_messages() {
    let events: usize = (0..3_000).map(check).sum();
    assert!(events > 1_000_000, "{events} events");
    println!("{events} events");
}
