//! Bad input: whatever Pancake or the network does wrong ends the statement with one error that
//! describes what happened, and never with fewer rows. By place: `replies`, `tokens`, `network`,
//! `cells`, `lists`, and `walks` for what goes wrong on the way.

mod canned;
mod cells;
mod lists;
mod network;
pub mod replies;
mod tokens;
mod walks;

use e2e::{Session, Shop, SqlError};
use pancake_simulator::{PageHandle, Settings};

/// Every column, so that a query reads every cell.
pub const ALL: &str = "SELECT * FROM shop.conversations";
pub const COUNT: &str = "SELECT count(*) FROM shop.conversations";

/// What an error must hold.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    pub sqlstate: &'a str,
    pub message: &'a str,
    /// A part of the DETAIL.
    pub detail: &'a str,
    /// A part of the HINT; empty: anything.
    pub hint: &'a str,
}

impl Told<'_> {
    pub fn check(&self, error: &SqlError, case: &str) {
        well_formed(error, case);
        assert_eq!(error.sqlstate, self.sqlstate, "{case}: {error}");
        assert_eq!(error.message, self.message, "{case}: {error}");
        assert!(error.detail.as_deref().unwrap_or_default().contains(self.detail), "{case}: {error}");
        assert!(error.hint.as_deref().unwrap_or_default().contains(self.hint), "{case}: {error}");
    }
}

/// What every error owes its reader: the manners of Postgres, and no secret.
pub fn well_formed(error: &SqlError, case: &str) {
    assert_eq!(error.severity, "ERROR", "{case}");
    let message = &error.message;
    assert!(!message.is_empty() && message.len() <= 100, "{case}: {error}");
    assert!(!message.ends_with('.') && !message.contains('\n'), "{case}: {error}");
    let lower = message.chars().next().is_some_and(|first| !first.is_uppercase());
    assert!(lower || message.starts_with("Pancake "), "{case}: {error}");
    for sentence in [&error.detail, &error.hint].into_iter().flatten() {
        assert!(sentence.ends_with(['.', ';', ')']) && !sentence.contains('\n'), "{case}: {error}");
        // A reply is quoted by at most 200 bytes; the rest is ours.
        assert!(sentence.len() <= 600, "{case}: {error}");
    }
    let whole = error.to_string();
    for secret in ["SECRET", "access_token=", "panicked", "unwrap"] {
        assert!(!whole.contains(secret), "{case} tells \"{secret}\": {error}");
    }
}

/// A shop that fails at once where it fails.
pub fn impatient(conversations: usize) -> Shop<'static> {
    Shop::open_with(Settings::of(conversations), &[("max_retries", "0")]).unwrap()
}

/// A row with what a row must have, placed in the page by hand.
pub fn by_hand(page: &PageHandle, cells: serde_json::Value) {
    let mut row = serde_json::json!({
        "id": "by hand", "type": "INBOX",
        "inserted_at": "2026-03-30T02:11:05.123456", "updated_at": "2026-03-31T13:42:20.207000",
    });
    if let (Some(row), serde_json::Value::Object(cells)) = (row.as_object_mut(), cells) {
        row.extend(cells);
    }
    page.replace_rows(vec![row]);
}

/// After all that went wrong the session gives the whole answer.
pub fn still_exact(shop: &Shop, session: &mut Session) {
    shop.simulator.clear_faults();
    let count = session.one(COUNT).unwrap();
    assert_eq!(count, shop.simulator.first_page().len().to_string());
}
