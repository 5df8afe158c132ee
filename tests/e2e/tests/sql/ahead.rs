//! Whether a long scan at a latency asks ahead, and is as right and as cheap as one request after
//! the other.

use std::time::Duration;

use e2e::{Session, Shop};
use pancake_simulator::*;

use crate::moving::{churn, exactly_once};

const ROWS: usize = 3_000;
/// Neighbouring batches overlap by a row, and three requests may be spent on the end.
const LEAST: usize = ROWS.div_ceil(59) + 3;
/// `max_concurrency`. No rate holds these scans back: they are cut as often as they ever are, and a
/// cut costs about half a batch.
const PIECES: usize = 16;

/// What is read, and the column whose order is promised.
const SCANS: [(&str, Option<usize>); 4] = [
    ("", None),
    ("ORDER BY inserted_at DESC", Some(1)),
    ("ORDER BY updated_at DESC LIMIT 100000", Some(2)),
    ("WHERE type IN ('INBOX', 'COMMENT') ORDER BY inserted_at DESC", Some(1)),
];

fn open(rows: usize) -> (Shop<'static>, Session) {
    let shop = Shop::open(Settings::of(rows).as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("SET statement_timeout = '60s'").unwrap();
    shop.simulator.switches(far);
    (shop, session)
}

fn far(switches: &mut Switches) {
    (switches.latency, switches.jitter) = (Duration::from_millis(30), Duration::from_millis(20));
}

fn statement(rest: &str) -> String {
    format!(
        "SELECT id, extract(epoch FROM inserted_at), extract(epoch FROM updated_at) FROM shop.conversations {rest}"
    )
}

#[test]
fn a_long_scan_asks_ahead_and_asks_for_little_more() {
    let (shop, mut session) = open(ROWS);
    let mut truth = shop.simulator.first_page().ids();
    truth.sort();
    for (rest, order) in SCANS {
        shop.simulator.clear_log();
        let (rows, log) = shop.watch(|| session.rows(&statement(rest)).unwrap());
        let cell = |at: usize| rows.iter().map(move |row| row[at].clone().unwrap());
        if let Some(at) = order {
            let times: Vec<f64> = cell(at).map(|time| time.parse().unwrap()).collect();
            assert!(times.is_sorted_by(|newer, older| newer >= older), "{rest}");
        }
        let mut came: Vec<_> = cell(0).collect();
        came.sort();
        assert!(came == truth || rest.contains("type"), "{rest}: {} rows", came.len());
        assert!(log.len() * 2 <= LEAST * 3, "{rest}: {} requests instead of {LEAST}", log.len());
        let most = shop.simulator.most_in_flight();
        assert!((4..=PIECES).contains(&most), "{rest}: {most} requests at a time");
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn a_small_limit_asks_for_nothing_ahead() {
    let (shop, mut session) = open(ROWS);
    for rows in [10, 20, 60, 118, 590] {
        let (_, log) = shop
            .watch(|| session.rows(&statement(&format!("ORDER BY updated_at DESC LIMIT {rows}"))).unwrap());
        // A row comes once eight later ones are older.
        assert!(log.len() <= usize::div_ceil(rows + 8, 59), "LIMIT {rows}: {} requests", log.len());
    }
    let (_, log) = shop.watch(|| session.rows(&statement("LIMIT 10")).unwrap());
    assert_eq!(log.len(), 1);
}

/// What a scan holds of rows that are not its turn yet is bounded, and EXPLAIN shows how much it
/// was.
#[test]
fn rows_ahead_of_their_order_are_told() {
    let (_shop, mut session) = open(ROWS);
    let mut ahead = |rest: &str| -> usize {
        let plan = session.explain_with("ANALYZE, VERBOSE", &statement(rest)).unwrap();
        let line =
            plan.lines().find(|line| line.contains("Pancake Ahead: ")).unwrap_or_else(|| panic!("{plan}"));
        line.split_whitespace().nth(4).and_then(|rows| rows.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    let ordered = ahead("ORDER BY inserted_at DESC");
    assert!((300..ROWS).contains(&ordered), "{ordered}");
    let one_by_one = ahead("ORDER BY inserted_at DESC LIMIT 10");
    assert_eq!(one_by_one, 60);
}

#[test]
fn storms_while_pieces_are_walked_at_once() {
    let (shop, mut session) = open(ROWS / 2);
    let page = shop.simulator.first_page();
    let rows = page.conversations();
    let window = " WHERE updated_at > '1970-01-02'";
    for (name, churn) in churn() {
        for (cursor, rest) in [
            (CursorReading::AfterRow, ""),
            (CursorReading::StrictlyBelow, " ORDER BY inserted_at DESC"),
            (CursorReading::AfterRow, window),
            (CursorReading::StrictlyBelow, window),
        ] {
            shop.simulator.switches(|switches| *switches = Switches::default());
            page.replace_rows(rows.clone());
            let before = page.ids();
            shop.simulator.switches(|switches| {
                far(switches);
                // Hundreds of requests a second: with more, one second would hold several batches
                // of rows that moved, which a scan whose cursors vanish cannot pass.
                let messages = churn.messages.min(if rest == window { 0.1 } else { 0.3 });
                (switches.churn, switches.cursor) = (Churn { messages, ..churn }, cursor);
            });
            shop.simulator.clear_log();
            let what = format!("{name}, {cursor:?},{rest}");
            let came = session.column(&format!("SELECT id FROM shop.conversations{rest}"));
            let came = came.unwrap_or_else(|error| panic!("{what}: {error:#}"));
            shop.simulator.switches(|switches| switches.churn = Churn::default());
            exactly_once(&came, &before, &page.ids(), &what);
            assert!(shop.simulator.most_in_flight() >= 4, "{what}");
        }
    }
}
