//! Tests what a conversations request gets: order, cursor, filters, and each reading of them.
//! Refusals and faults are left to `refusals`.

mod client;

use std::collections::HashSet;

use client::{PAGE, shop, with};
use pancake_simulator::*;
use serde_json::{Value, json};

fn seconds(row: &Value, key: &str) -> String {
    row[key].as_str().and_then(|time| time.get(..19)).unwrap_or_default().to_owned()
}

/// Rows at the given whole seconds of 2026-03-01T00:00:NN, with a fraction.
fn rows(times: &[&str]) -> Vec<Value> {
    let row = |(place, time): (usize, &&str)| {
        let time = format!("2026-03-01T00:00:{time}");
        json!({"id": format!("r{place}"), "type": "INBOX", "inserted_at": time, "updated_at": time})
    };
    times.iter().enumerate().map(row).collect()
}

const MARCH: i64 = 1_772_323_200;

#[test]
fn a_walk_gets_every_row_once_in_either_order() {
    let shop = shop(500);
    let truth: HashSet<String> = shop.page.ids().into_iter().collect();
    assert_eq!(truth.len(), 500);
    assert_eq!(shop.walk("order_by=updated_at"), shop.page.ids());
    for batch in [1, 7, 60] {
        shop.simulator.switches(|switches| switches.batch = batch);
        let ids = shop.walk("order_by=inserted_at");
        assert_eq!(ids.len(), 500);
        assert_eq!(ids.into_iter().collect::<HashSet<_>>(), truth);
    }
    assert_eq!(shop.simulator.violations(), Vec::<String>::new());
}

#[test]
fn the_same_seed_is_the_same_world() {
    let world = |seed| {
        let now = Some(MARCH * 1_000_000);
        with(Settings { seed, now, ..Settings::of(100) }).page.conversations()
    };
    assert_eq!(world(1), world(1));
    assert_ne!(world(1), world(2));
}

#[test]
fn observed_rows_have_their_24_keys_and_times_in_order() {
    let shop = shop(600);
    let rows = shop.page.conversations();
    let (mut early, mut nulls, mut kinds) = (0, 0, HashSet::new());
    for row in &rows {
        let kind = row["type"].as_str().unwrap();
        let id = row["id"].as_str().unwrap();
        kinds.insert(kind.to_owned());
        let bare = matches!(kind, "COMMENT" | "RATING");
        assert_eq!(row.as_object().unwrap().len(), if bare { 22 } else { 24 }, "{row}");
        assert_eq!(row["updated_at"].as_str().unwrap().len(), if bare { 19 } else { 26 });
        match kind {
            "INBOX" => assert_eq!(id, format!("{PAGE}_{}", row["from"]["id"].as_str().unwrap())),
            "RATING" => assert_eq!(row["post_id"], id),
            _ => assert!(row["post_id"].as_str().unwrap().ends_with(id.split('_').next().unwrap())),
        }
        early += usize::from(row["updated_at"].as_str() < row["inserted_at"].as_str());
        nulls += row["tags"].as_array().unwrap().iter().filter(|tag| tag.is_null()).count();
    }
    assert!(early > 5 && early < 120, "{early}");
    assert!(nulls > 20, "{nulls}");
    assert_eq!(kinds.len(), 4);
}

#[test]
fn the_article_shape_and_padding() {
    let mut settings = Settings::of(80);
    settings.pages[0].shape = Shape::Article;
    settings.pages[0].row_bytes = Some(3_300);
    let shop = with(settings);
    assert_eq!(shop.walk("").len(), 80);
    for row in shop.page.conversations() {
        assert_eq!(row["page_uid"], PAGE);
        assert!(row["updated_at"].as_str().unwrap().ends_with('Z'));
        assert!(row["tags"].as_array().unwrap().iter().all(Value::is_string));
        assert!(row["last_message"]["text"].is_string());
        let size = row.to_string().len();
        assert!((3_200..3_400).contains(&size), "{size}");
    }
}

#[test]
fn types_in_every_reading() {
    let shop = shop(300);
    let of = |kind: &str| shop.page.conversations().iter().filter(|row| row["type"] == kind).count();
    assert_eq!(shop.walk("type=INBOX").len(), of("INBOX"));
    assert_eq!(shop.walk("type=INBOX&type=COMMENT").len(), of("COMMENT"));
    shop.simulator.switches(|switches| switches.repeated_type = RepeatedType::Or);
    assert_eq!(shop.walk("type=INBOX&type=COMMENT").len(), of("COMMENT") + of("INBOX"));
    shop.simulator.switches(|switches| switches.repeated_type = RepeatedType::NoRows);
    assert_eq!(shop.walk("type=INBOX&type=COMMENT").len(), 0);
    assert!(shop.simulator.violations().iter().all(|violation| violation.contains("repeated")));
    assert_eq!(shop.list("type[]=INBOX").status, 500);
    assert_eq!(shop.walk("type=INBOX,COMMENT").len(), 0);
    shop.simulator.switches(|switches| switches.type_comma = true);
    assert_eq!(shop.walk("type=INBOX,COMMENT").len(), of("COMMENT") + of("INBOX"));
    assert_eq!(shop.walk("type=RATING").len(), of("RATING"));
    shop.simulator.switches(|switches| switches.unlisted_type = UnlistedType::Ignored);
    assert_eq!(shop.walk("type=RATING").len(), 300);
    shop.simulator.switches(|switches| switches.unlisted_type = UnlistedType::Http500);
    assert_eq!(shop.list("type=RATING").status, 500);
    shop.simulator.switches(|switches| switches.ignore_type = true);
    assert_eq!(shop.walk("type=RATING").len(), 300);
}

#[test]
fn tags_all_any_and_by_name() {
    let shop = shop(120);
    let ids = shop.page.ids();
    for (id, tags) in ids.iter().zip([vec![901], vec![902], vec![901, 902]]) {
        shop.page.retag(id, &tags);
    }
    assert_eq!(shop.walk("tags=901"), [ids[0].clone(), ids[2].clone()]);
    assert_eq!(shop.walk("tags=901,902"), ids[2..3]);
    shop.simulator.switches(|switches| switches.tags = TagsReading::Any);
    assert_eq!(shop.walk("tags=901,902"), ids[..3]);
    assert_eq!(shop.simulator.violations().len(), 0);
    assert_eq!(shop.walk("tags=Đã+mua").len(), 120);
    assert!(shop.simulator.violations()[0].contains("tags"));
}

#[test]
fn posts_in_every_reading() {
    let shop = shop(400);
    let rows = shop.page.conversations();
    let posts: Vec<&str> = rows
        .iter()
        .filter(|row| row["type"] == "COMMENT")
        .take(40)
        .filter_map(|row| row["post_id"].as_str())
        .collect();
    let (one, two) = (posts[0], posts.iter().find(|post| **post != posts[0]).unwrap());
    let of = |wanted: &[&str]| {
        rows.iter().filter(|row| row["post_id"].as_str().is_some_and(|post| wanted.contains(&post))).count()
    };
    let both = format!("post_ids={one},{two}");
    let read = |reading| shop.simulator.switches(|switches| switches.post_ids = reading);
    assert_eq!(shop.walk(&both).len(), of(&[one, two]));
    assert_eq!(shop.walk(&format!("post_ids={one}")).len(), of(&[one]));
    read(PostIdsReading::SingleOnly);
    assert_eq!(shop.walk(&both).len(), 0);
    assert_eq!(shop.walk(&format!("post_ids={one}")).len(), of(&[one]));
    read(PostIdsReading::Ignored);
    assert_eq!(shop.walk(&both).len(), 400);
    read(PostIdsReading::NeedsPost);
    assert_eq!(shop.walk(&both).len(), 400);
    assert_eq!(shop.walk(&format!("type=POST&{both}")).len(), of(&[one, two]));
    read(PostIdsReading::NeedsComment);
    assert_eq!(shop.walk(&both).len(), 400);
    assert!(shop.walk(&format!("type=COMMENT&{both}")).len() <= of(&[one, two]));
    read(PostIdsReading::Http500WithoutPost);
    assert_eq!(shop.list(&both).status, 500);
    read(PostIdsReading::NothingWithoutPost);
    assert_eq!(shop.walk(&both).len(), 0);
}

#[test]
fn bounds_in_every_reading() {
    let shop = shop(0);
    shop.page.replace_rows(rows(&["03.5", "03", "02.5", "02", "01.5", "01"]));
    let ask = |bound, params: String| {
        shop.simulator.switches(|switches| (switches.since, switches.until) = (bound, bound));
        shop.walk(&params).join(" ")
    };
    let since = |bound| ask(bound, format!("since={}", MARCH + 2));
    let until = |bound| ask(bound, format!("until={}", MARCH + 2));
    assert_eq!(since(Bound::Inclusive), "r0 r1 r2 r3");
    assert_eq!(since(Bound::InclusiveSeconds), "r0 r1 r2 r3");
    assert_eq!(since(Bound::Exclusive), "r0 r1 r2");
    assert_eq!(since(Bound::ExclusiveSeconds), "r0 r1");
    assert_eq!(until(Bound::Inclusive), "r3 r4 r5");
    assert_eq!(until(Bound::InclusiveSeconds), "r2 r3 r4 r5");
    assert_eq!(until(Bound::Exclusive), "r4 r5");
    assert_eq!(until(Bound::ExclusiveSeconds), "r4 r5");
    assert_eq!(shop.simulator.violations(), Vec::<String>::new());
    assert_eq!(ask(Bound::Inclusive, format!("until={MARCH}000")), "");
    assert_eq!(ask(Bound::Inclusive, format!("since={}&until={MARCH}", MARCH + 9)), "");
    assert_eq!(shop.simulator.violations().len(), 2);
    shop.simulator.switches(|switches| (switches.ignore_since, switches.ignore_until) = (true, true));
    assert_eq!(shop.walk(&format!("since={}", MARCH + 2)).len(), 6);
    assert_eq!(shop.walk(&format!("until={}", MARCH + 2)).len(), 6);
}

#[test]
fn bounds_follow_the_order() {
    let shop = shop(200);
    let rows = shop.page.conversations();
    let moved = rows.iter().find(|row| seconds(row, "updated_at") > seconds(row, "inserted_at")).unwrap();
    let id = moved["id"].as_str().unwrap();
    let middle = shop.simulator.now() / 1_000_000 - 45 * 86_400;
    let inserted = shop.walk(&format!("order_by=inserted_at&since={middle}"));
    let updated = shop.walk(&format!("order_by=updated_at&since={middle}"));
    assert!(inserted.len() < updated.len() && updated.len() < 200);
    shop.simulator.switches(|switches| switches.ignore_order_by = true);
    assert_eq!(shop.walk(&format!("order_by=inserted_at&since={middle}")), updated);
    assert!(shop.page.ids().contains(&id.to_owned()));
}

#[test]
fn ties_and_strict_cursors() {
    let shop = shop(0);
    shop.page.replace_rows(rows(&["02", "02", "02", "01"]));
    let walk = |ties, cursor| {
        shop.simulator.switches(|switches| {
            (switches.ties, switches.cursor, switches.batch) = (ties, cursor, 2);
        });
        shop.walk("").join(" ")
    };
    assert_eq!(walk(Ties::IdDescending, CursorReading::AfterRow), "r2 r1 r0 r3");
    assert_eq!(walk(Ties::IdAscending, CursorReading::AfterRow), "r0 r1 r2 r3");
    assert_eq!(walk(Ties::Insertion, CursorReading::AfterRow), "r0 r1 r2 r3");
    assert_eq!(walk(Ties::IdAscending, CursorReading::StrictlyBelow), "r0 r1 r3");
}

#[test]
fn a_lost_cursor_in_every_reaction() {
    let shop = shop(10);
    shop.simulator.switches(|switches| switches.batch = 3);
    let ids = shop.page.ids();
    shop.page.delete(&ids[4]);
    let ask = |reaction, id: &str| {
        shop.simulator.switches(|switches| switches.lost_cursor = reaction);
        shop.list(&format!("last_conversation_id={id}"))
    };
    for id in ["nobody", &ids[4]] {
        assert_eq!(ask(LostCursor::FirstPage, id).ids(), ids[..3]);
        assert_eq!(ask(LostCursor::Empty, id).ids().len(), 0);
        assert_eq!(ask(LostCursor::Http500, id).status, 500);
        assert_eq!(ask(LostCursor::SuccessFalse, id).json()["success"], false);
    }
    assert_eq!(ask(LostCursor::Continue, &ids[4]).ids(), ids[5..8]);
    shop.simulator.switches(|switches| switches.ignore_cursor = true);
    assert_eq!(ask(LostCursor::Continue, &ids[6]).ids(), ids[..3]);
}

#[test]
fn a_moved_cursor_in_every_reaction() {
    for (reaction, restarts) in
        [(LostCursor::Continue, true), (LostCursor::FirstPage, true), (LostCursor::Empty, false)]
    {
        let shop = shop(10);
        shop.simulator.switches(|switches| (switches.batch, switches.moved_cursor) = (3, reaction));
        let ids = shop.list("").ids();
        shop.page.message(&ids[2]);
        assert_eq!(shop.page.ids()[0], ids[2]);
        let next = shop.list(&format!("last_conversation_id={}", ids[2])).ids();
        match (reaction, restarts) {
            (LostCursor::Continue, _) => assert_eq!(next, shop.page.ids()[1..4]),
            (_, true) => assert_eq!(next, shop.page.ids()[..3]),
            (_, false) => assert_eq!(next.len(), 0),
        }
        // In the other order it has not moved.
        assert_eq!(shop.walk("order_by=inserted_at").len(), 10);
    }
}

#[test]
fn short_batches_repeats_and_unread_first() {
    let shop = shop(300);
    shop.simulator.switches(|switches| switches.short_batches = 0.7);
    assert_eq!(shop.walk(""), shop.page.ids());
    assert!(shop.simulator.log().len() > 8);
    shop.simulator.switches(|switches| (switches.short_batches, switches.repeated_rows) = (0.0, 1.0));
    let ids = shop.walk("");
    let distinct: HashSet<&String> = ids.iter().collect();
    assert!(ids.len() > 300 && distinct.len() == 300);
    shop.simulator.switches(|switches| switches.repeated_rows = 0.0);
    let unread = shop.walk("unread_first=true");
    let rows = shop.page.conversations();
    let seen = |id: &String| rows.iter().find(|row| row["id"] == **id).unwrap()["seen"].as_bool().unwrap();
    assert_eq!(unread.len(), 300);
    assert!(unread.windows(2).all(|two| seen(&two[0]) <= seen(&two[1])));
}

#[test]
fn rows_by_hand_come_verbatim() {
    let shop = shop(5);
    let odd = json!({"id": "x:1@y", "inserted_at": "2030-01-01T00:00:00+07:00", "updated_at": "2030-01-01T00:00:00.5Z",
        "snippet": "a\u{0}b", "tags": [null, "61", 62, {"id": "63"}], "unheard_of": {"a": [1.5]}});
    shop.page.insert_row(odd.clone());
    assert_eq!(shop.list("").json()["conversations"][0], odd);
    assert_eq!(shop.list("tags=61,62,63").ids(), ["x:1@y"]);
    assert_eq!(shop.list("last_conversation_id=x%3A1%40y").ids().len(), 5);
}
