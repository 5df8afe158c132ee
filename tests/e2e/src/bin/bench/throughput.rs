//! What a row costs when nothing holds it up: CPU and time of the backend, beside the loop that everybody writes.
//! The simulator's own work is in the time, not in the CPU.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use e2e::{Session, Shop};
use nix::unistd::{SysconfVar, sysconf};
use pancake_simulator::{PageHandle, Settings};

use crate::loops::{All, Row, Two, read};
use crate::table::{Table, ms};

const ROWS: usize = 20_000;
/// No wait between requests.
const UNLIMITED: (&str, &str) = ("requests_per_second", "100000");

pub fn measure() -> Result<Table> {
    let shop = Shop::open_with(Settings { keep_log: false, ..Settings::of(ROWS) }, &[UNLIMITED])?;
    let page = shop.simulator.first_page();
    page.warm();
    let base_url = shop.simulator.base_url();
    let mut session = shop.connect()?;
    session.execute("SELECT id FROM shop.conversations LIMIT 1")?;

    let mut table = Table::new("Throughput", &["per 1,000 rows", "CPU", "time"]);
    let mut add = |what: &str, (cpu, time): (Duration, Duration)| {
        let share = |spent: Duration| ms(spent.mul_f64(1000.0 / ROWS as f64));
        table.row(&[what.to_owned(), share(cpu), share(time)]);
    };
    add("two columns, pancake_fdw", scan(&mut session, "SELECT max(id), max(updated_at), count(*)")?);
    add("two columns, reqwest and serde_json", bare::<Two>(&base_url, &page)?);
    // The whole row as one value needs all columns.
    add("all columns, pancake_fdw", scan(&mut session, "SELECT count(conversations), 0, count(*)")?);
    add("all columns, reqwest and serde_json", bare::<All>(&base_url, &page)?);
    table.note(format!("{ROWS} rows without latency or limit; of pancake_fdw the CPU of the whole backend."));
    Ok(table)
}

fn scan(session: &mut Session, select: &str) -> Result<(Duration, Duration)> {
    let pid = session.pid()?;
    let (before, begun) = (cpu(pid)?, Instant::now());
    let rows = session.rows(&format!("{select} FROM shop.conversations"))?;
    let (after, time) = (cpu(pid)?, begun.elapsed());
    let count = rows.first().and_then(|row| row.last().cloned().flatten());
    ensure!(count == Some(ROWS.to_string()), "{count:?} rows instead of {ROWS}");
    Ok((after.saturating_sub(before), time))
}

fn bare<R: Row>(base_url: &str, page: &PageHandle) -> Result<(Duration, Duration)> {
    let (base_url, page) = (base_url.to_owned(), page.clone());
    let begun = Instant::now();
    let reading = std::thread::spawn(move || read::<R>(&base_url, &page));
    let (rows, cpu) = reading.join().map_err(|_| anyhow!("the loop is lost"))??;
    ensure!(rows == ROWS, "{rows} rows instead of {ROWS}");
    Ok((cpu, begun.elapsed()))
}

/// User and system time of all threads of a process, in the kernel's ticks (10 ms).
fn cpu(pid: i32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/…/stat has another form")?;
    let ticks =
        fields.split(' ').skip(11).take(2).map(|field| Ok(field.parse::<u64>()?)).sum::<Result<u64>>()?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}
