//! Tests the forms of requests that the live API refuses, the words of refusals, and the totals of
//! numbered lists. Readings of forms that are taken are left to `listing` and `lists`.

mod client;

use client::{Got, Shop, shop, with};
use pancake_simulator::*;
use serde_json::{Value, json};

/// 2026-03-15T10:00:00Z.
const NOW: i64 = 1_773_568_800;
const DAY: i64 = 86_400;

/// A page of 90 days that end at `NOW`.
fn in_march() -> Shop {
    with(Settings { now: Some(NOW * 1_000_000), ..Settings::of(300) })
}

/// The rows of a reply, or what came in their place.
fn outcome(got: &Got) -> String {
    if got.status != 200 {
        return format!("HTTP {}", got.status);
    }
    let body = got.json();
    match (&body["success"], &body["message"]) {
        (Value::Bool(true), _) => match body["conversations"].as_array().map(Vec::len) {
            Some(0) => "empty".to_owned(),
            _ => "rows".to_owned(),
        },
        (_, message) => format!("{message}"),
    }
}

#[test]
fn a_bound_without_the_other_in_every_reading() {
    let shop = in_march();
    let (since, until) = (format!("since={}", NOW - DAY), format!("until={NOW}"));
    let ask = |reading, params: &str| {
        shop.simulator.switches(|switches| switches.lone_bound = reading);
        outcome(&shop.list(params))
    };
    for lone in [&since, &until] {
        assert_eq!(ask(FormReading::Taken, lone), "rows");
        assert_eq!(ask(FormReading::Refused, lone), "\"Since must be provided with until\"");
        assert_eq!(ask(FormReading::Empty, lone), "empty");
        assert_eq!(ask(FormReading::Http500, lone), "HTTP 500");
    }
    assert_eq!(ask(FormReading::Refused, &format!("{since}&{until}")), "rows");
    assert_eq!(ask(FormReading::Refused, "order_by=inserted_at"), "rows");
    shop.simulator.switches(|switches| switches.ignore_until = true);
    assert_eq!(ask(FormReading::Refused, &until), "rows");
    assert_eq!(shop.simulator.violations(), Vec::<String>::new());
}

#[test]
fn a_window_of_a_month_in_every_reading() {
    let shop = in_march();
    // The month before 15 March has 28 days.
    let month = |seconds: i64| format!("since={}&until={}", NOW - seconds, NOW);
    let (wide, narrow) = (month(28 * DAY), month(28 * DAY - 1));
    let ask = |reading, params: &str| {
        shop.simulator.switches(|switches| switches.wide_window = reading);
        outcome(&shop.list(params))
    };
    assert_eq!(ask(FormReading::Taken, &wide), "rows");
    for (reading, expected) in [
        (FormReading::Refused, "\"date range must be less than 1 month!\""),
        (FormReading::Empty, "empty"),
        (FormReading::Http500, "HTTP 500"),
    ] {
        assert_eq!(ask(reading, &wide), expected);
        assert_eq!(ask(reading, &narrow), "rows");
        assert_eq!(ask(reading, "since=0"), "rows");
    }
    shop.simulator.switches(|switches| switches.wide_window_of = vec![Endpoint::Posts]);
    assert_eq!(ask(FormReading::Refused, &wide), "rows");
}

#[test]
fn numbered_lists_refuse_a_month_too() {
    let shop = in_march();
    let list = |path: &str, seconds: i64| {
        let window = format!("since={}&until={NOW}", NOW - seconds);
        shop.v1(path, &format!("{window}&page_number=1&page_size=5"))
    };
    for (path, key) in [("posts", "posts"), ("page_customers", "customers")] {
        let ask = |reading, seconds| {
            shop.simulator.switches(|switches| switches.wide_window = reading);
            list(path, seconds)
        };
        assert!(ask(FormReading::Taken, 60 * DAY).json()["total"].as_u64() > Some(3));
        let refused = json!({"success": false, "message": "date range must be less than 1 month!"});
        assert_eq!(ask(FormReading::Refused, 28 * DAY).json(), refused);
        assert!(ask(FormReading::Refused, 28 * DAY - 1).json()["total"].as_u64() > Some(1));
        let empty = ask(FormReading::Empty, 28 * DAY).json();
        assert_eq!((&empty[key], &empty["total"], &empty["success"]), (&json!([]), &json!(0), &json!(true)));
        assert_eq!(ask(FormReading::Http500, 28 * DAY).status, 500);
    }
    shop.simulator.switches(|switches| switches.wide_window_of = vec![Endpoint::Customers]);
    assert_eq!((list("posts", 60 * DAY).status, list("page_customers", 60 * DAY).status), (200, 500));
}

#[test]
fn an_until_after_today_in_every_reading() {
    let shop = in_march();
    // Today ends in Vietnam at 17:00 UTC.
    let end = NOW + 7 * 3600;
    let ask = |reading, until: i64| {
        shop.simulator.switches(|switches| switches.late_until = reading);
        outcome(&shop.list(&format!("since={}&until={until}", NOW - DAY)))
    };
    for (reading, expected) in [
        (FormReading::Taken, "rows"),
        (FormReading::Refused, "\"Until must not be after the end of today\""),
        (FormReading::Empty, "empty"),
        (FormReading::Http500, "HTTP 500"),
    ] {
        assert_eq!(ask(reading, end), "rows");
        assert_eq!(ask(reading, end + 1), expected);
    }
    let posts = format!("since={}&until={}&page_number=1&page_size=5", NOW - DAY, end + DAY);
    assert!(shop.v1("posts", &posts).json()["total"].is_u64());
}

#[test]
fn two_bounds_together_in_every_reading() {
    let shop = in_march();
    let ask = |reading, params: &str| {
        shop.simulator.switches(|switches| switches.windows = reading);
        outcome(&shop.list(params))
    };
    for (reading, expected) in [
        (FormReading::Taken, "rows"),
        (FormReading::Refused, "\"Since and until are not supported\""),
        (FormReading::Empty, "empty"),
        (FormReading::Http500, "HTTP 500"),
    ] {
        assert_eq!(ask(reading, &format!("since={}&until={}", NOW - DAY, NOW)), expected);
        assert_eq!(ask(reading, &format!("since={}", NOW - DAY)), "rows");
        assert_eq!(ask(reading, ""), "rows");
    }
}

#[test]
fn the_words_of_refusals_under_three_keys() {
    let shop = shop(5);
    shop.simulator.switches(|switches| switches.lone_bound = FormReading::Refused);
    for (words_under, key) in
        [(WordsUnder::Message, "message"), (WordsUnder::Error, "error"), (WordsUnder::Reason, "reason")]
    {
        shop.simulator.switches(|switches| switches.words_under = words_under);
        let refused = shop.list("since=1").json();
        assert_eq!(refused, json!({"success": false, key: "Since must be provided with until"}));
        shop.page.deny(Some(Denial::Code(121)));
        let denied = shop.list("").json();
        shop.page.deny(None);
        assert_eq!(denied, json!({"success": false, "error_code": 121, key: "page has no subscription"}));
        assert_eq!(shop.list("").ids().len(), 5);
    }
}

#[test]
fn totals_and_page_numbers_in_every_reading() {
    let shop = shop(400);
    for (path, key) in [("posts", "posts"), ("page_customers", "customers")] {
        let ask = |number: usize| {
            let params = format!("since=1&until=99999999999&page_number={number}&page_size=4");
            let mut got = shop.v1(path, &params).json();
            let rows = got[key].take();
            (rows, got.get("total").cloned())
        };
        let count = |total| shop.simulator.switches(|switches| switches.total = total);
        let all = ask(1).1.and_then(|total| total.as_u64()).unwrap();
        assert!(all > 8);
        count(TotalReading::OfBatch);
        assert_eq!((ask(1).1, ask(1000).1), (Some(json!(4)), Some(json!(0))));
        count(TotalReading::Missing);
        assert_eq!(ask(1).1, None);
        count(TotalReading::Exact);
        assert_ne!(ask(2).0, ask(1).0);
        shop.simulator.switches(|switches| switches.page_number_ignored = true);
        assert_eq!(ask(2), ask(1));
        assert_eq!(ask(1).1, Some(json!(all)));
        shop.simulator.switches(|switches| switches.page_number_ignored = false);
    }
    assert_eq!(shop.simulator.violations(), Vec::<String>::new());
}
