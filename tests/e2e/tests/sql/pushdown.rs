//! Whether what is promised to be sent is sent, and the answer is the same as over a local copy of
//! the page. What EXPLAIN shows of it is in `explain`, the disputed readings of the server and
//! random clauses in `readings`, the same while rows move in `weather`, what holds a clause back in
//! `guards`.

mod explain;
mod grammar;
mod guards;
mod readings;
mod weather;

use std::collections::BTreeSet;

use e2e::{Session, Shop};
use pancake_simulator::{Entry, Settings};

/// A page, and beside it the table `copy` of its rows.
fn open(rows: usize, options: &[(&str, &str)]) -> (Shop<'static>, Session) {
    open_on(Settings::of(rows).as_seen(), options)
}

fn open_on(settings: Settings, options: &[(&str, &str)]) -> (Shop<'static>, Session) {
    let shop = Shop::open_with(settings, options).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE TABLE copy AS SELECT * FROM shop.conversations").unwrap();
    session.execute("CREATE TABLE one AS SELECT 1 AS one; ANALYZE copy; ANALYZE one").unwrap();
    (shop, session)
}

/// The ids of a query over the page are those of the same query over the copy; gives its requests.
fn same(shop: &Shop, session: &mut Session, clause: &str) -> Vec<Entry> {
    session.execute("BEGIN").unwrap();
    let sql = |table: &str| format!("SELECT id FROM {table} WHERE {clause}");
    let (mut ids, log) = shop.watch(|| session.column(&sql("shop.conversations")).unwrap());
    let mut expected = session.column(&sql("copy")).unwrap();
    session.execute("COMMIT").unwrap();
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected, "{clause}");
    log
}

fn values(log: &[Entry], name: &str) -> BTreeSet<String> {
    log.iter().map(|entry| entry.param(name).unwrap_or("-").to_owned()).collect()
}

fn set(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// A clause with `{}` for its operand, that operand, its type, and what all requests must carry.
struct Case {
    clause: &'static str,
    operand: &'static str,
    kind: &'static str,
    sent: &'static [(&'static str, &'static [&'static str])],
}

const CASES: &[Case] = &[
    Case { clause: "type = {}", operand: "'INBOX'", kind: "text", sent: &[("type", &["INBOX"])] },
    Case { clause: "{} = type", operand: "'COMMENT'", kind: "text", sent: &[("type", &["COMMENT"])] },
    Case { clause: "type = {}", operand: "'INBOX'", kind: "varchar(10)", sent: &[("type", &["INBOX"])] },
    Case {
        clause: "type = ANY({})",
        operand: "'{INBOX,COMMENT}'",
        kind: "text[]",
        sent: &[("type", &["INBOX", "COMMENT"])],
    },
    Case {
        clause: "type = ANY({})",
        operand: "'{COMMENT,NULL}'",
        kind: "text[]",
        sent: &[("type", &["COMMENT"])],
    },
    Case { clause: "tags @> {}", operand: "'{61}'", kind: "text[]", sent: &[("tags", &["61"])] },
    Case { clause: "{} <@ tags", operand: "'{61}'", kind: "text[]", sent: &[("tags", &["61"])] },
    Case { clause: "tags @> {}", operand: "'{{62},{61}}'", kind: "text[]", sent: &[("tags", &["61,62"])] },
    Case { clause: "tags @> {}", operand: "'[5:6]={62,61}'", kind: "text[]", sent: &[("tags", &["61,62"])] },
    Case { clause: "{} = ANY(tags)", operand: "'66'", kind: "text", sent: &[("tags", &["66"])] },
    Case {
        clause: "'61' = ANY(tags) AND tags @> {} AND type = 'INBOX'",
        operand: "'{62}'",
        kind: "text[]",
        sent: &[("tags", &["61,62"]), ("type", &["INBOX"])],
    },
    Case { clause: "tags && {}", operand: "'{61,66}'", kind: "text[]", sent: &[("tags", &["61", "66"])] },
    Case { clause: "{} && tags", operand: "'{61,NULL}'", kind: "text[]", sent: &[("tags", &["61"])] },
    Case {
        clause: "post_id = {}",
        operand: "'100000000000001_9'",
        kind: "text",
        sent: &[("post_ids", &["100000000000001_9"])],
    },
    Case {
        clause: "{} = post_id",
        operand: "'100000000000001_9'",
        kind: "text",
        sent: &[("post_ids", &["100000000000001_9"])],
    },
    Case {
        clause: "post_id = ANY({}) AND type = 'COMMENT'",
        operand: "'{1_8,1_9,NULL}'",
        kind: "text[]",
        sent: &[("post_ids", &["1_8", "1_9"]), ("type", &["-"])],
    },
    Case { clause: "id = {}", operand: "'x'", kind: "text", sent: &[("type", &["-"])] },
    Case { clause: "id = ANY({})", operand: "'{x,y}'", kind: "text[]", sent: &[("type", &["-"])] },
    Case { clause: "page_id = {}", operand: "'100000000000001'", kind: "text", sent: &[("type", &["-"])] },
    // A word beside a number: only the number is sent, for the word would switch the filter off.
    Case { clause: "tags @> {}", operand: "'{61,Khach}'", kind: "text[]", sent: &[("tags", &["61"])] },
];

/// The ways in which a query can bring its operand.
fn ways(session: &mut Session, case: &Case, mut run: impl FnMut(&mut Session, &str)) {
    let (operand, kind) = (case.operand, case.kind);
    let mut written = vec![
        format!("{operand}::{kind}"),
        format!("(SELECT {operand}::{kind} FROM one)::{kind}"),
        format!("(SELECT max(x) FROM (VALUES ({operand}::{kind})) v (x))::{kind}"),
        format!("coalesce((SELECT NULL::{kind} FROM one), {operand}::{kind})"),
    ];
    if kind == "text[]" {
        written.push(format!("ARRAY(SELECT unnest({operand}::text[]) FROM one)"));
    }
    for operand in written {
        run(session, &case.clause.replace("{}", &operand));
    }
}

#[test]
fn types_tags_and_posts_are_sent_however_they_are_written() {
    // Posts too, without the proof.
    let trusted = [("pushdown", "type, tags, post_id, updated_at, inserted_at")];
    let (shop, mut session) = open(260, &trusted);
    for case in CASES {
        let check = |log: &[Entry], what: &str| {
            assert!(!log.is_empty(), "{what}");
            for (name, expected) in case.sent {
                assert_eq!(values(log, name), set(expected), "{name} of {what}");
            }
            assert_eq!(values(log, "order_by"), set(&["inserted_at"]), "{what}");
        };
        ways(&mut session, case, |session, clause| {
            let log = same(&shop, session, clause);
            check(&log, clause);
        });
        for mode in ["force_custom_plan", "force_generic_plan"] {
            let clause = case.clause.replace("{}", "$1");
            session
                .execute(&format!(
                    "SET plan_cache_mode = {mode};
                     PREPARE ours({kind}) AS SELECT id FROM shop.conversations WHERE {clause} ORDER BY id;
                     PREPARE theirs({kind}) AS SELECT id FROM copy WHERE {clause} ORDER BY id",
                    kind = case.kind
                ))
                .unwrap();
            for _ in 0..2 {
                let execute = |name: &str| format!("EXECUTE {name}({})", case.operand);
                let (ids, log) = shop.watch(|| session.column(&execute("ours")).unwrap());
                assert_eq!(ids, session.column(&execute("theirs")).unwrap(), "{clause} under {mode}");
                check(&log, &clause);
                let (none, log) = shop.watch(|| session.column("EXECUTE ours(NULL)").unwrap());
                assert!(none.is_empty() && log.is_empty(), "{clause} of NULL under {mode}");
            }
            session.execute("DEALLOCATE ALL; RESET plan_cache_mode").unwrap();
        }
    }
    // Through the extended protocol, as drivers do it.
    let sql = "SELECT count(*) FROM shop.conversations WHERE type = $1 AND tags @> $2";
    let arguments: [&(dyn postgres::types::ToSql + Sync); 2] = [&"INBOX", &vec!["61"]];
    let (_, log) = shop.watch(|| session.client().query(sql, &arguments).unwrap());
    assert_eq!((values(&log, "type"), values(&log, "tags")), (set(&["INBOX"]), set(&["61"])));
    shop.assert_no_violations().unwrap();
}

/// A list that Postgres's planner sees through, and lists that hold more than the parameter knows.
#[test]
fn lists_of_types_are_one_chain_each_or_none() {
    let (shop, mut session) = open(200, &[]);
    for (clause, types) in [
        ("type IN ('INBOX', 'COMMENT')", vec!["COMMENT", "INBOX"]),
        ("type IN ('INBOX', 'INBOX')", vec!["INBOX"]),
        ("type = ANY('{INBOX,COMMENT}') AND type <> 'INBOX'", vec!["COMMENT", "INBOX"]),
        ("type = ANY('{INBOX,COMMENT}') AND type = 'INBOX'", vec!["INBOX"]),
        ("type IN ('INBOX', 'RATING') AND type IN ('INBOX', 'LIVESTREAM')", vec!["INBOX"]),
        ("type IN ('INBOX', 'RATING')", vec!["-"]),
        ("type = 'LIVESTREAM'", vec!["-"]),
        ("type = 'inbox'", vec!["-"]),
        ("type IS NOT NULL AND NOT (type = 'INBOX')", vec!["-"]),
    ] {
        let log = same(&shop, &mut session, clause);
        assert_eq!(values(&log, "type"), set(&types), "{clause}");
    }
    shop.assert_no_violations().unwrap();
}

/// since and until hold the bound with a second to spare, and no more than a few.
#[test]
fn windows_are_sent_widened() {
    let (shop, mut session) = open_on(Settings::of(200), &[]);
    for column in ["updated_at", "inserted_at"] {
        let middle = format!("SELECT {column} FROM copy ORDER BY {column} OFFSET 150 LIMIT 1");
        let exact = session.one(&format!("SELECT ({middle}) AT TIME ZONE 'UTC'")).unwrap();
        let second: i64 =
            session.one(&format!("SELECT floor(extract(epoch FROM ({middle})))")).unwrap().parse().unwrap();
        let operands = [
            format!("'{exact}Z'::timestamptz"),
            format!("({middle})"),
            format!("(now() - (now() - '{exact}Z'::timestamptz))"),
            format!("('{exact}Z'::timestamptz + interval '0 days')"),
        ];
        for operand in &operands {
            for (operator, turned, lower, upper) in [
                (">", "<", true, false),
                (">=", "<=", true, false),
                ("<", ">", false, true),
                ("<=", ">=", false, true),
                ("=", "=", true, true),
            ] {
                for clause in
                    [format!("{column} {operator} {operand}"), format!("{operand} {turned} {column}")]
                {
                    let log = same(&shop, &mut session, &clause);
                    let sent = |name: &str| log[0].param(name).map(|text| text.parse::<i64>().unwrap());
                    usual_forms(&log, &clause);
                    if upper && column == "inserted_at" {
                        let sent = sent("until").unwrap_or_else(|| panic!("no until: {clause}"));
                        assert!((second + 1..=second + 4).contains(&sent), "{sent} for {second}: {clause}");
                    }
                    if lower && !upper {
                        assert!(sent("since").is_none(), "{clause}");
                        assert_eq!(values(&log, "order_by"), set(&[column]), "{clause}");
                    }
                    assert!(!lower || log.len() <= 6, "{} requests for 50 rows: {clause}", log.len());
                }
            }
        }
        let between = format!("{column} BETWEEN now() - interval '20 days' AND now() - interval '10 days'");
        let log = same(&shop, &mut session, &between);
        assert!(log[0].param("since").is_some() && log[0].param("until").is_some(), "{between}");
        usual_forms(&log, &between);
    }
    // Both columns: one is sent, both are obeyed.
    same(
        &shop,
        &mut session,
        "updated_at > now() - interval '10 days' AND inserted_at < now() - interval '20 days'",
    );
    same(
        &shop,
        &mut session,
        "inserted_at > now() - interval '10 days' AND updated_at < now() - interval '5 days'",
    );
    shop.assert_no_violations().unwrap();
}

/// Times are sent as a pair, at most 27 days apart, a day before now or earlier, and never beside a
/// cursor.
fn usual_forms(log: &[Entry], case: &str) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    for entry in log {
        let time = |name: &str| entry.param(name).map(|text| text.parse::<i64>().unwrap());
        match (time("since"), time("until")) {
            (None, None) => {}
            (Some(since), Some(until)) => {
                assert!((1..=27 * 86_400).contains(&(until - since)), "{case}: {entry:?}");
                assert!(until <= now - 86_400 + 2, "{case}: {entry:?}");
                assert!(entry.param("last_conversation_id").is_none(), "{case}: {entry:?}");
            }
            _ => panic!("{case}: {entry:?}"),
        }
    }
}

#[test]
fn bounds_are_parameters_too() {
    let (shop, mut session) = open(150, &[]);
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let body = |table: &str| {
            format!("SELECT id FROM {table} WHERE updated_at >= $1 AND $2 > updated_at ORDER BY id")
        };
        session
            .execute(&format!(
                "SET plan_cache_mode = {mode};
                 PREPARE ours(timestamptz, timestamptz) AS {};
                 PREPARE theirs(timestamptz, timestamptz) AS {}",
                body("shop.conversations"),
                body("copy")
            ))
            .unwrap();
        for days in [1, 30, 80, 400] {
            let execute = |name: &str| {
                format!(
                    "EXECUTE {name}(date_trunc('day', now()) - interval '{days} days', date_trunc('day', now()))"
                )
            };
            let (ids, log) = shop.watch(|| session.column(&execute("ours")).unwrap());
            assert_eq!(ids, session.column(&execute("theirs")).unwrap());
            usual_forms(&log, &days.to_string());
        }
        let (none, log) = shop.watch(|| session.column("EXECUTE ours(now(), NULL)").unwrap());
        assert!(none.is_empty() && log.is_empty());
        session.execute("DEALLOCATE ALL").unwrap();
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn what_cannot_match_costs_no_request() {
    let (shop, mut session) = open(30, &[]);
    for clause in [
        "type = NULL",
        "type = (SELECT NULL::text FROM one)",
        "type = ANY('{}')",
        "type = ANY(NULL::text[])",
        "type = ANY(ARRAY(SELECT type FROM copy WHERE false))",
        "tags @> '{61,NULL}'",
        "tags @> NULL",
        "tags && '{}'",
        "'{}' && tags",
        "tags && NULL",
        "tags && '{NULL}'",
        "tags && ARRAY(SELECT type FROM copy WHERE false)",
        "NULL = ANY(tags) OR 'x' = ANY(NULL::text[])",
        "post_id = NULL",
        "post_id = (SELECT NULL::text FROM one)",
        "post_id IN (SELECT NULL::text FROM one WHERE one = 2)",
        "post_id = ANY('{}') AND type = 'COMMENT'",
        "post_id = 'a' AND post_id = ANY('{b,c}')",
        "id = ANY('{}')",
        "id = ANY(ARRAY(SELECT id FROM copy WHERE false))",
        "id = 'a' AND id IN ('b', 'c')",
        "page_id = (SELECT 'another' FROM one)",
        "NULL::text = ANY(tags)",
        "type = 'INBOX' AND type = 'COMMENT'",
        "type = ANY('{INBOX,COMMENT}') AND type = 'RATING'",
        "updated_at > now() AND updated_at < now() - interval '1 day'",
        "updated_at > '2026-01-01' AND updated_at < '2026-01-01'",
        "inserted_at > '2026-01-01 00:00:00.000001Z' AND inserted_at < '2026-01-01 00:00:00.000002Z'",
        "updated_at > (SELECT max(updated_at) FROM copy) AND updated_at <= (SELECT max(updated_at) FROM copy)",
        "updated_at > 'infinity'",
        "updated_at >= 'infinity'",
        "inserted_at = 'infinity'",
        "inserted_at < '-infinity'",
        "inserted_at <= '-infinity'",
        "updated_at = NULL",
        "updated_at > 'infinity'::date",
        "inserted_at::date < '-infinity'",
        "updated_at::date = NULL",
        "updated_at > '2026-01-02'::date AND updated_at < '2026-01-01'::timestamp",
        "updated_at::date > '2026-02-02' AND '2026-01-01' >= updated_at::date",
        "inserted_at BETWEEN (SELECT max(inserted_at) FROM copy) AND (SELECT min(inserted_at) FROM copy)",
        "updated_at > now() AND now() > updated_at",
        "updated_at > now() AND now() > updated_at AND inserted_at > '2020-01-01'",
        "page_id = '100000000000002'",
        "'100000000000002' = page_id",
        "page_id IN ('1', '2')",
        "page_id = ANY('{}')",
        "false",
        "type = 'INBOX' AND (SELECT false FROM one)",
    ] {
        let log = same(&shop, &mut session, clause);
        assert_eq!(log.len(), 0, "{clause}");
    }
    for sql in [
        "SELECT * FROM shop.conversations LIMIT 0",
        "SELECT * FROM shop.conversations WHERE type = 'INBOX' LIMIT (SELECT 0)",
        "EXPLAIN SELECT * FROM shop.conversations WHERE updated_at > now() - interval '1 day'",
        "EXPLAIN (VERBOSE, FORMAT JSON) SELECT * FROM shop.conversations WHERE type = (SELECT type FROM copy LIMIT 1)",
        "PREPARE p AS SELECT * FROM shop.conversations",
        "CREATE TABLE empty AS SELECT * FROM shop.conversations WITH NO DATA",
        "SELECT * FROM copy LEFT JOIN shop.conversations c ON false",
        "SELECT CASE WHEN one = 2 THEN (SELECT count(*) FROM shop.conversations) END FROM one",
    ] {
        let (_, log) = shop.watch(|| session.rows(sql).unwrap());
        assert_eq!(log.len(), 0, "{sql}");
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn what_everything_matches_is_everything() {
    let (shop, mut session) = open(70, &[]);
    for clause in [
        "true",
        "tags @> '{}'",
        "type <> ALL('{}')",
        "type = ALL('{}')",
        "updated_at > '-infinity'",
        "updated_at >= '-infinity' AND updated_at <= 'infinity'",
        "inserted_at < 'infinity'",
        "updated_at > 'epoch'",
        "updated_at > '1969-07-20 20:17Z'",
        "inserted_at >= '0044-03-15 BC'",
        "inserted_at < '4000-01-01'",
        "updated_at < '9999-12-31'",
        "inserted_at <= '9999-12-31 23:59:59.999999'",
        "updated_at < '294276-12-31 23:59:59.999999Z'",
        "updated_at BETWEEN '4714-11-24 BC' AND '294276-12-31'",
        "updated_at < '5874897-12-31'::date",
        "inserted_at > '4713-01-01 BC'::date",
        "inserted_at < 'infinity'::date AND updated_at > '-infinity'::timestamp",
        "page_id = '100000000000001'",
        "page_id IN ('100000000000001', '2')",
        "page_id >= '1'",
    ] {
        same(&shop, &mut session, clause);
        let count = session.one(&format!("SELECT count(*) FROM copy WHERE {clause}")).unwrap();
        assert_eq!(count, "70", "{clause}");
    }
    for clause in [
        "inserted_at < '1970-01-01'",
        "inserted_at = '1969-12-31 23:59:59.5Z'",
        "updated_at <= '1900-01-01'",
        "updated_at > '9999-12-31'",
        "updated_at = '200000-01-01'",
        "inserted_at > '294276-12-31'",
        "updated_at > '5874897-12-31'::date",
    ] {
        same(&shop, &mut session, clause);
        assert_eq!(
            session.one(&format!("SELECT count(*) FROM copy WHERE {clause}")).unwrap(),
            "0",
            "{clause}"
        );
    }
    // A number of seconds that can only be milliseconds would be a violation here.
    shop.assert_no_violations().unwrap();
}

/// A name, a word, a number too long: nothing that the server would take for no filter at all, or
/// for another one.
#[test]
fn only_tag_ids_are_sent() {
    let (shop, mut session) = open(130, &[]);
    for clause in [
        "tags @> '{\"Đã mua\"}'",
        "'Đã mua' = ANY(tags)",
        "tags @> '{\"61,62\"}'",
        "tags @> '{\" 61\"}'",
        "tags @> '{-61}'",
        "tags @> '{061}'",
        "tags @> '{\"\"}'",
        "tags @> '{٦١}'",
        "tags @> '{6.1e1}'",
        "tag_names @> '{\"Đã mua\"}'",
        "'Đã mua' = ANY(tag_names)",
        "tags && '{61,62}'",
        "tags && '{61,NULL}'",
        "tags <@ '{61,62}'",
        "tags = '{61}'",
        "NOT tags @> '{61}'",
        "tags @> '{61}' OR tags @> '{62}'",
        "'61' <> ALL(tags)",
        "'6' < ANY(tags)",
        "'61' = ALL(tags)",
        "tags[1] = '61'",
        "tags @> tag_names",
        "tags @> ARRAY[substr(id, 1, 0) || '61']",
    ] {
        let log = same(&shop, &mut session, clause);
        for sent in values(&log, "tags") {
            assert!(
                sent == "-" || sent.split(',').all(|id| id.bytes().all(|b| b.is_ascii_digit())),
                "{sent}"
            );
        }
    }
    shop.assert_no_violations().unwrap();
}

/// A volatile operand, the other column, a function of the row: checked row by row.
#[test]
fn other_clauses_are_checked_here() {
    let (shop, mut session) = open(130, &[]);
    session
        .execute("CREATE SEQUENCE s; CREATE FUNCTION wobble() RETURNS text LANGUAGE sql VOLATILE AS $$SELECT CASE WHEN nextval('s') >= 0 THEN 'INBOX' END$$")
        .unwrap();
    for clause in [
        "type = wobble()",
        "updated_at = inserted_at",
        "updated_at > inserted_at + interval '1 day'",
        "type = coalesce(nullif(post_id, post_id), 'INBOX')",
        "updated_at IN (SELECT updated_at FROM copy LIMIT 5)",
        "updated_at = ANY(ARRAY(SELECT updated_at FROM copy LIMIT 5))",
        "lower(type) = 'inbox'",
        "type LIKE 'INB%'",
        "type >= 'INBOX'",
        "type IS NULL OR type = 'INBOX'",
        "(type, seen) = ('INBOX', true)",
        "(updated_at, id) > (now() - interval '9 days', '')",
        "updated_at::date = current_date - 3",
        "date_trunc('day', updated_at) >= date_trunc('day', now() - interval '9 days')",
        "updated_at AT TIME ZONE 'Asia/Ho_Chi_Minh' < (now() - interval '9 days') AT TIME ZONE 'UTC'",
        "id = (SELECT min(id) FROM copy)",
        "id IN (SELECT id FROM copy WHERE seen LIMIT 3)",
        "post_id = (SELECT max(post_id) FROM copy)",
        "EXISTS (SELECT FROM copy WHERE copy.id = conversations.id AND copy.seen)",
    ] {
        let of_copy = clause.replace("conversations.id", "c.id");
        session.execute("BEGIN").unwrap();
        let mut ids = session.column(&format!("SELECT id FROM shop.conversations WHERE {clause}")).unwrap();
        let mut expected = session.column(&format!("SELECT c.id FROM copy c WHERE {of_copy}")).unwrap();
        session.execute("COMMIT").unwrap();
        ids.sort();
        expected.sort();
        assert_eq!(ids, expected, "{clause}");
    }
    shop.assert_no_violations().unwrap();
}

/// Dates and timestamps are days and hours of the session's zone, here as in Postgres.
#[test]
fn dates_and_timestamps_are_compared_in_the_zone_of_the_session() {
    let (shop, mut session) = open(200, &[]);
    for zone in ["UTC", "Asia/Ho_Chi_Minh", "America/New_York"] {
        session.execute(&format!("SET TimeZone = '{zone}'")).unwrap();
        for column in ["updated_at", "inserted_at"] {
            for operand in [
                "current_date - 3",
                "localtimestamp - interval '3 days'",
                "(SELECT current_date - 3 FROM one)",
            ] {
                for operator in ["<", "<=", "=", ">=", ">"] {
                    same(&shop, &mut session, &format!("{column} {operator} {operand}"));
                    same(&shop, &mut session, &format!("{operand} {operator} {column}"));
                }
            }
        }
        same(&shop, &mut session, "updated_at >= current_date - 3");
    }
    // A generic plan that outlives a change of the zone.
    session.execute("SET TimeZone = 'UTC'; SET plan_cache_mode = force_generic_plan").unwrap();
    let body = |table: &str| format!("AS SELECT id FROM {table} WHERE updated_at < $1 ORDER BY id");
    for (name, table) in [("ours", "shop.conversations"), ("theirs", "copy")] {
        session.execute(&format!("PREPARE {name}(timestamp) {}", body(table))).unwrap();
    }
    let noon = session.one("SELECT (max(updated_at) - interval '1 day')::timestamp FROM copy").unwrap();
    for zone in ["UTC", "Asia/Ho_Chi_Minh"] {
        session.execute(&format!("SET TimeZone = '{zone}'")).unwrap();
        let execute = |name: &str| format!("EXECUTE {name}('{noon}')");
        assert_eq!(session.column(&execute("ours")).unwrap(), session.column(&execute("theirs")).unwrap());
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn as_much_as_is_wanted_is_asked_for() {
    let (shop, mut session) = open(700, &[]);
    for (sql, most) in [
        ("SELECT * FROM shop.conversations LIMIT 1", 1),
        ("SELECT * FROM shop.conversations LIMIT 10", 1),
        ("SELECT * FROM shop.conversations LIMIT 59", 1),
        ("SELECT * FROM shop.conversations LIMIT 60", 2),
        ("SELECT * FROM shop.conversations OFFSET 20 LIMIT 20", 1),
        ("SELECT * FROM shop.conversations WHERE type = 'INBOX' LIMIT 10", 1),
        ("SELECT EXISTS (SELECT FROM shop.conversations)", 1),
        ("SELECT EXISTS (SELECT FROM shop.conversations WHERE type = 'COMMENT')", 1),
        ("SELECT (SELECT id FROM shop.conversations LIMIT 1)", 1),
        ("SELECT one FROM one WHERE one IN (SELECT 1 FROM shop.conversations LIMIT 5)", 1),
    ] {
        let (rows, log) = shop.watch(|| session.rows(sql).unwrap());
        assert!(!rows.is_empty(), "{sql}");
        assert!((1..=most).contains(&log.len()), "{} requests: {sql}", log.len());
    }
    let (_, log) = shop.watch(|| session.rows("SELECT * FROM shop.conversations LIMIT 300").unwrap());
    assert!(log.len() <= 300_usize.div_ceil(59) + 1, "{} requests", log.len());
    shop.assert_no_violations().unwrap();
}
