//! This module checks all small models: every row that kept existing comes exactly once, whatever
//! moves during the walk and however the server reads what is not documented. Not runs are
//! enumerated but states: what a world, the union and the replies on their way look like. Two ways
//! that lead to one state go on as one, and so do all readings that have answered alike so far.
//!
//! **Two segments** are walked with every order of their replies in the smaller worlds, and by
//! `inserted_at` in the larger ones each by itself: what it asks follows from its own replies alone
//! (no reply reaches the other: this is checked wherever both are walked). So a row that stays must
//! be brought by the segment whose window it lies in, the newer one, cut at any place and moment,
//! or the older one, begun at any, whatever the other does meanwhile. By `updated_at` the newer one
//! ends where it has come into what the older one has read, so both are always walked; some rows
//! show older times there, and a row that moves is brought by the looks after both.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Mutex;
use std::thread;

use foldhash::quality::FixedState;

use super::small_model::{BATCH, Batch, Reading, START, World, frozen, lists, loose_readings, readings};
use super::*;
use crate::error::{Error, Kind};
use crate::schema::keyset::{Order, TimeRange};
use crate::time::SECOND;

const PATIENCE: u32 = 18;
/// Any anchor may be asked for.
const NOW: Micros = Micros(START + 100 * 86_400 * SECOND);

/// What may happen in a world, and how much of it.
#[derive(Clone, Copy, Debug)]
struct Limits {
    order_moves: bool,
    events: usize,
    walked: WalkedSegments,
    /// What the walk takes for a full batch; the server's may be smaller.
    full_batch: usize,
    batch: usize,
    /// Rows beyond a bound that pass it.
    beyond: usize,
    /// Older rows are not wanted.
    low: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum WalkedSegments {
    One,
    Two,
    /// Of two segments the newer one alone, without looks.
    Newer,
    Older,
}

/// A moment of a scan.
#[derive(Clone, Debug)]
struct Moment {
    world: World,
    scan: Rc<Scan>,
    /// A bit for each reading under which all this may have happened.
    readings: u64,
}

#[derive(Clone, Debug)]
struct Scan {
    union: Union,
    /// Replies on their way.
    flight: Vec<(Asker, Option<Batch>)>,
    handed: Vec<u8>,
    /// Where it was cut.
    low: Option<Micros>,
    requests: usize,
    fingerprint: u64,
    trace: Vec<String>,
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

impl Moment {
    fn begin(ages: &[i64], frozen: &[bool], readings: &[Reading], limits: Limits) -> Self {
        let order = if limits.order_moves { Order::UpdatedAt } else { Order::InsertedAt };
        let terms = Terms { full_batch: limits.full_batch, patience: PATIENCE, beyond: limits.beyond };
        let window = TimeRange { low: limits.low.map(Micros), high: None };
        let chain = Chain { window, ..Chain::whole(order) };
        let plan = RequestPlan { chains: vec![chain], ..RequestPlan::default() };
        let mut union = Union::on(terms, Object::Conversations, &plan, limits.order_moves, NOW);
        if matches!(limits.walked, WalkedSegments::Newer | WalkedSegments::Older) {
            union.looks = None;
        }
        let handed = vec![0; ages.len()];
        let mut world = World::new(ages, limits.events);
        world.frozen.copy_from_slice(frozen);
        world.batch = limits.batch;
        Moment {
            world,
            scan: Rc::new(Scan {
                union,
                flight: vec![],
                handed,
                low: None,
                requests: 0,
                fingerprint: 0,
                trace: vec![],
            }),
            readings: (1 << readings.len()) - 1,
        }
    }

    /// What can happen next: a change of the world, a request, a reply, a cut. `Err` is an honest
    /// failure.
    fn next(self, readings: &[Reading], limits: Limits, next: &mut Vec<Result<Moment>>) {
        if self.world.events > 0 {
            for change in self.world.changes(limits.order_moves) {
                let mut moment = self.clone();
                moment.world.change(change);
                if !moment.world.is_as_assumed() {
                    continue;
                }
                Rc::make_mut(&mut moment.scan).trace.push(format!("{change:?}"));
                next.push(Ok(moment));
            }
        }
        let may_be_cut = limits.walked != WalkedSegments::One && self.scan.union.segments_made == 1;
        if may_be_cut {
            for low in self.cuts(limits) {
                let mut moment = self.clone();
                Rc::make_mut(&mut moment.scan).cut(low, limits);
                moment.ask(readings, next);
            }
        }
        // Where nothing changes any more, the order in which two segments go on is the same to
        // both.
        let rests = self.world.events == 0 && !self.world.short_next && !may_be_cut;
        let in_any_order = rests && !self.world.moved_rows_matter(self.readings, readings);
        for which in 1..if in_any_order { 1 } else { self.scan.flight.len() } {
            self.clone().hear(which, readings, next);
        }
        match self.scan.requests {
            0 if limits.walked == WalkedSegments::Older => {}
            0 => self.ask(readings, next),
            _ if self.scan.flight.is_empty() => {}
            _ => self.hear(0, readings, next),
        }
    }

    fn hear(mut self, which: usize, readings: &[Reading], next: &mut Vec<Result<Moment>>) {
        let trace = self.scan.trace.clone();
        match Rc::make_mut(&mut self.scan).hear(which) {
            Ok(()) => self.ask(readings, next),
            Err(error) => next.push(Err(error.also(trace.join("\n")))),
        }
    }

    /// What is idle asks at once: that it asked a little later looks to the world as if the reply
    /// came later. As many moments as there are answers.
    fn ask(mut self, readings: &[Reading], next: &mut Vec<Result<Moment>>) {
        let scan = Rc::make_mut(&mut self.scan);
        // Nothing is cut here by the union itself.
        let ahead = scan.union.segments.iter().any(Segment::is_idle);
        let Some(question) = scan.union.next(ahead) else {
            scan.fingerprint = scan.print();
            return next.push(Ok(self));
        };
        scan.requests += 1;
        let asked = format!("{:?} {:?}", question.asker, question.ask);
        let answers = self.world.answers(question.ask.cursor(), self.readings, readings);
        let mut moments = std::iter::repeat_n(self, answers.len());
        for (answer, readings_left) in answers {
            let Some(mut moment) = moments.next() else { return };
            answer.iter().for_each(|batch| moment.world.served(batch));
            Rc::make_mut(&mut moment.scan).trace.push(format!("{asked} -> {answer:?}"));
            Rc::make_mut(&mut moment.scan).flight.push((question.asker, answer));
            moment.readings = readings_left;
            moment.ask(readings, next);
        }
    }

    /// Every place where a segment could be cut: at each row that it has not handed out, and just
    /// above.
    fn cuts(&self, limits: Limits) -> Vec<Micros> {
        let Some(segment) = self.scan.union.segments.first() else { return vec![] };
        let place = match limits.walked {
            WalkedSegments::Older => Some(Micros(i64::MAX)),
            _ => segment.walk.depth().filter(|_| segment.walk.ended().is_none()),
        };
        let rows = self.world.visible().into_iter().flat_map(|(_, at)| [at, at + 1]);
        let mut cuts: Vec<_> =
            rows.map(Micros).filter(|at| place.is_some_and(|place| *at <= place)).collect();
        cuts.dedup();
        cuts
    }

    /// All that decides how it goes on, under whatever reading. Of ten million moments two are
    /// taken for one with a probability of 10⁻⁵.
    fn fingerprint(&self) -> u64 {
        let in_flight = |row| {
            self.scan.flight.iter().flat_map(|(_, rows)| rows.iter().flatten()).any(|(id, _)| *id == row)
        };
        // Whether a row came that is gone for good makes no difference any more.
        let handed = self.scan.handed.iter().enumerate().map(|(row, handed)| match self.world.rows[row] {
            None if !in_flight(row) => 0,
            _ => u64::from(*handed),
        });
        let handed = handed.fold(0, |all, handed| all << 2 | handed);
        FixedState::default().hash_one((&self.world, handed, self.scan.fingerprint))
    }

    fn check(&self, ages: &[i64], limits: Limits, told: impl Fn() -> String) {
        for (id, at) in self.world.rows.iter().enumerate() {
            let handed = self.scan.handed.get(id).copied().unwrap_or_default();
            let stayed = ages.get(id).is_some_and(|age| *at == Some(START - age));
            let is_older = at.is_some_and(|at| self.scan.low.is_some_and(|low| Micros(at) < low));
            let right = match limits.walked {
                WalkedSegments::Newer | WalkedSegments::Older if stayed => {
                    handed == u8::from(is_older == (limits.walked == WalkedSegments::Older))
                }
                WalkedSegments::Newer | WalkedSegments::Older => handed <= 1,
                WalkedSegments::One | WalkedSegments::Two => {
                    let shown = at.map(|at| self.world.shown(id, at));
                    let is_wanted = shown.is_some_and(|shown| limits.low.is_none_or(|low| shown >= low));
                    handed == u8::from(is_wanted)
                        || (handed == 0 && id >= ages.len())
                        || (handed <= 1 && at.is_none())
                        // It was wanted in another version, or is now.
                        || (handed <= 1 && !stayed)
                }
            };
            assert!(right, "row {id} came {handed} times: {}", told());
        }
    }
}

impl Scan {
    fn cut(&mut self, low: Micros, limits: Limits) {
        self.union.divide(0, low);
        self.low = Some(low);
        match limits.walked {
            WalkedSegments::Newer => drop(self.union.segments.remove(1)),
            WalkedSegments::Older => drop(self.union.segments.remove(0)),
            WalkedSegments::One | WalkedSegments::Two => {}
        }
    }

    fn hear(&mut self, which: usize) -> Result<()> {
        let (asker, answer) = self.flight.remove(which);
        let (others, before) = (self.print_of_others(asker), (self.union.folded, self.lists_ended()));
        match answer {
            None if self.union.lost(asker, false) => {}
            // What the request was refused with ends the scan.
            None => return Err(Error::new(Kind::ServerFault, "refused")),
            Some(rows) => {
                let _ = &self.trace;
                let spot = |(id, at): &(usize, i64)| RowKey::new(id.to_string(), Micros(*at));
                let spots: Vec<_> = rows.iter().map(spot).collect();
                for i in self.union.reply(asker, &spots, None, NOW)? {
                    let id = rows[i].0;
                    self.handed.resize(self.handed.len().max(id + 1), 0);
                    self.handed[id] += 1;
                }
            }
        }
        // But for one that takes back what it had left to a segment without a beginning, or ends
        // where it has come into the older one, or with the newer one at the end of the list.
        let is_met = self.union.chains.iter().any(|chain| chain.order == Order::UpdatedAt);
        let has_changed = before != (self.union.folded, self.lists_ended());
        let is_alone = is_met || has_changed || others == self.print_of_others(asker);
        assert!(is_alone, "a reply reached a segment that had not asked");
        self.union.ready().map(drop)
    }

    fn lists_ended(&self) -> usize {
        let has_ended = |segment: &&Segment| segment.walk.ended() == Some(End::ListEnded);
        self.union.segments.iter().filter(has_ended).count()
    }

    fn print_of_others(&self, asker: Asker) -> u64 {
        let mut state = FixedState::default().build_hasher();
        let others = self.union.segments.iter().filter(|segment| Asker::Segment(segment.number) != asker);
        others.for_each(|segment| segment.print(&mut state));
        state.finish()
    }

    fn print(&self) -> u64 {
        let Scan { union, flight, handed: _, low: _, requests: _, fingerprint: _, trace: _ } = self;
        let mut state = FixedState::default().build_hasher();
        flight.hash(&mut state);
        // Which ids came is known by what was handed out. Where to cut is not decided by the union
        // here.
        (&union.looks, union.look_is_asked, &union.begun, union.segments_made).hash(&mut state);
        union.segments.iter().for_each(|segment| segment.print(&mut state));
        state.finish()
    }
}

impl Segment {
    fn print(&self, state: &mut impl Hasher) {
        let Pager::Cursor(walk) = &self.walk else { panic!("{self:?}") };
        (self.number, self.busy, walk).hash(state);
    }
}

/// Explores everything that can become of a world. A wrong answer panics, and so does giving up
/// where neither a batch of ties under a strict cursor nor an ignored cursor is to blame.
fn explore(ages: &[i64], readings: &[Reading], limits: Limits) -> Outcome {
    explore_frozen(ages, &vec![false; ages.len()], readings, limits)
}

fn explore_frozen(ages: &[i64], frozen: &[bool], readings: &[Reading], limits: Limits) -> Outcome {
    let mut outcome = Outcome::default();
    // The readings under which each state has been seen.
    let mut known: HashMap<u64, u64, _> = HashMap::with_hasher(FixedState::default());
    let mut open = vec![Moment::begin(ages, frozen, readings, limits)];
    let mut next = vec![];
    let ties_fill_a_batch = ages.windows(BATCH).any(|rows| rows[0] == rows[BATCH - 1]);
    while let Some(moment) = open.pop() {
        let possible = moment.readings;
        let all = || (0..readings.len()).filter(|i| possible & (1 << i) != 0).map(|i| &readings[i]);
        let told = || format!("{ages:?} {limits:?} {moment:?} {:?}", all().collect::<Vec<_>>());
        assert!(moment.scan.requests < 400, "no end: {}", told());
        if moment.scan.union.is_over() {
            outcome.ends += 1;
            outcome.most_requests = outcome.most_requests.max(moment.scan.requests);
            moment.check(ages, limits, told);
            continue;
        }
        moment.next(readings, limits, &mut next);
        for next in next.drain(..) {
            match next {
                Ok(mut next) => {
                    let seen = known.entry(next.fingerprint()).or_default();
                    next.readings &= !*seen;
                    *seen |= next.readings;
                    open.extend((next.readings != 0).then_some(next));
                }
                Err(error) => {
                    let may = |r: &Reading| r.ignores_cursor || (r.strict_cursor && ties_fill_a_batch);
                    assert!(all().all(may), "gave up: {error:?} {ages:?} {limits:?}");
                    outcome.gave_up += 1;
                }
            }
        }
    }
    outcome.states = known.len();
    outcome
}

/// Every list of so many rows, or every `stride`th, under all readings, in both orders where that
/// is possible.
fn explore_all(walked: WalkedSegments, rows: usize, events: usize, stride: usize) {
    let of_order = |order_moves| lists(rows).into_iter().step_by(stride).map(move |list| (list, order_moves));
    let are_alone = matches!(walked, WalkedSegments::Newer | WalkedSegments::Older);
    let orders = [false, true].into_iter().filter(|order_moves| !(are_alone && *order_moves));
    let left = Mutex::new(orders.flat_map(of_order).collect::<Vec<_>>());
    let done = Mutex::new(Outcome::default());
    let readings = readings();
    let work = || {
        let next = || left.lock().unwrap().pop();
        while let Some((list, order_moves)) = next() {
            let limits = Limits { order_moves, events, walked, ..QUIET };
            let outcome = explore(&list, &readings, limits);
            let mut done = done.lock().unwrap();
            *done = std::mem::take(&mut *done).and(outcome);
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    println!("{walked:?}, {rows} rows, {events} events: {:?}", done.lock().unwrap());
}

#[test]
fn exactly_once_whatever_happens() {
    for (rows, events) in [(0, 3), (1, 3), (2, 3), (3, 2), (4, 1)] {
        explore_all(WalkedSegments::One, rows, events, 1);
    }
    explore_all(WalkedSegments::One, 3, 3, 2);
    explore_all(WalkedSegments::One, 4, 2, 3);
    explore_all(WalkedSegments::One, 6, 1, 31);
}

#[test]
fn exactly_once_in_two_segments_whatever_happens() {
    for (rows, events) in [(0, 3), (1, 2), (2, 1), (3, 1)] {
        explore_all(WalkedSegments::Two, rows, events, 1);
    }
    explore_all(WalkedSegments::Two, 2, 2, 3);
}

#[test]
fn exactly_once_in_each_of_two_segments_whatever_happens() {
    for part in [WalkedSegments::Newer, WalkedSegments::Older] {
        for (rows, events) in [(1, 3), (2, 3), (3, 2), (4, 1)] {
            explore_all(part, rows, events, 1);
        }
        explore_all(part, 6, 1, 31);
    }
}

/// All worlds of up to 6 rows with up to 3 events: four hundred million states, and then eight
/// hundred for each part. `cargo test --release -p pancake -- --ignored --nocapture everything`
#[test]
#[ignore = "takes a quarter of an hour"]
fn everything_in_one_segment() {
    (0..=6).for_each(|rows| explore_all(WalkedSegments::One, rows, 3, 1));
}

#[test]
#[ignore = "takes an hour"]
fn everything_in_each_of_two_segments() {
    for part in [WalkedSegments::Newer, WalkedSegments::Older] {
        (0..=6).for_each(|rows| explore_all(part, rows, 3, 1));
    }
}

/// With a cut at every place and at any moment, and every order of the replies. Each row more takes
/// about ten times as long, and each event more about forty times.
#[test]
#[ignore = "takes a quarter of an hour"]
fn everything_in_two_segments() {
    for (rows, events) in [(2, 3), (4, 2), (6, 1), (3, 3), (5, 2)] {
        explore_all(WalkedSegments::Two, rows, events, 1);
    }
}

const QUIET: Limits = Limits {
    order_moves: false,
    events: 0,
    walked: WalkedSegments::One,
    full_batch: BATCH,
    batch: BATCH,
    beyond: 1,
    low: None,
};

/// A page whose rows show older times here and there, that refuses windows or answers them with
/// nothing, read down to every bound.
fn explore_loose(walked: WalkedSegments, rows: usize, events: usize, batch: usize, stride: usize) {
    let readings = loose_readings();
    let mut done = Outcome::default();
    for list in lists(rows).into_iter().step_by(stride) {
        for frozen in frozen(rows) {
            let edges =
                list.iter().flat_map(|age| [START - age, START - age + 1, START - age - 150 * SECOND]);
            for low in edges.map(Some).chain([None]) {
                let full_batch = batch;
                let limits = Limits { order_moves: true, events, walked, batch, full_batch, beyond: 2, low };
                done = done.and(explore_frozen(&list, &frozen, &readings, limits));
            }
        }
    }
    println!("loose, {walked:?}, {rows} rows, {events} events: {done:?}");
}

#[test]
fn exactly_once_on_a_loose_page() {
    for (rows, events, batch, stride) in
        [(1, 2, 3, 1), (2, 2, 3, 1), (3, 1, 3, 1), (4, 1, 4, 1), (5, 0, 4, 1), (5, 1, 4, 7), (6, 0, 4, 1)]
    {
        explore_loose(WalkedSegments::One, rows, events, batch, stride);
    }
}

#[test]
fn exactly_once_in_two_segments_of_a_loose_page() {
    for (rows, events, batch, stride) in
        [(2, 1, 3, 1), (3, 1, 3, 3), (4, 0, 3, 1), (6, 0, 3, 9), (6, 0, 4, 9)]
    {
        explore_loose(WalkedSegments::Two, rows, events, batch, stride);
    }
}

/// The newer of two segments has seen rows of the older one before that one finds no row to begin
/// from.
#[test]
fn exactly_once_in_two_segments_of_a_page_that_takes_no_windows() {
    let readings = loose_readings();
    for (rows, events, stride) in [(2, 2, 1), (3, 2, 1), (4, 1, 1), (5, 0, 1), (5, 1, 11), (6, 0, 7)] {
        for list in lists(rows).into_iter().step_by(stride) {
            let limits =
                Limits { events, walked: WalkedSegments::Two, full_batch: 4, batch: 4, beyond: 2, ..QUIET };
            assert_eq!(explore(&list, &readings, limits).gave_up, 0);
        }
    }
}

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

/// Every reply to a cursor is the first batch again: the walk gives up rather than ask for ever or
/// leave rows out.
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
