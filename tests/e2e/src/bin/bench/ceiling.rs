//! How much of a page's budget a long scan uses at the latencies that Pancake has, beside the loop
//! of the article. All cases run at the same time, each with a page and a session of its own: they
//! wait more than they work.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use e2e::{Cluster, Shop};
use pancake_simulator::Settings;

use crate::chart::{Chart, Series};
use crate::loops;
use crate::table::Table;

const ROWS: usize = 12_000;
/// The loops need no more: each of their requests waits for the one before.
const ROWS_OF_A_LOOP: usize = 3_000;
const RATE: f64 = 5.0;
const SPACING: f64 = 1.025 / RATE;
const LATENCIES: [u64; 5] = [50, 200, 400, 800, 1_200];

/// A statement, and by how much it may miss the bound.
const SCANS: [(&str, &str, f64); 3] = [
    ("whole page", "SELECT count(*) FROM shop.conversations", 1.05),
    (
        "`ORDER BY inserted_at DESC`",
        "SELECT count(*) FROM (SELECT inserted_at FROM shop.conversations ORDER BY inserted_at DESC OFFSET 0) x",
        1.10,
    ),
    (
        "`ORDER BY updated_at DESC LIMIT 12000`",
        "SELECT count(*) FROM (SELECT updated_at FROM shop.conversations ORDER BY updated_at DESC LIMIT 12000) x",
        1.10,
    ),
];

#[derive(Clone, Copy)]
struct Case {
    what: &'static str,
    sql: Option<&'static str>,
    latency: Duration,
    pause: Duration,
    allowed: f64,
}

impl Case {
    fn rows(&self) -> usize {
        if self.sql.is_some() { ROWS } else { ROWS_OF_A_LOOP }
    }
}

struct Figures {
    time: Duration,
    requests: u64,
    rss_kb: u64,
    /// The most rows that waited in the backend.
    ahead: Option<u64>,
}

pub fn measure() -> Result<Table> {
    let cluster = Cluster::start()?;
    let latencies = LATENCIES.map(Duration::from_millis);
    let scans = SCANS.iter().flat_map(|(what, sql, allowed)| {
        latencies.map(|latency| Case {
            what,
            sql: Some(sql),
            latency,
            pause: Duration::ZERO,
            allowed: *allowed,
        })
    });
    let loops = [("the article's loop, 300 ms pauses", 300), ("the same without pauses", 0)];
    let loops = loops.iter().flat_map(|(what, pause)| {
        let pause = Duration::from_millis(*pause);
        latencies.map(|latency| Case { what, sql: None, latency, pause, allowed: f64::NAN })
    });
    let cases: Vec<Case> = scans.chain(loops).collect();
    let figures: Vec<Figures> = thread::scope(|scope| {
        let running: Vec<_> = cases.iter().map(|case| scope.spawn(|| run(&cluster, *case))).collect();
        running
            .into_iter()
            .map(|case| case.join().map_err(|_| anyhow!("a case is lost"))?)
            .collect::<Result<_>>()
    })?;

    let mut table = Table::new(
        "Share of the ceiling",
        &[
            "what",
            "latency",
            "time",
            "share of the ceiling",
            "of the bound",
            "requests",
            "over the minimum",
            "memory",
            "rows ahead",
        ],
    );
    let mut series: Vec<Series> = Vec::new();
    for (case, figures) in cases.iter().zip(figures) {
        let minimum = case.rows().div_ceil(59) + 3;
        let time = figures.time.as_secs_f64();
        let bound = minimum as f64 * SPACING + 4.0 * case.latency.as_secs_f64();
        let over = figures.requests as f64 / minimum as f64 - 1.0;
        let of_bound = match case.sql {
            Some(_) => format!("{:.3} (at most {:.2})", time / bound, case.allowed),
            None => format!("{:.3}", time / bound),
        };
        let share = 100.0 * minimum as f64 * SPACING / time;
        let name = case.what.replace('`', "");
        if series.last().is_none_or(|last| last.name != name) {
            series.push(Series { name, points: Vec::new() });
        }
        if let Some(last) = series.last_mut() {
            last.points.push((case.latency.as_millis() as f64, share));
        }
        table.row(&[
            case.what.to_owned(),
            format!("{} ms", case.latency.as_millis()),
            format!("{time:.1} s"),
            format!("{share:.0} %"),
            of_bound,
            figures.requests.to_string(),
            format!("{:+.1} %", over * 100.0),
            if figures.rss_kb > 0 { format!("{} MB", figures.rss_kb / 1024) } else { String::new() },
            figures.ahead.map_or(String::new(), |rows| rows.to_string()),
        ]);
    }
    table.chart = Some(Chart {
        file: "ceiling.svg",
        title: "Share of a page's budget that a long scan uses",
        across: "latency, ms",
        up: "% of 5 requests/s",
        series,
    });
    table.note(format!(
        "{ROWS} rows ({ROWS_OF_A_LOOP} in a loop) at {RATE} requests/s, replies jittered by a fifth around the latency. The ceiling is \
         (rows ∕ 59 + 3) requests, spaced by 1.025 s ∕ {RATE}; the bound adds four latencies."
    ));
    Ok(table)
}

fn run(cluster: &Cluster, case: Case) -> Result<Figures> {
    let expected = case.rows();
    let mut settings = Settings::of(expected);
    settings.switches.latency = case.latency.mul_f64(0.8);
    settings.switches.jitter = case.latency.mul_f64(0.4);
    settings.switches.rate = Some(RATE);
    let rate = RATE.to_string();
    let shop = Shop::open_in(cluster, settings, &[("requests_per_second", &rate)])?;
    let page = shop.simulator.first_page();
    page.warm();
    let Some(sql) = case.sql else {
        let begun = Instant::now();
        let rows = loops::paced::<loops::Two>(&shop.simulator.base_url(), &page, case.pause)?;
        ensure!(rows == expected, "{rows} rows");
        return Ok(Figures {
            time: begun.elapsed(),
            requests: shop.simulator.requests(),
            rss_kb: 0,
            ahead: None,
        });
    };
    let mut session = shop.connect()?;
    let begun = Instant::now();
    let plan = session.explain_with("ANALYZE, VERBOSE, TIMING OFF", sql)?;
    let time = begun.elapsed();
    ensure!(plan.contains(&format!(", {expected} rows, ")), "{plan}");
    let ahead = plan.split_once("Pancake Ahead: at most ").and_then(|(_, rest)| rest.split(' ').next());
    shop.assert_no_violations()?;
    Ok(Figures {
        time,
        requests: shop.simulator.requests(),
        rss_kb: anonymous(session.pid()?)?,
        ahead: ahead.and_then(|rows| rows.parse().ok()),
    })
}

/// What a process holds in memory of its own, in kB.
fn anonymous(pid: i32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    Ok(line.and_then(|line| line.split_whitespace().next()).map_or(Ok(0), str::parse)?)
}
