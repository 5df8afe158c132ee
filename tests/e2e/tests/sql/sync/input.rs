//! What a sync refuses, before it asks Pancake for anything: clear errors, a record of them, marks
//! as they were.

use pancake_simulator::{TimeColumn, TimeForm, Undated};

use super::*;

/// An error that comes before the first request, and leaves the marks alone.
fn refuses(shop: &Shop, session: &mut Session, call: &str, sqlstate: &str, parts: &[&str]) {
    let marks = |session: &mut Session| {
        let sql = "SELECT mark, backfilled_to, backfill_done, last_success_at, last_reread_at FROM pancake.sync_state";
        session.rows(sql).unwrap()
    };
    let before = marks(session);
    let (error, log) = shop.watch(|| session.error(call).unwrap());
    let told = error.to_string();
    assert_eq!(error.sqlstate, sqlstate, "{call}: {told}");
    for part in parts {
        assert!(told.contains(part), "{call}: {part} is not in {told}");
    }
    assert_eq!(log.len(), 0, "{call}");
    assert_eq!(marks(session), before, "{call}");
}

#[test]
fn inside_a_transaction() {
    let (shop, mut session) = open(10);
    let mut refuses = |call: &str| {
        let (error, log) = shop.watch(|| session.error(call).unwrap());
        session.execute("ROLLBACK").unwrap();
        let hint = error.hint.clone().unwrap_or_default();
        assert!(
            error.sqlstate == "2D000" && hint.contains("one CALL per line, with autocommit"),
            "{call}: {error}"
        );
        assert_eq!(log.len(), 0, "{call}");
        assert_eq!(runs(&mut session), Vec::<String>::new(), "{call}");
    };
    refuses(&format!("BEGIN; {SYNC}"));
    refuses(&format!("SELECT 1; {SYNC}"));
    refuses(&format!("{SYNC}; SELECT 1"));
    refuses(&format!(
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN {SYNC}; END $$; SELECT f()"
    ));
    refuses(&format!("DO $$ BEGIN {SYNC}; EXCEPTION WHEN division_by_zero THEN NULL; END $$"));
    let (error, log) = shop.watch(|| {
        let client = session.client();
        let mut transaction = client.transaction().unwrap();
        transaction.execute(SYNC, &[]).unwrap_err()
    });
    assert_eq!((error.code().unwrap().code(), log.len()), ("2D000", 0));

    // What is no transaction block: psql's -c, the extended protocol, a DO block that commits.
    session.client().execute(SYNC, &[]).unwrap();
    session.execute(&format!("DO $$ BEGIN {SYNC}; {SYNC}; END $$")).unwrap();
    session.execute("SET default_transaction_isolation = 'serializable'").unwrap();
    session.execute(SYNC).unwrap();
    is_the_page(&mut session, "as it should be called");
}

#[test]
fn targets_that_do_not_fit() {
    let (shop, mut session) = open(10);
    session
        .execute("CREATE DOMAIN crm.clock AS timestamp; CREATE DOMAIN crm.wall_clock AS crm.clock")
        .unwrap();
    for (columns, sqlstate, parts) in [
        (
            "id text, page_id text, updated_at timestamptz",
            "42P10",
            vec![
                "has no unique key on (page_id, id) or (id)",
                "CREATE UNIQUE INDEX ON crm.bad (page_id, id);",
            ],
        ),
        ("id text UNIQUE DEFERRABLE, updated_at timestamptz", "42P10", vec!["unique key"]),
        (
            "id text PRIMARY KEY, updated_at timestamp",
            "42804",
            vec!["updated_at", "timestamp without time zone", "AT TIME ZONE 'UTC'"],
        ),
        (
            "id text PRIMARY KEY, updated_at timestamptz, inserted_at date",
            "42804",
            vec!["inserted_at", "TYPE timestamptz"],
        ),
        ("id text PRIMARY KEY, updated_at timestamptz, synced_at timestamp", "42804", vec!["synced_at"]),
        (
            "id text PRIMARY KEY, updated_at timestamptz, inserted_at crm.wall_clock",
            "42804",
            vec!["inserted_at", "would lose the time zone"],
        ),
        ("id text PRIMARY KEY, snippet text", "42703", vec!["crm.bad has no column updated_at"]),
        ("page_id text PRIMARY KEY, updated_at timestamptz", "42703", vec!["crm.bad has no column id"]),
        ("id bigint PRIMARY KEY, updated_at timestamptz", "42703", vec!["crm.bad has no column id"]),
        (
            "id text PRIMARY KEY, updated_at timestamptz, snippet integer",
            "42804",
            vec!["column \"snippet\" is of type integer"],
        ),
        (
            "id text PRIMARY KEY, updated_at timestamptz, tags integer[]",
            "42804",
            vec!["column \"tags\" is of type integer[]"],
        ),
    ] {
        session.execute(&format!("CREATE TABLE crm.bad ({columns})")).unwrap();
        refuses(&shop, &mut session, "CALL pancake.sync('shop.conversations', 'crm.bad')", sqlstate, &parts);
        assert_eq!(
            last_run(&mut session, "status || ' ' || sqlstate || ' ' || requests"),
            format!("failed {sqlstate} 0")
        );
        session.execute("DROP TABLE crm.bad").unwrap();
    }
    session
        .execute(
            "CREATE TABLE crm.bad (id text, page_id text, updated_at timestamptz) PARTITION BY RANGE (updated_at)",
        )
        .unwrap();
    refuses(
        &shop,
        &mut session,
        "CALL pancake.sync('shop.conversations', 'crm.bad')",
        "42P10",
        &["unique key", "partition it by page_id or id."],
    );
    session.execute("DROP TABLE crm.bad; CREATE VIEW crm.bad AS SELECT 1 AS id").unwrap();
    refuses(
        &shop,
        &mut session,
        "CALL pancake.sync('shop.conversations', 'crm.bad')",
        "42809",
        &["crm.bad is not a table"],
    );
    refuses(
        &shop,
        &mut session,
        "CALL pancake.sync('shop.conversations', 'nowhere.bad')",
        "3F000",
        &["nowhere"],
    );
    refuses(&shop, &mut session, "CALL pancake.sync('shop.conversations', 'a.b.c')", "0A000", &["a.b.c"]);
    refuses(
        &shop,
        &mut session,
        "CALL pancake.sync('shop.conversations', NULL)",
        "22004",
        &["a source and a target"],
    );

    // A column that was fine yesterday.
    session.execute(SYNC).unwrap();
    session.execute("ALTER TABLE crm.conversations ALTER updated_at TYPE timestamp").unwrap();
    refuses(&shop, &mut session, SYNC, "42804", &["updated_at"]);
    let error = "SELECT last_error LIKE 'column updated_at%' AND last_error_at > last_success_at FROM pancake.sync_state";
    assert_eq!(session.one(error).unwrap(), "t");
}

#[test]
fn sources_that_are_none() {
    let (shop, mut session) = open(10);
    session
        .execute(
            "CREATE TABLE crm.plain (id text); CREATE TABLE crm.parts (id text, page_id text) PARTITION BY LIST (page_id);
             CREATE TABLE crm.part PARTITION OF crm.parts DEFAULT;
             CREATE TABLE crm.nobody (id text, page_id text) PARTITION BY LIST (page_id);
             CREATE FOREIGN TABLE crm.few (id text, updated_at timestamptz) SERVER shop OPTIONS (object 'conversations')",
        )
        .unwrap();
    let call = |source: &str| format!("CALL pancake.sync('{source}', 'crm.target')");
    for (source, sqlstate, part) in [
        ("crm.plain", "42809", "crm.plain is not a foreign table of pancake_fdw"),
        ("crm.parts", "42809", "crm.part is not a foreign table of pancake_fdw"),
        ("crm.nobody", "42809", "crm.nobody has no pages"),
        ("crm.nowhere", "42P01", "crm.nowhere"),
        ("crm.few", "42703", "crm.few has no column inserted_at"),
    ] {
        refuses(&shop, &mut session, &call(source), sqlstate, &[part]);
    }
    assert_eq!(session.one("SELECT to_regclass('crm.target') IS NULL").unwrap(), "t", "it leaves no table");
    for arguments in ["lookback => '-1 hour'", "lookback => NULL", "reread => '-1 s'", "wait => '-1 s'"] {
        let call = format!("CALL pancake.sync('shop.conversations', 'crm.t', {arguments})");
        refuses(&shop, &mut session, &call, "22023", &["cannot be negative"]);
    }
}

#[test]
fn roles_that_may_not() {
    let (shop, mut session) = open(30);
    let role = format!("reader_{}", std::process::id());
    session.execute(SYNC).unwrap();
    session
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA shop, crm TO {role}; GRANT SELECT ON crm.conversations TO {role}"
        ))
        .unwrap();
    let mut reader = shop.database.connect_as(&role).unwrap();
    let calls = [
        SYNC,
        "SELECT pancake.sync_reset('crm.conversations')",
        "SELECT pancake_internal.sync_check('crm.conversations')",
        "SELECT pancake_internal.sync_start('crm.conversations')",
        "SELECT pancake_internal.sync_failed('57014', 'x', '', '')",
        "DELETE FROM pancake_internal.sync_marks",
        "DELETE FROM pancake_internal.sync_log",
        "INSERT INTO pancake_internal.sync_marks VALUES ('crm.conversations')",
    ];
    for call in calls {
        assert_eq!(reader.error(call).unwrap().sqlstate, "42501", "{call}");
    }
    assert_eq!(runs(&mut session), ["backfill ok"], "who may not write leaves no trace");
    // Readers of the copy see how fresh it is, others do not.
    assert_eq!(reader.one("SELECT count(*) FROM pancake.sync_state").unwrap(), "1");
    assert_eq!(reader.one("SELECT count(*) FROM pancake.sync_runs").unwrap(), "1");
    session.execute(&format!("REVOKE SELECT ON crm.conversations FROM {role}")).unwrap();
    assert_eq!(reader.one("SELECT count(*) FROM pancake.sync_state").unwrap(), "0");
    session.execute(&format!("GRANT pg_monitor TO {role}")).unwrap();
    assert_eq!(reader.one("SELECT count(*) FROM pancake.sync_runs").unwrap(), "1");

    // Who may write the copy but not read the page, and the other way round.
    session.execute(&format!("GRANT SELECT, INSERT, UPDATE ON crm.conversations TO {role}")).unwrap();
    let error = reader.error(SYNC).unwrap();
    assert_eq!(
        (error.sqlstate.as_str(), error.message.contains("conversations")),
        ("42501", true),
        "{error}"
    );
    assert_eq!(last_run(&mut session, "status || sqlstate"), "failed42501");
    session.execute(&format!("GRANT SELECT ON shop.conversations TO {role}")).unwrap();
    let error = reader.error(SYNC).unwrap();
    assert_eq!(error.sqlstate, "28000", "{error}");
    assert!(error.hint.unwrap().contains("CREATE USER MAPPING"));
    session
        .execute(&format!(
            "CREATE USER MAPPING FOR {role} SERVER shop OPTIONS (page_access_token '{}')",
            shop.simulator.first_page().token()
        ))
        .unwrap();
    reader.execute(SYNC).unwrap();
    reader.execute(FULL).unwrap();
    for right in ["UPDATE", "SELECT"] {
        session
            .execute(&format!(
                "GRANT SELECT, UPDATE ON crm.conversations TO {role}; REVOKE {right} ON crm.conversations FROM {role}"
            ))
            .unwrap();
        let error = reader.error(SYNC).unwrap();
        assert_eq!(error.sqlstate, "42501");
        let hint = error.hint.unwrap_or_default();
        assert!(hint.contains("GRANT SELECT, INSERT, UPDATE ON crm.conversations TO"), "{right}: {hint}");
    }
    session.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

/// Nothing of a sync resolves a name or an operator in a schema that others may write.
#[test]
fn a_search_path_leads_nobody_astray() {
    let (shop, mut session) = open(130);
    session.execute(SYNC).unwrap();
    session
        .execute(
            "CREATE SCHEMA evil;
             CREATE FUNCTION evil.strike() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'struck'; END $$;
             DO $$
             DECLARE types text;
             BEGIN
                 FOREACH types IN ARRAY '{text,timestamptz,bigint,interval,regclass,boolean,name,oid,integer,text[],record}'::text[] LOOP
                     EXECUTE format('CREATE FUNCTION evil.strike(%1$s, %1$s) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN RAISE ''struck''; END $f$', types);
                     EXECUTE format('CREATE OPERATOR evil.= (FUNCTION = evil.strike, LEFTARG = %1$s, RIGHTARG = %1$s)', types);
                     EXECUTE format('CREATE OPERATOR evil.< (FUNCTION = evil.strike, LEFTARG = %1$s, RIGHTARG = %1$s)', types);
                     EXECUTE format('CREATE OPERATOR evil.<= (FUNCTION = evil.strike, LEFTARG = %1$s, RIGHTARG = %1$s)', types);
                     EXECUTE format('CREATE OPERATOR evil.>= (FUNCTION = evil.strike, LEFTARG = %1$s, RIGHTARG = %1$s)', types);
                     EXECUTE format('CREATE OPERATOR evil.|| (FUNCTION = evil.strike, LEFTARG = %1$s, RIGHTARG = %1$s)', types);
                 END LOOP;
             END $$;
             CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'struck'; END $$;
             CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'struck'; END $$;
             CREATE FUNCTION evil.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$ BEGIN RAISE 'struck'; END $$;
             CREATE FUNCTION evil.to_regclass(text) RETURNS regclass LANGUAGE plpgsql AS $$ BEGIN RAISE 'struck'; END $$;
             CREATE FUNCTION evil.array_length(anyarray, integer) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE 'struck'; END $$",
        )
        .unwrap();
    let page = shop.simulator.first_page();
    let calls = ["CALL pancake.sync('shop.conversations', 'crm.other')", FULL, SYNC];
    let messages = "CALL pancake.sync('shop.messages', 'crm.messages')";
    for call in calls.into_iter().chain([messages, messages]) {
        (0..70).for_each(|_| assert!(page.message(&page.ids()[70])));
        session.execute("SET search_path = evil, pg_catalog").unwrap();
        let done = session.execute(call);
        session.execute("RESET search_path").unwrap();
        done.unwrap();
    }
    session.execute(SYNC).unwrap();
    is_the_page(&mut session, "under an evil search_path");
    let unlike = super::objects::differences(&mut session, "messages", super::messages::ALL);
    assert!(unlike.is_empty(), "{unlike:?}");
}

/// The path of the caller holds for the triggers of the target.
#[test]
fn triggers_run_as_they_would_for_any_insert() {
    let (_shop, mut session) = open(10);
    session
        .execute(
            "CREATE TABLE crm.conversations (LIKE shop.conversations, synced_at timestamptz, removed_at timestamptz, UNIQUE (page_id, id));
             CREATE TABLE crm.changes (id text);
             CREATE FUNCTION crm.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO changes VALUES (NEW.id); RETURN NEW; END $$;
             CREATE TRIGGER note AFTER INSERT OR UPDATE ON crm.conversations FOR EACH ROW EXECUTE FUNCTION crm.note();
             SET search_path = crm",
        )
        .unwrap();
    session.execute(SYNC).unwrap();
    session.execute(SYNC).unwrap();
    assert_eq!(session.one("SELECT count(*) FROM crm.changes").unwrap(), "10");
    // What is checked at the commit is recorded as well.
    session
        .execute(
            "CREATE FUNCTION crm.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused' USING ERRCODE = '23514'; END $$;
             CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON crm.conversations DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION crm.refuse();
             UPDATE pancake_internal.sync_marks SET mark = mark - interval '200 days'; DELETE FROM crm.conversations WHERE type = 'INBOX'",
        )
        .unwrap();
    assert_eq!(session.error(SYNC).unwrap().sqlstate, "23514");
    assert_eq!(last_run(&mut session, "status || sqlstate || error"), "failed23514refused");
}

/// Times go into a column of text as they are written, also where a full rescan compares them.
#[test]
fn a_time_in_a_column_of_text() {
    let (shop, mut session) = open(30);
    session
        .execute(
            "CREATE TABLE crm.conversations (id text PRIMARY KEY, inserted_at text, updated_at timestamptz,
                                             synced_at timestamptz, removed_at timestamptz)",
        )
        .unwrap();
    session.execute(SYNC).unwrap();
    let page = shop.simulator.first_page();
    assert!(page.delete(&page.ids()[7]));
    session.execute(FULL).unwrap();
    assert_eq!(last_run(&mut session, "kind || ' ' || status || ' ' || removed"), "full ok 1");
    session
        .execute("CALL pancake.sync('shop.tags', 'crm.tags'); ")
        .and_then(|()| session.execute("ALTER TABLE crm.tags ADD inserted_at text"))
        .and_then(|()| session.execute("CALL pancake.sync('shop.tags', 'crm.tags')"))
        .unwrap();
}

/// What another kind of table cannot do is refused before anything is read. (That a distributed one
/// has no function in ON CONFLICT … WHERE is not tried here: a rule gives the same SQLSTATE.)
#[test]
fn a_target_that_takes_no_upsert() {
    let (shop, mut session) = open(30);
    session
        .execute(
            "CREATE TABLE crm.conversations (LIKE shop.conversations, UNIQUE (id));
             CREATE RULE no AS ON UPDATE TO crm.conversations DO ALSO NOTHING",
        )
        .unwrap();
    let hint = "If the target is distributed, it needs the key (page_id, id), and page_id as its distribution column.";
    refuses(&shop, &mut session, SYNC, "0A000", &["INSERT with ON CONFLICT clause cannot be used", hint]);
}

/// Statements are text: the times in it must be read as they were written.
#[test]
fn a_style_of_dates_changes_nothing() {
    for (style, zone) in [
        ("SQL, DMY", "Asia/Shanghai"),
        ("Postgres, MDY", "Asia/Kolkata"),
        ("German", "Europe/Dublin"),
        ("SQL, MDY", "America/St_Johns"),
    ] {
        let (shop, mut session) = open(300);
        let set = format!("SET datestyle = '{style}'; SET timezone = '{zone}'");
        session.execute(&set).unwrap();
        session
            .execute("CREATE OR REPLACE FUNCTION pancake_internal.sync_batch_rows() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 70::bigint'")
            .unwrap();
        let what = format!("{style}, {zone}");
        session.execute(SYNC).unwrap();
        is_the_page(&mut session, &what);
        let page = shop.simulator.first_page();
        shop.simulator.advance(std::time::Duration::from_secs(3_600));
        assert!(page.ids().iter().step_by(2).all(|id| page.message(id)));
        session.execute(SYNC).unwrap();
        is_the_page(&mut session, &what);
        assert!(last_run(&mut session, "seen").parse::<usize>().unwrap() >= 150, "{what}");
        let gone = page.ids()[7].clone();
        assert!(page.delete(&gone));
        // A webhook knows it before the list shows it.
        session
            .execute(
                "INSERT INTO crm.conversations SELECT c.* FROM crm.conversations b,
                 LATERAL jsonb_populate_record(b, jsonb_build_object('id', 'early', 'updated_at', b.updated_at + interval '1 s')) c
                 ORDER BY b.updated_at DESC LIMIT 1",
            )
            .unwrap();
        session
            .execute("CALL pancake.sync('shop.conversations', 'crm.conversations', full_rescan => true)")
            .unwrap();
        let removed =
            session.column("SELECT id FROM crm.conversations WHERE removed_at IS NOT NULL").unwrap();
        assert_eq!(removed, [gone], "{what}");
        let written = "SELECT bool_and(t BETWEEN now() - interval '10 minutes' AND now())
            FROM crm.conversations, unnest(ARRAY[synced_at, removed_at]) t WHERE t IS NOT NULL";
        assert_eq!(session.one(written).unwrap(), "t", "{what}");
    }
}

/// The newest row is no witness if it never gets into the table.
#[test]
fn a_trigger_that_drops_rows() {
    let (shop, mut session) = open(300);
    session
        .execute(
            "CREATE TABLE crm.conversations (id text PRIMARY KEY, type text, updated_at timestamptz);
             CREATE FUNCTION crm.inbox_alone() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RETURN CASE WHEN new.type = 'INBOX' THEN new END; END $$;
             CREATE TRIGGER inbox_alone BEFORE INSERT ON crm.conversations
                 FOR EACH ROW EXECUTE FUNCTION crm.inbox_alone()",
        )
        .unwrap();
    let page = shop.simulator.first_page();
    page.create("COMMENT");
    for _ in 0..2 {
        session.execute("SET statement_timeout = '20s'").unwrap();
        session.execute(SYNC).unwrap();
        let inbox = "SELECT count(*) FROM shop.conversations WHERE type = 'INBOX'";
        assert_eq!(
            session.one(inbox).unwrap(),
            session.one("SELECT count(*) FROM crm.conversations").unwrap()
        );
        page.create("COMMENT");
    }
    assert!(runs(&mut session).iter().all(|run| run.ends_with(" ok")), "{:?}", runs(&mut session));
    // What is dropped always differs: the reply that holds the window, three below it, one by
    // `inserted_at`.
    let ((), log) = shop.watch(|| session.execute(SYNC).unwrap());
    assert_eq!(log.len(), 5);
}

/// Rows that lack `inserted_at` may stand at the bottom of the list, any distance below the time
/// that they show. The step that meets them begins the copy anew, and later ones sort what they
/// read.
#[test]
fn rows_at_the_bottom_for_want_of_a_time() {
    let (shop, mut session) = open(5_000);
    let page = shop.simulator.first_page();
    shop.simulator.switches(|switches| switches.undated = Undated::Bottom);
    for id in page.ids().iter().step_by(900) {
        assert!(page.set_time_form(id, TimeColumn::InsertedAt, TimeForm::Null));
    }
    for call in [SYNC, SYNC, FULL] {
        session.execute(call).unwrap();
        is_the_page(&mut session, call);
    }
    assert_eq!(runs(&mut session), ["backfill ok", "delta ok", "full ok"]);
    let plan =
        session.column("EXPLAIN SELECT FROM shop.conversations WHERE inserted_at > now() - interval '1 day'");
    let detour =
        "Pancake Detour: rows of the page stand below the place of this time: to the end of the list";
    assert!(plan.unwrap().iter().any(|line| line.trim() == detour));
    shop.assert_no_violations().unwrap();
}
