//! This module tests walks by `updated_at` over random loose lists: rows show older times than that
//! of their place, batches are short, cursors are refused, requests fail. What matches comes once,
//! or the walk fails.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::time::SECOND;

const NOW: i64 = 1_700_000_000;

fn spot(id: &str, at: i64) -> RowKey {
    RowKey::new(id, Micros((NOW + at) * SECOND))
}

/// The same numbers in each run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// Cursors bring nothing for a while, and then the head is empty once, or for good.
#[test]
fn an_empty_head_in_mid_walk_is_the_end_when_it_is_seen_twice() {
    let now = Micros((NOW + 100) * SECOND);
    let list: Vec<RowKey> = (0..300).map(|i| spot(&i.to_string(), -i)).collect();
    for (empty_heads, expected) in [(1, 300), (2, 178)] {
        let mut walk = CursorPager::from_head(TERMS, TimeRange::default(), Order::InsertedAt);
        let (mut came, mut heads, mut requests) = (0, 0, 0);
        while let Some(ask) = walk.ask() {
            requests += 1;
            let is_out = requests > 3 && heads < empty_heads;
            heads += usize::from(is_out && ask.cursor.is_none());
            let place = |id: &String| list.iter().position(|row| row.id == *id).unwrap() + 1;
            let start = ask.cursor.as_ref().map_or(0, place);
            let rows = list.iter().skip(start).take(if is_out { 0 } else { 60 });
            let rows: Vec<_> = rows.cloned().collect();
            came += walk.reply(&rows, now).unwrap().len();
        }
        assert_eq!((came, heads), (expected, empty_heads));
    }
}

/// The row that is the cursor vanishes before half of the requests are answered, from the head:
/// reading the list again costs requests and is no failure, for as long as it leads further down.
#[test]
fn a_list_whose_cursors_vanish_is_read_to_its_end() {
    let mut dice = Dice(2_685_821_657_736_338_717);
    let now = Micros((NOW + 100) * SECOND);
    let mut errors = 0;
    for run in 0..1_000 {
        let mut list: Vec<RowKey> = (0..3_000).map(|i| spot(&i.to_string(), -i)).collect();
        let mut came = HashSet::new();
        let mut walk = CursorPager::from_head(TERMS, TimeRange::default(), Order::InsertedAt);
        let error = loop {
            let Some(ask) = walk.ask() else { break false };
            let place = ask.cursor.and_then(|id| list.iter().position(|row| row.id == id));
            let is_gone = place.is_some() && dice.below(2) == 0;
            let start = place.filter(|_| !is_gone).map_or(0, |place| place + 1);
            place.filter(|_| is_gone).map(|place| list.remove(place));
            let rows: Vec<_> = list.iter().skip(start).take(60).cloned().collect();
            let Ok(fresh) = walk.reply(&rows, now) else { break true };
            fresh.into_iter().for_each(|i| assert!(came.insert(rows[i].id.clone()), "{run}"));
        };
        errors += usize::from(error);
        assert!(error || list.iter().all(|row| came.contains(&row.id)), "{run}");
    }
    assert!(errors < 10, "{errors} walks failed");
}

/// A row that failed as a cursor stands all the same: rows above and below it are not eight in a
/// row.
#[test]
fn rows_beyond_a_bound_are_counted_in_a_row() {
    let mut list: Vec<RowKey> = (0..8).map(|i| spot(&format!("first {i}"), -i)).collect();
    list.extend((1..=4).map(|i| spot(&format!("frozen {i}"), -5000 - i)));
    list.push(spot("real", -20));
    list.extend((5..=8).map(|i| spot(&format!("frozen {i}"), -5000 - i)));
    list.push(spot("wanted", -30));
    list.extend((0..8).map(|i| spot(&format!("last {i}"), -6000 - i)));
    let window = TimeRange { low: Some(Micros((NOW - 1000) * SECOND)), high: None };
    let now = Micros((NOW + 100) * SECOND);
    for mut fails in [false, true] {
        let mut walk = CursorPager::on(TERMS, window, Order::UpdatedAt, now.into());
        let mut came = Vec::new();
        while let Some(ask) = walk.ask() {
            if std::mem::take(&mut fails) && ask.cursor.as_deref() == Some("real") {
                assert!(walk.lost(false));
                continue;
            }
            let place = |id: &String| list.iter().position(|row| row.id == *id).unwrap() + 1;
            let start = ask.cursor.as_ref().map_or(0, place);
            let rows: Vec<_> =
                list.iter().skip(start).take(if start == 0 { 14 } else { 5 }).cloned().collect();
            came.extend(walk.reply(&rows, now).unwrap().into_iter().map(|i| rows[i].id.clone()));
        }
        assert!(came.contains(&"wanted".to_owned()));
    }
}

#[test]
fn what_matches_comes_once_out_of_a_loose_list() {
    let mut dice = Dice(88_172_645_463_325_252);
    let mut errors = 0;
    for run in 0..30_000 {
        let (rows, gap) = (20 + dice.below(150), [600, 20_000, 100_000][dice.below(3) as usize]);
        let (share, mut real, mut frozen) = ([3, 6, 8][dice.below(3) as usize], 0, 0);
        // The real time of each row beside what it shows.
        let mut list = Vec::new();
        for id in 0..rows {
            real -= 1 + dice.below(gap) as i64;
            frozen = if frozen < 7 && dice.below(10) < share { frozen + 1 } else { 0 };
            let shown = if frozen > 0 { real - dice.below(gap * 100) as i64 } else { real };
            list.push((real, spot(&id.to_string(), shown)));
        }
        let window = TimeRange {
            low: Some(Micros((NOW - dice.below(real.unsigned_abs()) as i64) * SECOND)),
            high: None,
        };
        let known = Assumptions {
            now: Micros(NOW * SECOND),
            takes_windows: dice.below(5) > 0,
            is_in_order: dice.below(2) == 0,
            ends_by_time: true,
        };
        let (ends_alone, filters_shown) = (dice.below(3) == 0, dice.below(2) == 0);
        let (size, faults) = (dice.below(3), [0, 0, 5, 20][dice.below(4) as usize]);
        let mut walk = CursorPager::on(TERMS, window, Order::UpdatedAt, known);
        let (mut came, mut ends) = (HashMap::<String, usize>::new(), HashSet::new());
        let mut is_whole = true;
        while let Some(ask) = walk.ask() {
            let is_refused = ask.cursor.as_ref().is_some_and(|cursor| ends_alone && !ends.contains(cursor));
            if is_refused || dice.below(100) < faults {
                // False where no form is left: the scan sends the same request again.
                if !walk.lost(false) && walk.is_restless() {
                    is_whole = false;
                    break;
                }
                continue;
            }
            let place = |id: &String| list.iter().position(|(_, row)| row.id == *id).unwrap() + 1;
            let holds = |(real, row): &&(i64, RowKey)| {
                let at = if filters_shown { row.at.floor_second().0 } else { NOW + real };
                ask.since.is_none_or(|since| at >= since.0) && ask.until.is_none_or(|until| at <= until.0)
            };
            let most = [60, 20, 3 + dice.below(57)][size as usize];
            let start = ask.cursor.as_ref().map_or(0, place);
            let rows: Vec<_> = list.iter().skip(start).filter(holds).take(most as usize).collect();
            let rows: Vec<_> = rows.into_iter().map(|(_, row)| row.clone()).collect();
            ends.extend(rows.last().map(|row| row.id.clone()));
            let Ok(fresh) = walk.reply(&rows, Micros(NOW * SECOND)) else {
                is_whole = false;
                break;
            };
            fresh.into_iter().for_each(|i| *came.entry(rows[i].id.clone()).or_default() += 1);
        }
        assert!(came.values().all(|times| *times == 1), "{run}");
        errors += usize::from(!is_whole);
        let missing = list.iter().find(|(_, row)| window.holds(row.at) && !came.contains_key(&row.id));
        assert!(!is_whole || missing.is_none(), "{run}: {missing:?} {known:?} {ends_alone} {size} {faults}");
    }
    assert!(errors < 800, "{errors} walks failed");
}
