//! For every form of request that a page may refuse or answer without rows, and for rows out of
//! their place: the doctor's line about it.

use std::time::Duration;

use e2e::{Session, Shop};
use pancake_simulator::*;

use super::super::documents::{document, joined, masked};
use super::super::errors::impatient;
use super::{ITEMS, Line, MOST, examine, polite};

const DAY: Duration = Duration::from_secs(86_400);

type Change = fn(&Simulator);

fn set(simulator: &Simulator, change: impl FnOnce(&mut Switches)) {
    simulator.switches(change);
}

/// The id of the row at this place of the list by `updated_at`.
fn id(simulator: &Simulator, place: usize) -> String {
    simulator.first_page().ids().swap_remove(place)
}

/// The ids of the list by `inserted_at`.
fn by_inserted(simulator: &Simulator) -> Vec<String> {
    let mut rows = simulator.first_page().conversations();
    rows.sort_by_key(|row| std::cmp::Reverse(row["inserted_at"].to_string()));
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap()
}

/// A page, the item that shows it, its status, and a part of its detail.
const FORMS: &[(&str, Change, &str, &str, &str)] = &[
    (
        "as documented",
        |_| (),
        "27 days",
        "ok",
        "by inserted_at and updated_at: a scan with an upper bound begins there",
    ),
    ("as documented", |_| (), "60 days", "ok", "is taken by inserted_at and updated_at, and not needed"),
    ("as documented", |_| (), "lone since", "ok", "is taken by inserted_at and updated_at, and not needed"),
    (
        "as documented",
        |_| (),
        "steps",
        "ok",
        "from mid-list by updated_at, from the last row of a batch by updated_at",
    ),
    (
        "as documented",
        |_| (),
        "messages",
        "ok",
        "current_count=29 begins with the last row of the first batch",
    ),
    ("as documented", |_| (), "posts", "ok", "of the whole time and of 27 days are given"),
    ("as documented", |_| (), "customers", "ok", "of the whole time and of 27 days are given"),
    (
        "lone since refused",
        |s| set(s, |s| s.lone_bound = FormReading::Refused),
        "lone since",
        "ok",
        "is refused by inserted_at and updated_at, and not needed",
    ),
    (
        "lone since empty",
        |s| set(s, |s| s.lone_bound = FormReading::Empty),
        "lone since",
        "ok",
        "is answered without rows",
    ),
    ("month refused", |s| set(s, |s| s.wide_window = FormReading::Refused), "60 days", "ok", "is refused by"),
    ("month refused", |s| set(s, |s| s.wide_window = FormReading::Refused), "posts", "warn", "are refused"),
    (
        "month refused",
        |s| set(s, |s| s.wide_window = FormReading::Refused),
        "customers",
        "warn",
        "are refused",
    ),
    (
        "month empty",
        |s| set(s, |s| s.wide_window = FormReading::Empty),
        "60 days",
        "ok",
        "answered without rows",
    ),
    (
        "month empty",
        |s| set(s, |s| s.wide_window = FormReading::Empty),
        "posts",
        "warn",
        "answered without rows",
    ),
    (
        "month empty",
        |s| set(s, |s| s.wide_window = FormReading::Empty),
        "customers",
        "warn",
        "answered without rows",
    ),
    ("month 500", |s| set(s, |s| s.wide_window = FormReading::Http500), "posts", "warn", "are refused"),
    (
        "27 days refused",
        |s| {
            let message = "date range must be less than 1 month!".to_owned();
            s.fault(Fault::SuccessFalse { code: None, message }, Times::On(vec![9, 10]));
        },
        "27 days",
        "warn",
        "is refused, by inserted_at and updated_at: a scan with an upper bound walks down to it from the head",
    ),
    (
        "until ignored",
        |s| set(s, |s| s.ignore_until = true),
        "27 days",
        "warn",
        "gives later rows than its until",
    ),
    (
        "a frozen row",
        |s| {
            let (id, now) = (id(s, 130), s.now());
            assert!(s.first_page().freeze(&id, now - 40 * micros(DAY)));
        },
        "places",
        "warn",
        "1 show an older time than that of their place, up to",
    ),
    (
        "a row five places too low",
        |s| assert!(s.first_page().lower(&id(s, 100), 5)),
        "places",
        "warn",
        "a newer row stands below up to 5 older ones, where scans allow for 7",
    ),
    (
        "a row nine places too low",
        |s| assert!(s.first_page().lower(&id(s, 100), 9)),
        "places",
        "fail",
        "a newer row stands below up to 9 older ones, where scans allow for 7",
    ),
    (
        "neighbours swapped",
        |s| assert!(s.first_page().swap(&by_inserted(s)[100])),
        "places",
        "ok",
        "a newer row stands below up to 1 older ones, where scans allow for 1",
    ),
    (
        "a row ahead of now",
        |s| {
            let (id, now) = (id(s, 20), s.now());
            assert!(s.first_page().set_time(&id, TimeColumn::UpdatedAt, now + micros(DAY)));
        },
        "rows",
        "warn",
        "1 dated ahead of now",
    ),
    (
        "a row without updated_at",
        |s| assert!(s.first_page().set_time_form(&id(s, 100), TimeColumn::UpdatedAt, TimeForm::Null)),
        "rows",
        "warn",
        "1 without updated_at",
    ),
    (
        "a row without inserted_at",
        |s| assert!(s.first_page().set_time_form(&id(s, 1), TimeColumn::InsertedAt, TimeForm::Missing)),
        "rows",
        "warn",
        "1 without inserted_at",
    ),
    (
        "mid-list: first page",
        |s| set(s, |s| s.middle_cursor = LostCursor::FirstPage),
        "cursor",
        "warn",
        "begins anew",
    ),
    (
        "mid-list: empty",
        |s| set(s, |s| s.middle_cursor = LostCursor::Empty),
        "cursor",
        "warn",
        "gives no rows",
    ),
    ("mid-list: 500", |s| set(s, |s| s.middle_cursor = LostCursor::Http500), "cursor", "warn", "is refused"),
    (
        "mid-list: refused",
        |s| set(s, |s| s.middle_cursor = LostCursor::SuccessFalse),
        "cursor",
        "warn",
        "is refused",
    ),
    (
        "counts rounded down",
        |s| set(s, |s| s.current_count = CountReading::RoundDown),
        "messages",
        "warn",
        "current_count=29 gives the newest batch again",
    ),
    (
        "counts rounded up",
        |s| set(s, |s| s.current_count = CountReading::RoundUp),
        "messages",
        "warn",
        "current_count=29 begins behind the last row",
    ),
    (
        "counts rounded",
        |s| set(s, |s| s.current_count = CountReading::Nearest),
        "messages",
        "warn",
        "is rounded",
    ),
    (
        "messages newest first",
        |s| set(s, |s| s.message_order = MessageOrder::Descending),
        "messages",
        "ok",
        "",
    ),
    (
        "posts of the whole time empty",
        |s| set(s, |s| (s.wide_window, s.wide_window_of) = (FormReading::Empty, vec![Endpoint::Posts])),
        "posts",
        "warn",
        "are answered without rows, though the last 27 days have some",
    ),
];

fn line(session: &mut Session, item: &str) -> Line {
    let (items, mut lines) = examine(session);
    assert_eq!(items, ITEMS);
    lines.remove(item).unwrap()
}

#[test]
fn every_form_has_its_line() {
    for (name, change, item, status, detail) in FORMS {
        let shop = impatient(3_000);
        let mut session = shop.connect().unwrap();
        change(&shop.simulator);
        let (line, log) = shop.watch(|| line(&mut session, item));
        assert_eq!(line.status, *status, "{name}: {line:?}");
        assert!(line.detail.contains(detail), "{name}: {line:?}");
        assert!(log.len() <= MOST, "{name}: {} requests", log.len());
        polite(&shop);
    }
}

/// On a page as clients met it nothing fails, and what costs more is a warning.
#[test]
fn a_page_as_clients_met_it() {
    let shop = Shop::open(Settings::of(3_000).as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    // Near the head, where the doctor looks.
    let page = shop.simulator.first_page();
    for id in page.ids().iter().skip(30).take(4) {
        assert!(page.freeze(id, shop.simulator.now() - 6 * micros(DAY)));
    }
    let ((items, lines), log) = shop.watch(|| examine(&mut session));
    assert_eq!(items, ITEMS);
    for (item, line) in &lines {
        let expected = match item.as_str() {
            "order" | "places" | "posts" | "customers" => "warn",
            _ => "ok",
        };
        assert!(line.status == expected || (item == "order" && line.status == "ok"), "{item}: {line:?}");
    }
    assert!(lines["lone since"].detail.contains("is refused by inserted_at and updated_at, and not needed"));
    assert!(log.len() <= MOST, "{} requests", log.len());
    let documented = masked(&joined(&document("docs/doctor.md")));
    for (item, line) in lines.iter().filter(|(item, line)| *item != "order" && line.status == "warn") {
        let shown = format!("{item} {} {}", line.status, line.detail);
        assert!(documented.contains(&masked(&joined(&shown))), "docs/doctor.md does not show: {shown}");
    }
}

/// Frozen rows, refused forms and rows that move while they are read: still nothing fails.
#[test]
fn a_busy_page_as_clients_met_it_does_not_fail() {
    let shop = impatient(3_000);
    shop.simulator.as_seen();
    let churn = Churn { messages: 1.0, creates: 0.5, deletes: 0.2, ..Churn::default() };
    shop.simulator.switches(|switches| switches.churn = churn);
    let mut session = shop.connect().unwrap();
    for _ in 0..5 {
        let (items, lines) = examine(&mut session);
        assert_eq!(items, ITEMS);
        assert!(lines.values().all(|line| line.status != "fail"), "{lines:?}");
        assert!(lines.values().all(|line| !line.hint.contains("pushdown")), "{lines:?}");
    }
}

/// What a request is refused for ends nothing: with any refusal at any request every item has its
/// line.
#[test]
fn no_refusal_ends_an_examination() {
    let shop = impatient(3_000);
    let mut session = shop.connect().unwrap();
    let refused = |message: &str| Fault::SuccessFalse { code: None, message: message.to_owned() };
    for fault in [
        refused("Since must be provided with until"),
        refused("An error occurred. Please try again later."),
        Fault::Status(400),
        Fault::Status(404),
        Fault::Html200,
        Fault::MissingArray,
    ] {
        for first in (3..=39).step_by(3) {
            shop.simulator.fault(fault.clone(), Times::On((first..first + 4).collect()));
            let ((items, lines), log) = shop.watch(|| examine(&mut session));
            shop.simulator.clear_faults();
            assert_eq!(items, ITEMS, "{fault:?} {first}: {lines:?}");
            assert!(log.len() <= MOST, "{fault:?} {first}: {} requests", log.len());
        }
    }
}

/// However much is refused, no more is asked.
#[test]
fn a_page_that_refuses_all_but_the_heads_costs_forty_requests_at_most() {
    let shop = impatient(3_000);
    let mut session = shop.connect().unwrap();
    shop.simulator.fault(Fault::Status(500), Times::On((3..=100).collect()));
    let ((items, lines), log) = shop.watch(|| examine(&mut session));
    assert_eq!(items, ITEMS, "{lines:?}");
    assert!(log.len() <= MOST, "{} requests", log.len());
}
