//! One budget per page for all sessions: what leaves, as the simulator sees it arrive; and the
//! files that it lies in. How one session asks is left to the other modules, the rule itself to the
//! tests beside it.
//!
//! These tests measure, so they run one at a time, on a cluster of their own. Tests of other
//! modules go on beside them: a window that is too full counts only if no thread of ours was
//! stalled meanwhile by more than the spacing absorbs, else it is measured again.

mod turns;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use e2e::page::Address;
use e2e::{Cluster, Database, Mode, Session, Shop};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pancake_simulator::{Entry, Fault, Only, Settings, Simulator, Times};

/// Pancake's documented limit, and a second less the jitter of a timer.
const RATE: (&str, &str) = ("requests_per_second", "5");
const ALLOWED: usize = 5;
const WINDOW: Duration = Duration::from_millis(975);
/// 205 ms of spacing absorb so much between six requests.
const STALL: Duration = Duration::from_millis(20);

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start().unwrap())
}

/// Measures until no window is too full, or one is although the machine kept up.
fn never_too_full(simulator: &Simulator, mut measure: impl FnMut()) {
    for _ in 0..5 {
        simulator.clear_log();
        let stalled = watch_the_machine(&mut measure);
        let busiest = simulator.busiest(WINDOW);
        if busiest <= ALLOWED {
            return;
        }
        assert!(stalled > STALL, "{busiest} requests within {WINDOW:?}, and no stall above {stalled:?}");
    }
    panic!("the machine stalls all the time");
}

/// The longest that a thread of ours overslept while `work` ran.
fn watch_the_machine(work: impl FnOnce()) -> Duration {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let nap = Duration::from_millis(2);
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let begun = Instant::now();
                thread::sleep(nap);
                longest = longest.max(begun.elapsed().saturating_sub(nap));
            }
            longest
        });
        work();
        done.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    })
}

/// All sessions run the same statement, begun together.
fn together(sessions: &mut [Session], sql: &str) {
    let start = Barrier::new(sessions.len());
    thread::scope(|scope| {
        for session in sessions {
            scope.spawn(|| {
                start.wait();
                session.execute(sql).unwrap();
            });
        }
    });
}

fn gaps(log: &[Entry]) -> Vec<Duration> {
    log.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

fn address(shop: &Shop) -> Address {
    let page = shop.simulator.first_page();
    Address { base_url: Some(shop.simulator.base_url()), page_id: page.id().to_owned(), token: page.token() }
}

#[test]
fn eight_sessions_of_two_databases_share_one_budget_and_use_it() {
    let _alone = alone();
    let shop = Shop::open_in(cluster(), Settings::of(600), &[RATE]).unwrap();
    let other = cluster().database("other").unwrap();
    address(&shop).import(&mut other.connect().unwrap(), "shop", &[RATE]).unwrap();
    let connect = |n: usize| if n < 4 { shop.connect() } else { other.connect() };
    let mut sessions: Vec<_> = (0..8).map(|n| connect(n).unwrap()).collect();

    never_too_full(&shop.simulator, || {
        let begun = Instant::now();
        // Four requests each.
        together(&mut sessions, "SELECT id FROM shop.conversations LIMIT 200");
        let requests = shop.simulator.log().len();
        assert_eq!(requests, 32);
        let per_second = (requests - 1) as f64 / begun.elapsed().as_secs_f64();
        assert!(per_second > 4.4, "{per_second:.2} requests a second");
    });
    let stats =
        "SELECT requests, throttled, rate FROM pancake.request_stats ORDER BY last_request_at DESC LIMIT 1";
    let stats = sessions[0].rows(stats).unwrap().remove(0);
    let (requests, throttled) = (stats[0].as_deref().unwrap(), stats[1].as_deref());
    assert!(requests.parse::<usize>().unwrap() >= 32, "both databases count: {requests}");
    assert_eq!((throttled, stats[2].as_deref()), (Some("0"), Some("5")));
    shop.assert_no_violations().unwrap();
}

#[test]
fn of_two_servers_for_one_page_the_lower_rate_holds() {
    let _alone = alone();
    let shop = Shop::open_in(cluster(), Settings::of(600), &[RATE]).unwrap();
    let mut session = shop.connect().unwrap();
    address(&shop).import(&mut session, "slow", &[("requests_per_second", "2")]).unwrap();
    session.execute("SELECT id FROM slow.conversations LIMIT 1").unwrap();
    shop.connect().unwrap().execute("SELECT id FROM shop.conversations LIMIT 200").unwrap();
    let gaps = gaps(&shop.simulator.log());
    assert_eq!(gaps.len(), 4);
    // 1.025 s / 2, less what a stalled machine adds to the one before.
    assert!(gaps.iter().all(|gap| *gap > Duration::from_millis(450)), "{gaps:?}");
}

#[test]
fn a_429_pauses_all_sessions_of_the_page() {
    let _alone = alone();
    let shop = Shop::open_in(cluster(), Settings::of(600), &[RATE]).unwrap();
    let mut sessions: Vec<_> = (0..3).map(|_| shop.connect().unwrap()).collect();
    shop.simulator.fault(Fault::Status(429), Times::On(vec![3]));
    together(&mut sessions, "SELECT id FROM shop.conversations LIMIT 100");
    let log = shop.simulator.log();
    assert_eq!((log.len(), log[2].status), (7, 429));
    let gaps = gaps(&log);
    assert!(gaps[2] > Duration::from_millis(950), "{gaps:?}");
    let others = [gaps[0], gaps[1], gaps[3], gaps[4], gaps[5]];
    assert!(others.iter().all(|gap| *gap > Duration::from_millis(150)), "{gaps:?}");
    let stats =
        "SELECT throttled, retries, errors FROM pancake.request_stats ORDER BY last_request_at DESC LIMIT 1";
    assert_eq!(sessions[0].rows(stats).unwrap()[0], ["1", "1", "0"].map(|n| Some(n.to_owned())));
}

#[test]
fn a_terminated_backend_blocks_nobody() {
    let _alone = alone();
    let shop = Shop::open_in(cluster(), Settings::of(600), &[RATE]).unwrap();
    let (pid, stuck) = stuck_session(&shop);
    let mut other = shop.connect().unwrap();
    other.execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    let failed = stuck.join().unwrap();
    assert!(failed.contains("57P01") || failed.contains("closed"), "{failed}");
    let begun = Instant::now();
    other.execute("SELECT id FROM shop.conversations LIMIT 100").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(other.one("SELECT count(*) FROM pancake.progress").unwrap(), "0");
}

#[test]
fn a_killed_backend_blocks_nobody() {
    let _alone = alone();
    // What was made just now must survive the crash.
    let cluster = Cluster::start_with(&[("synchronous_commit", "on")]).unwrap();
    let shop = Shop::open_in(&cluster, Settings::of(600), &[RATE]).unwrap();
    let (pid, stuck) = stuck_session(&shop);
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    stuck.join().unwrap();
    let mut session = after_a_crash(&shop);
    let begun = Instant::now();
    session.execute("SELECT id FROM shop.conversations LIMIT 100").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(session.one("SELECT count(*) FROM pancake.progress").unwrap(), "0");
}

/// A session of a cluster that restarts itself after a crash.
fn after_a_crash(shop: &Shop) -> Session {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        // A connection made just before the crash is noticed goes down with the others, while it
        // waits here.
        let alive =
            shop.connect().and_then(|mut session| session.one("SELECT pg_sleep(0.5)").map(|_| session));
        if let Ok(session) = alive {
            return session;
        }
        assert!(Instant::now() < deadline, "it does not come back");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A session whose request gets no reply: its process, and the thread that waits for it.
fn stuck_session(shop: &Shop) -> (i32, thread::JoinHandle<String>) {
    let only = Only { cursor: Some(false), ..Only::default() };
    shop.simulator.fault_on(only, Fault::Hang, Times::Next(1));
    let mut session = shop.connect().unwrap();
    let pid = session.pid().unwrap();
    let sql = "SELECT id FROM shop.conversations LIMIT 1";
    let stuck = thread::spawn(move || format!("{:?}", session.execute(sql).unwrap_err()));
    let deadline = Instant::now() + Duration::from_secs(10);
    while shop.simulator.in_flight() == 0 {
        assert!(Instant::now() < deadline, "it never asked");
        thread::sleep(Duration::from_millis(5));
    }
    (pid, stuck)
}

/// Passes bytes on to a simulator; a connection's first ones, the client's part of the TLS
/// handshake, wait.
fn far_away(simulator: &Simulator) -> String {
    let url = simulator.base_url();
    let target = url.trim_start_matches("https://").trim_end_matches("/api").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, client) in listener.incoming().flatten().enumerate() {
            let target = target.clone();
            thread::spawn(move || {
                let server = TcpStream::connect(target).unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pass(back.0, back.1, Duration::ZERO));
                pass(client, server, Duration::from_millis([250, 20, 180, 90][number % 4]));
            });
        }
    });
    format!("https://{here}/api")
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut wait: Duration) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        thread::sleep(std::mem::take(&mut wait));
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// A grant spent before the connection stands would arrive up to 250 ms late, beside the ones
/// behind it.
#[test]
fn new_tls_connections_keep_the_spacing() {
    let _alone = alone();
    let simulator = Simulator::start(Settings { tls: true, ..Settings::of(200) }).unwrap();
    let page = simulator.first_page();
    let address =
        Address { base_url: Some(far_away(&simulator)), page_id: page.id().to_owned(), token: page.token() };
    let ca_file = cluster().socket_dir().join("ca.pem");
    fs::write(&ca_file, simulator.ca_pem().unwrap()).unwrap();
    let database = cluster().database("tls").unwrap();
    let options = [RATE, ("ca_file", ca_file.to_str().unwrap())];
    address.import(&mut database.connect().unwrap(), "shop", &options).unwrap();

    never_too_full(&simulator, || {
        let mut sessions: Vec<_> = (0..12).map(|_| database.connect().unwrap()).collect();
        together(&mut sessions, "SELECT id FROM shop.conversations LIMIT 1");
        let log = simulator.log();
        let connections: std::collections::BTreeSet<_> = log.iter().map(|entry| entry.connection).collect();
        assert_eq!((log.len(), connections.len()), (12, 12));
    });
    assert_eq!(simulator.violations(), Vec::<String>::new());
}

// ---------------------------------------------------------------------------------------------------------------
// The files
// ---------------------------------------------------------------------------------------------------------------

const FILES: [&str; 2] = ["pancake_fdw.limiter", "pancake_fdw.stats"];

fn folder(cluster: &Cluster) -> PathBuf {
    cluster.data_dir().join("pg_stat_tmp")
}

fn asks(database: &Database) -> String {
    let mut session = database.connect().unwrap();
    session.execute("SELECT id FROM shop.conversations LIMIT 1").unwrap();
    session.one("SELECT requests FROM pancake.request_stats").unwrap()
}

/// Bytes that a reader with the old contents mapped does not see: the file is a new one of the same
/// name.
fn put(path: &Path, bytes: &[u8]) {
    let owner = fs::metadata(path)
        .map(|old| (std::os::unix::fs::MetadataExt::uid(&old), std::os::unix::fs::MetadataExt::gid(&old)));
    let new = path.with_extension("damaged");
    fs::write(&new, bytes).unwrap();
    if let Ok((uid, gid)) = owner {
        std::os::unix::fs::chown(&new, Some(uid), Some(gid)).unwrap();
    }
    fs::rename(&new, path).unwrap();
}

#[test]
fn a_damaged_or_foreign_file_is_replaced() {
    let _alone = alone();
    let cluster = Cluster::start().unwrap();
    let shop = Shop::open_in(&cluster, Settings::of(100), &[]).unwrap();
    assert_eq!(asks(&shop.database), "1");
    assert_eq!(asks(&shop.database), "2");
    let whole = FILES.map(|name| fs::read(folder(&cluster).join(name)).unwrap());

    type Damage = fn(&[u8]) -> Option<Vec<u8>>;
    let damages: [(&str, Damage); 6] = [
        ("missing", |_| None),
        ("empty", |_| Some(Vec::new())),
        ("truncated", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
        ("longer", |bytes| Some([bytes, &[0; 8][..]].concat())),
        ("garbage", |bytes| Some(vec![0xA5; bytes.len()])),
        // The header's text is name, layout, size, boot.
        ("another layout", |bytes| {
            let mut foreign = bytes.to_vec();
            foreign[b"pancake_fdw\0".len()] = b'9';
            Some(foreign)
        }),
    ];
    for (what, damage) in damages {
        for (name, whole) in FILES.iter().zip(&whole) {
            let path = folder(&cluster).join(name);
            match damage(whole) {
                Some(bytes) => put(&path, &bytes),
                None => fs::remove_file(&path).unwrap(),
            }
        }
        assert_eq!(asks(&shop.database), "1", "{what}: counted anew");
        for (name, whole) in FILES.iter().zip(&whole) {
            let mended = fs::read(folder(&cluster).join(name)).unwrap();
            assert_eq!((mended.len(), &mended[..64]), (whole.len(), &whole[..64]), "{what}: {name}");
        }
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn the_budget_survives_a_restart_of_the_cluster() {
    let _alone = alone();
    let cluster = Cluster::start().unwrap();
    let shop = Shop::open_in(&cluster, Settings::of(100), &[("requests_per_second", "1")]).unwrap();
    for mode in [Mode::Fast, Mode::Immediate] {
        shop.simulator.clear_log();
        asks(&shop.database);
        cluster.stop(mode).unwrap();
        cluster.launch().unwrap();
        asks(&shop.database);
        let gaps = gaps(&shop.simulator.log());
        assert!(gaps[0] > Duration::from_millis(1_000), "{mode:?}: {gaps:?}");
    }
}

#[test]
fn without_a_place_for_the_budget_nothing_is_asked() {
    let _alone = alone();
    let cluster = Cluster::start().unwrap();
    let shop = Shop::open_in(&cluster, Settings::of(100), &[]).unwrap();
    let close = |mode| fs::set_permissions(folder(&cluster), fs::Permissions::from_mode(mode)).unwrap();
    close(0o500);
    let mut session = shop.connect().unwrap();
    for sql in ["SELECT id FROM shop.conversations", "SELECT * FROM pancake.progress"] {
        let error = session.error(sql).unwrap();
        assert_eq!(error.sqlstate, "58030", "{error}");
        assert_eq!(error.message, "cannot share the rate limit between sessions");
        assert!(error.detail.unwrap().contains("pg_stat_tmp/pancake_fdw."));
        assert!(error.hint.unwrap().contains("permissions of pg_stat_tmp"));
    }
    assert_eq!(shop.simulator.requests(), 0);
    close(0o700);
    assert_eq!(session.rows("SELECT id FROM shop.conversations").unwrap().len(), 100);
}

/// Two pages of one shop that differ in nothing but their id have a budget each.
#[test]
fn every_page_has_a_budget_of_its_own() {
    let _alone = alone();
    let mut settings = Settings::of(100);
    settings.pages.push(pancake_simulator::PageSettings {
        conversations: 100,
        ..pancake_simulator::PageSettings::numbered(1)
    });
    let shop = Shop::open_in(cluster(), settings, &[("requests_per_second", "0.5")]).unwrap();
    let mut session = shop.connect().unwrap();
    let begun = Instant::now();
    session.execute("SELECT id FROM shop.conversations LIMIT 1").unwrap();
    session.execute("SELECT id FROM shop2.conversations LIMIT 1").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1));
    let same = "SELECT count(*) FROM (SELECT id FROM shop.conversations LIMIT 1) AS one";
    session.execute(&format!("SET statement_timeout = '300ms'; {same}")).unwrap_err();
}
