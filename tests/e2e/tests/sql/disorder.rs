//! Whether answers are exact on a page whose list is out of order, from its first statement on:
//! rows that show older times than their place has, alone, in runs, and in longer runs than any
//! page has been seen to have.

use e2e::{ONE_CHAIN, Session, Shop, SqlError};
use pancake_simulator::{PageSettings, Settings};

/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

/// A page as clients met it, with rows of 30 days.
fn seen(seed: u64, conversations: usize) -> (Shop<'static>, Session) {
    let page = PageSettings { conversations, days: 30, ..PageSettings::default() };
    let shop = Shop::open(Settings { seed, pages: vec![page], ..Settings::default() }.as_seen()).unwrap();
    let session = shop.connect().unwrap();
    (shop, session)
}

/// The ids of the rows that show an `updated_at` so many days ago, in this order if `ordered`.
fn truth(session: &mut Session, shop: &Shop, days: std::ops::Range<i64>) -> Vec<String> {
    let now = shop.simulator.now();
    let (low, high) = (now - days.end * DAY, now - days.start * DAY);
    let rows = serde_json::Value::Array(shop.simulator.first_page().conversations()).to_string();
    let shown = "(extract(epoch FROM (e ->> 'updated_at')::timestamp) * 1e6)::bigint";
    let sql = format!(
        "SELECT e ->> 'id' FROM jsonb_array_elements({}::jsonb) e
         WHERE {shown} BETWEEN {low} AND {high} ORDER BY 1",
        e2e::page::literal(&rows)
    );
    session.column(&sql).unwrap()
}

/// A bound on `updated_at` so many days before the simulator's now.
fn between(shop: &Shop, days: std::ops::Range<i64>) -> String {
    let time = |days: i64| format!("to_timestamp({}::numeric / 1000000)", shop.simulator.now() - days * DAY);
    format!("updated_at BETWEEN {} AND {}", time(days.end), time(days.start))
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

/// The first statement does not know yet that the page is out of order. If a row that it reads
/// shows that, it reads what stands above the bound as well.
#[test]
fn the_first_window_is_exact_where_a_row_of_it_is_out_of_order() {
    let mut above = 0;
    for seed in 1..=4 {
        let (shop, mut session) = seen(seed, 2_400);
        let expected = truth(&mut session, &shop, 5..25);
        let sql = format!("SELECT id FROM shop.conversations WHERE {}", between(&shop, 5..25));
        let came = sorted(session.column(&sql).unwrap());
        assert_eq!(came, expected, "seed {seed}");
        let list = shop.simulator.first_page().ids();
        // The window begins where most rows are its own.
        let is_begun = |rows: &[String]| rows.iter().filter(|id| expected.contains(id)).count() > 30;
        let begin = list.windows(60).position(is_begun).unwrap();
        above += list[..begin].iter().filter(|id| expected.contains(id)).count();
    }
    assert!(above >= 4, "{above} rows of windows stand far above them");
}

/// In an order, what comes out too late for its place is an error, once.
#[test]
fn the_first_ordered_window_is_exact_or_an_error() {
    for seed in 1..=6 {
        let (shop, mut session) = seen(seed, 1_200);
        let expected = truth(&mut session, &shop, 5..25);
        let window = between(&shop, 5..25);
        let sql =
            format!("SELECT id FROM shop.conversations WHERE {window} ORDER BY updated_at DESC LIMIT 5000");
        match session.column(&sql) {
            Ok(came) => assert_eq!(sorted(came), expected, "seed {seed}"),
            Err(error) => {
                let error = SqlError::of(&error).unwrap();
                assert_eq!(error.sqlstate, "HV000", "seed {seed}: {error}");
                assert!(error.hint.as_ref().unwrap().contains("Execute the statement again"), "seed {seed}");
            }
        }
        assert_eq!(sorted(session.column(&sql).unwrap()), expected, "seed {seed}");
    }
}

/// Twelve rows in a row, from this place on, show the times of a month before.
fn with_a_long_run(first: usize) -> (Shop<'static>, Session) {
    let page = PageSettings { conversations: 600, days: 60, ..PageSettings::default() };
    let settings = Settings { pages: vec![page], ..Settings::default() };
    let shop = Shop::open_with(settings, &[ONE_CHAIN]).unwrap();
    let page = shop.simulator.first_page();
    let now = shop.simulator.now();
    for (place, id) in page.ids().into_iter().enumerate().skip(first).take(12) {
        assert!(page.freeze(&id, now - 40 * DAY - place as i64 * 1_000_000));
    }
    let session = shop.connect().unwrap();
    (shop, session)
}

#[test]
fn a_lower_bound_is_exact_on_a_page_in_a_looser_order_than_any() {
    // Further down than the doctor reads.
    let (shop, mut session) = with_a_long_run(200);
    let expected = truth(&mut session, &shop, -1..30);
    let sql = format!("SELECT id FROM shop.conversations WHERE {}", between(&shop, -1..30));
    assert_eq!(sorted(session.column(&sql).unwrap()), expected);
    let plan = session.explain(&sql).unwrap();
    let detour =
        "Pancake Detour: rows of the page stand below the place of this time: to the end of the list";
    assert!(plan.contains(detour), "{plan}");
    let places =
        session.one("SELECT status || ' ' || detail FROM pancake.doctor('shop') WHERE item = 'places'");
    let places = places.unwrap();
    assert!(places.starts_with("warn ") && places.contains("has read a row far below"), "{places}");
    assert_eq!(sorted(session.column(&sql).unwrap()), expected);
}

#[test]
fn an_order_on_such_a_page_fails_once() {
    let (_shop, mut session) = with_a_long_run(40);
    let sql = "SELECT id, updated_at FROM shop.conversations ORDER BY updated_at DESC LIMIT 200";
    let error = session.error(sql).unwrap();
    assert_eq!(error.sqlstate, "HV000", "{error}");
    assert!(error.hint.unwrap().contains("Execute the statement again"));
    let rows = session.rows(sql).unwrap();
    let sorted = session
        .rows("SELECT id, updated_at FROM (SELECT * FROM shop.conversations OFFSET 0) c ORDER BY updated_at DESC LIMIT 200")
        .unwrap();
    assert_eq!(rows, sorted);
}

#[test]
fn a_sync_of_such_a_page_is_exact() {
    let (shop, mut session) = with_a_long_run(40);
    session.execute("CREATE SCHEMA crm; CREATE TABLE crm.conversations (LIKE shop.conversations)").unwrap();
    session.execute("ALTER TABLE crm.conversations ADD PRIMARY KEY (page_id, id)").unwrap();
    let sync = "CALL pancake.sync('shop.conversations', 'crm.conversations')";
    let copy = "SELECT id || updated_at AS row FROM crm.conversations";
    let page = "SELECT id || updated_at AS row FROM shop.conversations";
    let unlike = format!(
        "SELECT count(*) FROM ({copy}) c FULL JOIN ({page}) p USING (row) WHERE c IS NULL OR p IS NULL"
    );
    session.execute(sync).unwrap();
    for round in 0..3 {
        assert_eq!(session.one(&unlike).unwrap(), "0", "round {round}");
        let list = shop.simulator.first_page();
        for id in list.ids().into_iter().skip(30).step_by(40).take(10) {
            list.message(&id);
        }
        session.execute(sync).unwrap();
    }
    assert_eq!(session.one(&unlike).unwrap(), "0");
}

/// What moved is looked for at the head, where the run stands: no look shows where it may end.
#[test]
fn a_page_that_is_read_as_it_stands_is_exact() {
    let (shop, mut session) = with_a_long_run(40);
    session.execute("SET pancake_fdw.order_by = 'updated_at'").unwrap();
    let expected = sorted(shop.simulator.first_page().ids());
    for _ in 0..3 {
        assert_eq!(sorted(session.column("SELECT id FROM shop.conversations").unwrap()), expected);
    }
}
