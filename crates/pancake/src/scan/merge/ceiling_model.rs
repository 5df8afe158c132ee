//! This module checks how much of a page's budget a long ordered scan uses at the latencies that
//! Pancake has, on a clock of its own: a request leaves each 205 ms, and its reply comes after the
//! latency, give or take a fifth. The benchmark measures the same on a real clock.

use super::tests::Dice;
use super::*;
use crate::paging::cursor::{self, FULL_BATCH};
use crate::reply::decode::Row;
use crate::schema::keyset::Order;
use crate::time::SECOND;

const ROWS: usize = 12_000;
const SPACING: f64 = 0.205;
const NOW: Micros = Micros(200_000_000 * SECOND);

/// Rows and the real second of each, newest first.
type List = Vec<(i64, RowKey)>;

/// `frozen`: one row in fifty shows a time that is older by up to a month.
fn list(dice: &mut Dice, frozen: bool) -> List {
    let mut at = 100_000_000;
    let mut row = |row: usize| {
        at -= 1 + dice.below(430) as i64;
        let late = if frozen && dice.one_in(50) { dice.below(2_600_000) as i64 } else { 0 };
        (at, RowKey::new(row.to_string(), Micros((at - late) * SECOND)))
    };
    (0..ROWS).map(&mut row).collect()
}

fn answer(list: &List, ask: &cursor::CursorParams) -> Vec<RowKey> {
    let from = ask.cursor.as_ref().map_or(0, |cursor| cursor.parse::<usize>().unwrap() + 1);
    let until = ask.until.map_or(i64::MAX, |until| until.0);
    let rows = list[from..].iter().skip_while(|(at, _)| *at > until);
    rows.take(FULL_BATCH).map(|(_, row)| row.clone()).collect()
}

/// The share of the budget that is used: one request for 59 rows, and three more.
fn share(order: Order, frozen: bool, latency: f64, seed: u64) -> f64 {
    let mut dice = Dice(seed);
    let list = list(&mut dice, frozen);
    let plan = RequestPlan {
        chains: vec![Chain::whole(order)],
        ordered: true,
        limit: Some(ROWS as u64),
        ..RequestPlan::default()
    };
    let mut union = Union::new(Object::Conversations, &plan, false, NOW);
    let mut flight: Vec<(f64, Asker, Vec<RowKey>)> = Vec::new();
    let (mut now, mut requests, mut came) = (0.0, 0, 0);
    while came < ROWS {
        let width = [1, 1, 4, 4, 4].get(requests).copied().unwrap_or(16);
        let question = if flight.len() < width { union.next(!flight.is_empty()) } else { None };
        now = match question {
            Some(Question { asker, ask, .. }) => {
                requests += 1;
                let jitter = 0.8 + 0.4 * dice.below(1_000) as f64 / 1_000.0;
                flight.push((now + latency * jitter, asker, answer(&list, ask.cursor())));
                now + SPACING
            }
            None => flight.iter().map(|(at, ..)| *at).fold(f64::INFINITY, f64::min).max(now),
        };
        flight.sort_by(|one, other| other.0.total_cmp(&one.0));
        while let Some((_, asker, rows)) = flight.pop_if(|(at, ..)| *at <= now) {
            let fresh = union.reply(asker, &rows, None, NOW).unwrap();
            let row = |i: usize| Row { id: rows[i].id.clone(), at: rows[i].at, cells: Default::default() };
            union.feed(asker, fresh.into_iter().map(row).collect());
            came += union.ready().unwrap().len();
        }
    }
    (ROWS as f64 / 59.0 + 3.0) * SPACING / now
}

#[test]
fn a_long_ordered_scan_uses_the_budget_at_any_latency() {
    for (order, frozen, least) in [
        (Order::InsertedAt, false, [0.95, 0.92, 0.87, 0.75]),
        (Order::UpdatedAt, false, [0.93, 0.89, 0.81, 0.75]),
        (Order::UpdatedAt, true, [0.93, 0.89, 0.81, 0.75]),
    ] {
        for (latency, least) in [0.2, 0.4, 0.8, 1.2].into_iter().zip(least) {
            let shares: Vec<f64> = (0..20).map(|seed| share(order, frozen, latency, seed)).collect();
            let worst = shares.iter().copied().fold(f64::INFINITY, f64::min);
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            println!("{order:?} {frozen} {latency} s: {mean:.2}, at least {worst:.2}");
            assert!(worst > least, "{order:?} {frozen} {latency} s: {worst:.2}");
        }
    }
}
