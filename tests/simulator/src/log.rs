//! Remembers every request and what was wrong with it: the witness of the tests.
//! What is wrong with a request is judged where it is read.

use std::collections::HashMap;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Conversations,
    ConversationsV1,
    Messages,
    Tags,
    Posts,
    Customers,
    Users,
    Pages,
    Unknown,
}

impl Endpoint {
    /// The parameters documented there, the token aside.
    pub fn params(self) -> &'static [&'static str] {
        match self {
            Endpoint::Conversations | Endpoint::ConversationsV1 => &[
                "last_conversation_id",
                "type",
                "tags",
                "post_ids",
                "since",
                "until",
                "order_by",
                "unread_first",
            ],
            Endpoint::Messages => &["current_count"],
            Endpoint::Posts => &["since", "until", "page_number", "page_size", "type"],
            Endpoint::Customers => &["since", "until", "page_number", "page_size", "order_by"],
            Endpoint::Tags | Endpoint::Users | Endpoint::Pages | Endpoint::Unknown => &[],
        }
    }

    /// The parameter its token rides in.
    pub fn token_param(self) -> &'static str {
        match self {
            Endpoint::Pages => "access_token",
            _ => "page_access_token",
        }
    }

    /// The key of its list.
    pub fn list_key(self) -> &'static str {
        match self {
            Endpoint::Messages => "messages",
            Endpoint::Tags => "tags",
            Endpoint::Posts => "posts",
            Endpoint::Customers => "customers",
            Endpoint::Users => "users",
            Endpoint::Pages => "categorized",
            _ => "conversations",
        }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When its head arrived, since the simulator's start.
    pub at: Duration,
    pub page_id: String,
    pub endpoint: Endpoint,
    pub method: String,
    pub path: String,
    /// In the order sent; a token's value is `***`.
    pub params: Vec<(String, String)>,
    /// 0 when no reply was given at all.
    pub status: u16,
    pub rows: usize,
    /// The same number: the same connection.
    pub connection: u64,
    pub request_id: String,
    /// Whether an armed fault struck.
    pub faulted: bool,
    pub violations: Vec<String>,
}

impl Entry {
    /// The last value of a parameter, as Pancake reads it.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn has_cursor(&self) -> bool {
        self.param("last_conversation_id").is_some()
    }
}

/// Complaints kept when the log is not: enough to see what is wrong, few enough to hold.
const KEPT_VIOLATIONS: usize = 10_000;

#[derive(Debug)]
pub struct Log {
    entries: Vec<Entry>,
    keep: bool,
    requests: u64,
}

impl Log {
    pub fn new(keep: bool) -> Log {
        Log { entries: Vec::new(), keep, requests: 0 }
    }

    pub fn add(&mut self, entry: Entry) {
        self.requests += 1;
        if self.keep || (!entry.violations.is_empty() && self.entries.len() < KEPT_VIOLATIONS) {
            self.entries.push(entry);
        }
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Every request since the start, kept or not.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// The most requests that one page got within any window of this length.
    pub fn busiest(&self, window: Duration) -> usize {
        let mut arrivals: HashMap<&str, Vec<Duration>> = HashMap::new();
        for entry in &self.entries {
            arrivals.entry(&entry.page_id).or_default().push(entry.at);
        }
        let busiest_of = |mut times: Vec<Duration>| {
            times.sort_unstable();
            let mut first = 0;
            let mut most = 0;
            for (last, time) in times.iter().enumerate() {
                while times.get(first).is_some_and(|start| *start + window <= *time) {
                    first += 1;
                }
                most = most.max(last + 1 - first);
            }
            most
        };
        arrivals.into_values().map(busiest_of).max().unwrap_or(0)
    }
}
