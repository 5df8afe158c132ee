//! A role that has a schema and a table of its own and nothing else. Its functions are run by
//! others: by ANALYZE of a superuser, by an autovacuum worker, by the refresh of a materialized
//! view. None of these gives it a right over the marks of another's target. What it can do by DML
//! of its own is in `sync::tables`.

use e2e::Cluster;

use super::beside::until;
use super::*;

const PAGE: &str = "100000000000001";

/// Statements that read or change what belongs to others, and what each of them returns: a value or
/// a SQLSTATE.
fn attempts(victim: &str) -> Vec<(String, &'static str)> {
    let target = format!("'{victim}'::regclass");
    let head = |query: &str| {
        format!("SELECT pancake_internal.sync_head(NULL::text, '{query}', 'SELECT 0', 10, false)")
    };
    let count = |what: &str| format!("SELECT count(*) FROM {what}");
    let changed = |change: &str| format!("WITH c AS ({change} RETURNING 1) SELECT count(*) FROM c");
    vec![
        (count("pancake.sync_state"), "0"),
        (count("pancake.sync_runs"), "0"),
        (count("pancake.progress"), "0"),
        (count("pancake.request_stats"), "0"),
        ("SELECT pancake.request_stats_reset()".to_owned(), "42501"),
        (count("pancake_internal.sync_marks"), "0"),
        (count("pancake_internal.sync_log"), "0"),
        (changed("UPDATE pancake_internal.sync_marks SET mark = '2099-01-01'"), "0"),
        (changed("UPDATE pancake_internal.sync_log SET status = 'failed'"), "0"),
        (
            changed(&format!(
                "INSERT INTO pancake_internal.sync_marks (target, page_id, object, source)
                 VALUES ({target}, '2', 'conversations', {target})"
            )),
            "42501",
        ),
        (
            changed(&format!(
                "INSERT INTO pancake_internal.sync_log (target, page_id, kind, status, started_at)
                 VALUES ({target}, '{PAGE}', 'delta', 'running', now())"
            )),
            "42501",
        ),
        (
            "WITH d AS (DELETE FROM pancake_internal.sync_marks RETURNING 1) SELECT count(*) FROM d"
                .to_owned(),
            "42501",
        ),
        // What the procedure calls is of a CALL of one's own.
        (
            format!(
                "SELECT pancake_internal.sync_open({target}, 'own.copy', '1 s', NULL, NULL, false, NULL, NULL)"
            ),
            "2D000",
        ),
        (format!("SELECT pancake_internal.sync_created({target})"), "42501"),
        (format!("SELECT pancake_internal.sync_start({target})"), "42501"),
        ("SELECT pancake_internal.sync_step()".to_owned(), "42501"),
        ("SELECT pancake_internal.sync_failed('57014', 'x', '', '')".to_owned(), "42501"),
        ("SELECT pancake_internal.sync_outcome()".to_owned(), "42501"),
        (format!("SELECT pancake_internal.sync_check({target})"), "42501"),
        // Values of other types than those that are read.
        (head("SELECT ''x''::text, 1::int4, now(), true, true"), "42804"),
        (head("SELECT 1::int4, ''x''::text, now(), true, true"), "42804"),
        (head("SELECT ''x''::text"), "42804"),
        (format!("SELECT pancake.sync_reset({target})"), "42501"),
    ]
}

/// A role whose functions make these attempts, whichever role runs them, and keep what came of it
/// in a table.
fn lay(shop: &Shop, session: &mut Session) -> (String, Vec<(String, &'static str)>) {
    let role = format!("mallory_{}", shop.database.name());
    let victim = session.one("SELECT 'crm.conversations'::regclass::oid").unwrap();
    session.execute(&format!("CREATE ROLE {role} LOGIN; CREATE SCHEMA own AUTHORIZATION {role}")).unwrap();
    let attempts = attempts(&victim);
    let list: Vec<_> = attempts.iter().map(|(sql, _)| format!("$q${sql}$q$")).collect();
    let mut mallory = shop.database.connect_as(&role).unwrap();
    mallory
        .execute(&format!(
            "CREATE TABLE own.loot (attempt int, result text, role name, session name);
             CREATE FUNCTION own.strike() RETURNS void LANGUAGE plpgsql AS $f$
             DECLARE
                 attempts CONSTANT text[] := ARRAY[{}];
                 got text;
             BEGIN
                 FOR i IN 1 .. cardinality(attempts) LOOP
                     BEGIN
                         EXECUTE attempts[i] INTO got;
                     EXCEPTION WHEN OTHERS THEN
                         got := SQLSTATE;
                     END;
                     INSERT INTO own.loot VALUES (i, got, current_user, session_user);
                 END LOOP;
             END $f$;
             -- A function that is not volatile may call one that is.
             CREATE FUNCTION own.constant(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
                 $f$ BEGIN PERFORM own.strike(); RETURN $1; END $f$;
             CREATE FUNCTION own.definer() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS
                 $f$ BEGIN PERFORM own.strike(); END $f$;
             CREATE TABLE own.trap (x integer);
             CREATE INDEX trap_x ON own.trap (own.constant(x));
             INSERT INTO own.trap VALUES (1);
             CREATE MATERIALIZED VIEW own.mv AS SELECT own.constant(1);
             DELETE FROM own.loot",
            list.join(", ")
        ))
        .unwrap();
    (role, attempts)
}

/// All that is remembered of syncs.
pub(super) fn remembered(session: &mut Session) -> Vec<String> {
    let sql = "SELECT m::text FROM pancake_internal.sync_marks m UNION ALL SELECT l::text FROM pancake_internal.sync_log l";
    session.column(sql).unwrap()
}

fn came_to_nothing(
    session: &mut Session,
    before: &[String],
    attempts: &[(String, &'static str)],
    role: &str,
    how: &str,
) {
    assert_eq!(remembered(session), before, "{how}");
    let loot = session.rows("SELECT attempt, result, role, session FROM own.loot").unwrap();
    assert!(loot.len() >= attempts.len(), "{how}: the function did not run");
    for row in loot {
        let (sql, expected) = &attempts[row[0].as_ref().unwrap().parse::<usize>().unwrap() - 1];
        assert_eq!(row[1].as_deref(), Some(*expected), "{how}: {sql}");
        assert_eq!((row[2].as_deref(), row[3].as_deref()), (Some(role), Some("postgres")), "{how}");
    }
    session.execute("DELETE FROM own.loot").unwrap();
}

#[test]
fn what_a_superuser_runs_for_it() {
    let (shop, mut session) = open(130);
    session.execute(SYNC).unwrap();
    let (role, attempts) = lay(&shop, &mut session);
    let before = remembered(&mut session);
    for how in [
        "ANALYZE own.trap",
        "VACUUM (ANALYZE) own.trap",
        "VACUUM (FULL) own.trap",
        "REINDEX TABLE own.trap",
        "REINDEX INDEX CONCURRENTLY own.trap_x",
        "REFRESH MATERIALIZED VIEW own.mv",
        "SELECT own.definer()",
    ] {
        session.execute(how).unwrap();
        came_to_nothing(&mut session, &before, &attempts, &role, how);
    }
    // A sync that runs meanwhile is not seen either.
    shop.simulator.switches(|switches| switches.latency = std::time::Duration::from_millis(200));
    let mut other = shop.connect().unwrap();
    let running = std::thread::spawn(move || other.execute(FULL));
    until(&mut session, "SELECT count(*) > 0 FROM pancake.progress WHERE page_id = '100000000000001'");
    session.execute("ANALYZE own.trap").unwrap();
    let seen = "SELECT DISTINCT result FROM own.loot WHERE attempt IN (1, 2, 3, 4)";
    assert_eq!(session.column(seen).unwrap(), ["0"]);
    running.join().unwrap().unwrap();
    assert_eq!(last_run(&mut session, "kind || status"), "fullok");
}

#[test]
fn what_an_autovacuum_worker_runs_for_it() {
    let settings = [
        ("autovacuum_naptime", "1s"),
        ("autovacuum_analyze_threshold", "0"),
        ("autovacuum_analyze_scale_factor", "0"),
    ];
    let cluster = Cluster::start_with(&settings).unwrap();
    let shop = Shop::open_in(&cluster, Settings::of(130).as_seen(), &[]).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE SCHEMA crm").unwrap();
    session.execute(SYNC).unwrap();
    let before = remembered(&mut session);
    let (role, attempts) = lay(&shop, &mut session);
    until(
        &mut session,
        "SELECT autoanalyze_count > 0 FROM pg_stat_user_tables WHERE relid = 'own.trap'::regclass",
    );
    came_to_nothing(&mut session, &before, &attempts, &role, "autovacuum");
}

/// A function in an index reads the page, with all rights: an autovacuum worker that executes it
/// makes no request.
#[test]
fn an_autovacuum_worker_makes_no_requests() {
    let settings = [
        ("autovacuum_naptime", "1s"),
        ("autovacuum_analyze_threshold", "0"),
        ("autovacuum_analyze_scale_factor", "0"),
    ];
    let cluster = Cluster::start_with(&settings).unwrap();
    let shop = Shop::open_in(&cluster, Settings::of(130).as_seen(), &[]).unwrap();
    let mut session = shop.connect().unwrap();
    session
        .execute(
            "CREATE SCHEMA crm; CREATE TABLE crm.read (result text);
             CREATE FUNCTION crm.read_page() RETURNS void LANGUAGE plpgsql AS $f$
             BEGIN
                 INSERT INTO crm.read SELECT count(*)::text FROM shop.conversations;
             EXCEPTION WHEN OTHERS THEN
                 INSERT INTO crm.read VALUES (SQLSTATE || ' ' || SQLERRM);
             END $f$;
             CREATE FUNCTION crm.constant(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
                 $f$ BEGIN PERFORM crm.read_page(); RETURN $1; END $f$;
             CREATE TABLE crm.trap (x integer) WITH (autovacuum_enabled = false);
             CREATE INDEX ON crm.trap (crm.constant(x));
             INSERT INTO crm.trap VALUES (1)",
        )
        .unwrap();
    assert_eq!(session.column("SELECT DISTINCT result FROM crm.read").unwrap(), ["130"]);
    let ((), log) = shop.watch(|| {
        session.execute("DELETE FROM crm.read; ALTER TABLE crm.trap RESET (autovacuum_enabled)").unwrap();
        until(&mut session, "SELECT count(*) > 0 FROM crm.read");
    });
    assert_eq!(log.len(), 0);
    let results = session.column("SELECT DISTINCT result FROM crm.read").unwrap();
    assert_eq!(results, ["42501 an autovacuum worker makes no requests to Pancake"]);
}

/// What the functions of other roles read while a sync runs is neither left out nor handed to it.
#[test]
fn a_definers_scan_has_its_rows() {
    let (shop, mut session) = open(70);
    let role = format!("eve_{}", shop.database.name());
    let token = shop.simulator.first_page().token();
    session
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; CREATE SCHEMA own AUTHORIZATION {role};
             GRANT USAGE ON SCHEMA crm, shop TO {role}; GRANT SELECT ON shop.conversations TO {role};
             CREATE USER MAPPING FOR {role} SERVER shop OPTIONS (page_access_token '{token}');
             CREATE FUNCTION crm.count_rows() RETURNS bigint LANGUAGE sql SECURITY DEFINER
                 AS 'SELECT count(*) FROM shop.conversations'"
        ))
        .unwrap();
    let mut eve = shop.database.connect_as(&role).unwrap();
    eve.execute(
        "CREATE TABLE own.copy (LIKE shop.conversations, rows bigint, PRIMARY KEY (page_id, id));
         CREATE FUNCTION own.count_rows() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN new.rows := crm.count_rows(); RETURN new; END $$;
         CREATE TRIGGER count_rows BEFORE INSERT ON own.copy FOR EACH ROW EXECUTE FUNCTION own.count_rows()",
    )
    .unwrap();
    eve.execute("CALL pancake.sync('shop.conversations', 'own.copy')").unwrap();
    assert_eq!(
        eve.column("SELECT DISTINCT rows || ' ' || count(*) FROM own.copy GROUP BY rows").unwrap(),
        ["70 70"]
    );
    drop(eve);
    session.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}
