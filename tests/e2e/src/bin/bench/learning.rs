//! What three sessions make of a page that bears less than the configured rate: how much of it they
//! use, how often they are refused, and whether they end. What they read is of no matter.

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use e2e::{Cluster, Shop};
use pancake_simulator::Settings;

use crate::table::Table;

const SESSIONS: usize = 3;
const REQUESTS: usize = 100;
const BEARS: f64 = 3.0;
/// What it may take to find out.
const FIRST: Duration = Duration::from_secs(10);

pub fn measure() -> Result<Table> {
    // No other test uses the page.
    let cluster = Cluster::start()?;
    let mut settings = Settings::of(59 * (REQUESTS - 2));
    settings.switches.latency = Duration::from_millis(120);
    settings.switches.jitter = Duration::from_millis(60);
    settings.switches.rate = Some(BEARS);
    let shop = Shop::open_in(&cluster, settings, &[("requests_per_second", "5")])?;
    let sessions = (0..SESSIONS).map(|_| shop.connect()).collect::<Result<Vec<_>>>()?;
    let running: Vec<_> = sessions
        .into_iter()
        .map(|mut session| thread::spawn(move || session.execute("SELECT count(*) FROM shop.conversations")))
        .collect();
    for session in running {
        session.join().map_err(|_| anyhow!("a session is lost"))??;
    }
    let log = shop.simulator.log();
    let first = log.first().map(|entry| entry.at).unwrap_or_default() + FIRST;
    let last = log.last().map(|entry| entry.at).unwrap_or_default();
    let after: Vec<_> = log.iter().filter(|entry| entry.at >= first).collect();
    let refused = after.iter().filter(|entry| entry.status == 429).count();
    let used = (after.len() - refused) as f64 / (BEARS * last.saturating_sub(first).as_secs_f64());

    let mut table =
        Table::new("Learning", &["sessions", "requests", "refused after 10 s", "of the true budget used"]);
    let share = |part: f64| format!("{:.1} %", part * 100.0);
    table.row(&[
        SESSIONS.to_string(),
        log.len().to_string(),
        share(refused as f64 / after.len().max(1) as f64),
        share(used),
    ]);
    table.note(format!(
        "Configured for 5 requests a second on a page that bears {BEARS}; replies after 120 to 180 ms."
    ));
    Ok(table)
}
