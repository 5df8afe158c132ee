//! `pancake.ingest`: an event of a webhook is applied to the copies, in any order and any number of
//! times; what it gets wrong the next delta mends. docs/webhook.md is run as a reader would.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use e2e::page::literal;
use e2e::{Session, Shop};
use pancake_simulator::{PageHandle, webhook};
use serde_json::{Value, json};

use super::{SYNC, is_the_page};
use crate::documents::{blocks, document};

const MESSAGES: &str = "CALL pancake.sync('shop.messages', 'crm.messages')";

fn open(rows: usize) -> (Shop<'static>, Session, PageHandle) {
    let (shop, mut session) = super::open(rows);
    session.execute(SYNC).unwrap();
    session.execute(MESSAGES).unwrap();
    let page = shop.simulator.first_page();
    (shop, session, page)
}

fn ingest(session: &mut Session, event: &Value) -> String {
    let sql = format!(
        "SELECT pancake.ingest({}, 'crm.conversations', 'crm.messages')",
        literal(&event.to_string())
    );
    session.one(&sql).unwrap()
}

/// What an event may change of a conversation, and its messages.
fn state(session: &mut Session, id: &str) -> String {
    let sql = format!(
        "SELECT jsonb_build_object('row', (SELECT to_jsonb(c) - 'synced_at' FROM crm.conversations c WHERE id = '{id}'),
             'messages', (SELECT jsonb_agg(to_jsonb(m) - 'synced_at' ORDER BY id) FROM crm.messages m WHERE conversation_id = '{id}'))"
    );
    session.one(&sql).unwrap()
}

fn cell(session: &mut Session, id: &str, column: &str) -> Option<String> {
    let sql = format!("SELECT {column}::text FROM crm.conversations WHERE id = '{id}'");
    session.rows(&sql).unwrap().remove(0).remove(0)
}

#[test]
fn a_message_arrives_at_once_and_the_next_delta_has_nothing_to_mend() {
    let (shop, mut session, page) = open(120);
    let old = page.ids()[80].clone();
    let new = page.create("INBOX");
    for id in [&old, &new] {
        page.message(id);
        let event = page.messaging_event(id).unwrap();
        assert_eq!(ingest(&mut session, &event), "inserted", "{id}");
        assert_eq!(ingest(&mut session, &event), "unchanged", "{id}");
        let served = page.conversation(id).unwrap();
        assert_eq!(cell(&mut session, id, "snippet").as_deref(), served["snippet"].as_str());
        let message = &event["data"]["message"];
        let sql = format!(
            "SELECT count(*) FROM crm.messages WHERE id = '{}' AND conversation_id = '{id}' AND inserted_at = '{}Z'",
            message["id"].as_str().unwrap(),
            message["inserted_at"].as_str().unwrap()
        );
        assert_eq!(session.one(&sql).unwrap(), "1");
        let is_newest = "(updated_at = (SELECT max(updated_at) FROM crm.conversations))";
        assert_eq!(cell(&mut session, id, is_newest).as_deref(), Some("true"));
    }
    session.execute(SYNC).unwrap();
    is_the_page(&mut session, "after a delta");
    session.execute(MESSAGES).unwrap();
    let missing = "SELECT count(*) FROM shop.conversations c JOIN shop.messages m ON m.conversation_id = c.id
                   LEFT JOIN crm.messages k ON k.id = m.id WHERE k.id IS NULL";
    assert_eq!(session.one(missing).unwrap(), "0");
    shop.assert_no_violations().unwrap();
}

#[test]
fn events_in_any_order_and_twice_end_in_the_same_rows() {
    let (_shop, mut session, page) = open(60);
    let id = page.ids()[30].clone();
    let mut events = Vec::new();
    for _ in 0..2 {
        page.message(&id);
        let mut event = page.messaging_event(&id).unwrap();
        // Of what both kinds of event hold, the later one wins that comes later.
        for key in ["tags", "seen", "assignee_ids"] {
            event["data"]["conversation"].as_object_mut().unwrap().remove(key);
        }
        events.push(event);
    }
    for (tags, seen) in [(vec![61], true), (vec![62, 63], false)] {
        page.retag(&id, &tags);
        page.set_seen(&id, seen);
        let mut event = page.conversation_event(&id).unwrap();
        event["data"]["conversation"].as_object_mut().unwrap().remove("snippet");
        events.push(event);
    }
    let mut ends = Vec::new();
    for order in permutations(&[0, 1, 2, 3]) {
        session.execute("BEGIN").unwrap();
        for n in order.iter().chain(&order) {
            let result = ingest(&mut session, &events[*n]);
            assert!(["inserted", "updated", "unchanged", "stale"].contains(&result.as_str()), "{result}");
        }
        ends.push((state(&mut session, &id), order));
        session.execute("ROLLBACK").unwrap();
    }
    assert_eq!(ends.len(), 24);
    for (end, order) in &ends {
        assert_eq!(*end, ends[0].0, "{order:?}");
    }
    let end: Value = serde_json::from_str(&ends[0].0).unwrap();
    assert_eq!(end["row"]["tags"], json!(["62", "63"]));
    assert_eq!(end["row"]["seen"], json!(false));
    assert_eq!(end["row"]["tag_names"].as_array().unwrap().len(), 2);
}

fn permutations(of: &[usize]) -> Vec<Vec<usize>> {
    let [] = of else {
        let rest = |first: usize| of.iter().copied().filter(|n| *n != first).collect::<Vec<_>>();
        let with = |first: usize| {
            permutations(&rest(first)).into_iter().map(move |rest| [vec![first], rest].concat())
        };
        return of.iter().flat_map(|first| with(*first)).collect();
    };
    vec![Vec::new()]
}

#[test]
fn what_an_event_did_is_returned() {
    let (_shop, mut session, page) = open(60);
    let ids = page.ids();
    // A version once, and none that is older.
    page.set_seen(&ids[0], true);
    let first = page.conversation_event(&ids[0]).unwrap();
    page.set_seen(&ids[0], false);
    let second = page.conversation_event(&ids[0]).unwrap();
    assert_eq!(ingest(&mut session, &second), "updated");
    assert_eq!(ingest(&mut session, &second), "unchanged");
    assert_eq!(ingest(&mut session, &first), "stale");
    assert_eq!(cell(&mut session, &ids[0], "seen").as_deref(), Some("false"));
    let version = cell(&mut session, &ids[0], "webhook_version");
    assert_eq!(version, Some(second["data"]["conversation"]["version"].to_string()));
    // One that was sent long before the row was written, and one without a time.
    let written = cell(&mut session, &ids[0], "extract(epoch FROM synced_at)::bigint").unwrap();
    page.set_seen(&ids[0], true);
    let mut late = page.conversation_event(&ids[0]).unwrap();
    late["timestamp"] = json!(written.parse::<i64>().unwrap() - 62);
    assert_eq!(ingest(&mut session, &late), "stale");
    late.as_object_mut().unwrap().remove("timestamp");
    assert_eq!(ingest(&mut session, &late), "updated");
    // Nothing differs: the version is kept, and synced_at as well.
    let before = cell(&mut session, &ids[0], "synced_at");
    let same = page.conversation_event(&ids[0]).unwrap();
    assert_eq!(ingest(&mut session, &same), "unchanged");
    assert_eq!(cell(&mut session, &ids[0], "synced_at"), before);
    // Deleted, and there again.
    let removal = page.removal_event(&ids[1]);
    assert_eq!(ingest(&mut session, &removal), "removed");
    assert!(cell(&mut session, &ids[1], "removed_at").is_some());
    assert_eq!(ingest(&mut session, &removal), "unchanged");
    page.message(&ids[1]);
    assert_eq!(ingest(&mut session, &page.messaging_event(&ids[1]).unwrap()), "inserted");
    assert_eq!(cell(&mut session, &ids[1], "removed_at"), None);
    // What was sent before a removal does not bring a conversation back, nor an event that does not
    // hold whether it is removed.
    let removal = page.removal_event(&ids[1]);
    page.message(&ids[1]);
    let mut late = page.messaging_event(&ids[1]).unwrap();
    assert_eq!(ingest(&mut session, &removal), "removed");
    late["timestamp"] = json!(late["timestamp"].as_i64().unwrap() - 5);
    assert_eq!(ingest(&mut session, &late), "inserted");
    assert!(cell(&mut session, &ids[1], "removed_at").is_some());
    let mut tagged = page.conversation_event(&ids[1]).unwrap();
    tagged["data"]["conversation"].as_object_mut().unwrap().remove("is_removed");
    ingest(&mut session, &tagged);
    assert!(cell(&mut session, &ids[1], "removed_at").is_some());
    assert_eq!(ingest(&mut session, &page.conversation_event(&ids[1]).unwrap()), "updated");
    assert_eq!(cell(&mut session, &ids[1], "removed_at"), None);
    // A message that comes twice does not undo what a conversation's event has brought meanwhile.
    page.message(&ids[1]);
    let shown = page.messaging_event(&ids[1]).unwrap();
    assert_eq!(ingest(&mut session, &shown), "inserted");
    page.retag(&ids[1], &[64, 65]);
    assert_eq!(ingest(&mut session, &page.conversation_event(&ids[1]).unwrap()), "updated");
    assert_eq!(ingest(&mut session, &shown), "unchanged");
    assert_eq!(cell(&mut session, &ids[1], "tags").as_deref(), Some("{64,65}"));
    // A message that was taken back stays so, and an older event about it is stale.
    let mut taken_back = shown.clone();
    taken_back["data"]["message"]["is_removed"] = json!(true);
    assert_eq!(ingest(&mut session, &taken_back), "removed");
    assert_eq!(ingest(&mut session, &shown), "unchanged");
    let mut older = shown.clone();
    older["timestamp"] = json!(shown["timestamp"].as_i64().unwrap() - 100);
    older["data"]["message"]["message"] = json!("<div>other</div>");
    assert_eq!(ingest(&mut session, &older), "stale");
    // An older message comes late: it is kept, and the conversation stays as it is.
    let snippet = cell(&mut session, &ids[1], "snippet");
    older["data"]["message"]["id"] = json!("m_late");
    older["data"]["message"]["inserted_at"] = json!("2020-01-01T00:00:00");
    older["data"]["conversation"]["snippet"] = json!("older");
    assert_eq!(ingest(&mut session, &older), "inserted");
    assert_eq!(cell(&mut session, &ids[1], "snippet"), snippet);
    // Nothing of ours, or of a page that is not copied.
    let mut elsewhere = shown.clone();
    elsewhere["page_id"] = json!("2");
    let unknown = page.removal_event("100000000000001_none");
    for event in [json!({"event_type": "subscription"}), json!({"a": 1}), json!(7), elsewhere, unknown] {
        assert_eq!(ingest(&mut session, &event), "ignored", "{event}");
    }
    assert_eq!(session.one("SELECT pancake.ingest(NULL, 'crm.conversations')").unwrap(), "ignored");
    let swapped = format!("SELECT pancake.ingest({}, 'crm.messages')", literal(&shown.to_string()));
    assert_eq!(session.error(&swapped).unwrap().sqlstate, "42809");
    // Without a table for messages the result is of the conversation; the event was sent before the
    // row was written.
    let mut shown = shown;
    shown["timestamp"] = json!(shown["timestamp"].as_i64().unwrap() - 30);
    let sql = format!("SELECT pancake.ingest({}, 'crm.conversations')", literal(&shown.to_string()));
    assert_eq!(session.one(&sql).unwrap(), "unchanged");
}

/// Tables of one's own: by `id` alone, with other types and columns.
#[test]
fn a_table_of_ones_own_takes_what_it_has_columns_for() {
    let (shop, mut session) = super::open(60);
    session
        .execute(
            "CREATE TABLE crm.conversations (id text PRIMARY KEY, snippet text, tags jsonb, updated_at timestamptz,
                 note text DEFAULT 'mine', upper text GENERATED ALWAYS AS (upper(snippet)) STORED)",
        )
        .unwrap();
    session.execute(SYNC).unwrap();
    let page = shop.simulator.first_page();
    let new = page.create("INBOX");
    page.retag(&new, &[61]);
    let event = page.messaging_event(&new).unwrap();
    let sql = format!("SELECT pancake.ingest({}, 'crm.conversations')", literal(&event.to_string()));
    assert_eq!(session.one(&sql).unwrap(), "inserted");
    let row = "jsonb_build_array(tags, note, upper = upper(snippet))";
    assert_eq!(cell(&mut session, &new, row).as_deref(), Some(r#"[["61"], "mine", true]"#));
    page.retag(&new, &[62]);
    let event = page.conversation_event(&new).unwrap();
    let sql = format!("SELECT pancake.ingest({}, 'crm.conversations')", literal(&event.to_string()));
    assert_eq!(session.one(&sql).unwrap(), "updated");
    assert_eq!(cell(&mut session, &new, "tags").as_deref(), Some(r#"["62"]"#));
    // The source may be gone.
    session
        .execute("ALTER FOREIGN TABLE shop.conversations RENAME TO gone; DROP FOREIGN TABLE shop.gone")
        .unwrap();
    page.retag(&new, &[63]);
    let event = page.conversation_event(&new).unwrap();
    let sql = format!("SELECT pancake.ingest({}, 'crm.conversations')", literal(&event.to_string()));
    assert_eq!(session.one(&sql).unwrap(), "updated");
    session
        .execute("IMPORT FOREIGN SCHEMA pancake LIMIT TO (conversations) FROM SERVER shop INTO shop")
        .unwrap();
    // A role needs the rights that the statements need.
    session.execute("CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA crm TO guest; GRANT SELECT ON crm.conversations TO guest").unwrap();
    let mut guest = shop.database.connect_as("guest").unwrap();
    page.message(&new);
    let event = page.messaging_event(&new).unwrap();
    let sql = format!("SELECT pancake.ingest({}, 'crm.conversations')", literal(&event.to_string()));
    assert_eq!(guest.error(&sql).unwrap().sqlstate, "42501");
    assert_eq!(session.one(&sql).unwrap(), "updated");
    session.execute("GRANT INSERT, UPDATE ON crm.conversations TO guest; ALTER TABLE crm.conversations DROP COLUMN webhook_version").unwrap();
    let event = page.conversation_event(&new).unwrap();
    let sql = format!("SELECT pancake.ingest({}, 'crm.conversations')", literal(&event.to_string()));
    let error = guest.error(&sql).unwrap();
    assert_eq!(
        (error.sqlstate.as_str(), error.message.as_str()),
        ("42501", "crm.conversations lacks the column webhook_version")
    );
    session.execute("ALTER TABLE crm.conversations ADD COLUMN webhook_version bigint").unwrap();
    assert_eq!(guest.one(&sql).unwrap(), "unchanged");
    // A column that the table makes itself is not written.
    session
        .execute(
            "CREATE TABLE crm.messages (id text PRIMARY KEY, conversation_id text, inserted_at timestamptz, raw jsonb,
                 text text GENERATED ALWAYS AS (raw->>'message') STORED)",
        )
        .unwrap();
    session.execute(MESSAGES).unwrap();
    page.message(&new);
    let mut event = page.messaging_event(&new).unwrap();
    let sql = |event: &Value| {
        format!("SELECT pancake.ingest({}, 'crm.conversations', 'crm.messages')", literal(&event.to_string()))
    };
    assert_eq!(session.one(&sql(&event)).unwrap(), "inserted");
    event["data"]["message"]["original_message"] = json!("other");
    event["data"]["conversation"]["snippet"] = json!("other");
    assert_eq!(session.one(&sql(&event)).unwrap(), "unchanged");
}

/// Events and runs beside each other: the copy is the page once a run has come after the last one.
#[test]
fn events_beside_a_running_sync_lose_nothing() {
    let (shop, mut session, page) = open(400);
    let mut events = shop.connect().unwrap();
    let running = std::thread::spawn(move || {
        for _ in 0..15 {
            session.execute(SYNC).unwrap();
        }
        session
    });
    let ids = page.ids();
    for n in 0..120 {
        let id = &ids[n * 37 % ids.len()];
        let event = if n % 3 == 0 {
            page.retag(id, &[61, 60 + n as i64 % 5]);
            page.conversation_event(id).unwrap()
        } else {
            page.message(id);
            page.messaging_event(id).unwrap()
        };
        ingest(&mut events, &event);
    }
    let mut session = running.join().unwrap();
    session
        .execute("CALL pancake.sync('shop.conversations', 'crm.conversations', full_rescan => true)")
        .unwrap();
    is_the_page(&mut session, "after the events");
}

/// A program that is ended with the test, however that ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The receiver of docs/webhook.md, on a port of its own, with events from the simulator.
#[test]
fn the_receiver_of_the_documents_applies_events() {
    let (shop, mut session, page) = open(60);
    let document = document("docs/webhook.md");
    let (_, _, program) = blocks(&document).into_iter().find(|(_, word, _)| word == "python").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let receiver = Command::new("python3")
        .args(["-u", "-c", &program])
        .env("PORT", port.to_string())
        .env("PGHOST", shop.database.cluster().socket_dir())
        .env("PGDATABASE", shop.database.name())
        .env("PGUSER", e2e::account::SUPERUSER)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut receiver = Program(receiver);
    let mut lines = BufReader::new(receiver.0.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains(&port.to_string()));
    let url = format!("http://127.0.0.1:{port}/webhook");
    let id = &page.ids()[20];
    page.message(id);
    let event = page.messaging_event(id).unwrap();
    assert_eq!(webhook::post(&url, &event).unwrap(), 200);
    assert_eq!(lines.next().unwrap().unwrap(), "inserted");
    let served = page.conversation(id).unwrap();
    assert_eq!(cell(&mut session, id, "snippet").as_deref(), served["snippet"].as_str());
    // What is no event is answered as well: Pancake suspends a webhook whose replies fail.
    assert_eq!(webhook::post(&url, &json!({"it's": "no \"event\" :event"})).unwrap(), 200);
    assert_eq!(lines.next().unwrap().unwrap(), "ignored");
    let long = json!({"long": "\\ \t\n".repeat(100_000)});
    assert_eq!(webhook::post(&url, &long).unwrap(), 200);
    assert_eq!(lines.next().unwrap().unwrap(), "ignored");
}
