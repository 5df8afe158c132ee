//! Replies that are no answer: HTTP statuses, `success: false` in HTTP 200, and bodies that cannot
//! be read.

use std::time::{Duration, Instant};

use e2e::Shop;
use pancake_simulator::{Endpoint, Fault, PageSettings, RateForm, RetryAfter, Settings, Simulator, Times};

use super::{COUNT, Told, impatient, still_exact};

const FAULT: &str = "Pancake's side";
const SWITCH_ON: &str = "Switch the API on for this page in Cài đặt → Công cụ";
const COPY: &str = "Copy the page's token from Cài đặt → Công cụ → Pancake API";

fn refused(code: Option<i64>, message: &str) -> Fault {
    Fault::SuccessFalse { code, message: message.to_owned() }
}

/// A case: what is served, and SQLSTATE, message, DETAIL and HINT of the error.
pub type Case = (Fault, &'static str, &'static str, &'static str, &'static str);

pub fn cases() -> Vec<Case> {
    vec![
        (Fault::Status(401), "28000", "page access token was refused", "HTTP 401", COPY),
        (Fault::Status(403), "42501", "access to this page is forbidden", "HTTP 403", SWITCH_ON),
        (Fault::Status(404), "HV00R", "page not found", "HTTP 404", "page_id"),
        (Fault::Status(400), "HV000", "Pancake refused the request", "HTTP 400", "If it lasts"),
        (Fault::Status(418), "HV000", "Pancake refused the request", "HTTP 418", ""),
        (Fault::Status(500), "HV00M", "Pancake could not answer", "HTTP 500", FAULT),
        (Fault::Status(502), "HV00M", "Pancake could not answer", "HTTP 502", FAULT),
        (Fault::Status(503), "HV00M", "Pancake could not answer", "HTTP 503", "status page"),
        (Fault::OddStatus(500), "HV00M", "Pancake could not answer", "HTTP 500", FAULT),
        (Fault::OddStatus(302), "HV000", "reply is a redirect", "HTTP 302", "base_url"),
        (refused(Some(101), "missing"), "28000", "page access token is missing", "code 101: missing.", COPY),
        (refused(Some(102), "invalid"), "28000", "page access token is not valid", "code 102", COPY),
        (refused(Some(103), "expired"), "28000", "page access token has expired", "code 103", COPY),
        (refused(Some(105), "renewed"), "28000", "page access token was regenerated", "code 105", COPY),
        (
            refused(Some(106), "no"),
            "42501",
            "no permission for this page",
            "code 106",
            "make the token with another",
        ),
        (
            refused(Some(107), "no"),
            "42501",
            "no permission for this page",
            "code 107",
            "make the token with another",
        ),
        (refused(Some(121), "no"), "42501", "page has no valid subscription", "code 121", SWITCH_ON),
        (refused(Some(122), "no"), "42501", "page has no valid subscription", "code 122", SWITCH_ON),
        (refused(Some(100), "field"), "HV000", "Pancake refused the request", "code 100: field.", ""),
        (refused(Some(9999), "odd"), "HV000", "Pancake refused the request", "code 9999: odd.", ""),
        (refused(None, "no idea"), "HV00M", "Pancake refused the request", "a refusal: no idea.", FAULT),
        (
            refused(Some(100), "Token is not valid"),
            "28000",
            "page access token is not valid",
            "code 100",
            COPY,
        ),
        (refused(Some(106), "Invalid token"), "28000", "page access token is not valid", "code 106", COPY),
        (
            refused(None, "Trang chưa mua gói dịch vụ"),
            "42501",
            "page has no valid subscription",
            "a refusal: Trang chưa mua gói dịch vụ.",
            SWITCH_ON,
        ),
        (
            Fault::json(r#"{"success":false,"error":{"message":"in an object"}}"#),
            "HV00M",
            "Pancake refused the request",
            "a refusal: in an object.",
            FAULT,
        ),
        (
            Fault::json(r#"{"error_code":"105","errors":["renewed"]}"#),
            "28000",
            "page access token was regenerated",
            "code 105: renewed.",
            COPY,
        ),
        (Fault::Status(406), "HV000", "path is unknown to the API", "HTTP 406", "ends with /api"),
        (
            Fault::Canned {
                status: 500,
                content_type: "application/json",
                body: r#"{"reason":"in words"}"#.to_owned(),
            },
            "HV00M",
            "Pancake could not answer",
            "HTTP 500",
            FAULT,
        ),
        (Fault::try_again(), "HV00M", "Pancake could not answer", "Please try again later.", FAULT),
        (Fault::Html200, "HV000", "reply is a web page, not JSON", "<!DOCTYPE html>", "base_url"),
        (Fault::NotJson, "HV000", "reply is not JSON", "upstream connect error", ""),
        (Fault::Truncated, "HV000", "reply is truncated", "breaks off after", ""),
        (Fault::EmptyBody, "HV000", "reply is empty", "without a body", ""),
        (Fault::NonObject, "HV000", "reply has no list of conversations", "\"conversations\"", ""),
        (Fault::MissingArray, "HV000", "reply has no list of conversations", "\"conversations\"", ""),
        (Fault::WrongShape, "HV000", "reply has no list of conversations", "not in a list", ""),
        (Fault::Oversized(4 << 20), "HV000", "reply is too large", "1048576 bytes", "max_response_bytes"),
        (Fault::Bomb(64 << 20), "HV000", "reply is too large", "1048576 bytes", "max_response_bytes"),
        (Fault::Dropped, "HV00N", "connection was lost while the reply was read", "", "network"),
    ]
}

#[test]
fn every_bad_reply_has_its_error_and_tells_its_request() {
    let options = [("max_retries", "0"), ("max_response_bytes", "1MB")];
    let shop = Shop::open_with(Settings::of(100), &options).unwrap();
    let mut session = shop.connect().unwrap();
    for (fault, sqlstate, message, detail, hint) in cases() {
        let case = format!("{fault:?}");
        shop.simulator.fault(fault, Times::Always);
        let (error, log) = shop.watch(|| session.error(COUNT).unwrap());
        Told { sqlstate, message, detail, hint }.check(&error, &case);
        assert_eq!(log.len(), 1, "{case}: without retries it is asked once");
        let told = error.detail.unwrap();
        assert!(told.contains(&format!("x-request-id is {}.", log[0].request_id)), "{case}: {told}");
        shop.simulator.clear_faults();
    }
    still_exact(&shop, &mut session);
    shop.assert_no_violations().unwrap();
}

#[test]
fn no_bad_reply_in_the_middle_makes_a_short_answer() {
    let options = [("max_retries", "0"), ("max_response_bytes", "1MB")];
    let shop = Shop::open_with(Settings::of(300), &options).unwrap();
    let mut session = shop.connect().unwrap();
    for (fault, sqlstate, ..) in cases() {
        let case = format!("{fault:?} from the third request on");
        shop.simulator.fault(fault.clone(), Times::On((3..1000).collect()));
        let error = session.error(COUNT).unwrap();
        super::well_formed(&error, &case);
        assert_eq!(error.sqlstate, sqlstate, "{case}: {error}");
        shop.simulator.clear_faults();

        // Once only: asking otherwise may get round it, but then to the whole answer.
        shop.simulator.fault(fault, Times::On(vec![3]));
        match session.one(COUNT) {
            Ok(count) => assert_eq!(count, "300", "{case}"),
            Err(error) => assert_eq!(e2e::SqlError::of(&error).unwrap().sqlstate, sqlstate, "{case}"),
        }
        shop.simulator.clear_faults();
    }
    still_exact(&shop, &mut session);
}

#[test]
fn throttled_for_ever_is_told_with_who_else_may_be_at_it() {
    for fault in [Fault::Status(429), refused(Some(429), "Too many requests")] {
        let shop = impatient(10);
        let mut session = shop.connect().unwrap();
        let case = format!("{fault:?}");
        shop.simulator.fault(fault, Times::Always);
        let (error, log) = shop.watch(|| session.error(COUNT).unwrap());
        let told = Told {
            sqlstate: "53400",
            message: "too many requests for this page",
            detail: "429",
            hint: "requests_per_second",
        };
        told.check(&error, &case);
        assert!(error.hint.as_deref().unwrap().contains("who else uses this page's budget"), "{error}");
        assert!(error.detail.as_deref().unwrap().contains(&log[0].request_id), "{error}");
        assert_eq!(log.len(), 1, "{case}");
    }
}

#[test]
fn what_passes_is_tried_again_and_the_answer_is_whole() {
    for fault in [
        Fault::Status(500),
        Fault::Status(503),
        Fault::StatusAfter(429, "0".to_owned()),
        Fault::StatusAfter(429, "not a time".to_owned()),
        refused(Some(429), "Too many requests"),
        Fault::try_again(),
        Fault::Dropped,
        Fault::DroppedBeforeHeaders,
        Fault::Truncated,
        Fault::Hang,
        Fault::HangMidBody,
        refused(None, "no idea"),
    ] {
        let options = [("max_retries", "1"), ("request_timeout", "300ms")];
        let shop = Shop::open_with(Settings::of(70), &options).unwrap();
        let mut session = shop.connect().unwrap();
        shop.simulator.fault(fault.clone(), Times::Next(1));
        let told = session.explain_analyze("SELECT id FROM shop.conversations").unwrap();
        assert!(told.contains("(1 retried, ") && told.contains(" 70 rows"), "{fault:?}: {told}");
    }
}

/// What a gateway answers in the middle of a good run passes; at the first request it means a wrong
/// base_url.
#[test]
fn a_gateways_page_is_tried_again_once_the_page_has_answered() {
    for (i, fault) in [Fault::Html200, Fault::NotJson, Fault::EmptyBody].into_iter().enumerate() {
        // A page of its own: another test's may have answered at the same port.
        let page = PageSettings::new(&format!("20000000000000{i}"), "page-token-SECRET");
        let pages = vec![PageSettings { conversations: 70, ..page }];
        let settings = Settings { pages, ..Settings::default() };
        let shop = Shop::open_with(settings, &[("max_retries", "1")]).unwrap();
        let mut session = shop.connect().unwrap();
        shop.simulator.fault(fault.clone(), Times::Next(1));
        let (error, log) = shop.watch(|| session.error(COUNT).unwrap());
        assert_eq!((error.sqlstate.as_str(), log.len()), ("HV000", 1), "{fault:?}: {error}");
        assert_eq!(session.one(COUNT).unwrap(), "70");
        shop.simulator.fault(fault.clone(), Times::Next(1));
        let told = session.explain_analyze("SELECT id FROM shop.conversations").unwrap();
        assert!(told.contains("(1 retried, ") && told.contains(" 70 rows"), "{fault:?}: {told}");
    }
}

#[test]
fn a_dead_connection_costs_no_retry() {
    let shop = impatient(70);
    let mut session = shop.connect().unwrap();
    assert_eq!(session.one(COUNT).unwrap(), "70");
    shop.simulator.fault(Fault::DroppedBeforeHeaders, Times::Next(1));
    let told = session.explain_analyze("SELECT id FROM shop.conversations").unwrap();
    assert!(told.contains("(0 retried, ") && told.contains(" 70 rows"), "{told}");
    shop.assert_no_violations().unwrap();
}

#[test]
fn after_the_retries_the_error_says_how_often_it_was_tried() {
    let shop = Shop::open_with(Settings::of(10), &[("max_retries", "1")]).unwrap();
    let mut session = shop.connect().unwrap();
    shop.simulator.fault(Fault::Status(502), Times::Always);
    let begun = Instant::now();
    let (error, log) = shop.watch(|| session.error(COUNT).unwrap());
    let told = Told {
        sqlstate: "HV00M",
        message: "Pancake could not answer",
        detail: "It was tried 2 times.",
        hint: FAULT,
    };
    told.check(&error, "502 for ever");
    assert_eq!(log.len(), 2);
    assert!(begun.elapsed() >= Duration::from_secs(1), "the second try comes a second later");
    still_exact(&shop, &mut session);
}

#[test]
fn the_servers_own_rate_is_survived_in_both_forms() {
    for form in [RateForm::Http429, RateForm::Body200] {
        let shop = Shop::open(Settings::of(150)).unwrap();
        shop.simulator.switches(|switches| {
            (switches.rate, switches.rate_form) = (Some(4.0), form);
            switches.retry_after = RetryAfter::Seconds(1);
        });
        assert_eq!(shop.connect().unwrap().one(COUNT).unwrap(), "150", "{form:?}");
        assert!(shop.simulator.violations().iter().any(|told| told.contains("over the budget")));
    }
}

#[test]
fn a_redirect_is_never_followed() {
    let elsewhere = Simulator::start(Settings::of(10)).unwrap();
    let shop = impatient(10);
    let mut session = shop.connect().unwrap();
    let page = shop.simulator.first_page();
    let url = format!("{}/public_api/v2/pages/{}/conversations", elsewhere.base_url(), page.id());
    for target in [url, "/api/v1/pages".to_owned()] {
        shop.simulator.fault(Fault::Redirect(target), Times::Always);
        let (error, log) = shop.watch(|| session.error(COUNT).unwrap());
        let told = Told {
            sqlstate: "HV000",
            message: "reply is a redirect",
            detail: "HTTP 302",
            hint: "Redirects are never followed",
        };
        told.check(&error, "redirect");
        assert!(log.len() == 1 && log[0].endpoint == Endpoint::Conversations, "{log:?}");
        shop.simulator.clear_faults();
    }
    assert_eq!(elsewhere.requests(), 0);
    still_exact(&shop, &mut session);
}

#[test]
fn any_status_of_success_will_do() {
    let shop = impatient(10);
    shop.simulator.fault(Fault::OddStatus(203), Times::Always);
    assert_eq!(shop.connect().unwrap().one(COUNT).unwrap(), "10");
}

#[test]
fn a_large_reply_below_the_limit_is_read() {
    let mut settings = Settings::of(60);
    settings.pages[0].row_bytes = Some(12_000);
    let shop = Shop::open_with(settings, &[("max_retries", "0"), ("max_response_bytes", "600kB")]).unwrap();
    let mut session = shop.connect().unwrap();
    let error = session.error(COUNT).unwrap();
    assert_eq!((error.sqlstate.as_str(), error.message.as_str()), ("HV000", "reply is too large"));
    session.execute("ALTER SERVER shop OPTIONS (SET max_response_bytes '800kB')").unwrap();
    assert_eq!(session.one(COUNT).unwrap(), "60");
}
