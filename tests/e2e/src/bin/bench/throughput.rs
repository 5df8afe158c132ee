//! What a row costs when nothing holds it up: CPU and time of the backend, beside the usual loop
//! over the same replies. The simulator's own work is in the time, not in the CPU; memory is left
//! to its own section.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use e2e::{Session, Shop};
use nix::unistd::{Pid, SysconfVar, sysconf};
use pancake_simulator::{PageHandle, PageSettings, Settings};

use crate::loops::{All, Row, Two, read};
use crate::table::{Table, ms};

const ROWS: usize = 20_000;
/// Ours and theirs in turn; of each the round that was least disturbed.
const ROUNDS: usize = 10;
/// No wait between requests.
pub const UNLIMITED: (&str, &str) = ("requests_per_second", "100000");
/// A row as the simulator makes it, and as large as a live one (docs/api.md).
pub const SIZES: [(&str, Option<usize>); 2] = [("1.4 kB", None), ("3.3 kB", Some(3_300))];

/// What the rounds of one reader took.
struct Spent {
    least_cpu: Duration,
    least_time: Duration,
    user: Duration,
    cpu: Duration,
}

impl Spent {
    const NOTHING: Spent = Spent {
        least_cpu: Duration::MAX,
        least_time: Duration::MAX,
        user: Duration::ZERO,
        cpu: Duration::ZERO,
    };

    fn add(&mut self, user: Duration, cpu: Duration, time: Duration) {
        self.least_cpu = self.least_cpu.min(cpu);
        self.least_time = self.least_time.min(time);
        self.user += user;
        self.cpu += cpu;
    }

    /// The kernel counts user time in ticks of 10 ms: one round would be too short to measure.
    fn user(&self) -> Duration {
        self.least_cpu.mul_f64((self.user.as_secs_f64() / self.cpu.as_secs_f64()).min(1.0))
    }
}

pub fn measure() -> Result<Table> {
    let mut table =
        Table::new("Throughput", &["per 1,000 rows", "CPU", "of the loop's", "of it user", "time"]);
    for (size, row_bytes) in SIZES {
        let shop = Shop::open_with(page(ROWS, row_bytes), &[UNLIMITED])?;
        let page = shop.simulator.first_page();
        let base_url = shop.simulator.base_url();
        let mut session = shop.connect()?;
        // The whole row as one value needs all columns.
        for (columns, select, bare) in [
            ("two", "SELECT max(id), max(updated_at), count(*)", bare::<Two> as fn(&str, &PageHandle) -> _),
            ("all", "SELECT count(conversations), 0, count(*)", bare::<All>),
        ] {
            let (mut ours, mut theirs) = (Spent::NOTHING, Spent::NOTHING);
            // Once for the simulator, which keeps its replies.
            scan(&mut session, select, &mut ours)?;
            ours = Spent::NOTHING;
            for _ in 0..ROUNDS {
                scan(&mut session, select, &mut ours)?;
                let (user, cpu, time): (Duration, Duration, Duration) = bare(&base_url, &page)?;
                theirs.add(user, cpu, time);
            }
            let share = |spent: Duration| ms(spent.mul_f64(1000.0 / ROWS as f64));
            let mut add = |whose: &str, spent: &Spent| {
                let ratio = spent.least_cpu.as_secs_f64() / theirs.least_cpu.as_secs_f64();
                table.row(&[
                    format!("rows of {size}, {columns} columns, {whose}"),
                    share(spent.least_cpu),
                    format!("{ratio:.2}"),
                    share(spent.user()),
                    share(spent.least_time),
                ]);
            };
            add("pancake_fdw", &ours);
            add("reqwest and serde_json", &theirs);
        }
        shop.assert_no_violations()?;
    }
    table.note(format!(
        "The least of {ROUNDS} reads of {ROWS} rows, without latency or limit; of pancake_fdw the CPU of the whole backend."
    ));
    Ok(table)
}

/// A page of so many rows, and no log of its requests.
pub fn page(conversations: usize, row_bytes: Option<usize>) -> Settings {
    let page = PageSettings { conversations, row_bytes, ..PageSettings::default() };
    Settings { keep_log: false, pages: vec![page], ..Settings::default() }
}

fn scan(session: &mut Session, select: &str, spent: &mut Spent) -> Result<()> {
    let pid = session.pid()?;
    let (user, cpu, begun) = (user_time(pid)?, cpu_time(pid)?, Instant::now());
    let rows = session.rows(&format!("{select} FROM shop.conversations"))?;
    let time = begun.elapsed();
    spent.add(user_time(pid)?.saturating_sub(user), cpu_time(pid)?.saturating_sub(cpu), time);
    let count = rows.first().and_then(|row| row.last().cloned().flatten());
    ensure!(count == Some(ROWS.to_string()), "{count:?} rows instead of {ROWS}");
    Ok(())
}

fn bare<R: Row>(base_url: &str, page: &PageHandle) -> Result<(Duration, Duration, Duration)> {
    let (base_url, page) = (base_url.to_owned(), page.clone());
    let begun = Instant::now();
    let reading = std::thread::spawn(move || read::<R>(&base_url, &page));
    let (rows, user, cpu) = reading.join().map_err(|_| anyhow!("the loop is lost"))??;
    ensure!(rows == ROWS, "{rows} rows instead of {ROWS}");
    Ok((user, cpu, begun.elapsed()))
}

/// Of all threads of a process, user and system time together, to the nanosecond.
fn cpu_time(pid: i32) -> Result<Duration> {
    let clock = nix::time::clock_getcpuclockid(Pid::from_raw(pid))?;
    Ok(nix::time::clock_gettime(clock)?.into())
}

/// Of all threads of a process, the time in user mode, in the kernel's ticks.
fn user_time(pid: i32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/…/stat has another form")?;
    let ticks: u64 = fields.split(' ').nth(11).context("/proc/…/stat is short")?.parse()?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}
