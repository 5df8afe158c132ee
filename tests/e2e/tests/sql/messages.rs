//! Messages of conversations: named, listed, joined; in order and in part; once each while they
//! arrive and vanish.

use std::collections::BTreeSet;

use e2e::{Session, Shop};
use pancake_simulator::*;
use serde_json::{Value, json};

/// A page and its longest conversation.
fn open(rows: usize) -> (Shop<'static>, Session, String) {
    let shop = Shop::open_with(Settings::of(rows).as_seen(), &[("max_retries", "0")]).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("SET TimeZone = 'UTC'").unwrap();
    let longest = longest(&shop).remove(0);
    (shop, session, longest)
}

/// The conversations with most messages first.
fn longest(shop: &Shop) -> Vec<String> {
    let mut rows = shop.simulator.first_page().conversations();
    rows.sort_by_key(|row| std::cmp::Reverse(row["message_count"].as_u64()));
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

fn ids(rows: &[Value]) -> Vec<String> {
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// As a column of `messages` should show it.
fn expected(row: &Value) -> Value {
    let key = |key: &str| row[key].clone();
    let from = |key: &str| row["from"].get(key).cloned().unwrap_or(Value::Null);
    let staff = if from("uid").is_null() { from("admin_id") } else { from("uid") };
    let by_machine = from("ai_generated") == true || from("is_automated") == true;
    // The simulator's HTML is one line in tags.
    let html = key("message").as_str().unwrap().replace("<p>", "").replace("</p>", "");
    let html = html.replace("<div>", "").replace("</div>", "").replace("&#32;", " ");
    let html = html.replace("&quot;", "\"").replace("&lt;", "<").replace("&amp;", "&");
    let text = if key("original_message") == "" { json!(html) } else { key("original_message") };
    json!({
        "id": key("id"), "conversation_id": key("conversation_id"), "page_id": "100000000000001", "type": key("type"),
        "from_id": from("id"), "from_name": from("name"), "from_staff_id": staff, "from_staff_name": from("admin_name"),
        "from_bot": by_machine, "message": key("message"), "original_message": key("original_message"), "text": text, "attachments": key("attachments"),
        "seen": key("seen"), "has_phone": key("has_phone"), "is_hidden": key("is_hidden"), "is_removed": key("is_removed"),
        "inserted_at": json!(format!("{}+00:00", row["inserted_at"].as_str().unwrap().trim_end_matches('0').trim_end_matches('.'))),
        "raw": row,
    })
}

#[test]
fn every_message_of_a_conversation_comes_unchanged() {
    let (shop, mut session, _) = open(120);
    for id in longest(&shop).iter().step_by(9) {
        let sql = format!(
            "SELECT to_jsonb(m) FROM shop.messages m WHERE conversation_id = '{id}' ORDER BY inserted_at, id"
        );
        let shown: Vec<Value> =
            session.column(&sql).unwrap().iter().map(|row| serde_json::from_str(row).unwrap()).collect();
        let mut truth: Vec<Value> = shop.simulator.first_page().messages(id).iter().map(expected).collect();
        let zone = |row: &Value| row["inserted_at"].as_str().unwrap().replace("+00:00", "");
        truth.sort_by_key(|row| (zone(row), row["id"].as_str().unwrap().to_owned()));
        assert_eq!(shown.len(), truth.len(), "{id}");
        for row in &truth {
            let found = shown.iter().find(|other| other["id"] == row["id"]).unwrap();
            for column in row.as_object().unwrap().keys().filter(|column| *column != "inserted_at") {
                assert_eq!(found[column], row[column], "{column} of {row}");
            }
        }
        let differ = format!(
            "SELECT count(*) FROM shop.messages WHERE conversation_id = '{id}' AND inserted_at <> (raw ->> 'inserted_at')::timestamptz"
        );
        assert_eq!(session.one(&differ).unwrap(), "0");
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn a_query_costs_its_batches() {
    let (shop, mut session, id) = open(300);
    let all = shop.simulator.first_page().messages(&id);
    assert!(all.len() > 60, "{}", all.len());
    let newest: Vec<String> = ids(&all).into_iter().rev().collect();
    // A batch begins with the last row of the one before; beyond the limit nothing is asked ahead.
    let most = all.len() - 1;
    for (limit, requests) in [(1, 1), (10, 1), (30, 1), (31, 2), (59, 2), (most, (most - 1).div_ceil(29))] {
        let sql = format!(
            "SELECT id FROM shop.messages WHERE conversation_id = '{id}' ORDER BY inserted_at DESC LIMIT {limit}"
        );
        let plan = session.explain(&sql).unwrap();
        assert!(!plan.contains("Sort"), "{plan}");
        let (came, log) = shop.watch(|| session.column(&sql).unwrap());
        assert_eq!(came, newest[..limit], "{limit}");
        assert_eq!(log.len(), requests, "{limit}");
    }
    let (count, log) = shop.watch(|| {
        session.one(&format!("SELECT count(*) FROM shop.messages WHERE conversation_id = '{id}'")).unwrap()
    });
    assert_eq!(count, all.len().to_string());
    // The end is proven by the last message alone, and by nothing behind it.
    assert_eq!(log.len(), 1 + (all.len() - 30).div_ceil(29) + 2);
    // A lower bound ends the walk.
    let at = all[all.len() - 12]["inserted_at"].as_str().unwrap();
    for (clause, rows) in [
        (format!("inserted_at >= '{at}'"), 12),
        (format!("'{at}' < inserted_at"), 11),
        (format!("inserted_at BETWEEN '{at}' AND 'infinity'"), 12),
        (format!("inserted_at >= '{at}' AND inserted_at < '{at}'"), 0),
    ] {
        let sql = format!("SELECT id FROM shop.messages WHERE conversation_id = '{id}' AND {clause}");
        let (came, log) = shop.watch(|| session.column(&sql).unwrap());
        assert_eq!(came, newest[..rows], "{clause}");
        assert_eq!(log.len(), usize::from(rows > 0), "{clause}");
    }
    let ((), log) = shop.watch(|| {
        session.execute("SELECT FROM shop.messages WHERE conversation_id = NULL; SELECT FROM shop.messages WHERE conversation_id = ANY ('{}'); SELECT FROM shop.messages WHERE conversation_id = 'a' AND conversation_id = 'b'").unwrap();
    });
    assert!(log.is_empty());
    let plan = session
        .explain_analyze(&format!(
            "SELECT id FROM shop.messages WHERE conversation_id = '{id}' AND inserted_at >= '{at}'"
        ))
        .unwrap();
    for line in [
        format!("Pancake Sent: conversation_id={id}"),
        "(ends the walk)".to_owned(),
        "Pancake Requests: 1 (".to_owned(),
        "Pancake Stopped: passed the lower bound".to_owned(),
    ] {
        assert!(plan.contains(&line), "{plan}");
    }
    shop.assert_no_violations().unwrap();
}

/// Batches of other sizes, of one row, and a `current_count` that is rounded to whole batches.
#[test]
fn a_conversation_is_whole_however_it_is_cut() {
    let (shop, mut session, id) = open(60);
    let page = shop.simulator.first_page();
    while page.messages(&id).len() < 131 {
        shop.simulator.advance(std::time::Duration::from_secs(7));
        assert!(page.message(&id));
    }
    let truth: Vec<String> = ids(&page.messages(&id)).into_iter().rev().collect();
    let servers = [
        ("batches of 1", 1, None, CountReading::Exact, 1 + 3 * 131),
        ("batches of 20", 20, None, CountReading::Exact, 1 + 6 + 2),
        ("batches of 25", 25, None, CountReading::Exact, 1 + 5 + 2),
        ("30, then 1", 30, Some(1), CountReading::Exact, 1 + 1 + 3 * 102),
        ("30, then 20", 30, Some(20), CountReading::Exact, 1 + 6 + 2),
        ("rounded down", 30, None, CountReading::RoundDown, 28),
        ("rounded up", 30, None, CountReading::RoundUp, 20),
        ("rounded to the nearest", 30, None, CountReading::Nearest, 30),
    ];
    for (what, batch, later, reading, most) in servers {
        shop.simulator.switches(|switches| {
            switches.message_batch = batch;
            switches.message_batch_later = later;
            switches.current_count = reading;
        });
        let all = format!("SELECT id FROM shop.messages WHERE conversation_id = '{id}'");
        let (came, log) = shop.watch(|| session.column(&all).unwrap());
        assert_eq!(came, truth, "{what}");
        assert!(log.len() <= most, "{what}: {}", log.len());
        let ordered = format!("{all} ORDER BY inserted_at DESC");
        for limit in [1, 29, 30, 31, 90, 131] {
            let came = session.column(&format!("{ordered} LIMIT {limit}")).unwrap();
            assert_eq!(came, truth[..limit], "{what}: {limit}");
        }
        let at = page.messages(&id)[131 - 45]["inserted_at"].as_str().unwrap().to_owned();
        let came = session.column(&format!("{all} AND inserted_at >= '{at}'")).unwrap();
        assert_eq!(came, truth[..45], "{what}");
        let plan = session.explain_analyze(&all).unwrap();
        for line in [format!("Pancake Requests: {} (0 retried", log.len()), "131 rows".to_owned()] {
            assert!(plan.contains(&line), "{what}: {plan}");
        }
        // Messages arrive and vanish meanwhile.
        for request in [2, 5] {
            page.at_messages_request(request, Event::Message(Target::Cursor));
            page.at_messages_request(request + 1, Event::DeleteMessage(Target::Cursor, 131));
        }
        let came = session.column(&all).unwrap();
        assert_eq!(came, truth, "{what}");
        session.column(&format!("{ordered} LIMIT 1")).unwrap();
        let now: Vec<String> = ids(&page.messages(&id)).into_iter().rev().collect();
        assert_eq!(now, truth, "{what}: what arrived is gone");
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn many_conversations_are_named_listed_and_joined() {
    let (shop, mut session, _) = open(200);
    let page = shop.simulator.first_page();
    let few: Vec<String> = longest(&shop).into_iter().step_by(5).collect();
    assert!(few.len() > 33, "more than the chains of other filters");
    let mut truth: Vec<String> = few.iter().flat_map(|id| ids(&page.messages(id))).collect();
    truth.sort();
    session
        .execute(&format!(
            "CREATE TABLE few AS SELECT unnest('{{{}}}'::text[]) AS id; ANALYZE few",
            few.join(",")
        ))
        .unwrap();
    let list = few.join("','");
    for sql in [
        format!("SELECT id FROM shop.messages WHERE conversation_id IN ('{list}')"),
        "SELECT id FROM shop.messages WHERE conversation_id = ANY (ARRAY(SELECT id FROM few))".to_owned(),
        "SELECT m.id FROM few JOIN shop.messages m ON m.conversation_id = few.id".to_owned(),
        "SELECT m.id FROM few, LATERAL (SELECT * FROM shop.messages m WHERE m.conversation_id = few.id OFFSET 0) m".to_owned(),
        "SELECT m.id FROM shop.messages m WHERE EXISTS (SELECT FROM few WHERE few.id = m.conversation_id)".to_owned(),
        "SELECT m.id FROM few LEFT JOIN shop.messages m ON m.conversation_id = few.id".to_owned(),
    ] {
        let mut came = session.column(&sql).unwrap();
        came.sort();
        assert_eq!(came, truth, "{sql}");
    }
    // Several conversations in one order.
    let sql =
        format!("SELECT id FROM shop.messages WHERE conversation_id IN ('{list}') ORDER BY inserted_at DESC");
    let ordered = session.rows(&format!("SELECT inserted_at FROM shop.messages WHERE conversation_id IN ('{list}') ORDER BY inserted_at DESC")).unwrap();
    assert!(!session.explain(&sql).unwrap().contains("Sort"));
    assert_eq!(ordered.len(), truth.len());
    // The last message of each, by a request each.
    let last = "SELECT m.id FROM few, LATERAL (SELECT id FROM shop.messages WHERE conversation_id = few.id ORDER BY inserted_at DESC LIMIT 1) m";
    let (mut came, log) = shop.watch(|| session.column(last).unwrap());
    let mut newest: Vec<String> = few.iter().map(|id| ids(&page.messages(id)).pop().unwrap()).collect();
    came.sort();
    newest.sort();
    assert_eq!(came, newest);
    assert_eq!(log.len(), few.len());
    shop.assert_no_violations().unwrap();
}

/// A list of conversations does not wait for one after the other.
#[test]
fn conversations_of_a_list_are_asked_at_the_same_time() {
    let (shop, mut session, _) = open(200);
    let few: Vec<String> = longest(&shop).into_iter().step_by(4).collect();
    let sql = format!("SELECT count(*) FROM shop.messages WHERE conversation_id IN ('{}')", few.join("','"));
    shop.simulator.switches(|switches| switches.latency = std::time::Duration::from_millis(60));
    shop.simulator.clear_log();
    let truth: usize = few.iter().map(|id| shop.simulator.first_page().messages(id).len()).sum();
    assert_eq!(session.one(&sql).unwrap(), truth.to_string());
    assert!(shop.simulator.most_in_flight() >= 4, "{}", shop.simulator.most_in_flight());
    shop.assert_no_violations().unwrap();
}

#[test]
fn messages_of_no_conversation_are_an_error_that_shows_the_join() {
    let (shop, mut session, _) = open(20);
    for sql in [
        "SELECT id FROM shop.messages",
        "SELECT id FROM shop.messages LIMIT 1",
        "SELECT id FROM shop.messages WHERE inserted_at > now() - interval '1 hour'",
        "SELECT id FROM shop.messages WHERE conversation_id LIKE '1%'",
        "SELECT c.id FROM shop.conversations c FULL JOIN shop.messages m ON m.conversation_id = c.id",
        "SELECT count(*) FROM shop.messages m JOIN shop.conversations c ON m.conversation_id || '' = c.id",
    ] {
        session.explain(sql).unwrap();
        let (error, log) = shop.watch(|| session.error(sql).unwrap());
        assert_eq!(error.sqlstate, "HV002", "{sql}: {error}");
        assert!(error.hint.unwrap().contains("JOIN shop.messages m ON m.conversation_id = c.id"), "{sql}");
        assert!(log.len() < 5 && log.iter().all(|entry| entry.endpoint == Endpoint::Conversations), "{sql}");
    }
    // The names are those of the tables, and the HINT for an OR shows the list to write instead.
    session
        .execute(
            "CREATE SCHEMA \"Hà Nội\"; IMPORT FOREIGN SCHEMA pancake FROM SERVER shop INTO \"Hà Nội\";
             CREATE SCHEMA alone; IMPORT FOREIGN SCHEMA pancake LIMIT TO (messages) FROM SERVER shop INTO alone;
             CREATE TABLE alone.conversations (id text);
             CREATE SCHEMA far; IMPORT FOREIGN SCHEMA pancake LIMIT TO (messages) FROM SERVER shop INTO far;
             CREATE SERVER elsewhere FOREIGN DATA WRAPPER pancake_fdw;
             CREATE FOREIGN TABLE far.conversations (id text) SERVER elsewhere OPTIONS (object 'conversations', page_id '1');
             CREATE SCHEMA odd; IMPORT FOREIGN SCHEMA pancake LIMIT TO (messages) FROM SERVER shop INTO odd;
             CREATE FOREIGN TABLE odd.conversations (id text) SERVER shop OPTIONS (object 'tags')",
        )
        .unwrap();
    for (table, join) in [
        ("\"Hà Nội\".messages", "FROM \"Hà Nội\".conversations c JOIN \"Hà Nội\".messages m ON"),
        ("alone.messages", "FROM … c JOIN alone.messages m ON"),
        ("far.messages", "FROM … c JOIN far.messages m ON"),
        ("odd.messages", "FROM … c JOIN odd.messages m ON"),
    ] {
        let sql = format!("SELECT id FROM {table} WHERE conversation_id = '1' OR seen");
        let hint = session.error(&sql).unwrap().hint.unwrap();
        assert!(hint.contains(join) && hint.contains("IN ('…', '…')"), "{hint}");
        assert!(hint.ends_with("beside an OR with any other condition they are not named."), "{hint}");
    }
    session.execute("ANALYZE shop.messages").unwrap();
    assert!(session.notices().iter().any(|notice| notice.message.contains("cannot analyze")));
}

#[test]
fn each_message_comes_once_while_others_arrive_and_vanish() {
    let (shop, mut session, id) = open(300);
    let page = shop.simulator.first_page();
    let sql = format!("SELECT id FROM shop.messages WHERE conversation_id = '{id}'");
    let event = |kind: usize, place: usize| match kind {
        0 => Event::Message(Target::Cursor),
        // From the oldest: the newest ones go.
        _ => Event::DeleteMessage(Target::Cursor, place),
    };
    for round in 0..24_usize {
        let before = ids(&page.messages(&id));
        for request in 1..5 {
            for _ in 0..=(round / 6) * 4 {
                page.at_messages_request(
                    request,
                    event((round + request as usize) % 2 * (round % 3), before.len() - 20 - round / 2),
                );
            }
        }
        let came = session.column(&sql).unwrap();
        let once: BTreeSet<_> = came.iter().collect();
        assert_eq!(once.len(), came.len(), "round {round}: a message came twice");
        let after: BTreeSet<_> = ids(&page.messages(&id)).into_iter().collect();
        let missing: Vec<_> = before.iter().filter(|id| after.contains(*id) && !once.contains(id)).collect();
        assert!(missing.is_empty(), "round {round}: {missing:?}");
        session.execute(&format!("{sql} LIMIT 0; {sql}")).unwrap();
    }
    shop.assert_no_violations().unwrap();
}

/// In an address they would be steps to somewhere else, however they are spelt.
#[test]
fn dots_are_no_conversation_and_cost_no_request() {
    let (shop, mut session, id) = open(20);
    let count = |session: &mut Session, list: &str| {
        session.one(&format!("SELECT count(*) FROM shop.messages WHERE conversation_id IN ({list})")).unwrap()
    };
    let (none, log) = shop.watch(|| count(&mut session, "'.', '..', ''"));
    assert_eq!((none.as_str(), log.len()), ("0", 0));
    let found = shop.simulator.first_page().messages(&id).len().to_string();
    assert_eq!(count(&mut session, &format!("'..', '{id}'")), found);
    for page_id in [".", "..", "1 2"] {
        let sql = format!("ALTER SERVER shop OPTIONS (SET page_id '{page_id}')");
        let error = session.error(&sql).unwrap();
        assert_eq!(error.sqlstate, "HV024", "{error}");
        assert!(error.hint.unwrap().contains("foreign table pages"));
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn an_unknown_conversation_is_what_the_api_says_it_is() {
    let (shop, mut session, id) = open(20);
    let sql = "SELECT id FROM shop.messages WHERE conversation_id = 'no/body?x=1&y#z'";
    assert_eq!(session.column(sql).unwrap(), Vec::<String>::new());
    for (lost, sqlstate) in [(LostConversation::SuccessFalse, "HV00M"), (LostConversation::Http404, "HV00R")]
    {
        shop.simulator.switches(|switches| switches.lost_conversation = lost);
        let error = session.error(sql).unwrap();
        assert_eq!(error.sqlstate, sqlstate, "{error}");
        assert_eq!(error.hint.unwrap().contains("conversation_id"), lost == LostConversation::Http404);
    }
    // Batches of another size are no end.
    shop.simulator.switches(|switches| switches.message_batch = 7);
    let count =
        session.one(&format!("SELECT count(*) FROM shop.messages WHERE conversation_id = '{id}'")).unwrap();
    assert_eq!(count, shop.simulator.first_page().messages(&id).len().to_string());
    shop.assert_no_violations().unwrap();
}

/// What joins evaluate is data: generic plans, cursors and rescans read anew.
#[test]
fn prepared_statements_and_loops_ask_for_their_own_conversation() {
    let (shop, mut session, _) = open(60);
    let page = shop.simulator.first_page();
    session.execute("SET plan_cache_mode = force_generic_plan; PREPARE of (text) AS SELECT count(*) FROM shop.messages WHERE conversation_id = $1").unwrap();
    for id in longest(&shop).iter().take(8) {
        let count = session.one(&format!("EXECUTE of ('{id}')")).unwrap();
        assert_eq!(count, page.messages(id).len().to_string());
    }
    // A table's pushdown does not switch off what is required.
    session.execute("ALTER FOREIGN TABLE shop.messages OPTIONS (ADD pushdown 'none')").unwrap();
    let id = &longest(&shop)[0];
    let count = session
        .one(&format!(
            "SELECT count(*) FROM shop.messages WHERE conversation_id = '{id}' AND inserted_at > 'epoch'"
        ))
        .unwrap();
    assert_eq!(count, page.messages(id).len().to_string());
}
