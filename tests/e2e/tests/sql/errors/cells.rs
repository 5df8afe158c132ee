//! Cells: those that do not fit their column are an error with column, row and expected type; all
//! others arrive.

use serde_json::json;

use super::{ALL, Told, by_hand, canned, impatient, well_formed};

const TIMES: &str = r#""inserted_at":"2026-03-30T02:11:05","updated_at":"2026-03-31T13:42:20""#;

#[test]
fn a_cell_that_does_not_fit_names_column_row_and_type() {
    let shop = impatient(0);
    let page = shop.simulator.first_page();
    let mut session = shop.connect().unwrap();
    for (declared, cells, value, expected) in [
        ("snippet integer", json!({"snippet": "Size M"}), "Size M", "integer"),
        ("snippet uuid", json!({"snippet": "Size M"}), "Size M", "uuid"),
        ("message_count integer", json!({"message_count": 3_000_000_000_i64}), "3000000000", "integer"),
        ("message_count integer", json!({"message_count": 1.5}), "1.5", "integer"),
        ("message_count integer", json!({"message_count": "many"}), "many", "integer"),
        ("message_count integer", json!({"message_count": []}), "[]", "integer"),
        ("message_count smallint", json!({"message_count": 70_000}), "70000", "smallint"),
        ("seen boolean", json!({"seen": "perhaps"}), "perhaps", "boolean"),
        ("snippet varchar(3)", json!({"snippet": "Size"}), "Size", "character varying(3)"),
        ("tags integer[]", json!({"tags": ["vip"]}), "vip", "integer[]"),
        ("seen jsonb OPTIONS (path '/snippet')", json!({"snippet": "é"}), "", ""),
        ("x integer OPTIONS (path '/a/b')", json!({"a": {"b": {"c": 1}}}), "{\"c\":1}", "integer"),
        (
            "born date OPTIONS (path '/page_customer/birthday')",
            json!({"page_customer": {"birthday": "1998-00-00"}}),
            "1998-00-00",
            "date",
        ),
        ("updated_at timestamptz", json!({"updated_at": "soon"}), "soon", "timestamp with time zone"),
        ("updated_at timestamptz", json!({"updated_at": 1e300}), "1e+300", "timestamp with time zone"),
    ] {
        by_hand(&page, cells);
        let table = format!(
            "CREATE FOREIGN TABLE odd (id text, {declared}) SERVER shop OPTIONS (object 'conversations')"
        );
        session.execute(&table).unwrap();
        let name = declared.split(' ').next().unwrap();
        match expected {
            // What fits is no error.
            "" => assert_eq!(session.one(&format!("SELECT {name} FROM odd")).unwrap(), "\"é\""),
            _ => {
                let error = session.error("SELECT * FROM odd").unwrap();
                let message = format!("value does not fit column \"{name}\"");
                let told =
                    Told { sqlstate: "HV004", message: &message, detail: expected, hint: "column raw" };
                told.check(&error, declared);
                let detail = error.detail.unwrap();
                assert!(detail.contains("Row \"by hand\"") && detail.contains(value), "{declared}: {detail}");
                // A query that does not read the column does not mind.
                assert_eq!(session.one("SELECT id FROM odd").unwrap(), "by hand", "{declared}");
            }
        }
        session.execute("DROP FOREIGN TABLE odd").unwrap();
    }
}

#[test]
fn a_malformed_time_that_the_walk_needs_fails_every_query() {
    let shop = impatient(0);
    let page = shop.simulator.first_page();
    let mut session = shop.connect().unwrap();
    for time in
        ["yesterday", "2026-13-01T00:00:00", "2026-02-30T00:00:00", "2026-03-30", "", "2026-03-30T25:00:00"]
    {
        by_hand(&page, json!({"inserted_at": time}));
        let (error, log) = shop.watch(|| session.error("SELECT id FROM shop.conversations").unwrap());
        let told = Told {
            sqlstate: "HV004",
            message: "value does not fit column \"inserted_at\"",
            detail: "timestamp with time zone",
            hint: "",
        };
        told.check(&error, time);
        let detail = error.detail.unwrap();
        assert!(detail.contains("Row \"by hand\"") && detail.contains(&log[0].request_id), "{detail}");
    }
}

#[test]
fn a_time_is_utc_unless_it_says_otherwise() {
    let shop = impatient(0);
    let page = shop.simulator.first_page();
    let mut session = shop.connect().unwrap();
    session.execute("SET TimeZone = 'Asia/Ho_Chi_Minh'").unwrap();
    session
        .execute(
            "CREATE FOREIGN TABLE times (inserted_at timestamptz, naive timestamp OPTIONS (path '/inserted_at'),
                 zoned timestamptz OPTIONS (path '/inserted_at'), day date OPTIONS (path '/inserted_at'),
                 short timestamptz(0) OPTIONS (path '/inserted_at'), last_message jsonb)
             SERVER shop OPTIONS (object 'conversations')",
        )
        .unwrap();
    for (served, utc) in [
        ("2026-03-30T23:11:05.123456", "2026-03-30 23:11:05.123456"),
        ("2026-03-30T23:11:05", "2026-03-30 23:11:05"),
        ("2026-03-30T23:11:05.5", "2026-03-30 23:11:05.5"),
        ("2026-03-30 23:11:05", "2026-03-30 23:11:05"),
        ("2026-03-30T23:11:05Z", "2026-03-30 23:11:05"),
        ("2026-03-31T06:11:05+07:00", "2026-03-30 23:11:05"),
        ("2026-03-31T06:11:05.25+0700", "2026-03-30 23:11:05.25"),
        ("2026-03-30T19:41:05-03:30", "2026-03-30 23:11:05"),
    ] {
        by_hand(&page, json!({"inserted_at": served, "updated_at": served}));
        let told = session
            .rows(&format!(
                "SELECT inserted_at = '{utc} UTC'::timestamptz, naive = '{utc}'::timestamp,
                    zoned = '{utc} UTC'::timestamptz, day = '2026-03-30'::date,
                    short = '{utc} UTC'::timestamptz(0),
                    (last_message ->> 'created_at')::timestamptz = '{utc} UTC' AND last_message ->> 'created_at' LIKE '%Z'
                 FROM times"
            ))
            .unwrap();
        assert_eq!(told, [vec![Some("t".to_owned()); 6]], "{served}");
    }
}

#[test]
fn what_postgres_cannot_hold_arrives_as_a_replacement_character() {
    for (escaped, arrives) in [
        (r"a\u0000b", "a\u{fffd}b"),
        (r"a\ud83dz", "a\u{fffd}z"),
        (r"\ude00\ud83d", "\u{fffd}\u{fffd}"),
        (r"\ud83d\ude00", "\u{1f600}"),
        (r"\\u0000", r"\u0000"),
    ] {
        let row =
            format!(r#"{{"id":"1","snippet":"{escaped}","tags":[{{"id":1,"text":"{escaped}"}}],{TIMES}}}"#);
        let (_shop, mut session) = canned::rows(&row);
        let told = session
            .rows("SELECT snippet, tag_names[1], raw ->> 'snippet', last_message ->> 'text' FROM shop.conversations")
            .unwrap();
        assert_eq!(told, [vec![Some(arrives.to_owned()); 4]], "{escaped}");
    }
}

#[test]
fn null_tags_missing_keys_and_ids_that_are_numbers() {
    let row = format!(
        r#"{{"id":77,"type":null,"tags":[null,61,"62",{{"id":63,"text":"VIP"}},{{"id":null}},{{}}],
            "customers":null,"ad_ids":[9007199254740993,null],"page_customer":7,"from":[],"last_sent_by":"x",{TIMES}}}"#
    );
    let (_shop, mut session) = canned::rows(&row);
    let text = |cell: &str| Some(cell.to_owned());
    let query =
        "SELECT id, type, tags, tag_names, ad_ids, phone_numbers, assignee_ids, customer_name, message_count
                 FROM shop.conversations";
    let told = session.rows(query).unwrap();
    let expected = vec![
        text("77"),
        None,
        text("{61,62,63}"),
        text("{NULL,NULL,VIP}"),
        text("{9007199254740993}"),
        text("{}"),
        text("{}"),
        None,
        None,
    ];
    assert_eq!(told, [expected]);
    assert_eq!(session.rows(ALL).unwrap().len(), 1);

    let (_shop, mut session) = canned::rows(&format!(r#"{{"id":"1",{TIMES}}}"#));
    let row = session.rows(ALL).unwrap().remove(0);
    let shown = row.iter().filter(|cell| cell.is_some()).count();
    // id, page_id, five arrays, two times, last_message, participants, raw.
    assert_eq!(shown, 12, "{row:?}");
}

#[test]
fn a_row_that_is_no_conversation_is_an_error() {
    for row in
        ["{}".to_owned(), format!(r#"{{"id":null,{TIMES}}}"#), format!(r#"{{"id":"1","id":"2",{TIMES}}}"#)]
    {
        let (_shop, mut session) = canned::rows(&row);
        let error = session.error(ALL).unwrap();
        let told = Told {
            sqlstate: "HV000",
            message: "row of the reply is not a conversation",
            detail: canned::REQUEST_ID,
            hint: "",
        };
        told.check(&error, &row);
    }
}

/// A list of something else is no empty list, and elements that are no rows do not hide those that
/// are.
#[test]
fn what_is_no_object_is_no_row() {
    for row in ["5", "null", "[]", r#""text""#, "1,[{}],true"] {
        let (_shop, mut session) = canned::rows(row);
        let error = session.error(ALL).unwrap();
        let told = Told {
            sqlstate: "HV000",
            message: "reply has no list of conversations",
            detail: "No element of the list is a JSON object",
            hint: "",
        };
        told.check(&error, row);
    }
    let rows = format!(r#"null,{{"id":"1",{TIMES}}},[],7,{{"id":"2",{TIMES}}},"x""#);
    let (_shop, mut session) = canned::rows(&rows);
    assert_eq!(session.column("SELECT id FROM shop.conversations ORDER BY id").unwrap(), ["1", "2"]);
}

#[test]
fn rows_are_taken_as_they_come() {
    let row = r#"{"id":"1","message_count":3.0,"inserted_at":1774850000,"updated_at":1774850000123,
        "tags":{"0":{"id":61,"text":"VIP"},"1":null},"assignee_ids":[{"id":"u1"},"u2"],"ad_ids":"9",
        "recent_phone_numbers":[{"captured":"0900.1"},{"phone_number":"0902"},"0903"],
        "last_sent_by":{"id":"zl_100000000000001"},"snippet":"Hi"}"#;
    let (_shop, mut session) = canned::rows(row);
    session.execute("SET TimeZone = 'UTC'").unwrap();
    let told = session
        .rows(
            "SELECT message_count, inserted_at, updated_at, tags, tag_names, assignee_ids, ad_ids, phone_numbers,
                 last_message ->> 'sender' FROM shop.conversations",
        )
        .unwrap();
    let told: Vec<_> = told.into_iter().flatten().flatten().collect();
    let expected = [
        "3",
        "2026-03-30 05:53:20+00",
        "2026-03-30 05:53:20.123+00",
        "{61}",
        "{VIP}",
        "{u1,u2}",
        "{9}",
        "{0900.1,0902,0903}",
        "page",
    ];
    assert_eq!(told, expected);
}

/// A row that lacks one time shows the other, whatever the query reads and however it is walked;
/// raw shows the truth.
#[test]
fn a_missing_time_shows_the_other_one() {
    let shop = impatient(150);
    let page = shop.simulator.first_page();
    for (id, times) in [
        ("no updated", json!({"inserted_at": "2026-03-30T02:11:05"})),
        ("null updated", json!({"inserted_at": "2026-03-30T02:11:05", "updated_at": null})),
        ("no inserted", json!({"updated_at": "2026-03-30T02:11:05"})),
        ("no times", json!({})),
    ] {
        let mut row = json!({"id": id, "type": "INBOX"});
        row.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        page.insert_row(row);
    }
    let mut session = shop.connect().unwrap();
    session.execute("SET TimeZone = 'UTC'").unwrap();
    let times = "SELECT inserted_at, updated_at, raw ? 'updated_at' FROM shop.conversations WHERE id = ";
    for (id, expected) in [
        ("no updated", ["2026-03-30 02:11:05+00", "2026-03-30 02:11:05+00", "f"]),
        ("null updated", ["2026-03-30 02:11:05+00", "2026-03-30 02:11:05+00", "t"]),
        ("no inserted", ["2026-03-30 02:11:05+00", "2026-03-30 02:11:05+00", "t"]),
        ("no times", ["-infinity", "-infinity", "f"]),
    ] {
        let told: Vec<_> =
            session.rows(&format!("{times}'{id}'")).unwrap().into_iter().flatten().flatten().collect();
        assert_eq!(told, expected, "{id}");
    }
    for (query, expected) in [
        ("SELECT count(*) FROM shop.conversations", "154"),
        ("SELECT count(*) FROM shop.conversations WHERE updated_at IS NULL OR inserted_at IS NULL", "0"),
        (
            "SELECT count(*) FROM (SELECT FROM shop.conversations ORDER BY updated_at DESC LIMIT 200) AS l",
            "154",
        ),
        (
            "SELECT count(*) FROM (SELECT FROM shop.conversations ORDER BY inserted_at DESC LIMIT 200) AS l",
            "154",
        ),
    ] {
        assert_eq!(session.one(query).unwrap(), expected, "{query}");
    }
    // A row that a query cannot hold in its own column is the one that a copy could not hold
    // either.
    session
        .execute("CREATE TABLE copy (LIKE shop.conversations INCLUDING ALL, PRIMARY KEY (page_id, id))")
        .unwrap();
    session.execute("INSERT INTO copy SELECT * FROM shop.conversations").unwrap();
    session.execute("ANALYZE shop.conversations").unwrap();
}

#[test]
fn bodies_that_no_json_library_writes() {
    for (body, message) in [
        (&b"\xff\xfe{}"[..], "reply is not UTF-8"),
        (b"{\"success\":true,\"conversations\":[]} and more", "reply is not JSON"),
        (b"{\"success\":true,\"conversations\":[\"\x00\"]}", "reply is not JSON"),
        (b" <html>", "reply is a web page, not JSON"),
        (b"{\"conversations\":\"none\"}", "reply has no list of conversations"),
    ] {
        let case = String::from_utf8_lossy(body);
        let (_shop, mut session) = canned::shop(body);
        let error = session.error(ALL).unwrap();
        Told { sqlstate: "HV000", message, detail: canned::REQUEST_ID, hint: "" }.check(&error, &case);
        assert!(error.detail.unwrap().len() < 400, "{case}");
    }
    let long = format!(r#"{{"success":false,"message":"{}"}}"#, "không được ".repeat(500));
    let (_shop, mut session) = canned::shop(long.as_bytes());
    let error = session.error(ALL).unwrap();
    well_formed(&error, "a long message");
    assert_eq!(error.sqlstate, "HV00M");
}

/// A refusal is read in one pass, however deep its words lie.
#[test]
fn a_refusal_of_great_depth_is_an_error_of_its_statement() {
    for (open, close) in [("[", "]"), (r#"{"message":"#, "}")] {
        let deep = open.repeat(100_000) + "\"x\"" + &close.repeat(100_000);
        let (_shop, mut session) = canned::shop(format!(r#"{{"success":false,"errors":{deep}}}"#).as_bytes());
        let error = session.error(ALL).unwrap();
        well_formed(&error, "deep");
        assert_eq!(error.sqlstate, "HV00M");
    }
}

/// What refuses beside an empty list is no empty list.
#[test]
fn an_error_beside_an_empty_list_is_an_error() {
    for (body, sqlstate) in [
        (r#"{"error_code":105,"message":"access_token renewed","conversations":[]}"#, "28000"),
        (r#"{"error":"invalid token","data":[]}"#, "28000"),
        (r#"{"code":400,"message":"Bad request","data":[]}"#, "HV000"),
        (r#"{"errors":["access denied"],"conversations":[]}"#, "HV00M"),
        (r#"{"success":0,"conversations":[]}"#, "HV00M"),
        (r#"{"status":"error","message":"no","conversations":[]}"#, "HV00M"),
    ] {
        let (_shop, mut session) = canned::shop(body.as_bytes());
        let error = session.error(ALL).unwrap();
        assert_eq!(error.sqlstate, sqlstate, "{body}: {error}");
    }
}

#[test]
fn of_two_keys_of_one_name_the_last_counts() {
    let inside = r#"{"bb":1,"b":{"x":1},"c":2,"b":3,"bb":[]}"#;
    let (_shop, mut session) =
        canned::rows(&format!(r#"{{"id":"1","inside":{inside},"snippet":1,"snippet":2,{TIMES}}}"#));
    let same = format!(
        "SELECT snippet, record_image_eq(ROW(raw -> 'inside'), ROW('{inside}'::jsonb)), raw ->> 'snippet'
         FROM shop.conversations"
    );
    let told: Vec<_> = session.rows(&same).unwrap().into_iter().flatten().flatten().collect();
    assert_eq!(told, ["2", "t", "2"]);
}
