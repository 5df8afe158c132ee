//! Measures how long a sync of many pages takes, the first one and one without changes, beside one
//! page alone and a plain INSERT of the same rows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use e2e::{Cluster, Session, Shop};
use pancake_simulator::{PageSettings, Settings};

use crate::memory::rss_anon;
use crate::pages::{partitioned, slow};
use crate::table::Table;

const PAGES: usize = 200;
const CONVERSATIONS: usize = 300;

pub fn measure() -> Result<Table> {
    let cluster = Cluster::start()?;
    let page = |n| PageSettings { conversations: CONVERSATIONS, ..PageSettings::numbered(n) };
    let settings = Settings { pages: (0..PAGES).map(page).collect(), ..Settings::default() };
    let shop = Shop::open_in(&cluster, slow(settings), &[("requests_per_second", "5")])?;
    partitioned(&shop)?;
    let mut session = shop.connect()?;
    let mut table = Table::new("Copies", &["statement", "pages", "time", "requests", "RssAnon at most"]);
    let mut measured = |what: &str, pages: usize, sql: &str| -> Result<f64> {
        let mut session = shop.connect()?;
        let before = shop.simulator.requests();
        let begun = Instant::now();
        let most = watched(&mut session, sql)?;
        let time = begun.elapsed().as_secs_f64();
        let requests = shop.simulator.requests() - before;
        let memory = format!("{:.1} MB", most as f64 / 1024.0);
        let time_text = format!("{time:.2} s");
        table.row(&[what.to_owned(), pages.to_string(), time_text, requests.to_string(), memory]);
        Ok(time)
    };
    let one = measured("first sync", 1, "CALL pancake.sync('shop.conversations', 'one')")?;
    session.execute("CREATE TABLE read AS SELECT * FROM live")?;
    session.execute(
        "CREATE TABLE plain (LIKE read, PRIMARY KEY (page_id, id)); CREATE INDEX ON plain (page_id, updated_at)",
    )?;
    let plain = "INSERT INTO plain SELECT * FROM read";
    let plain = measured("plain INSERT of all rows", PAGES, plain)?;
    let all = measured("first sync", PAGES, "CALL pancake.sync('live', 'copy')")?;
    // What happened before is out of the window.
    shop.simulator.advance(Duration::from_secs(3_600));
    measured("sync without changes", PAGES, "CALL pancake.sync('live', 'copy', reread => NULL)")?;
    let rows = (PAGES * CONVERSATIONS).to_string();
    ensure!(session.one("SELECT count(*) FROM copy")? == rows, "rows are missing");
    shop.assert_no_violations()?;
    table.note(format!(
        "{CONVERSATIONS} conversations each, 5 requests a second each, replies after 120 to 180 ms. The first sync of \
         all pages took {:.1} times the longer of the two before.",
        all / one.max(plain)
    ));
    Ok(table)
}

/// The most memory that the session had meanwhile, in kB.
fn watched(session: &mut Session, sql: &str) -> Result<u64> {
    let pid = session.pid()?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| -> Result<u64> {
            let mut most = 0;
            while !done.load(Ordering::SeqCst) {
                most = most.max(rss_anon(pid)?);
                thread::sleep(Duration::from_millis(20));
            }
            Ok(most)
        });
        let result = session.execute(sql);
        done.store(true, Ordering::SeqCst);
        let most = watching.join().map_err(|_| anyhow!("the watch is lost"))?;
        result.and(most)
    })
}
