//! What runs beside a sync: another sync of the same kind, a full rescan, a webhook that writes the
//! same rows, a session that empties the table.

use std::time::{Duration, Instant};

use super::*;

/// Waits until a query returns `t`.
pub(super) fn until(session: &mut Session, sql: &str) {
    let begun = Instant::now();
    while session.one(sql).unwrap() != "t" {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never came: {sql}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a statement in a session of its own.
fn start(shop: &Shop, sql: &'static str) -> std::thread::JoinHandle<anyhow::Result<()>> {
    let mut session = shop.connect().unwrap();
    std::thread::spawn(move || session.execute(sql))
}

pub(super) const RUNNING: &str =
    "SELECT EXISTS (SELECT FROM pancake.sync_runs WHERE status = 'running' AND seen > 0)";

#[test]
fn a_second_run_of_a_kind_is_skipped_or_waits() {
    let (shop, mut session) = open(900);
    for (first, kind) in [(SYNC, "backfill"), (FULL, "full")] {
        shop.simulator.switches(|switches| switches.latency = Duration::from_millis(200));
        let running = start(&shop, first);
        until(&mut session, RUNNING);
        session.notices();
        session.execute(first).unwrap();
        assert_eq!(last_run(&mut session, "kind || ' ' || status"), format!("{kind} skipped"));
        assert!(session.notices().iter().any(|n| n.message.contains("skipped")));
        assert_eq!(last_run(&mut session, "requests || ' ' || (ended_at IS NOT NULL)"), "0 true");

        let waits = first.replace(")", ", wait => '60 s')");
        let begun = Instant::now();
        let error = session.execute(&waits.replace("60 s", "300 ms"));
        assert!(error.is_ok() && begun.elapsed() > Duration::from_millis(300));
        assert_eq!(last_run(&mut session, "status"), "skipped");
        session.execute(&waits).unwrap();
        running.join().unwrap().unwrap();
        let ok = format!("SELECT count(*) FROM pancake.sync_runs WHERE kind = '{kind}' AND status = 'ok'");
        assert_ne!(session.one(&ok).unwrap(), "0");
        assert_eq!(last_run(&mut session, "status"), "ok");
        let overlap = "SELECT count(*) FROM pancake.sync_runs a JOIN pancake.sync_runs b
            ON a.run_id < b.run_id AND a.status = 'ok' AND b.status = 'ok' AND b.started_at < a.ended_at";
        assert_eq!(session.one(overlap).unwrap(), "0");
        is_the_page(&mut session, kind);
    }
    // A day's rescan does not keep the deltas from running, nor they it.
    let running = start(&shop, FULL);
    until(&mut session, RUNNING);
    shop.simulator.first_page().create("INBOX");
    session.execute(SYNC).unwrap();
    assert_eq!(last_run(&mut session, "kind || ' ' || status || ' ' || inserted"), "delta ok 1");
    running.join().unwrap().unwrap();
    assert!(!runs(&mut session).contains(&"full failed".to_owned()));
}

/// A run is alive as long as its lane is locked, whatever Postgres shows of its statement.
#[test]
fn a_run_that_is_not_tracked_is_alive() {
    let (shop, mut session) = open(900);
    shop.simulator.switches(|switches| switches.latency = Duration::from_millis(100));
    let mut victim = shop.connect().unwrap();
    victim.execute("SET track_activities = off").unwrap();
    let pid = victim.pid().unwrap();
    // The view of a transaction in which statistics are frozen.
    session.execute("SET stats_fetch_consistency = 'snapshot'; BEGIN; SELECT FROM pg_stat_activity").unwrap();
    let running = std::thread::spawn(move || victim.execute(SYNC));
    until(&mut session, RUNNING);
    assert_eq!(runs(&mut session), ["backfill running"]);
    session.execute("COMMIT").unwrap();
    session.execute(SYNC).unwrap();
    assert_eq!(runs(&mut session), ["backfill running", "backfill skipped"]);
    session.execute(&format!("SELECT pg_terminate_backend({pid}, 60000)")).unwrap();
    running.join().unwrap().unwrap_err();
    assert_eq!(runs(&mut session), ["backfill failed", "backfill skipped"]);
    session.execute(SYNC).unwrap();
    assert_eq!(runs(&mut session), ["backfill failed", "backfill skipped", "backfill ok", "delta ok"]);
    is_the_page(&mut session, "after the kill");
}

/// The key of a lane is no secret. No lock that SQL takes by it is the lane's.
#[test]
fn no_lock_of_sql_holds_a_lane() {
    let (shop, mut session) = open(130);
    session.execute(SYNC).unwrap();
    let mut other = shop.connect().unwrap();
    let taken = other
        .execute(
            "DO $$
             DECLARE
                 key CONSTANT bigint := pancake_internal.sync_lane('crm.conversations'::regclass, '100000000000001', 'delta');
             BEGIN
                 PERFORM pg_advisory_lock(key), pg_advisory_lock((key >> 32)::bit(32)::integer, key::bit(32)::integer);
             END $$",
        )
        .and_then(|()| other.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"));
    assert_eq!(taken.unwrap(), "2");
    session.execute(SYNC).unwrap();
    assert_eq!(runs(&mut session), ["backfill ok", "delta ok"]);
}

/// Many sessions at once, deltas and full rescans, with a webhook that writes what it receives,
/// while the list moves.
#[test]
fn everybody_at_once() {
    let (shop, mut session) = open(300);
    let page = shop.simulator.first_page();
    session.execute(SYNC).unwrap();
    shop.simulator.switches(|switches| {
        switches.churn =
            pancake_simulator::Churn { messages: 1.0, creates: 0.2, retags: 0.3, ..Default::default() };
        switches.latency = Duration::from_millis(2);
    });
    std::thread::scope(|scope| {
        for sql in [SYNC, SYNC, FULL, FULL] {
            let mut session = shop.connect().unwrap();
            scope.spawn(move || {
                for _ in 0..6 {
                    session.execute(sql).unwrap();
                }
            });
        }
        let (page, mut session) = (page.clone(), shop.connect().unwrap());
        scope.spawn(move || {
            for round in 0..200 {
                let ids = page.ids();
                let id = &ids[(round * 37) % ids.len().min(90)];
                page.message(id);
                let row = page.conversation(id).unwrap();
                session.execute(&webhook(&row)).unwrap();
            }
        });
    });
    shop.simulator.switches(|switches| switches.churn = Default::default());
    session.execute(SYNC).unwrap();
    assert_eq!(unlike(&mut session, "id, updated_at, message_count"), Vec::<String>::new());
    session.execute(FULL).unwrap();
    is_the_page(&mut session, "everybody at once");
    assert!(!runs(&mut session).iter().any(|run| run.ends_with("failed")), "{:?}", runs(&mut session));
    assert_eq!(
        session.one("SELECT count(*) FROM crm.conversations WHERE removed_at IS NOT NULL").unwrap(),
        "0"
    );
}

/// What an endpoint for Pancake's webhooks executes: an upsert guarded by the version.
fn webhook(row: &serde_json::Value) -> String {
    let text = |key: &str| row[key].as_str().unwrap().replace('\'', "''");
    format!(
        "INSERT INTO crm.conversations AS c (page_id, id, type, snippet, inserted_at, updated_at, phone_numbers, tags, tag_names,
             ad_ids, assignee_ids, synced_at)
         VALUES ('{}', '{}', '{}', '{}', '{}Z', '{}Z', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', clock_timestamp())
         ON CONFLICT (page_id, id) DO UPDATE
         SET snippet = EXCLUDED.snippet, updated_at = EXCLUDED.updated_at, synced_at = EXCLUDED.synced_at, removed_at = NULL
         WHERE c.updated_at <= EXCLUDED.updated_at",
        text("page_id"), text("id"), text("type"), text("snippet"), text("inserted_at"), text("updated_at"),
    )
}

#[test]
fn the_newer_version_wins_and_of_one_version_the_later_reading() {
    let (shop, mut session) = open(130);
    let page = shop.simulator.first_page();
    session.execute(SYNC).unwrap();
    let ids = page.ids();
    // A webhook knows a newer version; another one wrote the same version while the statement that
    // reads it ran.
    session
        .execute(&format!(
            "UPDATE crm.conversations SET updated_at = updated_at + interval '1 s', snippet = 'newer' WHERE id = '{}';
             UPDATE crm.conversations SET tags = '{{61}}', synced_at = now() + interval '1 h' WHERE id = '{}';
             UPDATE crm.conversations SET tags = '{{61}}', snippet = 'stale' WHERE id = '{}';
             UPDATE crm.conversations SET updated_at = updated_at - interval '1 s', synced_at = now() + interval '1 h' WHERE id = '{}'",
            ids[3], ids[4], ids[5], ids[6]
        ))
        .unwrap();
    session.execute(SYNC).unwrap();
    let mut different = unlike(&mut session, "id");
    assert_eq!(different, Vec::<String>::new());
    different = unlike(&mut session, "id, tags, snippet, updated_at");
    different.retain(|row| row.starts_with("copy"));
    different.sort();
    assert_eq!(different.len(), 2, "{different:?}");
    assert!(
        different.iter().any(|row| row.contains(&ids[3]))
            && different.iter().any(|row| row.contains(&ids[4])),
        "{different:?}"
    );
    assert_eq!(last_run(&mut session, "updated"), "2");
}

/// TRUNCATE while a backfill is under way: what was above the frontier is gone with it.
#[test]
fn a_table_that_is_emptied_meanwhile_is_filled_again() {
    let (shop, mut session) = open(5_500);
    shop.simulator.switches(|switches| switches.latency = Duration::from_millis(20));
    for how in ["TRUNCATE crm.conversations", "SELECT pancake.sync_reset('crm.conversations')"] {
        let running = start(&shop, SYNC);
        until(
            &mut session,
            "SELECT EXISTS (SELECT FROM pancake.sync_runs WHERE status = 'running' AND kind = 'backfill' AND seen > 4000)",
        );
        session.execute(how).unwrap();
        running.join().unwrap().unwrap();
        is_the_page(&mut session, how);
        assert_eq!(
            runs(&mut session).iter().rev().take(2).collect::<Vec<_>>(),
            ["backfill ok", "backfill failed"],
            "{how}"
        );
        session.execute("TRUNCATE crm.conversations").unwrap();
    }
}

/// Rows wait for the network in memory: no other writer of the table waits for it.
#[test]
fn a_webhook_does_not_wait_for_a_sync() {
    let shop = Shop::open_with(Settings::of(600).as_seen(), &[("max_concurrency", "1")]).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE SCHEMA crm").unwrap();
    let page = shop.simulator.first_page();
    session.execute(SYNC).unwrap();
    shop.simulator.switches(|switches| switches.latency = Duration::from_millis(150));
    let running = start(&shop, FULL);
    until(&mut session, RUNNING);
    for id in page.ids() {
        session.execute("SET lock_timeout = '100ms'").unwrap();
        session
            .execute(&format!("UPDATE crm.conversations SET synced_at = synced_at WHERE id = '{id}'"))
            .unwrap();
    }
    until(&mut session, RUNNING);
    running.join().unwrap().unwrap();
}

/// The second one waits until the table of the first one is there, and takes it.
#[test]
fn two_first_calls_at_once() {
    let (shop, mut session) = open(30);
    let mut other = shop.connect().unwrap();
    let waits =
        |how: &str| format!("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = '{how}' AND NOT granted)");
    // A session that creates the table.
    other
        .execute(
            "BEGIN;
             CREATE TABLE crm.conversations (LIKE shop.conversations, synced_at timestamptz, removed_at timestamptz,
                                             PRIMARY KEY (page_id, id))",
        )
        .unwrap();
    let running = start(&shop, SYNC);
    until(&mut session, &waits("transactionid"));
    other.execute("COMMIT").unwrap();
    running.join().unwrap().unwrap();
    is_the_page(&mut session, "into the table of another session");

    // Another call, which is kept waiting while it creates the table.
    session.execute("DROP TABLE crm.conversations").unwrap();
    session
        .execute(
            "CREATE FUNCTION wait() RETURNS event_trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); END $$;
             CREATE EVENT TRIGGER wait ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION wait()",
        )
        .unwrap();
    other.execute("BEGIN; SELECT pg_advisory_xact_lock(42)").unwrap();
    let first = start(&shop, SYNC);
    until(&mut session, &waits("advisory"));
    let second = start(&shop, SYNC);
    let both = "SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    until(&mut session, both);
    other.execute("COMMIT").unwrap();
    first.join().unwrap().unwrap();
    second.join().unwrap().unwrap();
    is_the_page(&mut session, "into the table of another call");
}

/// A step's rows may have been read before the step is prepared: what another session writes in
/// between is the later reading.
#[test]
fn a_row_that_is_written_after_it_was_read_ahead() {
    let (shop, mut session) = open(400);
    session
        .execute(
            "CREATE OR REPLACE FUNCTION pancake_internal.sync_batch_rows() RETURNS bigint
                 LANGUAGE sql IMMUTABLE AS 'SELECT 70::bigint';
             CREATE TABLE crm.conversations (LIKE shop.conversations, synced_at timestamptz, PRIMARY KEY (page_id, id));
             CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN
                     IF (SELECT count(*) FROM crm.conversations) >= 60 THEN
                         PERFORM pg_advisory_xact_lock_shared(42);
                     END IF;
                     RETURN NEW;
                 END $$;
             CREATE TRIGGER wait BEFORE INSERT ON crm.conversations FOR EACH ROW EXECUTE FUNCTION wait();
             CREATE TABLE later AS SELECT * FROM shop.conversations ORDER BY inserted_at DESC OFFSET 100 LIMIT 1",
        )
        .unwrap();
    session.execute("BEGIN; SELECT pg_advisory_xact_lock(42)").unwrap();
    let mut caller = shop.connect().unwrap();
    std::thread::scope(|scope| {
        let sync = scope.spawn(move || caller.execute(SYNC).unwrap());
        until(&mut session, "SELECT count(*) = 60 FROM crm.conversations");
        // Until all has been read that is read ahead.
        let mut requests = 0;
        while requests != shop.simulator.requests() {
            requests = shop.simulator.requests();
            std::thread::sleep(Duration::from_millis(500));
        }
        session
            .execute(
                "INSERT INTO crm.conversations SELECT *, clock_timestamp() FROM later;
                 UPDATE crm.conversations SET snippet = 'later' WHERE id = (SELECT id FROM later); COMMIT",
            )
            .unwrap();
        sync.join().unwrap();
    });
    assert_eq!(session.one("SELECT count(*) FROM crm.conversations").unwrap(), "400");
    let later = "SELECT snippet FROM crm.conversations WHERE id = (SELECT id FROM later)";
    assert_eq!(session.one(later).unwrap(), "later");
}

/// A page that waits for its lane, and then fails, fails once.
#[test]
fn a_page_that_waits_may_fail() {
    let (shop, mut session) = open(900);
    shop.simulator.switches(|switches| switches.latency = Duration::from_millis(200));
    let running = start(&shop, SYNC);
    until(&mut session, RUNNING);
    let waits = start(&shop, "CALL pancake.sync('shop.conversations', 'crm.conversations', wait => '60 s')");
    until(
        &mut session,
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep')",
    );
    session.execute("DROP TABLE crm.conversations").unwrap();
    assert!(waits.join().unwrap().is_err() && running.join().unwrap().is_err());
}
