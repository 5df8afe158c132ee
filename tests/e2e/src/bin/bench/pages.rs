//! What several pages in one statement take, beside one of them: each has a budget of its own.
//! What is read of them is of no matter.

use std::time::{Duration, Instant};

use anyhow::Result;
use e2e::{Cluster, Shop};
use pancake_simulator::{PageSettings, Settings};

use crate::table::Table;

const CONVERSATIONS: usize = 1_500;
const MOST: usize = 16;

pub fn measure() -> Result<Table> {
    let mut table = Table::new("Pages", &["pages", "time", "of one page's"]);
    let mut one_page = None;
    for pages in [1, 4, MOST] {
        // No other test uses the pages.
        let cluster = Cluster::start()?;
        let page = |n| PageSettings { conversations: CONVERSATIONS, ..PageSettings::numbered(n) };
        let mut settings = Settings { pages: (0..pages).map(page).collect(), ..Settings::default() };
        settings.switches.latency = Duration::from_millis(120);
        settings.switches.jitter = Duration::from_millis(60);
        let shop = Shop::open_in(&cluster, settings, &[("requests_per_second", "5")])?;
        let schema = |n| if n == 0 { "shop".to_owned() } else { format!("shop{}", n + 1) };
        let arms: Vec<_> =
            (0..pages).map(|n| format!("SELECT id FROM {}.conversations", schema(n))).collect();
        let sql = format!("SELECT count(*) FROM ({}) pages", arms.join(" UNION ALL "));
        let mut session = shop.connect()?;
        let begun = Instant::now();
        anyhow::ensure!(session.one(&sql)? == (pages * CONVERSATIONS).to_string(), "rows are missing");
        let time = begun.elapsed().as_secs_f64();
        shop.assert_no_violations()?;
        let times = time / *one_page.get_or_insert(time);
        table.row(&[pages.to_string(), format!("{time:.2} s"), format!("{times:.2} x")]);
    }
    table.note(format!(
        "{CONVERSATIONS} conversations each, 5 requests a second each, replies after 120 to 180 ms."
    ));
    Ok(table)
}
