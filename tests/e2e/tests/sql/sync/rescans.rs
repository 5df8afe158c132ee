//! What times do not show: tags, readers and assignees by the reread, deletions by the full rescan;
//! and marks that are not believed any more once their rows are gone.

use pancake_simulator::{Fault, Only, Times};

use super::*;

const REREAD: &str = "CALL pancake.sync('shop.conversations', 'crm.conversations', reread_every => '0')";

#[test]
fn the_reread_sees_tags_and_readers() {
    // 150 a day: the head of the list, which a delta reads anyway, does not reach back to an hour
    // ago.
    let mut settings = Settings::of(900);
    settings.pages[0].days = 6;
    let shop = Shop::open(settings.as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE SCHEMA crm").unwrap();
    let page = shop.simulator.first_page();
    session.execute(SYNC).unwrap();
    let ids = "SELECT id FROM crm.conversations WHERE updated_at > now() - interval '20 hours'
        AND updated_at < now() - interval '14 hours'";
    let recent = session.column(ids).unwrap();
    assert!(recent.len() > 3, "{recent:?}");
    recent.iter().for_each(|id| assert!(page.retag(id, &[61, 103])));
    page.set_seen(&recent[0], false);

    session.execute(SYNC).unwrap();
    assert_eq!(unlike(&mut session, "id, updated_at").len(), 0);
    assert!(!unlike(&mut session, "id, tags").is_empty(), "a delta cannot see a tag");
    assert_eq!(runs(&mut session), ["backfill ok", "delta ok"]);

    session.execute(REREAD).unwrap();
    is_the_page(&mut session, "the reread");
    assert_eq!(runs(&mut session)[2..], ["delta ok", "reread ok"]);
    assert_eq!(last_run(&mut session, "updated >= 3 AND inserted = 0"), "t");

    // On its own clock: not again within the hour, unless that is over; never where it is switched
    // off.
    session.execute(SYNC).unwrap();
    assert_eq!(runs(&mut session)[4..], ["delta ok"]);
    session
        .execute("UPDATE pancake_internal.sync_marks SET last_reread_at = now() - interval '61 minutes'")
        .unwrap();
    session.execute("CALL pancake.sync('shop.conversations', 'crm.conversations', reread => NULL)").unwrap();
    assert_eq!(runs(&mut session)[5..], ["delta ok"]);
    session.execute(SYNC).unwrap();
    assert_eq!(runs(&mut session)[6..], ["delta ok", "reread ok"]);

    // Older rows are the full rescan's.
    page.retag(&page.ids()[600], &[61]);
    session.execute(REREAD).unwrap();
    assert_eq!(unlike(&mut session, "id, tags").len(), 2);
    session.execute(FULL).unwrap();
    is_the_page(&mut session, "the full rescan");
    assert_eq!(
        session.one("SELECT last_full_rescan_at > last_reread_at FROM pancake.sync_state").unwrap(),
        "t"
    );
    shop.assert_no_violations().unwrap();
}

fn removed(session: &mut Session) -> Vec<String> {
    let sql = "SELECT id FROM crm.conversations WHERE removed_at IS NOT NULL ORDER BY id COLLATE \"C\"";
    session.column(sql).unwrap()
}

#[test]
fn a_full_rescan_marks_what_is_gone() {
    let (shop, mut session) = open(300);
    let page = shop.simulator.first_page();
    session.execute(SYNC).unwrap();
    let ids = page.ids();
    // The newest, the oldest, one between; and a row that a webhook knows before the list shows it.
    let mut gone = vec![ids[0].clone(), ids[150].clone(), ids[299].clone()];
    let kept = page.conversation(&gone[1]).unwrap();
    gone.iter().for_each(|id| assert!(page.delete(id)));
    gone.sort();
    session
        .execute(
            "INSERT INTO crm.conversations SELECT c.* FROM crm.conversations b,
             LATERAL jsonb_populate_record(b, jsonb_build_object('id', 'early', 'updated_at', now(), 'inserted_at', now())) c
             LIMIT 1",
        )
        .unwrap();
    session.execute(SYNC).unwrap();
    assert_eq!(removed(&mut session), Vec::<String>::new(), "a delta removes nothing");
    session.execute(FULL).unwrap();
    assert_eq!(removed(&mut session), gone);
    assert_eq!(last_run(&mut session, "kind || ' ' || status || ' ' || removed"), "full ok 3");
    let synced = "SELECT bool_and(synced_at >= removed_at - interval '1 second') FROM crm.conversations WHERE removed_at IS NOT NULL";
    assert_eq!(session.one(synced).unwrap(), "t");
    session.execute("DELETE FROM crm.conversations WHERE id = 'early'").unwrap();
    is_the_page(&mut session, "the full rescan");

    // One returns.
    page.insert_row(kept);
    session.execute(FULL).unwrap();
    assert_eq!(removed(&mut session).len(), 2);
    is_the_page(&mut session, "a row that returned");
    assert_eq!(last_run(&mut session, "updated || ' ' || removed"), "1 0");
    assert_eq!(session.one("SELECT count(*) FROM pg_class WHERE relname LIKE 'pancake_sync%'").unwrap(), "0");
}

#[test]
fn a_tenth_of_the_rows_is_not_believed_to_be_gone() {
    let (shop, mut session) = open(200);
    let page = shop.simulator.first_page();
    session.execute(SYNC).unwrap();
    let rows = page.conversations();
    page.ids().iter().take(21).for_each(|id| assert!(page.delete(id)));
    session.notices();
    session.execute(FULL).unwrap();
    let told = session.notices();
    let warning = told.iter().find(|notice| notice.severity == "WARNING").unwrap();
    assert!(warning.message.contains("21 of 200 rows were not found"), "{warning}");
    let mut gone: Vec<_> = rows.iter().take(21).map(|row| row["id"].as_str().unwrap()).collect();
    gone.sort();
    let first = format!("The first of them: '{}'.", gone[..5].join("', '"));
    assert_eq!(warning.detail.as_deref(), Some(first.as_str()));
    assert!(warning.hint.as_deref().unwrap().starts_with("More than a tenth"), "{warning}");
    assert_eq!(removed(&mut session).len(), 0);
    page.insert_row(rows[3].clone());
    session.execute(FULL).unwrap();
    assert_eq!(removed(&mut session).len(), 20, "a tenth itself is believed");
}

#[test]
fn a_full_rescan_that_fails_marks_nothing() {
    let (shop, mut session) = open(300);
    let page = shop.simulator.first_page();
    session.execute(SYNC).unwrap();
    let before = session.rows("SELECT mark, last_full_rescan_at FROM pancake.sync_state").unwrap();
    page.delete(&page.ids()[299]);
    shop.simulator.fault_on(Only::default(), Fault::Status(403), Times::On(vec![4]));
    assert_eq!(session.error(FULL).unwrap().sqlstate, "42501");
    assert_eq!(removed(&mut session).len(), 0);
    assert_eq!(runs(&mut session), ["backfill ok", "full failed"]);
    assert_eq!(last_run(&mut session, "sqlstate || ' ' || requests"), "42501 4");
    assert_eq!(session.rows("SELECT mark, last_full_rescan_at FROM pancake.sync_state").unwrap(), before);
    session.execute(FULL).unwrap();
    assert_eq!(removed(&mut session).len(), 1);
}

#[test]
fn the_first_full_rescan_backfills_before() {
    let (_shop, mut session) = open(130);
    session.execute(FULL).unwrap();
    is_the_page(&mut session, "a first full rescan");
    assert_eq!(runs(&mut session), ["backfill ok", "full ok"]);
}

#[test]
fn a_table_without_removed_at_is_told() {
    let (shop, mut session) = open(70);
    session
        .execute("CREATE TABLE crm.conversations (id text UNIQUE, page_id text, updated_at timestamptz, snippet text)")
        .unwrap();
    session.execute(SYNC).unwrap();
    shop.simulator.first_page().delete(&shop.simulator.first_page().ids()[3]);
    session.execute(FULL).unwrap();
    assert!(session.notices().iter().any(|n| n.message.contains("has no column removed_at")));
    assert_eq!(session.one("SELECT count(*) FROM crm.conversations").unwrap(), "70");
}

#[test]
fn marks_die_with_their_rows() {
    let (shop, mut session) = open(300);
    session.execute(SYNC).unwrap();
    for (how, told) in [
        ("TRUNCATE crm.conversations", "does not hold the rows any more"),
        ("DROP TABLE crm.conversations", "created table"),
        // A part of the rows is back from an old dump: none of those that the marks stand on.
        (
            "DELETE FROM crm.conversations USING pancake_internal.sync_marks m WHERE id = ANY (witnesses) OR id LIKE '%7'",
            "does not hold the rows any more",
        ),
        ("SELECT pancake.sync_reset('crm.conversations')", "backfill done"),
        ("SELECT pancake.sync_reset('crm.conversations', '100000000000001')", "backfill done"),
    ] {
        shop.simulator.first_page().create("INBOX");
        session.execute(how).unwrap();
        session.notices();
        session.execute(SYNC).unwrap();
        is_the_page(&mut session, how);
        assert!(last_run(&mut session, "kind || status") == "backfillok", "{how}");
        assert!(session.notices().iter().any(|n| n.message.contains(told)), "{how}");
    }
    assert_eq!(
        session.one("SELECT count(*) FROM pancake_internal.sync_marks").unwrap(),
        "1",
        "dropped targets are forgotten"
    );

    // One witness is enough, and another page's marks do not matter.
    session.execute("SELECT pancake.sync_reset('crm.conversations', 'another')").unwrap();
    session
        .execute("DELETE FROM crm.conversations USING pancake_internal.sync_marks m WHERE id = ANY (witnesses[2:3])")
        .unwrap();
    session.execute(SYNC).unwrap();
    assert_eq!(last_run(&mut session, "kind"), "delta");
}

#[test]
fn runs_are_kept_for_thirty_days() {
    let (_shop, mut session) = open(10);
    session.execute(SYNC).unwrap();
    session.execute("UPDATE pancake_internal.sync_log SET started_at = now() - interval '29 days'").unwrap();
    session.execute(SYNC).unwrap();
    assert_eq!(runs(&mut session), ["backfill ok", "delta ok"]);
    session
        .execute(
            "UPDATE pancake_internal.sync_log SET started_at = now() - interval '31 days' WHERE kind = 'backfill'",
        )
        .unwrap();
    session.execute(SYNC).unwrap();
    assert_eq!(runs(&mut session), ["delta ok", "delta ok"]);
}

/// A stored time that is ahead of the reply's own proves no newer version: a delta writes what it
/// reads of such a row. What is only newer than what the page shows is left alone by a delta, and
/// written by a full rescan.
#[test]
fn a_stored_time_that_is_ahead_hides_nothing() {
    let (shop, mut session) = open(70);
    let page = shop.simulator.first_page();
    session.execute(SYNC).unwrap();
    let ids = page.ids();
    let set = |session: &mut Session, id: &str, time: &str| {
        let sql = format!("UPDATE crm.conversations SET updated_at = {time} WHERE id = '{id}'");
        session.execute(&sql).unwrap();
    };
    set(&mut session, &ids[3], "now() + interval '1 year'");
    assert!(page.message(&ids[3]));
    session.execute(SYNC).unwrap();
    is_the_page(&mut session, "a time ahead, after a delta");
    set(&mut session, &ids[60], "updated_at + interval '1 minute'");
    session.execute(SYNC).unwrap();
    assert_eq!(unlike(&mut session, "id, updated_at").len(), 2);
    session.execute(FULL).unwrap();
    is_the_page(&mut session, "a time that the page never showed, after a full rescan");
}

/// A delta reads the head of the list as it stands, and compares it with the copy: a row that moved
/// there although its time did not, one that was tagged, one that has stood seven places too low.
/// Without changes it costs one request.
#[test]
fn a_delta_goes_by_what_rows_hold() {
    let (shop, mut session) = open(500);
    let page = shop.simulator.first_page();
    session.execute(SYNC).unwrap();
    let ids = page.ids();
    // All that follows is older than the window of the delta, so times show nothing.
    shop.simulator.advance(std::time::Duration::from_secs(3_600));
    let frozen: Vec<_> = page.frozen().into_iter().filter(|id| !ids[..60].contains(id)).take(3).collect();
    assert_eq!(frozen.len(), 3);
    frozen.iter().for_each(|id| assert!(page.message(id)));
    assert!(page.retag(&ids[45], &[61, 63]));
    assert!(page.message(&ids[5]) && page.lower(&ids[5], 7));
    let delta = "CALL pancake.sync('shop.conversations', 'crm.conversations', reread => NULL)";
    let ((), log) = shop.watch(|| session.execute(delta).unwrap());
    assert_eq!(last_run(&mut session, "concat_ws(' ', kind, inserted, updated)"), "delta 0 5");
    is_the_page(&mut session, "what shows no new time");
    assert!(log.len() <= 2, "{}", log.len());
    let ((), log) = shop.watch(|| session.execute(delta).unwrap());
    assert_eq!(last_run(&mut session, "concat_ws(' ', inserted, updated, requests)"), "0 0 1");
    assert_eq!(log.len(), 1);
    shop.assert_no_violations().unwrap();
}
