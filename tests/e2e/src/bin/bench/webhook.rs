//! How many events of a webhook one session applies in a second. What they are applied to is of no
//! matter.

use std::time::Instant;

use anyhow::{Result, ensure};
use e2e::page::literal;
use e2e::{Cluster, Shop};
use pancake_simulator::Settings;

use crate::table::Table;

const CONVERSATIONS: usize = 3_000;
const EVENTS: usize = 2_000;

pub fn measure() -> Result<Table> {
    let mut table = Table::new("Webhook", &["events", "time", "events a second"]);
    let cluster = Cluster::start()?;
    let shop = Shop::open_in(&cluster, Settings::of(CONVERSATIONS), &[])?;
    let mut session = shop.connect()?;
    session.execute("CREATE SCHEMA crm")?;
    for list in ["conversations", "messages"] {
        let since = "first_since => now() - interval '1 day'";
        session.execute(&format!("CALL pancake.sync('shop.{list}', 'crm.{list}', {since})"))?;
    }
    let page = shop.simulator.first_page();
    let ids = page.ids();
    let mut of_messages = Vec::new();
    let mut of_conversations = Vec::new();
    for n in 0..EVENTS {
        let id = &ids[n % ids.len()];
        page.message(id);
        of_messages.extend(page.messaging_event(id));
        of_conversations.extend(page.conversation_event(id));
    }
    for (name, events) in [("of messages", of_messages), ("of conversations", of_conversations)] {
        ensure!(events.len() == EVENTS, "events are missing");
        let texts: Vec<_> = events.iter().map(|event| literal(&event.to_string())).collect();
        let begun = Instant::now();
        for event in &texts {
            session.one(&format!("SELECT pancake.ingest({event}, 'crm.conversations', 'crm.messages')"))?;
        }
        let time = begun.elapsed().as_secs_f64();
        table.row(&[
            format!("{EVENTS} {name}"),
            format!("{time:.2} s"),
            format!("{:.0}", EVENTS as f64 / time),
        ]);
    }
    table.note("One after the other in one session, each a transaction of its own; fsync is off.".to_owned());
    Ok(table)
}
