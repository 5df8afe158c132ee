//! This module tests what the union does with the replies to its chains: order, repeats, ids, and
//! lists without a cursor.

use std::cmp::Reverse;

use super::*;
use crate::error::{Error, Kind};
use crate::paging::cursor::FULL_BATCH;
use crate::reply::decode::Row;
use crate::schema::keyset::{Order, TimeRange};
use crate::time::SECOND;

/// Long after all rows of these tests.
const NOW: Micros = Micros(100_000_000 * SECOND);

fn plan(chains: usize, ordered: bool, ids: Option<&[&str]>) -> RequestPlan {
    let window = TimeRange::default();
    let chain = Chain { window, ..Chain::whole(Order::InsertedAt) };
    let ids = ids.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
    RequestPlan { chains: vec![chain; chains], ids, ordered, ..RequestPlan::default() }
}

/// Serves each chain its rows, then the end; returns what came out.
fn run(plan: &RequestPlan, lists: &[&[(&str, i64)]]) -> Vec<String> {
    let mut union =
        Union::on(Terms { full_batch: 2, patience: 3, beyond: 1 }, Object::Conversations, plan, false, NOW);
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
        let spots: Vec<_> = rows.map(|(id, at)| RowKey::new(*id, Micros(at * SECOND))).collect();
        let fresh = union.reply(question.asker, &spots, None, NOW).unwrap();
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

/// A request of a part that was replaced, or that another part has ended, is no failure of the
/// scan.
#[test]
fn a_failure_is_one_only_where_the_reply_is_needed() {
    let mut union = Union::new(Object::Conversations, &plan(1, false, None), true, NOW);
    let Question { asker, .. } = union.next(false).unwrap();
    assert!(!union.does_without(asker));
    assert!(union.does_without(Asker::Segment(7)));
    assert!(!union.does_without(Asker::Look));
    assert!(union.reply(asker, &[], None, NOW).unwrap().is_empty());
    assert!(union.does_without(asker) && union.does_without(Asker::Look));
    assert!(union.is_over());
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

fn batch(rows: &[(&str, i64)]) -> Vec<RowKey> {
    rows.iter().map(|(id, at)| RowKey::new(*id, Micros(at * SECOND))).collect()
}

/// Only a walk by a cursor can be cut, but as many conversations are on their way as there is room
/// for.
#[test]
fn conversations_are_walked_at_once_and_each_by_one_request_after_the_other() {
    let of = |id: &str| Chain { conversation_id: Some(id.into()), ..Chain::whole(Order::InsertedAt) };
    let chains = vec![of("a"), of("b")];
    for ordered in [true, false] {
        let plan = RequestPlan { chains: chains.clone(), ordered, ..RequestPlan::default() };
        let mut union = Union::new(Object::Messages, &plan, false, NOW);
        let asked = [union.next(true).unwrap(), union.next(true).unwrap()];
        assert!(union.next(true).is_none());
        assert_eq!(asked.each_ref().map(|question| &question.chain), [&chains[0], &chains[1]]);
        // The same id in two conversations is two messages.
        for question in &asked {
            let rows = batch(&[("1", 1), ("2", 2), ("3", 3)]);
            assert_eq!(union.reply(question.asker, &rows, None, NOW).unwrap(), [2, 1, 0]);
            assert_eq!(question.ask, BatchParams::Skip(0));
        }
        assert_eq!(union.next(true).unwrap().ask, BatchParams::Skip(2));
        assert_eq!(union.next(true).unwrap().ask, BatchParams::Skip(2));
        assert!(union.next(true).is_none());
    }
}

/// The last chain is had in one reply, but a row moved while the first one was walked.
#[test]
fn what_moves_while_a_long_chain_is_walked_is_found_if_the_last_one_is_small() {
    let of = |tag: &str| Chain { tags: vec![tag.into()], ..Chain::whole(Order::UpdatedAt) };
    let plan = RequestPlan { chains: vec![of("61"), of("62")], ..RequestPlan::default() };
    let mut lists = [150, 3].map(|rows| (0..rows).map(|row| (row, 1_000_000 - row)).collect::<Vec<_>>());
    lists[1].iter_mut().for_each(|(id, _)| *id += 1_000);
    let mut union = Union::new(Object::Conversations, &plan, true, NOW);
    let mut came = std::collections::BTreeSet::new();
    let mut replies = 0;
    while let Some(Question { asker, ask, chain }) = union.next(false) {
        let mut list: Vec<_> = match chain.tags.first().map(String::as_str) {
            Some("61") => lists[0].clone(),
            Some(_) => lists[1].clone(),
            None => lists.concat(),
        };
        list.sort_by_key(|(_, at)| Reverse(*at));
        let place = |id: &String| list.iter().position(|(row, _)| row.to_string() == *id).unwrap() + 1;
        let from = ask.cursor().cursor.as_ref().map_or(0, place);
        let rows = list.iter().skip(from).take(FULL_BATCH);
        let rows: Vec<_> = rows.map(|(id, at)| RowKey::new(id.to_string(), Micros(at * SECOND))).collect();
        let fresh = union.reply(asker, &rows, None, NOW).unwrap();
        came.extend(fresh.into_iter().map(|i| rows[i].id.clone()));
        replies += 1;
        if replies == 1 {
            lists[0][140].1 = 2_000_000;
        }
    }
    assert!(union.is_over());
    assert_eq!(came.len(), 153, "{came:?}");
}

/// What comes too late for its place is an error, although another chain began with older rows.
#[test]
fn a_late_row_of_one_chain_is_no_new_row_of_another() {
    let window = TimeRange { low: None, high: Some(Micros(10_900_000 * SECOND)) };
    let of = |tag: &str| Chain { tags: vec![tag.into()], window, ..Chain::whole(Order::UpdatedAt) };
    let plan = RequestPlan { chains: vec![of("61"), of("62")], ordered: true, ..RequestPlan::default() };
    // Above the bound stands a row that shows an older time; another one shows that the page is out
    // of order, a batch below the bound. All rows of the other chain are older.
    let mut list: Vec<_> = (0..2_000).map(|row| (row, 11_000_000 - 100 * row)).collect();
    (list[10].1, list[1_200].1) = (10_898_950, 10_870_000);
    let old = [(5_000, 500_000), (5_001, 499_000)];
    let mut union = Union::new(Object::Conversations, &plan, false, NOW);
    let error = loop {
        let Some(Question { asker, ask, chain }) = union.next(false) else { panic!("no error") };
        let list = if chain.tags == ["61"] { &list[..] } else { &old };
        let ask = ask.cursor();
        let place = |id: &String| list.iter().position(|(row, _)| row.to_string() == *id).unwrap() + 1;
        let from = ask.cursor.as_ref().map_or(0, place);
        let until = ask.until.map_or(i64::MAX, |until| until.0);
        let since = ask.since.map_or(0, |since| since.0);
        // Windows act on the real times.
        let real = |(id, at): &(i64, i64)| if *id < 2_000 { 11_000_000 - 100 * id } else { *at };
        let rows = list.iter().skip(from).filter(|row| (since..=until).contains(&real(row))).take(FULL_BATCH);
        let rows: Vec<_> = rows.map(|(id, at)| RowKey::new(id.to_string(), Micros(at * SECOND))).collect();
        let fresh = union.reply(asker, &rows, None, NOW).unwrap();
        let row = |i: usize| Row { id: rows[i].id.clone(), at: rows[i].at, cells: Default::default() };
        union.feed(asker, fresh.into_iter().map(row).collect());
        if let Err(error) = union.ready() {
            break error;
        }
    };
    assert!(format!("{error:?}").contains("came too late"), "{error:?}");
}

/// A list in numbered batches looks after what moves by itself.
#[test]
fn looks_belong_to_a_cursor() {
    let plan = RequestPlan { chains: vec![Chain::whole(Order::UpdatedAt)], ..RequestPlan::default() };
    let mut union = Union::new(Object::Customers, &plan, true, NOW);
    let question = union.next(true).unwrap();
    assert_eq!(union.reply(question.asker, &batch(&[("a", 9), ("b", 5)]), Some(2), NOW).unwrap(), [0, 1]);
    assert_eq!(union.total(), Some(2));
    assert!(union.next(true).is_none() && union.is_over());
    assert_eq!(union.end(), Some(End::ListEnded));
}

/// How many round trips bring so many of 12,000 rows, newest first, if eight requests may be on
/// their way; and how many requests that takes.
fn round_trips(limit: u64) -> (usize, usize) {
    let list: Vec<i64> = (0..12_000).map(|row| 1_000_000 - 10 * row - row % 7).collect();
    let answer = |ask: &crate::paging::cursor::CursorParams| {
        let from = ask.cursor.as_ref().map_or(0, |cursor| cursor.parse::<usize>().unwrap() + 1);
        let until = ask.until.map_or(i64::MAX, |until| until.0);
        let rows = (0..list.len()).skip(from).filter(|row| list[*row] <= until).take(FULL_BATCH);
        let rows: Vec<_> = rows.map(|row| (row.to_string(), list[row])).collect();
        batch(&rows.iter().map(|(id, at)| (id.as_str(), *at)).collect::<Vec<_>>())
    };
    let plan = RequestPlan { limit: Some(limit), ..plan(1, true, None) };
    let mut union = Union::new(Object::Conversations, &plan, false, NOW);
    let (mut trips, mut requests, mut came) = (0, 0, 0);
    while came < limit as usize {
        let most = if trips == 0 { 1 } else { 8 };
        let asked: Vec<_> = (0..most).map_while(|before| union.next(before > 0)).collect();
        (trips, requests) = (trips + 1, requests + asked.len());
        for question in asked {
            let spots = answer(question.ask.cursor());
            let fresh = union.reply(question.asker, &spots, None, NOW).unwrap();
            let row = |i: usize| Row { id: spots[i].id.clone(), at: spots[i].at, cells: Default::default() };
            union.feed(question.asker, fresh.into_iter().map(row).collect());
        }
        came += union.ready().unwrap().len();
    }
    (trips, requests)
}

/// The last pieces of a scan with a limit are walked at once, too, and hardly anything beyond it.
#[test]
fn a_limit_is_reached_in_few_round_trips() {
    for (limit, most_trips) in [(1_500, 7), (4_000, 12), (8_000, 22)] {
        let least = (limit as usize).div_ceil(59);
        let (trips, requests) = round_trips(limit);
        assert!(
            trips <= most_trips && requests <= least + least / 6 + 2,
            "{limit}: {trips} trips, {requests} requests"
        );
    }
    assert_eq!(round_trips(590), (10, 10));
    assert_eq!(round_trips(59), (1, 1));
    assert_eq!(round_trips(60).1, 2);
}

/// Segments are cut as a scan cuts them while rows vanish and begin, and replies overtake each
/// other: each row that stays comes once. By `updated_at` rows move to the head as well, unless
/// they come in that order.
#[test]
fn rows_come_once_whatever_vanishes_while_segments_are_cut() {
    for order in [Order::InsertedAt, Order::UpdatedAt] {
        let runs: Vec<Run> = seeds().into_iter().map(|seed| rows_come_once(order, seed)).collect();
        let failures = runs.iter().filter(|run| run.has_failed).count();
        assert!(failures * 8 < runs.len(), "{order:?}: {failures} of {} scans failed", runs.len());
        let cuts: usize = runs.iter().map(|run| run.cuts).sum();
        assert!(cuts > runs.len(), "{order:?}: {cuts} cuts");
    }
}

/// `PANCAKE_SEEDS=a..b` for others.
fn seeds() -> Vec<u64> {
    // The last ones have shown faults.
    let Ok(range) = std::env::var("PANCAKE_SEEDS") else {
        return (0..1_500).chain([4_524, 4_961, 7_565, 12_845, 13_653]).collect();
    };
    let bound = |text: &str| text.parse().unwrap();
    range.split_once("..").map(|(first, last)| (bound(first)..bound(last)).collect()).unwrap()
}

struct Run {
    /// It ended in an error, on a page that takes only the last row of a reply as cursor.
    has_failed: bool,
    cuts: usize,
}

fn rows_come_once(order: Order, seed: u64) -> Run {
    let mut page = Page::random(order, seed);
    let window = page.window;
    let chain = Chain { window, ..Chain::whole(order) };
    let plan = RequestPlan { chains: vec![chain], ordered: page.ordered, ..RequestPlan::default() };
    let moves = page.moves && window.high.is_none();
    let mut union = Union::new(Object::Conversations, &plan, moves, NOW);
    let mut came = Vec::new();
    let result = page.read(&mut union, &mut came);
    let cuts = union.segments_made - 1;
    if let Err(error) = result {
        assert!(page.may_fail(&error), "{order:?} {seed}: {error:?}");
        return Run { has_failed: page.only_last_rows, cuts };
    }
    assert!(union.is_over());
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    came.iter().for_each(|id| *counts.entry(id).or_default() += 1);
    assert!(counts.values().all(|times| *times == 1), "{order:?} {seed}");
    let is_missing = |row: &RowKey| {
        let shown = page.shown.get(&row.id).copied().unwrap_or(row.at);
        row.id.starts_with("old") && window.holds(shown) && !counts.contains_key(row.id.as_str())
    };
    let missing = page.list.iter().find(|(_, row)| is_missing(row)).filter(|_| !page.may_miss());
    assert_eq!(missing, None, "{order:?} {seed}");
    Run { has_failed: false, cuts }
}

/// Where rows that lack the time of the order stand. They show another one.
#[derive(PartialEq)]
enum Undated {
    None,
    OnTop,
    Placed,
}

/// A random page that changes with every request.
struct Page {
    dice: Dice,
    order: Order,
    /// What its rows showed before it was listed in another order.
    shown: std::collections::HashMap<String, Micros>,
    /// Its rows and the real second of each, on which the order and cursors act.
    list: Vec<(i64, RowKey)>,
    begun: usize,
    /// The second of the newest message.
    newest: i64,
    ordered: bool,
    /// One in so many cursor rows vanishes.
    vanish: usize,
    /// What is asked for.
    window: TimeRange,
    /// A reply has shown an older row before a newer one, or one without a time.
    has_shown_disorder: bool,
    /// Rows get messages.
    moves: bool,
    /// Now and then many neighbours get one.
    writes_to_many: bool,
    undated: Undated,
    /// Some rows show older times.
    is_loose: bool,
    /// Windows act on the time that a row shows; else on its real one.
    acts_on_shown: bool,
    refuses_windows: bool,
    /// Other cursors are refused, or answered with nothing.
    only_last_rows: bool,
    last_rows: std::collections::HashSet<String>,
    /// Replies are short and may hold a row twice.
    repeats: bool,
}

impl Page {
    fn random(order: Order, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let is_loose = order == Order::UpdatedAt && seed % 8 < 6;
        let undated = [Undated::None, Undated::OnTop, Undated::Placed].into_iter().nth(seed as usize % 3);
        let undated = undated.unwrap_or(Undated::None);
        let mut at = 10_000_000;
        let mut list: Vec<(i64, RowKey)> = Vec::new();
        for row in 0..1_500 {
            at -= 1 + if dice.one_in(40) { dice.below(100_000) } else { dice.below(60) } as i64;
            let is_dated = undated != Undated::Placed || !dice.one_in(100);
            let shown = match is_dated {
                true if is_loose && dice.one_in(50) => at - dice.below(1_000_000) as i64,
                true => at,
                false => at + dice.below(300_000) as i64,
            };
            let id = format!("old {row}");
            list.push((at, RowKey { is_dated, ..RowKey::new(id, Micros(shown * SECOND)) }));
        }
        for row in 0..if undated == Undated::OnTop { 3 } else { 0 } {
            let id = format!("old top {row}");
            let row = RowKey { is_dated: false, ..RowKey::new(id, Micros(i64::MIN)) };
            list.insert(0, (i64::MAX, row));
        }
        Self {
            dice,
            order,
            shown: std::collections::HashMap::new(),
            list,
            begun: 0,
            newest: 10_000_000,
            ordered: seed.is_multiple_of(2),
            window: window_of(seed),
            has_shown_disorder: false,
            vanish: if seed.is_multiple_of(3) { 2 } else { 5 },
            moves: order == Order::UpdatedAt && seed % 2 == 1,
            undated,
            is_loose,
            acts_on_shown: is_loose && seed % 8 < 3,
            writes_to_many: seed % 16 < 8,
            refuses_windows: seed % 4 == 3,
            only_last_rows: seed % 5 == 1,
            last_rows: std::collections::HashSet::new(),
            repeats: seed % 7 < 2,
        }
    }

    /// Whether a scan may fail so: on a page where half of the cursors vanish or only some are
    /// taken, and in an order that the page does not keep.
    fn may_fail(&self, error: &Error) -> bool {
        let text = format!("{error:?}");
        let never_ends = text.contains("never ends");
        let is_late = self.ordered && text.contains("came too late");
        let is_first_seen = self.window.high.is_some() && self.is_loose;
        self.only_last_rows
            || never_ends && self.vanish == 2
            || never_ends && self.repeats && self.undated == Undated::OnTop
            || is_late && (self.undated != Undated::None || is_first_seen)
    }

    /// Whether a scan may leave rows out: what stands above an upper bound where no row that was
    /// read is out of order, and what lacks a time and stands below a lower bound before any scan
    /// has met such a row.
    fn may_miss(&self) -> bool {
        self.window.high.is_some() && !self.has_shown_disorder
            || self.window.low.is_some() && self.undated == Undated::Placed
    }

    /// Reads a union to its end, with up to twelve requests on their way.
    fn read(&mut self, union: &mut Union, came: &mut Vec<String>) -> Result<()> {
        let mut flight = Vec::new();
        loop {
            while flight.len() < 12
                && let Some(Question { asker, ask, chain }) = union.next(!flight.is_empty())
            {
                if chain.order != self.order {
                    self.list_by_inserted_at();
                }
                match self.answer(ask.cursor()) {
                    Some(rows) => flight.push((asker, rows)),
                    None if union.lost(asker, false) => {}
                    None => return Err(Error::new(Kind::ServerFault, "no form is left")),
                }
            }
            if flight.is_empty() {
                return Ok(());
            }
            let (asker, rows) = flight.swap_remove(self.dice.below(flight.len()));
            let fresh = union.reply(asker, &rows, None, NOW)?;
            let row = |i: usize| Row { id: rows[i].id.clone(), at: rows[i].at, cells: Default::default() };
            union.feed(asker, fresh.into_iter().map(row).collect());
            came.extend(union.ready()?.into_iter().map(|row| row.id));
        }
    }

    /// From now on the list goes by when its rows began, which no message changes.
    fn list_by_inserted_at(&mut self) {
        (self.order, self.moves, self.acts_on_shown) = (Order::InsertedAt, false, false);
        self.shown = self.list.iter().map(|(_, row)| (row.id.clone(), row.at)).collect();
        let begun = |id: &str| {
            let (kind, number) = id.rsplit_once(' ').unwrap();
            let number: i64 = number.parse().unwrap();
            if kind == "new" { 20_000_000 + number } else { 10_000_000 - 100 * number }
        };
        self.newest += 20_000_000;
        for (at, row) in &mut self.list {
            *at = begun(&row.id);
            *row = RowKey::new(row.id.clone(), Micros(*at * SECOND));
        }
        self.list.sort_by_key(|(at, _)| Reverse(*at));
    }

    /// `None` where the request is refused.
    fn answer(&mut self, ask: &crate::paging::cursor::CursorParams) -> Option<Vec<RowKey>> {
        let cursor = ask.cursor.as_ref().map(|id| self.list.iter().position(|(_, row)| row.id == *id));
        let behind = match cursor.flatten() {
            Some(row) if self.dice.one_in(if self.only_last_rows { 50 } else { self.vanish }) => {
                self.list.remove(row);
                Some(row)
            }
            Some(row) => Some(row + usize::from(!self.dice.one_in(9))),
            None => None,
        };
        let next = behind.map(|row| self.list.get(row).map(|(_, row)| row.id.clone()));
        self.change();
        // A cursor that is gone gets the first batch.
        let from = next.map_or(0, |next| {
            let place = |id: String| self.list.iter().position(|(_, row)| row.id == id).unwrap_or_default();
            next.map_or(self.list.len(), place)
        });
        let is_no_cursor =
            self.only_last_rows && ask.cursor.as_ref().is_some_and(|id| !self.last_rows.contains(id));
        if is_no_cursor && self.ordered {
            return Some(Vec::new());
        }
        // Windows are refused by some pages, and now and then by others.
        if is_no_cursor || ask.until.is_some() && (self.refuses_windows || self.dice.one_in(5)) {
            return None;
        }
        let until = ask.until.map_or(i64::MAX, |until| until.0);
        let time = |at: i64, row: &RowKey| if self.acts_on_shown { row.at.0 / SECOND } else { at };
        let listed = self.list.iter().skip(from).filter(|(at, row)| time(*at, row) <= until);
        let batch = if self.repeats { 10 } else { FULL_BATCH };
        let mut rows: Vec<RowKey> = listed.map(|(_, row)| row.clone()).take(batch).collect();
        self.has_shown_disorder |=
            rows.iter().any(|row| !row.is_dated) || !rows.is_sorted_by_key(|row| Reverse(row.at));
        if self.repeats && !rows.is_empty() && self.dice.one_in(4) {
            let twice = self.dice.below(rows.len());
            let later = twice + 1 + self.dice.below(rows.len() - twice);
            rows.insert(later, rows[twice].clone());
            rows.truncate(batch);
        }
        self.last_rows.extend(rows.last().map(|row| row.id.clone()));
        Some(rows)
    }

    /// A row begins, or gets a message, and stands at the head. On some pages many old neighbours
    /// get one, the oldest first, as when a shop writes to its customers of a year ago.
    fn change(&mut self) {
        if self.moves && self.dice.one_in(8) {
            let first = self.dice.below(self.list.len());
            let many = self.writes_to_many && self.dice.one_in(2);
            let rows = self.list[first..].iter().take(if many { 12 } else { 1 });
            let ids: Vec<String> =
                rows.filter(|(at, _)| *at < i64::MAX).map(|(_, row)| row.id.clone()).collect();
            for id in ids.into_iter().rev() {
                self.list.retain(|(_, row)| row.id != id);
                self.put_at_head(id);
            }
        }
        if self.dice.one_in(8) {
            self.begun += 1;
            self.put_at_head(format!("new {}", self.begun));
        }
    }

    fn put_at_head(&mut self, id: String) {
        let top = self.list.iter().take_while(|(at, _)| *at == i64::MAX).count();
        self.newest += 1;
        self.list.insert(top, (self.newest, RowKey::new(id, Micros(self.newest * SECOND))));
    }
}

/// Half of the scans bound the time of their order, on one side or on both.
fn window_of(seed: u64) -> TimeRange {
    let mut dice = Dice(seed ^ 0x5bd1_e995);
    let mut bound = |one_in| {
        let at = 8_000_000 + dice.below(2_000_000) as i64;
        dice.one_in(one_in).then_some(Micros(at * SECOND))
    };
    let (one, other) = (bound(3), bound(4));
    match (one, other) {
        (Some(one), Some(other)) => TimeRange { low: Some(one.min(other)), high: Some(one.max(other)) },
        (low, high) => TimeRange { low, high },
    }
}

/// The same numbers for the same seed.
pub(super) struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }

    pub fn one_in(&mut self, most: usize) -> bool {
        self.below(most) == 0
    }
}

/// A server that ignores cursors is refused after a bounded number of requests.
#[test]
fn a_page_that_ignores_cursors_is_given_up_soon() {
    let list: Vec<(String, i64)> = (0..200).map(|row| (row.to_string(), 10_000_000 - 7_000 * row)).collect();
    let mut union = Union::new(Object::Conversations, &plan(1, false, None), false, NOW);
    let mut requests = 0;
    let error = loop {
        let Some(Question { asker, ask, .. }) = union.next(false) else { panic!("an end after {requests}") };
        requests += 1;
        let until = ask.cursor().until.map_or(i64::MAX, |until| until.0);
        let rows = list.iter().filter(|(_, at)| *at <= until).map(|(id, at)| (id.as_str(), *at));
        let rows: Vec<_> = rows.take(FULL_BATCH).collect();
        if let Err(error) = union.reply(asker, &batch(&rows), None, NOW) {
            break error;
        }
    };
    assert_eq!(error.sqlstate(), "HV000");
    assert!(requests < 150, "{requests} requests");
}
