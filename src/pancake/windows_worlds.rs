//! Small lists in numbered batches: every row that kept existing comes exactly once, whatever moves between the requests
//! and however the server reads what nobody has documented.

use super::*;
use crate::time::Micros;

const START: i64 = 1_700_000_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    /// The row changes now: by `updated_at` it goes to the head.
    Touch(usize),
    /// The same, surfacing a minute after its time.
    LateTouch(usize),
    Delete(usize),
    Create,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    since_inclusive: bool,
    until_inclusive: bool,
    /// Since and until are ignored, together with a total of everything.
    ignores_window: bool,
    no_total: bool,
    /// Oldest first, which only a list without `order_by` could be.
    ascending: bool,
}

struct World {
    moves: bool,
    rows: Vec<Option<i64>>,
    reading: Reading,
}

impl World {
    fn change(&mut self, change: Change, request: usize) {
        let now = START + (request as i64 + 1) * 10;
        match change {
            Change::Touch(row) if self.moves => self.rows[row] = self.rows[row].map(|at| at.max(now)),
            Change::LateTouch(row) if self.moves => {
                self.rows[row] = self.rows[row].map(|at| at.max(now - 60))
            }
            Change::Touch(_) | Change::LateTouch(_) => {}
            Change::Delete(row) => self.rows[row] = None,
            Change::Create => self.rows.push(Some(now)),
        }
    }

    fn answer(&self, ask: Numbered) -> (Vec<Spot>, Option<u64>) {
        let Reading { since_inclusive, until_inclusive, ignores_window, no_total, ascending } = self.reading;
        let above = |at: i64| at > ask.since.0 || (since_inclusive && at == ask.since.0);
        let below = |at: i64| at < ask.until.0 || (until_inclusive && at == ask.until.0);
        let mut rows: Vec<_> =
            self.rows.iter().enumerate().filter_map(|(id, at)| at.map(|at| (at, id))).collect();
        rows.retain(|(at, _)| ignores_window || (above(*at) && below(*at)));
        rows.sort_by_key(|(at, id)| (-at, *id));
        if ascending {
            rows.reverse();
        }
        let total = (!no_total).then_some(rows.len() as u64);
        let rows = rows.into_iter().skip(((ask.number - 1) * ask.size) as usize).take(ask.size as usize);
        (rows.map(|(at, id)| Spot::new(id.to_string(), Micros(at * SECOND))).collect(), total)
    }
}

/// Walks a world to its end. `Err` is an honest failure; a wrong answer panics.
fn walk(
    moves: bool,
    times: &[i64],
    batch: u64,
    low: Option<i64>,
    reading: Reading,
    changes: &[(usize, Change)],
) -> Result<usize> {
    let mut world = World { moves, rows: times.iter().map(|at| Some(START - at)).collect(), reading };
    let low_second = low.map(|low| START - low);
    let window = Window { low: low_second.map(|low| Micros(low * SECOND)), high: None };
    let mut windows = Windows::new(window, batch, moves);
    let mut handed: Vec<usize> = vec![];
    let mut requests = 0;
    while let Some(ask) = windows.ask() {
        assert!(requests < 3_000, "no end: {moves} {batch} {reading:?}");
        for (_, change) in changes.iter().filter(|(when, _)| *when == requests) {
            world.change(*change, requests);
        }
        requests += 1;
        let (rows, total) = world.answer(ask);
        handed.extend(windows.reply(&rows, total)?.into_iter().map(|i| rows[i].id.parse::<usize>().unwrap()));
    }
    for (id, at) in world.rows.iter().enumerate() {
        let came = handed.iter().filter(|other| **other == id).count();
        let matched = at.is_some_and(|at| low_second.is_none_or(|low| at >= low));
        let throughout = matched && times.get(id).is_some_and(|at| low.is_none_or(|low| *at <= low));
        assert!(
            came == 1 || (came == 0 && !throughout),
            "row {id} came {came} times: moves={moves} {times:?} {batch} {low:?} {reading:?} {changes:?}"
        );
    }
    Ok(requests)
}

fn readings() -> Vec<Reading> {
    let plain = |bits: u8| Reading {
        since_inclusive: bits & 1 != 0,
        until_inclusive: bits & 2 != 0,
        ignores_window: false,
        no_total: false,
        ascending: false,
    };
    let odd = [
        Reading { ignores_window: true, ..plain(3) },
        Reading { no_total: true, ..plain(0) },
        Reading { ascending: true, ..plain(1) },
    ];
    (0..4).map(plain).chain(odd).collect()
}

/// Seconds before the start: far apart, within a minute, ties, more ties than a batch holds.
const TIMES: [&[i64]; 8] = [
    &[],
    &[5],
    &[5, 1_000, 20_000, 300_000],
    &[1, 2, 3, 4, 5, 6],
    &[70, 100, 100, 100, 100, 100, 90_000],
    &[7, 7, 7, 7, 7],
    &[5, 100, 110, 120, 4_000, 4_000, 50_000, 51_000, 52_000, 999_998],
    &[200, 400, 400, 600, 800, 801, 802],
];

#[test]
fn exactly_once_in_every_small_list() {
    let (mut runs, mut failures) = (0, 0);
    for times in TIMES {
        let of_row = |row| [Change::Touch(row), Change::LateTouch(row), Change::Delete(row)];
        let all: Vec<_> = (0..times.len()).flat_map(of_row).chain([Change::Create]).collect();
        let single: Vec<_> = (0..9).flat_map(|when| all.iter().map(move |change| (when, *change))).collect();
        for moves in [false, true] {
            let low = moves.then_some(500_000);
            for reading in readings().into_iter().filter(|reading| !moves || !reading.ascending) {
                for batch in [2, 4] {
                    for first in &single {
                        for second in single.iter().filter(|second| second.0 >= first.0).step_by(3) {
                            runs += 1;
                            failures += usize::from(
                                walk(moves, times, batch, low, reading, &[*first, *second]).is_err(),
                            );
                        }
                    }
                }
            }
        }
    }
    assert!(runs > 100_000 && failures == 0, "{failures} of {runs} walks gave up");
}

#[test]
fn a_list_that_fits_costs_one_request_and_a_long_one_its_slices() {
    let quiet = readings()[3];
    let times = |count: i64| (0..count).map(|row| row * 3_600).collect::<Vec<_>>();
    for (moves, low, most) in [(false, None, 42), (true, Some(11_000_000), 50), (true, Some(100_000_000), 60)]
    {
        assert_eq!(walk(moves, &times(100), 100, low, quiet, &[]).unwrap(), 1);
        let requests = walk(moves, &times(3_000), 100, low, quiet, &[]).unwrap();
        assert!(requests <= most, "{moves} {low:?}: {requests}");
    }
    // Of five years, dense in the last month.
    let uneven: Vec<_> =
        (0..2_000).map(|row: i64| if row < 1_500 { row * 1_700 } else { row * 70_000 }).collect();
    let requests = walk(false, &uneven, 100, None, quiet, &[]).unwrap();
    assert!(requests <= 50, "{requests}");
}

/// An import gives thousands of customers one second.
#[test]
fn a_second_of_many_rows_is_read_by_numbers() {
    let times: Vec<_> = (0..900).map(|row| if row < 800 { 5_000 } else { row }).collect();
    for moves in [false, true] {
        let requests = walk(moves, &times, 100, Some(1_000_000), readings()[3], &[]).unwrap();
        assert!(requests < 60, "{requests}");
    }
}

#[test]
fn a_head_that_never_rests_ends_honestly() {
    let times: Vec<_> = (0..20).collect();
    let storm: Vec<_> = (0..3_000).map(|when| (when, Change::Touch(when % 20))).collect();
    let error = walk(true, &times, 4, Some(1_000_000), readings()[3], &storm).unwrap_err();
    assert_eq!(error.sqlstate(), "HV000");
}

#[test]
fn what_is_asked_is_a_second_wider_and_within_what_a_server_can_read() {
    let ask = |low, high| {
        let window = Window { low: Some(Micros(low)), high: Some(Micros(high)) };
        Windows::new(window, 30, false).ask().map(|ask| (ask.since.0, ask.until.0))
    };
    assert_eq!(ask(5_500_000, 9_500_000), Some((4, 11)));
    assert_eq!(ask(-9_000_000, -5_000_000), Some((1, 1)));
    assert_eq!(ask(0, i64::MAX / 2), Some((1, LAST_SECOND)));
}
