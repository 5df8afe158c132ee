//! Knows what a simulator is started with: its pages, seed, clock, and whether it speaks TLS.
//! What can change while it runs is left to the switches.

use crate::clock::Micros;
use crate::switches::Switches;

/// The form of a conversation row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// As recorded from the live API: 24 keys, naive UTC times with six digits.
    #[default]
    Observed,
    /// As the article and the older specification show it: few keys, tags as strings, whole seconds
    /// with `Z`.
    Article,
}

/// The share of frozen conversations on a page as clients met it: rows out of order were reported
/// from three pages in June to September 2026, without numbers; this one is assumed.
pub const SEEN_FROZEN: f64 = 0.02;

#[derive(Debug, Clone)]
pub struct PageSettings {
    pub id: String,
    pub token: String,
    pub name: String,
    pub conversations: usize,
    /// The number of posts; `None`: one for 40 conversations, from 3 to 300.
    pub posts: Option<usize>,
    pub shape: Shape,
    /// Rows are padded (in `tag_histories`) to about this many bytes.
    pub row_bytes: Option<usize>,
    /// The conversations began within so many days before now.
    pub days: u32,
    /// The share of the conversations that show an older `updated_at` than their real one.
    pub frozen: f64,
    /// This page's requests per second; `None`: as the switch `rate` has it.
    pub rate: Option<f64>,
}

impl PageSettings {
    /// A page of 3,000 observed rows over 90 days.
    pub fn new(id: &str, token: &str) -> PageSettings {
        PageSettings {
            id: id.to_owned(),
            token: token.to_owned(),
            name: "Shop Hoa Nắng".to_owned(),
            conversations: 3_000,
            posts: None,
            shape: Shape::Observed,
            row_bytes: None,
            days: 90,
            frozen: 0.0,
            rate: None,
        }
    }

    /// The `ordinal`-th page of a simulator with several: 0 is the default page.
    pub fn numbered(ordinal: usize) -> PageSettings {
        let mut page = PageSettings::new(
            &format!("{}", 100_000_000_000_001 + ordinal),
            &format!("page-token-SECRET-{}", ordinal + 1),
        );
        if ordinal > 0 {
            page.name = format!("Shop Hoa Nắng {}", ordinal + 1);
        }
        page
    }
}

impl Default for PageSettings {
    fn default() -> PageSettings {
        PageSettings::numbered(0)
    }
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub seed: u64,
    pub pages: Vec<PageSettings>,
    pub tls: bool,
    /// The token of the user API (`GET /api/v1/pages`).
    pub user_token: String,
    pub switches: Switches,
    /// Where the simulator's clock starts, in microseconds since 1970; `None`: at the system's
    /// time.
    pub now: Option<Micros>,
    /// The port on 127.0.0.1; 0: any free one.
    pub port: u16,
    /// Keep every request in the log; `false` keeps only those with a violation (long benchmarks).
    pub keep_log: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            seed: 1,
            pages: vec![PageSettings::default()],
            tls: false,
            user_token: "user-token-SECRET".to_owned(),
            switches: Switches::default(),
            now: None,
            port: 0,
            keep_log: true,
        }
    }
}

impl Settings {
    /// Sets the switches in which the live API differs from the documents (see
    /// [`Switches::as_seen`]), and has 2 % of the conversations of every page frozen.
    pub fn as_seen(mut self) -> Settings {
        self.switches.apply_seen();
        for page in &mut self.pages {
            page.frozen = SEEN_FROZEN;
        }
        self
    }

    /// One page of so many conversations, everything else as by default.
    pub fn of(conversations: usize) -> Settings {
        Settings {
            pages: vec![PageSettings { conversations, ..PageSettings::default() }],
            ..Settings::default()
        }
    }
}
