//! Several pages in one statement that does not come to its end: one page fails, or no more rows
//! are needed.

use std::time::{Duration, Instant};

use e2e::Session;
use pancake_simulator::{Fault, Only, Times};

use super::{open, requests_by_page};
use crate::cancel::until;

const COUNT: &str = "SELECT count(*) FROM live";
/// What is promised is 100 ms; the rest is for a loaded machine.
const SOON: Duration = Duration::from_secs(1);

fn of_page(page_id: &str, cursor: Option<bool>) -> Only {
    Only { page_id: Some(page_id.to_owned()), cursor, ..Only::default() }
}

fn expired() -> Fault {
    Fault::SuccessFalse { code: Some(103), message: "expired".to_owned() }
}

#[test]
fn the_error_of_one_page_is_the_statements() {
    let (shop, mut session) = open(4, 200);
    let ids = shop.simulator.page_ids();
    for cursor in [false, true] {
        shop.simulator.fault_on(of_page(&ids[2], Some(cursor)), expired(), Times::Always);
        let error = session.error(COUNT).unwrap();
        assert_eq!(
            (error.sqlstate.as_str(), error.message.as_str()),
            ("28000", "page access token has expired")
        );
        until("the other pages are given up", || shop.simulator.in_flight() == 0);
        // What was on its way may still arrive.
        std::thread::sleep(super::LATENCY);
        let asked = shop.simulator.log().len();
        std::thread::sleep(super::LATENCY * 3);
        assert_eq!(shop.simulator.log().len(), asked);
        assert_eq!(session.one(super::RUNNING).unwrap(), "0");
        shop.simulator.clear_faults();
        assert_eq!(session.one(COUNT).unwrap(), "800");
    }
    // A page that is left out does no harm.
    shop.simulator.fault_on(of_page(&ids[3], None), expired(), Times::Always);
    let others = format!("SELECT count(*) FROM live WHERE page_id IN ('{}', '{}')", ids[0], ids[1]);
    assert_eq!(session.one(&others).unwrap(), "400");
    shop.assert_no_violations().unwrap();
}

#[test]
fn a_page_that_comes_late_does_not_hold_up_the_others() {
    let (shop, mut session) = open(3, 200);
    let ids = shop.simulator.page_ids();
    shop.simulator.fault_on(of_page(&ids[0], Some(false)), Fault::Status(500), Times::Next(1));
    shop.simulator.clear_log();
    assert_eq!(session.one(COUNT).unwrap(), "600");
    let log = shop.simulator.log();
    let retried = log.iter().filter(|entry| entry.page_id == ids[0]).nth(1).unwrap().at;
    let before: Vec<_> = log.iter().filter(|entry| entry.at < retried).cloned().collect();
    let others = requests_by_page(&before);
    assert!(others[ids[1].as_str()] > 3 && others[ids[2].as_str()] > 3, "{others:?}");
}

#[test]
fn cancel_and_timeouts_end_the_wait_for_all_pages() {
    let (shop, mut session) = open(4, 70);
    shop.simulator.fault(Fault::Hang, Times::Always);
    session.execute("SET statement_timeout = '300ms'").unwrap();
    let begun = Instant::now();
    assert_eq!(session.error(COUNT).unwrap().sqlstate, "57014");
    assert!(begun.elapsed() < Duration::from_millis(300) + SOON, "{:?}", begun.elapsed());
    session.execute("RESET statement_timeout").unwrap();
    until("requests are given up", || shop.simulator.in_flight() == 0);

    let pid = session.pid().unwrap();
    let mut watcher = shop.connect().unwrap();
    for end in ["pg_cancel_backend", "pg_terminate_backend"] {
        let running = std::thread::spawn(move || {
            let error = session.error(COUNT);
            (session, error, Instant::now())
        });
        until("all pages are asked", || shop.simulator.in_flight() == 4);
        let told = Instant::now();
        watcher.execute(&format!("SELECT {end}({pid})")).unwrap();
        let (back, error, at) = running.join().unwrap();
        assert!(at - told < SOON, "{end}: {:?}", at - told);
        assert!(error.is_err() || ["57014", "57P01"].contains(&error.unwrap().sqlstate.as_str()), "{end}");
        until("requests are given up", || shop.simulator.in_flight() == 0);
        session = back;
    }
    shop.simulator.clear_faults();
    assert_eq!(shop.connect().unwrap().one(COUNT).unwrap(), "280");
}

#[test]
fn failed_statements_leave_no_descriptor() {
    let (shop, mut session) = open(4, 70);
    let ids = shop.simulator.page_ids();
    let pid = session.pid().unwrap();
    let descriptors = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let fail = |session: &mut Session| assert_eq!(session.error(COUNT).unwrap().sqlstate, "28000");
    shop.simulator.switches(|switches| switches.latency = Duration::from_millis(1));
    shop.simulator.fault_on(of_page(&ids[1], Some(true)), expired(), Times::Always);
    (0..20).for_each(|_| fail(&mut session));
    let early = descriptors();
    (0..200).for_each(|_| fail(&mut session));
    until("connections are closed", || descriptors() <= early + 4);
}
