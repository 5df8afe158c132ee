//! Measures how many batches a second the simulator serves over keep-alive connections, without
//! gzip and with. Judging the number is left to the reader: the client takes its share of the same
//! processor.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pancake_simulator::{PageSettings, Settings, Simulator};

const CONNECTIONS: usize = 4;
const SPAN: Duration = Duration::from_secs(3);

fn main() -> io::Result<()> {
    let page = PageSettings { row_bytes: Some(1_200), ..PageSettings::default() };
    let simulator = Simulator::start(Settings { pages: vec![page], ..Settings::default() })?;
    let ids = simulator.first_page().ids();
    let cursors: Vec<String> = ids.chunks(60).filter_map(|batch| batch.last().cloned()).collect();
    for headers in ["", "Accept-Encoding: gzip\r\n"] {
        let mut walk = Connection::open(&simulator, headers)?;
        let first = Instant::now();
        for cursor in &cursors {
            walk.ask(cursor)?;
        }
        let first = first.elapsed();
        let start = Instant::now();
        let counts = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CONNECTIONS)
                .map(|_| scope.spawn(|| hammer(&simulator, headers, &cursors, start)))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(0))).sum::<io::Result<usize>>()
        })?;
        println!(
            "{:>6.0} requests/s of 60 rows{}; the first walk of {} batches took {first:?}",
            counts as f64 / start.elapsed().as_secs_f64(),
            if headers.is_empty() { "" } else { ", gzip" },
            cursors.len(),
        );
    }
    Ok(())
}

fn hammer(simulator: &Simulator, headers: &str, cursors: &[String], start: Instant) -> io::Result<usize> {
    let mut connection = Connection::open(simulator, headers)?;
    let mut count = 0;
    for cursor in cursors.iter().cycle() {
        if start.elapsed() > SPAN {
            break;
        }
        connection.ask(cursor)?;
        count += 1;
    }
    Ok(count)
}

struct Connection {
    stream: BufReader<TcpStream>,
    headers: String,
    body: Vec<u8>,
}

impl Connection {
    fn open(simulator: &Simulator, headers: &str) -> io::Result<Connection> {
        let address = simulator.base_url().replace("http://", "").replace("/api", "");
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream: BufReader::with_capacity(256 << 10, stream),
            headers: headers.to_owned(),
            body: Vec::new(),
        })
    }

    fn ask(&mut self, cursor: &str) -> io::Result<()> {
        let request = format!(
            "GET /api/public_api/v2/pages/100000000000001/conversations?page_access_token=page-token-SECRET-1\
             &last_conversation_id={cursor} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n{}\r\n",
            self.headers
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body)
    }
}
