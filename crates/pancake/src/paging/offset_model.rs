//! This module is a model of small conversations, checked exhaustively: every message that kept
//! existing comes exactly once and in order, whatever arrives and vanishes between the requests,
//! for every way of cutting and rounding. The coincidences that [`super`] assumes away are the only
//! losses that pass.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Arrive,
    /// Of the messages that there are, by their place from the newest.
    Delete(usize),
    DeleteAll,
    /// The next reply holds so many rows although more could come.
    Short(usize),
}

/// How a server reads `current_count`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rounding {
    Exact,
    Down,
    Up,
    Nearest,
}

/// The batches of a server: their size at the top of the list, and below.
#[derive(Clone, Copy, Debug)]
struct Server {
    batch: usize,
    later: usize,
    rounding: Rounding,
}

impl Server {
    const fn exact(batch: usize) -> Self {
        Self { batch, later: batch, rounding: Rounding::Exact }
    }

    fn start(self, skip: usize) -> usize {
        let whole = skip / self.batch * self.batch;
        match self.rounding {
            Rounding::Exact => skip,
            Rounding::Down => whole,
            Rounding::Up => skip.next_multiple_of(self.batch),
            Rounding::Nearest => (skip + self.batch / 2) / self.batch * self.batch,
        }
    }

    /// Whether two replies have a row in common.
    fn overlaps(self) -> bool {
        self.rounding == Rounding::Exact && self.batch > 1 && self.later > 1
    }
}

/// What a walk met.
#[derive(Debug)]
struct Outcome {
    requests: usize,
    failed: bool,
    /// A message was lost by a coincidence that is assumed not to happen.
    lost: bool,
}

/// What happened before a request, and what its reply left out.
#[derive(Clone, Copy, Default)]
struct Moment {
    arrived: usize,
    deleted: usize,
    /// The reply held one row, and more follow.
    lone: bool,
    empty: bool,
    /// The reply was cut short, and began with this row.
    cut: Option<usize>,
}

/// Whether a loss is one that the walk assumes not to happen.
fn is_excluded(server: Server, moments: &[Moment]) -> bool {
    let to_and_fro = moments.windows(3).any(|three| {
        let [first, second, third] = [three[0], three[1], three[2]];
        first.deleted > 0 && second.arrived > 0 && third.deleted > 0
    });
    let rounds = server.rounding != Rounding::Exact;
    let alone_at_the_end = moments.last_chunk().is_some_and(|[before, last]: &[Moment; 2]| {
        before.lone && last.empty && (last.deleted > 0 || rounds)
    });
    let cut_twice = rounds && {
        let mut starts = HashSet::new();
        moments.iter().filter_map(|moment| moment.cut).any(|start| !starts.insert(start))
    };
    alone_at_the_end
        || cut_twice
        || (to_and_fro && !(server.overlaps() && moments.iter().all(|moment| !moment.lone)))
}

/// Walks a conversation to its end. A wrong answer panics.
fn walk(times: &[i64], server: Server, low: Option<i64>, changes: &[(usize, Change)]) -> Outcome {
    let mut list: Vec<RowKey> =
        times.iter().enumerate().map(|(id, at)| RowKey::new(id.to_string(), Micros(*at))).collect();
    let before = list.clone();
    let mut thread = OffsetPager::new(TimeRange { low: low.map(Micros), high: None });
    let mut handed: Vec<RowKey> = vec![];
    let mut moments: Vec<Moment> = vec![];
    let mut failed = false;
    while let Some(skip) = thread.ask() {
        let skip = skip as usize;
        let request = moments.len();
        let mut moment = Moment::default();
        let mut size = if skip == 0 { server.batch } else { server.later };
        for (_, change) in changes.iter().filter(|(when, _)| *when == request) {
            let rows = list.len();
            match change {
                Change::Arrive => {
                    let at = Micros(1000 + request as i64);
                    list.insert(0, RowKey::new(format!("new{}", rows * 100 + request), at));
                    moment.arrived += 1;
                }
                Change::Delete(place) if *place < rows => drop(list.remove(*place)),
                Change::Delete(_) => {}
                Change::DeleteAll => list.clear(),
                Change::Short(rows) => size = size.min(*rows),
            }
            moment.deleted += rows.saturating_sub(list.len());
        }
        assert!(request < 1_000, "no end: {times:?} {server:?} {changes:?}");
        let start = server.start(skip);
        let mut rows: Vec<RowKey> = list.iter().skip(start).take(size).cloned().collect();
        moment.lone = rows.len() == 1 && start + 1 < list.len();
        moment.empty = rows.is_empty();
        let whole = if skip == 0 { server.batch } else { server.later };
        moment.cut = (size < whole && start + size < list.len()).then_some(start);
        moments.push(moment);
        rows.reverse();
        match thread.reply(&rows) {
            Ok(fresh) => handed.extend(fresh.into_iter().map(|i| rows[i].clone())),
            Err(_) => {
                failed = true;
                break;
            }
        }
    }
    let mut any_lost = false;
    for row in &before {
        let came = handed.iter().filter(|other| *other == row).count();
        let lived = list.contains(row) && low.is_none_or(|low| row.at.0 >= low);
        let lost = came == 0 && lived && !failed;
        any_lost |= lost;
        assert!(
            came <= 1 && (!lost || is_excluded(server, &moments)),
            "{} came {came} times: {times:?} {server:?} {low:?} {changes:?}",
            row.id
        );
    }
    let in_order = handed.windows(2).all(|pair| pair[0].at >= pair[1].at);
    assert!(in_order || is_excluded(server, &moments), "{handed:?} {server:?} {changes:?}");
    Outcome { requests: moments.len(), failed, lost: any_lost }
}

fn changes(rows: usize) -> Vec<Change> {
    let others = [Change::Arrive, Change::DeleteAll, Change::Short(2), Change::Short(1)];
    (0..rows).map(Change::Delete).chain(others).collect()
}

/// Newest first: far apart, ties.
const TIMES: [&[i64]; 7] =
    [&[], &[9], &[9, 8], &[9, 8, 7], &[9, 8, 7, 6, 5], &[9, 9, 7, 7, 7, 7], &[7, 7, 7, 7, 7]];

/// All walks of `times` with three changes before the first `moments` requests: two of any kind,
/// and a third one of about twelve. Returns how many walks there were, how many of them failed, and
/// how many lost a message.
fn all(times: &[i64], server: Server, lows: &[Option<i64>], moments: usize) -> [usize; 3] {
    let single: Vec<_> =
        (0..moments).flat_map(|when| changes(times.len()).into_iter().map(move |c| (when, c))).collect();
    let mut counts = [0; 3];
    for low in lows {
        for first in &single {
            for second in &single {
                for third in single.iter().step_by(1 + single.len() / 12) {
                    let walked = walk(times, server, *low, &[*first, *second, *third]);
                    counts[0] += 1;
                    counts[1] += usize::from(walked.failed);
                    counts[2] += usize::from(walked.lost);
                }
            }
        }
    }
    counts
}

#[test]
fn exactly_once_in_every_small_conversation() {
    let (mut runs, mut lost) = (0, 0);
    for times in TIMES {
        for server in [2, 3, 4].map(Server::exact) {
            let [more, failed, gone] = all(times, server, &[None, Some(6), Some(8)], 5);
            assert_eq!(failed, 0, "{times:?} {server:?}");
            runs += more;
            lost += gone;
        }
    }
    println!("{runs} runs, {lost} with a coincidence");
    assert!(lost * 100 < runs, "{lost} of {runs}");
    assert!(runs > 300_000, "{runs}");
}

/// Servers whose batches never overlap.
#[test]
fn exactly_once_where_batches_do_not_overlap() {
    let mut servers = vec![Server::exact(1), Server { later: 1, ..Server::exact(3) }];
    for rounding in [Rounding::Down, Rounding::Up, Rounding::Nearest] {
        servers.extend([2, 3].map(|batch| Server { batch, later: batch, rounding }));
    }
    let (mut runs, mut failures, mut lost) = (0, 0, 0);
    for times in [&[9, 8][..], &[9, 8, 7], &[9, 8, 7, 6, 5], &[9, 9, 7, 7, 7, 7]] {
        for server in &servers {
            let [more, failed, gone] = all(times, *server, &[None, Some(7)], 8);
            runs += more;
            failures += failed;
            lost += gone;
        }
    }
    println!("{runs} runs, {failures} failed, {lost} with a coincidence");
    assert!(lost * 100 < runs, "{lost} of {runs}");
    assert!(failures * 1_000 < runs, "{failures} of {runs}");
}

#[test]
fn a_quiet_conversation_costs_a_message_in_a_batch_and_the_proof() {
    let times: Vec<i64> = (0..100).rev().collect();
    let requests = |rows: usize, server: Server, low: Option<i64>| {
        let walked = walk(&times[..rows], server, low, &[]);
        assert!(!walked.failed, "{rows} {server:?}");
        walked.requests
    };
    let usual = Server::exact(30);
    // Of the usual server: 29 new rows a batch, then the last row alone, then nothing.
    assert_eq!(requests(100, usual, None), 1 + 70_usize.div_ceil(29) + 2);
    assert_eq!(requests(100, usual, Some(90)), 1);
    assert_eq!(requests(0, usual, None), 1);
    assert_eq!(requests(1, usual, None), 2);
    assert_eq!(requests(12, usual, None), 3);
    assert_eq!(requests(30, usual, None), 3);
    for batch in [20, 25] {
        assert_eq!(requests(100, Server::exact(batch), None), 1 + (100 - batch).div_ceil(batch - 1) + 2);
    }
    // Three requests prove each batch that does not overlap.
    assert_eq!(requests(100, Server::exact(1), None), 1 + 3 * 100);
    for rounding in [Rounding::Down, Rounding::Up, Rounding::Nearest] {
        let server = Server { rounding, ..usual };
        for rows in 0..100_usize {
            let batches = rows.div_ceil(30);
            let cost = requests(rows, server, None);
            assert!(cost <= 3 + 3 * batches + 12, "{rounding:?} {rows}: {cost}");
        }
    }
    // Thirty, and then one at a time.
    assert_eq!(requests(100, Server { later: 1, ..usual }, None), 1 + 1 + 3 * 71);
}

#[test]
fn many_arrivals_and_many_deletions_are_walked_through() {
    let times: Vec<i64> = (0..300).rev().collect();
    for rounding in [Rounding::Exact, Rounding::Down, Rounding::Up, Rounding::Nearest] {
        let server = Server { rounding, ..Server::exact(30) };
        for when in [1, 3, 6] {
            let arrivals = vec![(when, Change::Arrive); 100];
            let deletions = vec![(when, Change::Delete(10)); 100];
            let both = [arrivals.clone(), deletions.clone()].concat();
            for changes in [arrivals, deletions, both] {
                let walked = walk(&times, server, None, &changes);
                assert!(!walked.failed, "{rounding:?} {when}");
            }
        }
    }
}

/// Where times do not follow the list's order, a lower bound does not end the walk.
#[test]
fn a_list_that_is_not_in_order_is_read_to_its_end() {
    let rows: Vec<RowKey> = [5, 1, 9].iter().map(|at| RowKey::new(at.to_string(), Micros(*at))).collect();
    let mut thread = OffsetPager::new(TimeRange { low: Some(Micros(4)), high: None });
    let fresh = thread.reply(&rows).unwrap();
    assert_eq!(fresh.iter().map(|row| rows[*row].at.0).collect::<Vec<_>>(), [9, 5]);
    assert_eq!(thread.ask(), Some(2));
}
