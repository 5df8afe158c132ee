//! The client against a simulated Pancake over real sockets: every row once, whatever the replies are like.
//! The walk's own proof is in `union/worlds.rs`; what Postgres makes of it is tested with a cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pancake::catalogue::Object;
use pancake::cell::Cell;
use pancake::decode::{Source, Wanted};
use pancake::error::Error;
use pancake::ledger::{PageStats, Tally};
use pancake::meter::{Clocks, Memory, Pace};
use pancake::options::ServerOptions;
use pancake::outlet::{Event, Outlet};
use pancake::place::Order;
use pancake::plan::{Chain, RequestPlan};
use pancake::scan::Scan;
use pancake::secret::Secret;
use pancake_simulator::{CursorReading, Fault, LostCursor, Settings, Simulator, Storm, Switches, Times};

fn clocks() -> Clocks {
    fn monotonic() -> u64 {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64 + 1_000_000_000
    }
    fn wall() -> i64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| now.as_micros() as i64)
    }
    Clocks { monotonic_ns: monotonic, wall_micros: wall }
}

fn scan(simulator: &Simulator, order: Order, options: &[(&str, &str)], outlet: &Arc<Outlet>) -> Scan {
    let page = simulator.first_page();
    let mut given =
        vec![("base_url".to_owned(), simulator.base_url()), ("requests_per_second".into(), "10000".into())];
    given.extend(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let server = ServerOptions::read(&given).unwrap();
    let memory = Memory {
        paces: vec![Pace::default()].leak(),
        stats: vec![PageStats::default()].leak(),
        clocks: clocks(),
    };
    let meter = memory.page(&server.base_url, page.id(), server.requests_per_second).unwrap();
    let wanted = ["id", "snippet"].map(|name| Wanted {
        name: name.to_owned(),
        source: Source::find(Object::Conversations, name, None).unwrap(),
    });
    Scan {
        object: Object::Conversations,
        server,
        page_id: page.id().to_string(),
        token: Secret::new(page.token()),
        plan: RequestPlan { chains: vec![Chain::whole(order)], ..RequestPlan::default() },
        trusts_post_ids: false,
        wanted: wanted.into(),
        meter,
        tally: Arc::new(Tally::default()),
        client: Arc::default(),
        outlet: outlet.clone(),
        opening: Default::default(),
    }
}

/// All rows of a scan that is never made to wait: id → how often it came.
fn read(
    simulator: &Simulator,
    order: Order,
    options: &[(&str, &str)],
) -> Result<BTreeMap<String, usize>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rang = Arc::new(tokio::sync::Notify::new());
    let ring = rang.clone();
    let outlet = Outlet::new(Box::new(move || ring.notify_one()));
    let scan = scan(simulator, order, options, &outlet);
    runtime.block_on(async {
        tokio::spawn(scan.run());
        let mut seen = BTreeMap::new();
        outlet.want();
        loop {
            match outlet.take() {
                Some(Event::Batch(rows)) => {
                    outlet.want();
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
        assert_eq!(simulator.complaints(), Vec::<String>::new());
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
                    s.storm = Storm {
                        messages: 2.0,
                        cursor_messages: 0.3,
                        cursor_deletes: 0.2,
                        ..Storm::default()
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

#[test]
fn what_passes_is_tried_again() {
    let simulator = simulator(150, |_| ());
    simulator.fault(Fault::Status(502), Times::Next(1));
    assert_eq!(read(&simulator, Order::InsertedAt, &[("max_retries", "1")]).unwrap().len(), 150);
}
