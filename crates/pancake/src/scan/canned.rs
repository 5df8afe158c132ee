//! This module gives tests a session whose replies are functions of the request, at a latency, on
//! tokio's paused clock: hours of retries and of the rate limit pass at once.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::http::client::{Ready, Request, Transport};
use crate::http::connection::Turn;
use crate::options::table::ServerOptions;
use crate::paging::verdicts::Verdicts;
use crate::rate::limiter::{Clocks, Memory, Spacing};
use crate::reply::envelope::Reply;
use crate::reply::retry::Failure;
use crate::scan::session::Session;
use crate::schema::catalogue::Object;
use crate::secret::Secret;
use crate::stats::{PageStats, ScanStats};

/// 2026-11-14.
pub(crate) const NOW: i64 = 1_794_614_400_000_000;

type Answer = Box<dyn Fn(usize, &str) -> Result<Reply, Failure> + Send + Sync>;

/// Answers the request of this number and address.
pub(crate) struct Canned {
    answer: Answer,
    latency: Duration,
    begin: Instant,
    in_flight: AtomicUsize,
    pub most_in_flight: AtomicUsize,
    /// When each request was sent, and its address without the token.
    pub log: Mutex<Vec<(Duration, String)>>,
}

impl Canned {
    pub fn new(
        latency: Duration,
        answer: impl Fn(usize, &str) -> Result<Reply, Failure> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            answer: Box::new(answer),
            latency,
            begin: Instant::now(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            log: Mutex::default(),
        })
    }

    /// The seconds at which requests were sent, to a tenth.
    pub fn seconds(&self) -> Vec<f64> {
        let log = self.log.lock().unwrap();
        log.iter().map(|(at, _)| (at.as_secs_f64() * 10.0).round() / 10.0).collect()
    }
}

impl Transport for Canned {
    fn ready<'a>(&'a self, _: &'a ServerOptions, turn: Arc<Turn>) -> BoxFuture<'a, Ready> {
        Box::pin(async move {
            turn.take().await;
            Ready::without_lane(turn)
        })
    }

    fn get<'a>(&'a self, request: Request<'a>, _: Ready) -> BoxFuture<'a, Result<Reply, Failure>> {
        Box::pin(async move {
            let address = request.address.without_token();
            let number = {
                let mut log = self.log.lock().unwrap();
                log.push((self.begin.elapsed(), address.clone()));
                log.len() - 1
            };
            let in_flight = self.in_flight.fetch_add(1, SeqCst) + 1;
            self.most_in_flight.fetch_max(in_flight, SeqCst);
            tokio::time::sleep(self.latency).await;
            self.in_flight.fetch_sub(1, SeqCst);
            (self.answer)(number, &address)
        })
    }
}

pub(crate) fn reply(status: u16, body: impl Into<String>) -> Reply {
    Reply { status, content_type: "application/json".to_owned(), body: body.into(), ..Reply::default() }
}

/// A session about the conversations of a page at five requests a second.
pub(crate) fn session(transport: Arc<Canned>, options: &[(&str, &str)]) -> Session {
    fn monotonic() -> u64 {
        thread_local!(static BEGIN: Instant = Instant::now());
        1_000_000_000 + BEGIN.with(|begin| begin.elapsed().as_nanos() as u64)
    }
    let clocks = Clocks { monotonic_ns: monotonic, wall_micros: || NOW };
    let memory = Memory {
        spacings: vec![Spacing::default()].leak(),
        stats: vec![PageStats::default()].leak(),
        verdicts: vec![Verdicts::default()].leak(),
        clocks,
    };
    let five = ("requests_per_second", "5");
    let given: Vec<_> =
        [five].iter().chain(options).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let server = ServerOptions::read(&given).unwrap();
    let limiter = memory.page(&server.base_url, "1", server.requests_per_second).unwrap();
    Session {
        server,
        object: Object::Conversations,
        page_id: "1".to_owned(),
        token: Secret::new("token"),
        limiter,
        tally: Arc::new(ScanStats::default()),
        client: transport,
        opening: Default::default(),
    }
}
