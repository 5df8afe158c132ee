//! Tests what happens on a page while it is read: messages, deletions, late rows, by script and by
//! churn. Still pages are left to `listing`.

mod client;

use std::collections::HashSet;
use std::time::Duration;

use client::shop;
use pancake_simulator::*;

#[test]
fn scripted_events_befall_the_request_they_are_meant_for() {
    let shop = shop(20);
    shop.simulator.switches(|switches| switches.batch = 5);
    shop.page.at_request(2, Event::Message(Target::Cursor));
    shop.page.at_request(3, Event::Delete(Target::Cursor));
    shop.page.at_request(3, Event::Create("COMMENT".to_owned()));
    let first = shop.list("").ids();
    assert_eq!(first, shop.page.ids()[..5]);
    let second = shop.list(&format!("last_conversation_id={}", first[4])).ids();
    assert_eq!(shop.page.ids()[0], first[4]);
    assert_eq!(second, shop.page.ids()[1..6]);
    shop.list(&format!("last_conversation_id={}", second[4]));
    assert_eq!(shop.page.len(), 20);
    assert!(!shop.page.ids().contains(&second[4]));
}

#[test]
fn a_storm_moves_rows_with_every_request() {
    let shop = shop(50);
    let before = shop.page.conversations();
    shop.simulator.switches(|switches| {
        switches.churn = Churn { messages: 1.5, creates: 1.0, deletes: 0.5, retags: 1.0, ..Churn::default() };
    });
    for _ in 0..20 {
        shop.list("");
    }
    let after = shop.page.conversations();
    assert!(after.len() > 50 && after.len() < 70, "{}", after.len());
    for row in &after {
        if let Some(old) = before.iter().find(|old| old["id"] == row["id"]) {
            assert_eq!(old["inserted_at"], row["inserted_at"]);
            assert!(old["updated_at"].as_str() <= row["updated_at"].as_str());
        }
    }
}

#[test]
fn a_message_moves_its_row_to_the_head_and_a_tag_does_not() {
    let shop = shop(80);
    for id in shop.page.ids().iter().rev().take(20) {
        let (old, messages) = (shop.page.conversation(id).unwrap(), shop.page.messages(id).len());
        assert!(shop.page.message(id));
        assert_eq!(shop.page.ids()[0], *id);
        let new = shop.page.conversation(id).unwrap();
        assert!(old["updated_at"].as_str() < new["updated_at"].as_str());
        assert_eq!(shop.page.messages(id).len(), messages + 1);
        assert_eq!(shop.page.messages(id)[messages]["inserted_at"], new["updated_at"]);
        let plain = &shop.page.messages(id)[messages]["original_message"];
        assert!(*plain == new["snippet"] || *plain == "");
    }
    let ids = shop.page.ids();
    shop.page.retag(&ids[40], &[61]);
    shop.page.set_seen(&ids[41], true);
    assert_eq!(shop.page.ids(), ids);
    assert_eq!(shop.page.create("RATING"), shop.page.ids()[0]);
    assert!(!shop.page.message("nobody"));
}

#[test]
fn a_late_row_appears_later_with_its_old_time() {
    let shop = shop(30);
    shop.simulator.switches(|switches| switches.late = Duration::from_secs(3600));
    let old = shop.page.ids();
    let before = shop.simulator.now();
    shop.page.message(&old[9]);
    let new = shop.page.create("INBOX");
    let after = shop.simulator.now();
    assert_eq!(shop.list("").ids(), old);
    shop.simulator.advance(Duration::from_secs(3600));
    let ids = shop.list("").ids();
    assert_eq!(ids[..2], [new, old[9].clone()]);
    let row = shop.page.conversation(&old[9]).unwrap();
    let time = row["updated_at"].as_str().unwrap();
    assert!(
        after - before < 10_000_000
            && time > shop.page.conversation(&old[0]).unwrap()["updated_at"].as_str().unwrap()
    );
}

#[test]
fn messages_lose_rows_of_a_walk_by_updated_at_and_none_by_inserted_at() {
    let shop = shop(300);
    shop.simulator.switches(|switches| {
        switches.batch = 20;
        switches.churn.messages = 10.0;
    });
    let truth: HashSet<String> = shop.page.ids().into_iter().collect();
    let inserted = shop.walk("order_by=inserted_at");
    assert_eq!(inserted.len(), 300);
    assert_eq!(inserted.into_iter().collect::<HashSet<_>>(), truth);
    // In the other order a cursor row that moves would begin the walk again and again.
    shop.simulator.switches(|switches| switches.moved_cursor = LostCursor::Empty);
    let updated: HashSet<String> = shop.walk("order_by=updated_at").into_iter().collect();
    assert!(updated.len() < 300, "{}", updated.len());
}
