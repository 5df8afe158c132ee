//! Decides which page is shown: the one that the environment names, at the real Pancake, or a
//! simulated shop. What is shown of it is left to the callers.

use std::env;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use e2e::page::Address;
use pancake_simulator::{Churn, PageSettings, Settings, Simulator};

const PAGE: &str = "PANCAKE_PAGE_ID";
pub const TOKEN: &str = "PANCAKE_PAGE_ACCESS_TOKEN";
pub const SECOND_TOKEN: &str = "PANCAKE_SECOND_PAGE_ACCESS_TOKEN";

/// About 160 new conversations a day.
const CONVERSATIONS: usize = 4_800;
const DAYS: u32 = 30;
/// What Pancake documents for a page.
const REQUESTS_PER_SECOND: f64 = 5.0;
const LATENCY: Duration = Duration::from_millis(120);

pub struct Stage {
    address: Address,
    /// A smaller page, of a simulated shop.
    second: Option<Address>,
    simulator: Option<Simulator>,
}

impl Stage {
    pub fn set() -> Result<Stage> {
        let given = |name| env::var(name).ok().filter(|value: &String| !value.is_empty());
        match (given(PAGE), given(TOKEN)) {
            (Some(page_id), Some(token)) => {
                let address = Address { base_url: None, page_id, token };
                Ok(Stage { address, second: None, simulator: None })
            }
            (None, None) => Stage::simulated(),
            _ => bail!(
                "{PAGE} and {TOKEN} belong together: set both for a real page, none for a simulated one"
            ),
        }
    }

    fn simulated() -> Result<Stage> {
        let page = |ordinal, conversations| PageSettings {
            conversations,
            days: DAYS,
            rate: Some(REQUESTS_PER_SECOND),
            ..PageSettings::numbered(ordinal)
        };
        let pages = [page(0, CONVERSATIONS), page(1, CONVERSATIONS / 4)];
        let mut settings = Settings { pages: pages.to_vec(), ..Settings::default() };
        settings = settings.as_seen();
        settings.switches.latency = LATENCY;
        settings.switches.jitter = LATENCY / 2;
        // Customers write while we read.
        settings.switches.churn = Churn { messages: 0.5, creates: 0.1, ..Churn::default() };
        let simulator = Simulator::start(settings)?;
        let [address, second] = pages.map(|page| Address {
            base_url: Some(simulator.base_url()),
            page_id: page.id,
            token: page.token,
        });
        Ok(Stage { address, second: Some(second), simulator: Some(simulator) })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    pub fn second(&self) -> Option<&Address> {
        self.second.as_ref()
    }

    pub fn describe(&self) -> String {
        let page_id = &self.address.page_id;
        match &self.address.base_url {
            Some(url) => format!(
                "A simulated Pancake at {url}: page {page_id} with {CONVERSATIONS} conversations of {DAYS} days, \
                 {REQUESTS_PER_SECOND} requests per second.\n\
                 ({PAGE} and {TOKEN} in the environment show a real page instead.)"
            ),
            None => format!("The real Pancake, page {page_id}. Nothing is written there."),
        }
    }

    /// Whether the simulated page was asked politely.
    pub fn assert_no_violations(&self) -> Result<()> {
        let violations = self.simulator.as_ref().map(Simulator::violations).unwrap_or_default();
        ensure!(violations.is_empty(), "the simulator reports a violation:\n{}", violations.join("\n"));
        Ok(())
    }
}
