//! What holds a clause back although its column has a parameter: the option, a path of its own, a
//! collation, security.

use e2e::ONE_CHAIN;
use pancake_simulator::Entry;

use super::{open, same, set, values};

#[test]
fn the_option_pushdown_says_what_may_be_sent() {
    let clause = "type = 'INBOX' AND tags @> '{61}' AND updated_at > now() - interval '9 days'";
    let sent = |log: &[Entry]| {
        let all = ["type", "tags"].into_iter();
        let mut sent: Vec<_> =
            all.filter(|name| log.iter().any(|entry| entry.param(name).is_some())).collect();
        // A bound is where the walk ends, and no parameter: it shows by the order.
        sent.extend(log.iter().all(|it| it.param("order_by") == Some("updated_at")).then_some("bound"));
        sent
    };
    let (shop, mut session) = open(130, &[("pushdown", "none"), ONE_CHAIN]);
    assert_eq!(sent(&same(&shop, &mut session, clause)), [""; 0]);
    assert_eq!(same(&shop, &mut session, "page_id = '2'").len(), 0);
    for (option, expected) in [
        ("type", vec!["type"]),
        ("type, tags", vec!["type", "tags"]),
        ("updated_at", vec!["bound"]),
        ("inserted_at,post_id", vec![]),
        ("all", vec!["type", "tags", "bound"]),
    ] {
        session.execute(&format!("ALTER SERVER shop OPTIONS (SET pushdown '{option}')")).unwrap();
        assert_eq!(sent(&same(&shop, &mut session, clause)), expected, "{option}");
    }
    // The table's own word goes before the server's.
    session.execute("ALTER FOREIGN TABLE shop.conversations OPTIONS (ADD pushdown 'none')").unwrap();
    assert_eq!(sent(&same(&shop, &mut session, clause)), [""; 0]);
    session.execute("ALTER SERVER shop OPTIONS (SET pushdown 'none')").unwrap();
    session.execute("ALTER FOREIGN TABLE shop.conversations OPTIONS (SET pushdown 'tags')").unwrap();
    assert_eq!(sent(&same(&shop, &mut session, clause)), ["tags"]);
    shop.assert_no_violations().unwrap();
}

/// A column that shows something else than its name, or in another type, is none that the server
/// filters.
#[test]
fn a_column_with_a_path_of_its_own_is_checked_here() {
    let (shop, mut session) = open(130, &[]);
    session
        .execute(
            "CREATE FOREIGN TABLE shop.turned (id text OPTIONS (path '/customer_id'), key text OPTIONS (path '/id'),
                 type text OPTIONS (path '/last_sent_by/name'), page_id text OPTIONS (path '/type'), post_id text OPTIONS (path '/snippet'),
                 tags text[] OPTIONS (path '/assignee_ids'), updated_at timestamptz OPTIONS (path '/inserted_at'),
                 inserted_at timestamptz OPTIONS (path '/updated_at')) SERVER shop OPTIONS (object 'conversations');
             CREATE TABLE turned AS SELECT * FROM shop.turned",
        )
        .unwrap();
    let mut value = |column: &str| {
        let sql = format!(
            "SELECT quote_literal({column}) FROM turned WHERE {column} IS NOT NULL GROUP BY {column} ORDER BY count(*) DESC, 1 LIMIT 1"
        );
        session.one(&sql).unwrap()
    };
    let [id, kind, page, post] = ["id", "type", "page_id", "post_id"].map(&mut value);
    let clauses = [
        format!("id = {id}"),
        format!("type = {kind}"),
        format!("page_id = {page}"),
        format!("post_id = {post}"),
        "type IN ('INBOX', 'COMMENT') OR true".to_owned(),
        "NOT tags @> '{61}'".to_owned(),
        "tags @> '{}'".to_owned(),
        "updated_at > now() - interval '20 days'".to_owned(),
        "inserted_at < now() - interval '20 days'".to_owned(),
        "updated_at::date > current_date - 20".to_owned(),
        "true ORDER BY updated_at DESC LIMIT 20".to_owned(),
        "true ORDER BY inserted_at DESC LIMIT 20".to_owned(),
    ];
    for clause in clauses {
        let sql = |table: &str| format!("SELECT key FROM {table} WHERE {clause}");
        let (mut ours, log) = shop.watch(|| session.column(&sql("shop.turned")).unwrap());
        let mut theirs = session.column(&sql("turned")).unwrap();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{clause}");
        assert!(!ours.is_empty(), "{clause}");
        for name in ["type", "tags", "post_ids", "since"] {
            assert!(log[0].param(name).is_none(), "{clause}: {:?}", log[0]);
        }
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn equal_is_what_the_collation_says() {
    let (shop, mut session) = open(130, &[("pushdown", "type, tags, post_id, updated_at, inserted_at")]);
    let at = "2026-03-30T02:11:05.000000";
    for (id, kind, post) in [("Ab", "inbox", "1_p"), ("aB", "INBOX", "1_P")] {
        let row =
            serde_json::json!({"id": id, "type": kind, "post_id": post, "inserted_at": at, "updated_at": at});
        shop.simulator.first_page().insert_row(row);
    }
    session.execute("TRUNCATE copy; INSERT INTO copy SELECT * FROM shop.conversations").unwrap();
    session
        .execute("CREATE COLLATION blunt (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        .unwrap();
    session.execute("CREATE FOREIGN TABLE blunt (id text, type text COLLATE blunt, tags text[] COLLATE blunt) SERVER shop OPTIONS (object 'conversations')").unwrap();
    for clause in [
        "type = 'inbox' COLLATE blunt",
        "type = 'INBOX' COLLATE blunt",
        "type COLLATE blunt = ANY('{INBOX,COMMENT}')",
        "type COLLATE blunt = 'INBOX' OR type COLLATE blunt = 'COMMENT'",
        "post_id = '1_P' COLLATE blunt",
        "id = 'AB' COLLATE blunt",
        "id COLLATE blunt IN ('ab', 'Ab', 'aB')",
        "'ab' COLLATE blunt = id AND type = 'inbox' COLLATE blunt",
        "'inbox' COLLATE blunt = type",
        "type COLLATE blunt IN ('inbox', 'comment')",
        "type = 'inbox' COLLATE blunt AND tags @> '{61}'",
    ] {
        let log = same(&shop, &mut session, clause);
        assert_eq!(values(&log, "type"), set(&["-"]), "{clause}");
        assert_ne!(session.one(&format!("SELECT count(*) FROM copy WHERE {clause}")).unwrap(), "0");
    }
    let (count, log) = shop
        .watch(|| session.one("SELECT count(*) FROM blunt WHERE type = 'inbox' AND tags @> '{61}'").unwrap());
    let expected = "SELECT count(*) FROM copy WHERE type = 'INBOX' AND tags @> '{61}'";
    assert_eq!(count, session.one(expected).unwrap());
    assert_eq!(values(&log, "type"), set(&["-"]));
    // A deterministic one is as good as none.
    let log = same(&shop, &mut session, "type = 'INBOX' COLLATE \"C\"");
    assert_eq!(values(&log, "type"), set(&["INBOX"]));
    shop.assert_no_violations().unwrap();
}

/// A function that talks sees no row that the barrier holds back, and no clause of the outside
/// narrows what is asked unless core trusts it.
#[test]
fn a_security_barrier_holds() {
    let (shop, mut session) = open(130, &[]);
    session
        .execute(
            "CREATE VIEW comments WITH (security_barrier) AS SELECT * FROM shop.conversations WHERE type = 'COMMENT' AND seen;
             CREATE FUNCTION peek(id text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
                 $$BEGIN RAISE NOTICE '%', id; RETURN true; END$$;
             CREATE FUNCTION peek(types text[]) RETURNS text[] LANGUAGE plpgsql STABLE COST 0.0001 AS
                 $$BEGIN RAISE NOTICE 'operand'; RETURN types; END$$",
        )
        .unwrap();
    session.notices();
    let mut allowed =
        session.column("SELECT id FROM copy WHERE type = 'COMMENT' AND seen ORDER BY id").unwrap();
    let ids = session.column("SELECT id FROM comments WHERE peek(id) ORDER BY id").unwrap();
    let mut seen: Vec<String> = session.notices().into_iter().map(|notice| notice.message).collect();
    seen.sort();
    allowed.sort();
    assert_eq!(seen, allowed);
    assert_eq!(ids.len(), allowed.len());

    for clause in
        ["tags @> '{61}'", "'61' = ANY(tags)", "type = 'COMMENT'", "updated_at > now() - interval '30 days'"]
    {
        let (count, log) =
            shop.watch(|| session.one(&format!("SELECT count(*) FROM comments WHERE {clause}")).unwrap());
        let expected = format!("SELECT count(*) FROM copy WHERE type = 'COMMENT' AND seen AND {clause}");
        assert_eq!(count, session.one(&expected).unwrap());
        assert_eq!(values(&log, "type"), set(&["COMMENT"]), "{clause}");
    }
    shop.assert_no_violations().unwrap();
}

/// The same by row security, which a foreign table has from its partitioned parent.
#[test]
fn row_security_comes_first() {
    let (shop, mut session) = open(130, &[]);
    let clerk = format!("clerk_{}", shop.database.name());
    session
        .execute(&format!(
            "CREATE ROLE {clerk} LOGIN;
             GRANT USAGE ON SCHEMA shop TO {clerk}; GRANT SELECT ON copy TO {clerk};
             CREATE USER MAPPING FOR {clerk} SERVER shop OPTIONS (page_access_token '{}');
             CREATE TABLE guarded (id text, type text, tags text[], seen boolean, updated_at timestamptz, page_id text)
                 PARTITION BY LIST (page_id);
             CREATE FOREIGN TABLE guarded_1 PARTITION OF guarded FOR VALUES IN ('100000000000001')
                 SERVER shop OPTIONS (object 'conversations');
             ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
             CREATE POLICY seen ON guarded USING (seen AND type = 'INBOX');
             GRANT SELECT ON guarded TO {clerk};
             CREATE FUNCTION peek(id text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
                 $$BEGIN RAISE NOTICE '%', id; RETURN true; END$$",
            shop.simulator.first_page().token()
        ))
        .unwrap();
    let mut clerk = shop.database.connect_as(&clerk).unwrap();
    let allowed = "SELECT id FROM copy WHERE seen AND type = 'INBOX'";
    let mut expected = session.column(allowed).unwrap();
    expected.sort();
    clerk.rows("SELECT * FROM guarded WHERE peek(id)").unwrap();
    let mut seen: Vec<String> = clerk.notices().into_iter().map(|notice| notice.message).collect();
    seen.sort();
    assert_eq!(seen, expected);

    let untrusted = "SELECT count(*) FROM guarded WHERE tags @> '{61}'";
    let (count, log) = shop.watch(|| clerk.one(untrusted).unwrap());
    assert_eq!(
        count,
        session.one(&format!("SELECT count(*) FROM ({allowed} AND tags @> '{{61}}') x")).unwrap()
    );
    assert_eq!((values(&log, "type"), values(&log, "tags")), (set(&["INBOX"]), set(&["-"])));
    let plan = clerk.explain(untrusted).unwrap();
    let not_sent =
        plan.lines().find(|line| line.contains("Pancake Not Sent")).unwrap_or_else(|| panic!("{plan}"));
    assert!(not_sent.contains("tags @>") && not_sent.contains("row security comes first"), "{plan}");
    // What core trusts is sent.
    let trusted = "SELECT count(*) FROM guarded WHERE updated_at > now() - interval '9 days'";
    let (_, log) = shop.watch(|| clerk.one(trusted).unwrap());
    assert_eq!(values(&log, "order_by"), set(&["updated_at"]));
    shop.assert_no_violations().unwrap();
}
