//! Whether every kind of plan and statement gives the same answers: cached plans, loops, cursors,
//! rescans, joins, views, copies, standbys. What is sent is left to `pushdown`; further places for
//! a table are in `shapes`, what the views of the extension show is in `views`.

mod shapes;
mod views;

use e2e::{Cluster, Session, Shop, SqlError};
use pancake_simulator::Settings;
use postgres::fallible_iterator::FallibleIterator as _;
use std::io::Read as _;

fn open(rows: usize) -> (Shop<'static>, Session) {
    let shop = Shop::open(Settings::of(rows).as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    session
        .execute(
            "CREATE TABLE copy AS SELECT * FROM shop.conversations;
             CREATE TABLE crm AS SELECT id, row_number() OVER (ORDER BY md5(id)) AS n, type AS wanted FROM copy ORDER BY md5(id) LIMIT 9;
             ANALYZE copy; ANALYZE crm",
        )
        .unwrap();
    (shop, session)
}

/// `{}` in the query stands for the page or its copy.
fn agree(session: &mut Session, sql: &str) {
    session.execute("BEGIN").unwrap();
    let mut ours = session.rows(&sql.replace("{}", "shop.conversations")).unwrap();
    let mut theirs = session.rows(&sql.replace("{}", "copy")).unwrap();
    session.execute("COMMIT").unwrap();
    ours.sort();
    theirs.sort();
    assert!(!theirs.is_empty(), "{sql}");
    assert_eq!(ours, theirs, "{sql}");
}

/// `pancake_fdw.order_by` chooses the order where the query leaves it open, and no answer depends
/// on it.
#[test]
fn a_session_chooses_the_order() {
    let (_shop, mut session) = open(150);
    let sent = |session: &mut Session, query: &str| {
        let lines = session.column(&format!("EXPLAIN (COSTS OFF) {query}")).unwrap();
        lines.into_iter().find(|line| line.contains("order_by=")).unwrap()
    };
    let all = "SELECT id FROM shop.conversations";
    assert!(sent(&mut session, all).contains("order_by=inserted_at"));
    session.execute("SET pancake_fdw.order_by = updated_at").unwrap();
    assert!(sent(&mut session, all).contains("order_by=updated_at"));
    assert!(sent(&mut session, &format!("{all} ORDER BY inserted_at DESC")).contains("order_by=inserted_at"));
    for query in ["SELECT id FROM {}", "SELECT id FROM {} WHERE inserted_at > now() - interval '9 days'"] {
        agree(&mut session, query);
    }
    let error = session.execute("SET pancake_fdw.order_by = id").unwrap_err();
    let error = SqlError::of(&error).unwrap();
    assert_eq!(error.sqlstate, "22023");
    assert!(error.hint.as_deref().unwrap().contains("auto, inserted_at, updated_at"));
}

#[test]
fn a_prepared_statement_answers_alike_eight_times() {
    let (shop, mut session) = open(100);
    let body = |table: &str| {
        format!(
            "SELECT id FROM {table} WHERE type = $1 AND updated_at > $2 AND tags @> $3 AND NOT seen = $4 ORDER BY id"
        )
    };
    for (name, table) in [("ours", "shop.conversations"), ("theirs", "copy")] {
        session
            .execute(&format!("PREPARE {name}(text, timestamptz, text[], boolean) AS {}", body(table)))
            .unwrap();
    }
    let arguments = [
        "'INBOX', '2020-01-01', '{}', false",
        "'COMMENT', '2020-01-01', '{}', true",
        "'INBOX', now() - interval '30 days', '{61}', false",
        "NULL, now(), '{}', false",
        "'RATING', '-infinity', '{}', false",
        "'INBOX', 'infinity', '{61}', true",
        "'INBOX', '2020-01-01', '{61,62}', false",
        "'INBOX', '2020-01-01', '{}', false",
    ];
    for round in 0..2 {
        for arguments in arguments {
            let ours = session.column(&format!("EXECUTE ours({arguments})")).unwrap();
            assert_eq!(
                ours,
                session.column(&format!("EXECUTE theirs({arguments})")).unwrap(),
                "{round}: {arguments}"
            );
        }
    }
    assert_ne!(
        session.one("SELECT generic_plans FROM pg_prepared_statements WHERE name = 'ours'").unwrap(),
        "∅"
    );
    // Through the extended protocol, whose portals may be read in pieces.
    let client = session.client();
    let statement = client.prepare("SELECT id FROM shop.conversations WHERE type = $1").unwrap();
    let first = client.query(&statement, &[&"INBOX"]).unwrap().len();
    for _ in 0..7 {
        assert_eq!(client.query(&statement, &[&"INBOX"]).unwrap().len(), first);
    }
    let mut transaction = client.transaction().unwrap();
    let portals = [
        transaction.bind(&statement, &[&"INBOX"]).unwrap(),
        transaction.bind(&statement, &[&"COMMENT"]).unwrap(),
    ];
    let mut counts = [0, 0];
    loop {
        let before = counts;
        for (portal, count) in portals.iter().zip(&mut counts) {
            *count += transaction.query_portal(portal, 13).unwrap().len();
        }
        if counts == before {
            break;
        }
    }
    assert_eq!(counts[0], first);
    drop(transaction);
    shop.assert_no_violations().unwrap();
}

#[test]
fn a_cached_plan_obeys_what_another_session_alters() {
    let (shop, mut session) = open(70);
    let mut other = shop.connect().unwrap();
    session.execute("SET plan_cache_mode = force_generic_plan; PREPARE p(text) AS SELECT count(*) FROM shop.conversations WHERE type = $1").unwrap();
    let count = session.one("EXECUTE p('INBOX')").unwrap();
    other.execute("ALTER SERVER shop OPTIONS (ADD pushdown 'none')").unwrap();
    let (again, log) = shop.watch(|| session.one("EXECUTE p('INBOX')").unwrap());
    assert_eq!(again, count);
    assert!(log.iter().all(|entry| entry.param("type").is_none()));
    other.execute("ALTER FOREIGN TABLE shop.conversations OPTIONS (ADD page_id '100000000000009')").unwrap();
    assert_eq!(session.error("EXECUTE p('INBOX')").unwrap().severity, "ERROR");
    other.execute("ALTER FOREIGN TABLE shop.conversations OPTIONS (DROP page_id)").unwrap();
    other
        .execute("ALTER SERVER shop OPTIONS (SET base_url 'http://127.0.0.1:1/api', ADD max_retries '0')")
        .unwrap();
    assert_eq!(session.error("EXECUTE p('INBOX')").unwrap().sqlstate, "HV00N");
    let back = format!("ALTER SERVER shop OPTIONS (SET base_url '{}')", shop.simulator.base_url());
    other.execute(&back).unwrap();
    assert_eq!(session.one("EXECUTE p('INBOX')").unwrap(), count);
    // The token acts at the next scan.
    shop.simulator.first_page().set_token("another");
    assert_eq!(session.error("EXECUTE p('INBOX')").unwrap().sqlstate, "28000");
    other
        .execute("ALTER USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (SET page_access_token 'another')")
        .unwrap();
    assert_eq!(session.one("EXECUTE p('INBOX')").unwrap(), count);
    other.execute("ALTER FOREIGN TABLE shop.conversations ALTER COLUMN type TYPE varchar(20)").unwrap();
    assert_eq!(session.one("EXECUTE p('INBOX')").unwrap(), count);
}

#[test]
fn loops_of_plpgsql() {
    let (shop, mut session) = open(130);
    session
        .execute(
            "CREATE FUNCTION walk(the_type text) RETURNS bigint LANGUAGE plpgsql AS $$
             DECLARE r record; inner_ids text[]; n bigint := 0; caught bigint := 0; BEGIN
                 FOR r IN SELECT id, updated_at FROM shop.conversations WHERE type = the_type LOOP
                     n := n + 1;
                     IF n % 20 = 0 THEN
                         SELECT array_agg(id) INTO inner_ids FROM shop.conversations WHERE updated_at = r.updated_at;
                         IF NOT r.id = ANY(inner_ids) THEN RAISE 'lost %', r.id; END IF;
                     END IF;
                     IF n % 15 = 0 THEN
                         BEGIN
                             PERFORM 1 / (message_count - message_count) FROM shop.conversations;
                         EXCEPTION WHEN division_by_zero THEN caught := caught + 1;
                         END;
                     END IF;
                     EXIT WHEN n = 1000;
                 END LOOP;
                 IF caught <> n / 15 THEN RAISE 'caught %', caught; END IF;
                 RETURN n;
             END$$;
             CREATE FUNCTION early() RETURNS text LANGUAGE plpgsql AS $$
             DECLARE r record; BEGIN
                 FOR r IN SELECT id FROM shop.conversations ORDER BY id LOOP RETURN r.id; END LOOP;
             END$$",
        )
        .unwrap();
    for kind in ["INBOX", "COMMENT", "INBOX", "RATING", "INBOX", "INBOX", "INBOX"] {
        let n = session.one(&format!("SELECT walk('{kind}')")).unwrap();
        assert_eq!(
            n,
            session.one(&format!("SELECT count(*) FROM copy WHERE type = '{kind}'")).unwrap(),
            "{kind}"
        );
    }
    assert_eq!(session.one("SELECT early()").unwrap(), session.one("SELECT min(id) FROM copy").unwrap());
    assert_eq!(
        session.one("SELECT count(*) FROM pancake.progress WHERE pid = pg_backend_pid()").unwrap(),
        "0"
    );
    shop.assert_no_violations().unwrap();
}

#[test]
fn cursors() {
    let (shop, mut session) = open(200);
    let all = session.column("SELECT id FROM shop.conversations").unwrap();
    // Forward, two at once, one of them abandoned.
    session.execute("BEGIN; DECLARE a CURSOR FOR SELECT id FROM shop.conversations; DECLARE b CURSOR FOR SELECT id FROM shop.conversations WHERE type = 'INBOX'").unwrap();
    let mut a = Vec::new();
    for _ in 0..20 {
        a.extend(session.column("FETCH 17 FROM a").unwrap());
        session.rows("FETCH 3 FROM b").unwrap();
    }
    assert_eq!(a, all);
    assert_eq!(session.error("FETCH BACKWARD 1 FROM b").unwrap().sqlstate, "55000");
    session.execute("ROLLBACK").unwrap();
    // Scrollable.
    session.execute("BEGIN; DECLARE s SCROLL CURSOR FOR SELECT id FROM shop.conversations").unwrap();
    assert_eq!(session.column("FETCH 70 FROM s").unwrap(), all[..70]);
    let mut back = session.column("FETCH BACKWARD 69 FROM s").unwrap();
    back.reverse();
    assert_eq!(back, all[..69]);
    assert_eq!(session.column("FETCH ABSOLUTE 150 FROM s").unwrap(), all[149..150]);
    assert_eq!(session.column("FETCH LAST FROM s").unwrap(), all[199..]);
    assert_eq!(session.column("FETCH FIRST FROM s").unwrap(), all[..1]);
    session.execute("MOVE 10 IN s").unwrap();
    assert_eq!(session.column("FETCH RELATIVE 2 FROM s").unwrap(), all[12..13]);
    session.execute("COMMIT").unwrap();
    // Kept beyond its transaction.
    session
        .execute(
            "BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT id FROM shop.conversations; FETCH 5 FROM h; COMMIT",
        )
        .unwrap();
    let (rest, log) = shop.watch(|| session.column("FETCH ALL FROM h").unwrap());
    assert_eq!((rest.as_slice(), log.len()), (&all[5..], 0));
    session.execute("CLOSE h").unwrap();
    // A savepoint that is rolled back under an open cursor, and an error in between.
    session
        .execute("BEGIN; DECLARE c CURSOR FOR SELECT id FROM shop.conversations; FETCH 5 FROM c; SAVEPOINT s")
        .unwrap();
    assert_eq!(session.error("SELECT 1 / 0 FROM shop.conversations").unwrap().sqlstate, "22012");
    session.execute("ROLLBACK TO s").unwrap();
    assert_eq!(session.column("FETCH 100 FROM c").unwrap(), all[5..105]);
    session.execute("COMMIT").unwrap();
    assert_eq!(
        session.one("SELECT count(*) FROM pancake.progress WHERE pid = pg_backend_pid()").unwrap(),
        "0"
    );
    shop.assert_no_violations().unwrap();
}

const JOINS: &[&str] = &[
    "SELECT crm.id, c.snippet FROM crm JOIN {} c USING (id)",
    "SELECT crm.id, c.snippet FROM crm LEFT JOIN {} c ON c.id = crm.id AND c.type = 'COMMENT'",
    "SELECT crm.n, c.id FROM {} c LEFT JOIN crm ON c.id = crm.id WHERE c.type = 'INBOX'",
    "SELECT crm.n, c.id FROM crm FULL JOIN {} c ON c.id = crm.id",
    "SELECT crm.n, c.id FROM crm RIGHT JOIN {} c ON c.id = crm.id AND crm.n < 5",
    "SELECT a.id, b.id FROM {} a JOIN {} b ON a.customer_id = b.customer_id AND a.id < b.id OR a.id = b.id",
    "SELECT a.id, b.updated_at FROM {} a JOIN {} b USING (id) WHERE a.type = 'INBOX' AND b.seen",
    "SELECT id FROM crm WHERE EXISTS (SELECT FROM {} c WHERE c.id = crm.id AND c.type = crm.wanted)",
    "SELECT n, (SELECT count(*) FROM {} c WHERE c.type = crm.wanted AND c.id <= crm.id) FROM crm",
    "SELECT n, (SELECT max(updated_at) FROM {} c WHERE c.tags @> ARRAY[(60 + crm.n)::text]) FROM crm",
    "SELECT n, l.id FROM crm, LATERAL (SELECT id FROM {} c WHERE c.type = crm.wanted ORDER BY id LIMIT 3) l",
    "SELECT n, l.id FROM crm LEFT JOIN LATERAL (SELECT id FROM {} c WHERE c.type = crm.wanted AND c.id > crm.id ORDER BY id LIMIT 2) l ON true",
    "SELECT id FROM crm WHERE id IN (SELECT id FROM {} WHERE type = 'COMMENT')",
    "SELECT id FROM crm WHERE id NOT IN (SELECT id FROM {} WHERE type = 'COMMENT')",
    "SELECT id FROM {} UNION ALL SELECT id FROM {} WHERE type = 'INBOX'",
    "SELECT id FROM {} EXCEPT SELECT id FROM {} WHERE type = 'INBOX'",
    "SELECT id FROM {} WHERE seen INTERSECT ALL SELECT id FROM {} WHERE type = 'INBOX'",
    "SELECT type, count(*), max(updated_at), array_agg(id ORDER BY id) FROM {} GROUP BY type HAVING count(*) > 1",
    "SELECT id, row_number() OVER (PARTITION BY type ORDER BY updated_at, id) FROM {}",
    "SELECT type, seen, count(*) FROM {} GROUP BY CUBE (type, seen)",
    "SELECT DISTINCT ON (type) type, id FROM {} ORDER BY type, updated_at DESC, id",
    "SELECT unnest(tags), count(*) FROM {} GROUP BY 1",
    "WITH RECURSIVE w AS (SELECT min(id) AS id FROM {} UNION SELECT (SELECT min(c.id) FROM {} c WHERE c.id > w.id AND c.type = 'RATING') FROM w WHERE w.id IS NOT NULL) SELECT * FROM w",
    "WITH c AS MATERIALIZED (SELECT * FROM {}) SELECT a.id FROM c a JOIN c b USING (id)",
    "SELECT id FROM {} ORDER BY updated_at DESC, id LIMIT 7",
    "SELECT id FROM {} ORDER BY inserted_at DESC, id OFFSET 5 LIMIT 70",
    "SELECT id FROM {} ORDER BY updated_at, id LIMIT 7",
    "SELECT updated_at FROM {} WHERE type = 'INBOX' ORDER BY updated_at DESC FETCH FIRST 3 ROWS WITH TIES",
];

#[test]
fn joins_and_subqueries_by_every_method() {
    let (shop, mut session) = open(75);
    for settings in [
        "",
        "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; SET enable_memoize = off",
        "SET enable_nestloop = off; SET enable_hashjoin = off",
        "SET enable_nestloop = off; SET enable_mergejoin = off; SET work_mem = '64kB'",
        "SET force_parallel_mode = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0",
        "SET enable_async_append = off; SET jit = on; SET jit_above_cost = 0",
    ] {
        session.execute(settings).unwrap();
        for sql in JOINS {
            agree(&mut session, sql);
        }
        session.execute("RESET ALL").unwrap();
    }
    shop.assert_no_violations().unwrap();
}

/// A scan of the inner side starts anew for each outer row, with that row's values.
#[test]
fn a_rescan_reads_anew() {
    let (shop, mut session) = open(70);
    let sql = "SELECT string_agg((SELECT count(*) FROM shop.conversations c WHERE c.type = t.type AND c.updated_at > t.since)::text, ',')
               FROM (VALUES ('INBOX', '-infinity'::timestamptz), (NULL, NULL), ('COMMENT', '2020-01-01'), ('INBOX', 'infinity'), ('INBOX', '2020-01-01')) t (type, since)";
    let (answer, log) = shop.watch(|| session.one(sql).unwrap());
    let count = |kind: &str, session: &mut Session| {
        session.one(&format!("SELECT count(*) FROM copy WHERE type = '{kind}'")).unwrap()
    };
    let (inbox, comment) = (count("INBOX", &mut session), count("COMMENT", &mut session));
    assert_eq!(answer, format!("{inbox},0,{comment},0,{inbox}"));
    assert!(log.iter().all(|entry| entry.param("type").is_some()), "each walk asks for its own type");
    // What changed in between is seen by the next walk.
    let page = shop.simulator.first_page();
    let id = page.ids().remove(0);
    assert!(page.message(&id));
    let newer = format!(
        "SELECT c.message_count - copy.message_count FROM shop.conversations c JOIN copy USING (id) WHERE id = '{id}'"
    );
    assert_eq!(session.one(&newer).unwrap(), "1");
}

/// The inner side of a loop may be wanted again with the same parameters, and then with others:
/// what was kept for the one is no answer to the other.
#[test]
fn what_a_rescan_keeps_is_of_its_parameters() {
    let (shop, mut session) = open(130);
    session
        .execute(
            "CREATE TABLE kinds AS SELECT unnest('{INBOX,COMMENT,RATING,INBOX,NULL}'::text[]) AS kind; CREATE TABLE two AS SELECT generate_series(1, 2) AS n;
             ANALYZE kinds; ANALYZE two;
             SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; SET enable_memoize = off",
        )
        .unwrap();
    let sql = "SELECT kind, (SELECT string_agg(c.id, ',' ORDER BY c.id) FROM two LEFT JOIN {} c ON c.type = kind AND c.message_count % 2 < two.n) FROM kinds";
    let plan = session.explain(&sql.replace("{}", "shop.conversations")).unwrap();
    let (outer, inner) = (plan.find("Seq Scan on two").unwrap(), plan.find("Foreign Scan").unwrap());
    assert!(outer < inner, "{plan}");
    let (_, log) = shop.watch(|| agree(&mut session, sql));
    // The second turn of each loop costs nothing.
    let starts = log.iter().filter(|entry| !entry.has_cursor() && entry.param("until").is_none()).count();
    // The few ratings are a list of one reply, whose end a second one proves.
    assert_eq!(starts, 5, "{plan}");
    shop.assert_no_violations().unwrap();
}

#[test]
fn copies_of_every_kind() {
    let (shop, mut session) = open(130);
    session.execute("CREATE TABLE again AS SELECT * FROM shop.conversations WHERE type = 'INBOX'; INSERT INTO again SELECT * FROM shop.conversations WHERE type = 'COMMENT'").unwrap();
    let difference = |session: &mut Session, table: &str| {
        session.one(&format!("SELECT count(*) FROM (SELECT * FROM copy WHERE type IN ('INBOX', 'COMMENT') EXCEPT ALL SELECT * FROM {table}) d")).unwrap()
    };
    assert_eq!(difference(&mut session, "again"), "0");
    let mut text = String::new();
    session
        .client()
        .copy_out("COPY (SELECT id, updated_at, raw FROM shop.conversations) TO STDOUT")
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text.lines().count(), 130);
    text.clear();
    let error = session.error("COPY shop.conversations TO STDOUT").unwrap();
    assert_eq!(error.sqlstate, "42809", "{error}");

    session
        .execute(
            "CREATE MATERIALIZED VIEW mat AS SELECT * FROM shop.conversations WHERE type IN ('INBOX', 'COMMENT');
             CREATE UNIQUE INDEX ON mat (id)",
        )
        .unwrap();
    assert_eq!(difference(&mut session, "mat"), "0");
    let page = shop.simulator.first_page();
    let id = session.one("SELECT id FROM mat WHERE type = 'INBOX' LIMIT 1").unwrap();
    for (refresh, tag) in
        [("REFRESH MATERIALIZED VIEW mat", 68), ("REFRESH MATERIALIZED VIEW CONCURRENTLY mat", 69)]
    {
        page.retag(&id, &[tag]);
        session.execute(refresh).unwrap();
        assert_eq!(
            session.one(&format!("SELECT tags FROM mat WHERE id = '{id}'")).unwrap(),
            format!("{{{tag}}}")
        );
    }
    session
        .execute("INSERT INTO again SELECT * FROM shop.conversations ON CONFLICT DO NOTHING; MERGE INTO crm USING shop.conversations c ON c.id = crm.id WHEN MATCHED THEN UPDATE SET wanted = c.type || '!'")
        .unwrap();
    assert_eq!(session.one("SELECT count(*) FROM crm WHERE wanted LIKE '%!'").unwrap(), "9");
    session
        .execute("UPDATE crm SET wanted = c.snippet FROM shop.conversations c WHERE c.id = crm.id")
        .unwrap();
    session
        .execute("DELETE FROM crm USING shop.conversations c WHERE c.id = crm.id AND c.type = 'INBOX'")
        .unwrap();
    shop.assert_no_violations().unwrap();
}

#[test]
fn read_only_both_ways() {
    let (shop, mut session) = open(70);
    session.execute("BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE").unwrap();
    assert_eq!(session.one("SELECT count(*) FROM shop.conversations").unwrap(), "70");
    session.execute("COMMIT").unwrap();
    for sql in [
        "INSERT INTO shop.conversations (id) VALUES ('x')",
        "UPDATE shop.conversations SET seen = true",
        "DELETE FROM shop.conversations",
    ] {
        assert_eq!(session.error(sql).unwrap().sqlstate, "0A000", "{sql}");
    }
    assert_eq!(session.error("TRUNCATE shop.conversations").unwrap().sqlstate, "0A000");
    assert_eq!(
        session.error("SELECT * FROM shop.conversations TABLESAMPLE SYSTEM (10)").unwrap().sqlstate,
        "0A000"
    );
    assert_eq!(session.rows("SELECT * FROM shop.conversations FOR UPDATE").unwrap().len(), 70);
    assert_eq!(
        session
            .rows("SELECT * FROM shop.conversations c JOIN crm USING (id) FOR UPDATE OF crm")
            .unwrap()
            .len(),
        9
    );
    shop.assert_no_violations().unwrap();
}

/// Another session changes the locked row: Postgres checks the join again with the row that the
/// scan had given.
#[test]
fn a_concurrent_update_is_rechecked() {
    let (shop, mut session) = open(70);
    let mut other = shop.connect().unwrap();
    other.execute("BEGIN; UPDATE crm SET n = n + 100").unwrap();
    let pid = session.pid().unwrap();
    let waiter = std::thread::spawn(move || {
        session
            .rows("UPDATE crm SET wanted = c.id FROM shop.conversations c WHERE c.id = crm.id AND c.type = crm.wanted RETURNING crm.n > 100, c.id = crm.id, c.snippet IS NOT NULL, c IS NULL")
            .unwrap()
    });
    let begun = std::time::Instant::now();
    let waits =
        format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event_type = 'Lock'");
    while other.one(&waits).unwrap() == "0" {
        assert!(begun.elapsed().as_secs() < 20, "it never waited");
    }
    other.execute("COMMIT").unwrap();
    let rows = waiter.join().unwrap();
    let text = |cell: &str| Some(cell.to_owned());
    assert_eq!(rows, vec![vec![text("t"), text("t"), text("t"), text("f")]; 9]);
}

#[test]
fn views_run_as_their_owner() {
    let (shop, mut session) = open(70);
    let name = shop.database.name().to_owned();
    let (owner, reader) = (format!("owner_{name}"), format!("reader_{name}"));
    session
        .execute(&format!(
            "CREATE ROLE {owner}; CREATE ROLE {reader} LOGIN;
             GRANT USAGE ON SCHEMA shop TO {owner}, {reader}; GRANT SELECT ON shop.conversations TO {owner};
             GRANT CREATE, USAGE ON SCHEMA public TO {owner}; GRANT USAGE ON SCHEMA public TO {reader};
             CREATE VIEW lent AS SELECT id, type FROM shop.conversations; ALTER VIEW lent OWNER TO {owner};
             GRANT SELECT ON lent TO {reader};
             CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM shop.conversations';
             ALTER FUNCTION counted() OWNER TO {owner}"
        ))
        .unwrap();
    let mut reader = shop.database.connect_as(&reader).unwrap();
    let error = reader.error("SELECT count(*) FROM lent").unwrap();
    assert_eq!(error.sqlstate, "28000");
    assert!(error.message.contains(&owner) && error.hint.as_ref().unwrap().contains(&owner), "{error}");
    let token = shop.simulator.first_page().token();
    session
        .execute(&format!(
            "CREATE USER MAPPING FOR {owner} SERVER shop OPTIONS (page_access_token '{token}')"
        ))
        .unwrap();
    for sql in [
        "SELECT count(*) FROM lent",
        "SELECT counted()",
        "SELECT count(*) FROM lent a JOIN lent b USING (id)",
    ] {
        assert_eq!(reader.one(sql).unwrap(), "70", "{sql}");
    }
    assert_eq!(reader.error("SELECT count(*) FROM shop.conversations").unwrap().sqlstate, "42501");
    shop.assert_no_violations().unwrap();
}

/// The foreign scans of a plan.
fn scans_of(node: &serde_json::Value) -> Vec<&serde_json::Value> {
    let below = node["Plans"].as_array().into_iter().flatten().flat_map(scans_of);
    Some(node).filter(|node| node["Node Type"] == "Foreign Scan").into_iter().chain(below).collect()
}

#[test]
fn explain_of_every_format_can_be_read() {
    let (shop, mut session) = open(70);
    let sql = "SELECT n, (SELECT count(*) FROM shop.conversations c WHERE c.type = crm.wanted) FROM crm WHERE EXISTS (SELECT FROM shop.conversations LIMIT 1)";
    shop.simulator.clear_log();
    let plan = session.explain_with("ANALYZE, VERBOSE, FORMAT JSON", sql).unwrap();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let text = plan.to_string();
    for label in ["Pancake Sent", "Pancake Stopped"] {
        assert!(text.contains(&format!("\"{label}\":\"")), "{label}: {text}");
    }
    // Counts, bytes and times are numbers.
    let scans = scans_of(&plan[0]["Plan"]);
    let sum = |label: &str| -> f64 { scans.iter().map(|scan| scan[label].as_f64().unwrap()).sum() };
    assert_eq!(sum("Pancake Requests"), shop.simulator.log().len() as f64, "{text}");
    assert!(sum("Pancake Bytes") > 500.0 * sum("Pancake Rows"), "{text}");
    assert!(sum("Pancake Rows") >= 70.0 && sum("Pancake Network Time") > 0.0, "{text}");
    assert_eq!(sum("Pancake Retries") + sum("Pancake Throttled"), 0.0, "{text}");
    for label in ["Repeats", "Rate Limit Time", "Retry Wait Time", "Ahead"] {
        assert!(sum(&format!("Pancake {label}")) >= 0.0);
    }
    assert!(sum("Pancake Estimated Requests") >= 2.0 && sum("Pancake Estimated Time") > 0.0, "{text}");
    assert!(sum("Pancake Estimated Streams") >= 2.0, "{text}");
    session.execute("CREATE TEMP TABLE xml AS SELECT 1 AS x; SET client_min_messages = error").unwrap();
    for format in ["XML", "YAML", "TEXT"] {
        let plan = session.explain_with(&format!("ANALYZE, BUFFERS, FORMAT {format}"), sql).unwrap();
        assert!(plan.contains("Pancake"), "{plan}");
    }
    // A node that never ran.
    let never = session
        .explain_analyze("SELECT CASE WHEN n < 0 THEN (SELECT count(*) FROM shop.conversations) END FROM crm")
        .unwrap();
    assert!(never.contains("never executed"), "{never}");
    shop.assert_no_violations().unwrap();
}

/// An upper bound of the last day is not sent, which shows once its value is known.
#[test]
fn a_bound_that_is_not_sent_is_not_shown_as_sent() {
    let (shop, mut session) = open(300);
    for (clause, not_sent) in [
        ("inserted_at::date = current_date", false),
        ("inserted_at BETWEEN now() - interval '2 days' AND now() - interval '10 minutes'", true),
    ] {
        let query = format!("SELECT count(*) FROM shop.conversations WHERE {clause}");
        let (plan, log) = shop.watch(|| session.explain_analyze(&query).unwrap());
        assert!(log.iter().all(|entry| entry.param("until").is_none()), "{log:?}");
        assert!(!plan.contains("until="), "{plan}");
        assert!(plan.contains("Pancake Ends: below inserted_at"), "{plan}");
        assert_eq!(plan.contains("(less than a day ago)"), not_sent, "{plan}");
    }
}

#[test]
fn a_hot_standby_reads_too() {
    let primary = Cluster::start().unwrap();
    let shop = Shop::open_in(&primary, Settings::of(130).as_seen(), &[]).unwrap();
    shop.connect().unwrap().execute("CREATE TABLE copy AS SELECT * FROM shop.conversations").unwrap();
    let standby = primary.standby(&[]).unwrap();
    let mut session = standby.connect(shop.database.name()).unwrap();
    assert_eq!(session.one("SELECT pg_is_in_recovery()").unwrap(), "t");
    let begun = std::time::Instant::now();
    while session.rows("SELECT FROM copy LIMIT 1").map_or(0, |rows| rows.len()) == 0 {
        assert!(begun.elapsed().as_secs() < 20, "the copy never arrived");
    }
    agree(&mut session, "SELECT id, raw FROM {} WHERE type = 'INBOX'");
    agree(&mut session, "SELECT id FROM {} WHERE updated_at > now() - interval '20 days'");
    assert_eq!(session.one("SELECT requests > 0 FROM pancake.request_stats").unwrap(), "t");
    session
        .execute("BEGIN; DECLARE c CURSOR FOR SELECT id FROM shop.conversations; FETCH 100 FROM c; COMMIT")
        .unwrap();
    shop.assert_no_violations().unwrap();
}

/// An error in the middle of everything leaves nothing behind.
#[test]
fn errors_end_scans_cleanly() {
    let (shop, mut session) = open(130);
    for _ in 0..20 {
        let error =
            session.error("SELECT 1 / (message_count - message_count) FROM shop.conversations").unwrap();
        assert_eq!(error.sqlstate, "22012");
        let error = session.error("SELECT raw::text::int FROM shop.conversations").unwrap();
        assert_eq!(error.sqlstate, "22P02");
    }
    assert_eq!(session.one("SELECT count(*) FROM shop.conversations").unwrap(), "130");
    assert_eq!(
        session.one("SELECT count(*) FROM pancake.progress WHERE pid = pg_backend_pid()").unwrap(),
        "0"
    );
    let failed = session.rows("SELECT id::int FROM shop.conversations").unwrap_err();
    assert!(SqlError::of(&failed).is_some());
    let ids = session
        .client()
        .query_raw("SELECT id FROM shop.conversations", [] as [&str; 0])
        .unwrap()
        .count()
        .unwrap();
    assert_eq!(ids, 130);
    shop.assert_no_violations().unwrap();
}
