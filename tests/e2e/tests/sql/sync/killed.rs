//! A sync that is killed, at any moment and in any way, loses nothing and doubles nothing: the next
//! one goes on.

use std::time::{Duration, Instant};

use e2e::account::{client_command, run};
use e2e::{Cluster, Mode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pancake_simulator::{Churn, Fault, PageSettings, Times};

use super::beside::{RUNNING, until};
use super::*;

/// A generator of moments: xorshift, so that a failure can be played again.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A session, as soon as the server takes one again.
fn connect(shop: &Shop) -> Session {
    let begun = Instant::now();
    loop {
        match shop.connect() {
            Ok(session) => return session,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error:#}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a sync and kills it, in one of three ways, after so many microseconds; gives the pid that
/// it had. Counts those that had not come to their end by then.
fn strike(
    cluster: &Cluster,
    shop: &Shop,
    session: &mut Session,
    call: &str,
    moment: u64,
    way: u64,
    killed: &mut u32,
) -> i32 {
    let mut victim = connect(shop);
    let (pid, call) = (victim.pid().unwrap(), call.to_owned());
    let running = std::thread::spawn(move || victim.execute(&call).is_err());
    std::thread::sleep(Duration::from_micros(moment));
    match way {
        0 => session.execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap(),
        // It may have come to its end already. If not, the whole server starts again, and all
        // sessions with it.
        1 if kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() => {
            let begun = Instant::now();
            while session.execute("SELECT 1").is_ok() && begun.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        1 => {}
        _ => {
            cluster.stop(Mode::Immediate).unwrap();
            cluster.launch().unwrap();
        }
    }
    *killed += u32::from(running.join().unwrap());
    *session = connect(shop);
    pid
}

#[test]
fn at_any_moment_in_any_way() {
    let cluster = Cluster::start().unwrap();
    let shop = Shop::open_in(&cluster, Settings::of(700).as_seen(), &[("max_concurrency", "2")]).unwrap();
    let page = shop.simulator.first_page();
    let mut session = shop.connect().unwrap();
    // Small batches, so that there are many seams to die at.
    session
        .execute(
            "CREATE SCHEMA crm; CREATE OR REPLACE FUNCTION pancake_internal.sync_batch_rows() RETURNS bigint
                  LANGUAGE sql IMMUTABLE AS 'SELECT 119::bigint'",
        )
        .unwrap();
    let mut dice = Dice(0x5eed_2026);
    let (mut killed, mut resumed) = (0, 0);
    for round in 0..36_u64 {
        if round % 2 == 0 {
            session.execute("DROP TABLE IF EXISTS crm.conversations").unwrap();
        }
        shop.simulator.switches(|switches| {
            switches.churn = Churn { messages: 0.5, creates: 0.1, deletes: 0.05, ..Churn::default() };
            switches.latency = Duration::from_millis(2);
        });
        let call = match round % 6 {
            3 => FULL,
            4 => {
                "CALL pancake.sync('shop.conversations', 'crm.conversations', reread => '60 days', reread_every => '0')"
            }
            _ => SYNC,
        };
        let moment = dice.below(if round % 2 == 0 { 500_000 } else { 150_000 });
        let pid = strike(&cluster, &shop, &mut session, call, moment, dice.below(3), &mut killed);
        let begun = "SELECT count(*) FROM pancake_internal.sync_marks WHERE NOT backfill_done AND backfilled_to IS NOT NULL";
        resumed += session.one(begun).unwrap().parse::<u32>().unwrap();

        shop.simulator.switches(|switches| switches.churn = Churn::default());
        let what = format!("round {round}, pid {pid}");
        // What a backfill leaves to the next delta, that one brings.
        for _ in 0..2 {
            session.execute(SYNC).unwrap_or_else(|error| panic!("{what}: {error:#}"));
        }
        let gone = "SELECT count(*) FROM crm.conversations WHERE removed_at IS NOT NULL AND id IN (SELECT id FROM shop.conversations)";
        assert_eq!(session.one(gone).unwrap(), "0", "{what}");
        let mut unlike = unlike(&mut session, "id, updated_at, message_count");
        // What the page deleted is a full rescan's matter.
        unlike.retain(|row| page.ids().iter().any(|id| row.contains(id.as_str())));
        assert!(unlike.is_empty(), "{what}: {unlike:?}");
        assert_eq!(
            session.one("SELECT count(*) FROM pancake.sync_runs WHERE status = 'running'").unwrap(),
            "0",
            "{what}"
        );
    }
    assert!(
        killed > 8 && resumed > 1,
        "{killed} of 36 were killed before their end, {resumed} backfills in the middle"
    );
    session.execute(FULL).unwrap();
    is_the_page(&mut session, "after all of it");
}

/// Twenty pages at once, some of them in every stage when the blow falls. In a fourth way the
/// connections to Pancake break instead.
#[test]
fn twenty_pages_at_any_moment() {
    kill_twenty_pages(20, 0x5eed_2028);
}

/// The same, 200 times: `make soak`.
#[test]
#[ignore = "takes a quarter of an hour"]
fn twenty_pages_two_hundred_times() {
    kill_twenty_pages(200, 0x5eed_2029);
}

fn kill_twenty_pages(rounds: u64, seed: u64) {
    const ALL: &str = "CALL pancake.sync('shop.all', 'crm.conversations')";
    let cluster = Cluster::start().unwrap();
    let page = |n| PageSettings { conversations: 150, ..PageSettings::numbered(n) };
    let settings = Settings { pages: (0..20).map(page).collect(), ..Settings::default() };
    let shop = Shop::open_in(&cluster, settings.as_seen(), &[("max_retries", "0")]).unwrap();
    let mut session = shop.connect().unwrap();
    super::pages::all_pages(&shop, &mut session);
    session
        .execute(
            "CREATE OR REPLACE FUNCTION pancake_internal.sync_batch_rows() RETURNS bigint
                 LANGUAGE sql IMMUTABLE AS 'SELECT 70::bigint'",
        )
        .unwrap();
    let ids = shop.simulator.page_ids();
    let mut dice = Dice(seed);
    let mut killed = 0;
    for round in 0..rounds {
        if round % 4 == 0 {
            session.execute("DROP TABLE IF EXISTS crm.conversations").unwrap();
        }
        shop.simulator.switches(|switches| switches.latency = Duration::from_millis(10));
        for id in &ids {
            let page = shop.simulator.page(id);
            (0..dice.below(3)).for_each(|_| drop(page.create("INBOX")));
            let known = page.ids();
            page.message(&known[dice.below(known.len() as u64) as usize]);
        }
        let moment = dice.below(if round % 4 == 0 { 1_500_000 } else { 600_000 });
        let way = dice.below(4);
        if way == 3 {
            shop.simulator.fault(Fault::Dropped, Times::Next(30));
        }
        let pid = strike(&cluster, &shop, &mut session, ALL, moment, way % 3, &mut killed);
        shop.simulator.clear_faults();
        shop.simulator.switches(|switches| switches.latency = Duration::ZERO);
        let what = format!("round {round}, pid {pid}, way {way}");
        for _ in 0..2 {
            session.execute(ALL).unwrap_or_else(|error| panic!("{what}: {error:#}"));
        }
        let (page, copy) = ("SELECT page_id, id, updated_at, message_count FROM", "WHERE removed_at IS NULL");
        let unlike = session
            .column(&format!(
                "SELECT 'page ' || p FROM ({page} shop.all EXCEPT ALL {page} crm.conversations {copy}) p
                 UNION ALL
                 SELECT 'copy ' || c FROM ({page} crm.conversations {copy} EXCEPT ALL {page} shop.all) c"
            ))
            .unwrap();
        assert!(unlike.is_empty(), "{what}: {unlike:?}");
        let running = "SELECT count(*) FROM pancake.sync_runs WHERE status = 'running'";
        assert_eq!(session.one(running).unwrap(), "0", "{what}");
    }
    assert!(killed > 8, "{killed} of 20 were killed before their end");
}

/// The same of messages, of which a batch is of several scans; and of the whole lists, which have
/// no middle.
#[test]
fn messages_tags_and_users_at_any_moment() {
    let cluster = Cluster::start().unwrap();
    let shop = Shop::open_in(&cluster, Settings::of(90).as_seen(), &[]).unwrap();
    let page = shop.simulator.first_page();
    let mut session = shop.connect().unwrap();
    session
        .execute(
            "CREATE SCHEMA crm; CREATE OR REPLACE FUNCTION pancake_internal.sync_batch_rows() RETURNS bigint
                  LANGUAGE sql IMMUTABLE AS 'SELECT 9::bigint'",
        )
        .unwrap();
    let mut dice = Dice(0x5eed_2027);
    let (mut killed, mut resumed) = (0, 0);
    for round in 0..18_u64 {
        let object = ["messages", "messages", "tags", "messages", "messages", "users"][round as usize % 6];
        if round % 3 == 0 {
            session.execute("DROP TABLE IF EXISTS crm.messages").unwrap();
        }
        shop.simulator.switches(|switches| {
            switches.churn = Churn { messages: 3.0, creates: 0.3, deletes: 0.1, ..Churn::default() };
            switches.latency = Duration::from_millis(5);
        });
        let arguments = if round % 6 == 4 { ", reread => '60 days', reread_every => '0'" } else { "" };
        let most = if object == "messages" { 500_000 } else { 30_000 };
        let call = super::objects::call(object, arguments);
        let (moment, way) = (dice.below(most), dice.below(3));
        let pid = strike(&cluster, &shop, &mut session, &call, moment, way, &mut killed);
        let begun = "SELECT count(*) FROM pancake_internal.sync_marks WHERE NOT backfill_done AND backfilled_to IS NOT NULL";
        resumed += session.one(begun).unwrap().parse::<u32>().unwrap();

        shop.simulator.switches(|switches| {
            switches.churn = Churn::default();
            switches.latency = Duration::ZERO;
        });
        let what = format!("round {round}, {object}, pid {pid}");
        for object in ["messages", object, object] {
            session
                .execute(&super::objects::call(object, ""))
                .unwrap_or_else(|error| panic!("{what}: {error:#}"));
        }
        let list = match object {
            "messages" => super::messages::ALL.to_owned(),
            whole => format!("shop.{whole}"),
        };
        let mut unlike = super::objects::differences(&mut session, object, &list);
        unlike.retain(|row| object != "messages" || page.ids().iter().any(|id| row.contains(id.as_str())));
        assert!(unlike.is_empty(), "{what}: {unlike:?}");
        let running = "SELECT count(*) FROM pancake.sync_runs WHERE status = 'running'";
        assert_eq!(session.one(running).unwrap(), "0", "{what}");
    }
    assert!(
        killed > 5 && resumed > 1,
        "{killed} of 18 were killed before their end, {resumed} in the middle"
    );
}

/// Ctrl-C: the run records it, and nothing is left of it. Between two steps no code of the run
/// could record the error.
#[test]
fn a_cancelled_run_is_recorded() {
    assert!((0..4).any(|_| is_recorded()), "cancelled between two steps four times");
}

fn is_recorded() -> bool {
    let (shop, mut session) = open(900);
    shop.simulator.switches(|switches| switches.latency = Duration::from_millis(100));
    let (cancel, begun) = (session.cancel_token(), Instant::now());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while shop.simulator.requests() < 3 && begun.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(1));
            }
            cancel.cancel_query(postgres::NoTls).unwrap();
        });
        assert_eq!(session.error(SYNC).unwrap().sqlstate, "57014");
    });
    assert_eq!(runs(&mut session), ["backfill failed"]);
    if last_run(&mut session, "sqlstate") == "57P01" {
        return false;
    }
    assert_eq!(
        last_run(&mut session, "sqlstate || ' ' || error"),
        "57014 canceling statement due to user request"
    );
    let counted: u64 = last_run(&mut session, "requests").parse().unwrap();
    assert!((2..=shop.simulator.requests()).contains(&counted), "{counted}");
    shop.simulator.switches(|switches| switches.latency = Duration::ZERO);
    session.execute(SYNC).unwrap();
    is_the_page(&mut session, "after a cancel");
    // The session is as good as before: nothing is locked, nothing left over.
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
    assert_eq!(session.one(held).unwrap(), "0");
    assert_eq!(session.one("SELECT current_setting('transaction_isolation')").unwrap(), "read committed");
    true
}

/// A role whose statements are cancelled after a while: each CALL leaves more of the copy behind,
/// because its steps fit into that time.
#[test]
fn a_statement_timeout_leaves_what_was_read() {
    let options = [("max_concurrency", "1"), ("requests_per_second", "20")];
    let shop = Shop::open_with(Settings::of(1_500).as_seen(), &options).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE SCHEMA crm; SET statement_timeout = '1500ms'").unwrap();
    shop.simulator.switches(|switches| switches.latency = Duration::from_millis(100));
    let mut calls = 0;
    while let Err(error) = session.execute(SYNC) {
        calls += 1;
        let stored = "SELECT coalesce((SELECT count(*) FROM crm.conversations), 0)";
        assert!(calls < 8, "{error:#}: {} rows after {calls} calls", session.one(stored).unwrap());
        assert_eq!(last_run(&mut session, "status || ' ' || sqlstate"), "failed 57014");
    }
    assert!(calls > 0, "the page is read within the timeout");
    session.execute("RESET statement_timeout").unwrap();
    is_the_page(&mut session, "several calls");
}

#[test]
fn marks_survive_a_dump() {
    let cluster = Cluster::start().unwrap();
    let shop = Shop::open_in(&cluster, Settings::of(130).as_seen(), &[]).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE SCHEMA crm").unwrap();
    session.execute(SYNC).unwrap();
    session.execute("CALL pancake.sync('shop.conversations', 'crm.gone')").unwrap();
    session.execute("DROP TABLE crm.gone").unwrap();
    // No restore knows a temporary table.
    session.execute("CREATE TEMP TABLE brief (LIKE shop.conversations, PRIMARY KEY (page_id, id))").unwrap();
    session.execute("CALL pancake.sync('shop.conversations', 'pg_temp.brief')").unwrap();
    let state = "SELECT s::text FROM pancake.sync_state s WHERE target = to_regclass('crm.conversations')";
    let state = session.one(state).unwrap();
    let mut dump = client_command(cluster.tree().bin(), "pg_dump");
    dump.args(["-U", "postgres", "-h"]).arg(cluster.socket_dir()).arg(shop.database.name());
    let dump = run(&mut dump).unwrap();

    let restored = cluster.empty_database("restored").unwrap();
    let output = restored.psql(&dump).unwrap();
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    let mut session = restored.connect().unwrap();
    assert_eq!(session.column("SELECT s::text FROM pancake.sync_state s").unwrap(), [state]);
    shop.simulator.first_page().create("INBOX");
    session.execute(SYNC).unwrap();
    assert_eq!(last_run(&mut session, "kind || ' ' || inserted"), "delta 1");
    is_the_page(&mut session, "a restored database");
}

/// Nothing is left to record that it ended, and no later run has recorded it.
#[test]
fn a_killed_run_does_not_go_on() {
    let (shop, mut session) = open(900);
    shop.simulator.switches(|switches| switches.latency = Duration::from_millis(100));
    let mut victim = shop.connect().unwrap();
    let pid = victim.pid().unwrap();
    let running = std::thread::spawn(move || victim.execute(SYNC));
    until(&mut session, RUNNING);
    session.execute(&format!("SELECT pg_terminate_backend({pid}, 60000)")).unwrap();
    running.join().unwrap().unwrap_err();
    assert_eq!(
        last_run(&mut session, "status || ' ' || sqlstate || ' ' || error"),
        "failed 57P01 the statement that ran it ended before it did"
    );
}
