//! What the first rows cost on a page with Pancake's latency: requests, and the time until they are
//! there. Longer scans are left to the other sections.

use std::time::{Duration, Instant};

use anyhow::Result;
use e2e::Shop;
use pancake_simulator::Settings;

use crate::table::{Table, median, ms};

const TIMES: usize = 20;
const LATENCY: Duration = Duration::from_millis(120);

pub fn measure() -> Result<Table> {
    let mut settings = Settings::of(3_000);
    settings.switches.latency = LATENCY;
    let shop = Shop::open(settings)?;
    let mut table = Table::new("First rows", &["statement", "requests", "median", "max"]);
    for (what, sql, new_session) in [
        ("`LIMIT 10`, first statement of a session", "SELECT id FROM shop.conversations LIMIT 10", true),
        ("`LIMIT 10`", "SELECT id FROM shop.conversations LIMIT 10", false),
        (
            "`LIMIT 10`, by type and time",
            "SELECT id FROM shop.conversations
             WHERE type = 'INBOX' AND updated_at > now() - interval '7 days' LIMIT 10",
            false,
        ),
    ] {
        let mut session = shop.connect()?;
        let mut times = Vec::new();
        let before = shop.simulator.requests();
        for _ in 0..TIMES {
            if new_session {
                session = shop.connect()?;
            }
            let begun = Instant::now();
            session.execute(sql)?;
            times.push(begun.elapsed());
        }
        let requests = (shop.simulator.requests() - before) as f64 / TIMES as f64;
        let max = times.iter().max().copied().unwrap_or_default();
        table.row(&[what.to_owned(), format!("{requests:.1}"), ms(median(times)), ms(max)]);
    }
    shop.assert_no_violations()?;
    table.note(format!("Replies after {} ms; no rate limit.", LATENCY.as_millis()));
    Ok(table)
}
