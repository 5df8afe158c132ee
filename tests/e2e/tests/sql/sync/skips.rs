//! Conversations whose messages cannot be had: they are left out, noted, and tried again. Nothing
//! else stops for them.

use std::time::Duration;

use pancake_simulator::{Endpoint, Fault, Only, PageSettings, Times};

use super::objects::{call, differences};
use super::*;

const SKIPPED: &str = "SELECT conversation_id || ' ' || tries || ' ' || last_error FROM pancake.sync_skipped";
const DUE: &str = "UPDATE pancake_internal.sync_skips SET next_try_at = now()";

fn open_page(rows: usize) -> (Shop<'static>, Session) {
    let shop = Shop::open_with(Settings::of(rows).as_seen(), &[("max_retries", "0")]).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE SCHEMA crm").unwrap();
    (shop, session)
}

/// The copy is the page, but for the messages of these conversations.
fn is_copied_but(session: &mut Session, ids: &[&String]) {
    let ids: Vec<_> = ids.iter().map(|id| id.as_str()).collect();
    let list = format!(
        "shop.messages WHERE conversation_id = ANY (
             ARRAY(SELECT id FROM shop.conversations WHERE id <> ALL ('{{{}}}')))",
        ids.join(",")
    );
    let mut unlike = differences(session, "messages", &list);
    unlike.retain(|row| !(row.starts_with("copy ") && ids.iter().any(|id| row.contains(id))));
    assert!(unlike.is_empty(), "{unlike:#?}");
}

fn stored(session: &mut Session, id: &str) -> String {
    session.one(&format!("SELECT count(*) FROM crm.messages WHERE conversation_id = '{id}'")).unwrap()
}

#[test]
fn a_thread_that_fails_stops_nothing() {
    let (shop, mut session) = open_page(90);
    let page = shop.simulator.first_page();
    let id = page.ids()[20].clone();
    shop.simulator.fault_on(Only::conversation(&id), Fault::Status(500), Times::Always);
    session.execute(&call("messages", "")).unwrap();
    assert_eq!(runs(&mut session), ["backfill ok"]);
    is_copied_but(&mut session, &[&id]);
    assert_eq!(stored(&mut session, &id), "0");
    let skipped = session.column(SKIPPED).unwrap();
    assert_eq!(skipped, [format!("{id} 1 Pancake could not answer")]);
    let notices = session.notices();
    let notice = format!("page 100000000000001: conversation {id} is skipped: Pancake could not answer");
    assert!(notices.iter().any(|sent| sent.message == notice), "{notices:?}");

    // It is not asked for again before it is due, although it has a new message.
    page.message(&id);
    let ((), log) = shop.watch(|| session.execute(&call("messages", "")).unwrap());
    assert!(!log.iter().any(|entry| entry.path.contains(&id)));
    assert_eq!(session.column(SKIPPED).unwrap(), skipped);
    // Then it is, once, and fails again.
    session.execute(DUE).unwrap();
    let ((), log) = shop.watch(|| session.execute(&call("messages", "")).unwrap());
    assert_eq!(log.iter().filter(|entry| entry.path.contains(&id)).count(), 1);
    assert_eq!(session.column(SKIPPED).unwrap(), [format!("{id} 2 Pancake could not answer")]);
    let pause = "SELECT next_try_at - now() BETWEEN interval '19 minutes' AND interval '20 minutes'
        FROM pancake_internal.sync_skips";
    assert_eq!(session.one(pause).unwrap(), "t");

    // What it had before is not gone for it.
    session.execute(&call("messages", ", full_rescan => true")).unwrap();
    is_copied_but(&mut session, &[&id]);
    assert_eq!(session.one("SELECT count(*) FROM crm.messages WHERE removed_at IS NOT NULL").unwrap(), "0");

    shop.simulator.clear_faults();
    session.execute(DUE).unwrap();
    session.execute(&call("messages", "")).unwrap();
    is_copied_but(&mut session, &[]);
    assert_eq!(session.column(SKIPPED).unwrap(), Vec::<String>::new());
    assert!(runs(&mut session).iter().all(|run| run.ends_with(" ok")), "{:?}", runs(&mut session));
}

/// A conversation that was copied, and whose messages cannot be had when all are looked for.
#[test]
fn what_fails_in_a_full_rescan_is_not_gone() {
    let (shop, mut session) = open_page(90);
    session.execute(&call("messages", "")).unwrap();
    let ids = shop.simulator.first_page().ids();
    for id in [&ids[5], &ids[70]] {
        shop.simulator.fault_on(Only::conversation(id), Fault::NotJson, Times::Always);
    }
    session.execute(&call("messages", ", full_rescan => true, reread => NULL")).unwrap();
    assert_eq!(last_run(&mut session, "kind || ' ' || status || ' ' || removed"), "full ok 0");
    assert_eq!(session.column(SKIPPED).unwrap().len(), 2);
    shop.simulator.clear_faults();
    is_copied_but(&mut session, &[]);

    // A later one reads what is due, without a delta.
    session.execute(DUE).unwrap();
    session.execute(&call("messages", ", full_rescan => true, reread => NULL")).unwrap();
    assert_eq!(session.column(SKIPPED).unwrap(), Vec::<String>::new());
    assert_eq!(last_run(&mut session, "kind || ' ' || removed"), "full 0");
}

/// A conversation that was left out, and then deleted.
#[test]
fn what_was_skipped_and_is_not_listed_any_more_is_gone() {
    let (shop, mut session) = open_page(90);
    session.execute(&call("messages", "")).unwrap();
    let page = shop.simulator.first_page();
    let id = page.ids()[20].clone();
    shop.simulator.fault_on(Only::conversation(&id), Fault::Status(500), Times::Always);
    page.message(&id);
    session.execute(&call("messages", "")).unwrap();
    assert_eq!(session.column(SKIPPED).unwrap().len(), 1);
    assert!(page.delete(&id));
    session.execute(&call("messages", ", full_rescan => true, reread => NULL")).unwrap();
    let removed = "SELECT DISTINCT conversation_id FROM crm.messages WHERE removed_at IS NOT NULL";
    assert_eq!(session.column(removed).unwrap(), [id]);
}

/// What five different ones in a row have in common is no fault of theirs.
#[test]
fn five_threads_in_a_row_end_the_run() {
    let (shop, mut session) = open_page(40);
    shop.simulator.fault_on(Only::endpoint(Endpoint::Messages), Fault::Status(500), Times::Always);
    let error = session.error(&call("messages", "")).unwrap();
    assert_eq!(error.sqlstate, "HV00M", "{error}");
    assert_eq!(runs(&mut session), ["backfill failed"]);
    assert_eq!(session.column(SKIPPED).unwrap().len(), 5);
    // A token that is refused is no fault of a conversation.
    shop.simulator.clear_faults();
    session.execute("SELECT pancake.sync_reset('crm.messages')").unwrap();
    assert_eq!(session.column(SKIPPED).unwrap().len(), 0);
    shop.simulator.fault_on(Only::endpoint(Endpoint::Messages), Fault::Status(401), Times::Always);
    assert_eq!(session.error(&call("messages", "")).unwrap().sqlstate, "28000");
    assert_eq!(session.column(SKIPPED).unwrap().len(), 0);
    shop.simulator.clear_faults();
    session.execute(&call("messages", "")).unwrap();
    is_copied_but(&mut session, &[]);
}

/// The threads of all pages are read at the same time, also those that each have a bound of their
/// own.
#[test]
fn threads_of_many_pages_at_the_same_time() {
    let page = |n| PageSettings { conversations: 30, ..PageSettings::numbered(n) };
    let settings = Settings { pages: (0..6).map(page).collect(), ..Settings::default() };
    let shop = Shop::open(settings.as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    super::pages::all_pages(&shop, &mut session);
    session.execute("CREATE TABLE shop.threads (LIKE shop.messages) PARTITION BY LIST (page_id)").unwrap();
    let ids = shop.simulator.page_ids();
    for (n, id) in ids.iter().enumerate() {
        let table = if n == 0 { "shop.messages".to_owned() } else { format!("shop{}.messages", n + 1) };
        session
            .execute(&format!("ALTER TABLE shop.threads ATTACH PARTITION {table} FOR VALUES IN ('{id}')"))
            .unwrap();
    }
    const CALL: &str = "CALL pancake.sync('shop.threads', 'crm.messages', reread => NULL)";
    session.execute(CALL).unwrap();
    shop.simulator.advance(Duration::from_secs(3_600));
    for id in &ids {
        let page = shop.simulator.page(id);
        page.ids().iter().take(4).for_each(|id| assert!(page.message(id)));
    }
    shop.simulator.switches(|switches| switches.latency = Duration::from_millis(100));
    shop.simulator.clear_log();
    session.execute(CALL).unwrap();
    assert!(shop.simulator.most_in_flight() >= 12, "{}", shop.simulator.most_in_flight());
    assert_eq!(last_run(&mut session, "kind || ' ' || inserted"), "delta 4");
}
