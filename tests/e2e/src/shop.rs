//! Joins a simulated Pancake and a database: every page of the simulator is a schema, its log the
//! witness. What happens on the pages is left to the simulator, what is asked of them to the tests.

use anyhow::{Result, ensure};
use pancake_simulator::{Entry, Settings, Simulator};

use crate::cluster::Cluster;
use crate::database::Database;
use crate::page::Address;
use crate::sql::Session;

/// Tests should not wait; the ones about the rate set their own.
const QUICK: (&str, &str) = ("requests_per_second", "1000");

/// Where requests are counted: a fast page in a slow test looks as if it had a latency, and is
/// split.
pub const ONE_CHAIN: (&str, &str) = ("max_concurrency", "1");

/// The first page is server and schema `shop`, the others are `shop2`, `shop3` …
pub struct Shop<'a> {
    pub simulator: Simulator,
    pub database: Database<'a>,
}

impl Shop<'static> {
    /// In the shared cluster, with default options.
    pub fn open(settings: Settings) -> Result<Shop<'static>> {
        Shop::open_with(settings, &[])
    }

    /// With further options of the servers; a name given here goes before the default.
    pub fn open_with(settings: Settings, options: &[(&str, &str)]) -> Result<Shop<'static>> {
        Shop::open_in(Cluster::shared()?, settings, options)
    }
}

impl<'a> Shop<'a> {
    pub fn open_in(cluster: &'a Cluster, settings: Settings, options: &[(&str, &str)]) -> Result<Shop<'a>> {
        let pages = settings.pages.clone();
        let simulator = Simulator::start(settings)?;
        let database = cluster.database("shop")?;
        let mut session = database.connect()?;
        let mut all = options.to_vec();
        if !options.iter().any(|(name, _)| *name == QUICK.0) {
            all.push(QUICK);
        }
        for (ordinal, page) in pages.into_iter().enumerate() {
            let address =
                Address { base_url: Some(simulator.base_url()), page_id: page.id, token: page.token };
            address.import(&mut session, &schema(ordinal), &all)?;
        }
        Ok(Shop { simulator, database })
    }

    pub fn connect(&self) -> Result<Session> {
        self.database.connect()
    }

    /// What `work` answered, and the requests that the simulator saw meanwhile.
    pub fn watch<T>(&self, work: impl FnOnce() -> T) -> (T, Vec<Entry>) {
        let before = self.simulator.log().len();
        let answer = work();
        let mut log = self.simulator.log();
        (answer, log.split_off(before.min(log.len())))
    }

    /// Fails with every violation of the simulator: a broken rate, an unknown parameter, a repeated
    /// `type` …
    pub fn assert_no_violations(&self) -> Result<()> {
        let violations = self.simulator.violations();
        ensure!(violations.is_empty(), "the simulator reports a violation:\n{}", violations.join("\n"));
        Ok(())
    }
}

fn schema(ordinal: usize) -> String {
    match ordinal {
        0 => "shop".into(),
        _ => format!("shop{}", ordinal + 1),
    }
}
