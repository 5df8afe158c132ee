//! What several pages in one statement take, beside one of them: each has a budget of its own.
//! What is read of them is of no matter: all rows of some pages, or the newest of many.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{Cluster, Shop};
use pancake_simulator::{PageSettings, Settings};

use crate::table::Table;

const CONVERSATIONS: usize = 1_500;
const MOST: usize = 16;
const MANY: usize = 200;

pub fn measure() -> Result<Table> {
    let mut table = Table::new("Pages", &["statement", "pages", "time", "of one page's", "requests"]);
    let mut one_page = None;
    for pages in [1, 4, MOST] {
        let (time, requests) = whole(pages)?;
        let times = time / *one_page.get_or_insert(time);
        table.row(&row("`count(*)`", pages, time, times, requests));
    }
    let mut one_page = None;
    for pages in [1, MOST, MANY] {
        let (time, requests) = newest(pages)?;
        let times = time / *one_page.get_or_insert(time);
        table.row(&row("newest 20", pages, time, times, requests));
    }
    table.note(format!(
        "{CONVERSATIONS} conversations each, of {MANY} pages 300, 5 requests a second each, replies after 120 to 180 \
         ms; of the newest the median of five."
    ));
    Ok(table)
}

fn row(statement: &str, pages: usize, time: f64, times: f64, requests: u64) -> [String; 5] {
    let statement = statement.to_owned();
    [statement, pages.to_string(), format!("{time:.2} s"), format!("{times:.2} x"), requests.to_string()]
}

/// No other test uses the pages.
fn open(cluster: &Cluster, pages: usize, conversations: usize) -> Result<Shop<'_>> {
    let page = |n| PageSettings { conversations, ..PageSettings::numbered(n) };
    let settings = Settings { pages: (0..pages).map(page).collect(), ..Settings::default() };
    Shop::open_in(cluster, slow(settings), &[("requests_per_second", "5")])
}

/// Replies that come after 120 to 180 ms.
pub fn slow(mut settings: Settings) -> Settings {
    settings.switches.latency = Duration::from_millis(120);
    settings.switches.jitter = Duration::from_millis(60);
    settings
}

fn schema(n: usize) -> String {
    if n == 0 { "shop".to_owned() } else { format!("shop{}", n + 1) }
}

/// Makes the table `live` of all pages.
pub fn partitioned(shop: &Shop) -> Result<()> {
    let mut session = shop.connect()?;
    session.execute("CREATE TABLE live (LIKE shop.conversations) PARTITION BY LIST (page_id)")?;
    for (n, page_id) in shop.simulator.page_ids().iter().enumerate() {
        let schema = schema(n);
        session.execute(&format!(
            "ALTER TABLE live ATTACH PARTITION {schema}.conversations FOR VALUES IN ('{page_id}')"
        ))?;
    }
    Ok(())
}

/// Seconds and requests.
fn whole(pages: usize) -> Result<(f64, u64)> {
    let cluster = Cluster::start()?;
    let shop = open(&cluster, pages, CONVERSATIONS)?;
    let arms: Vec<_> = (0..pages).map(|n| format!("SELECT id FROM {}.conversations", schema(n))).collect();
    let sql = format!("SELECT count(*) FROM ({}) pages", arms.join(" UNION ALL "));
    let mut session = shop.connect()?;
    let before = shop.simulator.requests();
    let begun = Instant::now();
    ensure!(session.one(&sql)? == (pages * CONVERSATIONS).to_string(), "rows are missing");
    let time = begun.elapsed().as_secs_f64();
    shop.assert_no_violations()?;
    Ok((time, shop.simulator.requests() - before))
}

/// Of a partitioned table, each time in a session of its own.
fn newest(pages: usize) -> Result<(f64, u64)> {
    let cluster = Cluster::start()?;
    let shop = open(&cluster, pages, 300)?;
    partitioned(&shop)?;
    let mut times = Vec::new();
    let before = shop.simulator.requests();
    for _ in 0..5 {
        let mut session = shop.connect()?;
        let begun = Instant::now();
        let rows = session.rows("SELECT page_id, id FROM live ORDER BY updated_at DESC LIMIT 20")?;
        times.push(begun.elapsed().as_secs_f64());
        ensure!(rows.len() == 20, "rows are missing");
    }
    shop.assert_no_violations()?;
    times.sort_by(f64::total_cmp);
    Ok((times[2], (shop.simulator.requests() - before) / 5))
}
