//! This module judges how messages are paged: whether `current_count` skips exactly so many rows,
//! as scans ask for, or is rounded to whole batches.

use super::finding::Finding;
use super::known::KnownRow;
use super::requests::{ListRow, Listing};

pub const ITEM: &str = "messages";

/// So many messages fill a batch.
const BATCH: i64 = 30;

/// The conversation with the most messages. If rows do not show how many they have, the last one,
/// because it is the least likely to get a message.
pub fn choose(known: &[KnownRow]) -> Option<&KnownRow> {
    known.iter().rev().filter(|row| row.messages.is_some()).max_by_key(|row| row.messages).or(known.last())
}

/// The ids of a batch, newest first.
fn newest_first(rows: &[ListRow]) -> Vec<&str> {
    let ascends = rows.first().map(|row| row.at) <= rows.last().map(|row| row.at);
    let ids = rows.iter().map(|row| row.id.as_str());
    if ascends { ids.rev().collect() } else { ids.collect() }
}

/// How many rows to skip, so that the last known row comes first again. None if there is no batch
/// to go on from.
pub fn skip(newest: &Listing) -> Option<u64> {
    match newest {
        Listing::Rows { rows, .. } if rows.len() > 1 => Some(rows.len() as u64 - 1),
        _ => None,
    }
}

/// `newest`: the first batch of this conversation; `next`: what came for [`skip`] rows.
pub fn verdict(conversation: &KnownRow, newest: &Listing, next: Option<&Listing>) -> Finding {
    let refused = |what: &str| {
        Finding::fail(ITEM, format!("{what} is refused, for conversation {}", conversation.id))
            .hint("A query of that conversation ends in an error. Ask again; please report it if it lasts.")
    };
    let untried = || Finding::untried(ITEM, "no conversation of more than one batch of messages");
    let Listing::Rows { rows: first, .. } = newest else { return refused("current_count=0") };
    let (Some(skip), Some(next)) = (skip(newest), next) else { return untried() };
    let count = format!("current_count={skip}");
    let Listing::Rows { rows: next, .. } = next else { return refused(&count) };
    let (known, came) = (newest_first(first), newest_first(next));
    let rounded = |how: &str| {
        Finding::warn(
            ITEM,
            format!(
                "{count} {how}: current_count is rounded to whole batches, and conversations of several cost about two \
                     requests more for each"
            ),
        )
    };
    match came.iter().position(|id| Some(id) == known.last()) {
        _ if came == known => rounded("gives the newest batch again"),
        Some(_) => Finding::ok(
            ITEM,
            format!(
                "batches of {}; {count} begins with the last row of the first batch, as it should",
                first.len()
            ),
        ),
        None if came.is_empty() && conversation.messages.is_none_or(|count| count <= BATCH) => untried(),
        None if came.is_empty() => rounded("gives no rows"),
        None if came.iter().any(|id| known.contains(id)) => {
            Finding::warn(ITEM, "messages came or went while it was tried: ask again")
        }
        None => rounded("begins behind the last row of the first batch"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::reading::tests::row;
    use super::*;
    use crate::time::Micros;

    /// The messages with these numbers, as served.
    fn batch(numbers: impl IntoIterator<Item = i64>) -> Listing {
        let row = |number: i64| ListRow { id: format!("m{number}"), at: Micros(number), fb_id: None };
        Listing::Rows { rows: numbers.into_iter().map(row).collect(), total: None }
    }

    fn conversation(messages: i64) -> KnownRow {
        KnownRow { messages: Some(messages), ..row(1, "INBOX", "-", "-") }
    }

    #[test]
    fn the_longest_conversation_is_chosen() {
        let known = [3, 90, 7].map(conversation);
        assert_eq!(choose(&known), Some(&known[1]));
        let bare = [row(2, "INBOX", "-", "-"), row(1, "INBOX", "-", "-")];
        assert_eq!(choose(&bare), Some(&bare[1]));
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn exact_and_rounded_counts_are_told_apart() {
        let newest = batch(31..=60);
        assert_eq!(skip(&newest), Some(29));
        let told = |next: Listing| verdict(&conversation(60), &newest, Some(&next));
        assert_eq!(told(batch(2..=31)).status, Status::Ok);
        assert_eq!(told(batch((2..=31).rev())).status, Status::Ok, "newest first");
        assert_eq!(told(batch(3..=32)).status, Status::Ok, "one more has come");
        for (rounded, how) in [
            (batch(31..=60), "gives the newest batch again"),
            (batch(1..=30), "begins behind"),
            (batch([]), "gives no rows"),
        ] {
            let finding = told(rounded);
            assert!(finding.status == Status::Warn && finding.detail.contains(how), "{finding:?}");
            assert!(finding.detail.starts_with("current_count=29 "), "{finding:?}");
        }
        assert_eq!(told(Listing::Refused).status, Status::Fail);
        assert!(told(batch(40..=50)).detail.contains("ask again"));
        assert_eq!(verdict(&conversation(60), &Listing::Refused, None).status, Status::Fail);
        assert!(verdict(&conversation(1), &batch([1]), None).detail.starts_with("could not be tried"));
        let short = verdict(&conversation(3), &batch(1..=3), Some(&batch([])));
        assert!(short.detail.starts_with("could not be tried"), "{short:?}");
    }
}
