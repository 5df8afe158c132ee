//! Whether random clauses and joins give each row exactly once while messages come, rows begin and
//! vanish, and cursors are lost: every row that was there throughout and matched in each of its
//! versions, and no row twice.

use std::collections::{BTreeMap, BTreeSet};

use e2e::Session;
use pancake_simulator::*;

use super::grammar::{Facts, Grammar};
use super::open;

/// Ways to ask for the rows of a clause, each row once. `copy` is as the page was before.
const QUERIES: &[&str] = &[
    "SELECT c.id FROM {} c",
    "SELECT c.id FROM {} c",
    "SELECT c.id FROM {} c JOIN known USING (id)",
    "SELECT c.id FROM {} c LEFT JOIN known USING (id)",
    "SELECT c.id FROM {} c WHERE EXISTS (SELECT FROM known WHERE known.id = c.id)",
    "SELECT c.id FROM kinds JOIN {} c ON c.type = kind",
    "SELECT c.id FROM kinds, LATERAL (SELECT id FROM {} c WHERE kind = c.type) c",
    "SELECT c.id FROM months JOIN {} c ON c.inserted_at >= low AND high > c.inserted_at",
    "SELECT a.id FROM {} a JOIN (SELECT id, inserted_at FROM shop.conversations) b USING (id, inserted_at)",
    "SELECT id FROM {} c WHERE seen UNION ALL SELECT id FROM known WHERE false",
];

/// `PANCAKE_SEED=… cargo test` runs another one.
#[test]
fn random_clauses_and_joins_come_whole_through_a_storm() {
    let seed = std::env::var("PANCAKE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_802);
    let (shop, mut session) = open(150, &[("max_retries", "0")]);
    session
        .execute(
            "SET statement_timeout = '20s'; SET enable_memoize = off;
             CREATE TABLE kinds AS SELECT DISTINCT type AS kind FROM copy;
             CREATE TABLE months AS SELECT now() - (i || ' days')::interval AS low, now() - (i - 30 || ' days')::interval AS high
                 FROM generate_series(-30, 120, 30) i;
             CREATE TABLE known AS SELECT * FROM copy; CREATE TABLE after AS SELECT * FROM copy;
             ANALYZE kinds; ANALYZE months",
        )
        .unwrap();
    let page = shop.simulator.first_page();
    let rows = page.conversations();
    let facts = Facts::gather(&mut session);
    for number in 0..60 {
        let mut grammar = Grammar::new(seed, number, &facts);
        let clause = grammar.conjunction();
        let query = QUERIES[grammar.roll(QUERIES.len())];
        let weather = weather(&mut grammar);
        let what = format!("seed {seed}, number {number}: {query} WHERE {clause}");
        if number % 10 == 0 {
            page.replace_rows(rows.clone());
        }
        session.execute("TRUNCATE known; INSERT INTO known SELECT * FROM shop.conversations; BEGIN").unwrap();
        shop.simulator.switches(|switches| *switches = weather.clone());
        let sql = query.replace("{}", &format!("(SELECT * FROM shop.conversations WHERE {clause})"));
        let came = session.column(&sql);
        shop.simulator.switches(|switches| *switches = Switches::default());
        let came = came.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        session.execute("TRUNCATE after; INSERT INTO after SELECT * FROM shop.conversations").unwrap();
        judge(&mut session, &came, &sql, &clause, &what);
        session.execute("COMMIT").unwrap();
    }
    shop.assert_no_violations().unwrap();
}

fn weather(grammar: &mut Grammar) -> Switches {
    let lost = [
        LostCursor::FirstPage,
        LostCursor::Empty,
        LostCursor::Http500,
        LostCursor::SuccessFalse,
        LostCursor::Continue,
    ];
    let mut some = |most: f64| most * grammar.roll(4) as f64 / 3.0;
    let churn = Churn {
        messages: some(2.0),
        creates: some(0.5),
        deletes: some(0.3),
        retags: 0.0,
        cursor_messages: some(0.5),
        cursor_deletes: some(0.3),
    };
    Switches {
        churn,
        short_batches: [0.0, 0.2][grammar.roll(2)],
        repeated_rows: [0.0, 0.2][grammar.roll(2)],
        cursor: [CursorReading::AfterRow, CursorReading::StrictlyBelow][grammar.roll(2)],
        lost_cursor: lost[grammar.roll(lost.len())],
        moved_cursor: lost[grammar.roll(lost.len())],
        ..Switches::default()
    }
}

/// None came twice, and all came that are still there, have changed at most once, and match before
/// and after.
fn judge(session: &mut Session, came: &[String], sql: &str, clause: &str, what: &str) {
    let mut times: BTreeMap<&String, usize> = BTreeMap::new();
    came.iter().for_each(|id| *times.entry(id).or_default() += 1);
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "more than once: {twice:?}\n{what}");
    let expected = |table: &str| sql.replace("shop.conversations", table);
    let must = session
        .column(&format!(
            "SELECT id FROM known k JOIN after a USING (id) WHERE a.message_count - k.message_count <= 1
             INTERSECT ({}) INTERSECT ({})",
            expected("known"),
            expected("after")
        ))
        .unwrap();
    let missing: Vec<_> = must.iter().filter(|id| !times.contains_key(id)).collect();
    assert!(missing.is_empty(), "{} of {} missing: {missing:?}\n{what}", missing.len(), must.len());
    let matching: BTreeSet<_> = session
        .column(&format!("SELECT id FROM known WHERE {clause} UNION SELECT id FROM after WHERE {clause}"))
        .unwrap()
        .into_iter()
        .collect();
    let stray = times.keys().filter(|id| !matching.contains(**id)).count();
    // One that has changed twice, or was created and deleted within the scan.
    assert!(stray < 20, "{stray} rows that match neither before nor after\n{what}");
}
