//! Tests the named sets of switches: as documented, and as clients met the live API.
//! Each switch alone is left to `forms`, `order`, `cursors` and `lists`.

mod client;

use client::{shop, with};
use pancake_simulator::*;

#[test]
fn as_documented_is_the_default() {
    assert_eq!(Switches::as_documented(), Switches::default());
    assert_ne!(Switches::as_seen(), Switches::default());
}

#[test]
fn as_seen_on_a_running_simulator() {
    let shop = shop(1_000);
    shop.simulator.switches(|switches| switches.batch = 7);
    shop.simulator.as_seen();
    let now = shop.simulator.now() / 1_000_000;
    assert_eq!(shop.page.frozen().len(), 20);
    assert_eq!(shop.list("").ids(), shop.page.ids()[..7]);
    for refused in [
        format!("since={}", now - 60),
        format!("since={}&until={now}", now - 31 * 86_400),
        format!("since={now}&until={}", now + 86_401),
    ] {
        assert_eq!(shop.list(&refused).json()["success"], false, "{refused}");
    }
    assert_eq!(shop.list(&format!("since={}&until={now}", now - 27 * 86_400)).ids().len(), 7);
    let posts = format!("since={}&until={now}&page_number=1&page_size=5", now - 90 * 86_400);
    assert_eq!(shop.v1("posts", &posts).json()["success"], false);
    shop.simulator.switches(|switches| *switches = Switches::default());
    shop.simulator.as_seen();
    assert_eq!(shop.page.frozen().len(), 20);
    shop.simulator.switches(|switches| assert_eq!(*switches, Switches::as_seen()));
}

#[test]
fn as_seen_from_the_start() {
    let mut settings = Settings::of(1_000);
    settings.switches.batch = 7;
    let shop = with(settings.as_seen());
    assert_eq!(shop.page.frozen().len(), 20);
    assert_eq!(shop.list("").ids().len(), 7);
    assert_eq!(shop.list("since=1").json()["success"], false);
}
