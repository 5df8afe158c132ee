//! Whether the table may stand wherever a table may: whole rows, system columns, children and
//! partitions, anti-joins, beside tables with row security, in every statement that names it twice.

use super::{agree, open};

const SHAPES: &[&str] = &[
    "SELECT count(*) FROM {}",
    "SELECT FROM {} WHERE type = 'INBOX'",
    "SELECT 1 FROM {} WHERE type = 'RATING'",
    "SELECT count(c), count(DISTINCT c.type) FROM {} c WHERE c IS NOT NULL OR c IS NULL",
    "SELECT to_jsonb(c) - 'raw' FROM {} c WHERE type = 'COMMENT'",
    "SELECT (c).id, (c).tags[1] FROM (SELECT c FROM {} c WHERE type = 'INBOX') s (c)",
    "SELECT a.id FROM {} a JOIN {} b ON a.id = b.id AND a.updated_at = (b).updated_at AND a.tags @> b.tags",
    "SELECT a.id, b.id FROM {} a LEFT JOIN {} b ON b.post_id = a.post_id AND b.type = 'COMMENT' AND b.id < a.id",
    "SELECT a.id, b.id FROM {} a FULL JOIN {} b ON a.id = b.id AND a.type = 'INBOX' WHERE a.seen IS DISTINCT FROM b.seen",
    "SELECT a.id FROM {} a WHERE NOT EXISTS (SELECT FROM {} b WHERE b.customer_id = a.customer_id AND b.updated_at > a.updated_at)",
    "SELECT id FROM {} c WHERE NOT EXISTS (SELECT FROM crm WHERE crm.id = c.id)",
    "SELECT id FROM crm WHERE NOT EXISTS (SELECT FROM {} c WHERE c.id = crm.id AND c.type = 'COMMENT')",
    "SELECT n FROM crm LEFT JOIN {} c ON c.id = crm.id AND c.type = 'INBOX' WHERE c.id IS NULL OR c.seen",
    "SELECT id FROM {} WHERE (type, seen) IN (SELECT wanted, n > 4 FROM crm)",
    "SELECT id FROM {} WHERE type <> ALL (SELECT wanted FROM crm WHERE n < 3)",
    "SELECT id FROM {} WHERE type = ANY (ARRAY(SELECT wanted FROM crm)) AND updated_at < (SELECT max(updated_at) FROM {})",
    "SELECT id FROM {} a WHERE updated_at = (SELECT max(updated_at) FROM {} b WHERE b.type = a.type)",
    "SELECT crm.n, s.c FROM crm JOIN copy k USING (id), LATERAL (SELECT count(*) AS c FROM {} s WHERE s.updated_at >= k.updated_at AND k.inserted_at > s.inserted_at) s",
    "SELECT crm.n, s.id FROM crm JOIN copy k USING (id), LATERAL (SELECT id FROM {} s WHERE s.updated_at <= k.updated_at ORDER BY updated_at DESC, id LIMIT 2) s",
    "SELECT n, s.id FROM crm JOIN copy k USING (id) JOIN {} s ON s.updated_at::date = k.updated_at::date AND s.type = crm.wanted",
    "SELECT n, s.id FROM crm JOIN copy k USING (id) JOIN {} s ON s.tags && k.tags AND s.updated_at BETWEEN k.inserted_at AND k.updated_at",
    "SELECT v, s.id FROM (VALUES ('61', 'INBOX'), ('62', NULL), (NULL, 'INBOX'), ('VIP', 'COMMENT'), ('62', 'RATING')) v (tag, kind) JOIN {} s ON v.tag = ANY (s.tags) AND s.type = v.kind",
    "SELECT id, sum(message_count) OVER w, lag(id) OVER w FROM {} WHERE seen WINDOW w AS (PARTITION BY type ORDER BY inserted_at, id ROWS 3 PRECEDING)",
    "SELECT crm.n, s.x FROM crm LEFT JOIN LATERAL (SELECT c.id, crm.wanted || coalesce(c.type, '') AS x FROM {} c WHERE c.seen) s ON s.id = crm.id",
    "SELECT crm.n, s.x, t.y FROM crm LEFT JOIN LATERAL (SELECT c.type, coalesce(crm.n, 1) AS x FROM {} c) s ON s.type = crm.wanted LEFT JOIN LATERAL (SELECT s.x AS y FROM {} d WHERE d.id = crm.id) t ON true",
    "SELECT DISTINCT type, seen FROM {}",
    "(SELECT id FROM {} ORDER BY updated_at DESC, id LIMIT 5) UNION (SELECT id FROM {} ORDER BY inserted_at DESC, id LIMIT 5)",
    "WITH c AS NOT MATERIALIZED (SELECT * FROM {} WHERE type = 'INBOX') SELECT id FROM c WHERE seen UNION ALL SELECT id FROM c WHERE updated_at > '2020-01-01'",
    "SELECT x.id FROM {} x, LATERAL unnest(x.tags) t WHERE t = '61' AND x.tags @> ARRAY[t]",
    "SELECT mode() WITHIN GROUP (ORDER BY type), percentile_disc(0.5) WITHIN GROUP (ORDER BY updated_at) FROM {}",
    "SELECT id FROM ROWS FROM (generate_series(1, 3)) g (i) JOIN {} c ON c.message_count = g.i",
];

#[test]
fn it_stands_wherever_a_table_may() {
    let (shop, mut session) = open(75);
    for settings in ["", "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off"] {
        session.execute(settings).unwrap();
        for sql in SHAPES {
            agree(&mut session, sql);
        }
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn system_columns_and_whole_rows() {
    let (shop, mut session) = open(70);
    let one = |session: &mut _, sql: &str| e2e::Session::one(session, sql).unwrap();
    let tables = "SELECT string_agg(DISTINCT tableoid::regclass::text, ',') FROM shop.conversations";
    assert_eq!(one(&mut session, tables), "shop.conversations");
    assert_eq!(session.rows("SELECT ctid FROM shop.conversations").unwrap().len(), 70);
    assert_eq!(
        one(
            &mut session,
            "SELECT count(*) FROM shop.conversations WHERE tableoid = 'shop.conversations'::regclass"
        ),
        "70"
    );
    // A whole row has all columns, whatever else is asked for.
    assert_eq!(
        one(
            &mut session,
            "SELECT count(*) FROM (SELECT to_jsonb(c) AS row FROM shop.conversations c) a
             JOIN (SELECT to_jsonb(c) AS row FROM copy c) b USING (row)"
        ),
        "70"
    );
    assert_eq!(
        one(&mut session, "SELECT count(*) FROM shop.conversations a JOIN copy b ON a.*::text = b.*::text"),
        "70"
    );
    shop.assert_no_violations().unwrap();
}

/// A foreign table as a child by inheritance, and as a partition of a table by page.
#[test]
fn children_and_partitions() {
    let (shop, mut session) = open(130);
    session
        .execute(
            "CREATE TABLE parent (note text, id text, type text, tags text[], updated_at timestamptz);
             INSERT INTO parent VALUES ('local', 'x', 'INBOX', '{61}', now());
             CREATE FOREIGN TABLE child () INHERITS (parent) SERVER shop OPTIONS (object 'conversations');
             ALTER FOREIGN TABLE child ALTER note OPTIONS (ADD path '/snippet');
             CREATE TABLE pages (page_id text, updated_at timestamptz, id text, type text) PARTITION BY LIST (page_id);
             CREATE FOREIGN TABLE first PARTITION OF pages FOR VALUES IN ('100000000000001') SERVER shop OPTIONS (object 'conversations');
             CREATE TABLE others PARTITION OF pages DEFAULT;
             INSERT INTO others VALUES ('2', now(), 'y', 'INBOX')",
        )
        .unwrap();
    for (sql, expected) in [
        (
            "SELECT id FROM parent WHERE type = 'INBOX'",
            "SELECT id FROM copy WHERE type = 'INBOX' UNION ALL SELECT 'x'",
        ),
        ("SELECT id FROM ONLY parent", "SELECT 'x'"),
        (
            "SELECT note FROM parent WHERE tags @> '{61}'",
            "SELECT snippet FROM copy WHERE tags @> '{61}' UNION ALL SELECT 'local'",
        ),
        (
            "SELECT id FROM parent WHERE tableoid <> 'parent'::regclass AND updated_at > now() - interval '9 days'",
            "SELECT id FROM copy WHERE updated_at > now() - interval '9 days'",
        ),
        ("SELECT count(p), count(DISTINCT tableoid) FROM parent p", "SELECT 131, 2"),
        ("SELECT id FROM pages", "SELECT id FROM copy UNION ALL SELECT 'y'"),
        (
            "SELECT id FROM pages WHERE page_id = '100000000000001' AND type = 'INBOX'",
            "SELECT id FROM copy WHERE type = 'INBOX'",
        ),
        ("SELECT id FROM pages WHERE page_id = '2'", "SELECT 'y'"),
        (
            "SELECT id FROM (SELECT id, updated_at FROM pages ORDER BY updated_at DESC, id LIMIT 20) t",
            "SELECT id FROM (SELECT id, updated_at FROM copy UNION ALL SELECT id, updated_at FROM others ORDER BY updated_at DESC, id LIMIT 20) t",
        ),
        ("SELECT p.id FROM pages p JOIN crm USING (id)", "SELECT id FROM crm"),
        (
            "SELECT p.type, count(*) FROM pages p JOIN pages q USING (page_id, id) GROUP BY 1",
            "SELECT type, count(*) FROM (SELECT type FROM copy UNION ALL SELECT 'INBOX') t GROUP BY 1",
        ),
    ] {
        let (mut ours, mut theirs) = (session.rows(sql).unwrap(), session.rows(expected).unwrap());
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{sql}");
    }
    let (_, log) = shop.watch(|| session.rows("SELECT * FROM pages WHERE page_id = '2'").unwrap());
    assert_eq!(log.len(), 0, "another partition costs nothing");
    let (_, log) = shop.watch(|| session.rows("SELECT * FROM parent WHERE type = 'INBOX'").unwrap());
    assert!(log.iter().all(|entry| entry.param("type") == Some("INBOX")));
    session.execute("ANALYZE parent; ANALYZE pages").unwrap();
    assert_eq!(session.error("UPDATE parent SET note = ''").unwrap().sqlstate, "0A000");
    shop.assert_no_violations().unwrap();
}

/// The joined table's policy holds, whatever of the join is sent.
#[test]
fn row_security_of_a_joined_table() {
    let (shop, mut session) = open(130);
    let clerk = format!("clerk_{}", shop.database.name());
    session
        .execute(&format!(
            "CREATE ROLE {clerk} LOGIN; GRANT USAGE ON SCHEMA shop TO {clerk};
             GRANT SELECT ON shop.conversations, copy, crm TO {clerk};
             CREATE USER MAPPING FOR {clerk} SERVER shop OPTIONS (page_access_token '{}');
             ALTER TABLE crm ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON crm USING (n <= 4);
             CREATE VIEW open_cases WITH (security_barrier) AS SELECT * FROM crm WHERE n <= 6; GRANT SELECT ON open_cases TO {clerk}",
            shop.simulator.first_page().token()
        ))
        .unwrap();
    let mut clerk = shop.database.connect_as(&clerk).unwrap();
    assert_eq!(clerk.one("SELECT count(*) FROM crm").unwrap(), "4");
    for settings in ["", "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off"] {
        clerk.execute(settings).unwrap();
        for sql in [
            "SELECT n, c.id FROM crm JOIN {} c USING (id)",
            "SELECT n, c.id FROM crm JOIN {} c ON c.type = crm.wanted",
            "SELECT n, c.id FROM {} c LEFT JOIN crm ON c.id = crm.id WHERE c.type = 'INBOX'",
            "SELECT c.id FROM {} c WHERE NOT EXISTS (SELECT FROM crm WHERE crm.wanted = c.type)",
            "SELECT n, c.id FROM open_cases o JOIN {} c ON c.type = o.wanted WHERE c.tags @> '{61}'",
            "SELECT n, (SELECT max(updated_at) FROM {} c WHERE c.type = o.wanted) FROM open_cases o",
        ] {
            agree(&mut clerk, sql);
        }
    }
    shop.assert_no_violations().unwrap();
}

/// A cursor that goes back and forth meets the same rows, also under a join and in the server's own
/// order.
#[test]
fn scrolling_back_and_forth() {
    let (shop, mut session) = open(200);
    for sql in [
        "SELECT id FROM shop.conversations ORDER BY updated_at DESC, id",
        "SELECT c.id FROM shop.conversations c JOIN copy USING (id) ORDER BY c.inserted_at DESC, c.id",
        "SELECT id FROM shop.conversations WHERE type IN ('INBOX', 'COMMENT')",
    ] {
        session.execute(&format!("BEGIN; DECLARE s SCROLL CURSOR FOR {sql}")).unwrap();
        let all = session.column("FETCH ALL FROM s").unwrap();
        let last = session.column("FETCH LAST FROM s").unwrap();
        assert_eq!(last[..], all[all.len() - 1..], "{sql}");
        assert_eq!(session.column("FETCH FIRST FROM s").unwrap()[..], all[..1], "{sql}");
        let (middle, log) = shop.watch(|| session.column("FETCH ABSOLUTE 90 FROM s").unwrap());
        assert_eq!((&middle[..], log.len()), (&all[89..90], 0), "what was read is kept: {sql}");
        for (step, place) in
            [("PRIOR", 88), ("PRIOR", 87), ("NEXT", 88), ("RELATIVE -50", 38), ("RELATIVE 0", 38)]
        {
            assert_eq!(
                session.column(&format!("FETCH {step} FROM s")).unwrap()[..],
                all[place..place + 1],
                "{sql}"
            );
        }
        let mut back = session.column("FETCH BACKWARD ALL FROM s").unwrap();
        back.reverse();
        assert_eq!(back, all[..38], "{sql}");
        assert_eq!(session.column("FETCH ALL FROM s").unwrap(), all, "{sql}");
        session.execute("COMMIT").unwrap();
    }
    shop.assert_no_violations().unwrap();
}
