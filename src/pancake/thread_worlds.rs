//! Small conversations, all of them: every message that kept existing comes exactly once, whatever arrives and vanishes
//! between the requests.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Arrive,
    /// Of the messages that there are, by their place from the newest.
    Delete(usize),
    DeleteAll,
    /// The next reply holds two rows although more could come.
    Short,
}

/// Walks a conversation to its end: how many requests it took. A wrong answer panics.
fn walk(
    times: &[i64],
    full_batch: u64,
    batch: usize,
    low: Option<i64>,
    changes: &[(usize, Change)],
) -> usize {
    let mut list: Vec<Spot> =
        times.iter().enumerate().map(|(id, at)| Spot { id: id.to_string(), at: Micros(*at) }).collect();
    let before = list.clone();
    let mut thread = Thread::with_batch(Window { low: low.map(Micros), high: None }, full_batch);
    let mut handed: Vec<Spot> = vec![];
    let mut requests = 0;
    while let Some(skip) = thread.ask() {
        let mut size = batch;
        for (_, change) in changes.iter().filter(|(when, _)| *when == requests) {
            match change {
                Change::Arrive => {
                    let at = Micros(1000 + requests as i64);
                    list.insert(0, Spot { id: format!("new{}", list.len() * 100 + requests), at });
                }
                Change::Delete(place) if *place < list.len() => drop(list.remove(*place)),
                Change::Delete(_) => {}
                Change::DeleteAll => list.clear(),
                Change::Short => size = 2,
            }
        }
        requests += 1;
        assert!(requests < 200, "no end: {times:?} {changes:?}");
        let mut rows: Vec<Spot> = list.iter().skip(skip as usize).take(size).cloned().collect();
        rows.reverse();
        handed.extend(thread.reply(&rows).unwrap().into_iter().map(|i| rows[i].clone()));
    }
    for row in &before {
        let came = handed.iter().filter(|other| *other == row).count();
        let lived = list.contains(row) && low.is_none_or(|low| row.at.0 >= low);
        assert!(
            came == 1 || (came == 0 && !lived),
            "{} came {came} times: {times:?} {batch} {changes:?}",
            row.id
        );
    }
    assert!(handed.windows(2).all(|pair| pair[0].at >= pair[1].at), "{handed:?} {changes:?}");
    requests
}

fn changes(rows: usize) -> Vec<Change> {
    (0..rows).map(Change::Delete).chain([Change::Arrive, Change::DeleteAll, Change::Short]).collect()
}

/// Newest first: far apart, ties.
const TIMES: [&[i64]; 7] =
    [&[], &[9], &[9, 8], &[9, 8, 7], &[9, 8, 7, 6, 5], &[9, 9, 7, 7, 7, 7], &[7, 7, 7, 7, 7]];

#[test]
fn exactly_once_in_every_small_conversation() {
    let mut runs = 0;
    for times in TIMES {
        let single: Vec<_> =
            (0..5).flat_map(|when| changes(times.len()).into_iter().map(move |c| (when, c))).collect();
        for (batch, full_batch) in [(2, 2), (3, 3), (3, 4), (4, 2)] {
            for low in [None, Some(6), Some(8)] {
                for first in &single {
                    for second in &single {
                        for third in single.iter().step_by(1 + single.len() / 12) {
                            walk(times, full_batch, batch, low, &[*first, *second, *third]);
                            runs += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(runs > 100_000, "{runs}");
}

#[test]
fn a_quiet_conversation_costs_a_message_in_a_batch_and_the_proof() {
    let times: Vec<i64> = (0..100).rev().collect();
    assert_eq!(walk(&times, 30, 30, None, &[]), 1 + 70_usize.div_ceil(29) + 1);
    assert_eq!(walk(&times, 30, 30, Some(90), &[]), 1);
    assert_eq!(walk(&times[..1], 30, 30, None, &[]), 1);
    assert_eq!(walk(&[], 30, 30, None, &[]), 1);
    assert_eq!(walk(&times[..12], 30, 30, None, &[]), 2);
}

#[test]
fn many_arrivals_and_many_deletions_are_walked_through() {
    let times: Vec<i64> = (0..300).rev().collect();
    for when in [1, 3, 6] {
        let arrivals = vec![(when, Change::Arrive); 100];
        walk(&times, 30, 30, None, &arrivals);
        let deletions = vec![(when, Change::Delete(10)); 100];
        walk(&times, 30, 30, None, &deletions);
        walk(&times, 30, 30, None, &[arrivals, deletions].concat());
    }
}

/// Where times do not follow the list's order, a lower bound does not end the walk.
#[test]
fn a_list_that_is_not_in_order_is_read_to_its_end() {
    let rows: Vec<Spot> = [5, 1, 9].iter().map(|at| Spot { id: at.to_string(), at: Micros(*at) }).collect();
    let mut thread = Thread::new(Window { low: Some(Micros(4)), high: None });
    let fresh = thread.reply(&rows).unwrap();
    assert_eq!(fresh.iter().map(|row| rows[*row].at.0).collect::<Vec<_>>(), [9, 5]);
    assert_eq!(thread.ask(), Some(2));
}
