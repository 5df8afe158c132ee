//! The tables behind the views, which every role reads and writes under row security: rows of a
//! target belong to those who may INSERT into it, and are shown to those who may SELECT from it.
//! What others run for a role is in `sync::attacks`.

use super::attacks::remembered;
use super::*;

/// A role with a schema, a table of its own, and the marks of a sync into it.
fn intruder(shop: &Shop, session: &mut Session) -> (String, Session) {
    let role = format!("intruder_{}", shop.database.name());
    session.execute(&format!("CREATE ROLE {role} LOGIN; CREATE SCHEMA own AUTHORIZATION {role}")).unwrap();
    let mut intruder = shop.database.connect_as(&role).unwrap();
    intruder
        .execute(
            "CREATE TABLE own.copy (id text);
             INSERT INTO pancake_internal.sync_marks (target, page_id, object, source)
                 VALUES ('own.copy', '1', 'conversations', 'own.copy');
             INSERT INTO pancake_internal.sync_log (target, page_id, kind, status, started_at)
                 VALUES ('own.copy', '1', 'delta', 'ok', now())",
        )
        .unwrap();
    (role, intruder)
}

#[test]
fn a_role_changes_the_rows_of_its_own_targets_alone() {
    let (shop, mut session) = open(30);
    session.execute(SYNC).unwrap();
    let victim = session.one("SELECT 'crm.conversations'::regclass::oid").unwrap();
    let (role, mut intruder) = intruder(&shop, &mut session);
    let before = remembered(&mut session);
    // Also one that sees the rows, because it may read the target.
    for sees in [false, true] {
        if sees {
            session
                .execute(&format!(
                    "GRANT USAGE ON SCHEMA crm TO {role}; GRANT SELECT ON crm.conversations TO {role}"
                ))
                .unwrap();
        }
        let all = if sees { "2" } else { "1" };
        assert_eq!(intruder.one("SELECT count(*) FROM pancake_internal.sync_marks").unwrap(), all);
        assert_eq!(intruder.one("SELECT count(*) FROM pancake_internal.sync_log").unwrap(), all);
        assert_eq!(intruder.column("SELECT 1 FROM pancake_internal.sync_marks FOR UPDATE").unwrap().len(), 1);
        for (sql, sqlstate) in [
            // Another's target, a table that is not there, none.
            ("UPDATE pancake_internal.sync_marks SET target = VICTIM", "42501"),
            ("UPDATE pancake_internal.sync_log SET target = VICTIM", "42501"),
            ("INSERT INTO pancake_internal.sync_marks (target, page_id, object, source) VALUES (VICTIM, '3', 'tags', VICTIM)", "42501"),
            ("INSERT INTO pancake_internal.sync_marks (target, page_id, object, source) VALUES (VICTIM, '100000000000001', 'tags', VICTIM)
                  ON CONFLICT (target, page_id) DO UPDATE SET mark = '2099-01-01'", "42501"),
            ("INSERT INTO pancake_internal.sync_marks (target, page_id, object, source) VALUES ('4000000000'::regclass, '3', 'tags', VICTIM)", "42501"),
            ("INSERT INTO pancake_internal.sync_log (target, page_id, kind, status, started_at) VALUES (VICTIM, '1', 'full', 'ok', now())", "42501"),
            ("INSERT INTO pancake_internal.sync_log (target, page_id, kind, status, started_at) VALUES (NULL, '1', 'full', 'ok', now())", "42501"),
            // A number that another's run will want.
            ("INSERT INTO pancake_internal.sync_log (run_id, target, page_id, kind, status, started_at) VALUES (7, 'own.copy', '1', 'full', 'ok', now())", "42501"),
            ("UPDATE pancake_internal.sync_log SET run_id = 7", "42501"),
            ("SELECT setval('pancake_internal.sync_log_run_id_seq', 1)", "42501"),
            ("COPY pancake_internal.sync_log (target) FROM STDIN", "0A000"),
            // What would keep the others waiting.
            ("BEGIN; LOCK TABLE pancake_internal.sync_marks IN ACCESS EXCLUSIVE MODE", "42501"),
            ("BEGIN; LOCK TABLE pancake_internal.sync_log IN SHARE MODE", "42501"),
            ("BEGIN; LOCK TABLE pancake_internal.sync_log IN ROW EXCLUSIVE MODE", "42501"),
            ("DELETE FROM pancake_internal.sync_marks", "42501"),
            ("DELETE FROM pancake_internal.sync_log", "42501"),
            ("TRUNCATE pancake_internal.sync_log", "42501"),
            ("CREATE TRIGGER t BEFORE INSERT ON pancake_internal.sync_log FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()", "42501"),
            ("CREATE TABLE own.reference (r bigint REFERENCES pancake_internal.sync_log)", "42501"),
            ("ALTER TABLE pancake_internal.sync_marks DISABLE ROW LEVEL SECURITY", "42501"),
            ("CREATE POLICY mine ON pancake_internal.sync_marks USING (true)", "42501"),
            ("SET row_security = off; SELECT * FROM pancake_internal.sync_marks", "42501"),
        ] {
            let sql = sql.replace("VICTIM", &format!("'{victim}'::regclass"));
            assert_eq!(intruder.error(&sql).unwrap().sqlstate, sqlstate, "{sql}");
            intruder.execute("ROLLBACK; RESET row_security").unwrap();
        }
        assert_eq!(remembered(&mut session), before);
        intruder
            .execute("UPDATE pancake_internal.sync_marks SET mark = '2099-01-01', last_error = 'x'")
            .unwrap();
        intruder.execute("UPDATE pancake_internal.sync_log SET status = 'failed', requests = 9").unwrap();
        let changed = "SELECT count(*) FROM pancake_internal.sync_marks WHERE target = 'crm.conversations'::regclass AND mark < now() AND last_error IS NULL";
        assert_eq!(session.one(changed).unwrap(), "1");
        let changed = "SELECT count(*) FROM pancake_internal.sync_log WHERE status = 'ok'";
        assert_eq!(session.one(changed).unwrap(), "1");
        intruder.execute("UPDATE pancake_internal.sync_marks SET mark = NULL, last_error = NULL WHERE target = 'own.copy'::regclass").unwrap();
        intruder
            .execute(
                "UPDATE pancake_internal.sync_log SET status = 'ok', requests = 0 WHERE target = 'own.copy'::regclass",
            )
            .unwrap();
    }
    session.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
    // Rows of a table that is gone have no owner, and go with the next sync.
    assert_eq!(remembered(&mut session).len(), 4);
    session.execute(SYNC).unwrap();
    assert_eq!(session.one("SELECT count(*) FROM pancake_internal.sync_marks").unwrap(), "1");
}

/// Rows that are to be swept away may be locked by another session.
#[test]
fn a_row_that_its_owner_holds_keeps_nobody_waiting() {
    let (shop, mut session) = open(30);
    let (role, mut intruder) = intruder(&shop, &mut session);
    intruder.execute("INSERT INTO pancake_internal.sync_log (target, page_id, kind, status, started_at) VALUES ('own.copy', '1', 'full', 'ok', '2020-01-01')").unwrap();
    intruder
        .execute("BEGIN; SELECT FROM pancake_internal.sync_marks FOR UPDATE; SELECT FROM pancake_internal.sync_log FOR UPDATE")
        .unwrap();
    session.execute("DROP TABLE own.copy; SET lock_timeout = '10s'").unwrap();
    session.execute(SYNC).unwrap();
    assert_eq!(runs(&mut session), ["delta ok", "full ok", "backfill ok"]);
    intruder.execute("ROLLBACK").unwrap();
    session.execute(SYNC).unwrap();
    assert_eq!(runs(&mut session), ["delta ok", "backfill ok", "delta ok"]);
    assert_eq!(session.one("SELECT count(*) FROM pancake_internal.sync_marks").unwrap(), "1");
    session.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

#[test]
fn a_row_that_is_forgotten_and_still_there_is_as_good_as_gone() {
    let (_shop, mut session) = open(130);
    session.execute(SYNC).unwrap();
    session
        .execute(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pancake.sync_reset('crm.conversations'); COMMIT",
        )
        .unwrap();
    assert_eq!(session.one("SELECT count(*) FROM pancake_internal.sync_marks WHERE forgotten").unwrap(), "1");
    assert_eq!(session.one("SELECT count(*) FROM pancake.sync_state").unwrap(), "0");
    session.execute(SYNC).unwrap();
    assert_eq!(runs(&mut session), ["backfill ok", "backfill ok"]);
    assert_eq!(session.one("SELECT backfill_done FROM pancake.sync_state").unwrap(), "t");
    is_the_page(&mut session, "a row that was forgotten");
}

/// The number of a dropped table comes again one day. What was left under it is not believed of the
/// new one.
#[test]
fn a_new_target_has_no_marks_yet() {
    let (_shop, mut session) = open(130);
    session
        .execute(
            "INSERT INTO pancake_internal.sync_marks (target, page_id, object, source, mark, backfill_done)
             SELECT (n.next + i)::oid::regclass, '100000000000001', 'conversations', 'shop.conversations', now(), true
             FROM (SELECT max(oid)::bigint FROM pg_class) n (next), generate_series(1, 3000) i",
        )
        .unwrap();
    session.execute(SYNC).unwrap();
    assert_eq!(runs(&mut session), ["backfill ok"]);
    is_the_page(&mut session, "marks of a dropped table");
}
