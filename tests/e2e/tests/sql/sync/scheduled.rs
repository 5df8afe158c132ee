//! Syncs and materialized views on a schedule: the real pg_cron, in a server of its own, while the
//! list moves.

use std::time::{Duration, Instant};

use e2e::{Cluster, Mode, Tree};
use pancake_simulator::Churn;

use super::*;

const JOBS: [(&str, &str); 4] = [
    ("delta", SYNC),
    ("full", FULL),
    ("over the copy", "REFRESH MATERIALIZED VIEW CONCURRENTLY crm.unread"),
    ("over the page", "REFRESH MATERIALIZED VIEW CONCURRENTLY crm.live"),
];

/// How often each job has ended well.
fn succeeded(session: &mut Session) -> Vec<usize> {
    let sql = "SELECT count(d.runid) FROM cron.job j
        LEFT JOIN cron.job_run_details d ON d.jobid = j.jobid AND d.status = 'succeeded' GROUP BY j.jobid ORDER BY j.jobid";
    session.column(sql).unwrap().into_iter().map(|count| count.parse().unwrap()).collect()
}

/// Waits until every job has ended well once more than before.
fn once_more(session: &mut Session, before: &[usize], within: Duration) {
    let begun = Instant::now();
    loop {
        let now = succeeded(session);
        if now.iter().zip(before).all(|(now, before)| now > before) {
            return;
        }
        let details = "SELECT command || ': ' || status || ' ' || coalesce(return_message, '') FROM cron.job_run_details";
        let late = begun.elapsed() > within;
        assert!(!late, "{before:?} {now:?} {:#?}", session.column(details).unwrap());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn pg_cron_runs_syncs_and_views() {
    let tree = Tree::with_extension().unwrap();
    if !tree.ask("--sharedir").unwrap().join("extension/pg_cron.control").exists() {
        eprintln!("pg_cron is not installed beside this Postgres (make deps): nothing was tested");
        return;
    }
    // The name that the first database of a cluster gets. What a job wrote must be there after an
    // immediate shutdown.
    let settings = [
        ("shared_preload_libraries", "pg_cron"),
        ("cron.database_name", "shop_0"),
        ("synchronous_commit", "on"),
    ];
    let cluster = Cluster::start_with(&settings).unwrap();
    let shop = Shop::open_in(&cluster, Settings::of(200).as_seen(), &[]).unwrap();
    assert_eq!(shop.database.name(), "shop_0");
    let page = shop.simulator.first_page();
    let mut session = shop.connect().unwrap();
    // A job remembers the host that was set when it was scheduled.
    session.execute(&format!("ALTER SYSTEM SET cron.host = '{}'", cluster.socket_dir().display())).unwrap();
    cluster.restart().unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE SCHEMA crm; CREATE EXTENSION pg_cron").unwrap();
    session.execute(SYNC).unwrap();
    session
        .execute(
            "CREATE MATERIALIZED VIEW crm.unread AS SELECT page_id, id, updated_at, seen FROM crm.conversations WHERE removed_at IS NULL;
             CREATE UNIQUE INDEX ON crm.unread (page_id, id);
             CREATE MATERIALIZED VIEW crm.live AS SELECT page_id, id, updated_at FROM shop.conversations
                 WHERE updated_at > now() - interval '7 days';
             CREATE UNIQUE INDEX ON crm.live (page_id, id)",
        )
        .unwrap();
    // Since 1.5 a schedule may be in seconds. Before, what runs at each start of the server is as
    // quick.
    let version: f32 = session
        .one("SELECT installed_version FROM pg_available_extensions WHERE name = 'pg_cron'")
        .unwrap()[..3]
        .parse()
        .unwrap();
    let seconds = version >= 1.5;
    for (name, command) in JOBS {
        let schedule = if seconds { "2 seconds" } else { "@reboot" };
        session.execute(&format!("SELECT cron.schedule('{name}', '{schedule}', $${command}$$)")).unwrap();
    }
    shop.simulator.switches(|switches| {
        switches.churn = Churn { messages: 1.0, creates: 0.3, retags: 0.5, ..Churn::default() };
    });
    for round in 0..4 {
        let before = succeeded(&mut session);
        if round == 2 {
            session.execute("ALTER SYSTEM SET cron.use_background_workers = on").unwrap();
        }
        if !seconds || round % 2 == 0 {
            cluster.stop(if round % 2 == 0 { Mode::Fast } else { Mode::Immediate }).unwrap();
            cluster.launch().unwrap();
            session = shop.connect().unwrap();
        }
        page.message(&page.ids()[150]);
        once_more(&mut session, &before, Duration::from_secs(60));
    }
    shop.simulator.switches(|switches| switches.churn = Churn::default());

    // And by the clock, as users have it.
    for (name, _) in JOBS {
        session.execute(&format!("SELECT cron.unschedule('{name}')")).unwrap();
    }
    page.create("INBOX");
    for (name, command) in [JOBS[0], JOBS[1]] {
        session.execute(&format!("SELECT cron.schedule('{name}', '* * * * *', $${command}$$)")).unwrap();
    }
    once_more(&mut session, &[0, 0], Duration::from_secs(90));
    session.execute("SELECT cron.unschedule(jobname) FROM cron.job").unwrap();
    session.execute(SYNC).unwrap();
    session.execute(FULL).unwrap();
    is_the_page(&mut session, "what the schedule left");
    session.execute(JOBS[2].1).unwrap();
    let same = "SELECT count(*) FROM (SELECT id, updated_at FROM crm.unread EXCEPT SELECT id, updated_at FROM shop.conversations) d";
    assert_eq!(session.one(same).unwrap(), "0");
    // An immediate shutdown ends a run without a word; nothing else failed.
    let failed = "SELECT error FROM pancake.sync_runs WHERE status = 'failed' AND sqlstate <> '57P01'";
    assert_eq!(session.column(failed).unwrap(), Vec::<String>::new());
    shop.assert_no_violations().unwrap();
}
