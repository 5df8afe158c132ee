//! Small worlds, all of them: every row that kept existing comes exactly once, whatever moves during the walk and
//! however the server reads what nobody has documented. Not runs are enumerated but states: what a world, the union
//! and the replies on their way look like. Two ways that lead to one state go on as one.

use std::fmt::Write;
use std::hash::{BuildHasher, Hasher};

use super::*;
use crate::plan::{Order, Window};
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
    /// What the walk takes for a full batch; the server's may be smaller.
    full_batch: usize,
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
}

#[derive(Clone, Debug)]
struct World {
    rows: Vec<Option<i64>>,
    served: Vec<i64>,
    short_next: bool,
    clock: i64,
}

impl World {
    fn visible(&self) -> Vec<(usize, i64)> {
        let mut rows: Vec<_> =
            self.rows.iter().enumerate().filter_map(|(id, at)| at.map(|at| (id, at))).collect();
        rows.sort_by_key(|(id, at)| (-at, *id));
        rows
    }

    fn change(&mut self, change: Change) {
        self.clock += 10 * SECOND;
        let now = self.clock;
        match change {
            Change::Message(row) => self.rows[row] = self.rows[row].map(|at| at.max(now)),
            Change::LateMessage(row) => {
                self.rows[row] = self.rows[row].map(|at| at.max(now - 30 * SECOND));
            }
            Change::Delete(row) => self.rows[row] = None,
            Change::Create => {
                self.rows.push(Some(now));
                self.served.push(0);
            }
            Change::Short => self.short_next = true,
        }
    }

    fn answer(&mut self, ask: &walk::Ask, reading: Reading) -> Option<Vec<Spot>> {
        let unit = if reading.whole_seconds { SECOND } else { 1 };
        let until = ask.until.map_or(i64::MAX, |until| until.0 * SECOND / unit);
        let below = |at: i64| at / unit < until || (reading.until_inclusive && at / unit == until);
        let mut rows = self.visible();
        rows.retain(|(_, at)| ask.since.is_none_or(|since| *at >= since.0 * SECOND) && below(*at));
        if let Some(cursor) = ask.cursor.as_ref().filter(|_| !reading.ignores_cursor) {
            let id: usize = cursor.parse().ok()?;
            let moved = self.rows[id].is_some_and(|at| at != self.served[id]);
            match self.rows[id].filter(|_| !moved || reading.follows_moved) {
                Some(at) if reading.strict_cursor => rows.retain(|row| row.1 < at),
                Some(at) => rows.retain(|row| (-row.1, row.0) > (-at, id)),
                None => match reading.lost {
                    Lost::FirstBatch => {}
                    Lost::Empty => rows.clear(),
                    Lost::Failure => return None,
                },
            }
        }
        rows.truncate(if std::mem::take(&mut self.short_next) { 1 } else { BATCH });
        for (id, at) in &rows {
            self.served[*id] = *at;
        }
        Some(rows.into_iter().map(|(id, at)| Spot { id: id.to_string(), at: Micros(at) }).collect())
    }
}

/// A moment of a scan.
#[derive(Clone, Debug)]
struct Moment {
    world: World,
    union: Union,
    /// Replies on their way.
    flight: Vec<(Asker, Option<Vec<Spot>>)>,
    handed: Vec<u8>,
    events: usize,
    was_short: bool,
    requests: usize,
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

fn begin(times: &[i64], reading: Reading, limits: Limits) -> Moment {
    let order = if limits.order_moves { Order::UpdatedAt } else { Order::InsertedAt };
    let chain = Chain::whole(order);
    let terms = Terms { full_batch: reading.full_batch, patience: PATIENCE };
    let plan = RequestPlan { chains: vec![chain], ..RequestPlan::default() };
    Moment {
        world: World {
            rows: times.iter().map(|before| Some(START - before)).collect(),
            served: vec![0; times.len()],
            short_next: false,
            clock: START,
        },
        union: Union::on(terms, Object::Conversations, &plan, limits.order_moves),
        flight: vec![],
        handed: vec![0; times.len()],
        events: limits.events,
        was_short: false,
        requests: 0,
    }
}

impl Moment {
    fn ask(&mut self, question: &Question, reading: Reading) {
        let answer = self.world.answer(question.ask.cursor(), reading);
        self.flight.push((question.asker, answer));
        self.requests += 1;
    }

    fn hear(&mut self, which: usize) -> Result<()> {
        let (asker, answer) = self.flight.remove(which);
        match answer {
            None => assert!(self.union.lost(asker)?),
            Some(rows) => {
                for i in self.union.reply(asker, &rows, None)? {
                    let id: usize = rows[i].id.parse().unwrap();
                    self.handed.resize(self.handed.len().max(id + 1), 0);
                    self.handed[id] += 1;
                }
            }
        }
        self.union.ready().map(drop)
    }

    /// What can happen next: a change of the world, a request, a reply, a cut. `Err` is an honest failure.
    fn next(&self, reading: Reading, limits: Limits) -> Vec<Result<Moment>> {
        let mut next = vec![];
        if self.events > 0 {
            let of_row = |row| match limits.order_moves {
                true => vec![Change::Message(row), Change::LateMessage(row), Change::Delete(row)],
                false => vec![Change::Delete(row)],
            };
            let live = (0..self.world.rows.len()).filter(|row| self.world.rows[*row].is_some());
            let short = (!self.was_short).then_some(Change::Short);
            for change in live.flat_map(of_row).chain([Change::Create]).chain(short) {
                let mut moment = Moment { events: self.events - 1, ..self.clone() };
                moment.was_short |= change == Change::Short;
                moment.world.change(change);
                next.push(Ok(moment));
            }
        }
        // What is idle asks at once: that it asked a little later looks to the world as if the reply came later.
        let ask = |mut moment: Moment| {
            loop {
                // Nothing is cut here by the union itself.
                let ahead = moment.union.segments.iter().any(Segment::is_idle);
                let Some(question) = moment.union.next(ahead) else { return moment };
                moment.ask(&question, reading);
            }
        };
        if self.requests == 0 {
            next.push(Ok(ask(self.clone())));
        }
        for which in 0..self.flight.len() {
            let mut moment = self.clone();
            next.push(moment.hear(which).map(|()| ask(moment)));
        }
        if self.union.segments_made < limits.segments {
            for low in self.cuts() {
                let mut moment = self.clone();
                moment.union.divide(0, low);
                next.push(Ok(ask(moment)));
            }
        }
        next
    }

    /// Every place where the first segment could be cut: at each row that it has not handed out, and just above.
    fn cuts(&self) -> Vec<Micros> {
        let Some(segment) = self.union.segments.first() else { return vec![] };
        let Some(place) = segment.walk.depth().filter(|_| segment.walk.ended().is_none()) else {
            return vec![];
        };
        let rows = self.world.visible().into_iter().flat_map(|(_, at)| [at, at + 1]);
        rows.map(Micros).filter(|at| *at <= place).collect()
    }

    fn fingerprint(&self) -> u128 {
        struct Sponge([foldhash::quality::FoldHasher<'static>; 2]);
        impl Write for Sponge {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                self.0.iter_mut().for_each(|hasher| hasher.write(text.as_bytes()));
                Ok(())
            }
        }
        let seeds =
            [foldhash::quality::FixedState::with_seed(1), foldhash::quality::FixedState::with_seed(2)];
        let mut sponge = Sponge(seeds.map(|seed| seed.build_hasher()));
        let Moment { world, union, flight, handed, events, was_short, requests: _ } = self;
        write!(sponge, "{world:?}{union:?}{flight:?}{handed:?}{events}{was_short}").unwrap();
        let [high, low] = sponge.0.map(|hasher| u128::from(hasher.finish()));
        high << 64 | low
    }

    fn check(&self, rows: usize, context: &dyn std::fmt::Debug) {
        for (id, at) in self.world.rows.iter().enumerate() {
            let handed = self.handed.get(id).copied().unwrap_or_default();
            let lived_throughout = id < rows && at.is_some();
            assert!(
                handed == 1 || (handed == 0 && !lived_throughout),
                "row {id} came {handed} times: {context:?} {self:?}"
            );
        }
    }
}

/// Explores everything that can become of a world. A wrong answer panics, and so does giving up where neither a batch
/// of ties under a strict cursor nor an ignored cursor is to blame.
fn explore(times: &[i64], reading: Reading, limits: Limits) -> Outcome {
    let mut outcome = Outcome::default();
    let mut known = std::collections::HashSet::new();
    let mut open = vec![begin(times, reading, limits)];
    while let Some(moment) = open.pop() {
        assert!(moment.requests < 400, "no end: {times:?} {reading:?} {limits:?} {moment:?}");
        if moment.union.is_over() {
            outcome.ends += 1;
            outcome.most_requests = outcome.most_requests.max(moment.requests);
            moment.check(times.len(), &(times, reading, limits));
            continue;
        }
        for next in moment.next(reading, limits) {
            match next {
                Ok(next) if known.insert(next.fingerprint()) => open.push(next),
                Ok(_) => {}
                Err(error) => {
                    let ties_fill_a_batch = times.windows(BATCH).any(|rows| rows[0] == rows[BATCH - 1]);
                    assert!(
                        reading.ignores_cursor || (reading.strict_cursor && ties_fill_a_batch),
                        "gave up: {error:?} {times:?} {reading:?} {moment:?}"
                    );
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
                full_batch: BATCH,
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

/// Every list of so many rows under every reading; of these every `stride`th.
fn explore_all(rows: usize, events: usize, segments: usize, stride: usize) -> Outcome {
    let mut outcome = Outcome::default();
    for order_moves in [false, true] {
        let limits = Limits { order_moves, events, segments };
        let of_list = |list: Vec<i64>| readings().into_iter().map(move |reading| (list.clone(), reading));
        for (list, reading) in lists(rows).into_iter().flat_map(of_list).step_by(stride) {
            outcome = outcome.and(explore(&list, reading, limits));
        }
    }
    println!("{rows} rows, {events} events, {segments} segments: {outcome:?}");
    outcome
}

#[test]
fn exactly_once_whatever_happens() {
    for rows in 0..=2 {
        explore_all(rows, 2, 1, 1);
    }
    explore_all(3, 2, 1, 11);
    explore_all(4, 2, 1, 101);
    explore_all(6, 1, 1, 401);
}

#[test]
fn exactly_once_in_two_segments_whatever_happens() {
    for rows in 0..=2 {
        explore_all(rows, 1, 2, 5);
    }
    explore_all(3, 1, 2, 211);
    explore_all(4, 0, 2, 101);
}

/// Larger worlds take hours: `cargo test --release -p pancake -- --ignored --nocapture everything`.
#[test]
#[ignore = "takes hours"]
fn everything_in_one_segment() {
    for (rows, events) in [(3, 3), (4, 2), (6, 1), (5, 2), (4, 3)] {
        explore_all(rows, events, 1, 1);
    }
}

#[test]
#[ignore = "takes hours"]
fn everything_in_two_segments() {
    for (rows, events) in [(3, 1), (2, 2), (4, 0), (4, 1), (3, 2)] {
        explore_all(rows, events, 2, 1);
    }
}

const QUIET: Limits = Limits { order_moves: false, events: 0, segments: 1 };

#[test]
fn exactly_once_where_the_server_gives_less_than_a_full_batch() {
    for reading in readings().into_iter().filter(|reading| !reading.strict_cursor) {
        let reading = Reading { full_batch: BATCH + 1, ..reading };
        for times in (0..4).flat_map(lists) {
            for order_moves in [true, false] {
                assert_eq!(explore(&times, reading, Limits { order_moves, events: 1, ..QUIET }).gave_up, 0);
            }
        }
    }
}

#[test]
fn a_quiet_list_costs_a_row_in_a_batch_and_three_requests() {
    let times: Vec<i64> = (0..59).map(|i| i * 10 * SECOND).collect();
    assert!(explore(&times, readings()[0], QUIET).most_requests <= 59 + 3);
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
                    let outcome = explore(&times, reading, Limits { order_moves, ..QUIET });
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

fn plan(chains: usize, ordered: bool, ids: Option<&[&str]>) -> RequestPlan {
    let window = Window::default();
    let chain = Chain { window, ..Chain::whole(Order::InsertedAt) };
    let ids = ids.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
    RequestPlan { chains: vec![chain; chains], ids, ordered, ..RequestPlan::default() }
}

/// Serves each chain its rows, then the end; tells what came out.
fn run(plan: &RequestPlan, lists: &[&[(&str, i64)]]) -> Vec<String> {
    let mut union = Union::on(Terms { full_batch: 2, patience: 3 }, Object::Conversations, plan, false);
    let mut out = vec![];
    while let Some(question) = union.next(false) {
        let Asker::Segment(chain) = question.asker else { panic!("a look") };
        let from = question
            .ask
            .cursor()
            .cursor
            .as_ref()
            .map(|cursor| lists[chain].iter().position(|(id, _)| id == cursor).unwrap() + 1);
        let rows = lists[chain].iter().skip(from.unwrap_or_default()).take(2);
        let spots: Vec<_> = rows.map(|(id, at)| Spot { id: (*id).into(), at: Micros(at * SECOND) }).collect();
        let fresh = union.reply(question.asker, &spots, None).unwrap();
        let row = |i: usize| Row { id: spots[i].id.clone(), at: spots[i].at, cells: Default::default() };
        union.feed(question.asker, fresh.into_iter().map(row).collect());
        out.extend(union.ready().unwrap().into_iter().map(|row| row.id));
    }
    assert!(union.is_over());
    out
}

#[test]
fn ordered_chains_come_newest_first() {
    let lists: &[&[(&str, i64)]] = &[&[("a", 9), ("b", 5), ("c", 1)], &[("d", 7), ("e", 3), ("f", 2)]];
    assert_eq!(run(&plan(2, true, None), lists), ["a", "d", "b", "e", "f", "c"]);
}

#[test]
fn a_row_of_several_chains_comes_once() {
    let lists: &[&[(&str, i64)]] = &[&[("a", 9), ("b", 5)], &[("a", 9), ("c", 4)]];
    for ordered in [true, false] {
        let mut rows = run(&plan(2, ordered, None), lists);
        rows.sort();
        assert_eq!(rows, ["a", "b", "c"]);
    }
}

#[test]
fn the_stream_is_over_when_all_ids_have_come() {
    let lists: &[&[(&str, i64)]] = &[&[("a", 9), ("b", 5), ("c", 1)]];
    assert_eq!(run(&plan(1, false, Some(&["b", "a"])), lists), ["a", "b"]);
}

fn batch(rows: &[(&str, i64)]) -> Vec<Spot> {
    rows.iter().map(|(id, at)| Spot { id: (*id).into(), at: Micros(at * SECOND) }).collect()
}

/// Only a walk by a cursor can be cut, but as many conversations are on their way as there is room for.
#[test]
fn conversations_are_walked_at_once_and_each_by_one_request_after_the_other() {
    let of = |id: &str| Chain { conversation_id: Some(id.into()), ..Chain::whole(Order::InsertedAt) };
    let chains = vec![of("a"), of("b")];
    for ordered in [true, false] {
        let plan = RequestPlan { chains: chains.clone(), ordered, ..RequestPlan::default() };
        let mut union = Union::new(Object::Messages, &plan, false);
        let asked = [union.next(true).unwrap(), union.next(true).unwrap()];
        assert!(union.next(true).is_none());
        assert_eq!(asked.each_ref().map(|question| &question.chain), [&chains[0], &chains[1]]);
        // The same id in two conversations is two messages.
        for question in &asked {
            let rows = batch(&[("1", 1), ("2", 2), ("3", 3)]);
            assert_eq!(union.reply(question.asker, &rows, None).unwrap(), [2, 1, 0]);
            assert_eq!(question.ask, Ask::Skip(0));
        }
        assert_eq!(union.next(true).unwrap().ask, Ask::Skip(2));
        assert_eq!(union.next(true).unwrap().ask, Ask::Skip(2));
        assert!(union.next(true).is_none());
    }
}

/// A list in numbered batches looks after what moves by itself.
#[test]
fn looks_belong_to_a_cursor() {
    let plan = RequestPlan { chains: vec![Chain::whole(Order::UpdatedAt)], ..RequestPlan::default() };
    let mut union = Union::new(Object::Customers, &plan, true);
    let question = union.next(true).unwrap();
    assert_eq!(union.reply(question.asker, &batch(&[("a", 9), ("b", 5)]), Some(2)).unwrap(), [0, 1]);
    assert_eq!(union.total(), Some(2));
    assert!(union.next(true).is_none() && union.is_over());
    assert_eq!(union.end(), Some(End::ListEnded));
}
