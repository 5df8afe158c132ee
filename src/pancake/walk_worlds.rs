//! Small worlds, all of them: every row that kept existing comes exactly once, whatever moves during the walk and
//! however the server reads what nobody has documented.

use super::*;
use crate::time::SECOND;

const BATCH: usize = 2;
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

struct World {
    order_moves: bool,
    rows: Vec<Option<i64>>,
    served: Vec<i64>,
    reading: Reading,
    short_next: bool,
}

impl World {
    fn visible(&self) -> Vec<(usize, i64)> {
        let mut rows: Vec<_> =
            self.rows.iter().enumerate().filter_map(|(id, at)| at.map(|at| (id, at))).collect();
        rows.sort_by_key(|(id, at)| (-at, *id));
        rows
    }

    fn change(&mut self, change: Change, request: usize) {
        let now = START + (request as i64 + 1) * 10 * SECOND;
        match change {
            Change::Message(row) if self.order_moves => self.rows[row] = self.rows[row].map(|at| at.max(now)),
            Change::LateMessage(row) if self.order_moves => {
                self.rows[row] = self.rows[row].map(|at| at.max(now - 30 * SECOND));
            }
            Change::Message(_) | Change::LateMessage(_) => {}
            Change::Delete(row) => self.rows[row] = None,
            Change::Create => {
                self.rows.push(Some(now));
                self.served.push(0);
            }
            Change::Short => self.short_next = true,
        }
    }

    fn answer(&mut self, ask: &Ask) -> Option<Vec<Spot>> {
        let unit = if self.reading.whole_seconds { SECOND } else { 1 };
        let until = ask.until.map_or(i64::MAX, |until| until.0 * SECOND / unit);
        let below = |at: i64| at / unit < until || (self.reading.until_inclusive && at / unit == until);
        let mut rows = self.visible();
        rows.retain(|(_, at)| ask.since.is_none_or(|since| *at >= since.0 * SECOND) && below(*at));
        if let Some(cursor) = ask.cursor.as_ref().filter(|_| !self.reading.ignores_cursor) {
            let id: usize = cursor.parse().ok()?;
            let moved = self.rows[id].is_some_and(|at| at != self.served[id]);
            match self.rows[id].filter(|_| !moved || self.reading.follows_moved) {
                Some(at) if self.reading.strict_cursor => rows.retain(|row| row.1 < at),
                Some(at) => rows.retain(|row| (-row.1, row.0) > (-at, id)),
                None => match self.reading.lost {
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

/// Walks a world to its end. `Err` is an honest failure; a wrong answer panics.
fn walk(order_moves: bool, times: &[i64], reading: Reading, changes: &[(usize, Change)]) -> Result<usize> {
    let rows: Vec<_> = times.iter().map(|t| Some(START - t)).collect();
    let mut world = World { order_moves, served: vec![0; rows.len()], rows, reading, short_next: false };
    let mut walk = Walk::with_batch(Window::default(), order_moves, reading.full_batch);
    let mut handed = vec![];
    let mut requests = 0;
    while let Some(ask) = walk.ask() {
        assert!(requests < 400, "no end: {times:?} {reading:?} {changes:?}");
        for (_, change) in changes.iter().filter(|(when, _)| *when == requests) {
            world.change(*change, requests);
        }
        requests += 1;
        if std::env::var("DBG").is_ok() {
            eprintln!("{ask:?} {:?} {walk:?}", world.visible());
        }
        match world.answer(&ask) {
            Some(rows) => handed.extend(walk.reply(&rows)?.into_iter().map(|i| rows[i].id.clone())),
            None => assert!(walk.lost()?),
        }
    }
    for (id, at) in world.rows.iter().enumerate() {
        let times_handed = handed.iter().filter(|h| **h == id.to_string()).count();
        let lived_throughout = id < times.len() && at.is_some();
        assert!(
            times_handed == 1 || (times_handed == 0 && !lived_throughout),
            "row {id} came {times_handed} times: moves={order_moves} {times:?} {reading:?} {changes:?}"
        );
    }
    Ok(requests)
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

/// Microseconds before the start, newest first: far apart, within one second, ties, ties that fill a batch.
const TIMES: [&[i64]; 8] = [
    &[],
    &[5],
    &[5 * SECOND, 100 * SECOND, 200 * SECOND, 300 * SECOND],
    &[100, 200, 300, 400],
    &[5 * SECOND, 5 * SECOND, 100 * SECOND, 200 * SECOND],
    &[5 * SECOND, 100 * SECOND, 100 * SECOND, 200 * SECOND],
    &[5 * SECOND, 100 * SECOND, 200 * SECOND, 200 * SECOND],
    &[5 * SECOND, 5 * SECOND, 5 * SECOND, 5 * SECOND],
];

fn changes(rows: usize) -> Vec<Change> {
    let of_row = |row| [Change::Message(row), Change::LateMessage(row), Change::Delete(row)];
    (0..rows).flat_map(of_row).chain([Change::Create, Change::Short]).collect()
}

/// Runs every placement of `events` changes; tells how many runs there were and how many failed honestly, which only
/// ties under a strict cursor may.
fn every_world(
    order_moves: bool,
    events: usize,
    last_request: usize,
    worlds: &[&[i64]],
    readings: &[Reading],
) -> (usize, usize) {
    let (mut runs, mut failures) = (0, 0);
    for times in worlds {
        let single: Vec<_> = (0..last_request)
            .flat_map(|when| changes(times.len()).into_iter().map(move |c| (when, c)))
            .collect();
        let mut sets: Vec<Vec<(usize, Change)>> = vec![vec![]];
        for _ in 0..events {
            let longer = sets.iter().flat_map(|set| {
                let from = set.last().map_or(0, |(when, _)| *when);
                single
                    .iter()
                    .filter(move |(when, _)| *when >= from)
                    .map(|event| [set.as_slice(), &[*event]].concat())
            });
            sets = longer.chain([vec![]]).collect();
            sets.retain(|set| set.iter().filter(|(_, change)| *change == Change::Short).count() <= 1);
        }
        for reading in readings {
            for set in &sets {
                runs += 1;
                let gave_up = walk(order_moves, times, *reading, set).is_err();
                assert!(!gave_up || reading.strict_cursor, "gave up: {times:?} {reading:?} {set:?}");
                failures += usize::from(gave_up);
            }
        }
    }
    (runs, failures)
}

#[test]
fn exactly_once_in_every_small_world_by_inserted_at() {
    let (runs, failures) = every_world(false, 2, 6, &TIMES, &readings());
    assert!(runs > 100_000, "{runs}");
    assert!(failures * 3 < runs, "{failures} of {runs} walks gave up");
}

#[test]
fn exactly_once_in_every_small_world_by_updated_at() {
    let (runs, failures) = every_world(true, 2, 6, &TIMES, &readings());
    assert!(runs > 100_000, "{runs}");
    assert!(failures * 3 < runs, "{failures} of {runs} walks gave up");
}

#[test]
fn exactly_once_whatever_three_things_happen() {
    let of_cursors = |reading: &Reading| reading.until_inclusive && reading.whole_seconds;
    let readings: Vec<_> = readings().into_iter().filter(of_cursors).collect();
    let (runs, failures) = every_world(true, 3, 5, &TIMES[2..3], &readings);
    assert!(runs > 500_000 && failures * 10 < runs, "{failures} of {runs} walks gave up");
}

#[test]
fn exactly_once_where_the_server_gives_less_than_a_full_batch() {
    for reading in readings().into_iter().filter(|reading| !reading.strict_cursor) {
        let reading = Reading { full_batch: BATCH + 1, ..reading };
        for times in TIMES {
            for (when, change) in
                (0..8).flat_map(|when| changes(times.len()).into_iter().map(move |c| (when, c)))
            {
                for order_moves in [true, false] {
                    assert!(
                        walk(order_moves, times, reading, &[(when, change)]).is_ok(),
                        "{times:?} {reading:?} {change:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_quiet_list_costs_a_row_in_a_batch_and_three_requests() {
    let reading = readings()[0];
    let times: Vec<i64> = (0..59).map(|i| i * 10 * SECOND).collect();
    assert!(walk(false, &times, reading, &[]).unwrap() <= 59 + 3);
}

#[test]
fn only_a_batch_of_ties_under_a_strict_cursor_cannot_be_walked() {
    for reading in readings() {
        for times in TIMES {
            let result = walk(false, times, reading, &[]);
            let ties_fill_a_batch = times.chunk_by(|a, b| a == b).any(|ties| ties.len() >= BATCH);
            let hopeless = reading.strict_cursor && ties_fill_a_batch;
            assert!(result.is_ok() || hopeless, "{times:?} {reading:?}: {result:?}");
        }
    }
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
                    let gave_up = walk(order_moves, &times, reading, &[]).is_err();
                    assert_eq!(gave_up, rows > 0, "{rows} rows {apart} apart, {reading:?}");
                }
            }
        }
    }
}
