//! Tests cursors of the middle of a batch, and cursors beside filters.
//! Lost and moved cursors are left to `listing`, those of frozen rows to `order`.

mod client;

use client::shop;
use pancake_simulator::*;

#[test]
fn a_cursor_of_the_middle_in_every_reaction() {
    let shop = shop(40);
    shop.simulator.switches(|switches| switches.batch = 5);
    let ids = shop.page.ids();
    assert_eq!(shop.list("").ids(), ids[..5]);
    let ask = |reaction, place: usize| {
        shop.simulator.switches(|switches| switches.middle_cursor = reaction);
        shop.list(&format!("last_conversation_id={}", ids[place]))
    };
    for (reaction, expected) in [(LostCursor::FirstPage, &ids[..5]), (LostCursor::Empty, &[])] {
        assert_eq!(ask(reaction, 2).ids(), expected);
        assert_eq!(ask(reaction, 4).ids(), ids[5..10]);
        assert_eq!(shop.walk("order_by=inserted_at").len(), 40);
    }
    assert_eq!(ask(LostCursor::Http500, 2).status, 500);
    assert_eq!(ask(LostCursor::SuccessFalse, 2).json()["success"], false);
    assert_eq!(ask(LostCursor::Continue, 2).ids(), ids[3..8]);
}

/// A reply to a cursor of the middle is not remembered: the row may end a batch of another request.
#[test]
fn a_row_of_the_middle_becomes_the_end_of_a_batch() {
    let shop = shop(20);
    shop.simulator.switches(|switches| {
        (switches.batch, switches.middle_cursor) = (5, LostCursor::Empty);
    });
    let ids = shop.page.ids();
    shop.page.retag(&ids[2], &[901]);
    let middle = format!("last_conversation_id={}", ids[2]);
    shop.list("");
    assert_eq!(shop.list(&middle).ids().len(), 0);
    assert_eq!(shop.list("tags=901").ids(), ids[2..3]);
    assert_eq!(shop.list(&middle).ids(), ids[3..8]);
}

#[test]
fn a_cursor_may_forget_the_filters() {
    let shop = shop(200);
    shop.simulator.switches(|switches| switches.batch = 5);
    let ids = shop.page.ids();
    let rows = shop.page.conversations();
    let post = rows.iter().find_map(|row| row["post_id"].as_str()).unwrap();
    shop.page.retag(&ids[1], &[901]);
    for filter in ["type=COMMENT", "tags=901", &format!("post_ids={post}")] {
        let ask = |forgets, params: &str| {
            shop.simulator.switches(|switches| switches.cursor_forgets_filters = forgets);
            shop.list(&format!("{filter}&{params}")).ids()
        };
        let cursor = format!("last_conversation_id={}", ids[9]);
        assert_ne!(ask(false, &cursor), ids[10..15]);
        assert_eq!(ask(true, &cursor), ids[10..15]);
        assert_eq!(ask(true, ""), ask(false, ""));
        assert_ne!(ask(true, ""), ids[..5]);
    }
    // The times are not among the filters.
    let window = format!("since=0&until=1&last_conversation_id={}", ids[9]);
    assert_eq!(shop.list(&window).ids().len(), 0);
}
