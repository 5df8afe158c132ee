//! This module checks every small list in numbered batches: every row that kept existing comes
//! exactly once, whatever moves between the requests and however the server reads what is not
//! documented.

use super::*;
use crate::paging::verdicts;
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
    /// The total is the length of the batch.
    total_of_batch: bool,
    /// What a window of a month gets.
    wide: WideReading,
    /// Oldest first, which only a list without `order_by` could be.
    ascending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum WideReading {
    Taken,
    Refused,
    Empty,
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

    /// None where the request is refused.
    fn answer(&self, ask: NumberedBatch) -> Option<(Vec<RowKey>, Option<u64>)> {
        let Reading {
            since_inclusive,
            until_inclusive,
            ignores_window,
            no_total,
            total_of_batch,
            wide,
            ascending,
        } = self.reading;
        match wide {
            WideReading::Refused if ask.until.0 - ask.since.0 >= 28 * 86_400 => return None,
            WideReading::Empty if ask.until.0 - ask.since.0 >= 28 * 86_400 => return Some((vec![], Some(0))),
            _ => {}
        }
        let above = |at: i64| at > ask.since.0 || (since_inclusive && at == ask.since.0);
        let below = |at: i64| at < ask.until.0 || (until_inclusive && at == ask.until.0);
        let mut rows: Vec<_> =
            self.rows.iter().enumerate().filter_map(|(id, at)| at.map(|at| (at, id))).collect();
        rows.retain(|(at, _)| ignores_window || (above(*at) && below(*at)));
        rows.sort_by_key(|(at, id)| (-at, *id));
        if ascending {
            rows.reverse();
        }
        let all = rows.len() as u64;
        let rows = rows.into_iter().skip(((ask.number - 1) * ask.size) as usize).take(ask.size as usize);
        let rows: Vec<_> = rows.map(|(at, id)| RowKey::new(id.to_string(), Micros(at * SECOND))).collect();
        let total = if total_of_batch { rows.len() as u64 } else { all };
        Some((rows, (!no_total).then_some(total)))
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
    let window = TimeRange { low: low_second.map(|low| Micros(low * SECOND)), high: None };
    let mut windows = TimeSlicePager::new(window, batch, moves, Micros(START * SECOND).into());
    let mut handed: Vec<usize> = vec![];
    let mut requests = 0;
    while let Some(ask) = windows.ask() {
        assert!(requests < 3_000, "no end: {moves} {batch} {reading:?}");
        for (_, change) in changes.iter().filter(|(when, _)| *when == requests) {
            world.change(*change, requests);
        }
        requests += 1;
        let Some((rows, total)) = world.answer(ask) else {
            assert!(windows.lost(requests % 2 == 0), "refused: {ask:?}");
            continue;
        };
        let now = Micros((START + requests as i64 * 10) * SECOND);
        let reached = windows.reached();
        let fresh = windows.reply(&rows, total, now)?;
        // What an ordered scan has handed out before this reply is newer.
        assert!(moves || fresh.iter().all(|i| rows[*i].at <= reached), "{reached:?} {rows:?}");
        handed.extend(fresh.into_iter().map(|i| rows[i].id.parse::<usize>().unwrap()));
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
        total_of_batch: false,
        wide: WideReading::Taken,
        ascending: false,
    };
    let odd = [
        Reading { total_of_batch: true, ..plain(3) },
        Reading { wide: WideReading::Refused, ..plain(3) },
        Reading { wide: WideReading::Empty, ..plain(0) },
        Reading { wide: WideReading::Refused, total_of_batch: true, ..plain(1) },
        Reading { ignores_window: true, ..plain(3) },
        Reading { no_total: true, ..plain(0) },
        Reading { ascending: true, ..plain(1) },
    ];
    (0..4).map(plain).chain(odd).collect()
}

/// Seconds before the start: far apart, within a minute, ties, more ties than a batch holds.
const TIMES: [&[i64]; 9] = [
    &[],
    &[5],
    &[5, 1_000, 20_000, 300_000],
    &[1, 2, 3, 4, 5, 6],
    &[70, 100, 100, 100, 100, 100, 90_000],
    &[7, 7, 7, 7, 7],
    &[5, 100, 110, 120, 4_000, 4_000, 50_000, 51_000, 52_000, 999_998],
    &[200, 400, 400, 600, 800, 801, 802],
    &[-1_000_000, -90_000, 5, 1_000_000, 2_300_000, 2_300_001, 2_400_000, 7_000_000, 40_000_000],
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
        assert_eq!(walk(moves, &times(99), 100, low, quiet, &[]).unwrap(), 1);
        // A full batch is followed by the second.
        assert_eq!(walk(moves, &times(100), 100, low, quiet, &[]).unwrap(), 2);
        let requests = walk(moves, &times(3_000), 100, low, quiet, &[]).unwrap();
        assert!(requests <= most, "{moves} {low:?}: {requests}");
    }
    // Of five years, dense in the last month.
    let uneven: Vec<_> =
        (0..2_000).map(|row: i64| if row < 1_500 { row * 1_700 } else { row * 70_000 }).collect();
    let requests = walk(false, &uneven, 100, None, quiet, &[]).unwrap();
    assert!(requests <= 50, "{requests}");
}

/// A page that refuses windows of a month, or leaves them empty, costs a request for each 27 days
/// down to the floor.
#[test]
fn windows_of_a_month_are_replaced_by_narrower_ones() {
    let days = |count: i64| (0..count).map(|row| row * 86_400).collect::<Vec<_>>();
    let down_to_floor = (START - FLOOR).div_euclid(SLICE_SECONDS) as usize + 4;
    for wide in [WideReading::Refused, WideReading::Empty] {
        let reading = Reading { wide, ..readings()[5] };
        for moves in [false, true] {
            let requests = walk(moves, &days(400), 100, None, reading, &[]).unwrap();
            assert!(requests <= down_to_floor, "{requests}");
            let requests = walk(moves, &days(400), 100, Some(60 * 86_400), reading, &[]).unwrap();
            assert!(requests <= 6, "{requests}");
        }
    }
    // Nothing shows that an empty list is empty but an empty reply to each narrow window.
    let empty = walk(false, &[], 100, None, readings()[5], &[]).unwrap();
    assert!((down_to_floor - 4..=down_to_floor).contains(&empty), "{empty}");
}

#[test]
fn a_walk_shows_whether_windows_of_a_month_are_taken() {
    use verdicts::WindowVerdict::{Failed, Refused, Taken};
    let new = |known: Assumptions| TimeSlicePager::new(TimeRange::default(), 30, false, known);
    let now = Micros(START * SECOND);
    let row = [RowKey::new("a", Micros((START - 5) * SECOND))];
    let mut windows = new(now.into());
    windows.reply(&row, Some(1), now).unwrap();
    assert_eq!((windows.verdict(), windows.ended()), (Some(Taken), Some(End::ListEnded)));
    for (is_named, verdict) in [(true, Refused), (false, Failed)] {
        let mut windows = new(now.into());
        assert!(windows.lost(is_named));
        windows.reply(&[], Some(0), now).unwrap();
        assert_eq!(windows.verdict(), Some(verdict));
    }
    let mut windows = new(now.into());
    for (rows, verdict) in [(&row[..0], None), (&row[..0], None), (&row[..], Some(Refused))] {
        windows.reply(rows, Some(rows.len() as u64), now).unwrap();
        assert_eq!(windows.verdict(), verdict);
    }
    // Once that is known, none is sent.
    let windows = new(Assumptions { takes_windows: false, ..now.into() });
    assert!(windows.ask().is_some_and(|ask| ask.until.0 - ask.since.0 <= WIDTH_SECONDS));
}

/// That nothing is older than the rows of a page is seen by a window that holds some of them.
#[test]
fn an_empty_reply_to_a_wide_window_is_proven_by_one_that_reaches_the_newest_rows() {
    let ago = |days: i64| Micros((START - days * 86_400) * SECOND);
    let window = TimeRange { low: Some(ago(2_000)), high: Some(ago(200)) };
    for (wide, rows, most) in [
        (WideReading::Taken, 5, 2),
        (WideReading::Taken, 0, 80),
        (WideReading::Empty, 5, 80),
        (WideReading::Refused, 5, 80),
    ] {
        let reading = Reading { wide, ..readings()[3] };
        let world =
            World { moves: false, rows: (0..rows).map(|at| Some(START - at * 86_400)).collect(), reading };
        let mut windows = TimeSlicePager::new(window, 30, false, ago(0).into());
        let mut requests = 0;
        while let Some(ask) = windows.ask() {
            requests += 1;
            match world.answer(ask) {
                Some((rows, total)) => assert!(windows.reply(&rows, total, ago(0)).unwrap().is_empty()),
                None => assert!(windows.lost(false)),
            }
        }
        assert!(requests <= most && (most == 2 || requests > 60), "{wide:?}, {rows} rows: {requests}");
    }
}

/// What a page refuses once may pass: no row that is dated ahead is given up for it.
#[test]
fn a_failure_that_passes_costs_no_row_ahead_of_today() {
    let now = Micros(START * SECOND);
    let reading = Reading { wide: WideReading::Refused, ..readings()[3] };
    for moves in [false, true] {
        let rows = [START + 3 * 86_400, START - 100].map(Some).to_vec();
        let world = World { moves, rows, reading };
        let low = Some(Micros((START - 40 * 86_400) * SECOND));
        let mut windows = TimeSlicePager::new(
            TimeRange { low, high: None },
            30,
            moves,
            Assumptions { takes_windows: false, ..now.into() },
        );
        let (mut came, mut requests) = (0, 0);
        while let Some(ask) = windows.ask() {
            requests += 1;
            // Each is sent again after a failure.
            if requests % 2 == 1 && ask.until.0 > START + 86_400 && requests < 3 {
                assert!(!windows.lost(false));
            } else {
                let (rows, total) = world.answer(ask).unwrap();
                came += windows.reply(&rows, total, now).unwrap().len();
            }
        }
        assert_eq!(came, 2);
    }
}

/// The clock by which a walk begins may be behind the server's. By `inserted_at` they come first.
#[test]
fn rows_of_days_that_the_first_clock_had_not_reached_come() {
    let reading = Reading { wide: WideReading::Refused, ..readings()[3] };
    for moves in [false, true] {
        let rows = vec![Some(START - 100), Some(START - 50 * 86_400)];
        let world = World { moves, rows, reading };
        let behind = Micros((START - 30 * 86_400) * SECOND);
        let low = Some(Micros((START - 90 * 86_400) * SECOND));
        let known = Assumptions { takes_windows: false, ..behind.into() };
        let mut windows = TimeSlicePager::new(TimeRange { low, high: None }, 30, moves, known);
        let mut came = Vec::new();
        while let Some(ask) = windows.ask() {
            let (rows, total) = world.answer(ask).unwrap();
            let fresh = windows.reply(&rows, total, Micros(START * SECOND)).unwrap();
            came.extend(fresh.into_iter().map(|i| rows[i].at));
        }
        assert_eq!(came.len(), 2);
        assert!(moves || came[0] > came[1]);
    }
}

/// Rows without a time come wherever the server shows them, and a batch that is shorter than what
/// was asked for is not taken for all.
#[test]
fn rows_without_a_time_and_shorter_batches() {
    let now = Micros(START * SECOND);
    let mut windows = TimeSlicePager::new(TimeRange::default(), 100, false, now.into());
    let undated = RowKey { is_dated: false, ..RowKey::new("undated", Micros(i64::MIN)) };
    let rows = [RowKey::new("a", Micros((START - 9) * SECOND)), undated];
    assert!(!windows.is_loose());
    assert_eq!(windows.reply(&rows, Some(2), now).unwrap(), [0, 1]);
    assert!(windows.is_loose());

    let all: Vec<_> = (0..90).map(|i| RowKey::new(i.to_string(), Micros((START - i) * SECOND))).collect();
    let mut windows = TimeSlicePager::new(TimeRange::default(), 100, false, now.into());
    let mut came = 0;
    while let Some(ask) = windows.ask() {
        let at = |row: &&RowKey| (ask.since.0..=ask.until.0).contains(&row.at.floor_second().0);
        let within: Vec<_> = all.iter().filter(at).cloned().collect();
        let batch: Vec<_> = within.chunks(50).nth(ask.number as usize - 1).unwrap_or_default().to_vec();
        came += windows.reply(&batch, Some(batch.len() as u64), now).unwrap().len();
    }
    assert_eq!(came, 90);
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
    let churn: Vec<_> = (0..3_000).map(|when| (when, Change::Touch(when % 20))).collect();
    let error = walk(true, &times, 4, Some(1_000_000), readings()[3], &churn).unwrap_err();
    assert_eq!(error.sqlstate(), "HV000");
}

#[test]
fn what_is_asked_is_a_second_wider_and_within_what_a_server_can_read() {
    let ask = |low, high| {
        let window = TimeRange { low: Some(Micros(low)), high: Some(Micros(high)) };
        TimeSlicePager::new(window, 30, false, Micros(0).into()).ask().map(|ask| (ask.since.0, ask.until.0))
    };
    assert_eq!(ask(5_500_000, 9_500_000), Some((4, 11)));
    assert_eq!(ask(-9_000_000, -5_000_000), Some((1, 1)));
    assert_eq!(ask(0, i64::MAX / 2), Some((1, LAST_SECOND)));
}
