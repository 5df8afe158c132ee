//! How much memory a backend holds at most while it reads a very large page, and whether that grows
//! on the way. What the rows cost in time is left to `throughput`.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use e2e::Shop;

use crate::table::Table;
use crate::throughput::{SIZES, UNLIMITED, page};

const ROWS: usize = 1_000_000;
const STATEMENT: &str = "SELECT count(*) FROM shop.conversations";

pub fn measure() -> Result<Table> {
    let mut table = Table::new("Memory", &["`count(*)` of", "RssAnon before", "in the first 5 %", "at most"]);
    for (size, row_bytes) in SIZES {
        let mut settings = page(ROWS, row_bytes);
        // Deflating would be most of the time.
        settings.switches.gzip = false;
        let shop = Shop::open_with(settings, &[UNLIMITED])?;
        let mut session = shop.connect()?;
        let pid = session.pid()?;
        let before = rss_anon(pid)?;
        let done = AtomicBool::new(false);
        let (count, seen) = thread::scope(|scope| {
            let watching = scope.spawn(|| -> Result<Vec<u64>> {
                let mut seen = vec![];
                while !done.load(Ordering::SeqCst) {
                    seen.push(rss_anon(pid)?);
                    thread::sleep(Duration::from_millis(20));
                }
                Ok(seen)
            });
            let count = session.one(STATEMENT);
            done.store(true, Ordering::SeqCst);
            (count, watching.join())
        });
        let (count, seen) = (count?, seen.map_err(|_| anyhow!("the watch is lost"))??);
        ensure!(count == ROWS.to_string(), "{count} rows instead of {ROWS}");
        let early = seen.iter().take(seen.len() / 20 + 1).max().copied().unwrap_or_default();
        let most = seen.iter().max().copied().unwrap_or_default();
        let figures = [before, early, most].map(|kb| format!("{:.1} MB", kb as f64 / 1024.0));
        let [before, early, most] = figures;
        table.row(&[format!("{ROWS} rows of {size}"), before, early, most]);
    }
    Ok(table)
}

/// In kB: what the process has of its own, neither shared nor of a file.
pub fn rss_anon(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
