//! Many pages in one copy: a source that is partitioned by page, each page under its own mark, and
//! one that fails.

use std::collections::BTreeSet;
use std::time::Duration;

use pancake_simulator::{Denial, PageSettings};

use super::*;

/// Pages of 70 rows, `shop.all` over all of them, and an empty schema `crm`.
fn open_pages(count: usize) -> (Shop<'static>, Session) {
    open_pages_with(count, |_| ())
}

fn open_pages_with(count: usize, change: impl FnOnce(&mut Settings)) -> (Shop<'static>, Session) {
    let page = |ordinal| PageSettings { conversations: 70, ..PageSettings::numbered(ordinal) };
    let mut settings = Settings { pages: (0..count).map(page).collect(), ..Settings::default() };
    change(&mut settings);
    let shop = Shop::open(settings.as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    all_pages(&shop, &mut session);
    (shop, session)
}

pub(super) fn all_pages(shop: &Shop, session: &mut Session) {
    session
        .execute(
            "CREATE SCHEMA crm; CREATE TABLE shop.all (LIKE shop.conversations) PARTITION BY LIST (page_id)",
        )
        .unwrap();
    for (ordinal, id) in shop.simulator.page_ids().iter().enumerate() {
        let schema = if ordinal == 0 { "shop".to_owned() } else { format!("shop{}", ordinal + 1) };
        session
            .execute(&format!(
                "ALTER TABLE shop.all ATTACH PARTITION {schema}.conversations FOR VALUES IN ('{id}')"
            ))
            .unwrap();
    }
}

const ALL: &str = "CALL pancake.sync('shop.all', 'crm.conversations')";

fn count(session: &mut Session, what: &str) -> usize {
    session.one(&format!("SELECT count(*) FROM {what}")).unwrap().parse().unwrap()
}

#[test]
fn page_seven_of_twenty_fails_and_the_others_are_synced() {
    let (shop, mut session) = open_pages(20);
    session.execute(ALL).unwrap();
    assert_eq!(count(&mut session, "crm.conversations"), 1_400);
    assert_eq!(count(&mut session, "pancake.sync_state WHERE backfill_done"), 20);

    let ids = shop.simulator.page_ids();
    for id in &ids {
        assert!(!shop.simulator.page(id).create("INBOX").is_empty());
    }
    // The token is regenerated once the sync has begun.
    let seventh = shop.simulator.page(&ids[6]);
    let (token, marks) =
        (seventh.token(), "SELECT mark FROM pancake.sync_state WHERE page_id = '100000000000007'");
    let mark = session.one(marks).unwrap();
    seventh.set_token("another");
    session.notices();
    let error = session.error(ALL).unwrap();
    assert_eq!(error.sqlstate, "28000");
    assert_eq!(error.message, "sync failed for 1 of 20 pages: 100000000000007");
    let detail = error.detail.clone().unwrap();
    assert!(detail.contains("Page 100000000000007: ") && detail.contains("(28000)"), "{error}");
    assert!(error.hint.clone().unwrap().contains("The other pages were synced."), "{error}");
    assert!(!error.to_string().contains(&token));
    assert_eq!(count(&mut session, "crm.conversations"), 1_419);
    assert_eq!(session.one(marks).unwrap(), mark);
    let failed = "SELECT page_id || ' ' || sqlstate FROM pancake.sync_runs WHERE status = 'failed'";
    assert_eq!(session.column(failed).unwrap(), ["100000000000007 28000"]);
    let failed = "SELECT page_id FROM pancake.sync_state WHERE last_error_at > last_success_at";
    assert_eq!(session.column(failed).unwrap(), ["100000000000007"]);
    let done = "SELECT count(*) FROM pancake.sync_runs WHERE kind = 'delta' AND status = 'ok'";
    assert_eq!(session.one(done).unwrap(), "19");
    let shown: Vec<_> = session.notices().into_iter().map(|notice| notice.message).collect();
    assert_eq!(shown, ["19 of 20 pages done, 1 failed: 1140 rows seen, 19 written"]);

    session
        .execute("ALTER USER MAPPING FOR CURRENT_USER SERVER shop7 OPTIONS (SET page_access_token 'another')")
        .unwrap();
    session.execute(ALL).unwrap();
    assert_eq!(count(&mut session, "crm.conversations"), 1_420);
    shop.assert_no_violations().unwrap();
}

#[test]
fn several_fail_in_several_ways() {
    let (shop, mut session) = open_pages(4);
    let ids = shop.simulator.page_ids();
    shop.simulator.page(&ids[1]).set_token("another");
    shop.simulator.page(&ids[3]).deny(Some(Denial::Http403));
    let error = session.error(ALL).unwrap();
    assert_eq!(error.message, "sync failed for 2 of 4 pages: 100000000000002, 100000000000004");
    let detail = error.detail.unwrap();
    assert!(detail.contains("(28000)") && detail.contains("(42501)"), "{detail}");
    assert_eq!(count(&mut session, "crm.conversations"), 140);
    let pages = session.column("SELECT DISTINCT page_id FROM crm.conversations").unwrap();
    assert_eq!(pages.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([ids[0].clone(), ids[2].clone()]));
    [0, 2].iter().for_each(|place| shop.simulator.page(&ids[*place]).set_token("another"));
    let error = session.error(ALL).unwrap();
    assert!(error.message.starts_with("sync failed for 4 of 4 pages"), "{error}");
    assert!(!error.hint.unwrap().contains("The other pages"));
}

/// The token dies in the middle of a page's backfill: what was committed stays, and the next run
/// goes on from there.
#[test]
fn a_token_that_is_regenerated_in_the_middle() {
    let (shop, mut session) = open(12_000);
    let page = shop.simulator.first_page();
    let token = page.token();
    std::thread::scope(|scope| {
        let (page, mut watcher) = (page.clone(), shop.connect().unwrap());
        scope.spawn(move || {
            let far = "SELECT count(*) FROM pancake.sync_runs WHERE seen > 4000";
            while watcher.one(far).unwrap() == "0" {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            page.set_token("another");
        });
        shop.simulator.switches(|switches| switches.latency = std::time::Duration::from_millis(10));
        assert_eq!(session.error(SYNC).unwrap().sqlstate, "28000");
    });
    assert_eq!(runs(&mut session), ["backfill failed"]);
    let copied = count(&mut session, "crm.conversations");
    assert!((4_000..12_000).contains(&copied), "{copied}");
    page.set_token(&token);
    // A row that is copied already.
    page.message(&session.one("SELECT id FROM crm.conversations ORDER BY inserted_at DESC LIMIT 1").unwrap());
    let ((), log) = shop.watch(|| session.execute(SYNC).unwrap());
    // A loaded machine cuts the walk into more pieces.
    let most = (12_000 - copied) / 45 + 10;
    assert!(log.len() < most, "{} requests for the rest, not {most}", log.len());
    assert_eq!(runs(&mut session)[1..], ["backfill ok", "delta ok"]);
    is_the_page(&mut session, "the rest, and what changed meanwhile");
}

#[test]
fn marks_belong_to_a_page() {
    let (shop, mut session) = open_pages(3);
    session.execute("CALL pancake.sync('shop2.conversations', 'crm.conversations')").unwrap();
    session.execute(ALL).unwrap();
    let kinds = "SELECT kind FROM pancake.sync_runs ORDER BY run_id";
    assert_eq!(session.column(kinds).unwrap(), ["backfill", "backfill", "delta", "backfill"]);

    session.execute("DELETE FROM crm.conversations WHERE page_id = '100000000000002'").unwrap();
    session.execute(ALL).unwrap();
    let kinds = "SELECT page_id || kind FROM pancake.sync_runs ORDER BY run_id DESC LIMIT 3";
    let kinds: BTreeSet<_> = session.column(kinds).unwrap().into_iter().collect();
    let expected = ["100000000000001delta", "100000000000002backfill", "100000000000003delta"];
    assert_eq!(kinds, expected.map(str::to_owned).into());

    // A full rescan of one page removes nothing of the others.
    let page = shop.simulator.page("100000000000003");
    page.delete(&page.ids()[10]);
    session
        .execute("CALL pancake.sync('shop3.conversations', 'crm.conversations', full_rescan => true)")
        .unwrap();
    assert_eq!(
        count(&mut session, "crm.conversations WHERE removed_at IS NOT NULL AND page_id = '100000000000003'"),
        1
    );
    assert_eq!(count(&mut session, "crm.conversations WHERE removed_at IS NULL"), 209);

    let error = session
        .error(
            "ALTER TABLE shop.all DETACH PARTITION shop.conversations;
                ALTER FOREIGN TABLE shop.conversations OPTIONS (ADD page_id '100000000000003');
                ALTER TABLE shop.all ATTACH PARTITION shop.conversations FOR VALUES IN ('100000000000009');
                CALL pancake.sync('shop.all', 'crm.conversations')",
        )
        .unwrap();
    assert_eq!(error.sqlstate, "2D000", "{error}");
    session
        .execute(
            "ALTER TABLE shop.all DETACH PARTITION shop.conversations;
                ALTER FOREIGN TABLE shop.conversations OPTIONS (ADD page_id '100000000000003');
                ALTER TABLE shop.all ATTACH PARTITION shop.conversations FOR VALUES IN ('100000000000009')",
        )
        .unwrap();
    let error = session.error(ALL).unwrap();
    assert!(error.message.contains("are both of page 100000000000003"), "{error}");
}

#[test]
fn a_table_without_page_id_holds_one_page() {
    let (_shop, mut session) = open_pages(2);
    session
        .execute("CREATE TABLE crm.conversations (id text PRIMARY KEY, updated_at timestamptz, snippet text)")
        .unwrap();
    session.execute(SYNC).unwrap();
    session.execute(SYNC).unwrap();
    let error = session.error(ALL).unwrap();
    assert_eq!(error.message, "sync failed for 1 of 2 pages: 100000000000002", "{error}");
    assert!(error.to_string().contains("has no column page_id"), "{error}");
    assert_eq!(count(&mut session, "crm.conversations"), 70);
}

/// Each page has a budget of its own: none waits for another to be copied.
#[test]
fn pages_are_read_at_the_same_time() {
    let (shop, mut session) = open_pages_with(4, |settings| {
        settings.pages.iter_mut().for_each(|page| page.conversations = 300);
        settings.switches.latency = Duration::from_millis(100);
    });
    let ((), log) = shop.watch(|| session.execute(ALL).unwrap());
    assert_eq!(count(&mut session, "crm.conversations"), 1_200);
    let ids = shop.simulator.page_ids();
    let places = |id: &String| {
        let of_page = log.iter().enumerate().filter(|(_, entry)| entry.page_id == *id);
        of_page.map(|(place, _)| place).collect::<Vec<_>>()
    };
    let first_to_end = ids.iter().map(|id| *places(id).last().unwrap()).min().unwrap();
    for id in &ids {
        assert!(places(id)[2] < first_to_end, "{id} waited for another page: {:?}", places(id));
    }
    // Nothing was read ahead in vain: a page alone costs as many.
    let most = ids.iter().map(|id| places(id).len()).max().unwrap();
    let ((), log) =
        shop.watch(|| session.execute("CALL pancake.sync('shop.conversations', 'crm.one')").unwrap());
    assert!(most <= log.len(), "{most} requests for a page, {} for one alone", log.len());
    let requests = "SELECT sum(requests) FROM pancake.sync_runs WHERE target = 'crm.conversations'::regclass";
    assert_eq!(
        session.one(requests).unwrap(),
        ids.iter().map(|id| places(id).len()).sum::<usize>().to_string()
    );
    shop.assert_no_violations().unwrap();
}

/// The setting limits what is read ahead: steps take the rows at hand, and the copy is the same.
#[test]
fn pages_with_little_memory() {
    let (shop, mut session) =
        open_pages_with(4, |settings| settings.pages.iter_mut().for_each(|page| page.conversations = 400));
    session
        .execute("CREATE TABLE crm.conversations (LIKE shop.conversations, PRIMARY KEY (page_id, id))")
        .unwrap();
    // The transactions that wrote, counted by a statement trigger.
    session
        .execute(
            "CREATE TABLE crm.steps (page_id text);
             CREATE FUNCTION crm.count_step() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN INSERT INTO crm.steps SELECT min(page_id) FROM written; RETURN NULL; END $$;
             CREATE TRIGGER count_step AFTER INSERT ON crm.conversations REFERENCING NEW TABLE AS written
                 FOR EACH STATEMENT EXECUTE FUNCTION crm.count_step();
             SET pancake_fdw.sync_memory = '64kB'",
        )
        .unwrap();
    session.execute(ALL).unwrap();
    assert_eq!(count(&mut session, "crm.conversations"), 1_600);
    let unlike = "SELECT count(*) FROM (TABLE shop.all EXCEPT ALL TABLE crm.conversations) d";
    assert_eq!(session.one(unlike).unwrap(), "0");
    // With enough of it a page takes two: its head, and all that is below.
    assert!(count(&mut session, "crm.steps") > 12, "{} steps", count(&mut session, "crm.steps"));
    shop.assert_no_violations().unwrap();
}
