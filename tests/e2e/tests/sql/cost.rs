//! What a query costs, in requests, as README's table says: order and LIMIT, ids, posts, days, joins, ANALYZE.
//! That the answers are right goes without saying, so it is checked beside each.

use e2e::{Session, Shop};
use pancake_simulator::{Entry, PostIdsReading, Settings};

/// A page of 3,000 rows, and beside it the table `copy` of them.
fn open() -> (Shop<'static>, Session) {
    let shop = Shop::open(Settings::of(3_000)).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE TABLE copy AS SELECT * FROM shop.conversations; ANALYZE copy").unwrap();
    (shop, session)
}

/// Runs a query over the page and over the copy; the rows must be the same, order included where `ordered`.
fn same(shop: &Shop, session: &mut Session, query: &str, ordered: bool) -> Vec<Entry> {
    let mut of = |table: &str| session.rows(&query.replace("$t", table)).unwrap();
    let (mut page, log) = shop.watch(|| of("shop.conversations"));
    let mut copy = of("copy");
    if !ordered {
        page.sort();
        copy.sort();
    }
    assert_eq!(page, copy, "{query}");
    log
}

#[test]
fn a_query_costs_what_the_readme_says() {
    let (shop, mut session) = open();
    let newest = session.one("SELECT id FROM copy ORDER BY inserted_at DESC LIMIT 1").unwrap();
    let by_id = format!("SELECT id FROM $t WHERE id = '{newest}'");
    for (query, requests) in [
        ("SELECT updated_at FROM $t ORDER BY updated_at DESC LIMIT 20", 1),
        ("SELECT updated_at FROM $t ORDER BY updated_at DESC LIMIT 60", 1),
        ("SELECT updated_at FROM $t ORDER BY updated_at DESC LIMIT 118", 2),
        ("SELECT inserted_at FROM $t ORDER BY inserted_at DESC LIMIT 118", 2),
        ("SELECT inserted_at FROM $t ORDER BY inserted_at DESC LIMIT 590", 10),
        ("SELECT inserted_at, id FROM $t ORDER BY inserted_at DESC, id LIMIT 20", 1),
        ("SELECT updated_at FROM $t WHERE type = 'INBOX' ORDER BY updated_at DESC LIMIT 20", 1),
        ("SELECT updated_at FROM $t WHERE type IN ('INBOX', 'COMMENT') ORDER BY updated_at DESC LIMIT 20", 2),
        ("SELECT updated_at FROM $t WHERE tags && '{61,62,63}' ORDER BY updated_at DESC LIMIT 10", 3),
        (by_id.as_str(), 1),
        ("SELECT id FROM $t WHERE page_id = 'another'", 0),
        ("SELECT id FROM $t WHERE id = NULL", 0),
        ("SELECT id FROM $t WHERE tags && '{}'", 0),
        ("SELECT id FROM $t LIMIT 0", 0),
        ("SELECT id FROM $t WHERE updated_at::date = '1999-12-31'", 1),
    ] {
        let log = same(&shop, &mut session, query, true);
        assert_eq!(log.len(), requests, "{query}");
    }
    let (rows, log) = shop.watch(|| session.rows("SELECT * FROM shop.conversations LIMIT 10").unwrap());
    assert_eq!((rows.len(), log.len()), (10, 1));
    let log = same(&shop, &mut session, "SELECT id FROM $t", false);
    assert!(log.len() <= 3_000_usize.div_ceil(59) + 3, "{}", log.len());
    shop.honest().unwrap();
}

#[test]
fn a_day_is_fetched_with_its_neighbours_and_no_more() {
    let (shop, mut session) = open();
    for zone in [
        "UTC",
        "Asia/Ho_Chi_Minh",
        "America/Los_Angeles",
        "Pacific/Kiritimati",
        "America/Havana",
        "Atlantic/Azores",
        "XYZ+99",
        "XXX-100YYY,M3.2.0/2,M11.1.0/2",
    ] {
        session.execute(&format!("SET TimeZone = '{zone}'")).unwrap();
        for clause in [
            "updated_at::date = (now() - interval '3 days')::date",
            "(now() - interval '3 days')::date >= updated_at::date AND updated_at::date > (now() - interval '5 days')::date",
            "(updated_at AT TIME ZONE 'Asia/Ho_Chi_Minh')::date BETWEEN (now() - interval '4 days')::date AND (now() - interval '3 days')::date",
            "date_trunc('day', inserted_at) = date_trunc('day', now() - interval '3 days')",
            "date_trunc('week', updated_at AT TIME ZONE 'UTC') = date_trunc('week', (now() - interval '3 days')::timestamp)",
            "date_trunc('month', inserted_at, 'Asia/Ho_Chi_Minh') > now() - interval '20 days'",
            "date_trunc('month', inserted_at) = date_trunc('month', now()) AND inserted_at > now() - interval '20 days'",
            "updated_at AT TIME ZONE 'XXX-100YYY,M3.2.0/2,M11.1.0/2' > now()::timestamp",
            "updated_at::timestamp >= (now() - interval '2 days')::timestamp",
            "updated_at::date < 'infinity' AND updated_at::date > '-infinity' AND updated_at > now() - interval '1 day'",
        ] {
            let log = same(&shop, &mut session, &format!("SELECT id FROM $t WHERE {clause}"), false);
            let whole = 3_000 / 59;
            assert!(zone.starts_with('X') || log.len() < whole, "{zone} {clause}: {} requests", log.len());
        }
    }
}

#[test]
fn a_post_is_asked_for_once_the_page_has_proven_to_understand() {
    for (reading, helps) in [
        (PostIdsReading::CommaList, true),
        (PostIdsReading::SingleOnly, true),
        (PostIdsReading::NeedsComment, false),
        (PostIdsReading::NeedsPost, false),
        (PostIdsReading::Ignored, false),
        (PostIdsReading::Http500WithoutPost, false),
        (PostIdsReading::NothingWithoutPost, false),
    ] {
        let (shop, mut session) = open();
        shop.simulator.switches(|switches| switches.post_ids = reading);
        let posts =
            "SELECT post_id FROM copy WHERE type = 'COMMENT' GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 2";
        let posts = session.column(posts).unwrap();
        let query = format!(
            "SELECT id FROM $t WHERE type = 'COMMENT' AND post_id IN ('{}', '{}')",
            posts[0], posts[1]
        );
        same(&shop, &mut session, &query, false);
        let log = same(&shop, &mut session, &query, false);
        assert_eq!(log.iter().all(|entry| entry.param("post_ids").is_some()), helps, "{reading:?}");
        assert!(!helps || log.len() < 12, "{reading:?}: {} requests", log.len());
        let explained = session.explain_analyze(&query.replace("$t", "shop.conversations")).unwrap();
        assert_eq!(explained.contains("Pancake Proof: post_ids does not filter"), !helps, "{explained}");
    }
}

#[test]
fn few_rows_of_a_crm_feed_the_filter_and_many_do_not() {
    let (shop, mut session) = open();
    session
        .execute(
            "CREATE TABLE few AS SELECT unnest('{61,62}'::text[]) AS tag;
             CREATE TABLE posts AS SELECT DISTINCT post_id AS id FROM copy WHERE type = 'COMMENT' ORDER BY 1 LIMIT 3;
             CREATE TABLE many AS SELECT p.post_id AS id, g FROM copy p, generate_series(1, 60) g WHERE type = 'COMMENT';
             ANALYZE few; ANALYZE posts; ANALYZE many",
        )
        .unwrap();
    for (query, parameter) in [
        ("SELECT c.id, w.tag FROM few w JOIN $t c ON w.tag = ANY (c.tags)", "tags"),
        ("SELECT c.id, w.tag FROM few w JOIN $t c ON c.tags @> ARRAY[w.tag]", "tags"),
        (
            "SELECT c.id, w.tag FROM few w, LATERAL (SELECT id FROM $t c WHERE c.tags @> ARRAY[w.tag]) c",
            "tags",
        ),
        ("SELECT c.id FROM posts p JOIN $t c ON c.post_id = p.id", "post_ids"),
    ] {
        same(&shop, &mut session, query, false);
        let log = same(&shop, &mut session, query, false);
        assert!(log.iter().all(|entry| entry.param(parameter).is_some()), "{query}: {log:?}");
    }
    let log = same(&shop, &mut session, "SELECT c.id, m.g FROM many m JOIN $t c ON c.post_id = m.id", false);
    assert!(log.len() <= 3_000_usize.div_ceil(59) + 3 && log.iter().all(|e| e.param("post_ids").is_none()));
}

#[test]
fn analyze_estimates_a_page_within_twenty_requests() {
    for rows in [0, 7, 300, 3_000, 20_000] {
        let shop = Shop::open(Settings::of(rows)).unwrap();
        let mut session = shop.connect().unwrap();
        let ((), log) = shop.watch(|| session.execute("ANALYZE shop.conversations").unwrap());
        assert!(log.len() <= 20, "{rows}: {} requests", log.len());
        let estimate =
            session.one("SELECT reltuples FROM pg_class WHERE oid = 'shop.conversations'::regclass");
        let estimate: f64 = estimate.unwrap().parse().unwrap();
        let off = (estimate - rows as f64).abs() / (rows as f64).max(1.0);
        assert!(off < 0.3, "{rows} rows were taken for {estimate}");
    }
}

/// The stable order, unless the other is expected to cost less than half.
#[test]
fn an_analyzed_page_is_walked_by_the_time_that_costs_less() {
    let (shop, mut session) = open();
    session.execute("ANALYZE shop.conversations").unwrap();
    let days = |days: usize| format!("now() - interval '{days} days'");
    for (clause, order, most) in [
        (format!("updated_at > {} AND inserted_at > {}", days(1), days(80)), "updated_at", 8),
        (format!("updated_at > {} AND inserted_at > {}", days(80), days(1)), "inserted_at", 5),
        (format!("updated_at > {} AND inserted_at < {}", days(2), days(30)), "updated_at", 12),
        (format!("updated_at > {}", days(89)), "inserted_at", 55),
        (format!("updated_at < {}", days(1)), "inserted_at", 55),
        (format!("updated_at < {}", days(80)), "updated_at", 12),
    ] {
        let log = same(&shop, &mut session, &format!("SELECT id FROM $t WHERE {clause}"), false);
        assert!(log.iter().all(|entry| entry.param("order_by") == Some(order)), "{clause}: {log:?}");
        assert!(log.len() <= most, "{clause}: {} requests", log.len());
    }
}

#[test]
fn without_analyze_no_scan_is_planned_for_one_row() {
    let (_shop, mut session) = open();
    let query = "SELECT * FROM shop.conversations WHERE type = 'INBOX' AND tags @> '{61}' AND post_id = 'x' AND NOT seen";
    let plan = session.explain_with("COSTS ON", query).unwrap();
    assert!(plan.contains("rows=59"), "{plan}");
}

/// Where the clocks go back over midnight, `date_trunc` takes the second midnight: an hour of the day lies before it.
#[test]
fn a_day_with_two_midnights_is_whole() {
    let shop = Shop::open(Settings::of(0)).unwrap();
    let page = shop.simulator.first_page();
    for minute in 0..180 {
        // Havana, 2026-11-01: at 1:00 summer time (05:00 UTC) it is 0:00 again.
        let at = format!("2026-11-01T{:02}:{:02}:00.000000", 3 + minute / 60, minute % 60);
        let row = serde_json::json!({"id": minute.to_string(), "type": "INBOX", "inserted_at": at, "updated_at": at});
        page.insert_row(row);
    }
    let mut session = shop.connect().unwrap();
    session
        .execute("CREATE TABLE copy AS SELECT * FROM shop.conversations; SET TimeZone = 'America/Havana'")
        .unwrap();
    for clause in
        ["date_trunc('day', updated_at) = '2026-11-01'", "date_trunc('month', inserted_at) >= '2026-11-01'"]
    {
        let log = same(&shop, &mut session, &format!("SELECT id FROM $t WHERE {clause}"), false);
        assert!(log.iter().any(|entry| entry.param("since").is_some()), "{clause}");
    }
}
