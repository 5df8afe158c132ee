//! The lists beside the conversations: every row of each, once, each cell as an independent reading
//! of the served JSON has it; windows of time and types under every reading; lists that shift while
//! they are read. Messages are left to `messages`, joins to `joins`.

use std::collections::{BTreeMap, BTreeSet};

use e2e::{Session, Shop, page::literal};
use pancake_simulator::*;
use serde_json::{Map, Value, json};

const PAGE: &str = "100000000000001";

fn open(rows: usize) -> (Shop<'static>, Session) {
    open_on(Settings::of(rows).as_seen())
}

fn open_on(settings: Settings) -> (Shop<'static>, Session) {
    let shop = Shop::open(settings).unwrap();
    let mut session = shop.connect().unwrap();
    session
        .execute(&format!(
            "SET TimeZone = 'UTC'; ALTER USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (ADD access_token {})",
            literal(shop.simulator.user_token())
        ))
        .unwrap();
    (shop, session)
}

/// The rows of a table by id, each as one JSON object.
fn shown(session: &mut Session, table: &str) -> BTreeMap<String, Value> {
    let rows = session.column(&format!("SELECT to_jsonb(t) FROM shop.{table} t")).unwrap();
    let count = rows.len();
    let rows = rows.iter().map(|row| serde_json::from_str::<Value>(row).unwrap());
    let rows: BTreeMap<_, _> = rows.map(|row| (row["id"].as_str().unwrap().to_owned(), row)).collect();
    assert_eq!(rows.len(), count, "{table}: a row came twice");
    rows
}

fn text(value: &Value) -> Value {
    match value {
        Value::Null | Value::String(_) => value.clone(),
        other => json!(other.to_string()),
    }
}

fn utc(value: &Value) -> Value {
    json!(format!("{}+00:00", value.as_str().unwrap()))
}

/// The served row with these keys, some of them read in a way of their own.
fn expected(row: &Value, keys: &[&str], read: &[(&str, Value)]) -> Value {
    let mut cells: Map<String, Value> =
        keys.iter().map(|key| ((*key).to_owned(), row[*key].clone())).collect();
    cells.insert("id".to_owned(), text(&row["id"]));
    cells.insert("raw".to_owned(), row.clone());
    cells.extend(read.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    Value::Object(cells)
}

fn post(row: &Value) -> Value {
    let keys = ["type", "message", "comment_count", "reactions", "phone_number_count"];
    expected(row, &keys, &[("page_id", json!(PAGE)), ("inserted_at", utc(&row["inserted_at"]))])
}

fn customer(row: &Value) -> Value {
    let emails = if row["emails"].is_null() { json!([]) } else { row["emails"].clone() };
    let keys = ["customer_id", "psid", "name", "birthday", "gender", "phone_numbers", "can_inbox"];
    let read = [
        ("page_id", json!(PAGE)),
        ("conversation_id", row["thread_id"].clone()),
        ("emails", emails),
        ("inserted_at", utc(&row["inserted_at"])),
        ("updated_at", utc(&row["updated_at"])),
    ];
    expected(row, &keys, &read)
}

fn same(session: &mut Session, table: &str, served: &[Value], read: impl Fn(&Value) -> Value) {
    let shown = shown(session, table);
    assert_eq!(shown.len(), served.len(), "{table}");
    for row in served {
        let id = text(&row["id"]);
        assert_eq!(shown[id.as_str().unwrap()], read(row), "{table}");
    }
}

#[test]
fn every_row_of_every_list_comes_unchanged() {
    let (shop, mut session) = open(3_000);
    let page = shop.simulator.first_page();
    same(&mut session, "tags", &page.tags(), |row| {
        let keys = ["text", "color", "description", "is_lead_event", "is_deactive"];
        expected(row, &keys, &[("page_id", json!(PAGE))])
    });
    same(&mut session, "posts", &page.posts(), post);
    same(&mut session, "customers", &page.customers(), customer);
    // Those who left are users too.
    let left = json!({"id": "left-1", "name": "Đinh Văn Nghỉ", "status": "disabled", "fb_id": "299999999999999", "is_online": false});
    let users = [page.users(), vec![left]].concat();
    same(&mut session, "users", &users, |row| {
        expected(row, &["name", "status", "fb_id", "email", "is_online"], &[("page_id", json!(PAGE))])
    });
    shop.assert_no_violations().unwrap();
}

#[test]
fn whole_lists_cost_a_request_and_long_ones_their_slices() {
    whole_lists(Settings::of(6_000), 0);
}

/// A page that refuses months is read in windows of 27 days, back to 2015.
#[test]
fn whole_lists_as_seen_cost_their_slices_of_27_days() {
    whole_lists(Settings::of(6_000).as_seen(), 165);
}

/// `slices`: requests that find nothing.
fn whole_lists(settings: Settings, slices: usize) {
    let (shop, mut session) = open_on(settings);
    let page = shop.simulator.first_page();
    for (table, rows, most) in [
        ("tags", page.tags().len(), 1),
        ("users", page.users().len() + 1, 1),
        ("pages", 1, 1),
        ("posts", page.posts().len(), page.posts().len() / 18 + slices),
        ("customers", page.customers().len(), page.customers().len() / 60 + slices),
    ] {
        let (count, log) = shop.watch(|| session.one(&format!("SELECT count(*) FROM shop.{table}")).unwrap());
        assert_eq!(count, rows.to_string(), "{table}");
        assert!(log.len() <= most, "{table}: {} requests for {rows} rows", log.len());
        let ((), log) = shop.watch(|| session.execute(&format!("ANALYZE shop.{table}")).unwrap());
        let most = if slices > 0 { 30 } else { 20 };
        assert!(log.len() <= most, "{table}: {} requests", log.len());
        let estimate = format!("SELECT reltuples FROM pg_class WHERE oid = 'shop.{table}'::regclass");
        let estimated: f64 = session.one(&estimate).unwrap().parse().unwrap();
        let off = (estimated / rows as f64 - 1.0).abs();
        assert!(if slices > 0 { off < 0.3 } else { off == 0.0 }, "{table}: {estimated} of {rows}");
    }
    shop.assert_no_violations().unwrap();
}

/// Compares a query over the page with the same over a copy.
fn agree(session: &mut Session, table: &str, clause: &str) -> usize {
    let mut ids = |from: &str| {
        let mut ids = session.column(&format!("SELECT id FROM {from} WHERE {clause}")).unwrap();
        ids.sort();
        ids
    };
    let (page, copy) = (ids(&format!("shop.{table}")), ids(&format!("copy_{table}")));
    assert_eq!(page, copy, "{table} WHERE {clause}");
    page.len()
}

#[test]
fn windows_and_types_select_the_same_rows_under_every_reading() {
    let (shop, mut session) = open_on(Settings::of(2_400));
    session
        .execute(
            "CREATE TABLE copy_posts AS SELECT * FROM shop.posts; CREATE TABLE copy_customers AS SELECT * FROM shop.customers",
        )
        .unwrap();
    let edge = |session: &mut Session, table: &str, column: &str| {
        let sql = format!("SELECT {column} FROM copy_{table} ORDER BY {column} OFFSET 40 LIMIT 1");
        session.one(&sql).unwrap()
    };
    let readings: [fn(&mut Switches); 6] = [
        |_| (),
        |switches| (switches.since, switches.until) = (Bound::Exclusive, Bound::Exclusive),
        |switches| (switches.since, switches.until) = (Bound::ExclusiveSeconds, Bound::ExclusiveSeconds),
        |switches| (switches.since, switches.until) = (Bound::InclusiveSeconds, Bound::InclusiveSeconds),
        |switches| (switches.ignore_since, switches.ignore_until) = (true, true),
        |switches| switches.ignore_since = true,
    ];
    for reading in readings {
        shop.simulator.switches(reading);
        for (table, column) in
            [("posts", "inserted_at"), ("customers", "inserted_at"), ("customers", "updated_at")]
        {
            let at = edge(&mut session, table, column);
            for clause in [
                format!("{column} = '{at}'"),
                format!("{column} >= '{at}'"),
                format!("'{at}' > {column}"),
                format!("{column} > '{at}'::timestamptz - interval '2 hours' AND {column} <= '{at}'"),
                format!("{column} > now() - interval '3 days'"),
                format!("{column}::date = '{at}'::date"),
            ] {
                agree(&mut session, table, &clause);
            }
        }
        for clause in
            ["type = 'video'", "type IN ('photo', 'text')", "type = 'album'", "type IN ('photo', 'album')"]
        {
            agree(&mut session, "posts", clause);
        }
        for clause in [
            "gender = 'female'",
            "birthday LIKE '%-00-00'",
            "updated_at > now() - interval '2 days' AND inserted_at < now() - interval '3 days'",
        ] {
            assert!(agree(&mut session, "customers", clause) > 0, "{clause}");
        }
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn a_bound_is_sent_and_read_again() {
    let (shop, mut session) = open_on(Settings::of(2_400));
    let sent = |session: &mut Session, sql: &str| {
        let ((), log) = shop.watch(|| session.execute(sql).unwrap());
        log.iter().map(|entry| entry.params.clone()).collect::<Vec<_>>()
    };
    let customers =
        sent(&mut session, "SELECT FROM shop.customers WHERE updated_at > now() - interval '1 hour'");
    assert!(
        customers.len() == 1
            && customers[0].iter().any(|(name, value)| name == "order_by" && value == "updated_at")
    );
    let posts = sent(
        &mut session,
        "SELECT FROM shop.posts WHERE type IN ('video', 'text') AND inserted_at > now() - interval '2 days'",
    );
    // An empty reply to a window of a month is followed by one of 27 days.
    assert!((1..=2).contains(&posts.len()), "{posts:?}");
    // A walk for each type costs more than one over them all.
    assert!(posts.iter().flatten().all(|(name, _)| name != "type"));
    let videos = sent(
        &mut session,
        "SELECT FROM shop.posts WHERE type = 'video' AND inserted_at > now() - interval '2 days'",
    );
    assert!(videos.iter().all(|params| params.iter().any(|(name, _)| name == "type")), "{videos:?}");
    for nothing in [
        "posts WHERE type = 'video' AND type = 'text'",
        "customers WHERE updated_at > 'infinity'",
        "tags WHERE id = NULL",
        "users WHERE page_id = 'another'",
    ] {
        assert_eq!(sent(&mut session, &format!("SELECT FROM shop.{nothing}")).len(), 0, "{nothing}");
    }
    let plan = session
        .explain("SELECT id FROM shop.customers WHERE updated_at > '2026-01-01' AND gender = 'male'")
        .unwrap();
    assert!(plan.contains("Pancake Sent: order_by=updated_at, since='2026-01-01"), "{plan}");
    assert!(plan.contains("Pancake Not Sent: gender = 'male'::text (no server filter)"), "{plan}");
    let plan = session.explain("SELECT id FROM shop.posts WHERE type = 'album'").unwrap();
    assert!(plan.contains("only video, photo, text and livestream are sent"), "{plan}");
    let plan = session.explain("SELECT id FROM shop.tags").unwrap();
    assert!(plan.contains("Pancake Sent: nothing, the whole list is asked for"), "{plan}");
    shop.assert_no_violations().unwrap();
}

/// Every row that was there throughout comes once, while posts are published and withdrawn, and
/// customers write.
#[test]
fn lists_that_shift_while_they_are_read_lose_nothing() {
    let (shop, mut session) = open(3_000);
    let page = shop.simulator.first_page();
    let ids = |rows: &[Value]| {
        rows.iter().map(|row| text(&row["id"]).as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    for sql in [
        "SELECT id FROM shop.posts",
        "SELECT id FROM shop.customers",
        "SELECT id FROM shop.customers WHERE updated_at > '2020-01-01'",
    ] {
        let list = || if sql.contains("posts") { page.posts() } else { page.customers() };
        let before = ids(&list());
        for request in 1..40 {
            page.at_list_request(request, Event::Message(Target::Random));
            page.at_list_request(request, Event::Create("INBOX".to_owned()));
            page.at_list_request(
                request,
                if request % 2 == 0 { Event::Publish } else { Event::Unpublish(3) },
            );
        }
        let came = session.column(sql).unwrap();
        let once: BTreeSet<_> = came.iter().cloned().collect();
        assert_eq!(once.len(), came.len(), "{sql}: a row came twice");
        let after = ids(&list());
        let missing: Vec<_> = before.intersection(&after).filter(|id| !once.contains(*id)).collect();
        assert!(missing.is_empty(), "{sql}: {missing:?}");
        assert!(before != after, "{sql}: nothing moved");
        // What is left of the script would fall into the next query.
        session.execute("SELECT FROM shop.posts; SELECT FROM shop.customers").unwrap();
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn the_pages_of_a_user_come_in_both_shapes_and_without_their_tokens() {
    let pages = (0..20).map(PageSettings::numbered).map(|page| PageSettings { conversations: 2, ..page });
    let shop = Shop::open(Settings { pages: pages.collect(), ..Settings::default() }.as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    let error = session.error("SELECT id FROM shop.pages").unwrap();
    assert_eq!(
        (error.sqlstate.as_str(), error.message.contains("no access token")),
        ("28000", true),
        "{error}"
    );
    assert!(error.hint.unwrap().contains("OPTIONS (ADD access_token '…')"));
    let set = |session: &mut Session, verb: &str, token: &str| {
        let sql = format!(
            "ALTER USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS ({verb} access_token {})",
            literal(token)
        );
        session.execute(&sql).unwrap();
    };
    set(&mut session, "ADD", shop.simulator.user_token());
    shop.simulator.page(&shop.simulator.page_ids()[19]).deny(Some(Denial::Http403));
    // The list is a user's: it needs no page.
    session.execute("ALTER SERVER shop OPTIONS (DROP page_id)").unwrap();
    for form in [PagesForm::Categorized, PagesForm::Flat] {
        shop.simulator.switches(|switches| switches.pages_form = form);
        let rows = session.column("SELECT to_jsonb(p) FROM shop.pages p").unwrap();
        assert_eq!(rows.len(), 20);
        assert!(rows.iter().all(|row| !row.contains("SECRET") && !row.contains("settings")), "{rows:?}");
        let first = &session.rows("SELECT * FROM shop.pages ORDER BY id LIMIT 1").unwrap()[0];
        let first: Vec<_> = first.iter().take(6).map(|cell| cell.as_deref()).collect();
        assert_eq!(first[0], Some(PAGE));
        assert_eq!(first[2..], [Some("facebook"), None, Some("7"), Some("t")]);
        let activated = "SELECT count(*) FILTER (WHERE is_activated), count(*) FILTER (WHERE NOT is_activated) FROM shop.pages";
        assert_eq!(session.rows(activated).unwrap()[0], ["19", "1"].map(|cell| Some(cell.to_owned())));
    }
    session
        .execute(
            "CREATE FOREIGN TABLE peep (id text, whole jsonb OPTIONS (path ''), token text OPTIONS (path '/settings/page_access_token'),
                 nested text OPTIONS (path '/nested/access_token'), listed text OPTIONS (path '/nested/list/0/page_access_token'),
                 around jsonb OPTIONS (path '/nested'))
             SERVER shop OPTIONS (object 'pages')",
        )
        .unwrap();
    let peep = "SELECT count(token) + count(nested) + count(listed), count(*) FILTER (WHERE peep::text ~ 'SECRET'), min(around::text) FROM peep";
    let peeped = session.rows(peep).unwrap().remove(0);
    assert_eq!(peeped, ["0", "0", r#"{"list": [{"kept": 1}]}"#].map(|cell| Some(cell.to_owned())));
    set(&mut session, "SET", &shop.simulator.first_page().token());
    let error = session.error("SELECT id FROM shop.pages").unwrap();
    assert_eq!(
        (error.sqlstate.as_str(), error.message.as_str()),
        ("28000", "access token is not valid"),
        "{error}"
    );
    assert!(error.hint.unwrap().contains("access_token"));
    shop.assert_no_violations().unwrap();
}

/// The newest rows of a long list cost its first slices, in their order.
#[test]
fn the_newest_rows_cost_the_first_slices() {
    for settings in [Settings::of(2_400), Settings::of(2_400).as_seen()] {
        let (shop, mut session) = open_on(settings);
        for (table, rest) in [
            ("posts", ""),
            ("customers", ""),
            ("customers", "WHERE gender = 'male'"),
            ("customers", "WHERE inserted_at < now() - interval '40 days'"),
            ("posts", "WHERE inserted_at BETWEEN now() - interval '70 days' AND now() - interval '5 days'"),
        ] {
            let newest = |from: &str| {
                format!("SELECT inserted_at FROM {from} {rest} ORDER BY inserted_at DESC LIMIT 9")
            };
            let truth = session
                .column(&format!("WITH t AS MATERIALIZED (TABLE shop.{table}) {}", newest("t")))
                .unwrap();
            let query = newest(&format!("shop.{table}"));
            let (rows, log) = shop.watch(|| session.column(&query).unwrap());
            assert_eq!(rows, truth, "{query}");
            assert_eq!(rows.len(), 9, "{query}");
            assert!(log.len() <= 6, "{query}: {} requests", log.len());
        }
        // Slices by updated_at go up.
        let plan = session.explain("SELECT FROM shop.customers ORDER BY updated_at DESC LIMIT 9").unwrap();
        assert!(plan.contains("Sort"), "{plan}");
        shop.assert_no_violations().unwrap();
    }
}

/// After ANALYZE, and once the page is known to refuse windows of a month, a bound that is no
/// constant still decides by which time a list is walked.
#[test]
fn a_relative_bound_is_estimated() {
    let (shop, mut session) = open(2_400);
    session.execute("SELECT FROM shop.customers; ANALYZE shop.customers").unwrap();
    let query = "SELECT FROM shop.customers WHERE updated_at > now() - interval '1 day'";
    let plan = session.explain(query).unwrap();
    assert!(plan.contains("Pancake Sent: order_by=updated_at, since="), "{plan}");
    assert!(
        plan.contains("Pancake Estimate: 1 request,") || plan.contains("Estimate: 2 requests,"),
        "{plan}"
    );
    let ((), log) = shop.watch(|| session.execute(query).unwrap());
    assert!(log.len() <= 4, "{} requests", log.len());
}
