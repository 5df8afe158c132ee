//! Tests what goes wrong: tokens, closed pages, the rate, faults, and the violations in the log.
//! Right replies are left to `listing` and `lists`.

mod client;

use std::time::{Duration, Instant};

use client::{PAGE, shop, with};
use pancake_simulator::*;

fn url(rest: &str) -> String {
    format!("/public_api/v2/pages/{PAGE}/conversations?{rest}")
}

const ACCEPT: &str = "Accept: application/json\r\n";

#[test]
fn tokens_missing_wrong_and_renewed() {
    let shop = shop(5);
    let code = |query: &str| {
        let got = shop.raw(&url(query), ACCEPT).unwrap();
        (got.status, got.json()["error_code"].as_i64())
    };
    assert_eq!(code(""), (200, Some(101)));
    assert_eq!(code("page_access_token=wrong"), (200, Some(102)));
    shop.page.set_token("new");
    assert_eq!(code("page_access_token=page-token-SECRET-1"), (200, Some(105)));
    assert_eq!(code("page_access_token=new"), (200, None));
    shop.page.deny(Some(Denial::Code(121)));
    assert_eq!(code("page_access_token=new"), (200, Some(121)));
    shop.page.deny(Some(Denial::Http403));
    assert_eq!(code("page_access_token=new"), (403, None));
    shop.simulator.switches(|switches| switches.auth = AuthForm::Http401);
    assert_eq!(code("page_access_token=wrong"), (401, Some(102)));
    assert_eq!(shop.simulator.token_file(), format!("{PAGE}:new\n"));
    assert!(!format!("{:?}", shop.simulator.log()).contains("SECRET"));
}

#[test]
fn unknown_pages_and_paths() {
    let shop = shop(5);
    assert_eq!(shop.get("/public_api/v2/pages/7/conversations?").unwrap().status, 404);
    assert_eq!(shop.get("/public_api/v3/pages?").unwrap().status, 406);
    let page = shop.raw("/public_api/v3/pages?", "").unwrap();
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(shop.v1("conversations", "").status, 404);
    shop.simulator.switches(|switches| switches.v1_conversations = V1Conversations::Answers);
    assert_eq!(shop.v1("conversations", "").ids().len(), 5);
    assert!(shop.simulator.violations().iter().any(|violation| violation.contains("deprecated")));
}

#[test]
fn the_sixth_request_of_a_second_is_refused() {
    for (form, status) in [(RateForm::Http429, 429), (RateForm::Body200, 200)] {
        let mut settings = Settings::of(5);
        settings.switches.rate = Some(5.0);
        settings.switches.rate_form = form;
        settings.switches.retry_after = RetryAfter::Seconds(2);
        let shop = with(settings);
        let got: Vec<_> = (0..6).map(|_| shop.v1("tags", "")).collect();
        assert!(got[..5].iter().all(|got| got.json().get("tags").is_some()));
        assert_eq!((got[5].status, got[5].header("retry-after")), (status, Some("2")));
        assert_eq!(got[5].json()["error_code"], 429);
        assert!(shop.simulator.violations()[0].contains("budget"), "{:?}", shop.simulator.violations());
        assert_eq!(shop.simulator.busiest(Duration::from_secs(1)), 6);
        let start = Instant::now();
        while shop.v1("tags", "").json().get("tags").is_none() {
            assert!(start.elapsed() < Duration::from_secs(5), "the budget never returns");
        }
    }
}

#[test]
fn refused_requests_count_where_the_switch_says_so() {
    let mut settings = Settings::of(5);
    settings.switches = Switches { rate: Some(0.5), refused_count: true, ..Switches::default() };
    let shop = with(settings);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2_500) {
        let refused = shop.v1("tags", "").status == 429;
        assert_eq!(refused, shop.simulator.requests() > 1);
    }
}

#[test]
fn faults_strike_when_and_where_they_are_armed() {
    let shop = shop(100);
    let last = shop.list("").ids()[59].clone();
    let cursor = format!("last_conversation_id={last}");
    shop.simulator.fault_on(Only::with_cursor(), Fault::Status(502), Times::On(vec![2]));
    assert_eq!([shop.list(&cursor).status, shop.list("").status, shop.list(&cursor).status], [200, 200, 502]);
    shop.simulator.fault_on(Only::endpoint(Endpoint::Tags), Fault::try_again(), Times::Next(1));
    assert_eq!(shop.list("").status, 200);
    assert_eq!(shop.v1("tags", "").json()["success"], false);
    assert_eq!(shop.v1("tags", "").json()["tags"].as_array().unwrap().len(), 10);
    shop.simulator.fault(Fault::Html200, Times::Always);
    assert!(shop.list("").body.starts_with(b"<!DOCTYPE"));
    shop.simulator.clear_faults();
    assert_eq!(shop.list("").ids().len(), 60);
    assert_eq!(shop.simulator.log().iter().filter(|entry| entry.faulted).count(), 3);
}

#[test]
fn every_fault_breaks_the_reply_in_its_way() {
    let shop = shop(10);
    let next = |fault| {
        shop.simulator.fault(fault, Times::Next(1));
        let got = shop.get(&url(""));
        shop.simulator.clear_faults();
        got
    };
    let parsed = |fault| serde_json::from_slice::<serde_json::Value>(&next(fault).unwrap().body);
    assert!(parsed(Fault::NotJson).is_err());
    assert!(parsed(Fault::Truncated).is_err());
    assert!(parsed(Fault::EmptyBody).is_err());
    assert!(next(Fault::Dropped).is_err());
    assert!(next(Fault::DroppedBeforeHeaders).is_err());
    assert_eq!(parsed(Fault::MissingArray).unwrap(), serde_json::json!({"success": true}));
    assert!(parsed(Fault::WrongShape).unwrap()["conversations"].is_object());
    assert!(parsed(Fault::NonObject).unwrap().is_array());
    let limited = Fault::SuccessFalse { code: Some(429), message: "slow down".to_owned() };
    assert_eq!(parsed(limited).unwrap()["error_code"], 429);
    let moved = next(Fault::Redirect("http://127.0.0.1:1/".to_owned())).unwrap();
    assert_eq!((moved.status, moved.header("location")), (302, Some("http://127.0.0.1:1/")));
    assert!(next(Fault::Oversized(1 << 20)).unwrap().body.len() >= 1 << 20);
    assert!(next(Fault::Bomb(10 << 20)).unwrap().body.len() < 100 << 10);
    let busy = next(Fault::StatusAfter(503, "soon".to_owned())).unwrap();
    assert_eq!((busy.status, busy.header("retry-after")), (503, Some("soon")));
    let start = Instant::now();
    let size = next(Fault::OddStatus(203)).unwrap().body.len();
    assert_eq!(next(Fault::Slow(size * 4)).unwrap().ids().len(), 10);
    assert!(start.elapsed() > Duration::from_millis(200));
}

#[test]
fn hanging_requests_end_with_the_simulator() {
    let shop = shop(10);
    shop.simulator.fault(Fault::Hang, Times::On(vec![1]));
    shop.simulator.fault(Fault::HangMidBody, Times::On(vec![2]));
    let simulator = shop.simulator;
    let address = simulator.base_url().replace("http://", "").replace("/api", "");
    let asking: Vec<_> = (0..2)
        .map(|_| {
            let address = address.clone();
            std::thread::spawn(move || {
                use std::io::{Read, Write};
                let mut stream = std::net::TcpStream::connect(&address).unwrap();
                let path = url("page_access_token=page-token-SECRET-1");
                write!(stream, "GET /api{path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                stream.read_to_end(&mut Vec::new())
            })
        })
        .collect();
    let start = Instant::now();
    while simulator.requests() < 2 {
        assert!(start.elapsed() < Duration::from_secs(5));
        std::thread::yield_now();
    }
    assert!(asking.iter().all(|thread| !thread.is_finished()));
    assert_eq!((simulator.open_connections(), simulator.most_in_flight() >= 1), (2, true));
    drop(simulator);
    for thread in asking {
        let _ = thread.join().unwrap();
    }
}

#[test]
fn bad_manners_are_complained_about_and_answered_as_pancake_would() {
    let shop = shop(100);
    let violation = |query: &str| {
        shop.simulator.clear_log();
        assert_eq!(shop.list(query).ids().len(), 60);
        shop.simulator.violations().join("; ")
    };
    assert_eq!(violation("type=INBOX&order_by=updated_at&since=1&until=99999999999&unread_first=true"), "");
    assert!(violation("limit=1000").contains("unknown parameter `limit`"));
    assert!(violation("since=yesterday").contains("`since` is not a number"));
    assert!(violation("order_by=id").contains("order_by"));
    assert!(violation("unread_first=1").contains("unread_first"));
    let raw = |query: &str, headers: &str| {
        shop.simulator.clear_log();
        shop.raw(&url(query), headers).unwrap();
        shop.simulator.violations().join("; ")
    };
    assert!(raw("page_access_token=page-token-SECRET-1", "").contains("Accept"));
    assert!(raw("", "Accept: application/json\r\nX-Token: page-token-SECRET-1\r\n").contains("header"));
    shop.simulator.clear_log();
    shop.v1("conversations/x/messages", "current_count=many");
    assert!(shop.simulator.violations()[0].contains("current_count"));
}

#[test]
fn a_client_that_goes_away_is_noticed() {
    use std::io::Write;
    let shop = shop(1);
    shop.simulator.fault(Fault::Hang, Times::Always);
    let address = shop.simulator.base_url().replace("http://", "").replace("/api", "");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET /api{} HTTP/1.1\r\nHost: x\r\n\r\n", url("")).unwrap();
    let until = |wanted: usize| {
        let start = Instant::now();
        while (shop.simulator.in_flight(), shop.simulator.open_connections()) != (wanted, wanted) {
            assert!(start.elapsed() < Duration::from_secs(5), "never {wanted}");
            std::thread::yield_now();
        }
    };
    until(1);
    drop(stream);
    until(0);
    assert_eq!(shop.simulator.most_in_flight(), 1);
}
