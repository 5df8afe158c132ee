//! Small worlds, all of them: every row that kept existing comes exactly once, whatever moves during the walk and
//! however the server reads what nobody has documented. Not runs are enumerated but states: what a world, the union
//! and the replies on their way look like. Two ways that lead to one state go on as one, and so do all readings that
//! have answered alike so far.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Mutex;
use std::thread;

use foldhash::quality::FixedState;

use super::*;
use crate::plan::Order;
use crate::time::SECOND;
use crate::walk;

const BATCH: usize = 2;
const PATIENCE: u32 = 6;
const START: i64 = 1_000_000 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    /// A row gets a message: it jumps to the head of a list in `updated_at` order.
    Message(usize),
    /// The same, surfacing half a minute after its time.
    LateMessage(usize),
    Delete(usize),
    Create,
    /// The next reply holds one row although more could come. Once in a world: two at the same place, under a
    /// strict cursor and in a tie that ends the list, cannot be told from the end by any request.
    Short,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lost {
    FirstBatch,
    Empty,
    Failure,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    until_inclusive: bool,
    whole_seconds: bool,
    strict_cursor: bool,
    lost: Lost,
    /// A cursor row that moved is resolved by its new place; else it counts as lost.
    follows_moved: bool,
    ignores_cursor: bool,
}

/// What may happen in a world, and how much of it.
#[derive(Clone, Copy, Debug)]
struct Limits {
    order_moves: bool,
    events: usize,
    segments: usize,
    /// What the walk takes for a full batch; the server's may be smaller.
    full_batch: usize,
}

#[derive(Clone, Debug)]
struct World {
    rows: Vec<Option<i64>>,
    /// Rows that have moved since they were served.
    moved: Vec<bool>,
    short_next: bool,
    was_short: bool,
    /// Changes that may still happen.
    events: usize,
    clock: i64,
}

/// Rows by their id and time, newest first, as one moment shows them.
type Batch = Vec<(usize, i64)>;

impl World {
    fn visible(&self) -> Batch {
        let mut rows: Vec<_> =
            self.rows.iter().enumerate().filter_map(|(id, at)| at.map(|at| (id, at))).collect();
        rows.sort_by_key(|(id, at)| (-at, *id));
        rows
    }

    fn changes(&self, limits: Limits) -> impl Iterator<Item = Change> {
        let of_row = move |row| {
            let changes = [Change::Delete(row), Change::Message(row), Change::LateMessage(row)];
            changes.into_iter().take(if limits.order_moves { 3 } else { 1 })
        };
        let live = (0..self.rows.len()).filter(|row| self.rows[*row].is_some());
        let short = (!self.was_short).then_some(Change::Short);
        live.flat_map(of_row).chain([Change::Create]).chain(short)
    }

    fn change(&mut self, change: Change) {
        self.events -= 1;
        self.clock += 10 * SECOND;
        let now = self.clock;
        match change {
            Change::Message(row) => self.put(row, now),
            Change::LateMessage(row) => self.put(row, now - 30 * SECOND),
            Change::Delete(row) => self.rows[row] = None,
            Change::Create => {
                self.rows.push(Some(now));
                self.moved.push(true);
            }
            Change::Short => (self.short_next, self.was_short) = (true, true),
        }
    }

    fn put(&mut self, row: usize, time: i64) {
        if let Some(at) = self.rows[row].as_mut().filter(|at| **at < time) {
            (*at, self.moved[row]) = (time, true);
        }
    }

    /// Whether it may matter to a cursor who was served a row that moved.
    fn moved_rows_matter(&self, possible: u64, readings: &[Reading]) -> bool {
        let moved = self.rows.iter().zip(&self.moved).any(|(row, moved)| row.is_some() && *moved);
        moved && (0..readings.len()).any(|i| possible & (1 << i) != 0 && !readings[i].follows_moved)
    }

    /// `None` where the request fails.
    fn answer(&self, visible: &[(usize, i64)], ask: &walk::Ask, reading: Reading) -> Option<Batch> {
        let unit = if reading.whole_seconds { SECOND } else { 1 };
        let until = ask.until.map_or(i64::MAX, |until| until.0 * SECOND / unit);
        let below = |at: i64| at / unit < until || (reading.until_inclusive && at / unit == until);
        let since = ask.since.map_or(i64::MIN, |since| since.0 * SECOND);
        let cursor = ask.cursor.as_ref().filter(|_| !reading.ignores_cursor);
        let mut from = (i64::MIN, 0);
        if let Some(cursor) = cursor {
            let id: usize = cursor.parse().ok()?;
            from = match self.rows[id].filter(|_| !self.moved[id] || reading.follows_moved) {
                Some(at) if reading.strict_cursor => (-at, usize::MAX),
                Some(at) => (-at, id),
                None => match reading.lost {
                    Lost::FirstBatch => from,
                    Lost::Empty => (i64::MAX, 0),
                    Lost::Failure => return None,
                },
            };
        }
        let shown = |(id, at): &&(usize, i64)| *at >= since && below(*at) && (-*at, *id) > from;
        let most = if self.short_next { 1 } else { BATCH };
        Some(visible.iter().filter(shown).take(most).copied().collect())
    }

    /// The answers that are possible, each with the readings that give it.
    fn answers(&self, ask: &walk::Ask, possible: u64, readings: &[Reading]) -> Vec<(Option<Batch>, u64)> {
        let visible = self.visible();
        let mut answers: Vec<(Option<Batch>, u64)> = vec![];
        for (bit, reading) in readings.iter().enumerate().map(|(i, reading)| (1 << i, reading)) {
            if possible & bit == 0 {
                continue;
            }
            let answer = self.answer(&visible, ask, *reading);
            match answers.iter_mut().find(|(other, _)| *other == answer) {
                Some((_, readings)) => *readings |= bit,
                None => answers.push((answer, bit)),
            }
        }
        answers
    }

    /// What is idle asks at once: that it asked a little later looks to the world as if the reply came later. As many
    /// moments as there are answers.
    fn ask(self, mut scan: Scan, readings: &[Reading], next: &mut Vec<Result<Moment>>) {
        // Nothing is cut here by the union itself.
        let ahead = scan.union.segments.iter().any(Segment::is_idle);
        let Some(question) = scan.union.next(ahead) else {
            scan.fingerprint = scan.print();
            return next.push(Ok(Moment { world: self, scan: Rc::new(scan) }));
        };
        scan.requests += 1;
        let answers = self.answers(question.ask.cursor(), scan.readings, readings);
        let mut scans = std::iter::repeat_n(scan, answers.len());
        let mut worlds = std::iter::repeat_n(self, answers.len());
        for (answer, readings_left) in answers {
            let (Some(mut scan), Some(mut world)) = (scans.next(), worlds.next()) else { return };
            answer.iter().for_each(|batch| world.served(batch));
            scan.flight.push((question.asker, answer));
            scan.readings = readings_left;
            world.ask(scan, readings, next);
        }
    }

    fn served(&mut self, batch: &[(usize, i64)]) {
        self.short_next = false;
        batch.iter().for_each(|(id, _)| self.moved[*id] = false);
    }
}

/// A moment of a scan.
#[derive(Clone, Debug)]
struct Moment {
    world: World,
    scan: Rc<Scan>,
}

#[derive(Clone, Debug)]
struct Scan {
    union: Union,
    /// Replies on their way.
    flight: Vec<(Asker, Option<Batch>)>,
    handed: Vec<u8>,
    requests: usize,
    /// A bit for each reading under which all this may have happened.
    readings: u64,
    fingerprint: u64,
}

/// What became of all the ways that a world can go.
#[derive(Debug, Default)]
struct Outcome {
    states: usize,
    ends: usize,
    gave_up: usize,
    most_requests: usize,
}

impl Outcome {
    fn and(self, other: Outcome) -> Outcome {
        Outcome {
            states: self.states + other.states,
            ends: self.ends + other.ends,
            gave_up: self.gave_up + other.gave_up,
            most_requests: self.most_requests.max(other.most_requests),
        }
    }
}

fn begin(times: &[i64], readings: &[Reading], limits: Limits) -> Moment {
    let order = if limits.order_moves { Order::UpdatedAt } else { Order::InsertedAt };
    let chain = Chain::whole(order);
    let terms = Terms { full_batch: limits.full_batch, patience: PATIENCE };
    let plan = RequestPlan { chains: vec![chain], ..RequestPlan::default() };
    Moment {
        world: World {
            rows: times.iter().map(|before| Some(START - before)).collect(),
            moved: vec![false; times.len()],
            short_next: false,
            was_short: false,
            events: limits.events,
            clock: START,
        },
        scan: Rc::new(Scan {
            union: Union::on(terms, Object::Conversations, &plan, limits.order_moves),
            flight: vec![],
            handed: vec![0; times.len()],
            requests: 0,
            readings: (1 << readings.len()) - 1,
            fingerprint: 0,
        }),
    }
}

impl Moment {
    /// What can happen next: a change of the world, a request, a reply, a cut. `Err` is an honest failure.
    fn next(self, readings: &[Reading], limits: Limits, next: &mut Vec<Result<Moment>>) {
        if self.world.events > 0 {
            for change in self.world.changes(limits) {
                let mut moment = self.clone();
                moment.world.change(change);
                next.push(Ok(moment));
            }
        }
        if self.scan.union.segments_made < limits.segments {
            for low in self.cuts() {
                let mut scan = Scan::clone(&self.scan);
                scan.union.divide(0, low);
                self.world.clone().ask(scan, readings, next);
            }
        }
        // Where nothing changes any more, the order in which two segments go on is the same to both.
        let rests = self.world.events == 0
            && !self.world.short_next
            && self.scan.union.segments_made == limits.segments;
        let in_any_order = rests && !self.world.moved_rows_matter(self.scan.readings, readings);
        for which in 1..if in_any_order { 1 } else { self.scan.flight.len() } {
            self.clone().hear(which, readings, next);
        }
        match self.scan.requests {
            0 => {
                let scan = Scan::clone(&self.scan);
                self.world.ask(scan, readings, next);
            }
            _ if self.scan.flight.is_empty() => {}
            _ => self.hear(0, readings, next),
        }
    }

    fn hear(self, which: usize, readings: &[Reading], next: &mut Vec<Result<Moment>>) {
        let Moment { world, scan } = self;
        let mut scan = Rc::unwrap_or_clone(scan);
        match scan.hear(which) {
            Ok(()) => world.ask(scan, readings, next),
            Err(error) => next.push(Err(error)),
        }
    }

    /// Every place where the first segment could be cut: at each row that it has not handed out, and just above.
    fn cuts(&self) -> Vec<Micros> {
        let Some(segment) = self.scan.union.segments.first() else { return vec![] };
        let Some(place) = segment.walk.depth().filter(|_| segment.walk.ended().is_none()) else {
            return vec![];
        };
        let rows = self.world.visible().into_iter().flat_map(|(_, at)| [at, at + 1]);
        rows.map(Micros).filter(|at| *at <= place).collect()
    }

    /// All that decides how it goes on. The clock tells no more than the events that are left. Of ten million moments
    /// two are taken for one with a probability of 10⁻⁵.
    fn fingerprint(&self) -> u64 {
        let World { rows, moved, short_next, was_short, events, clock: _ } = &self.world;
        FixedState::default().hash_one((rows, moved, short_next, was_short, events, self.scan.fingerprint))
    }

    fn check(&self, rows: usize, told: impl Fn() -> String) {
        for (id, at) in self.world.rows.iter().enumerate() {
            let handed = self.scan.handed.get(id).copied().unwrap_or_default();
            let lived_throughout = id < rows && at.is_some();
            let right = handed == 1 || (handed == 0 && !lived_throughout);
            assert!(right, "row {id} came {handed} times: {}", told());
        }
    }
}

impl Scan {
    fn hear(&mut self, which: usize) -> Result<()> {
        let (asker, answer) = self.flight.remove(which);
        match answer {
            None => assert!(self.union.lost(asker)?),
            Some(rows) => {
                let spot = |(id, at): &(usize, i64)| Spot { id: id.to_string(), at: Micros(*at) };
                let spots: Vec<_> = rows.iter().map(spot).collect();
                for i in self.union.reply(asker, &spots, None)? {
                    let id = rows[i].0;
                    self.handed.resize(self.handed.len().max(id + 1), 0);
                    self.handed[id] += 1;
                }
            }
        }
        self.union.ready().map(drop)
    }

    fn print(&self) -> u64 {
        let Scan { union, flight, handed, requests: _, readings, fingerprint: _ } = self;
        let mut state = FixedState::default().build_hasher();
        (flight, handed, readings).hash(&mut state);
        // Which ids came is known by what was handed out. Where to cut is not decided by the union here.
        (&union.looks, union.look_is_asked, &union.begun, union.segments_made).hash(&mut state);
        for segment in &union.segments {
            let Walker::Cursor(walk) = &segment.walk else { panic!("{segment:?}") };
            (segment.number, segment.busy, walk).hash(&mut state);
        }
        state.finish()
    }
}

/// Explores everything that can become of a world. A wrong answer panics, and so does giving up where neither a batch
/// of ties under a strict cursor nor an ignored cursor is to blame.
fn explore(times: &[i64], readings: &[Reading], limits: Limits) -> Outcome {
    let mut outcome = Outcome::default();
    let mut known = HashSet::with_hasher(FixedState::default());
    let mut open = vec![begin(times, readings, limits)];
    let mut next = vec![];
    let ties_fill_a_batch = times.windows(BATCH).any(|rows| rows[0] == rows[BATCH - 1]);
    while let Some(moment) = open.pop() {
        let possible = moment.scan.readings;
        let all = || (0..readings.len()).filter(|i| possible & (1 << i) != 0).map(|i| &readings[i]);
        let told = || format!("{times:?} {limits:?} {moment:?} {:?}", all().collect::<Vec<_>>());
        assert!(moment.scan.requests < 400, "no end: {}", told());
        if moment.scan.union.is_over() {
            outcome.ends += 1;
            outcome.most_requests = outcome.most_requests.max(moment.scan.requests);
            moment.check(times.len(), told);
            continue;
        }
        moment.next(readings, limits, &mut next);
        for next in next.drain(..) {
            match next {
                Ok(next) if known.insert(next.fingerprint()) => open.push(next),
                Ok(_) => {}
                Err(error) => {
                    let may = |r: &Reading| r.ignores_cursor || (r.strict_cursor && ties_fill_a_batch);
                    assert!(all().all(may), "gave up: {error:?} {times:?} {limits:?}");
                    outcome.gave_up += 1;
                }
            }
        }
    }
    outcome.states = known.len();
    outcome
}

fn readings() -> Vec<Reading> {
    let mut readings = vec![];
    for bits in 0..16u8 {
        let bit = |i: u8| bits & (1 << i) != 0;
        for lost in [Lost::FirstBatch, Lost::Empty, Lost::Failure] {
            readings.push(Reading {
                until_inclusive: bit(0),
                whole_seconds: bit(1),
                strict_cursor: bit(2),
                lost,
                follows_moved: bit(3),
                ignores_cursor: false,
            });
        }
    }
    readings
}

/// Every list of so many rows, as far as order, seconds and ties tell lists apart: microseconds before the start,
/// newest first, neighbours far apart, within one second, or at the same time.
fn lists(rows: usize) -> Vec<Vec<i64>> {
    let mut lists = vec![vec![]];
    for row in 0..rows {
        lists = lists
            .into_iter()
            .flat_map(|list: Vec<i64>| {
                let steps: &[i64] = if row == 0 { &[5 * SECOND] } else { &[100 * SECOND, 100, 0] };
                let last = list.last().copied().unwrap_or_default();
                steps.iter().map(move |step| [&list[..], &[last + step]].concat())
            })
            .collect();
    }
    lists
}

/// Every list of so many rows, or every `stride`th, under all readings, in both orders.
fn explore_all(rows: usize, events: usize, segments: usize, stride: usize) {
    let of_order = |order_moves| lists(rows).into_iter().step_by(stride).map(move |list| (list, order_moves));
    let left = Mutex::new([false, true].into_iter().flat_map(of_order).collect::<Vec<_>>());
    let done = Mutex::new(Outcome::default());
    let readings = readings();
    let work = || {
        let next = || left.lock().unwrap().pop();
        while let Some((list, order_moves)) = next() {
            let limits = Limits { order_moves, events, segments, full_batch: BATCH };
            let outcome = explore(&list, &readings, limits);
            let mut done = done.lock().unwrap();
            *done = std::mem::take(&mut *done).and(outcome);
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    println!("{rows} rows, {events} events, {segments} segments: {:?}", done.lock().unwrap());
}

#[test]
fn exactly_once_whatever_happens() {
    for (rows, events) in [(0, 2), (1, 3), (2, 3), (3, 2), (4, 1)] {
        explore_all(rows, events, 1, 1);
    }
    explore_all(4, 2, 1, 5);
    explore_all(6, 1, 1, 31);
}

#[test]
fn exactly_once_in_two_segments_whatever_happens() {
    for (rows, events) in [(0, 2), (1, 2), (2, 1), (3, 0)] {
        explore_all(rows, events, 2, 1);
    }
    explore_all(3, 1, 2, 5);
}

/// All worlds of up to 6 rows with up to 3 events: two thousand million states in an hour, on two cores.
/// `cargo test --release -p pancake -- --ignored --nocapture everything`
#[test]
#[ignore = "takes an hour"]
fn everything_in_one_segment() {
    for (rows, events) in [(3, 3), (4, 2), (6, 1), (5, 2), (4, 3), (6, 2), (5, 3), (6, 3)] {
        explore_all(rows, events, 1, 1);
    }
}

/// With a cut at every place and at any moment: five hundred million states in twenty minutes. Each row more, and each
/// event more, takes about ten times as long.
#[test]
#[ignore = "takes twenty minutes"]
fn everything_in_two_segments() {
    for (rows, events) in
        [(3, 1), (2, 2), (4, 0), (4, 1), (3, 2), (6, 0), (5, 1), (2, 3), (4, 2), (6, 1), (3, 3)]
    {
        explore_all(rows, events, 2, 1);
    }
}

const QUIET: Limits = Limits { order_moves: false, events: 0, segments: 1, full_batch: BATCH };

#[test]
fn exactly_once_where_the_server_gives_less_than_a_full_batch() {
    let readings: Vec<_> = readings().into_iter().filter(|reading| !reading.strict_cursor).collect();
    for times in (0..4).flat_map(lists) {
        for order_moves in [true, false] {
            let limits = Limits { order_moves, events: 1, full_batch: BATCH + 1, ..QUIET };
            assert_eq!(explore(&times, &readings, limits).gave_up, 0);
        }
    }
}

#[test]
fn a_quiet_list_costs_a_row_in_a_batch_and_three_requests() {
    let times: Vec<i64> = (0..59).map(|i| i * 10 * SECOND).collect();
    assert!(explore(&times, &readings()[..1], QUIET).most_requests <= 59 + 3);
}

/// Every reply to a cursor is the first batch again: the walk gives up rather than ask for ever or leave rows out.
#[test]
fn an_ignored_cursor_ends_honestly() {
    for reading in readings() {
        let reading = Reading { ignores_cursor: true, ..reading };
        for rows in 0..9 {
            for apart in [0, 1, 10 * SECOND] {
                let times: Vec<i64> = (0..rows).map(|i| i * apart).collect();
                for order_moves in [false, true] {
                    let outcome = explore(&times, &[reading], Limits { order_moves, ..QUIET });
                    let expected = if rows > 0 { (0, 1) } else { (1, 0) };
                    assert_eq!(
                        (outcome.ends, outcome.gave_up),
                        expected,
                        "{rows} rows {apart} apart, {reading:?}"
                    );
                }
            }
        }
    }
}
