//! How long a cancelled statement lives on, by what it waits for: from the cancel request to the
//! error. That it ends at all is left to the tests.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use e2e::page::Address;
use e2e::{Session, Shop, SqlError};
use pancake_simulator::{Fault, Settings, Times};
use postgres::NoTls;

use crate::table::{Table, median, ms};

const TIMES: usize = 20;
/// By then a statement waits where it shall wait.
const SETTLED: Duration = Duration::from_millis(150);
/// Postgres signals a cancelled backend twice, and on a busy machine the second signal may meet the
/// next statement.
const ECHO: Duration = Duration::from_millis(50);

const HANGS: [(&str, Fault); 3] = [
    ("reply, before its headers", Fault::Hang),
    ("reply, in its body", Fault::HangMidBody),
    ("another attempt (1 s after HTTP 503)", Fault::Status(503)),
];

pub fn measure() -> Result<Table> {
    let mut table = Table::new("Cancel", &["waiting for", "median", "max"]);
    let shop = Shop::open(Settings::of(300))?;
    let mut session = shop.connect()?;
    let mut add = |what: &str, latencies: Vec<Duration>| {
        let max = latencies.iter().max().copied().unwrap_or_default();
        table.row(&[what.to_owned(), ms(median(latencies)), ms(max)]);
    };
    for (what, fault) in HANGS {
        shop.simulator.fault(fault, Times::Always);
        session = latencies(session, "shop", &mut |latencies| add(what, latencies))?;
        shop.simulator.clear_faults();
    }

    let page = shop.simulator.first_page();
    let here =
        |base_url| Address { base_url: Some(base_url), page_id: page.id().to_owned(), token: page.token() };
    // One request in 100 s; the first one spends it.
    here(shop.simulator.base_url()).import(&mut session, "slow", &[("requests_per_second", "0.01")])?;
    session.execute("SELECT id FROM slow.conversations LIMIT 1")?;
    session = latencies(session, "slow", &mut |latencies| add("the page's budget", latencies))?;

    // Accepts connections (the kernel does), and never answers the TLS handshake.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    here(format!("https://{}/api", silent.local_addr()?)).import(&mut session, "silent", &[])?;
    latencies(session, "silent", &mut |latencies| add("a connection (TLS handshake)", latencies))?;
    table.note(format!(
        "{TIMES} times each; the cancel request itself, a connection of its own, is part of it."
    ));
    Ok(table)
}

/// Gives the session back.
fn latencies(mut session: Session, schema: &str, tell: &mut dyn FnMut(Vec<Duration>)) -> Result<Session> {
    let mut found = Vec::new();
    for _ in 0..TIMES {
        let token = session.cancel_token();
        let sql = format!("SELECT id FROM {schema}.conversations LIMIT 1");
        let running = thread::spawn(move || {
            let outcome = session.execute(&sql);
            (session, outcome, Instant::now())
        });
        thread::sleep(SETTLED);
        let begun = Instant::now();
        token.cancel_query(NoTls)?;
        let outcome;
        let ended;
        (session, outcome, ended) = running.join().map_err(|_| anyhow!("the statement's thread is lost"))?;
        let error = outcome.err().context("the statement succeeded instead of waiting")?;
        let cancelled = SqlError::of(&error).is_some_and(|error| error.sqlstate == "57014");
        ensure!(cancelled, "not cancelled: {error:#}");
        found.push(ended.saturating_duration_since(begun));
        thread::sleep(ECHO);
    }
    tell(found);
    Ok(session)
}
