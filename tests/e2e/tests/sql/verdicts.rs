//! What a page refuses is remembered for all sessions: the first statement pays for it, the next
//! ones do not, and EXPLAIN shows the longer way.

use e2e::{ONE_CHAIN, Session, Shop};
use pancake_simulator::{Endpoint, Entry, FormReading, Settings};

const MONTH_SECONDS: i64 = 28 * 86_400;

fn open() -> (Shop<'static>, Session) {
    let shop = Shop::open_with(Settings::of(400), &[ONE_CHAIN, ("max_retries", "0")]).unwrap();
    let session = shop.connect().unwrap();
    (shop, session)
}

/// How many seconds the window of a request has, if it has one.
fn width(entry: &Entry) -> Option<i64> {
    let second = |name| entry.param(name)?.parse::<i64>().ok();
    Some(second("until")? - second("since")?)
}

/// How many requests of a statement have a window wider than this.
fn wider(shop: &Shop, session: &mut Session, sql: &str, than: i64) -> usize {
    let ((), log) = shop.watch(|| session.execute(sql).unwrap());
    log.iter().filter(|entry| width(entry).is_some_and(|width| width > than)).count()
}

fn detour(session: &mut Session, sql: &str) -> Option<String> {
    let plan = session.explain(sql).unwrap();
    let line = plan.lines().find_map(|line| line.trim().strip_prefix("Pancake Detour: "));
    line.map(str::to_owned)
}

#[test]
fn windows_that_are_refused_are_sent_by_one_statement() {
    let past = "SELECT count(*) FROM shop.conversations WHERE inserted_at < now() - interval '40 days'";
    let (shop, mut session) = open();
    assert_eq!(detour(&mut session, past), None);
    for _ in 0..2 {
        assert!(wider(&shop, &mut session, past, 0) > 0, "where they are taken each statement sends one");
    }
    // A refusal that names the times is remembered at once, another after two statements, and an
    // empty reply once rows have come that it left out.
    for reading in [FormReading::Refused, FormReading::Http500, FormReading::Empty] {
        let (shop, mut session) = open();
        shop.simulator.switches(|switches| switches.windows = reading);
        let expected = session.one(past).unwrap();
        if reading == FormReading::Http500 {
            assert_eq!(detour(&mut session, past), None);
            assert_eq!(session.one(past).unwrap(), expected);
        }
        assert_eq!(
            detour(&mut session, past).as_deref(),
            Some("the page refuses windows of time: one stream from the newest row"),
            "{reading:?}"
        );
        let mut other = shop.connect().unwrap();
        assert_eq!(wider(&shop, &mut other, past, 0), 0, "{reading:?}");
        assert_eq!(other.one(past).unwrap(), expected);
    }
}

#[test]
fn windows_of_a_month_that_are_refused_are_sent_by_one_statement() {
    for (list, endpoint) in [("customers", Endpoint::Customers), ("posts", Endpoint::Posts)] {
        let count = format!("SELECT count(*) FROM shop.{list}");
        // A failure that names nothing counts from the second one on.
        for (reading, statements) in
            [(FormReading::Refused, 1), (FormReading::Empty, 1), (FormReading::Http500, 2)]
        {
            let (shop, mut session) = open();
            let expected = session.one(&count).unwrap();
            shop.simulator.switches(|switches| {
                switches.wide_window = reading;
                switches.wide_window_of = vec![endpoint];
            });
            for _ in 0..statements {
                assert_eq!(detour(&mut session, &count), None);
                assert_eq!(session.one(&count).unwrap(), expected, "{list} {reading:?}");
            }
            let shown = detour(&mut session, &count);
            assert_eq!(shown.as_deref(), Some("the page refuses windows of a month: slices of 27 days"));
            assert_eq!(wider(&shop, &mut session, &count, MONTH_SECONDS - 1), 0, "{list} {reading:?}");
        }
    }
}

#[test]
fn an_upper_bound_is_not_sent_to_a_page_that_was_seen_out_of_order() {
    let (shop, mut session) = open();
    let page = shop.simulator.first_page();
    let bounded = "SELECT count(*) FROM shop.conversations
        WHERE updated_at BETWEEN now() - interval '200 days' AND now() - interval '40 days'";
    assert!(wider(&shop, &mut session, bounded, 0) > 0);
    // The newest row shows a time of half a year ago.
    let newest = page.ids()[0].clone();
    let old = session.one("SELECT (extract(epoch FROM now() - interval '180 days') * 1e6)::bigint").unwrap();
    assert!(page.freeze(&newest, old.parse().unwrap()));
    session
        .one("SELECT count(*) FROM shop.conversations WHERE updated_at > now() - interval '10 days'")
        .unwrap();
    let shown = detour(&mut session, bounded);
    assert_eq!(shown.as_deref(), Some("the page lists rows out of order: from the newest row"));
    assert_eq!(wider(&shop, &mut session, bounded, 0), 0);
    let plan = session.explain(bounded).unwrap();
    assert!(!plan.contains("until="), "{plan}");
    let found = format!("{bounded} AND id = '{newest}'");
    assert_eq!(session.one(&found).unwrap(), "1");
}
