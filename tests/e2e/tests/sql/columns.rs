//! Whether a table may look as its user likes: fewer columns, other names, types and places in the
//! row. What documented columns hold is left to `answers`, clauses on them to `pushdown`.

use e2e::{Session, Shop, SqlError};
use pancake_simulator::Settings;
use serde_json::json;

fn open(rows: usize) -> (Shop<'static>, Session) {
    let shop = Shop::open(Settings::of(rows).as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("SET TimeZone = 'UTC'; CREATE TABLE copy AS SELECT * FROM shop.conversations").unwrap();
    (shop, session)
}

fn table(session: &mut Session, name: &str, columns: &str) {
    let sql = format!("CREATE FOREIGN TABLE {name} ({columns}) SERVER shop OPTIONS (object 'conversations')");
    session.execute(&sql).unwrap();
}

/// The rows of two queries are the same.
fn agree(session: &mut Session, foreign: &str, local: &str) {
    let mut ours = session.rows(foreign).unwrap();
    let mut theirs = session.rows(local).unwrap();
    ours.sort();
    theirs.sort();
    assert!(!theirs.is_empty(), "{local}");
    assert_eq!(ours, theirs, "{foreign}");
}

#[test]
fn fewer_columns_in_another_order_with_other_names() {
    let (shop, mut session) = open(70);
    table(
        &mut session,
        "mine",
        "updated_at timestamptz, ma text OPTIONS (path '/id'), tags text[], seen boolean,
         gioi_tinh text OPTIONS (path '/page_customer/gender'), first_tag integer OPTIONS (path '/tags/0/id')",
    );
    agree(
        &mut session,
        "SELECT * FROM mine",
        "SELECT updated_at, id, tags, seen, raw #>> '{page_customer,gender}', (raw #>> '{tags,0,id}')::int FROM copy",
    );
    // A documented name with a path is read from there, and is no filter any more.
    table(&mut session, "crossed", "id text, type text OPTIONS (path '/page_customer/gender')");
    let (rows, log) =
        shop.watch(|| session.column("SELECT id FROM crossed WHERE type = 'female' ORDER BY id").unwrap());
    let same = "SELECT id FROM copy WHERE raw #>> '{page_customer,gender}' = 'female' ORDER BY id";
    assert_eq!(rows, session.column(same).unwrap());
    assert!(log.iter().all(|entry| entry.param("type").is_none()));
    // The whole row, and a key with a slash in it, by their pointers.
    table(
        &mut session,
        "pointers",
        "id text, all_of_it jsonb OPTIONS (path ''), none text OPTIONS (path '/a~1b/c')",
    );
    agree(&mut session, "SELECT * FROM pointers", "SELECT id, raw, NULL FROM copy");
    shop.assert_no_violations().unwrap();
}

#[test]
fn a_column_that_nobody_documents_needs_a_path() {
    let (_shop, mut session) = open(1);
    table(&mut session, "typo", "id text, costumer_name text");
    assert_eq!(session.one("SELECT count(id) FROM typo").unwrap(), "1");
    let error = session.error("SELECT * FROM typo").unwrap();
    assert!(error.message.contains("costumer_name"), "{error}");
    assert!(error.hint.as_ref().unwrap().contains("\"customer_name\""), "{error}");
    assert!(error.hint.as_ref().unwrap().contains("path"), "{error}");
}

#[test]
fn a_path_reads_any_type() {
    let (shop, mut session) = open(0);
    session.execute("CREATE TYPE mood AS ENUM ('happy', 'sad'); CREATE DOMAIN percent AS numeric CHECK (VALUE <= 100)").unwrap();
    shop.simulator.first_page().replace_rows(vec![
        json!({"id": "full", "inserted_at": "2026-03-30T02:11:05", "updated_at": "2026-03-30T02:11:05",
               "x": {"text": "é \"q\"", "int": 42, "big": 12345678901_i64, "num": 1.5e3, "exact": 0.1, "yes": true,
                     "no": "f", "obj": {"a": [1, null]}, "list": ["a b", null, "c,\"d\"", "", "NULL", 7], "uuid": "A0EEBC999C0B4EF8BB6D6BB9BD380A11",
                     "mood": "sad", "pc": 99.5, "ints": [1, 2, null], "when": "2026-03-30T02:11:05.25", "money": "12.345",
                     "bytes": "\\x00ff", "deep": [[1], [2]], "interval": "PT1H30M", "ip": "10.0.0.1"}}),
        json!({"id": "none", "inserted_at": "2026-03-30T02:11:04", "updated_at": "2026-03-30T02:11:04", "x": {"text": null}}),
        json!({"id": "scalar", "inserted_at": "2026-03-30T02:11:03", "updated_at": "2026-03-30T02:11:03", "x": 3}),
    ]);
    let columns = [
        ("text text", "/x/text", "'é \"q\"'"),
        ("whole text", "/x/obj", "'{\"a\":[1,null]}'"),
        ("num_text text", "/x/exact", "'0.1'"),
        ("int integer", "/x/int", "42"),
        ("small smallint", "/x/int", "42"),
        ("big bigint", "/x/big", "12345678901"),
        ("num numeric", "/x/num", "1500.0"),
        ("exact numeric(4,2)", "/x/exact", "0.10"),
        ("float double precision", "/x/num", "1500"),
        ("yes boolean", "/x/yes", "true"),
        ("no boolean", "/x/no", "false"),
        ("obj jsonb", "/x/obj", "'{\"a\": [1, null]}'::jsonb"),
        ("str jsonb", "/x/text", "to_jsonb('é \"q\"'::text)"),
        ("n json", "/x/int", "42"),
        ("list text[]", "/x/list", "ARRAY['a b', NULL, 'c,\"d\"', '', 'NULL', '7']"),
        ("ints integer[]", "/x/ints", "ARRAY[1, 2, NULL]"),
        ("uid uuid", "/x/uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid"),
        ("mood mood", "/x/mood", "'sad'::mood"),
        ("pc percent", "/x/pc", "99.5"),
        ("money numeric(5,1)", "/x/money", "12.3"),
        ("bytes bytea", "/x/bytes", "'\\x00ff'::bytea"),
        ("span interval", "/x/interval", "'01:30'::interval"),
        ("ip inet", "/x/ip", "'10.0.0.1'::inet"),
        ("third text", "/x/list/2", "'c,\"d\"'"),
    ];
    let declared: Vec<_> =
        columns.iter().map(|(column, path, _)| format!("{column} OPTIONS (path '{path}')")).collect();
    table(&mut session, "typed", &format!("id text, {}", declared.join(", ")));
    let name = |column: &str| column.split(' ').next().unwrap().to_owned();
    for (column, path, expected) in columns {
        let column = name(column);
        let sql = format!(
            "SELECT id, {column} IS NULL OR {column}::text = ({expected})::text, {column} IS NULL FROM typed ORDER BY id"
        );
        let rows = session.rows(&sql).unwrap_or_else(|error| panic!("{column} ({path}): {error:#}"));
        let cells: Vec<Vec<&str>> =
            rows.iter().map(|row| row.iter().map(|cell| cell.as_deref().unwrap_or("∅")).collect()).collect();
        assert_eq!(
            cells,
            [["full", "t", "f"], ["none", "t", "t"], ["scalar", "t", "t"]],
            "{column} ({path}) is not {expected} but {:?}",
            session.column(&format!("SELECT {column} FROM typed ORDER BY id"))
        );
    }
    // All at once as well.
    assert_eq!(session.rows("SELECT * FROM typed").unwrap().len(), 3);
    // The error of what does not fit names the place and the reason.
    for (kind, path) in
        [("integer", "/x/text"), ("mood", "/x/text"), ("percent", "/x/int0"), ("boolean", "/x/obj")]
    {
        table(
            &mut session,
            "wrong",
            &format!("id text, cell {kind} OPTIONS (path '{}')", path.trim_end_matches('0')),
        );
        match session.rows("SELECT * FROM wrong WHERE id = 'full'") {
            Ok(_) => assert_eq!(kind, "percent"),
            Err(error) => {
                let error = SqlError::of(&error).unwrap().clone();
                assert_eq!(error.sqlstate, "HV004", "{error}");
                let detail = error.detail.as_ref().unwrap();
                assert!(error.message.contains("\"cell\""), "{error}");
                assert!(detail.contains("\"full\"") && detail.contains(kind), "{error}");
            }
        }
        session.execute("DROP FOREIGN TABLE wrong").unwrap();
    }
}

/// 02:11 without a zone is 02:11 UTC, whatever the type and the session's zone.
#[test]
fn a_naive_time_is_utc_in_any_session() {
    let (shop, mut session) = open(0);
    session.execute("CREATE DOMAIN moment AS timestamptz; CREATE DOMAIN moment3 AS timestamptz(3)").unwrap();
    shop.simulator.first_page().replace_rows(vec![json!({
        "id": "a", "inserted_at": "2026-03-30T22:11:05", "updated_at": "2026-03-30T22:11:05.5",
        "at": {"naive": "2026-03-30T22:11:05.5", "space": "2026-03-30 22:11:05.5", "zulu": "2026-03-30T22:11:05.5Z",
               "east": "2026-03-31T05:11:05.5+07:00", "day": "2026-03-30", "minute": "2026-03-30T22:11",
               "clock": "22:11:05.5", "list": ["2026-03-30T22:11:05.5", null], "far": "infinity"}
    })]);
    let exact = "'2026-03-30 22:11:05.5Z'::timestamptz";
    let cases = [
        ("timestamptz", "naive", exact),
        ("timestamptz", "space", exact),
        ("timestamptz", "zulu", exact),
        ("timestamptz", "east", exact),
        ("timestamptz(0)", "naive", "'2026-03-30 22:11:06Z'::timestamptz"),
        ("moment", "naive", exact),
        ("moment3", "space", exact),
        ("timestamptz", "day", "'2026-03-30 00:00Z'::timestamptz"),
        ("timestamptz", "minute", "'2026-03-30 22:11Z'::timestamptz"),
        ("timestamptz", "far", "'infinity'::timestamptz"),
        ("timestamptz[]", "list", "ARRAY['2026-03-30 22:11:05.5Z', NULL]::timestamptz[]"),
        ("timestamp", "naive", "'2026-03-30 22:11:05.5'::timestamp"),
        ("timestamp", "zulu", "'2026-03-30 22:11:05.5'::timestamp"),
        ("timestamp", "east", "'2026-03-30 22:11:05.5'::timestamp"),
        ("timestamp(0)", "east", "'2026-03-30 22:11:06'::timestamp"),
        ("timestamp", "day", "'2026-03-30'::timestamp"),
        ("date", "naive", "'2026-03-30'::date"),
        ("date", "east", "'2026-03-30'::date"),
        ("date", "day", "'2026-03-30'::date"),
        ("time", "clock", "'22:11:05.5'::time"),
        ("timetz", "clock", "'22:11:05.5Z'::timetz"),
    ];
    let columns: Vec<_> = cases
        .iter()
        .enumerate()
        .map(|(i, (kind, key, _))| format!("c{i} {kind} OPTIONS (path '/at/{key}')"))
        .collect();
    table(&mut session, "times", &columns.join(", "));
    for zone in ["UTC", "Asia/Ho_Chi_Minh", "America/New_York"] {
        session.execute(&format!("SET TimeZone = '{zone}'")).unwrap();
        for (i, (kind, key, expected)) in cases.iter().enumerate() {
            let right = session.one(&format!("SELECT c{i} = {expected} FROM times")).unwrap();
            let shown = session.one(&format!("SELECT c{i} FROM times")).unwrap();
            assert_eq!(right, "t", "{kind} of {key} in {zone} is {shown}, not {expected}");
        }
        // The session keeps its zone, also when a cell does not fit.
        assert_eq!(session.one("SHOW TimeZone").unwrap(), zone);
        assert_eq!(
            session.one("SELECT '2026-03-30 12:00'::timestamptz = '2026-03-30 12:00Z'").unwrap(),
            if zone == "UTC" { "t" } else { "f" }
        );
    }
}

#[test]
fn documented_columns_may_have_other_types() {
    let (shop, mut session) = open(130);
    table(
        &mut session,
        "other",
        "id varchar, tags jsonb, tag_names varchar[], message_count bigint, seen text, inserted_at timestamp, updated_at date,
         phone_numbers text, has_phone integer, last_message json, raw text",
    );
    let error = session.error("SELECT has_phone FROM other").unwrap();
    assert_eq!(error.sqlstate, "HV004", "{error}");
    assert!(error.detail.as_ref().unwrap().contains("integer"), "{error}");
    session.execute("SET TimeZone = 'Asia/Ho_Chi_Minh'").unwrap();
    agree(
        &mut session,
        "SELECT id, tags, tag_names, message_count, seen, inserted_at, updated_at, phone_numbers::text[], last_message::jsonb, raw::jsonb FROM other",
        "SELECT id, to_jsonb(tags), tag_names, message_count, seen::text, inserted_at AT TIME ZONE 'UTC', (updated_at AT TIME ZONE 'UTC')::date,
                phone_numbers, last_message, raw FROM copy",
    );
    // Clauses on columns of other types are Postgres's matter.
    for (ours, theirs) in [
        ("seen = 'true'", "seen"),
        ("message_count > 10", "message_count > 10"),
        ("tags ? '61'", "'61' = ANY(tags)"),
        (
            "updated_at = (SELECT max(updated_at) FROM other)",
            "(updated_at AT TIME ZONE 'UTC')::date = (SELECT max(updated_at AT TIME ZONE 'UTC')::date FROM copy)",
        ),
        (
            "inserted_at < now() AT TIME ZONE 'UTC' - interval '3 days'",
            "inserted_at < now() - interval '3 days'",
        ),
    ] {
        agree(
            &mut session,
            &format!("SELECT id FROM other WHERE {ours}"),
            &format!("SELECT id FROM copy WHERE {theirs}"),
        );
    }
    table(&mut session, "texts", "id text, inserted_at text, updated_at text, message_count text, tags text");
    agree(
        &mut session,
        "SELECT id, inserted_at::timestamptz, updated_at::timestamptz, message_count::int, tags::text[], inserted_at LIKE '%Z' FROM texts",
        "SELECT id, inserted_at, updated_at, message_count, tags, true FROM copy",
    );
    // As Postgres does it: too long is an error, unless only blanks are lost.
    table(&mut session, "short", "id text, type varchar(3)");
    let error = session.error("SELECT * FROM short").unwrap();
    assert_eq!(error.sqlstate, "HV004", "{error}");
    assert!(error.detail.as_ref().unwrap().contains("character varying(3)"), "{error}");
    table(&mut session, "long", "id text, type varchar(40), snippet char(300)");
    agree(
        &mut session,
        "SELECT id, type FROM long WHERE type = 'INBOX'",
        "SELECT id, type FROM copy WHERE type = 'INBOX'",
    );
    shop.assert_no_violations().unwrap();
}

/// A time that is rounded on its way into its column can match where its served value does not.
#[test]
fn rounded_times_are_compared_as_they_are_shown() {
    let (shop, mut session) = open(0);
    let row =
        |id: &str, time: &str| json!({"id": id, "type": "INBOX", "inserted_at": time, "updated_at": time});
    shop.simulator.first_page().replace_rows(vec![
        row("c", "2026-03-30T02:11:06.400000"),
        row("b", "2026-03-30T02:11:05.700000"),
        row("a", "2026-03-30T02:11:05.200000"),
    ]);
    for kind in ["timestamptz(0)", "timestamp(0)"] {
        table(&mut session, "rounded", &format!("id text, updated_at {kind}, inserted_at {kind}"));
        for column in ["updated_at", "inserted_at"] {
            for (clause, expected) in [
                (">= '2026-03-30 02:11:06+00'", "b,c"),
                ("= '2026-03-30 02:11:06+00'", "b,c"),
                ("<= '2026-03-30 02:11:05+00'", "a"),
                ("< '2026-03-30 02:11:05.4+00'", "a"),
                ("> '2026-03-30 02:11:05.9+00'", "b,c"),
            ] {
                let sql =
                    format!("SELECT string_agg(id, ',' ORDER BY id) FROM rounded WHERE {column} {clause}");
                assert_eq!(session.one(&sql).unwrap(), expected, "{kind}: {column} {clause}");
            }
        }
        session.execute("DROP FOREIGN TABLE rounded").unwrap();
    }
}

#[test]
fn columns_come_and_go() {
    let (_shop, mut session) = open(75);
    session.execute("CREATE VIEW before AS SELECT id, type, tags FROM shop.conversations").unwrap();
    session.execute("PREPARE narrow AS SELECT id, updated_at FROM shop.conversations").unwrap();
    session.execute("EXECUTE narrow").unwrap();
    session
        .execute(
            "ALTER FOREIGN TABLE shop.conversations DROP COLUMN page_id, DROP COLUMN snippet, DROP COLUMN raw,
                 ADD COLUMN gender text OPTIONS (path '/page_customer/gender'), ADD COLUMN raw jsonb",
        )
        .unwrap();
    agree(&mut session, "SELECT * FROM before", "SELECT id, type, tags FROM copy");
    agree(&mut session, "EXECUTE narrow", "SELECT id, updated_at FROM copy");
    agree(
        &mut session,
        "SELECT gender, raw, message_count, id FROM shop.conversations",
        "SELECT raw #>> '{page_customer,gender}', raw, message_count, id FROM copy",
    );
    // The whole row, dropped columns and all.
    agree(
        &mut session,
        "SELECT to_jsonb(c) - 'gender' FROM shop.conversations c",
        "SELECT to_jsonb(c) - '{page_id,snippet}'::text[] FROM copy c",
    );
    session.execute("ALTER FOREIGN TABLE shop.conversations RENAME COLUMN gender TO sex").unwrap();
    agree(
        &mut session,
        "SELECT sex, id FROM shop.conversations",
        "SELECT raw #>> '{page_customer,gender}', id FROM copy",
    );
    session
        .execute("ALTER FOREIGN TABLE shop.conversations ALTER COLUMN sex OPTIONS (SET path '/snippet')")
        .unwrap();
    agree(&mut session, "SELECT sex FROM shop.conversations", "SELECT snippet FROM copy");
    session.execute("ALTER FOREIGN TABLE shop.conversations ALTER COLUMN message_count TYPE text").unwrap();
    agree(&mut session, "SELECT message_count FROM shop.conversations", "SELECT message_count FROM copy");
}

#[test]
fn whole_rows_and_system_columns() {
    let (shop, mut session) = open(70);
    agree(&mut session, "SELECT c FROM shop.conversations c", "SELECT c FROM copy c");
    agree(
        &mut session,
        "SELECT row_to_json(c)::jsonb FROM shop.conversations c WHERE c.type = 'INBOX'",
        "SELECT row_to_json(c)::jsonb FROM copy c WHERE type = 'INBOX'",
    );
    agree(
        &mut session,
        "SELECT (array_agg(c ORDER BY id))[3].snippet FROM shop.conversations c",
        "SELECT (array_agg(c ORDER BY id))[3].snippet FROM copy c",
    );
    agree(
        &mut session,
        "SELECT DISTINCT c IS NOT NULL FROM (SELECT id, tags FROM shop.conversations) c",
        "SELECT true",
    );
    assert_eq!(
        session.column("SELECT DISTINCT tableoid::regclass FROM shop.conversations").unwrap(),
        ["shop.conversations"]
    );
    agree(
        &mut session,
        "SELECT id FROM shop.conversations WHERE tableoid = 'shop.conversations'::regclass",
        "SELECT id FROM copy",
    );
    // There is nothing to show, but no harm either: an answer or an error of Postgres.
    for column in ["ctid", "xmin", "cmax"] {
        if let Err(error) = session.rows(&format!("SELECT {column} FROM shop.conversations")) {
            assert_eq!(SqlError::of(&error).unwrap().sqlstate, "0A000", "{error:#}");
        }
    }
    // No column at all.
    assert_eq!(session.rows("SELECT FROM shop.conversations").unwrap().len(), 70);
    assert_eq!(session.one("SELECT count(*) FROM (SELECT 1 FROM shop.conversations) one").unwrap(), "70");
    shop.assert_no_violations().unwrap();
}

#[test]
fn arrays_are_never_null_and_constraints_are_taken_at_their_word() {
    let (shop, mut session) = open(0);
    shop.simulator.first_page().replace_rows(vec![
        json!({"id": "bare", "inserted_at": "2026-03-30T02:11:05", "updated_at": "2026-03-30T02:11:05"}),
    ]);
    let not_null = "SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute
                    WHERE attrelid = 'shop.conversations'::regclass AND attnotnull AND attnum > 0";
    assert_eq!(
        session.one(not_null).unwrap(),
        "id,page_id,phone_numbers,tags,tag_names,ad_ids,assignee_ids,inserted_at,updated_at"
    );
    let sql = "SELECT phone_numbers, tags, tag_names, ad_ids, assignee_ids FROM shop.conversations";
    assert_eq!(session.rows(sql).unwrap(), [vec![Some("{}".to_owned()); 5]]);
    assert_eq!(
        session
            .one("SELECT id FROM shop.conversations WHERE tags = '{}' AND cardinality(tag_names) = 0")
            .unwrap(),
        "bare"
    );
    table(
        &mut session,
        "mine",
        "id text NOT NULL, tags text[], ad_ids jsonb, x text OPTIONS (path '/id') GENERATED ALWAYS AS (id || '!') STORED",
    );
    assert_eq!(
        session.rows("SELECT tags, ad_ids, x FROM mine").unwrap(),
        [["{}", "[]", "bare"].map(|cell| Some(cell.to_owned())).to_vec()]
    );
}

#[test]
fn partitions_and_children_are_tables_too() {
    let pages = (0..2)
        .map(|ordinal| pancake_simulator::PageSettings {
            conversations: 40,
            ..pancake_simulator::PageSettings::numbered(ordinal)
        })
        .collect();
    let shop = Shop::open(Settings { pages, ..Settings::default() }.as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    session
        .execute(
            "CREATE TABLE everything (updated_at timestamptz, raw jsonb, id text, page_id text, type text, tags text[]) PARTITION BY LIST (page_id);
             CREATE FOREIGN TABLE one PARTITION OF everything FOR VALUES IN ('100000000000001') SERVER shop OPTIONS (object 'conversations');
             CREATE FOREIGN TABLE two (type text, id text, page_id text, raw jsonb, tags text[], updated_at timestamptz) SERVER shop2 OPTIONS (object 'conversations');
             ALTER TABLE everything ATTACH PARTITION two FOR VALUES IN ('100000000000002');
             CREATE TABLE copy AS SELECT updated_at, raw, id, page_id, type, tags FROM shop.conversations
                 UNION ALL SELECT updated_at, raw, id, page_id, type, tags FROM shop2.conversations",
        )
        .unwrap();
    for clause in [
        "",
        "WHERE type = 'INBOX'",
        "WHERE page_id = '100000000000002' AND tags @> '{61}'",
        "WHERE updated_at > now() - interval '5 days'",
    ] {
        agree(
            &mut session,
            &format!("SELECT e FROM everything e {clause}"),
            &format!("SELECT c FROM copy c {clause}"),
        );
    }
    let (_, log) = shop
        .watch(|| session.one("SELECT count(*) FROM everything WHERE page_id = '100000000000002'").unwrap());
    assert!(log.iter().all(|entry| entry.page_id == "100000000000002"));
    shop.assert_no_violations().unwrap();
}

/// Byte by byte what Postgres makes of the same text.
#[test]
fn jsonb_is_stored_as_postgres_stores_it() {
    let long = "ệ".repeat(3_000);
    let deep = (0..100).fold(json!(1), |inside, _| json!([{"deeper": inside}, "x"]));
    let many: serde_json::Map<_, _> =
        (0..70).map(|i| (format!("{}{i}", "k".repeat(i % 5)), json!([i, null, format!("{i}")]))).collect();
    let documents = [
        json!({}),
        json!([]),
        json!(null),
        json!(true),
        json!("text"),
        json!(7),
        json!([[], {}, [[]], {"": {}}]),
        json!([0, -1, 9_999, 10_000, 10_001, -10_000, 100_000_000, 123_456_789_012_345_678_i64]),
        json!([i64::MIN, i64::MAX, u64::MAX, 1.5, -0.0, 1e300, 100.0]),
        json!([true, false, null, "", "a", "\"\\/\u{8}\n\t", "😀", long]),
        json!([true, 1, "abc", 2, "", 3, "abcde", {"a": 1}, "ab", [1]]),
        json!({"bb": 1, "a": "x", "ccc": [1, {"z": 1, "y": 2}], "ab": null, "ä": true, "aa": false}),
        json!((0..100).collect::<Vec<_>>()),
        serde_json::Value::Object(many),
        deep,
    ];
    let shop = Shop::open(Settings::of(0).as_seen()).unwrap();
    let page = shop.simulator.first_page();
    for (i, document) in documents.iter().enumerate() {
        page.insert_row(
            json!({"id": format!("{i:02}"), "type": "INBOX", "inserted_at": "2026-03-30T02:11:05",
            "updated_at": "2026-03-30T02:11:05", "document": document}),
        );
    }
    let mut session = shop.connect().unwrap();
    table(&mut session, "stored", "id text, document jsonb OPTIONS (path '/document'), raw jsonb");
    session.execute("CREATE TABLE served (id text, document jsonb)").unwrap();
    for (i, document) in documents.iter().enumerate() {
        session.execute(&format!("INSERT INTO served VALUES ('{i:02}', $j${document}$j$)")).unwrap();
    }
    session.execute("UPDATE served SET document = NULL WHERE document = 'null'").unwrap();
    let same = "SELECT count(*), count(*) FILTER (WHERE record_image_eq(ROW(s.document), ROW(d.document))
                  AND record_image_eq(ROW(raw -> 'document'), ROW(coalesce(d.document, 'null')))
                  AND record_image_eq(ROW(raw), ROW(raw::text::jsonb)))
                FROM stored s JOIN served d USING (id)";
    let count = documents.len().to_string();
    assert_eq!(session.rows(same).unwrap(), [[Some(count.clone()), Some(count)]]);
}
