//! A scan ends when it is cancelled, in whatever phase it is, and leaves nothing behind: no
//! request, no lock, no memory. The phases are named as `pancake.progress` names what a scan waits
//! for.

mod leaks;

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use e2e::{Cluster, Database, Mode, Session, Shop, SqlError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pancake_simulator::{Fault, Settings, Times};
use postgres::NoTls;

pub const COUNT: &str = "SELECT count(*) FROM shop.conversations";
const ROWS: usize = 130;
/// What is promised is 100 ms; the rest is for a loaded machine.
const SOON: Duration = Duration::from_secs(1);

/// A phase in which a scan can be stuck.
struct Phase {
    name: &'static str,
    waiting_for: &'static str,
    options: &'static [(&'static str, &'static str)],
    fault: Option<Fault>,
    /// The server is sent to a listener that takes connections and sends nothing.
    silent: bool,
}

const PATIENT: &[(&str, &str)] =
    &[("max_retries", "10"), ("request_timeout", "1h"), ("connect_timeout", "1h")];

fn phases() -> Vec<Phase> {
    let phase =
        |name, waiting_for, fault| Phase { name, waiting_for, options: PATIENT, fault, silent: false };
    vec![
        phase("before the headers", "reply", Some(Fault::Hang)),
        phase("in the body", "reply", Some(Fault::HangMidBody)),
        phase("in a slow body", "reply", Some(Fault::Slow(1000))),
        phase("before another try", "retry", Some(Fault::Status(500))),
        phase("before another try of the throttled", "retry", Some(Fault::StatusAfter(429, "60".to_owned()))),
        Phase { silent: true, ..phase("in the TLS handshake", "connection", None) },
        Phase {
            options: &[("requests_per_second", "0.05")],
            ..phase("at the rate limiter", "rate limit", None)
        },
    ]
}

struct Stuck {
    shop: Shop<'static>,
    phase: Phase,
    _silent: Option<TcpListener>,
}

impl Stuck {
    fn new(phase: Phase) -> Stuck {
        let shop = Shop::open_with(Settings::of(ROWS).as_seen(), phase.options).unwrap();
        if let Some(fault) = &phase.fault {
            shop.simulator.fault(fault.clone(), Times::Always);
        }
        let silent = phase.silent.then(|| TcpListener::bind("127.0.0.1:0").unwrap());
        let stuck = Stuck { shop, phase, _silent: silent };
        if let Some(silent) = &stuck._silent {
            stuck.send_to(&format!("https://127.0.0.1:{}/api", silent.local_addr().unwrap().port()));
        }
        stuck
    }

    fn send_to(&self, base_url: &str) {
        let alter = format!("ALTER SERVER shop OPTIONS (SET base_url '{base_url}')");
        self.shop.connect().unwrap().execute(&alter).unwrap();
    }

    /// Nothing stands in the way any more; under another name, because a spent budget stays spent.
    fn heal(&self) {
        self.shop.simulator.clear_faults();
        self.send_to(&self.shop.simulator.base_url().replace("127.0.0.1", "localhost"));
        let alter = "ALTER SERVER shop OPTIONS (SET requests_per_second '1000')";
        self.shop.connect().unwrap().execute(alter).unwrap();
    }

    fn session(&self) -> Session {
        let mut session = self.shop.connect().unwrap();
        // A waiting backend shows what it waits for at this interval.
        session.execute("SET pancake_fdw.progress_interval = '10ms'").unwrap();
        session
    }

    /// Runs a scan into its phase, has `act` end it, and returns how it ended and how soon.
    fn end_by(&self, act: impl FnOnce(&mut Session, i32)) -> (Session, anyhow::Result<SqlError>, Duration) {
        let mut session = self.session();
        let pid = session.pid().unwrap();
        let (ended, end) = mpsc::channel();
        let scanner = std::thread::spawn(move || {
            let error = session.error(COUNT);
            let _ = ended.send(Instant::now());
            (session, error)
        });
        let mut watcher = self.shop.connect().unwrap();
        wait_for(&mut watcher, pid, self.phase.waiting_for, self.phase.name);
        let told = Instant::now();
        act(&mut watcher, pid);
        let at = end
            .recv_timeout(Duration::from_secs(20))
            .unwrap_or_else(|_| panic!("{}: it goes on", self.phase.name));
        let (session, error) = scanner.join().unwrap();
        (session, error, at.saturating_duration_since(told))
    }

    /// The session works on, and the request that was on its way is given up.
    fn check_after(&self, mut session: Session) {
        let name = self.phase.name;
        until(&format!("{name}: the request is given up"), || self.shop.simulator.in_flight() == 0);
        self.heal();
        assert_eq!(session.one(COUNT).unwrap(), ROWS.to_string(), "{name}");
    }
}

pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Until the backend's scan waits for that.
fn wait_for(watcher: &mut Session, pid: i32, waiting_for: &str, case: &str) {
    let sql = format!("SELECT waiting_for FROM pancake.progress WHERE pid = {pid}");
    until(&format!("{case}: never waits for {waiting_for}"), || {
        watcher.column(&sql).unwrap() == [waiting_for]
    });
}

#[test]
fn statement_timeout_ends_a_scan_in_every_phase() {
    for phase in phases() {
        let stuck = Stuck::new(phase);
        let mut session = stuck.session();
        session.execute("SET statement_timeout = '400ms'").unwrap();
        let begun = Instant::now();
        let error = session.error(COUNT).unwrap();
        let passed = begun.elapsed();
        assert_eq!(error.sqlstate, "57014", "{}: {error}", stuck.phase.name);
        assert_eq!(error.message, "canceling statement due to statement timeout");
        assert!(passed < Duration::from_millis(400) + SOON, "{}: {passed:?}", stuck.phase.name);
        session.execute("RESET statement_timeout").unwrap();
        stuck.check_after(session);
    }
}

#[test]
fn pg_cancel_backend_ends_a_scan_in_every_phase() {
    for phase in phases() {
        let stuck = Stuck::new(phase);
        let (session, error, passed) = stuck.end_by(|watcher, pid| {
            watcher.execute(&format!("SELECT pg_cancel_backend({pid})")).unwrap();
        });
        assert_eq!(error.unwrap().sqlstate, "57014", "{}", stuck.phase.name);
        assert!(passed < SOON, "{}: {passed:?}", stuck.phase.name);
        stuck.check_after(session);
    }
}

#[test]
fn a_client_ends_its_scan_in_every_phase() {
    for phase in phases() {
        let stuck = Stuck::new(phase);
        let mut session = stuck.session();
        let token = session.cancel_token();
        let pid = session.pid().unwrap();
        let scanner = std::thread::spawn(move || {
            let error = session.error(COUNT);
            (session, error, Instant::now())
        });
        let mut watcher = stuck.shop.connect().unwrap();
        wait_for(&mut watcher, pid, stuck.phase.waiting_for, stuck.phase.name);
        let told = Instant::now();
        token.cancel_query(NoTls).unwrap();
        let (session, error, at) = scanner.join().unwrap();
        assert_eq!(error.unwrap().sqlstate, "57014", "{}", stuck.phase.name);
        let passed = at.saturating_duration_since(told);
        assert!(passed < SOON, "{}: {passed:?}", stuck.phase.name);
        stuck.check_after(session);
    }
}

#[test]
fn pg_terminate_backend_ends_a_scan_in_every_phase() {
    for phase in phases() {
        let stuck = Stuck::new(phase);
        let mut ended = None;
        let (session, error, passed) = stuck.end_by(|watcher, pid| {
            watcher.execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
            ended = Some(pid);
        });
        drop(session);
        if let Ok(error) = error {
            assert_eq!(error.sqlstate, "57P01", "{}: {error}", stuck.phase.name);
        }
        assert!(passed < SOON, "{}: {passed:?}", stuck.phase.name);
        let mut other = stuck.shop.connect().unwrap();
        let shown = format!("SELECT count(*) FROM pancake.progress WHERE pid = {}", ended.unwrap());
        assert_eq!(other.one(&shown).unwrap(), "0", "{}", stuck.phase.name);
        stuck.check_after(other);
    }
}

#[test]
fn a_cursor_that_is_closed_asks_for_nothing_more() {
    let shop = Shop::open(Settings::of(3000).as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    let work = |session: &mut Session| {
        session
            .execute("BEGIN; DECLARE walk CURSOR FOR SELECT id FROM shop.conversations; FETCH 200 FROM walk")
            .unwrap();
        session.execute("CLOSE walk").unwrap();
    };
    let ((), log) = shop.watch(|| work(&mut session));
    assert!(log.len() <= 7, "{} requests for 200 rows", log.len());
    // Nor in a savepoint that is rolled back, nor at the end of the transaction.
    session.execute("SAVEPOINT here; DECLARE other CURSOR FOR SELECT id FROM shop.conversations; FETCH 10 FROM other; ROLLBACK TO here").unwrap();
    let shown = "SELECT count(*) FROM pancake.progress WHERE pid = pg_backend_pid()";
    assert_eq!(session.one(shown).unwrap(), "0");
    session.execute("COMMIT").unwrap();
    until("requests are given up", || shop.simulator.in_flight() == 0);
    assert_eq!(session.one(COUNT).unwrap(), "3000");
    shop.assert_no_violations().unwrap();
}

/// Connects as soon as the server takes connections again.
fn connect_again(database: &Database<'_>) -> Session {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match database.connect() {
            Ok(session) => return session,
            Err(error) => assert!(Instant::now() < deadline, "{error:#}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_killed_backend_blocks_nobody() {
    // What was committed must outlive the crash.
    let cluster = Cluster::start_with(&[("synchronous_commit", "on")]).unwrap();
    let options = [("requests_per_second", "20"), ("request_timeout", "1h")];
    for (waiting_for, fault) in [("reply", Some(Fault::Hang)), ("rate limit", None)] {
        let shop = Shop::open_in(&cluster, Settings::of(600).as_seen(), &options).unwrap();
        let mut victim = shop.connect().unwrap();
        victim.execute("SET pancake_fdw.progress_interval = '1ms'").unwrap();
        if let Some(fault) = fault {
            shop.simulator.fault(fault, Times::Next(1));
        }
        let pid = victim.pid().unwrap();
        let scanner = std::thread::spawn(move || victim.error(COUNT).is_err());
        let mut watcher = shop.connect().unwrap();
        wait_for(&mut watcher, pid, waiting_for, waiting_for);
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        assert!(scanner.join().unwrap(), "the connection is gone");
        // Postgres ends all backends when one was killed: only after that is there anything to
        // connect to.
        until("all backends end", || watcher.one("SELECT 1").is_err());

        let mut session = connect_again(&shop.database);
        let begun = Instant::now();
        assert_eq!(session.one(COUNT).unwrap(), "600");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(session.one("SELECT count(*) FROM pancake.progress").unwrap(), "0");
        shop.assert_no_violations().unwrap();
    }
}

#[test]
fn the_server_stops_while_a_scan_waits() {
    let cluster = Cluster::start().unwrap();
    let shop = Shop::open_in(&cluster, Settings::of(10).as_seen(), &[("request_timeout", "1h")]).unwrap();
    shop.simulator.fault(Fault::Hang, Times::Always);
    let mut session = shop.connect().unwrap();
    let scanner = std::thread::spawn(move || session.error(COUNT).map(|error| error.sqlstate));
    until("the request arrives", || shop.simulator.in_flight() == 1);
    let begun = Instant::now();
    cluster.stop(Mode::Fast).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // The client receives the reason, or only that the connection is gone.
    assert!(scanner.join().unwrap().map_or(true, |state| state == "57P01"));
    until("the request is given up", || shop.simulator.in_flight() == 0);
}
