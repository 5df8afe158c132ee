//! A thousand pages in one statement, where a backend may have 1,024 descriptors.

use std::path::Path;
use std::time::Duration;

use e2e::account::{run, server_command};
use e2e::{Cluster, Database, Session};
use pancake_simulator::{PageSettings, Settings, Simulator};

const PAGES: usize = 1000;

/// One server for all of them; a session with no more descriptors than most systems allow.
fn open(simulator: &Simulator, database: &Database) -> Session {
    let mut session = database.connect().unwrap();
    let file = database.cluster().socket_dir().join("tokens");
    std::fs::write(&file, simulator.token_file()).unwrap();
    session
        .execute(&format!(
            "CREATE SERVER pages FOREIGN DATA WRAPPER pancake_fdw
                 OPTIONS (base_url '{}', requests_per_second '1000');
             CREATE USER MAPPING FOR CURRENT_USER SERVER pages OPTIONS (page_access_token_file '{}');
             CREATE TABLE live (id text, page_id text, updated_at timestamptz) PARTITION BY LIST (page_id)",
            simulator.base_url(),
            file.display()
        ))
        .unwrap();
    let partitions = simulator.page_ids().into_iter().map(|id| {
        format!(
            "CREATE FOREIGN TABLE of_{id} PARTITION OF live FOR VALUES IN ('{id}') SERVER pages
                 OPTIONS (object 'conversations', page_id '{id}')"
        )
    });
    session.execute(&partitions.collect::<Vec<_>>().join(";")).unwrap();
    let pid = session.pid().unwrap().to_string();
    // As the account that the backend is of: root itself may not, in a container.
    run(server_command(Path::new("/usr/bin"), "prlimit").args(["--nofile=1024:", "--pid", &pid])).unwrap();
    session
}

#[test]
fn a_thousand_pages_need_no_more_descriptors_than_there_are() {
    // Of its own: the rate limiter has room for 1,024 pages.
    let cluster = Cluster::start().unwrap();
    let database = cluster.database("thousand").unwrap();
    let pages = (0..PAGES).map(|n| PageSettings { conversations: 5, ..PageSettings::numbered(n) }).collect();
    let simulator = Simulator::start(Settings { pages, ..Settings::default() }).unwrap();
    let mut session = open(&simulator, &database);
    simulator.switches(|switches| switches.latency = Duration::from_millis(100));
    assert_eq!(session.one("SELECT count(DISTINCT (page_id, id)) FROM live").unwrap(), "5000");
    let at_once = simulator.most_in_flight();
    assert!((100..=340).contains(&at_once), "{at_once} at once");
    // A Merge Append has all of them open.
    simulator.switches(|switches| switches.latency = Duration::ZERO);
    let newest = "SELECT page_id FROM live ORDER BY updated_at DESC LIMIT 100";
    assert!(session.explain(newest).unwrap().contains("Merge Append"));
    assert_eq!(session.rows(newest).unwrap().len(), 100);
    assert_eq!(session.one("SELECT count(*) FROM live WHERE updated_at > '2000-01-01'").unwrap(), "5000");
    assert_eq!(simulator.violations(), Vec::<String>::new());
}
