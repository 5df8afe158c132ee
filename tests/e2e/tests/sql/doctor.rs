//! `pancake.doctor`: what is wrong is a row, not an error; at most forty requests, and no token.
//! For every way in which a page may answer, `readings` (of filters) and `forms` (of requests and
//! rows) hold the verdict.

mod forms;
mod readings;

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::{Session, Shop};
use pancake_simulator::*;

use super::errors::impatient;

const DOCTOR: &str = "SELECT item, status, detail, hint FROM pancake.doctor('shop')";
/// Requests of one examination at most.
const MOST: usize = 40;
const ITEMS: [&str; 26] = [
    "server",
    "token",
    "page",
    "API",
    "reply",
    "rows",
    "clock",
    "order",
    "cursor",
    "steps",
    "places",
    "27 days",
    "60 days",
    "lone since",
    "type",
    "tags",
    "post_ids",
    "since",
    "until",
    "time column",
    "messages",
    "posts",
    "customers",
    "posts.id",
    "users.id",
    "pages",
];

#[derive(Debug, Default)]
struct Line {
    status: String,
    detail: String,
    hint: String,
}

fn examine(session: &mut Session) -> (Vec<String>, BTreeMap<String, Line>) {
    let rows = session.rows(DOCTOR).unwrap();
    let lines = rows.into_iter().map(|row| {
        let [item, status, detail, hint]: [String; 4] =
            row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().try_into().unwrap();
        for secret in ["SECRET", "access_token=", "panicked"] {
            assert!(!format!("{detail}{hint}").contains(secret), "{item}: {detail} {hint}");
        }
        assert!(hint.is_empty() || hint.ends_with(['.', ';']), "{item}: {hint}");
        (item, Line { status, detail, hint })
    });
    let lines: Vec<_> = lines.collect();
    (lines.iter().map(|(item, _)| item.clone()).collect(), lines.into_iter().collect())
}

/// The simulator reports a violation of one thing alone: that the doctor asks for two types in the
/// article's way.
pub fn polite(shop: &Shop) {
    let violations = shop.simulator.violations();
    assert!(violations.iter().all(|c| c.starts_with("repeated parameter `type`")), "{violations:?}");
}

#[test]
fn a_healthy_page_is_told_in_thirty_five_requests() {
    let page = PageSettings::new("doctor:1", "page-token-SECRET");
    let shop = Shop::open(Settings { pages: vec![page], ..Settings::default() }).unwrap();
    let mut session = shop.connect().unwrap();
    let ((items, lines), log) = shop.watch(|| examine(&mut session));
    assert_eq!(items, ITEMS);
    for (item, line) in &lines {
        assert_eq!((line.status.as_str(), line.hint.as_str()), ("ok", ""), "{item}: {line:?}");
    }
    assert!(log.len() <= 35, "{} requests", log.len());
    assert!(log.iter().all(|entry| entry.method == "GET"));
    assert_eq!(
        session.one("SELECT requests FROM pancake.request_stats WHERE page_id = 'doctor:1'").unwrap(),
        log.len().to_string()
    );
    polite(&shop);
    // It writes nothing, so it may stand where nothing may be written.
    session.execute("BEGIN READ ONLY").unwrap();
    assert_eq!(examine(&mut session).0, ITEMS);
    session.execute("COMMIT").unwrap();
}

#[test]
fn a_page_that_is_busy_or_answers_in_short_batches_is_not_slandered() {
    let shop = impatient(3_000);
    let mut session = shop.connect().unwrap();
    let churn = Churn { messages: 1.0, creates: 0.5, deletes: 0.5, retags: 1.0, ..Churn::default() };
    for (short_batches, churn) in [(0.5, Churn::default()), (0.0, churn), (0.3, churn)] {
        shop.simulator.switches(|switches| (switches.short_batches, switches.churn) = (short_batches, churn));
        for _ in 0..5 {
            let (items, lines) = examine(&mut session);
            assert_eq!(items, ITEMS);
            assert!(lines.values().all(|line| line.status != "fail"), "{lines:?}");
            assert!(lines.values().all(|line| !line.hint.contains("pushdown")), "{lines:?}");
        }
    }
}

#[test]
fn an_idle_page_is_told_as_such() {
    for (conversations, as_seen) in [0, 1, 3, 8].into_iter().flat_map(|n| [(n, false), (n, true)]) {
        let shop = impatient(conversations);
        if as_seen {
            shop.simulator.as_seen();
        }
        let mut session = shop.connect().unwrap();
        let (items, lines) = examine(&mut session);
        assert!(lines.values().all(|line| line.status != "fail"), "{conversations}: {lines:?}");
        assert!(lines.values().all(|line| !line.hint.contains("pushdown")), "{conversations}: {lines:?}");
        let untried = |item: &str| {
            lines[item].status == "warn" && lines[item].detail.starts_with("could not be tried: ")
        };
        match conversations {
            0 => {
                let all_of_an_empty_list: Vec<_> = ITEMS[..7].iter().chain(&["pages"]).copied().collect();
                assert_eq!(items, all_of_an_empty_list);
                assert!(lines["reply"].status == "warn" && lines["reply"].detail.contains("without rows"));
            }
            1 => assert!(["type", "since", "until", "cursor"].into_iter().all(untried), "{lines:?}"),
            _ => assert_eq!(items, ITEMS),
        }
        polite(&shop);
    }
    let one_type = impatient(0);
    let page = one_type.simulator.first_page();
    (0..20).for_each(|_| drop(page.create("INBOX")));
    let (_, lines) = examine(&mut one_type.connect().unwrap());
    assert!(lines["type"].detail.starts_with("could not be tried: "), "{lines:?}");
    assert!(lines["tags"].detail.starts_with("could not be tried: none of the newest"), "{lines:?}");
    assert_eq!(lines["post_ids"].detail, "could not be tried: no comment of a post");
}

#[test]
fn unusual_rows_are_counted() {
    let shop = impatient(100);
    let page = shop.simulator.first_page();
    page.insert_row(serde_json::json!({"id": "odd", "type": "INBOX", "updated_at": null, "tags": {"0": 61}}));
    let (items, lines) = examine(&mut shop.connect().unwrap());
    assert_eq!(items, ITEMS);
    let rows = &lines["rows"];
    assert_eq!(rows.status, "warn");
    for part in ["of 101 rows 1 without updated_at", "1 without inserted_at", "1 with tags that are no list"]
    {
        assert!(rows.detail.contains(part), "{rows:?}");
    }
}

#[test]
fn the_list_of_a_users_pages_is_examined_with_the_users_token() {
    let shop = impatient(20);
    let mut session = shop.connect().unwrap();
    let set = |session: &mut Session, verb: &str, token: &str| {
        let alter = format!(
            "ALTER USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS ({verb} access_token '{token}')"
        );
        session.execute(&alter).unwrap();
    };
    set(&mut session, "ADD", shop.simulator.user_token());
    for form in [PagesForm::Categorized, PagesForm::Flat, PagesForm::Data] {
        shop.simulator.switches(|switches| switches.pages_form = form);
        let pages = &examine(&mut session).1["pages"];
        assert_eq!((pages.status.as_str(), pages.hint.as_str()), ("ok", ""), "{form:?}: {pages:?}");
        assert!(pages.detail.ends_with("is one of the user's 1 pages"), "{pages:?}");
    }
    set(&mut session, "SET", "wrong-token-SECRET");
    let pages = &examine(&mut session).1["pages"];
    assert_eq!(pages.status, "fail");
    assert!(pages.hint.contains("a page_access_token does not work here"), "{pages:?}");
}

#[test]
fn rows_as_the_article_shows_them_are_examined_as_well() {
    let page = PageSettings { shape: Shape::Article, conversations: 3_000, ..PageSettings::default() };
    let shop = Shop::open(Settings { pages: vec![page], ..Settings::default() }).unwrap();
    let (items, lines) = examine(&mut shop.connect().unwrap());
    assert_eq!(items, ITEMS);
    assert!(lines.values().all(|line| line.status != "fail"), "{lines:?}");
    for item in ["page", "type", "tags", "since", "until", "cursor"] {
        assert_eq!(lines[item].status, "ok", "{item}: {lines:?}");
    }
}

/// What is wrong at the beginning is the last line.
fn ends_with(lines: &(Vec<String>, BTreeMap<String, Line>), item: &str, detail: &str, hint: &str) {
    let (items, lines) = lines;
    assert_eq!(items.last().map(String::as_str), Some(item), "{lines:?}");
    let line = &lines[item];
    assert_eq!(line.status, "fail", "{line:?}");
    assert!(line.detail.contains(detail) && line.hint.contains(hint), "{line:?}");
    assert!(items.len() == 1, "{items:?}");
}

#[test]
fn what_pancake_refuses_is_a_line() {
    let shop = impatient(100);
    let mut session = shop.connect().unwrap();
    let refused =
        |code: Option<i64>, message: &str| Fault::SuccessFalse { code, message: message.to_owned() };
    let (copy, switch_on) = ("Cài đặt → Công cụ → Pancake API", "Switch the API on");
    for (fault, item, detail, hint) in [
        (Fault::Status(401), "token", "page access token was refused: Pancake answered HTTP 401", copy),
        (refused(Some(101), "missing"), "token", "is missing: ", copy),
        (refused(Some(102), "invalid"), "token", "is not valid: ", copy),
        (refused(Some(103), "expired"), "token", "has expired: ", copy),
        (refused(Some(105), "renewed"), "token", "was regenerated: ", copy),
        (Fault::Status(403), "API", "access to this page is forbidden", switch_on),
        (refused(Some(106), "no"), "API", "no permission for this page", "make the token with another"),
        (refused(Some(107), "no"), "API", "no permission for this page", "make the token with another"),
        (refused(Some(121), "no"), "API", "page has no valid subscription", switch_on),
        (refused(Some(122), "no"), "API", "page has no valid subscription", switch_on),
        (Fault::Status(404), "page", "page not found", "page_id"),
        (Fault::Html200, "reply", "reply is a web page, not JSON", "base_url"),
        (Fault::Truncated, "reply", "reply is truncated", ""),
        (Fault::MissingArray, "reply", "reply has no list of conversations", ""),
        (
            Fault::Redirect("https://elsewhere.example/?page_access_token=page-token-SECRET-1".into()),
            "reply",
            "reply is a redirect",
            "base_url",
        ),
        (Fault::Status(503), "reply", "Pancake could not answer", "Pancake's side"),
        (Fault::Status(429), "reply", "too many requests for this page", "requests_per_second"),
        (refused(Some(102), "token page-token-SECRET-1"), "token", "token ***", copy),
        (Fault::DroppedBeforeHeaders, "server", "connection was lost", "network"),
    ] {
        shop.simulator.fault(fault, Times::Always);
        ends_with(&examine(&mut session), item, detail, hint);
        shop.simulator.clear_faults();
    }
    assert_eq!(examine(&mut session).0, ITEMS);
}

/// An error in the middle ends the examination there: what came before stands.
#[test]
fn what_fails_on_the_way_is_the_last_line() {
    let shop = impatient(3_000);
    let mut session = shop.connect().unwrap();
    let renewed = Fault::SuccessFalse { code: Some(105), message: "renewed".to_owned() };
    for nth in 2..=34 {
        shop.simulator.fault(renewed.clone(), Times::On(vec![nth]));
        let (items, lines) = examine(&mut session);
        shop.simulator.clear_faults();
        assert_eq!(items.last().map(String::as_str), Some("token"), "{nth}: {items:?}");
        assert!(
            lines["token"].status == "fail" && lines["token"].detail.contains("regenerated"),
            "{nth}: {lines:?}"
        );
        assert_eq!(items.iter().filter(|item| *item == "token").count(), 1, "{nth}: {items:?}");
        assert_eq!(lines["server"].status, "ok", "{nth}");
    }
}

#[test]
fn a_passing_error_is_no_verdict() {
    let shop = impatient(3_000);
    let mut session = shop.connect().unwrap();
    for nth in 3..=34 {
        shop.simulator.fault(Fault::Status(500), Times::On(vec![nth]));
        let (items, lines) = examine(&mut session);
        shop.simulator.clear_faults();
        let mut verdicts = lines.values().filter(|line| line.status != "ok");
        // Of the plain lists there is no second try here: max_retries is 0.
        match verdicts.next() {
            None => assert_eq!(items, ITEMS),
            Some(line) => assert!(line.detail.starts_with("Pancake could not answer"), "{nth}: {line:?}"),
        }
    }
}

#[test]
fn what_is_wrong_here_is_a_line_and_costs_no_request() {
    let shop = impatient(100);
    let mut session = shop.connect().unwrap();
    session.execute("CREATE ROLE \"Chị Lan\" LOGIN; CREATE ROLE nobody_here").unwrap();
    let ((), log) = shop.watch(|| {
        session.execute("SET ROLE \"Chị Lan\"").unwrap();
        ends_with(
            &examine(&mut session),
            "server",
            "permission denied",
            "GRANT USAGE ON FOREIGN SERVER shop TO \"Chị Lan\";",
        );
        session
            .execute("RESET ROLE; GRANT USAGE ON FOREIGN SERVER shop TO \"Chị Lan\"; SET ROLE \"Chị Lan\"")
            .unwrap();
        ends_with(
            &examine(&mut session),
            "token",
            "no user mapping for \"Chị Lan\" on server \"shop\"",
            "CREATE USER MAPPING FOR \"Chị Lan\" SERVER shop OPTIONS (page_access_token '…');",
        );
        session.execute("RESET ROLE").unwrap();
        session
            .execute("ALTER USER MAPPING FOR postgres SERVER shop OPTIONS (DROP page_access_token)")
            .unwrap();
        ends_with(
            &examine(&mut session),
            "token",
            "has no page access token",
            "ALTER USER MAPPING FOR postgres",
        );
        session.execute("ALTER SERVER shop OPTIONS (DROP page_id)").unwrap();
        ends_with(
            &examine(&mut session),
            "page",
            "the server names no page, nor does any table of it",
            "ALTER SERVER shop OPTIONS (ADD page_id '…'); or name the page where tables are made: \
             IMPORT FOREIGN SCHEMA pancake FROM SERVER shop INTO … OPTIONS (page_id '…');",
        );
    });
    assert!(log.is_empty());
    session
        .execute("REVOKE USAGE ON FOREIGN SERVER shop FROM \"Chị Lan\"; DROP ROLE \"Chị Lan\", nobody_here")
        .unwrap();

    let none = session.error("SELECT * FROM pancake.doctor('nowhere')").unwrap();
    assert_eq!(
        (none.sqlstate.as_str(), none.message.as_str()),
        ("42704", "server \"nowhere\" does not exist")
    );
    session
        .execute("CREATE FOREIGN DATA WRAPPER other; CREATE SERVER elsewhere FOREIGN DATA WRAPPER other")
        .unwrap();
    let other = session.error("SELECT * FROM pancake.doctor('elsewhere')").unwrap();
    assert_eq!(other.message, "server \"elsewhere\" is not a server of pancake_fdw");
    assert_eq!(session.column(&other.hint.unwrap().replace("Its servers: ", "")).unwrap(), ["shop"]);
    assert_eq!(session.rows("SELECT * FROM pancake.doctor(NULL)").unwrap().len(), 0);
}

#[test]
fn a_wrong_page_a_wrong_token_and_a_closed_page() {
    let shop = impatient(100);
    let mut session = shop.connect().unwrap();
    let page = shop.simulator.first_page();
    page.deny(Some(Denial::Http403));
    ends_with(&examine(&mut session), "API", "HTTP 403", "Switch the API on");
    page.deny(None);
    page.set_token("SECRET-new");
    ends_with(&examine(&mut session), "token", "was regenerated", "Copy the page's token");
    session
        .execute("ALTER USER MAPPING FOR postgres SERVER shop OPTIONS (SET page_access_token 'SECRETx')")
        .unwrap();
    ends_with(&examine(&mut session), "token", "is not valid", "Copy the page's token");
    session.execute("ALTER SERVER shop OPTIONS (SET page_id '42')").unwrap();
    ends_with(&examine(&mut session), "page", "HTTP 404", "page_id");
    session.execute("ALTER SERVER shop OPTIONS (SET base_url 'http://127.0.0.1:1/api')").unwrap();
    ends_with(&examine(&mut session), "server", "could not connect to the API", "network");
}

#[test]
fn clocks_that_differ_are_told() {
    let shop = impatient(3_000);
    let mut session = shop.connect().unwrap();
    shop.simulator.advance(Duration::from_secs(300));
    let (items, lines) = examine(&mut session);
    assert_eq!(items, ITEMS);
    assert_eq!(lines["clock"].status, "warn");
    assert!(lines["clock"].detail.contains("s behind Pancake's"), "{lines:?}");
    assert!(lines["clock"].hint.contains("NTP"));
}

#[test]
fn a_trusted_filter_that_loses_rows_is_a_failure() {
    let shop = Shop::open_with(Settings::of(3_000), &[("pushdown", "type,post_id")]).unwrap();
    shop.simulator.switches(|switches| switches.post_ids = PostIdsReading::NothingWithoutPost);
    let (_, lines) = examine(&mut shop.connect().unwrap());
    let line = &lines["post_ids"];
    assert!(line.status == "fail" && line.detail.contains("the option pushdown trusts it"), "{line:?}");
    assert!(line.hint.contains("ALTER SERVER shop OPTIONS (SET pushdown 'type');"), "{line:?}");
}

#[test]
fn a_trusted_filter_that_is_ignored_costs_walks_and_is_told_how_to_be_kept_back() {
    let shop = Shop::open_with(Settings::of(3_000), &[("pushdown", "type,post_id")]).unwrap();
    shop.simulator.switches(|switches| switches.post_ids = PostIdsReading::Ignored);
    let mut session = shop.connect().unwrap();
    let line = &examine(&mut session).1["post_ids"];
    assert!(
        line.status == "warn" && line.detail.contains("a walk of its own over the whole page"),
        "{line:?}"
    );
    let remedy = "ALTER SERVER shop OPTIONS (SET pushdown 'type');";
    assert!(line.hint.contains(remedy), "{line:?}");
    // It reports what is so.
    let post = session.one("SELECT min(post_id) FROM shop.conversations WHERE type = 'COMMENT'").unwrap();
    let sql = format!("EXPLAIN SELECT id FROM shop.conversations WHERE post_id = '{post}'");
    let sent = |session: &mut Session| session.column(&sql).unwrap().join("\n").contains("post_ids=");
    assert!(sent(&mut session));
    session.execute(remedy).unwrap();
    assert!(!sent(&mut session));
    polite(&shop);
}

#[test]
fn a_server_without_a_page_is_examined_by_the_pages_of_its_tables() {
    let pages = (0..3).map(PageSettings::numbered).map(|page| PageSettings { conversations: 300, ..page });
    let shop = Shop::open(Settings { pages: pages.collect(), ..Settings::default() }).unwrap();
    let ids = shop.simulator.page_ids();
    let mut session = shop.connect().unwrap();
    session.execute("ALTER SERVER shop OPTIONS (DROP page_id)").unwrap();
    let table = |session: &mut Session, name: &str, page_id: &str| {
        let sql = format!(
            "CREATE FOREIGN TABLE {name} (id text) SERVER shop OPTIONS (object 'tags', page_id '{page_id}')"
        );
        session.execute(&sql).unwrap();
    };
    session
        .execute("CREATE FOREIGN TABLE anothers (id text) SERVER shop2 OPTIONS (object 'tags', page_id '1')")
        .unwrap();
    table(&mut session, "one", &ids[0]);
    table(&mut session, "same", &ids[0]);
    let (items, lines) = examine(&mut session);
    assert_eq!(items, ITEMS);
    let told = format!(
        "{} is the page of its rows; the server names no page, and all tables of it that do name this one",
        ids[0]
    );
    assert_eq!((lines["page"].status.as_str(), lines["page"].detail.as_str()), ("ok", told.as_str()));
    table(&mut session, "third", &ids[2]);
    table(&mut session, "second", &ids[1]);
    let (items, lines) = examine(&mut session);
    assert_eq!(items, ITEMS);
    let page = &lines["page"];
    assert!(page.status == "ok" && page.detail.starts_with(&ids[0]), "{page:?}");
    assert!(
        page.detail
            .ends_with("; the server names no page, and this is the first of the 3 that its tables name"),
        "{page:?}"
    );
    polite(&shop);
}

#[test]
fn a_cancel_ends_it_whatever_it_waits_for() {
    let shop = Shop::open_with(Settings::of(300), &[("request_timeout", "1h")]).unwrap();
    let mut session = shop.connect().unwrap();
    for nth in [1, 2, 5, 9] {
        shop.simulator.fault(Fault::Hang, Times::On(vec![nth]));
        session.execute("SET statement_timeout = '2s'").unwrap();
        assert_eq!(session.error(DOCTOR).unwrap().sqlstate, "57014", "{nth}");
        shop.simulator.clear_faults();
        super::cancel::until("the request is given up", || shop.simulator.in_flight() == 0);
    }
    session.execute("SET statement_timeout = 0").unwrap();
    assert_eq!(examine(&mut session).0, ITEMS);
}
