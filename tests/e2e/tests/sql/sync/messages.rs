//! Messages: the copy is what the threads of the page's conversations hold, after a first run,
//! after changes, beside a webhook that stores the newest first; and what that costs. How other
//! objects are copied is in `sync::objects`.

use std::time::Duration;

use pancake_simulator::{Endpoint, Entry, Event, LostConversation, PageSettings, Target};

use super::killed::Dice;
use super::objects::{call, dies_in_the_middle, differences};
use super::*;

pub(super) const ALL: &str =
    "shop.messages WHERE conversation_id = ANY (ARRAY(SELECT id FROM shop.conversations))";
const LATER: &str = "CALL pancake.sync('shop.messages', 'crm.messages', reread => NULL)";

fn is_copied(session: &mut Session, what: &str) {
    let unlike = differences(session, "messages", ALL);
    assert!(unlike.is_empty(), "{what}: {} rows differ, such as {}", unlike.len(), unlike[0]);
}

fn count(session: &mut Session, what: &str) -> usize {
    session.one(&format!("SELECT count(*) FROM {what}")).unwrap().parse().unwrap()
}

/// A conversation of so many messages over its last days, the newest of them so many hours ago.
fn thread(session: &mut Session, id: &str, messages: u32, days: u32, hours: u32) -> serde_json::Value {
    let time = |session: &mut Session, ago: String| {
        let sql = format!(
            "SELECT to_char(now() AT TIME ZONE 'UTC' - interval '{ago}', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"
        );
        session.one(&sql).unwrap()
    };
    let (inserted, updated) =
        (time(session, format!("{days} days")), time(session, format!("{hours} hours")));
    json!({"id": id, "type": "INBOX", "inserted_at": inserted, "updated_at": updated, "message_count": messages})
}

/// A time as the simulator takes it.
fn page_time(session: &mut Session, time: &str) -> i64 {
    session.one(&format!("SELECT (extract(epoch FROM {time}) * 1e6)::bigint")).unwrap().parse().unwrap()
}

fn of(log: &[Entry], endpoint: Endpoint) -> usize {
    log.iter().filter(|entry| entry.endpoint == endpoint).count()
}

#[test]
fn first_all_threads_then_those_that_changed() {
    let (shop, mut session) = open(200);
    let page = shop.simulator.first_page();
    session.execute(&call("messages", "")).unwrap();
    is_copied(&mut session, "the backfill");
    assert_eq!(runs(&mut session), ["backfill ok"]);
    let state = "SELECT object || ' ' || source || ' ' || backfill_done || ' ' || (mark = (SELECT max(updated_at) FROM shop.conversations)) FROM pancake.sync_state";
    assert_eq!(session.one(state).unwrap(), "messages shop.messages true true");
    let index = "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'crm.messages'::regclass AND NOT indisprimary";
    assert!(session.one(index).unwrap().ends_with("(page_id, conversation_id, inserted_at)"));

    // Out of the window of a delta is what was before.
    shop.simulator.advance(Duration::from_secs(3_600));
    page.create("INBOX");
    session.execute(LATER).unwrap();
    is_copied(&mut session, "a new conversation");
    let quiet = session.one("SELECT now()").unwrap();
    let ids = page.ids();
    let changed = [&ids[3], &ids[100], &ids[199]];
    changed.iter().for_each(|id| assert!(page.message(id)));
    page.message(changed[1]);
    let created = page.create("INBOX");
    let ((), log) = shop.watch(|| session.execute(LATER).unwrap());
    is_copied(&mut session, "a delta");
    // The one that was new before is in the window still; of that, and of the new one, nothing is
    // stored from before it: each is read to its end, which takes two requests.
    assert_eq!((of(&log, Endpoint::Conversations), of(&log, Endpoint::Messages)), (1, 3 + 2 + 2));
    assert_eq!(
        last_run(&mut session, "concat_ws(' ', kind, status, inserted, updated, removed)"),
        "delta ok 5 0 0"
    );
    assert_eq!(last_run(&mut session, "requests"), log.len().to_string());
    let written = format!("crm.messages WHERE synced_at > '{quiet}' AND conversation_id <> '{created}'");
    assert_eq!(count(&mut session, &written), 4, "unchanged rows keep synced_at");
    let ((), log) = shop.watch(|| session.execute(LATER).unwrap());
    assert_eq!(last_run(&mut session, "concat_ws(' ', inserted, updated)"), "0 0");
    assert!(log.len() <= 9);
    shop.assert_no_violations().unwrap();
}

/// A conversation at the head of the list that shows an old time may have a new message, with
/// nothing else new.
#[test]
fn a_message_that_moves_no_time_arrives() {
    let (shop, mut session) = open(200);
    let page = shop.simulator.first_page();
    session.execute(LATER).unwrap();
    shop.simulator.advance(Duration::from_secs(3_600));
    session.execute(LATER).unwrap();
    let ids = page.ids();
    let frozen = page.frozen().into_iter().find(|id| !ids[..60].contains(id)).unwrap();
    assert!(page.message(&frozen));
    assert_eq!(page.ids()[0], frozen);
    session.execute(LATER).unwrap();
    is_copied(&mut session, "a message under an old time");
    assert_eq!(last_run(&mut session, "concat_ws(' ', kind, inserted)"), "delta 1");
    shop.assert_no_violations().unwrap();
}

/// Statements are text: literals in them must be read as they were written.
#[test]
fn a_style_of_dates_changes_no_thread() {
    let (shop, mut session) = open(100);
    session.execute("SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Shanghai'").unwrap();
    let page = shop.simulator.first_page();
    for what in ["the backfill", "a delta", "another"] {
        session.execute(LATER).unwrap();
        is_copied(&mut session, what);
        shop.simulator.advance(Duration::from_secs(3_600));
        assert!(page.ids().iter().step_by(9).all(|id| page.message(id)));
        page.create("INBOX");
    }
}

/// What a backfill costs: of each conversation its batches, and the proof that there are no more.
#[test]
fn long_threads_and_empty_ones() {
    let (shop, mut session) = open(40);
    let page = shop.simulator.first_page();
    for (id, messages, hours) in [("long", 400, 30), ("longer", 900, 3), ("one", 1, 200)] {
        let row = thread(&mut session, id, messages, 40, hours);
        page.insert_row(row);
    }
    let row = thread(&mut session, "silent", 1, 9, 1);
    page.insert_row(row);
    assert!(page.delete_message("silent", 0));
    let ((), log) = shop.watch(|| session.execute(&call("messages", "")).unwrap());
    is_copied(&mut session, "long threads");
    let batches = |messages: usize| 1 + messages.saturating_sub(1).div_ceil(29) + usize::from(messages > 0);
    let truth: usize = page.ids().iter().map(|id| batches(page.messages(id).len())).sum();
    assert_eq!(of(&log, Endpoint::Messages), truth);
    // Of each batch its rows, those beyond its bound, and the proof of the end.
    let conversations = of(&log, Endpoint::Conversations);
    assert!(conversations <= 1 + 44_usize.div_ceil(8) * 3, "{conversations}");

    // A long thread goes on: down to what is stored, not to its beginning.
    shop.simulator.advance(Duration::from_secs(3_600));
    for _ in 0..70 {
        assert!(page.message("long"));
    }
    let ((), log) = shop.watch(|| session.execute(LATER).unwrap());
    is_copied(&mut session, "a long thread went on");
    // Three of this one, two of what was new at the first run's head.
    assert_eq!(of(&log, Endpoint::Messages), 3 + 2);

    // Batches of another size, and a page that deletes a message while its thread is read.
    shop.simulator.switches(|switches| switches.message_batch = 7);
    page.at_messages_request(2, Event::DeleteMessage(Target::Cursor, 3));
    (0..30).for_each(|_| assert!(page.message("longer")));
    session.execute(LATER).unwrap();
    let unlike = differences(&mut session, "messages", ALL);
    assert!(unlike.len() <= 1 && unlike.iter().all(|row| row.starts_with("copy")), "{unlike:?}");
    shop.assert_no_violations().unwrap();
}

/// What a webhook writes of a conversation: its newest message.
fn webhook(session: &mut Session, id: &str) {
    session
        .execute(&format!(
            "INSERT INTO crm.messages SELECT page_id, id, conversation_id, type, from_id, from_name, from_staff_id,
                 from_staff_name, from_bot, message, original_message, text, attachments, seen, has_phone, is_hidden, is_removed,
                 inserted_at, raw, now() FROM shop.messages WHERE conversation_id = '{id}' ORDER BY inserted_at DESC LIMIT 1
             ON CONFLICT (page_id, id) DO NOTHING"
        ))
        .unwrap();
}

/// A webhook sends the newest message first: what it missed before that is older than a stored one.
#[test]
fn what_a_webhook_stored_hides_nothing() {
    let (shop, mut session) = open(150);
    let page = shop.simulator.first_page();
    session.execute(LATER).unwrap();
    // It was down for two hours, and so was the sync.
    let id = page.ids()[90].clone();
    for minutes in [10_u64, 60, 50] {
        shop.simulator.advance(Duration::from_secs(minutes * 60));
        (0..40).for_each(|_| assert!(page.message(&id)));
    }
    webhook(&mut session, &id);
    session.execute(LATER).unwrap();
    is_copied(&mut session, "one of many was stored");

    // More changed than a reply lists. One of them moves up while the others are read, and a
    // webhook sends that.
    let ids = page.ids();
    let moving = ids[140].clone();
    for _ in 0..2 {
        shop.simulator.advance(Duration::from_secs(3_600));
        page.message(&moving);
    }
    webhook(&mut session, &moving);
    shop.simulator.advance(Duration::from_secs(3_600));
    ids[..130].iter().for_each(|id| assert!(page.message(id)));
    page.at_messages_request(20, Event::Message(Target::Id(moving.clone())));
    session.execute(LATER).unwrap();
    assert_eq!(
        session.one("SELECT known_to < mark - interval '1 hour' FROM pancake_internal.sync_marks").unwrap(),
        "t"
    );
    // Some time later it is taken up again.
    shop.simulator.advance(Duration::from_secs(3_600));
    page.message(&moving);
    session.execute(LATER).unwrap();
    is_copied(&mut session, "one moved up");
    shop.simulator.advance(Duration::from_secs(3_600));
    page.message(&moving);
    session.execute(LATER).unwrap();
    assert_eq!(session.one("SELECT known_to IS NULL FROM pancake_internal.sync_marks").unwrap(), "t");
    shop.assert_no_violations().unwrap();
}

/// The same by chance: messages come while threads are read, a webhook sends some of them, and time
/// passes.
#[test]
fn a_webhook_beside_a_storm() {
    let (shop, mut session) = open(130);
    let page = shop.simulator.first_page();
    session
        .execute("CREATE OR REPLACE FUNCTION pancake_internal.sync_batch_rows() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 12::bigint'")
        .unwrap();
    session.execute(LATER).unwrap();
    let mut dice = Dice(0x5eed_2028);
    let several = |ids: &[String], count: u64, dice: &mut Dice| {
        let chosen = (0..count).map(|_| ids[dice.below(ids.len() as u64) as usize].clone());
        chosen.collect::<Vec<_>>()
    };
    for round in 0..14 {
        for _ in 0..2 {
            shop.simulator.advance(Duration::from_secs(dice.below(5_000)));
            let ids = page.ids();
            let most = [3, 30, 160][dice.below(3) as usize];
            let count = dice.below(most);
            for id in several(&ids, count, &mut dice) {
                assert!(page.message(&id));
                if dice.below(3) == 0 {
                    webhook(&mut session, &id);
                }
            }
        }
        let ids = page.ids();
        let churn: Vec<_> = several(&ids, 6, &mut dice);
        for id in &churn {
            let moment = 1 + dice.below(40);
            page.at_messages_request(moment, Event::Message(Target::Id(id.clone())));
        }
        session.execute(LATER).unwrap();
        churn.iter().step_by(2).for_each(|id| webhook(&mut session, id));
        if round % 4 == 3 {
            // What was left to a later request comes now.
            (0..40).for_each(|_| webhook(&mut session, &ids[0]));
            session.execute(LATER).unwrap();
            is_copied(&mut session, &format!("round {round}"));
        }
    }
    shop.assert_no_violations().unwrap();
}

/// More new conversations than one reply lists, each thread read once; and one that appears late
/// under an old time.
#[test]
fn a_burst_of_new_conversations() {
    let (shop, mut session) = open(100);
    let page = shop.simulator.first_page();
    session.execute(LATER).unwrap();
    shop.simulator.advance(Duration::from_secs(3_600));
    (0..200).for_each(|_| assert!(!page.create("INBOX").is_empty()));
    let now = session
        .one("SELECT to_char(now() AT TIME ZONE 'UTC' + interval '59 minutes', 'YYYY-MM-DD\"T\"HH24:MI:SS')")
        .unwrap();
    page.insert_row(
        json!({"id": "imported", "type": "INBOX", "inserted_at": now, "updated_at": "2026-01-02T03:04:05", "message_count": 3}),
    );
    let ((), log) = shop.watch(|| session.execute(LATER).unwrap());
    is_copied(&mut session, "a burst");
    assert_eq!(runs(&mut session), ["backfill ok", "delta ok", "backfill ok"]);
    // Of each, and of one that was new before, its only message and the proof that it is the only
    // one; of the one with three messages one request more, and one of a conversation that shows an
    // older time than those below it.
    assert_eq!(of(&log, Endpoint::Messages), 2 * 200 + 3 + 2 + 1);
    shop.assert_no_violations().unwrap();
}

#[test]
fn the_reread_sees_what_moves_no_time() {
    let (shop, mut session) = open(200);
    session.execute(&call("messages", "")).unwrap();
    let spoil = "UPDATE crm.messages SET is_removed = NULL, synced_at = now() - interval '9 days' WHERE conversation_id IN
         (SELECT id FROM shop.conversations WHERE updated_at < now() - interval '2 hours')";
    session.execute(spoil).unwrap();
    session.execute(LATER).unwrap();
    let old = session.one("SELECT count(*) FROM crm.messages WHERE is_removed IS NULL AND inserted_at < (SELECT mark FROM pancake.sync_state) - interval '3 days'").unwrap();
    let reread = call("messages", ", reread => '3 days', reread_every => '0'");
    let ((), log) = shop.watch(|| session.execute(&reread).unwrap());
    assert_eq!(last_run(&mut session, "kind"), "reread");
    // The messages of these days, not the threads from their beginnings.
    assert_eq!(session.one("SELECT count(*) FROM crm.messages WHERE is_removed IS NULL").unwrap(), old);
    assert!(of(&log, Endpoint::Messages) < 40, "{}", log.len());
    session.execute(&call("messages", ", full_rescan => true")).unwrap();
    is_copied(&mut session, "a full rescan");
}

#[test]
fn a_full_rescan_marks_what_is_gone() {
    let (shop, mut session) = open(250);
    let page = shop.simulator.first_page();
    session.execute(&call("messages", ", full_rescan => true")).unwrap();
    assert_eq!(runs(&mut session), ["backfill ok", "full ok"]);
    let ids = page.ids();
    let (conversation, message) =
        (ids[30].clone(), ids.iter().find(|id| page.messages(id).len() > 5).unwrap().clone());
    let gone = page.messages(&conversation).len() + 1;
    let kept = page.conversation(&conversation).unwrap();
    assert!(page.delete_message(&message, 2) && page.delete(&conversation));
    session.execute(LATER).unwrap();
    assert_eq!(
        count(&mut session, "crm.messages WHERE removed_at IS NOT NULL"),
        0,
        "a delta removes nothing"
    );
    // It goes by the time of beginning: what moves up meanwhile is not gone.
    shop.simulator.switches(|switches| {
        switches.churn = pancake_simulator::Churn { messages: 3.0, ..Default::default() };
    });
    session.execute(&call("messages", ", full_rescan => true")).unwrap();
    shop.simulator.switches(|switches| switches.churn = pancake_simulator::Churn::default());
    assert_eq!(last_run(&mut session, "concat_ws(' ', kind, removed)"), format!("full {gone}"));
    session.execute(LATER).unwrap();
    is_copied(&mut session, "after a full rescan");

    // A conversation that returns, with one message more, is whole again.
    page.insert_row(kept);
    page.message(&conversation);
    session.execute(LATER).unwrap();
    is_copied(&mut session, "a conversation that returned");
    assert_eq!(session.one("SELECT count(*) FROM pg_class WHERE relname LIKE 'pancake_sync%'").unwrap(), "0");
}

/// All messages since a time are wanted, however long ago their conversation began.
#[test]
fn the_first_run_may_be_bounded() {
    let (shop, mut session) = open(400);
    let page = shop.simulator.first_page();
    let row = thread(&mut session, "old", 200, 80, 60);
    page.insert_row(row);
    let since = session.one("SELECT now() - interval '10 days'").unwrap();
    // Three of the conversations with the newest messages show that they rest since before.
    let shown = page_time(&mut session, "now() - interval '12 days'");
    for id in page.ids().into_iter().skip(4).step_by(3).take(3) {
        assert!(page.freeze(&id, shown));
    }
    let ((), log) =
        shop.watch(|| session.execute(&call("messages", &format!(", first_since => '{since}'"))).unwrap());
    let recent = format!("{ALL} AND inserted_at >= '{since}'");
    assert_eq!(differences(&mut session, "messages", &recent), Vec::<String>::new());
    assert!(count(&mut session, "crm.messages WHERE conversation_id = 'old'") > 10);
    let wanted = page.conversations();
    assert!(of(&log, Endpoint::Messages) < wanted.len() / 2, "{}", log.len());

    // One that is taken up again comes from there on as well.
    let ids = page.ids();
    assert!(page.message(&ids[350]) && page.message("old"));
    session.execute(LATER).unwrap();
    assert_eq!(differences(&mut session, "messages", &recent), Vec::<String>::new());
    // So does one that shows an old time, among more that changed than a reply lists.
    shop.simulator.advance(Duration::from_secs(3_600));
    let ids = page.ids();
    let is_old = |session: &mut Session, id: &String| {
        let sql = format!("SELECT inserted_at < '{since}' FROM shop.conversations WHERE id = '{id}'");
        session.one(&sql).unwrap() == "t"
    };
    let frozen: Vec<_> = page.frozen().into_iter().filter(|id| is_old(&mut session, id)).take(2).collect();
    let others: Vec<_> = ids.iter().filter(|id| !frozen.contains(id)).take(120).collect();
    others[..90].iter().for_each(|id| assert!(page.message(id)));
    assert!(frozen.len() == 2 && frozen.iter().all(|id| page.message(id)));
    others[90..].iter().for_each(|id| assert!(page.message(id)));
    session.execute(LATER).unwrap();
    assert_eq!(differences(&mut session, "messages", &recent), Vec::<String>::new());
    page.delete("old");
    session.execute("DELETE FROM crm.messages WHERE id = (SELECT max(id) FROM crm.messages WHERE conversation_id <> 'old')").unwrap();
    session.execute(&call("messages", ", full_rescan => true")).unwrap();
    assert_eq!(differences(&mut session, "messages", &recent), Vec::<String>::new());
    assert!(last_run(&mut session, "removed").parse::<u32>().unwrap() > 10);
    shop.assert_no_violations().unwrap();
}

#[test]
fn killed_and_resumed() {
    let (shop, mut session) = open(400);
    let page = shop.simulator.first_page();
    let sync = call("messages", "");
    dies_in_the_middle(&shop, &mut session, &sync, 260);
    let state = "SELECT backfill_done || ' ' || (backfilled_to IS NOT NULL) || ' ' || (witnesses[2] IS NOT NULL) FROM pancake_internal.sync_marks";
    assert_eq!(session.one(state).unwrap(), "false true true");
    let copied = count(&mut session, "crm.messages");
    // Between death and resurrection: what was read, and what was not, and one that comes.
    let ids = page.ids();
    [&ids[1], &ids[390]].iter().for_each(|id| assert!(page.message(id)));
    page.create("INBOX");
    for requests in [60, 9, 2] {
        dies_in_the_middle(&shop, &mut session, &sync, requests);
    }
    session.execute(&sync).unwrap();
    let seen: usize = last_run(&mut session, "seen").parse().unwrap();
    assert!(copied > 0 && seen < count(&mut session, "crm.messages"), "it went on: {seen}");
    session.execute(LATER).unwrap();
    is_copied(&mut session, "killed and resumed");
    assert_eq!(count(&mut session, "pancake.sync_runs WHERE status = 'running'"), 0);
    shop.assert_no_violations().unwrap();
}

#[test]
fn small_pages_and_empty_ones() {
    for rows in [0, 1, 30, 61] {
        let (shop, mut session) = open(rows);
        for _ in 0..3 {
            session.execute(LATER).unwrap();
            is_copied(&mut session, &format!("{rows} conversations"));
        }
        shop.simulator.first_page().create("COMMENT");
        session.execute(LATER).unwrap();
        is_copied(&mut session, &format!("{rows} conversations and one"));
    }
}

#[test]
fn two_pages_in_one_table() {
    let page = |ordinal| PageSettings { conversations: 70, ..PageSettings::numbered(ordinal) };
    let shop =
        Shop::open(Settings { pages: vec![page(0), page(1)], ..Settings::default() }.as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    session
        .execute(
            "CREATE SCHEMA crm; CREATE TABLE crm.of (LIKE shop.messages) PARTITION BY LIST (page_id);
             CREATE TABLE crm.list (LIKE shop.conversations) PARTITION BY LIST (page_id);
             ALTER TABLE crm.of ATTACH PARTITION shop.messages FOR VALUES IN ('100000000000001');
             ALTER TABLE crm.of ATTACH PARTITION shop2.messages FOR VALUES IN ('100000000000002');
             ALTER TABLE crm.list ATTACH PARTITION shop2.conversations FOR VALUES IN ('100000000000002')",
        )
        .unwrap();
    let sync = "CALL pancake.sync('crm.of', 'crm.messages')";
    for _ in 0..2 {
        session.execute(sync).unwrap();
        for (schema, id) in [("shop", "100000000000001"), ("shop2", "100000000000002")] {
            let page = shop.simulator.page(id);
            let truth: usize = page.ids().iter().map(|id| page.messages(id).len()).sum();
            assert_eq!(
                count(&mut session, &format!("crm.messages WHERE page_id = '{id}'")),
                truth,
                "{schema}"
            );
            page.message(&page.ids()[50]);
        }
    }
    shop.simulator.page("100000000000002").set_token("another");
    let error = session.error(sync).unwrap();
    assert_eq!(error.message, "sync failed for 1 of 2 pages: 100000000000002");
}

/// The table that holds the conversations: found by server and page, needed, and read by the
/// caller.
#[test]
fn the_list_of_conversations() {
    let (shop, mut session) = open(30);
    let sync = call("messages", "");
    let role = format!("keeper_{}", std::process::id());
    session.execute(&sync).unwrap();
    session
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA shop, crm TO {role}; GRANT SELECT ON shop.messages TO {role};
             GRANT SELECT, INSERT, UPDATE ON crm.messages TO {role};
             CREATE USER MAPPING FOR {role} SERVER shop OPTIONS (page_access_token '{}')",
            shop.simulator.first_page().token()
        ))
        .unwrap();
    let mut keeper = shop.database.connect_as(&role).unwrap();
    let (error, log) = shop.watch(|| keeper.error(&sync).unwrap());
    assert_eq!((error.sqlstate.as_str(), log.len()), ("42501", 0), "{error}");
    assert!(error.message.contains("conversations"), "{error}");
    assert_eq!(last_run(&mut session, "status || sqlstate"), "failed42501");
    session.execute(&format!("GRANT SELECT ON shop.conversations TO {role}")).unwrap();
    keeper.execute(&sync).unwrap();

    // Another schema's, where there is none beside it; another page's is none.
    session
        .execute(
            "CREATE SCHEMA beside; ALTER FOREIGN TABLE shop.conversations SET SCHEMA beside;
             CREATE FOREIGN TABLE shop.conversations (id text, inserted_at timestamptz, updated_at timestamptz)
                 SERVER shop OPTIONS (object 'conversations', page_id '100000000000009')",
        )
        .unwrap();
    session.execute(&sync).unwrap();
    assert_eq!(last_run(&mut session, "kind || status"), "deltaok");
    session.execute("ALTER FOREIGN TABLE beside.conversations DROP COLUMN updated_at").unwrap();
    let error = session.error(&sync).unwrap();
    assert_eq!(
        (error.sqlstate.as_str(), error.message.as_str()),
        ("42703", "beside.conversations has no column updated_at that a sync can use")
    );
    assert!(
        error.hint.clone().unwrap().contains("beside.conversations also inserted_at and updated_at"),
        "{error}"
    );
    session
        .execute("DROP FOREIGN TABLE beside.conversations; DROP FOREIGN TABLE shop.conversations")
        .unwrap();
    let (error, log) = shop.watch(|| session.error(&sync).unwrap());
    assert_eq!((error.sqlstate.as_str(), log.len()), ("42P01", 0), "{error}");
    assert_eq!(
        error.hint.as_deref(),
        Some("IMPORT FOREIGN SCHEMA pancake LIMIT TO (conversations) FROM SERVER shop INTO shop;")
    );
    // The hint helps.
    session.execute(&error.hint.unwrap()).unwrap();
    session.execute(&sync).unwrap();
    session.execute("DROP FOREIGN TABLE shop.conversations; ALTER FOREIGN TABLE shop.messages OPTIONS (ADD page_id '100000000000001')").unwrap();
    let hint = session.error(&sync).unwrap().hint.unwrap();
    assert!(hint.ends_with("INTO shop OPTIONS (page_id '100000000000001');"), "{hint}");
    session.execute(&hint).unwrap();
    session.execute(&sync).unwrap();
    is_copied(&mut session, "after all of it");
    session.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

#[test]
fn a_table_of_ones_own() {
    let (shop, mut session) = open(80);
    session
        .execute(
            "CREATE TABLE crm.messages (id text UNIQUE, conversation_id varchar(80), inserted_at timestamptz, original_message text,
                 attachments jsonb, note text DEFAULT 'ours')",
        )
        .unwrap();
    let page = shop.simulator.first_page();
    for _ in 0..2 {
        session.execute(LATER).unwrap();
        let truth: usize = page.ids().iter().map(|id| page.messages(id).len()).sum();
        assert_eq!(count(&mut session, "crm.messages WHERE note = 'ours'"), truth);
        page.message(&page.ids()[70]);
    }
    // Two conversations that show one message: it is one row.
    session
        .execute(
            "CREATE FOREIGN TABLE crm.kinds (id text OPTIONS (path '/type'), conversation_id text, inserted_at timestamptz)
                 SERVER shop OPTIONS (object 'messages')",
        )
        .unwrap();
    session.execute("CALL pancake.sync('crm.kinds', 'crm.kept')").unwrap();
    let kinds = session.column("SELECT DISTINCT type FROM shop.conversations ORDER BY 1").unwrap();
    assert_eq!(session.column("SELECT id FROM crm.kept ORDER BY id").unwrap(), kinds);
    session.execute("ALTER TABLE crm.messages DROP COLUMN conversation_id").unwrap();
    let error = session.error(LATER).unwrap();
    assert_eq!(
        (error.sqlstate.as_str(), error.message.contains("no column conversation_id")),
        ("42703", true),
        "{error}"
    );
}

/// A conversation that vanishes between the list and its messages: on a page that takes that for an
/// error it is left out.
#[test]
fn a_conversation_that_vanishes_meanwhile() {
    for lost in [LostConversation::Empty, LostConversation::Http404, LostConversation::SuccessFalse] {
        let shop = Shop::open_with(Settings::of(90).as_seen(), &[("max_retries", "0")]).unwrap();
        let mut session = shop.connect().unwrap();
        session.execute("CREATE SCHEMA crm").unwrap();
        let page = shop.simulator.first_page();
        shop.simulator.switches(|switches| switches.lost_conversation = lost);
        page.at_messages_request(20, Event::Delete(Target::Cursor));
        session.execute(LATER).unwrap();
        let skipped = session.column("SELECT conversation_id FROM pancake.sync_skipped").unwrap();
        assert_eq!(skipped.len(), usize::from(lost != LostConversation::Empty));
        assert!(skipped.iter().all(|id| page.conversation(id).is_none()), "{skipped:?}");
        session.execute(LATER).unwrap();
        let unlike = differences(&mut session, "messages", ALL);
        assert!(unlike.iter().all(|row| row.starts_with("copy")), "{unlike:?}");
        page.message(&page.ids()[80]);
        page.at_messages_request(1, Event::Delete(Target::Cursor));
        session.execute(LATER).unwrap();
        assert!(runs(&mut session).iter().all(|run| run.ends_with(" ok")));
    }
}

/// The page's budget is what a first run takes its time from, not the latency.
#[test]
fn threads_are_read_at_the_same_time() {
    let (shop, mut session) = open(120);
    shop.simulator.switches(|switches| switches.latency = Duration::from_millis(60));
    shop.simulator.clear_log();
    session.execute(LATER).unwrap();
    assert!(shop.simulator.most_in_flight() >= 4, "{}", shop.simulator.most_in_flight());
}
