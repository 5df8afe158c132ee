//! A backend that meets a thousand errors is no larger afterwards: no memory, thread, descriptor or
//! connection is left.

use std::time::{Duration, Instant};

use e2e::{ONE_CHAIN, Session, Shop};
use pancake_simulator::{Fault, Only, Settings, Shape, Times};

use super::until;

/// Every cell is made before the error comes.
const ALL: &str = "SELECT count(raw), count(tags), count(participants) FROM shop.conversations";

#[derive(Debug)]
struct Size {
    anonymous_kb: u64,
    threads: u64,
    descriptors: usize,
}

fn size(pid: i32) -> Size {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let number = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    Size { anonymous_kb: number("RssAnon:"), threads: number("Threads:"), descriptors }
}

/// Repeats `fail` and compares the backend's size after a fifth of it with that at the end.
fn stays_the_same(session: &mut Session, times: usize, mut fail: impl FnMut(&mut Session)) {
    let pid = session.pid().unwrap();
    (0..times / 6).for_each(|_| fail(session));
    let early = size(pid);
    (times / 6..times).for_each(|_| fail(session));
    let growth = size(pid).anonymous_kb.saturating_sub(early.anonymous_kb);
    assert!(growth < 5 * 1024, "{growth} kB more after {times}, from {early:?} to {:?}", size(pid));
    // One connection more or less is kept, as the last statement ended; what leaks leaks with each.
    let allowed = early.descriptors + 3;
    let deadline = Instant::now() + Duration::from_secs(10);
    while size(pid).descriptors > allowed || size(pid).threads > early.threads {
        assert!(Instant::now() < deadline, "after {times}: from {early:?} to {:?}", size(pid));
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn small_rows() -> Settings {
    let mut settings = Settings::of(130);
    settings.pages[0].shape = Shape::Article;
    settings
}

#[test]
fn a_thousand_errors_in_the_middle_of_a_scan() {
    let shop =
        Shop::open_with(small_rows().as_seen(), &[("requests_per_second", "100000"), ONE_CHAIN]).unwrap();
    let mut session = shop.connect().unwrap();
    let refused = Fault::SuccessFalse { code: Some(103), message: "expired".to_owned() };
    shop.simulator.fault_on(Only::with_cursor(), refused, Times::Always);
    stays_the_same(&mut session, 1200, |session| {
        assert_eq!(session.error(ALL).unwrap().sqlstate, "28000");
    });
    shop.simulator.clear_faults();
    assert_eq!(session.column(ALL).unwrap(), ["130"]);
    until("one connection is kept", || shop.simulator.open_connections() <= 1);
}

#[test]
fn cells_that_do_not_fit_and_cancelled_scans() {
    let shop =
        Shop::open_with(small_rows().as_seen(), &[("requests_per_second", "100000"), ONE_CHAIN]).unwrap();
    let mut session = shop.connect().unwrap();
    session
        .execute(
            "CREATE FOREIGN TABLE odd (raw jsonb, type uuid) SERVER shop OPTIONS (object 'conversations')",
        )
        .unwrap();
    stays_the_same(&mut session, 300, |session| {
        assert_eq!(session.error("SELECT * FROM odd").unwrap().sqlstate, "HV004");
    });
    shop.simulator.fault_on(Only::with_cursor(), Fault::Hang, Times::Always);
    session.execute("SET statement_timeout = '20ms'").unwrap();
    stays_the_same(&mut session, 120, |session| {
        assert_eq!(session.error(ALL).unwrap().sqlstate, "57014");
    });
    session.execute("RESET statement_timeout").unwrap();
    shop.simulator.clear_faults();
    assert_eq!(session.column(ALL).unwrap(), ["130"]);
    until("one connection is kept", || shop.simulator.open_connections() <= 1);
}
