//! Whether every row comes exactly once while the list moves under the scan: messages, new rows,
//! deletions, lost cursors, ties. The same on small worlds, all of them, is in the walk's own
//! tests; here it goes over the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use e2e::{Session, Shop, SqlError};
use pancake_simulator::*;
use serde_json::{Value, json};

/// A walk in each order: the plain scan goes by inserted_at, a lower bound on updated_at turns it.
const SCANS: [(&str, &str); 2] = [
    ("inserted_at", "SELECT id FROM shop.conversations"),
    ("updated_at", "SELECT id FROM shop.conversations WHERE updated_at > '1970-01-02'"),
];

const LOST: [LostCursor; 5] = [
    LostCursor::FirstPage,
    LostCursor::Empty,
    LostCursor::Http500,
    LostCursor::SuccessFalse,
    LostCursor::Continue,
];

fn open(rows: usize) -> (Shop<'static>, Session) {
    // Requests that fail are asked again at once in another form; nothing here is worth a second's
    // wait.
    let shop = Shop::open_with(Settings::of(rows).as_seen(), &[("max_retries", "0")]).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("SET statement_timeout = '20s'").unwrap();
    (shop, session)
}

/// Every row of `before` that is still there came once, none came twice, and none is guard of.
pub fn exactly_once(came: &[String], before: &[String], after: &[String], what: &str) {
    let mut times: BTreeMap<&String, usize> = BTreeMap::new();
    for id in came {
        *times.entry(id).or_default() += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{what}: more than once: {twice:?}");
    let after: BTreeSet<_> = after.iter().collect();
    let missing: Vec<_> = before.iter().filter(|id| after.contains(id) && !times.contains_key(id)).collect();
    assert!(missing.is_empty(), "{what}: {} of {} missing: {missing:?}", missing.len(), before.len());
    let known: BTreeSet<_> = before.iter().chain(after).collect();
    let unknown: Vec<_> = times.keys().filter(|id| !known.contains(*id)).collect();
    // One that was created and deleted within the scan.
    assert!(unknown.len() < 20, "{what}: guard of: {unknown:?}");
}

/// Scans the same page again and again under changing weather.
struct Weather<'a> {
    shop: &'a Shop<'a>,
    session: &'a mut Session,
    rows: Vec<Value>,
}

impl Weather<'_> {
    fn scan(&mut self, what: &str, change: impl Fn(&mut Switches)) {
        for (order, sql) in SCANS {
            let page = self.shop.simulator.first_page();
            self.shop.simulator.switches(|switches| *switches = Switches::default());
            page.replace_rows(self.rows.clone());
            let before = page.ids();
            self.shop.simulator.switches(&change);
            let what = format!("{what}, by {order}");
            let came = self.session.column(sql).unwrap_or_else(|error| panic!("{what}: {error:#}"));
            exactly_once(&came, &before, &page.ids(), &what);
            assert!(came.len() * 2 > before.len(), "{what}: {} rows", came.len());
        }
    }
}

pub fn churn() -> [(&'static str, Churn); 6] {
    let calm = Churn::default();
    [
        ("three messages a request", Churn { messages: 3.0, ..calm }),
        ("new rows and deletions", Churn { creates: 1.0, deletes: 1.0, ..calm }),
        ("the cursor row gets messages", Churn { cursor_messages: 0.4, ..calm }),
        ("the cursor row vanishes", Churn { cursor_deletes: 0.5, ..calm }),
        ("tags change", Churn { retags: 3.0, messages: 0.5, ..calm }),
        (
            "all at once",
            Churn {
                messages: 2.0,
                creates: 0.5,
                deletes: 0.5,
                retags: 1.0,
                cursor_messages: 0.3,
                cursor_deletes: 0.3,
            },
        ),
    ]
}

#[test]
pub fn storms_and_lost_cursors() {
    let (shop, mut session) = open(190);
    let rows = shop.simulator.first_page().conversations();
    let mut weather = Weather { shop: &shop, session: &mut session, rows };
    for (name, churn) in churn() {
        for lost in LOST {
            for cursor in [CursorReading::AfterRow, CursorReading::StrictlyBelow] {
                weather.scan(&format!("{name}, {lost:?}, {cursor:?}"), |switches| {
                    (switches.churn, switches.cursor) = (churn, cursor);
                    (switches.lost_cursor, switches.moved_cursor) = (lost, lost);
                });
            }
        }
    }
}

#[test]
pub fn storms_with_short_batches_repeats_and_late_messages() {
    let (shop, mut session) = open(190);
    let rows = shop.simulator.first_page().conversations();
    let mut weather = Weather { shop: &shop, session: &mut session, rows };
    for (name, churn) in churn() {
        for (other, change) in [
            ("late", (|s| s.late = Duration::from_millis(40)) as fn(&mut Switches)),
            ("repeated rows", |s| s.repeated_rows = 0.3),
            ("until exclusive in seconds", |s| s.until = Bound::ExclusiveSeconds),
            // So little that a batch holds all rows of a second, as on any page that people write
            // to. There are several requests for each of another case.
            ("batches of 20", |s| {
                s.batch = 20;
                let Churn { messages, creates, deletes, cursor_messages, cursor_deletes, .. } = &mut s.churn;
                for average in [messages, creates, deletes, cursor_messages, cursor_deletes] {
                    *average = average.min(0.2);
                }
            }),
            ("short batches", |s| s.short_batches = 0.2),
        ] {
            weather.scan(&format!("{name}, {other}"), |switches| {
                switches.churn = churn;
                change(switches);
            });
        }
    }
}

#[test]
fn rows_with_filters_stay_whole_in_a_storm() {
    let (shop, mut session) = open(190);
    let page = shop.simulator.first_page();
    let rows = page.conversations();
    for (name, churn) in [churn()[0], churn()[2], churn()[5]] {
        for (clause, of) in [
            ("type IN ('INBOX', 'COMMENT')", "type"),
            ("type = 'INBOX' AND updated_at > '1970-01-02'", "inbox"),
            ("updated_at > now() - interval '40 days'", "recent"),
        ] {
            shop.simulator.switches(|switches| *switches = Switches::default());
            page.replace_rows(rows.clone());
            let sql = format!("SELECT id FROM shop.conversations WHERE {clause}");
            let before = session.column(&sql).unwrap();
            shop.simulator.switches(|switches| switches.churn = churn);
            let came = session.column(&sql).unwrap();
            exactly_once_of(&came, &before, &page.ids(), &format!("{name}: {clause} ({of})"));
        }
    }
}

/// As `exactly_once`, where rows may also come to match while the scan runs.
pub fn exactly_once_of(came: &[String], before: &[String], after: &[String], what: &str) {
    let unique: BTreeSet<_> = came.iter().collect();
    assert_eq!(unique.len(), came.len(), "{what}: some came twice");
    let after: BTreeSet<_> = after.iter().collect();
    let missing: Vec<_> = before.iter().filter(|id| after.contains(id) && !unique.contains(id)).collect();
    assert!(missing.is_empty(), "{what}: missing {missing:?}");
}

/// A cursor that is read over minutes, as a client does it with FETCH, goes on from where it was.
#[test]
fn a_cursor_outlives_what_happens_between_its_fetches() {
    let (shop, mut session) = open(200);
    let page = shop.simulator.first_page();
    for (order, sql) in SCANS {
        let before = page.ids();
        session.execute(&format!("BEGIN; DECLARE c CURSOR FOR {sql}")).unwrap();
        let mut came = Vec::new();
        let mut step = 0;
        loop {
            let some = session.column("FETCH 37 FROM c").unwrap();
            if some.is_empty() {
                break;
            }
            came.extend(some);
            // What was read last and what is to come both move, and one row goes.
            let ids = page.ids();
            page.message(came.last().unwrap());
            page.message(&ids[ids.len() - 1 - step]);
            page.delete(&ids[ids.len() / 2]);
            page.create("COMMENT");
            step += 1;
            assert!(step < 60, "{order}: no end");
        }
        session.execute("COMMIT").unwrap();
        exactly_once(&came, &before, &page.ids(), order);
    }
}

fn tied(rows: usize, seconds: usize, spread: bool) -> Vec<Value> {
    let row = |i: usize| {
        let time = format!("2026-03-30T02:11:{:02}", 10 + i % seconds);
        let other = format!("2026-03-30T03:{:02}:{:02}", 10 + i / 60, i % 60);
        let updated = if spread { other } else { time.clone() };
        json!({"id": format!("1_{:04}", (i * 7919) % 10_007), "type": "COMMENT", "inserted_at": time, "updated_at": updated})
    };
    (0..rows).map(row).collect()
}

#[test]
fn hundreds_of_ties_within_two_seconds() {
    let (shop, mut session) = open(0);
    let page = shop.simulator.first_page();
    for ties in [Ties::IdAscending, Ties::IdDescending, Ties::Insertion] {
        for cursor in [CursorReading::AfterRow, CursorReading::StrictlyBelow] {
            for (rows, seconds, spread) in [
                (300, 2, false),
                (300, 2, true),
                (120, 1, false),
                (59, 1, false),
                (60, 1, false),
                (61, 1, false),
                (300, 6, false),
                (236, 4, true),
            ] {
                shop.simulator.switches(|switches| (switches.ties, switches.cursor) = (ties, cursor));
                page.replace_rows(Vec::new());
                tied(rows, seconds, spread).into_iter().for_each(|row| page.insert_row(row));
                let mut expected = page.ids();
                expected.sort();
                assert_eq!(expected.len(), rows);
                for (order, sql) in SCANS {
                    let what = format!(
                        "{rows} rows in {seconds} s, spread {spread}, {ties:?}, {cursor:?}, by {order}"
                    );
                    let fits = (rows / seconds < 60 && seconds > 1) || (spread && order == "updated_at");
                    match session.column(sql) {
                        Ok(mut came) => {
                            came.sort();
                            assert_eq!(came, expected, "{what}");
                        }
                        // A whole batch of one value, or a page of nothing else, cannot be walked
                        // by a cursor that skips ties: an error, never silence.
                        Err(error) => {
                            assert!(cursor == CursorReading::StrictlyBelow && !fits, "{what}: {error:#}");
                            assert_eq!(SqlError::of(&error).unwrap().sqlstate, "HV000", "{what}: {error:#}");
                        }
                    }
                }
            }
        }
    }
    shop.assert_no_violations().unwrap();
}

/// Ties, and a churn over them.
#[test]
fn ties_in_a_storm() {
    let (shop, mut session) = open(0);
    let rows = tied(240, 8, false);
    let mut weather = Weather { shop: &shop, session: &mut session, rows };
    for (name, churn) in [churn()[0], churn()[1], churn()[2]] {
        for cursor in [CursorReading::AfterRow, CursorReading::StrictlyBelow] {
            for lost in [LostCursor::Empty, LostCursor::Continue] {
                weather.scan(&format!("{name}, {cursor:?}, {lost:?}"), |switches| {
                    (switches.churn, switches.cursor) = (churn, cursor);
                    (switches.lost_cursor, switches.moved_cursor) = (lost, lost);
                });
            }
        }
    }
}
