//! Rights are those of `current_user` when a statement is called: of the role that is set, of the
//! owner of a SECURITY DEFINER function, of the members of the target's owner. What a role does
//! without rights is in `sync::attacks` and `sync::tables`.

use std::time::Duration;

use e2e::Cluster;
use e2e::account::{client_command, run};

use super::beside::{RUNNING, until};
use super::*;

const STATE: &str = "SELECT count(*) FROM pancake.sync_state";
const RUNS: &str = "SELECT count(*) FROM pancake.sync_runs";
const RESET: &str = "SELECT pancake.sync_reset('crm.conversations')";

/// A role that may log in and name what is in `shop` and `crm`.
fn role(shop: &Shop, session: &mut Session, name: &str) -> String {
    let role = format!("{name}_{}", shop.database.name());
    session.execute(&format!("CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA shop, crm TO {role}")).unwrap();
    role
}

/// The same with all that a sync from `shop.conversations` needs of its source.
fn syncing(shop: &Shop, session: &mut Session, name: &str) -> String {
    let role = role(shop, session, name);
    session
        .execute(&format!(
            "GRANT SELECT ON shop.conversations TO {role};
             CREATE USER MAPPING FOR {role} SERVER shop OPTIONS (page_access_token '{}')",
            shop.simulator.first_page().token()
        ))
        .unwrap();
    role
}

#[test]
fn a_definers_function_works_with_the_rights_of_its_owner() {
    let (shop, mut session) = open(30);
    session.execute(SYNC).unwrap();
    let (clerk, writer) = (role(&shop, &mut session, "clerk"), role(&shop, &mut session, "writer"));
    session
        .execute(&format!(
            "GRANT INSERT ON crm.conversations TO {writer};
             CREATE FUNCTION crm.behind() RETURNS interval LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp
                 AS 'SELECT now() - min(last_success_at) FROM pancake.sync_state';
             CREATE FUNCTION crm.runs() RETURNS bigint LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS '{RUNS}';
             CREATE FUNCTION crm.again() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp
                 AS $$ BEGIN PERFORM pancake.sync_reset('crm.conversations'); END $$;
             -- Of an owner that is no superuser.
             CREATE FUNCTION crm.again_by_writer() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp
                 AS $$ BEGIN PERFORM pancake.sync_reset('crm.conversations'); END $$;
             ALTER FUNCTION crm.again_by_writer() OWNER TO {writer}"
        ))
        .unwrap();
    let mut clerk_session = shop.database.connect_as(&clerk).unwrap();
    assert_eq!(clerk_session.one(STATE).unwrap(), "0");
    assert_eq!(clerk_session.error(RESET).unwrap().sqlstate, "42501");
    assert_eq!(clerk_session.one("SELECT crm.behind() < interval '1 minute'").unwrap(), "t");
    assert_eq!(clerk_session.one("SELECT crm.runs()").unwrap(), "1");
    for function in ["crm.again()", "crm.again_by_writer()"] {
        assert_eq!(session.one(STATE).unwrap(), "1", "{function}");
        clerk_session.execute(&format!("SELECT {function}")).unwrap();
        assert_eq!(session.one(STATE).unwrap(), "0", "{function}");
        session.execute(SYNC).unwrap();
        assert_eq!(last_run(&mut session, "kind || status"), "backfillok");
    }
    // A caller of such a function of a role without rights passes it none.
    session.execute(&format!("REVOKE INSERT ON crm.conversations FROM {writer}")).unwrap();
    assert_eq!(session.error("SELECT crm.again_by_writer()").unwrap().sqlstate, "42501");
    session.execute(&format!("DROP OWNED BY {clerk}, {writer}; DROP ROLE {clerk}, {writer}")).unwrap();
}

#[test]
fn a_role_that_is_set_is_the_one_that_counts() {
    let (shop, mut session) = open(30);
    session.execute(SYNC).unwrap();
    let stranger = role(&shop, &mut session, "stranger");
    let keeper = syncing(&shop, &mut session, "keeper");
    let member = role(&shop, &mut session, "member");
    session
        .execute(&format!(
            "GRANT SELECT, INSERT, UPDATE ON crm.conversations TO {keeper}; ALTER ROLE {member} NOINHERIT;
             GRANT {keeper} TO {member}"
        ))
        .unwrap();
    for set in ["SET ROLE", "SET SESSION AUTHORIZATION"] {
        session.execute(&format!("{set} {stranger}")).unwrap();
        assert_eq!(
            (session.one(STATE).unwrap(), session.one(RUNS).unwrap()),
            ("0".into(), "0".into()),
            "{set}"
        );
        assert_eq!(session.error(RESET).unwrap().sqlstate, "42501", "{set}");
        session.execute("RESET ROLE; RESET SESSION AUTHORIZATION").unwrap();
        session.execute(&format!("{set} {keeper}")).unwrap();
        assert_eq!(session.one(STATE).unwrap(), "1", "{set}");
        session.execute(SYNC).unwrap();
        session.execute(RESET).unwrap();
        assert_eq!(session.one(STATE).unwrap(), "0", "{set}");
        session.execute(SYNC).unwrap();
        session.execute("RESET ROLE; RESET SESSION AUTHORIZATION").unwrap();
        assert_eq!(last_run(&mut session, "kind || status"), "backfillok", "{set}");
    }
    // The other way round: a role that may nothing becomes one that may, and one statement is
    // planned for both.
    let mut member_session = shop.database.connect_as(&member).unwrap();
    member_session.execute(&format!("PREPARE state AS {STATE}; PREPARE reset AS {RESET}")).unwrap();
    for _ in 0..7 {
        assert_eq!(member_session.one("EXECUTE state").unwrap(), "0");
        assert_eq!(member_session.error("EXECUTE reset").unwrap().sqlstate, "42501");
        member_session.execute(&format!("SET ROLE {keeper}")).unwrap();
        assert_eq!(member_session.one("EXECUTE state").unwrap(), "1");
        member_session.execute("BEGIN; EXECUTE reset").unwrap();
        assert_eq!(member_session.one("EXECUTE state").unwrap(), "0");
        member_session.execute("ROLLBACK; RESET ROLE").unwrap();
    }
    // A member of the owner.
    session
        .execute(&format!("ALTER ROLE {member} INHERIT; ALTER TABLE crm.conversations OWNER TO {keeper}"))
        .unwrap();
    let mut member_session = shop.database.connect_as(&member).unwrap();
    assert_eq!(member_session.one(STATE).unwrap(), "1");
    member_session.execute(RESET).unwrap();
    assert_eq!(session.one(STATE).unwrap(), "0");
    session
        .execute(&format!(
            "DROP OWNED BY {stranger}, {member}, {keeper} CASCADE; DROP ROLE {stranger}, {member}, {keeper}"
        ))
        .unwrap();
}

/// From the first run to the last, with rights over nothing but its source and a schema of its own.
#[test]
fn an_ordinary_role_syncs_into_a_table_of_its_own() {
    let (shop, mut session) = open(130);
    let keeper = syncing(&shop, &mut session, "keeper");
    session.execute(&format!("CREATE SCHEMA own AUTHORIZATION {keeper}")).unwrap();
    let sync = SYNC.replace("crm.", "own.");
    let full = FULL.replace("crm.", "own.");
    let mut keeper_session = shop.database.connect_as(&keeper).unwrap();
    // As pg_dump sets it: what a role may see is not read by it with its policies switched off.
    keeper_session.execute("SET row_security = off").unwrap();
    for (call, kind) in [(&sync, "backfill"), (&sync, "delta"), (&full, "full"), (&sync, "delta")] {
        shop.simulator.first_page().create("INBOX");
        keeper_session.execute(call).unwrap();
        assert_eq!(last_run(&mut keeper_session, "kind || ' ' || status"), format!("{kind} ok"));
        assert_eq!(
            keeper_session
                .one("SELECT count(*) = (SELECT count(*) FROM shop.conversations) FROM own.conversations")
                .unwrap(),
            "t"
        );
    }
    assert_eq!(keeper_session.one(STATE).unwrap(), "1");
    keeper_session.execute("SELECT pancake.sync_reset('own.conversations', '100000000000001')").unwrap();
    assert_eq!(keeper_session.one(STATE).unwrap(), "0");
    keeper_session.execute("TRUNCATE own.conversations").unwrap();
    keeper_session.execute(&sync).unwrap();
    assert_eq!(last_run(&mut keeper_session, "kind || ' ' || inserted"), "backfill 134");
    // An error leaves its trace, too.
    let page = shop.simulator.first_page();
    let token = page.token();
    page.set_token("another");
    assert_eq!(keeper_session.error(&sync).unwrap().sqlstate, "28000");
    page.set_token(&token);
    assert_eq!(last_run(&mut keeper_session, "status || sqlstate"), "failed28000");
    assert_eq!(keeper_session.one("SELECT last_error_at IS NOT NULL FROM pancake.sync_state").unwrap(), "t");
    session.execute(&format!("DROP OWNED BY {keeper} CASCADE; DROP ROLE {keeper}")).unwrap();
}

/// What may be written is not for that reason shown.
#[test]
fn a_role_that_may_only_write_sees_nothing() {
    let (shop, mut session) = open(30);
    session.execute(SYNC).unwrap();
    let writer = role(&shop, &mut session, "writer");
    session.execute(&format!("GRANT INSERT, UPDATE ON crm.conversations TO {writer}")).unwrap();
    let mut writer_session = shop.database.connect_as(&writer).unwrap();
    assert_eq!(
        (writer_session.one(STATE).unwrap(), writer_session.one(RUNS).unwrap()),
        ("0".into(), "0".into())
    );
    writer_session.execute(RESET).unwrap();
    assert_eq!(session.one(STATE).unwrap(), "0");
    // A role that no policy holds for goes by its rights as well.
    session.execute(SYNC).unwrap();
    session
        .execute(&format!("REVOKE ALL ON crm.conversations FROM {writer}; ALTER ROLE {writer} BYPASSRLS"))
        .unwrap();
    assert_eq!(
        (writer_session.one(STATE).unwrap(), writer_session.one(RUNS).unwrap()),
        ("0".into(), "0".into())
    );
    assert_eq!(writer_session.error(RESET).unwrap().sqlstate, "42501");
    session.execute(&format!("DROP OWNED BY {writer}; DROP ROLE {writer}")).unwrap();
}

#[test]
fn two_roles_share_a_target_and_its_lane() {
    let (shop, mut session) = open(900);
    let (first, second) = (syncing(&shop, &mut session, "first"), syncing(&shop, &mut session, "second"));
    session
        .execute(&format!(
            "CREATE TABLE crm.conversations (LIKE shop.conversations, synced_at timestamptz, removed_at timestamptz,
                 PRIMARY KEY (page_id, id));
             GRANT SELECT, INSERT, UPDATE ON crm.conversations TO {first}, {second}"
        ))
        .unwrap();
    shop.simulator.switches(|switches| switches.latency = Duration::from_millis(200));
    let mut running = shop.database.connect_as(&first).unwrap();
    let running = std::thread::spawn(move || running.execute(SYNC));
    let mut second_session = shop.database.connect_as(&second).unwrap();
    until(&mut second_session, RUNNING);
    second_session.execute(SYNC).unwrap();
    assert_eq!(last_run(&mut second_session, "kind || ' ' || status"), "backfill skipped");
    second_session.execute(&SYNC.replace(")", ", wait => '60 s')")).unwrap();
    running.join().unwrap().unwrap();
    assert_eq!(runs(&mut second_session), ["backfill ok", "backfill skipped", "delta ok"]);
    is_the_page(&mut session, "two roles");

    // A killed run of one role is seen as such by the other, which continues it.
    session.execute(RESET).unwrap();
    let mut victim = shop.database.connect_as(&first).unwrap();
    let pid = victim.pid().unwrap();
    let victim = std::thread::spawn(move || victim.execute(SYNC));
    until(&mut second_session, RUNNING);
    session.execute(&format!("SELECT pg_terminate_backend({pid}, 60000)")).unwrap();
    victim.join().unwrap().unwrap_err();
    shop.simulator.switches(|switches| switches.latency = Duration::ZERO);
    assert_eq!(last_run(&mut second_session, "status || sqlstate"), "failed57P01");
    second_session.execute(SYNC).unwrap();
    assert_eq!(last_run(&mut second_session, "status"), "ok");
    is_the_page(&mut session, "after a kill");
    session.execute(&format!("DROP OWNED BY {first}, {second}; DROP ROLE {first}, {second}")).unwrap();
}

/// What psql shows of the schema.
#[test]
fn the_schema_holds_what_users_call() {
    let (_shop, mut session) = open(1);
    let of_schema = "SELECT string_agg(DISTINCT proname, ' ' ORDER BY proname) FROM pg_proc
        WHERE pronamespace = 'pancake'::regnamespace";
    let functions = "doctor ingest request_stats_reset sync sync_reset version";
    assert_eq!(session.one(of_schema).unwrap(), functions);
    let relations = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
        WHERE relnamespace = 'pancake'::regnamespace";
    assert_eq!(session.one(relations).unwrap(), "progress request_stats sync_runs sync_skipped sync_state");
}

/// A role that may read all, but is no superuser, dumps the marks under its policies.
#[test]
fn who_may_read_all_dumps_the_marks() {
    let cluster = Cluster::start().unwrap();
    let shop = Shop::open_in(&cluster, Settings::of(30).as_seen(), &[]).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE SCHEMA crm").unwrap();
    session.execute(SYNC).unwrap();
    session.execute("CREATE ROLE dumper LOGIN; GRANT pg_read_all_data TO dumper").unwrap();
    let mut dump = client_command(cluster.tree().bin(), "pg_dump");
    dump.args(["-U", "dumper", "--enable-row-security", "-h"]);
    let dump = run(dump.arg(cluster.socket_dir()).arg(shop.database.name())).unwrap();
    let restored = cluster.empty_database("restored").unwrap();
    let output = restored.psql(&dump).unwrap();
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    let mut restored = restored.connect().unwrap();
    assert_eq!(restored.one(STATE).unwrap(), "1");
    let run =
        "SELECT nextval('pancake_internal.sync_log_run_id_seq') > max(run_id) FROM pancake_internal.sync_log";
    assert_eq!(restored.one(run).unwrap(), "t");
    let secured = "SELECT string_agg(c.relname || ' ' || c.relrowsecurity || ' ' || (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid), ', ' ORDER BY c.relname)
        FROM pg_class c WHERE c.oid IN ('pancake_internal.sync_marks'::regclass, 'pancake_internal.sync_log'::regclass)";
    assert_eq!(restored.one(secured).unwrap(), "sync_log true 2, sync_marks true 2");
}
