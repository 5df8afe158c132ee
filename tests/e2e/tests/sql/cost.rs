//! What a query costs, in requests, as the table of docs/costs.md lists it: order and LIMIT, ids,
//! posts, days, joins, ANALYZE. That the answers are right goes without saying, so it is checked
//! beside each.

use e2e::{ONE_CHAIN, Session, Shop};
use pancake_simulator::{Entry, PostIdsReading, Settings};

use super::documents::{document, quoted, table};

/// A page of 3,000 rows, and beside it the table `copy` of them.
fn open() -> (Shop<'static>, Session) {
    let shop = Shop::open_with(Settings::of(3_000), &[ONE_CHAIN]).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE TABLE copy AS SELECT * FROM shop.conversations; ANALYZE copy").unwrap();
    (shop, session)
}

/// Runs a query over the page and over the copy; the rows must be the same, order included where
/// `ordered`.
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

/// The table of docs/costs.md is the one source: each of its queries is run, and its requests are
/// counted.
#[test]
fn a_query_costs_what_the_readme_says() {
    let (shop, mut session) = open();
    let mut wrong = Vec::new();
    for row in table(&document("docs/costs.md"), "| query | requests | at 4 requests/s |") {
        let (query, requests, time) = (quoted(&row[0])[0], &row[1], &row[2]);
        let ((), log) = shop.watch(|| session.execute(query).unwrap());
        // `5` or `5–8`, where it depends on the hour.
        let bounds: Vec<usize> = requests.split('–').map(|bound| bound.parse().unwrap()).collect();
        if !(bounds[0]..=bounds[bounds.len() - 1]).contains(&log.len()) {
            wrong.push(format!("{} requests instead of {requests}: {query}", log.len()));
        }
        let seconds: Vec<_> =
            bounds.iter().map(|bound| format!("{:.1}", *bound as f64 * 1.025 / 4.0)).collect();
        if *time != format!("{} s", seconds.join("–")) {
            wrong.push(format!("{} s instead of {time}: {query}", seconds.join("–")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    shop.assert_no_violations().unwrap();
}

#[test]
fn a_limit_of_n_rows_costs_a_request_for_59() {
    let (shop, mut session) = open();
    for n in [1_usize, 58, 59, 60, 61, 118, 119, 590, 1_200] {
        for column in ["updated_at", "inserted_at"] {
            let log = same(
                &shop,
                &mut session,
                &format!("SELECT {column} FROM $t ORDER BY {column} DESC LIMIT {n}"),
                true,
            );
            // A row comes once a later one is older, by updated_at once eight are; neighbouring
            // batches share a row.
            let most = if column == "updated_at" { n + 8 } else { n }.div_ceil(59);
            assert!((most.max(2) - 1..=most).contains(&log.len()), "{n} rows by {column}: {}", log.len());
            let (offset, n) = (n / 2, n - n / 2);
            let query = format!("SELECT {column} FROM $t ORDER BY {column} DESC OFFSET {offset} LIMIT {n}");
            assert!(same(&shop, &mut session, &query, true).len() <= most, "{query}");
        }
    }
    // A prepared LIMIT: its number is known to a custom plan, and to a generic one only when it
    // runs.
    for mode in ["force_custom_plan", "force_generic_plan"] {
        for column in ["updated_at", "inserted_at"] {
            session
                .execute(&format!(
                    "SET plan_cache_mode = {mode};
                     PREPARE page(bigint, bigint) AS SELECT {column} FROM shop.conversations ORDER BY {column} DESC LIMIT $1 OFFSET $2;
                     PREPARE copy(bigint, bigint) AS SELECT {column} FROM copy ORDER BY {column} DESC LIMIT $1 OFFSET $2"
                ))
                .unwrap();
            for (limit, offset) in
                [("20", "0"), ("118", "0"), ("20", "100"), ("0", "0"), ("300", "NULL"), ("NULL", "2990")]
            {
                let execute = |name: &str| format!("EXECUTE {name}({limit}, {offset})");
                let (rows, log) = shop.watch(|| session.rows(&execute("page")).unwrap());
                assert_eq!(rows, session.rows(&execute("copy")).unwrap(), "{mode} {limit} {offset}");
                let wanted = rows.len() + offset.parse::<usize>().unwrap_or(0);
                let most = if rows.is_empty() { 0 } else { wanted.div_ceil(59) + 3 };
                assert!(log.len() <= most, "{mode} {column} {limit} {offset}: {} requests", log.len());
            }
            session.execute("DEALLOCATE ALL").unwrap();
        }
    }
    shop.assert_no_violations().unwrap();
}

/// What is asked for first, and what costs nothing.
#[test]
fn what_else_costs_one_request_or_none() {
    let (shop, mut session) = open();
    let newest = session.one("SELECT id FROM copy ORDER BY inserted_at DESC LIMIT 1").unwrap();
    let by_id = format!("SELECT id FROM $t WHERE id = '{newest}'");
    for (query, requests) in [
        (by_id.as_str(), 1),
        ("SELECT id FROM $t WHERE id = NULL", 0),
        ("SELECT id FROM $t WHERE tags && '{}'", 0),
        ("SELECT id FROM $t LIMIT 0", 0),
    ] {
        let log = same(&shop, &mut session, query, true);
        assert_eq!(log.len(), requests, "{query}");
    }
    shop.assert_no_violations().unwrap();
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
            "updated_at AT TIME ZONE 'Pacific/Pago_Pago' BETWEEN localtimestamp - interval '3 days' AND localtimestamp - interval '66 hours'",
            "localtimestamp - interval '66 hours' > inserted_at AT TIME ZONE 'Pacific/Kiritimati' AND inserted_at AT TIME ZONE 'Pacific/Kiritimati' > localtimestamp - interval '3 days'",
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
fn five_rows_of_a_crm_feed_the_filter_and_fifty_thousand_do_not() {
    let (shop, mut session) = open();
    session
        .execute(
            "CREATE TABLE few AS SELECT tag, now() - interval '3 days' AS since FROM unnest('{61,62,63,66,68}'::text[]) AS tag;
             CREATE TABLE posts AS SELECT DISTINCT post_id AS id FROM copy WHERE type = 'COMMENT' ORDER BY 1 LIMIT 5;
             CREATE TABLE kinds AS SELECT unnest('{INBOX,COMMENT,INBOX,RATING,INBOX}'::text[]) AS type; ANALYZE kinds;
             CREATE TABLE many AS SELECT post_id, tags[1] AS tag, type, updated_at FROM copy, generate_series(1, 17);
             ANALYZE few; ANALYZE posts; ANALYZE many",
        )
        .unwrap();
    let fifty_thousand: usize = session.one("SELECT count(*) FROM many").unwrap().parse().unwrap();
    assert!(fifty_thousand >= 50_000);
    // Guessed, and known.
    for analyze in ["", "ANALYZE shop.conversations"] {
        session.execute(analyze).unwrap();
        for (query, parameter) in [
            ("SELECT c.id, w.tag FROM few w JOIN $t c ON w.tag = ANY (c.tags)", "tags"),
            ("SELECT c.id, w.tag FROM few w JOIN $t c ON c.tags @> ARRAY[w.tag]", "tags"),
            (
                "SELECT c.id, w.tag FROM few w, LATERAL (SELECT id FROM $t c WHERE c.tags @> ARRAY[w.tag]) c",
                "tags",
            ),
            (
                "SELECT c.id, w.tag FROM few w JOIN $t c ON w.tag = ANY (c.tags) AND c.updated_at > w.since",
                "tags",
            ),
            ("SELECT c.id FROM posts p JOIN $t c ON c.post_id = p.id", "post_ids"),
            ("SELECT c.id, p.id FROM posts p LEFT JOIN $t c ON p.id = c.post_id AND c.seen", "post_ids"),
        ] {
            same(&shop, &mut session, query, false);
            let log = same(&shop, &mut session, query, false);
            assert!(log.iter().all(|entry| entry.param(parameter).is_some()), "{query}: {log:?}");
        }
        for (query, parameter) in [
            (
                "SELECT count(*), count(DISTINCT c.id) FROM many m JOIN $t c ON c.post_id = m.post_id",
                "post_ids",
            ),
            (
                "SELECT count(*) FROM many m JOIN $t c ON c.post_id = m.post_id AND c.type = m.type",
                "post_ids",
            ),
            ("SELECT count(*) FROM many m JOIN $t c ON c.updated_at = m.updated_at", "since"),
            // Five walks of half a page cost more than one of the whole.
            ("SELECT k.type, c.id FROM kinds k JOIN $t c USING (type)", "type"),
            (
                "SELECT count(*) FROM many m RIGHT JOIN $t c ON c.type = m.type AND c.post_id = m.post_id",
                "type",
            ),
        ] {
            let log = same(&shop, &mut session, query, false);
            assert!(log.len() <= 3_000_usize.div_ceil(59) + 3, "{} requests: {query}", log.len());
            assert!(log.iter().all(|entry| entry.param(parameter).is_none()), "{query}");
        }
    }
    // No path by id: one walk finds all of them.
    let by_id = "SELECT c.id FROM (SELECT id FROM copy ORDER BY id LIMIT 3) m JOIN $t c USING (id)";
    let log = same(&shop, &mut session, by_id, false);
    assert!(log.len() <= 3_000_usize.div_ceil(59) + 3, "{} requests", log.len());
    shop.assert_no_violations().unwrap();
}

#[test]
fn analyze_counts_a_thousand_rows_and_estimates_more_within_thirty_requests() {
    for rows in [0, 7, 300, 1_000, 3_000, 20_000, 60_000] {
        let shop = Shop::open_with(Settings::of(rows), &[ONE_CHAIN]).unwrap();
        let mut session = shop.connect().unwrap();
        let ((), log) = shop.watch(|| session.execute("ANALYZE shop.conversations").unwrap());
        assert!(log.len() <= if rows <= 1_000 { 20 } else { 30 }, "{rows}: {} requests", log.len());
        let estimate =
            session.one("SELECT reltuples FROM pg_class WHERE oid = 'shop.conversations'::regclass");
        let estimate: f64 = estimate.unwrap().parse().unwrap();
        let off = (estimate - rows as f64).abs() / (rows as f64).max(1.0);
        let most = if rows <= 1_000 { 0.0 } else { 0.3 };
        assert!(off <= most, "{rows} rows were taken for {estimate}");
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

/// On a page that is known to be out of order an upper bound does not help, and the lower side of
/// an equality does.
#[test]
fn a_day_of_an_analyzed_page_that_is_out_of_order_costs_its_rows() {
    let shop = Shop::open(Settings::of(3_000).as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("SELECT FROM shop.conversations; ANALYZE shop.conversations").unwrap();
    for (clause, most) in [
        ("updated_at::date = current_date", 6),
        ("date_trunc('day', updated_at) = date_trunc('day', now())", 6),
        ("(updated_at AT TIME ZONE 'Asia/Ho_Chi_Minh')::date = current_date - 1", 8),
        ("updated_at = now()", 3),
        ("updated_at BETWEEN now() - interval '3 days' AND now() - interval '2 days'", 8),
    ] {
        let query = format!("SELECT id FROM shop.conversations WHERE {clause}");
        let plan = session.explain(&query).unwrap();
        assert!(plan.contains("order_by=updated_at"), "{plan}");
        let (_, log) = shop.watch(|| session.column(&query).unwrap());
        assert!(log.len() <= most, "{clause}: {} requests\n{plan}", log.len());
    }
}

/// What a LIMIT needs of rows that Postgres checks is estimated by how many it leaves.
#[test]
fn the_requests_of_a_limit_are_estimated_by_the_rows_that_are_left() {
    let (_shop, mut session) = open();
    session.execute("ANALYZE shop.conversations").unwrap();
    let mut estimate = |rest: &str| -> usize {
        let plan = session.explain(&format!("SELECT * FROM shop.conversations {rest}")).unwrap();
        let line = plan.lines().find_map(|line| line.trim().strip_prefix("Pancake Estimate: ")).unwrap();
        line.split(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(estimate("ORDER BY updated_at DESC LIMIT 5"), 1);
    assert!(estimate("WHERE NOT seen ORDER BY updated_at DESC LIMIT 5") <= 3);
    assert!(estimate("WHERE NOT seen") > 40);
}

/// The rows and the total cost that the planner expects of a scan.
fn expected(session: &mut Session, query: &str) -> (f64, f64) {
    let plan = session.explain_with("COSTS ON", query).unwrap();
    let scan = plan.lines().find(|line| line.contains("Foreign Scan")).unwrap_or_else(|| panic!("{plan}"));
    let figure = |before: &str| -> f64 {
        let rest = scan.rsplit(before).next().unwrap();
        rest.split(|c: char| c != '.' && !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    (figure("rows="), figure(".."))
}

#[test]
fn without_analyze_no_scan_is_planned_for_one_row() {
    let (_shop, mut session) = open();
    for query in [
        "SELECT * FROM shop.conversations WHERE type = 'INBOX' AND tags @> '{61}' AND post_id = 'x' AND NOT seen",
        "SELECT * FROM shop.conversations WHERE updated_at = now() AND inserted_at = now() AND id = 'x'",
        "SELECT * FROM shop.conversations WHERE tags && '{61,62}' AND customer_id = '1' AND message_count = 1",
        "SELECT * FROM copy c JOIN shop.conversations s ON s.post_id = c.post_id AND s.type = c.type AND s.tags @> c.tags",
    ] {
        let (rows, _) = expected(&mut session, query);
        assert!(rows >= 59.0, "{rows} rows: {query}");
    }
}

/// 50 ms of compiling are not worth it where every request takes longer; jit_above_cost is 100,000.
#[test]
fn scans_of_nine_hundred_requests_stay_below_the_cost_that_calls_for_jit() {
    let (_shop, mut session) = open();
    for (requests, whole) in [(100, true), (900, true), (1_100, false)] {
        let rows = requests * 59;
        session
            .execute(&format!(
                "UPDATE pg_class SET reltuples = {rows} WHERE oid = 'shop.conversations'::regclass"
            ))
            .unwrap();
        let (expected, cost) = expected(&mut session, "SELECT * FROM shop.conversations");
        assert_eq!(expected, rows as f64);
        assert_eq!(cost < 100_000.0, whole, "{requests} requests cost {cost}");
    }
}

#[test]
fn analyze_finds_honest_statistics() {
    let (shop, mut session) = open();
    session.execute("ANALYZE shop.conversations").unwrap();
    let mut of = |column: &str, what: &str| {
        session
            .one(&format!(
                "SELECT {what} FROM pg_stats WHERE schemaname = 'shop' AND tablename = 'conversations' AND attname = '{column}'"
            ))
            .unwrap()
    };
    assert_eq!(of("type", "n_distinct"), "4");
    assert!(of("type", "most_common_vals").starts_with("{INBOX,COMMENT,"));
    assert_eq!(of("page_id", "n_distinct"), "1");
    let ids: f64 = of("id", "n_distinct").parse().unwrap();
    assert!(ids < -0.9, "nearly every id is another one: {ids}");
    let common = of("tags", "most_common_elems");
    for (clause, off) in [
        ("type = 'INBOX'", 0.15),
        ("type = 'COMMENT'", 0.25),
        ("tags @> '{61}'", 0.3),
        ("NOT seen", 0.4),
        ("inserted_at > now() - interval '45 days'", 0.3),
        ("inserted_at > now() - interval '10 days'", 0.4),
        ("updated_at > now() - interval '10 days'", 0.5),
    ] {
        let count: f64 =
            session.one(&format!("SELECT count(*) FROM copy WHERE {clause}")).unwrap().parse().unwrap();
        let (rows, _) = expected(&mut session, &format!("SELECT * FROM shop.conversations WHERE {clause}"));
        assert!((rows - count).abs() / count < off, "{rows} expected, {count} there: {clause}");
    }
    for tag in
        session.column("SELECT unnest(tags) FROM copy GROUP BY 1 ORDER BY count(*) DESC LIMIT 3").unwrap()
    {
        assert!(common.trim_matches(['{', '}']).split(',').any(|one| one == tag), "{tag} is not in {common}");
    }
    shop.assert_no_violations().unwrap();
}

/// Where the clocks go back over midnight, `date_trunc` takes the second midnight: an hour of the
/// day lies before it.
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
        same(&shop, &mut session, &format!("SELECT id FROM $t WHERE {clause}"), false);
    }
}

/// What a scan costs over its rows, on the page as documented and as clients met it.
#[test]
fn windows_cost_a_request_for_59_rows_and_two() {
    for is_seen in [false, true] {
        let (shop, mut session) = open();
        if is_seen {
            shop.simulator.as_seen();
            session
                .execute("DROP TABLE copy; CREATE TABLE copy AS SELECT * FROM shop.conversations")
                .unwrap();
        }
        let mut wrong = Vec::new();
        for (clause, least) in [
            ("updated_at > now() - interval '1 hour'", 1),
            ("updated_at > now() - interval '20 hours'", 1),
            ("updated_at > now() - interval '12 days'", 3),
            ("inserted_at > now() - interval '1 day'", 1),
            ("inserted_at BETWEEN now() - interval '40 days' AND now() - interval '39 days'", 2),
            ("inserted_at BETWEEN now() - interval '60 days' AND now() - interval '45 days'", 3),
        ] {
            let log = same(&shop, &mut session, &format!("SELECT id FROM $t WHERE {clause}"), false);
            let rows = session.one(&format!("SELECT count(*) FROM copy WHERE {clause}")).unwrap();
            let rows: usize = rows.parse().unwrap();
            let most = match least {
                1 if rows <= 50 => 1,
                _ => rows.div_ceil(59) + 2,
            };
            if log.len() > most {
                wrong.push(format!("{clause}: {rows} rows, {} requests", log.len()));
            }
        }
        let newest = "SELECT id FROM shop.conversations ORDER BY updated_at DESC LIMIT 10";
        let ((), log) = shop.watch(|| session.execute(newest).unwrap());
        assert_eq!(log.len(), 1);
        assert!(wrong.is_empty(), "as seen: {is_seen}: {}", wrong.join("\n"));
    }
    // Of a list that ends there the end is proven by the head, which shows what moved as well.
    let shop = Shop::open_with(Settings::of(40), &[ONE_CHAIN]).unwrap();
    let mut session = shop.connect().unwrap();
    let all = "SELECT id FROM shop.conversations WHERE updated_at > now() - interval '200 days'";
    let (rows, log) = shop.watch(|| session.column(all).unwrap());
    assert!(rows.len() == 40 && log.len() <= 3, "{} requests", log.len());
}
