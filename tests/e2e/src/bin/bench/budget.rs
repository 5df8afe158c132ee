//! How much of a page's budget eight sessions use together, and whether they ever overdraw it.
//! What they read is of no matter.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use e2e::{Cluster, Shop};
use pancake_simulator::Settings;

use crate::table::Table;

const SESSIONS: usize = 8;
const LASTS: Duration = Duration::from_secs(30);
/// A second less what a timer may be late.
const WINDOW: Duration = Duration::from_millis(975);

pub fn measure() -> Result<Table> {
    // No other test uses the page.
    let cluster = Cluster::start()?;
    let mut settings = Settings::of(3_000);
    settings.switches.latency = Duration::from_millis(120);
    settings.switches.jitter = Duration::from_millis(60);
    let shop = Shop::open_in(&cluster, settings, &[("requests_per_second", "5")])?;
    let sessions = (0..SESSIONS).map(|_| shop.connect()).collect::<Result<Vec<_>>>()?;
    let until = Instant::now() + LASTS;
    let running: Vec<_> = sessions
        .into_iter()
        .map(|mut session| {
            thread::spawn(move || -> Result<()> {
                while Instant::now() < until {
                    session.execute("SELECT id FROM shop.conversations LIMIT 100")?;
                }
                Ok(())
            })
        })
        .collect();
    for session in running {
        session.join().map_err(|_| anyhow!("a session is lost"))??;
    }
    shop.assert_no_violations()?;

    let busiest = shop.simulator.busiest(WINDOW);
    // The last sessions leave one by one, and leave the budget unused.
    let log = shop.simulator.log();
    let first = log.first().map(|entry| entry.at).unwrap_or_default();
    let arrivals: Vec<_> = log.iter().map(|entry| entry.at).filter(|at| *at <= first + LASTS).collect();
    let span = arrivals.last().copied().unwrap_or_default() - first;
    let per_second = (arrivals.len().saturating_sub(1)) as f64 / span.as_secs_f64();

    let mut table =
        Table::new("Budget", &["sessions", "requests", "per second (of 5)", "most in any 975 ms"]);
    let figures = [SESSIONS, arrivals.len()].map(|n| n.to_string());
    let [sessions, requests] = figures;
    table.row(&[sessions, requests, format!("{per_second:.2}"), busiest.to_string()]);
    table.note(format!("{} s, replies after 120 to 180 ms.", LASTS.as_secs()));
    Ok(table)
}
