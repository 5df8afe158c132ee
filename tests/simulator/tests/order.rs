//! Tests rows that are not where the times that they show would put them, and rows whose times are
//! odd. Rows in order are left to `listing`.

mod client;

use std::collections::HashSet;

use client::{Shop, shop};
use pancake_simulator::TimeColumn::{InsertedAt, UpdatedAt};
use pancake_simulator::*;
use serde_json::{Value, json};

/// 2026-03-01T00:00:00Z.
const MARCH: i64 = 1_772_323_200;

/// A page of eight rows `r0` to `r7`, an hour apart; `r0` is of `MARCH` and the newest.
fn eight() -> Shop {
    let shop = shop(0);
    let row = |place: i64| {
        let (day, hour) = if place == 0 { ("03-01", 0) } else { ("02-28", 24 - place) };
        let time = format!("2026-{day}T{hour:02}:00:00.500000");
        json!({"id": format!("r{place}"), "type": "INBOX", "inserted_at": time, "updated_at": time})
    };
    shop.page.replace_rows((0..8).map(row).collect());
    shop
}

fn list(shop: &Shop, params: &str) -> String {
    shop.list(params).ids().join(" ")
}

/// A window of `r{first}` to `r{last}`.
fn window(first: i64, last: i64) -> String {
    format!("since={}&until={}", MARCH - last * 3600, MARCH - first * 3600 + 1)
}

const IN_ORDER: &str = "r0 r1 r2 r3 r4 r5 r6 r7";

#[test]
fn a_frozen_row_shows_an_old_time_in_its_place() {
    let shop = eight();
    assert!(shop.page.freeze("r2", (MARCH - 6 * 3600) * 1_000_000));
    assert!(!shop.page.freeze("nobody", 0));
    assert_eq!(list(&shop, ""), IN_ORDER);
    assert_eq!(shop.list("").json()["conversations"][2]["updated_at"], "2026-02-28T18:00:00.000000");
    assert_eq!(shop.page.frozen(), ["r2"]);
    assert_eq!(list(&shop, &window(1, 3)), "r1 r2 r3");
    shop.simulator.switches(|switches| switches.frozen_time = FrozenReading::Shown);
    assert_eq!(list(&shop, &window(1, 3)), "r1 r3");
    assert_eq!(list(&shop, &window(5, 7)), "r2 r5 r6 r7");
    assert_eq!(list(&shop, &format!("order_by=inserted_at&{}", window(1, 3))), "r1 r2 r3");
    shop.page.message("r2");
    assert_eq!(list(&shop, ""), "r2 r0 r1 r3 r4 r5 r6 r7");
    assert_eq!(shop.list("").json()["conversations"][0]["updated_at"], "2026-02-28T18:00:00.000000");
}

#[test]
fn the_cursor_of_a_frozen_row_in_both_readings() {
    let shop = eight();
    shop.page.freeze("r2", (MARCH - 6 * 3600) * 1_000_000 + 600_000);
    let after = |params: &str| list(&shop, &format!("last_conversation_id=r2&{params}"));
    assert_eq!(after(""), "r3 r4 r5 r6 r7");
    shop.simulator.switches(|switches| switches.frozen_cursor = FrozenReading::Shown);
    assert_eq!(after(""), "r6 r7");
    assert_eq!(after("order_by=inserted_at"), "r3 r4 r5 r6 r7");
    assert_eq!(after("unread_first=true"), "r6 r7");
    assert_eq!(list(&shop, "last_conversation_id=r1"), "r2 r3 r4 r5 r6 r7");
}

#[test]
fn frozen_rows_made_by_seed() {
    let mut settings = Settings::of(2_000);
    settings.now = Some(MARCH * 1_000_000);
    settings.pages[0].frozen = 0.02;
    let page = client::with(settings);
    let frozen = page.page.frozen();
    assert_eq!(frozen.len(), 40);
    page.page.freeze_share(0.02);
    assert_eq!(page.page.frozen(), frozen);
    let ids = page.page.ids();
    let (mut shifts, mut places) = (Vec::new(), Vec::new());
    for id in &frozen {
        let row = page.page.conversation(id).unwrap();
        let real = page.page.messages(id).last().unwrap()["inserted_at"].clone();
        assert!(row["inserted_at"].as_str() <= row["updated_at"].as_str());
        assert!(row["updated_at"].as_str() < real.as_str());
        shifts.push((row["updated_at"].to_string()[1..8].to_owned(), real.to_string()[1..8].to_owned()));
        places.push(ids.iter().position(|other| other == id).unwrap());
    }
    assert!(shifts.iter().any(|(shown, real)| shown < real), "none by a month");
    assert!(shifts.iter().any(|(shown, real)| shown == real), "none by hours");
    let near = places.windows(2).filter(|two| two[1] - two[0] < 10).count();
    assert!(near > 20, "no runs: {places:?}");
    let is_long = |eight: &[usize]| eight[7] - eight[0] == 7;
    assert!(!places.windows(8).any(is_long), "eight in a row: {places:?}");
    assert_eq!(page.walk(""), ids);
    assert_eq!(shop(2_000).page.frozen(), Vec::<String>::new());
}

#[test]
fn a_row_may_stand_lower_than_its_time() {
    let shop = eight();
    let before = shop.page.conversation("r1").unwrap();
    assert!(shop.page.lower("r1", 3));
    assert_eq!(list(&shop, ""), "r0 r2 r3 r4 r1 r5 r6 r7");
    assert_eq!(shop.page.conversation("r1").unwrap(), before);
    assert!(shop.page.lower("r6", 7));
    assert_eq!(list(&shop, ""), "r0 r2 r3 r4 r1 r5 r7 r6");
    assert!(!shop.page.lower("r6", 7) && !shop.page.lower("r0", 0) && !shop.page.lower("nobody", 1));
    assert_eq!(shop.list("last_conversation_id=r1").ids(), ["r5", "r7", "r6"]);
    shop.simulator.switches(|switches| {
        (switches.frozen_time, switches.frozen_cursor) = (FrozenReading::Shown, FrozenReading::Shown);
    });
    assert_eq!(list(&shop, &window(0, 2)), "r0 r2 r1");
    assert_eq!(shop.list("last_conversation_id=r1").ids(), ["r2", "r3", "r4", "r1", "r5", "r7", "r6"]);
}

#[test]
fn neighbours_by_inserted_at_may_be_exchanged() {
    let shop = eight();
    assert!(shop.page.swap("r2") && shop.page.swap("r5"));
    assert!(!shop.page.swap("r7") && !shop.page.swap("nobody"));
    let swapped = "r0 r1 r3 r2 r4 r6 r5 r7";
    for _ in 0..2 {
        assert_eq!(list(&shop, "order_by=inserted_at"), swapped);
    }
    assert_eq!(list(&shop, "order_by=inserted_at&last_conversation_id=r3"), "r2 r4 r6 r5 r7");
    assert_eq!(list(&shop, &format!("order_by=inserted_at&{}", window(1, 2))), "r1 r2");
    assert_eq!(list(&shop, ""), IN_ORDER);
    shop.simulator.switches(|switches| switches.batch = 3);
    assert_eq!(shop.walk("order_by=inserted_at").join(" "), swapped);
}

#[test]
fn a_row_ahead_of_now_stays_on_top() {
    let shop = shop(30);
    let ids = shop.page.ids();
    let ahead = shop.simulator.now() + 86_400_000_000;
    assert!(shop.page.set_time(&ids[7], UpdatedAt, ahead));
    shop.page.message(&ids[3]);
    let created = shop.page.create("INBOX");
    assert_eq!(shop.list("").ids()[..3], [ids[7].clone(), created, ids[3].clone()]);
    let shown = |id: &String| shop.page.conversation(id).unwrap()["updated_at"].to_string();
    assert!(shown(&ids[3]) < shown(&ids[7]));
    assert!(shop.page.set_time(&ids[7], UpdatedAt, 0) && shop.page.set_time(&ids[7], InsertedAt, -1_000_000));
    assert!(shown(&ids[7]).starts_with("\"1970-01-01T00:00:00"));
    assert_eq!(shop.page.ids().last(), Some(&ids[7]));
    assert_eq!(shop.list("order_by=inserted_at").ids().last(), Some(&ids[7]));
}

#[test]
fn rows_without_time_at_the_top_and_at_the_bottom() {
    let shop = eight();
    shop.page.set_time_form("r2", UpdatedAt, TimeForm::Missing);
    shop.page.set_time_form("r4", UpdatedAt, TimeForm::Null);
    shop.page.set_time_form("r5", InsertedAt, TimeForm::Missing);
    let put = |undated| shop.simulator.switches(|switches| switches.undated = undated);
    assert_eq!(list(&shop, ""), IN_ORDER);
    assert_eq!(list(&shop, &window(2, 4)), "r2 r3 r4");
    for (undated, updated, inserted) in [
        (Undated::Top, "r4 r2 r0 r1 r3 r5 r6 r7", "r5 r0 r1 r2 r3 r4 r6 r7"),
        (Undated::Bottom, "r0 r1 r3 r5 r6 r7 r4 r2", "r0 r1 r2 r3 r4 r6 r7 r5"),
    ] {
        put(undated);
        for batch in [1, 3, 60] {
            shop.simulator.switches(|switches| switches.batch = batch);
            assert_eq!(shop.walk("").join(" "), updated);
            assert_eq!(shop.walk("order_by=inserted_at").join(" "), inserted);
        }
        assert_eq!(list(&shop, &window(2, 4)), "r3");
        assert_eq!(list(&shop, &format!("since={}", MARCH - 2 * 3600)), "r0 r1");
    }
    shop.simulator.switches(|switches| switches.cursor = CursorReading::StrictlyBelow);
    assert_eq!(list(&shop, "last_conversation_id=r4"), "");
    let rows = shop.list("").json();
    let row =
        |id: &str| rows["conversations"].as_array().unwrap().iter().find(|row| row["id"] == id).unwrap();
    assert_eq!(row("r2").get("updated_at"), None);
    assert_eq!(row("r4")["updated_at"], Value::Null);
    assert_eq!(row("r5").get("inserted_at"), None);
    put(Undated::Top);
    shop.page.message("r2");
    assert_eq!(shop.page.ids()[..2], ["r4", "r2"]);
    assert!(shop.page.conversation("r2").unwrap()["updated_at"].is_string());
}

#[test]
fn times_as_numbers() {
    for mut settings in [Settings::of(0), Settings::of(40)] {
        settings.now = Some(MARCH * 1_000_000);
        let shop = client::with(settings);
        if shop.page.is_empty() {
            let row = |n: i64| json!({"id": format!("r{n}"), "inserted_at": MARCH - n, "updated_at": 1000 * MARCH - n});
            shop.page.replace_rows((0..4).map(row).collect());
            assert_eq!(list(&shop, ""), "r0 r1 r2 r3");
            assert_eq!(list(&shop, &format!("order_by=inserted_at&since={}", MARCH - 1)), "r0 r1");
        }
        let ids = shop.page.ids();
        shop.page.set_time(&ids[2], UpdatedAt, (MARCH - 60) * 1_000_000 + 123_000);
        let cell = |form| {
            shop.page.set_time_form(&ids[2], UpdatedAt, form);
            shop.page.conversation(&ids[2]).unwrap()["updated_at"].clone()
        };
        assert_eq!(cell(TimeForm::Seconds), MARCH - 60);
        let milliseconds = cell(TimeForm::Milliseconds).as_i64().unwrap();
        assert_eq!(milliseconds / 1000, MARCH - 60);
        assert!(cell(TimeForm::Text).as_str().unwrap().starts_with("2026-02-28T23:59:00"));
        cell(TimeForm::Milliseconds);
        shop.page.message(&ids[2]);
        assert!(shop.page.conversation(&ids[2]).unwrap()["updated_at"].as_i64().unwrap() >= 1000 * MARCH);
        assert_eq!(shop.list("").ids()[0], ids[2]);
    }
}

/// Everything at once does not lose a row for a walk from the top by `inserted_at` without windows.
#[test]
fn a_walk_by_inserted_at_over_odd_rows() {
    let shop = shop(300);
    shop.simulator.as_seen();
    for id in shop.page.ids().iter().step_by(9) {
        shop.page.swap(id);
    }
    let ids = shop.walk("order_by=inserted_at");
    assert_eq!(ids.len(), 300);
    assert_eq!(ids.into_iter().collect::<HashSet<_>>(), shop.page.ids().into_iter().collect());
}
