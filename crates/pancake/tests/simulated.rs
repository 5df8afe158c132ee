//! The client against a simulated Pancake over real sockets: every row once, whatever the replies
//! are like. The walk's own proof is in `scan/merge/model.rs`; what Postgres makes of it is tested
//! with a cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use pancake::error::Error;
use pancake::http::client::Client;
use pancake::json::cell::Cell;
use pancake::options::table::ServerOptions;
use pancake::paging::verdicts::Verdicts;
use pancake::plan::request::{Chain, RequestPlan};
use pancake::rate::limiter::{Clocks, Memory, Spacing};
use pancake::reply::decode::{Source, WantedCell};
use pancake::scan::queue::{BatchQueue, Event};
use pancake::scan::run::Scan;
use pancake::scan::session::Session;
use pancake::schema::catalogue::Object;
use pancake::schema::keyset::Order;
use pancake::secret::Secret;
use pancake::stats::{PageStats, ScanStats};
use pancake_simulator::{Churn, CursorReading, Fault, LostCursor, Settings, Simulator, Switches, Times};

/// By how much the clock of the sessions is ahead of the machine's, in nanoseconds.
static AHEAD: AtomicU64 = AtomicU64::new(1_000_000_000);

/// Runs `work` while the clock of the sessions is advanced, and returns by how much.
fn with_fast_clock<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = AHEAD.load(SeqCst);
    let over = AtomicBool::new(false);
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                AHEAD.fetch_add(100_000_000, SeqCst);
                std::thread::yield_now();
                std::thread::park_timeout(Duration::from_millis(2));
            }
        });
        let answer = work();
        over.store(true, SeqCst);
        answer
    });
    (answer, Duration::from_nanos(AHEAD.load(SeqCst) - before))
}

fn clocks() -> Clocks {
    fn monotonic() -> u64 {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64 + AHEAD.load(SeqCst)
    }
    fn wall() -> i64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| now.as_micros() as i64)
    }
    Clocks { monotonic_ns: monotonic, wall_micros: wall }
}

fn memory() -> Memory {
    Memory {
        spacings: vec![Spacing::default()].leak(),
        stats: vec![PageStats::default()].leak(),
        verdicts: vec![Verdicts::default()].leak(),
        clocks: clocks(),
    }
}

fn scan(
    simulator: &Simulator,
    (object, order): (Object, Order),
    options: &[(&str, &str)],
    memory: Memory,
    queue: &Arc<BatchQueue>,
) -> Scan {
    let page = simulator.first_page();
    let mut given =
        vec![("base_url".to_owned(), simulator.base_url()), ("requests_per_second".into(), "10000".into())];
    given.extend(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let server = ServerOptions::read(&given).unwrap();
    let limiter = memory.page(&server.base_url, page.id(), server.requests_per_second).unwrap();
    let wanted = ["id", "raw"]
        .map(|name| WantedCell { name: name.to_owned(), source: Source::find(object, name, None).unwrap() });
    let session = Session {
        server,
        object,
        page_id: page.id().to_string(),
        token: Secret::new(page.token()),
        limiter,
        tally: Arc::new(ScanStats::default()),
        client: Arc::new(Client::default()),
        opening: Default::default(),
    };
    Scan {
        session,
        plan: RequestPlan { chains: vec![Chain::whole(order)], ..RequestPlan::default() },
        trusts_post_ids: false,
        wanted: wanted.into(),
        queue: queue.clone(),
    }
}

/// All rows of a scan that is never made to wait: id → how often it came.
fn read(
    simulator: &Simulator,
    order: Order,
    options: &[(&str, &str)],
) -> Result<BTreeMap<String, usize>, Error> {
    read_list(simulator, (Object::Conversations, order), options, memory())
}

fn read_list(
    simulator: &Simulator,
    list: (Object, Order),
    options: &[(&str, &str)],
    memory: Memory,
) -> Result<BTreeMap<String, usize>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rang = Arc::new(tokio::sync::Notify::new());
    let ring = rang.clone();
    let queue = BatchQueue::new(Box::new(move || ring.notify_one()));
    let scan = scan(simulator, list, options, memory, &queue);
    runtime.block_on(async {
        tokio::spawn(scan.run());
        let mut seen = BTreeMap::new();
        queue.want();
        loop {
            match queue.take() {
                Some(Event::Batch(rows)) => {
                    queue.want();
                    for row in rows {
                        assert_eq!(row.cells.into_iter().next(), Some(Cell::Text(row.id.as_str().into())));
                        *seen.entry(row.id).or_default() += 1;
                    }
                }
                Some(Event::Ended(_)) => return Ok(seen),
                Some(Event::Failed(error)) => return Err(error),
                None => tokio::time::timeout(Duration::from_secs(30), rang.notified()).await.unwrap(),
            }
        }
    })
}

fn simulator(conversations: usize, switches: impl FnOnce(&mut Switches)) -> Simulator {
    let simulator = Simulator::start(Settings::of(conversations)).unwrap();
    simulator.switches(switches);
    simulator
}

#[test]
fn a_quiet_page_comes_whole_and_cheap() {
    for order in [Order::InsertedAt, Order::UpdatedAt] {
        let simulator = simulator(600, |_| ());
        // Else a slow test looks like a latency that a second request at once would hide.
        let seen = read(&simulator, order, &[("max_concurrency", "1")]).unwrap();
        assert_eq!(seen.len(), 600);
        assert!(seen.values().all(|times| *times == 1));
        assert!(simulator.log().len() <= 600_usize.div_ceil(59) + 3, "{} requests", simulator.log().len());
        assert_eq!(simulator.violations(), Vec::<String>::new());
    }
}

#[test]
fn every_reading_of_the_cursor_gives_the_same_rows() {
    for cursor in [CursorReading::AfterRow, CursorReading::StrictlyBelow] {
        for lost in [LostCursor::FirstPage, LostCursor::Empty, LostCursor::Http500, LostCursor::SuccessFalse]
        {
            for order in [Order::InsertedAt, Order::UpdatedAt] {
                let simulator = simulator(400, |s| {
                    s.cursor = cursor;
                    s.lost_cursor = lost;
                    s.moved_cursor = lost;
                    s.short_batches = 0.2;
                    s.repeated_rows = 0.1;
                    s.churn = Churn {
                        messages: 2.0,
                        cursor_messages: 0.3,
                        cursor_deletes: 0.2,
                        ..Churn::default()
                    };
                });
                let before = simulator.first_page().ids();
                let seen = read(&simulator, order, &[]).unwrap();
                let after = simulator.first_page().ids();
                for id in before.iter().filter(|id| after.contains(id)) {
                    assert_eq!(seen.get(id), Some(&1), "{id}: {cursor:?} {lost:?} {order:?}");
                }
                assert!(seen.values().all(|times| *times == 1), "{cursor:?} {lost:?} {order:?}");
            }
        }
    }
}

#[test]
fn a_fault_in_the_middle_is_an_error_never_a_short_answer() {
    for (fault, sqlstate) in [
        (Fault::Html200, "HV000"),
        (Fault::NotJson, "HV000"),
        (Fault::Truncated, "HV000"),
        (Fault::MissingArray, "HV000"),
        (Fault::WrongShape, "HV000"),
        (Fault::EmptyBody, "HV000"),
        (Fault::NonObject, "HV000"),
        (Fault::Redirect("http://127.0.0.1:9/".into()), "HV000"),
        (Fault::Oversized(40 << 20), "HV000"),
        (Fault::Bomb(40 << 20), "HV000"),
        (Fault::Hang, "HV00N"),
        (Fault::HangMidBody, "HV00N"),
        (Fault::Status(503), "HV00M"),
        (Fault::Status(429), "53400"),
        (Fault::Status(401), "28000"),
        (Fault::Status(403), "42501"),
        (Fault::Dropped, "HV00N"),
    ] {
        let simulator = simulator(400, |_| ());
        simulator.fault(fault.clone(), Times::On((3..200).collect()));
        let failed =
            read(&simulator, Order::InsertedAt, &[("max_retries", "0"), ("request_timeout", "500ms")]);
        let error = failed.map(|seen| seen.len()).unwrap_err();
        assert_eq!(error.sqlstate(), sqlstate, "{fault:?}: {error:?}");
    }
}

/// So many failures of one request in a row are survived, and one more is not. The list of tags has
/// one form of request.
#[test]
fn each_kind_of_fault_has_its_number_of_retries() {
    let html = |body: &str| Fault::Canned { status: 200, content_type: "text/html", body: body.to_owned() };
    for (fault, survived) in [
        (Fault::Status(502), 3),
        (Fault::Hang, 3),
        (Fault::HangMidBody, 3),
        (Fault::Dropped, 3),
        (Fault::Truncated, 3),
        (Fault::Html200, 3),
        (html("upstream connect error"), 3),
        (Fault::EmptyBody, 3),
        (Fault::try_again(), 3),
        (Fault::Status(429), 5),
        (Fault::json(r#"{"success":false,"error_code":"429"}"#), 5),
        (Fault::json(r#"{"success":false,"reason":"no idea"}"#), 2),
        (Fault::json(r#"{"success":false,"error_code":100,"message":"Missing field"}"#), 0),
        (Fault::Status(406), 0),
    ] {
        for (faults, is_whole) in [(survived, true), (survived + 1, false)] {
            let (simulator, memory) = (simulator(10, |_| ()), memory());
            let read = |max_retries| {
                let options = [("max_retries", max_retries), ("request_timeout", "200ms")];
                read_list(&simulator, (Object::Tags, Order::Served), &options, memory)
            };
            assert!(read("0").unwrap().len() > 3);
            simulator.fault(fault.clone(), Times::Next(faults));
            let (answer, _) = with_fast_clock(|| read("3"));
            let case = format!("{fault:?}, {faults} times");
            assert_eq!(answer.is_ok(), is_whole, "{case}: {:?}", answer.err());
            assert_eq!(simulator.log().len() as u64, 1 + survived + 1, "{case}");

            simulator.fault(fault.clone(), Times::Next(1));
            assert!(read("0").is_err(), "{case}: none without retries");
        }
    }
}

#[test]
fn pauses_of_refusals_for_the_rate_grow_to_twenty_seconds() {
    let (simulator, memory) = (simulator(10, |_| ()), memory());
    let read = || read_list(&simulator, (Object::Tags, Order::Served), &[], memory);
    simulator.fault(Fault::Status(429), Times::Next(5));
    let (answer, passed) = with_fast_clock(read);
    assert!(answer.is_ok());
    assert!((38..120).contains(&passed.as_secs()), "{passed:?}");
}

/// What a gateway answers is no reason to ask again where nothing has ever answered properly.
#[test]
fn a_web_page_at_the_first_request_is_final() {
    for fault in [Fault::Html200, Fault::NotJson, Fault::EmptyBody] {
        let simulator = simulator(10, |_| ());
        simulator.fault(fault.clone(), Times::Always);
        let error = read(&simulator, Order::InsertedAt, &[]).unwrap_err();
        assert_eq!((error.sqlstate(), simulator.log().len()), ("HV000", 1), "{fault:?}");
    }
}

/// A connection that was open already and turns out dead costs no retry.
#[test]
fn a_dead_connection_is_replaced_at_once() {
    let simulator = simulator(150, |_| ());
    let options = [("max_retries", "0"), ("max_concurrency", "1")];
    simulator.fault(Fault::DroppedBeforeHeaders, Times::On(vec![2]));
    assert_eq!(read(&simulator, Order::InsertedAt, &options).unwrap().len(), 150);
    let connections: Vec<u64> = simulator.log().iter().map(|entry| entry.connection).collect();
    assert_eq!(connections[..3], [1, 1, 2]);
    // A new one that is cut is a failure.
    simulator.fault(Fault::DroppedBeforeHeaders, Times::Next(1));
    let error = read(&simulator, Order::InsertedAt, &options).unwrap_err();
    assert_eq!(error.message(), "connection was lost while waiting for the reply");
}
