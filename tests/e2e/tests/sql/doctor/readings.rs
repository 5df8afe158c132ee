//! For every reading of a filter, of bounds and of a cursor: the doctor's line about it.

use pancake_simulator::*;

use super::super::errors::impatient;
use super::{MOST, examine, polite};

type Change = fn(&mut Switches);

/// A reading, the item that shows it, its status, a part of its detail, and of its hint.
const READINGS: &[(&str, Change, &str, &str, &str, &str)] = &[
    ("one type", |_| (), "type", "ok", "type=INBOX,COMMENT gives no rows", ""),
    ("last wins", |_| (), "type", "ok", "type=INBOX&type=COMMENT gives the rows of COMMENT alone", ""),
    ("unlisted compared", |_| (), "type", "ok", "filters as well, though no document lists it", ""),
    ("repeated: or", |s| s.repeated_type = RepeatedType::Or, "type", "ok", "could be had by one walk", ""),
    (
        "repeated: nothing",
        |s| s.repeated_type = RepeatedType::NoRows,
        "type",
        "ok",
        "type=COMMENT gives no rows",
        "",
    ),
    ("comma", |s| s.type_comma = true, "type", "ok", "type=INBOX,COMMENT gives the rows of both", ""),
    (
        "unlisted ignored",
        |s| s.unlisted_type = UnlistedType::Ignored,
        "type",
        "ok",
        "gives other rows too, and is never sent",
        "",
    ),
    (
        "unlisted nothing",
        |s| s.unlisted_type = UnlistedType::Nothing,
        "type",
        "ok",
        "does not give its rows",
        "",
    ),
    (
        "unlisted 500",
        |s| s.unlisted_type = UnlistedType::Http500,
        "type",
        "ok",
        "is refused, and is never sent",
        "",
    ),
    (
        "type ignored",
        |s| s.ignore_type = true,
        "type",
        "warn",
        "gives other rows too",
        "(SET pushdown 'tags,updated_at,inserted_at')",
    ),
    ("tags: all", |_| (), "tags", "ok", "means ALL", ""),
    ("tags: any", |s| s.tags = TagsReading::Any, "tags", "ok", "means ANY", ""),
    (
        "tags ignored",
        |s| s.ignore_tags = true,
        "tags",
        "warn",
        "gives other rows too",
        "(SET pushdown 'type,updated_at,inserted_at')",
    ),
    ("post_ids: list", |_| (), "post_ids", "ok", "two of them with a comma: gives the rows of both", ""),
    (
        "post_ids: single",
        |s| s.post_ids = PostIdsReading::SingleOnly,
        "post_ids",
        "ok",
        "with a comma: gives no rows",
        "",
    ),
    (
        "post_ids: comment",
        |s| s.post_ids = PostIdsReading::NeedsComment,
        "post_ids",
        "warn",
        "beside type=COMMENT it is obeyed",
        "",
    ),
    (
        "post_ids: post",
        |s| s.post_ids = PostIdsReading::NeedsPost,
        "post_ids",
        "warn",
        "beside type=POST it is obeyed",
        "",
    ),
    (
        "post_ids ignored",
        |s| s.post_ids = PostIdsReading::Ignored,
        "post_ids",
        "warn",
        "nor is it obeyed beside type=COMMENT or type=POST",
        "",
    ),
    (
        "post_ids: 500",
        |s| s.post_ids = PostIdsReading::Http500WithoutPost,
        "post_ids",
        "warn",
        "is refused; clauses on post_id are checked here",
        "",
    ),
    (
        "post_ids: nothing",
        |s| s.post_ids = PostIdsReading::NothingWithoutPost,
        "post_ids",
        "warn",
        "loses comments",
        "",
    ),
    ("since inclusive", |_| (), "since", "ok", "holds the second that it names", ""),
    (
        "since seconds",
        |s| s.since = Bound::InclusiveSeconds,
        "since",
        "ok",
        "holds the second that it names",
        "",
    ),
    (
        "since exclusive",
        |s| s.since = Bound::Exclusive,
        "since",
        "ok",
        "leaves out that very time, and holds the rest",
        "",
    ),
    (
        "since exclusive seconds",
        |s| s.since = Bound::ExclusiveSeconds,
        "since",
        "ok",
        "leaves out the second that it names",
        "",
    ),
    ("since ignored", |s| s.ignore_since = true, "since", "warn", "is ignored", ""),
    ("until inclusive", |_| (), "until", "ok", "holds that very time, and not the rest of its second", ""),
    (
        "until seconds",
        |s| s.until = Bound::InclusiveSeconds,
        "until",
        "ok",
        "holds the second that it names",
        "",
    ),
    (
        "until exclusive",
        |s| s.until = Bound::Exclusive,
        "until",
        "ok",
        "leaves out the second that it names",
        "",
    ),
    ("until ignored", |s| s.ignore_until = true, "until", "warn", "is ignored", ""),
    ("column", |_| (), "time column", "ok", "the column that order_by names", ""),
    (
        "order ignored",
        |s| s.ignore_order_by = true,
        "order",
        "fail",
        "order_by=inserted_at does not",
        "report",
    ),
    ("cursor ignored", |s| s.ignore_cursor = true, "cursor", "fail", "begins anew", "report"),
    ("cursor after", |_| (), "cursor", "ok", "goes on after the row", ""),
    (
        "cursor below",
        |s| (s.cursor, s.ties) = (CursorReading::StrictlyBelow, Ties::IdAscending),
        "cursor",
        "ok",
        "goes on below the row's time",
        "",
    ),
];

#[test]
fn every_reading_is_told() {
    let shop = impatient(3_000);
    // Two comments of one second among the newest, so that a cursor meets a tie.
    let page = shop.simulator.first_page();
    let mut comments = page.conversations();
    comments.retain(|row| row["type"] == "COMMENT");
    comments.sort_by_key(|row| std::cmp::Reverse(row["inserted_at"].to_string()));
    let mut twin = comments.swap_remove(4);
    twin["id"] = "twin".into();
    page.insert_row(twin);
    let mut session = shop.connect().unwrap();
    session.execute("ALTER SERVER shop OPTIONS (ADD pushdown 'all')").unwrap();
    for (name, change, item, status, detail, hint) in READINGS {
        shop.simulator.switches(|switches| {
            *switches = Switches::default();
            change(switches);
        });
        let ((_, lines), log) = shop.watch(|| examine(&mut session));
        let line = lines.get(*item).unwrap_or_else(|| panic!("{name}: {lines:?}"));
        assert_eq!(line.status, *status, "{name}: {line:?}");
        assert!(line.detail.contains(detail), "{name}: {line:?}");
        assert!(line.hint.contains(hint) && hint.is_empty() == line.hint.is_empty(), "{name}: {line:?}");
        assert!(log.len() <= MOST, "{name}: {} requests", log.len());
        // What one reading changes proves nothing about the others.
        let others = lines.iter().filter(|(other, _)| *other != item);
        for (other, line) in others {
            let related = matches!(
                (*item, other.as_str()),
                ("since" | "until", "time column" | "since" | "until" | "27 days")
                    | ("order", "places")
                    | ("cursor", "steps")
            );
            assert!(line.status == "ok" || related, "{name}, {other}: {line:?}");
        }
    }
    polite(&shop);
}
