//! Whether the answer is the answer: every row of the page, once, each cell as an independent
//! reading of the served JSON has it. Filters are left to `pushdown`, pages that move to `moving`.

use std::collections::{BTreeMap, BTreeSet};

use e2e::{ONE_CHAIN, Session, Shop};
use pancake_simulator::{CursorReading, PageSettings, Settings, Shape};
use serde_json::{Value, json};

const PAGE: &str = "100000000000001";

/// All rows as Postgres shows them, by id; a row that comes twice is the failure.
fn shown(session: &mut Session, sql: &str) -> BTreeMap<String, Value> {
    let mut rows = BTreeMap::new();
    for text in session.column(sql).unwrap() {
        let row: Value = serde_json::from_str(&text).unwrap();
        let id = row["id"].as_str().unwrap().to_owned();
        assert!(rows.insert(id.clone(), row).is_none(), "{id} came twice");
    }
    rows
}

fn served(shop: &Shop) -> BTreeMap<String, Value> {
    let rows = shop.simulator.first_page().conversations();
    rows.into_iter().map(|row| (row["id"].as_str().unwrap().to_owned(), row)).collect()
}

/// A served time (naive or Zulu, always UTC) as jsonb writes it in a session of zone UTC.
fn utc(time: &Value) -> Value {
    let text = time.as_str().unwrap().trim_end_matches('Z');
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
    json!(format!("{text}+00:00"))
}

/// The same as last_message writes it.
fn zulu(time: &Value) -> Value {
    json!(utc(time).as_str().unwrap().replace("+00:00", "Z"))
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// A row of the recorded shape, read by hand.
fn observed(row: &Value) -> Value {
    let tags: Vec<Value> = list(&row["tags"]).into_iter().filter(|tag| !tag.is_null()).collect();
    let phones: Vec<Value> = list(&row["recent_phone_numbers"])
        .iter()
        .map(|phone| if phone.is_string() { phone.clone() } else { phone["phone_number"].clone() })
        .collect();
    let sender = &row["last_sent_by"];
    let people: Vec<Value> = list(&row["customers"])
        .iter()
        .enumerate()
        .map(|(i, one)| {
            let email = row["from"]["email"].clone();
            json!({"name": one["name"], "email": email, "phone": phones.get(i)})
        })
        .collect();
    json!({
        "id": row["id"], "page_id": PAGE, "type": row["type"], "post_id": row["post_id"],
        "customer_id": row["customer_id"], "customer_name": row["page_customer"]["name"],
        "phone_numbers": phones,
        "tags": tags.iter().map(|tag| tag["id"].to_string()).collect::<Vec<_>>(),
        "tag_names": tags.iter().map(|tag| tag["text"].clone()).collect::<Vec<_>>(),
        "ad_ids": list(&row["ad_ids"]), "assignee_ids": list(&row["assignee_ids"]),
        "snippet": row["snippet"], "seen": row["seen"], "has_phone": row["has_phone"],
        "message_count": row["message_count"],
        "last_sent_by_id": sender["id"], "last_sent_by_name": sender["name"],
        "last_staff_id": sender["uid"], "last_staff_name": sender["admin_name"],
        "inserted_at": utc(&row["inserted_at"]), "updated_at": utc(&row["updated_at"]),
        "last_message": {
            "text": row["snippet"], "created_at": zulu(&row["updated_at"]),
            "sender": if sender["id"] == json!(PAGE) { "page" } else { "customer" },
        },
        "participants": people,
        "raw": row,
    })
}

/// A row of the article's shape, read by hand.
fn article(row: &Value) -> Value {
    let tags = list(&row["tags"]);
    let first = &row["participants"][0];
    let phone: Vec<Value> = [&first["phone"]].into_iter().filter(|phone| !phone.is_null()).cloned().collect();
    json!({
        "id": row["id"], "page_id": PAGE, "type": row["type"], "post_id": null,
        "customer_id": null, "customer_name": first["name"], "phone_numbers": phone,
        "tag_names": tags.iter().map(|_| Value::Null).collect::<Vec<_>>(), "tags": tags,
        "ad_ids": [], "assignee_ids": [],
        "snippet": row["last_message"]["text"], "seen": null, "has_phone": null, "message_count": null,
        "last_sent_by_id": null, "last_sent_by_name": null, "last_staff_id": null, "last_staff_name": null,
        "inserted_at": utc(&row["inserted_at"]), "updated_at": utc(&row["updated_at"]),
        "last_message": row["last_message"], "participants": row["participants"], "raw": row,
    })
}

/// Compares cell by cell, so that a failure names the cell.
fn same(shown: &BTreeMap<String, Value>, served: &BTreeMap<String, Value>, read: fn(&Value) -> Value) {
    let ids = |rows: &BTreeMap<String, Value>| rows.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(ids(shown), ids(served));
    for (id, row) in served {
        let (expected, found) = (read(row), &shown[id]);
        let columns: BTreeSet<_> = expected.as_object().unwrap().keys().collect();
        assert_eq!(columns, found.as_object().unwrap().keys().collect::<BTreeSet<_>>(), "columns of {id}");
        for column in columns {
            assert_eq!(found[column], expected[column], "{column} of {row}");
        }
    }
}

fn all_columns(settings: Settings, read: fn(&Value) -> Value) {
    let shop = Shop::open_with(settings.as_seen(), &[ONE_CHAIN]).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("SET TimeZone = 'UTC'").unwrap();
    let truth = served(&shop);
    let rows = truth.len();
    let whole = |session: &mut Session| shown(session, "SELECT to_jsonb(c) FROM shop.conversations c");

    let (answer, log) = shop.watch(|| whole(&mut session));
    same(&answer, &truth, read);
    // Neighbouring batches overlap by a row, and the end is proven.
    assert!(log.len() <= rows.div_ceil(59) + 3, "{} requests for {rows} rows", log.len());

    assert_eq!(session.one("SELECT count(*) FROM shop.conversations").unwrap(), rows.to_string());
    let mut ids = session.column("SELECT id FROM shop.conversations").unwrap();
    ids.sort();
    assert_eq!(ids, truth.keys().cloned().collect::<Vec<_>>());
    // raw, by Postgres's own equality of jsonb.
    session.execute("CREATE TABLE truth(id text PRIMARY KEY, raw jsonb)").unwrap();
    for (id, row) in truth.iter().take(200) {
        let insert = session.client().execute(
            "INSERT INTO truth VALUES ($1, ($2::text)::jsonb)",
            &[&id.as_str(), &row.to_string().as_str()],
        );
        insert.unwrap();
    }
    let equal = "SELECT count(*) FROM truth JOIN shop.conversations c USING (id) WHERE truth.raw = c.raw";
    assert_eq!(session.one(equal).unwrap(), truth.len().min(200).to_string());
    shop.assert_no_violations().unwrap();
}

#[test]
fn three_thousand_observed_rows_come_unchanged() {
    all_columns(Settings::of(3_000), observed);
}

#[test]
fn rows_of_the_article_come_unchanged() {
    let page = PageSettings { shape: Shape::Article, conversations: 500, ..PageSettings::default() };
    all_columns(Settings { pages: vec![page], ..Settings::default() }, article);
}

#[test]
fn both_shapes_answer_the_same_query() {
    let shape = |ordinal, shape| PageSettings { shape, conversations: 90, ..PageSettings::numbered(ordinal) };
    let pages = vec![shape(0, Shape::Observed), shape(1, Shape::Article)];
    // A frozen row does not show the time of its last message.
    let shop = Shop::open_with(Settings { pages, ..Settings::default() }, &[ONE_CHAIN]).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("SET TimeZone = 'Asia/Ho_Chi_Minh'").unwrap();
    for schema in ["shop", "shop2"] {
        let sql = format!(
            "SELECT count(*) FILTER (WHERE last_message ->> 'text' <> ''
                                       AND last_message ->> 'sender' IN ('page', 'customer')
                                       AND last_message ->> 'created_at' LIKE '____-__-__T__:__:__%Z'
                                       AND (last_message ->> 'created_at')::timestamptz = updated_at),
                    count(*) FILTER (WHERE participants -> 0 ->> 'name' = customer_name
                                       AND participants -> 0 ? 'email'
                                       AND (participants -> 0 ->> 'phone' = phone_numbers[1]
                                            OR participants -> 0 ->> 'phone' IS NULL AND phone_numbers = '{{}}')),
                    count(*) FILTER (WHERE snippet = last_message ->> 'text')
             FROM {schema}.conversations"
        );
        let row = session.rows(&sql).unwrap().remove(0);
        assert_eq!(row, vec![Some("90".to_owned()); 3], "{schema}");
    }
    assert_eq!(
        session.column("SELECT DISTINCT page_id FROM shop2.conversations").unwrap(),
        ["100000000000002"]
    );
}

#[test]
fn pages_of_every_size_come_whole() {
    let shop = Shop::open_with(Settings::of(181).as_seen(), &[ONE_CHAIN]).unwrap();
    let page = shop.simulator.first_page();
    let rows = page.conversations();
    let mut session = shop.connect().unwrap();
    for cursor in [CursorReading::AfterRow, CursorReading::StrictlyBelow] {
        shop.simulator.switches(|switches| switches.cursor = cursor);
        for size in [0, 1, 2, 58, 59, 60, 61, 62, 118, 119, 120, 121, 180] {
            page.replace_rows(rows[..size].to_vec());
            let mut expected = page.ids();
            expected.sort();
            for clause in ["", "WHERE updated_at > 'epoch'", "WHERE inserted_at < now() + interval '1 day'"] {
                let sql = format!("SELECT id FROM shop.conversations {clause} ORDER BY id COLLATE \"C\"");
                let (ids, log) = shop.watch(|| session.column(&sql).unwrap());
                assert_eq!(ids, expected, "{size} rows, {cursor:?}, {clause}");
                // A walk by updated_at also looks at the head again.
                let most = size.div_ceil(59) + 4;
                let looks = clause.contains("updated_at");
                assert!(looks || log.len() <= most, "{size} rows cost {} requests", log.len());
            }
        }
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn the_time_zone_changes_only_what_is_shown() {
    let shop = Shop::open(Settings::of(70).as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    let facts =
        "SELECT id, extract(epoch FROM inserted_at), extract(epoch FROM updated_at), last_message, raw
                 FROM shop.conversations ORDER BY id";
    session.execute("SET TimeZone = 'UTC'").unwrap();
    let utc = session.rows(facts).unwrap();
    let shown_in_utc = session.column("SELECT updated_at FROM shop.conversations ORDER BY id").unwrap();
    session.execute("SET TimeZone = 'Asia/Ho_Chi_Minh'").unwrap();
    assert_eq!(session.rows(facts).unwrap(), utc);
    let shown = session.column("SELECT updated_at FROM shop.conversations ORDER BY id").unwrap();
    assert!(shown.iter().all(|time| time.ends_with("+07")), "{shown:?}");
    assert!(shown_in_utc.iter().all(|time| time.ends_with("+00")), "{shown_in_utc:?}");
    // DateStyle neither.
    session.execute("SET TimeZone = 'America/New_York'; SET DateStyle = 'German, DMY'").unwrap();
    assert_eq!(session.rows(facts).unwrap(), utc);
}

/// Rows as they may come tomorrow: keys missing, null, of other types, and text that Postgres
/// cannot hold.
#[test]
fn odd_rows_are_read() {
    let shop = Shop::open(Settings::of(0).as_seen()).unwrap();
    let page = shop.simulator.first_page();
    page.replace_rows(vec![
        json!({"id": "bare", "inserted_at": "2026-03-30T02:11:05", "updated_at": "2026-03-30T02:11:05.5Z"}),
        json!({"id": "nulls", "inserted_at": "2026-03-30T09:11:05+07:00", "updated_at": "2026-03-30T02:11:04",
               "type": null, "post_id": null, "tags": null, "ad_ids": null, "assignee_ids": null,
               "recent_phone_numbers": null, "customers": null, "page_customer": null, "from": null,
               "last_sent_by": null, "snippet": null, "seen": null, "has_phone": null, "message_count": null}),
        json!({"id": "mixed", "inserted_at": "2026-03-30T02:11:03.1", "updated_at": "2026-03-30T02:11:03.123456",
               "type": "NEW_TYPE", "tags": [61, "62", null, {"id": "63", "text": "Đang giao"}, {"id": 64}],
               "recent_phone_numbers": ["0901", {"phone_number": "0902"}], "ad_ids": ["1", null, 2],
               "snippet": "a\u{0}b \\u0000 \"c\" {d}, é🌸", "seen": true, "customer_id": 7,
               "last_sent_by": {"id": PAGE, "name": "Shop"}, "brand_new": {"key": [1.50, 1e3]}}),
    ]);
    let mut session = shop.connect().unwrap();
    session.execute("SET TimeZone = 'UTC'").unwrap();
    let rows = shown(&mut session, "SELECT to_jsonb(c) FROM shop.conversations c");
    assert_eq!(rows.len(), 3);
    let empty = json!([]);
    for id in ["bare", "nulls"] {
        for column in ["phone_numbers", "tags", "tag_names", "ad_ids", "assignee_ids"] {
            assert_eq!(rows[id][column], empty, "{column} of {id}");
        }
        for column in ["type", "customer_id", "customer_name", "snippet", "seen", "message_count", "post_id"]
        {
            assert_eq!(rows[id][column], Value::Null, "{column} of {id}");
        }
    }
    assert_eq!(rows["bare"]["updated_at"], "2026-03-30T02:11:05.5+00:00");
    assert_eq!(rows["nulls"]["inserted_at"], "2026-03-30T02:11:05+00:00");
    let mixed = &rows["mixed"];
    assert_eq!(mixed["type"], "NEW_TYPE");
    assert_eq!(mixed["tags"], json!(["61", "62", "63", "64"]));
    assert_eq!(mixed["tag_names"], json!([null, null, "Đang giao", null]));
    assert_eq!(mixed["phone_numbers"], json!(["0901", "0902"]));
    assert_eq!(mixed["ad_ids"], json!(["1", "2"]));
    assert_eq!(mixed["snippet"], "a\u{fffd}b \\u0000 \"c\" {d}, é🌸");
    assert_eq!(mixed["customer_id"], "7");
    assert_eq!(mixed["last_message"]["sender"], "page");
    assert_eq!(mixed["last_message"]["created_at"], "2026-03-30T02:11:03.123456Z");
    assert_eq!(mixed["raw"]["brand_new"], json!({"key": [1.5, 1000.0]}));
    assert_eq!(mixed["raw"]["snippet"], "a\u{fffd}b \\u0000 \"c\" {d}, é🌸");
    // Columns that no query asks for cost nothing, not even their own malformed values.
    page.replace_rows(vec![
        json!({"id": "x", "inserted_at": "2026-03-30T02:11:05", "updated_at": "soon", "message_count": "many"}),
    ]);
    assert_eq!(session.one("SELECT id FROM shop.conversations").unwrap(), "x");
    for column in ["updated_at", "message_count"] {
        let error = session.error(&format!("SELECT {column} FROM shop.conversations")).unwrap();
        assert_eq!(error.sqlstate, "HV004", "{error}");
        let told = format!("{error}");
        assert!(told.contains(column) && told.contains("\"x\""), "{told}");
    }
}
