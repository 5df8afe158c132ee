//! The other tables of a page: each copy is the page after a first run, after changes, and after a
//! death in the middle; and what a later run costs. How conversations are copied is in `sync`.

use std::time::Duration;

use pancake_simulator::{Event, PageSettings};

use super::*;

pub(super) fn call(object: &str, arguments: &str) -> String {
    format!("CALL pancake.sync('shop.{object}', 'crm.{object}'{arguments})")
}

/// Rows of the page and of the copy that the other has not, in all columns.
pub(super) fn differences(session: &mut Session, object: &str, page: &str) -> Vec<String> {
    let columns = session
        .one(&format!(
            "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
             WHERE attrelid = 'shop.{object}'::regclass AND attnum > 0 AND NOT attisdropped"
        ))
        .unwrap();
    let page = format!("SELECT {columns} FROM {page}");
    let copy = format!("SELECT {columns} FROM crm.{object} WHERE removed_at IS NULL");
    let sql = format!(
        "SELECT 'page ' || p FROM ({page} EXCEPT ALL {copy}) p UNION ALL SELECT 'copy ' || c FROM ({copy} EXCEPT ALL {page}) c"
    );
    session.column(&sql).unwrap()
}

fn is_copied(session: &mut Session, object: &str, what: &str) {
    let unlike = differences(session, object, &format!("shop.{object}"));
    assert!(unlike.is_empty(), "{object}, {what}: {} rows differ, such as {}", unlike.len(), unlike[0]);
}

/// Small batches, so that there are seams to die at; and a death at one of them.
pub(super) fn dies_in_the_middle(shop: &Shop, session: &mut Session, call: &str, requests: u64) {
    session
        .execute(
            "CREATE OR REPLACE FUNCTION pancake_internal.sync_batch_rows() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 40::bigint'",
        )
        .unwrap();
    shop.simulator.switches(|switches| switches.latency = Duration::from_millis(20));
    let mut victim = shop.connect().unwrap();
    let pid = victim.pid().unwrap();
    let (call, before) = (call.to_owned(), shop.simulator.requests());
    let running = std::thread::spawn(move || victim.execute(&call).is_err());
    let begun = std::time::Instant::now();
    while shop.simulator.requests() < before + requests && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    session.execute(&format!("SELECT pg_terminate_backend({pid}, 5000)")).unwrap();
    assert!(running.join().unwrap(), "killed before its end");
    shop.simulator.switches(|switches| switches.latency = Duration::ZERO);
}

#[test]
fn whole_lists_are_read_in_every_run() {
    let (shop, mut session) = open(60);
    for object in ["tags", "users"] {
        let ((), log) = shop.watch(|| session.execute(&call(object, "")).unwrap());
        is_copied(&mut session, object, "a first run");
        assert_eq!(log.len(), 1);
        let rows = last_run(&mut session, "inserted");
        // One that changed, and one that the page has no more: more than a tenth of them.
        let name = if object == "tags" { "text" } else { "name" };
        session
            .execute(&format!(
                "UPDATE crm.{object} SET {name} = 'before' WHERE id = (SELECT min(id) FROM crm.{object});
                 INSERT INTO crm.{object} (page_id, id, {name}, synced_at) SELECT '100000000000001', 'gone' || n, 'x', now() FROM generate_series(1, 5) n"
            ))
            .unwrap();
        let ((), log) = shop.watch(|| session.execute(&call(object, "")).unwrap());
        is_copied(&mut session, object, "a later run");
        assert_eq!(log.len(), 1);
        assert_eq!(
            last_run(&mut session, "concat_ws(' ', kind, status, seen, inserted, updated, removed)"),
            format!("delta ok {rows} 0 1 5")
        );
        let gone = format!("SELECT count(*) FROM crm.{object} WHERE removed_at IS NOT NULL");
        assert_eq!(session.one(&gone).unwrap(), "5");
        session.execute(&call(object, "")).unwrap();
        assert_eq!(last_run(&mut session, "concat_ws(' ', inserted, updated, removed)"), "0 0 0");

        // A full rescan keeps to its tenth; and that nothing of the copy is in the list is a fault
        // in any run.
        session.execute(&format!("UPDATE crm.{object} SET removed_at = NULL WHERE id LIKE 'gone%'")).unwrap();
        session.execute(&call(object, ", full_rescan => true")).unwrap();
        assert_eq!(last_run(&mut session, "concat_ws(' ', kind, removed)"), "full 0");
        session.execute(&format!("DELETE FROM crm.{object} WHERE id NOT LIKE 'gone%'")).unwrap();
        session.execute(&call(object, ", reread_every => '0'")).unwrap();
        assert_eq!(
            last_run(&mut session, "concat_ws(' ', kind, inserted, removed)"),
            format!("delta {rows} 0")
        );
        let told = session.notices();
        assert_eq!(told.iter().filter(|told| told.message.contains("rows were not found")).count(), 2);
        assert!(told.iter().any(|told| told.message.ends_with(", 1 request")), "{told:?}");
        assert!(!told.iter().any(|told| told.message.contains("NULL")), "{told:?}");
        assert_eq!(
            session.one("SELECT count(*) FROM pg_class WHERE relname LIKE 'pancake_sync%'").unwrap(),
            "0"
        );

        // A list that was not read to its end proves nothing about what is gone.
        session.execute(&call(object, "")).unwrap();
        session.execute(&format!("UPDATE crm.{object} SET removed_at = NULL WHERE id LIKE 'gone%'")).unwrap();
        let page = shop.simulator.first_page();
        let token = page.token();
        page.set_token("another");
        assert_eq!(session.error(&call(object, "")).unwrap().sqlstate, "28000");
        assert_eq!(session.one(&gone).unwrap(), "0");
        page.set_token(&token);
    }
    shop.assert_no_violations().unwrap();
}

/// Of a page that refuses windows of a month a scan reads customers down to 2015, and so does a
/// sync.
#[test]
fn a_first_run_of_customers_costs_little_more_than_a_scan() {
    let (shop, mut session) = open(900);
    session.execute("SELECT count(*) FROM shop.customers").unwrap();
    let ((), scan) = shop.watch(|| session.execute("SELECT count(*) FROM shop.customers").unwrap());
    let ((), sync) = shop.watch(|| session.execute(&call("customers", "")).unwrap());
    is_copied(&mut session, "customers", "a first run");
    assert!(scan.len() > 100 && sync.len() <= scan.len() + 40, "{} and {}", scan.len(), sync.len());
}

#[test]
fn customers_by_what_changed() {
    let (shop, mut session) = open(900);
    let page = shop.simulator.first_page();
    // More than a slice's first guess, many slices.
    dies_in_the_middle(&shop, &mut session, &call("customers", ""), 8);
    let done = "SELECT backfill_done || ' ' || (backfilled_to IS NOT NULL) FROM pancake.sync_state";
    assert_eq!(session.one(done).unwrap(), "false true");
    let copied: u32 = session.one("SELECT count(*) FROM crm.customers").unwrap().parse().unwrap();
    // Between death and resurrection one comes and an old one changes, in what was read and in what
    // was not.
    page.create("INBOX");
    let ids = page.ids();
    [ids[2].as_str(), &ids[890]].iter().for_each(|id| assert!(page.message(id)));
    session.execute(&call("customers", "")).unwrap();
    let inserted: u32 = last_run(&mut session, "inserted").parse().unwrap();
    assert!(copied > 0 && inserted > 0 && inserted < 900, "{copied} and {inserted}");
    session.execute(&call("customers", "")).unwrap();
    is_copied(&mut session, "customers", "killed and resumed");

    page.create("INBOX");
    assert!(page.message(&ids[700]));
    let ((), log) = shop.watch(|| session.execute(&call("customers", "")).unwrap());
    is_copied(&mut session, "customers", "a delta");
    assert_eq!(
        (log.len(), last_run(&mut session, "concat_ws(' ', kind, inserted)").as_str()),
        (1, "delta 1")
    );
    let index = "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'crm.customers'::regclass AND NOT indisprimary";
    assert!(session.one(index).unwrap().ends_with("(page_id, updated_at)"));

    // More than slices hold; and what is gone, in a full rescan.
    shop.simulator.advance(Duration::from_secs(5 * 86_400));
    page.ids().iter().take(300).for_each(|id| assert!(page.message(id)));
    session.execute(&call("customers", "")).unwrap();
    is_copied(&mut session, "customers", "a long delta");
    session
        .execute("INSERT INTO crm.customers SELECT (c).* FROM (SELECT jsonb_populate_record(c, '{\"id\": \"gone\"}') AS c FROM crm.customers c WHERE updated_at < now() - interval '40 days' LIMIT 1) c")
        .unwrap();
    session.execute(&call("customers", ", full_rescan => true")).unwrap();
    is_copied(&mut session, "customers", "a full rescan");
    assert_eq!(last_run(&mut session, "concat_ws(' ', kind, removed)"), "full 1");
    shop.assert_no_violations().unwrap();
}

#[test]
fn posts_by_when_they_began() {
    let (shop, mut session) = open(4_000);
    let page = shop.simulator.first_page();
    dies_in_the_middle(&shop, &mut session, &call("posts", ""), 4);
    session.execute(&call("posts", "")).unwrap();
    is_copied(&mut session, "posts", "killed and resumed");
    let later = call("posts", ", reread => NULL");
    page.at_list_request(1, Event::Publish);
    let ((), log) = shop.watch(|| session.execute(&later).unwrap());
    assert_eq!(
        (log.len(), last_run(&mut session, "concat_ws(' ', kind, inserted)").as_str()),
        (1, "delta 1")
    );
    is_copied(&mut session, "posts", "a post more");

    // Counts move no time: the reread sees those of the last posts, a full rescan all.
    (0..200).for_each(|_| assert!(!page.create("COMMENT").is_empty()));
    session.execute(&later).unwrap();
    assert!(!differences(&mut session, "posts", "shop.posts").is_empty());
    session.execute(&call("posts", ", reread => '200 days', reread_every => '0'")).unwrap();
    assert_eq!(last_run(&mut session, "kind"), "reread");
    is_copied(&mut session, "posts", "the reread");
    page.at_list_request(1, Event::Unpublish(7));
    session.execute(&call("posts", ", full_rescan => true")).unwrap();
    is_copied(&mut session, "posts", "a post less");
    assert_eq!(last_run(&mut session, "concat_ws(' ', kind, removed)"), "full 1");
    shop.assert_no_violations().unwrap();
}

#[test]
fn empty_and_small_pages() {
    for rows in [0, 1, 30] {
        let (shop, mut session) = open(rows);
        let page = shop.simulator.first_page();
        for object in ["customers", "posts", "tags", "users"] {
            // Nothing but a reply to each window of 27 days shows where a list ends, if wider ones
            // are refused.
            let first = if ["customers", "posts"].contains(&object) { 200 } else { 20 };
            for most in [first, 20] {
                let ((), log) = shop.watch(|| session.execute(&call(object, "")).unwrap());
                is_copied(&mut session, object, &format!("{rows} conversations"));
                assert!(log.len() < most, "{object}, {rows}: {} requests", log.len());
            }
        }
        page.create("INBOX");
        session.execute(&call("customers", "")).unwrap();
        is_copied(&mut session, "customers", "one more");
    }
}

/// Objects do not mix, and a list without a page is no source.
#[test]
fn what_does_not_go_together() {
    let (_shop, mut session) = open(10);
    session.execute(&call("tags", "")).unwrap();
    let error = session.error("CALL pancake.sync('shop.users', 'crm.tags')").unwrap();
    assert_eq!(error.sqlstate, "55000", "{error}");
    session
        .execute(
            "CREATE FOREIGN TABLE crm.mine (id text, name text) SERVER shop OPTIONS (object 'pages');
             CREATE TABLE crm.mixed (id text, page_id text) PARTITION BY LIST (page_id);
             CREATE FOREIGN TABLE crm.a PARTITION OF crm.mixed FOR VALUES IN ('1') SERVER shop OPTIONS (object 'tags', page_id '1');
             CREATE FOREIGN TABLE crm.b PARTITION OF crm.mixed FOR VALUES IN ('2') SERVER shop OPTIONS (object 'users', page_id '2')",
        )
        .unwrap();
    let error = session.error("CALL pancake.sync('crm.mine', 'crm.t')").unwrap();
    assert_eq!((error.sqlstate.as_str(), error.message.contains("holds pages")), ("0A000", true), "{error}");
    let error = session.error("CALL pancake.sync('crm.mixed', 'crm.t')").unwrap();
    assert_eq!((error.sqlstate.as_str(), error.message.contains("users")), ("42809", true), "{error}");
}

/// Tags have the same small ids on every page.
#[test]
fn rows_of_two_pages_with_one_id() {
    let page = |ordinal| PageSettings { conversations: 10, ..PageSettings::numbered(ordinal) };
    let settings = Settings { pages: (0..2).map(page).collect(), ..Settings::default() };
    let shop = Shop::open(settings.as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    session
        .execute("CREATE SCHEMA crm; CREATE TABLE crm.tags (id text PRIMARY KEY, page_id text, text text)")
        .unwrap();
    session.execute(&call("tags", "")).unwrap();
    let before = session.rows("SELECT * FROM crm.tags ORDER BY id").unwrap();
    // A row that names no page may be this one's.
    session
        .execute(
            "UPDATE crm.tags SET page_id = NULL, text = 'before' WHERE id = (SELECT min(id) FROM crm.tags)",
        )
        .unwrap();
    session.execute(&call("tags", "")).unwrap();
    assert_eq!(session.one("SELECT count(*) FROM crm.tags WHERE text = 'before'").unwrap(), "0");
    session.execute("UPDATE crm.tags SET page_id = '100000000000001'").unwrap();
    let error = session.error("CALL pancake.sync('shop2.tags', 'crm.tags')").unwrap();
    assert_eq!(error.sqlstate, "23505", "{error}");
    assert!(error.hint.unwrap().contains("(page_id, id)"));
    assert_eq!(session.rows("SELECT * FROM crm.tags ORDER BY id").unwrap(), before);
    session.execute("ALTER TABLE crm.tags DROP CONSTRAINT tags_pkey, ADD PRIMARY KEY (page_id, id)").unwrap();
    session.execute("CALL pancake.sync('shop2.tags', 'crm.tags')").unwrap();
    assert_eq!(session.one("SELECT count(*) FROM crm.tags").unwrap(), (2 * before.len()).to_string());
}
