//! A simulator for the command line: serves pages on 127.0.0.1 until it is ended.
//! What it serves is left to the library.

use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

use pancake_simulator::{PageHandle, PageSettings, Settings, Shape, Simulator, webhook};

const USAGE: &str = "\
usage: pancake-simulator [flags]
  --port N                    port on 127.0.0.1 (default: any free one)
  --seed N                    the world's seed (1)
  --pages N                   pages (1)
  --conversations N           conversations of each page (3000)
  --days N                    days they are spread over (90)
  --row-bytes N               pad rows to about this size
  --article                   rows in the shape of the article
  --rate R                    requests per page per second (unlimited)
  --latency-ms N --jitter-ms N
  --batch N                   rows of a batch (60)
  --messages-per-request X    random rows that get a message with each request (0)
  --as-seen                   frozen rows, and refusals of windows and lone bounds, as clients met them (default)
  --as-documented             neither
  --late-seconds N            messages show up to so much later (0)
  --token TOKEN               the first page's token
  --tls --ca-file PATH        serve https, write the authority's certificate there
  --token-file PATH           write lines page_id:token there
  --webhook URL               each second a conversation gets a message, and the event is posted there
  --no-gzip
  --log                       keep the request log (memory grows)";

fn main() -> Result<(), Box<dyn Error>> {
    let mut settings = Settings { keep_log: false, ..Settings::default() };
    let mut page = PageSettings::default();
    let (mut pages, mut ca_file, mut token_file, mut webhook, mut as_seen) = (1, None, None, None, true);
    let mut words: VecDeque<String> = std::env::args().skip(1).collect();
    while let Some(flag) = words.pop_front() {
        let switches = &mut settings.switches;
        let mut value = || words.pop_front().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--port" => settings.port = value()?.parse()?,
            "--seed" => settings.seed = value()?.parse()?,
            "--pages" => pages = value()?.parse()?,
            "--conversations" => page.conversations = value()?.parse()?,
            "--days" => page.days = value()?.parse()?,
            "--row-bytes" => page.row_bytes = Some(value()?.parse()?),
            "--article" => page.shape = Shape::Article,
            "--rate" => switches.rate = Some(value()?.parse()?),
            "--latency-ms" => switches.latency = Duration::from_millis(value()?.parse()?),
            "--jitter-ms" => switches.jitter = Duration::from_millis(value()?.parse()?),
            "--batch" => switches.batch = value()?.parse()?,
            "--messages-per-request" => switches.churn.messages = value()?.parse()?,
            "--late-seconds" => switches.late = Duration::from_secs(value()?.parse()?),
            "--as-seen" => as_seen = true,
            "--as-documented" => as_seen = false,
            "--token" => page.token = value()?,
            "--tls" => settings.tls = true,
            "--ca-file" => ca_file = Some(value()?),
            "--token-file" => token_file = Some(value()?),
            "--webhook" => webhook = Some(value()?),
            "--no-gzip" => switches.gzip = false,
            "--log" => settings.keep_log = true,
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(());
            }
            _ => return Err(format!("unknown flag {flag}\n{USAGE}").into()),
        }
    }
    let numbered = |ordinal: usize| {
        let PageSettings { id, token, name, .. } = PageSettings::numbered(ordinal);
        let token = if ordinal == 0 { page.token.clone() } else { token };
        PageSettings { id, token, name, ..page.clone() }
    };
    settings.pages = (0..pages).map(numbered).collect();
    if as_seen {
        settings = settings.as_seen();
    }

    let simulator = Simulator::start(settings)?;
    for id in simulator.page_ids() {
        simulator.page(&id).warm();
    }
    if let (Some(path), Some(pem)) = (ca_file, simulator.ca_pem()) {
        std::fs::write(path, pem)?;
    }
    if let Some(path) = token_file {
        std::fs::write(path, simulator.token_file())?;
    }
    let first = simulator.first_page();
    println!("base_url={} page_id={} page_access_token={}", simulator.base_url(), first.id(), first.token());
    if let Some(url) = webhook {
        std::thread::spawn(move || post_events(&first, &url));
    }
    simulator.wait();
    Ok(())
}

/// Posts the events of one conversation after the other; what could not be posted is lost, as it is
/// at Pancake.
fn post_events(page: &PageHandle, url: &str) {
    for id in page.ids().iter().cycle() {
        std::thread::sleep(Duration::from_secs(1));
        page.message(id);
        let Some(event) = page.messaging_event(id) else { continue };
        match webhook::post(url, &event) {
            Ok(status) => println!("conversation {id}: HTTP {status}"),
            Err(error) => println!("conversation {id}: {error}"),
        }
    }
}
