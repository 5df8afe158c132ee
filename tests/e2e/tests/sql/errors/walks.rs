//! Lists that lead nowhere: whatever parameter the server ignores, the answer is whole or an error.

use e2e::{Session, Shop};
use pancake_simulator::{LostCursor, Settings, Switches};

use super::{COUNT, well_formed};

/// The whole answer, or HV000: never a short one.
fn exact_or_refused(session: &mut Session, query: &str, expected: &str, case: &str) -> bool {
    match session.one(query) {
        Ok(count) => {
            assert_eq!(count, expected, "{case}");
            true
        }
        Err(error) => {
            let error = e2e::SqlError::of(&error).unwrap_or_else(|| panic!("{case}: {error:#}"));
            well_formed(error, case);
            assert_eq!(error.sqlstate, "HV000", "{case}: {error}");
            assert!(error.detail.is_some(), "{case}: {error}");
            false
        }
    }
}

fn shop(change: impl FnOnce(&mut Switches)) -> (Shop<'static>, Session) {
    let shop = Shop::open_with(Settings::of(200), &[("max_retries", "0")]).unwrap();
    shop.simulator.switches(change);
    let mut session = shop.connect().unwrap();
    session.execute("SET statement_timeout = '20s'").unwrap();
    (shop, session)
}

#[test]
fn parameters_that_are_ignored_never_shorten_the_answer() {
    let wide = "SELECT count(*) FROM shop.conversations WHERE updated_at > '2000-01-01'";
    for ignored in 0..16_u32 {
        let (_shop, mut session) = shop(|switches| {
            switches.ignore_cursor = ignored & 1 != 0;
            switches.ignore_until = ignored & 2 != 0;
            switches.ignore_since = ignored & 4 != 0;
            switches.ignore_order_by = ignored & 8 != 0;
        });
        let case = format!("ignored: {ignored:04b}");
        for query in [COUNT, wide] {
            let exact = exact_or_refused(&mut session, query, "200", &case);
            // `since` only saves requests.
            assert!(exact || ignored & 0b1011 != 0, "{case}: {query}");
        }
    }
}

#[test]
fn a_cursor_that_never_advances_is_got_round_or_refused() {
    let (shop, mut session) = shop(|switches| switches.ignore_cursor = true);
    // Each part of a walk that is cut gives up by itself.
    session.execute("SET pancake_fdw.max_concurrency = 1").unwrap();
    let (_, log) = shop.watch(|| exact_or_refused(&mut session, COUNT, "200", "cursor ignored"));
    assert!(log.len() < 100, "{} requests", log.len());

    shop.simulator.switches(|switches| switches.ignore_until = true);
    let (exact, log) =
        shop.watch(|| exact_or_refused(&mut session, COUNT, "200", "cursor and until ignored"));
    assert!(!exact, "there is no way on");
    assert!(log.len() < 100, "{} requests", log.len());
}

#[test]
fn a_cursor_that_is_refused_costs_no_row() {
    for lost in [LostCursor::FirstPage, LostCursor::Empty, LostCursor::Http500, LostCursor::SuccessFalse] {
        let (shop, mut session) = shop(|switches| switches.lost_cursor = lost);
        let page = shop.simulator.first_page();
        session.execute("BEGIN; DECLARE walk CURSOR FOR SELECT id FROM shop.conversations").unwrap();
        let mut given = session.column("FETCH 100 FROM walk").unwrap();
        // Every row that a cursor could be vanishes.
        for id in &given {
            assert!(page.delete(id));
        }
        given.extend(session.column("FETCH ALL FROM walk").unwrap());
        given.sort();
        given.dedup();
        assert_eq!(given.len(), 200, "{lost:?}");
        session.execute("COMMIT").unwrap();
        assert_eq!(session.one(COUNT).unwrap(), "100");
    }
}

/// By `inserted_at` a list in a looser order than is assumed is an error each time, whether or not
/// a statement asks for the order.
#[test]
fn a_list_in_another_order_is_exact_or_refused() {
    let shop = Shop::open_with(Settings::of(1_000), &[("max_retries", "0")]).unwrap();
    let mut session = shop.connect().unwrap();
    shop.simulator.switches(|switches| switches.ignore_order_by = true);
    let page = shop.simulator.first_page();
    // The oldest conversations get the newest messages.
    let ids: Vec<String> = page.ids();
    for id in ids.iter().rev().step_by(2) {
        page.message(id);
    }
    let ordered = "SELECT id FROM shop.conversations ORDER BY inserted_at DESC LIMIT 100";
    for _ in 0..3 {
        let (error, log) = shop.watch(|| session.error(ordered).unwrap());
        well_formed(&error, "order");
        assert_eq!(error.sqlstate, "HV000");
        assert_eq!(error.message, "reply is not in the order that was asked for");
        assert!(error.detail.unwrap().contains(&log.last().unwrap().request_id));
        exact_or_refused(&mut session, COUNT, "1000", "order");
        let bounded = format!("{COUNT} WHERE inserted_at > '2000-01-01'");
        exact_or_refused(&mut session, &bounded, "1000", "order and bound");
    }
}
