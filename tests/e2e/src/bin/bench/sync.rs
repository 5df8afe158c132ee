//! How much of a page's budget the first run of a sync uses, and how many requests a later one
//! costs. That the copy is right is left to the tests.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use e2e::{Cluster, Shop};
use pancake_simulator::Settings;

use crate::table::Table;

const ROWS: usize = 12_000;
const RATE: f64 = 5.0;
const SPACING: f64 = 1.025 / RATE;
/// In milliseconds, with the least share of the ceiling that is wanted, in per cent.
const LATENCIES: [(u64, u64); 3] = [(50, 90), (200, 90), (800, 80)];
const CHANGED: [usize; 4] = [0, 1, 59, 400];
const CALL: &str = "CALL pancake.sync('shop.conversations', 'copy', reread => NULL)";

pub fn measure() -> Result<Table> {
    let cluster = Cluster::start()?;
    let runs: Vec<Vec<[String; 5]>> = thread::scope(|scope| {
        let start = |(latency, least)| {
            let cluster = &cluster;
            scope.spawn(move || run(cluster, latency, least))
        };
        let runs = LATENCIES.map(start);
        runs.into_iter().map(|run| run.join().map_err(|_| anyhow!("a run is lost"))?).collect::<Result<_>>()
    })?;
    let mut table = Table::new("Sync", &["run", "latency", "time", "share of the ceiling", "requests"]);
    runs.iter().flatten().for_each(|row| table.row(row));
    table.note(format!(
        "A copy of {ROWS} conversations at {RATE} requests/s, replies jittered by a fifth around the latency. The ceiling is \
         (rows ∕ 59 + 3) requests, spaced by 1.025 s ∕ {RATE}; a delta may cost as many, of the rows that changed."
    ));
    Ok(table)
}

/// The first run, and at the last latency what later ones cost.
fn run(cluster: &Cluster, latency: u64, least: u64) -> Result<Vec<[String; 5]>> {
    let delay = Duration::from_millis(latency);
    let mut settings = Settings::of(ROWS);
    (settings.switches.latency, settings.switches.jitter) = (delay.mul_f64(0.8), delay.mul_f64(0.4));
    settings.switches.rate = Some(RATE);
    let shop = Shop::open_in(cluster, settings, &[("requests_per_second", &RATE.to_string())])?;
    let page = shop.simulator.first_page();
    page.warm();
    let mut session = shop.connect()?;
    let mut rows = vec![];
    let mut call = |what: String, minimum: usize, wanted: &str| -> Result<()> {
        let before = shop.simulator.requests();
        let begun = Instant::now();
        session.execute(CALL)?;
        let time = begun.elapsed().as_secs_f64();
        let requests = shop.simulator.requests() - before;
        let (share, requests) = if wanted.is_empty() {
            (String::new(), format!("{requests} (at most {minimum})"))
        } else {
            let share = 100.0 * minimum as f64 * SPACING / time;
            (format!("{share:.0} % ({wanted})"), requests.to_string())
        };
        rows.push([what, format!("{latency} ms"), format!("{time:.1} s"), share, requests]);
        Ok(())
    };
    call("first".to_owned(), ROWS.div_ceil(59) + 3, &format!("at least {least} %"))?;
    for changed in CHANGED {
        // What happened before is out of the window.
        shop.simulator.advance(Duration::from_secs(3_600));
        page.ids().iter().take(changed).for_each(|id| {
            page.message(id);
        });
        shop.simulator.advance(Duration::from_secs(60));
        call(format!("delta, {changed} changed"), changed.div_ceil(59) + 3, "")?;
    }
    ensure!(session.one("SELECT count(*) FROM copy")? == ROWS.to_string(), "rows are missing");
    shop.assert_no_violations()?;
    Ok(rows)
}
