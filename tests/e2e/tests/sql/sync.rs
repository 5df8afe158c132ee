//! `pancake.sync`: the copy is the page. What a first and a later run do, and what they cost; here
//! also what the other modules share. What it refuses is in `sync::input`, what happens beside it
//! in `sync::beside`, how it dies in `sync::killed`, several pages in `sync::pages`, schedules in
//! `sync::scheduled`; whose rights count in `sync::rights`, what a role without rights tries in
//! `sync::attacks` and `sync::tables`.

use e2e::{Session, Shop};
use pancake_simulator::{Settings, Switches};
use serde_json::json;

mod attacks;
mod beside;
mod input;
mod killed;
mod messages;
mod objects;
mod pages;
mod rescans;
mod rights;
mod scheduled;
mod skips;
mod tables;
mod webhook;

const SYNC: &str = "CALL pancake.sync('shop.conversations', 'crm.conversations')";
const FULL: &str = "CALL pancake.sync('shop.conversations', 'crm.conversations', full_rescan => true)";

/// A page of so many rows over 90 days, and an empty schema `crm`.
fn open(rows: usize) -> (Shop<'static>, Session) {
    let shop = Shop::open(Settings::of(rows).as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE SCHEMA crm").unwrap();
    (shop, session)
}

/// Rows of the page that the copy has not, and of the copy that the page has not, in these columns.
fn unlike(session: &mut Session, columns: &str) -> Vec<String> {
    let page = format!("SELECT {columns} FROM shop.conversations");
    let copy = format!("SELECT {columns} FROM crm.conversations WHERE removed_at IS NULL");
    let sql = format!(
        "SELECT 'page ' || p FROM ({page} EXCEPT ALL {copy}) p UNION ALL SELECT 'copy ' || c FROM ({copy} EXCEPT ALL {page}) c"
    );
    session.column(&sql).unwrap()
}

/// The columns of the page, all of them.
fn columns(session: &mut Session) -> String {
    let sql = "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
        WHERE attrelid = 'shop.conversations'::regclass AND attnum > 0 AND NOT attisdropped";
    session.one(sql).unwrap()
}

fn is_the_page(session: &mut Session, what: &str) {
    let columns = columns(session);
    let unlike = unlike(session, &columns);
    assert!(unlike.is_empty(), "{what}: {} rows differ: {unlike:#?}", unlike.len());
}

/// The same of the conversations that began since.
fn is_the_page_since(session: &mut Session, since: &str) {
    let missing = format!(
        "SELECT count(*) FROM shop.conversations s FULL JOIN crm.conversations c USING (id, updated_at)
         WHERE (s.page_id IS NULL OR c.page_id IS NULL) AND coalesce(s.inserted_at, c.inserted_at) >= '{since}'"
    );
    assert_eq!(session.one(&missing).unwrap(), "0");
}

/// Kind and status of all runs, in their order.
fn runs(session: &mut Session) -> Vec<String> {
    session.column("SELECT kind || ' ' || status FROM pancake.sync_runs ORDER BY run_id").unwrap()
}

/// One column of the last run.
fn last_run(session: &mut Session, column: &str) -> String {
    session.one(&format!("SELECT {column} FROM pancake.sync_runs ORDER BY run_id DESC LIMIT 1")).unwrap()
}

/// The end of a list that is shorter than a reply need not be proven to a delta.
#[test]
fn a_delta_of_a_short_list_costs_a_request() {
    for rows in [20, 40, 59] {
        let (shop, mut session) = open(rows);
        let page = shop.simulator.first_page();
        session.execute(SYNC).unwrap();
        let ((), log) = shop.watch(|| session.execute(SYNC).unwrap());
        assert_eq!((log.len(), last_run(&mut session, "kind").as_str()), (1, "delta"), "{rows} rows");
        let ids = page.ids();
        page.message(&ids[rows - 1]);
        page.create("INBOX");
        page.retag(&ids[0], &[61, 62]);
        let ((), log) = shop.watch(|| session.execute(SYNC).unwrap());
        assert!(log.len() <= 2, "{rows} rows: {} requests", log.len());
        is_the_page(&mut session, &format!("{rows} rows"));
    }
}

#[test]
fn first_everything_then_what_has_changed() {
    let (shop, mut session) = open(500);
    let page = shop.simulator.first_page();
    let ((), log) = shop.watch(|| session.execute(SYNC).unwrap());
    is_the_page(&mut session, "the backfill");
    // A walk that is cut in pieces makes some more.
    assert!(log.len() <= 500 / 59 + 9, "{} requests", log.len());
    assert_eq!(runs(&mut session), ["backfill ok"]);
    assert_eq!(last_run(&mut session, "inserted || ' ' || updated || ' ' || removed"), "500 0 0");
    assert_eq!(last_run(&mut session, "requests"), log.len().to_string());
    let state = "SELECT target || ' ' || page_id || ' ' || object || ' ' || source || ' ' || backfill_done FROM pancake.sync_state";
    assert_eq!(
        session.one(state).unwrap(),
        "crm.conversations 100000000000001 conversations shop.conversations true"
    );
    let newest = "SELECT max(updated_at) FROM crm.conversations";
    let (mark, newest) =
        (session.one("SELECT mark FROM pancake.sync_state").unwrap(), session.one(newest).unwrap());
    assert_eq!(mark, newest);

    let ids = page.ids();
    let (created, old) = (page.create("INBOX"), ids[400].clone());
    page.message(&old);
    page.message(&ids[7]);
    let before = session.one("SELECT now()").unwrap();
    let ((), log) = shop.watch(|| session.execute(SYNC).unwrap());
    is_the_page(&mut session, "the delta");
    assert_eq!(log.len(), 1);
    assert_eq!(runs(&mut session), ["backfill ok", "delta ok"]);
    assert_eq!(last_run(&mut session, "inserted || ' ' || updated || ' ' || requests"), "1 2 1");
    assert_eq!(last_run(&mut session, "seen = inserted + updated + unchanged"), "t");
    let mut written = vec![created, old, ids[7].clone()];
    written.sort();
    let synced =
        format!("SELECT id FROM crm.conversations WHERE synced_at > '{before}' ORDER BY id COLLATE \"C\"");
    assert_eq!(session.column(&synced).unwrap(), written, "unchanged rows keep synced_at");

    session.execute(SYNC).unwrap();
    assert_eq!(last_run(&mut session, "inserted || ' ' || updated"), "0 0");
    let told: Vec<_> = session.notices().into_iter().map(|notice| notice.message).collect();
    for part in ["created table", "backfill done: ", "delta done: "] {
        assert!(told.iter().any(|message| message.contains(part)), "{part}: {told:?}");
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn the_target_is_made_in_the_image_of_the_source() {
    let (_shop, mut session) = open(3);
    session.execute(SYNC).unwrap();
    let shape = |table: &str| {
        format!(
            "SELECT attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull FROM pg_attribute
             WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY attname COLLATE \"C\""
        )
    };
    let mut expected = session.column(&shape("shop.conversations")).unwrap();
    expected.extend(
        ["synced_at timestamp with time zone true", "removed_at timestamp with time zone false"]
            .map(str::to_owned),
    );
    expected.sort();
    assert_eq!(session.column(&shape("crm.conversations")).unwrap(), expected);
    let indexes = "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'crm.conversations'::regclass ORDER BY indisprimary";
    let indexes = session.column(indexes).unwrap();
    assert!(
        indexes[0].contains("(page_id, updated_at)")
            && indexes[1].contains("UNIQUE")
            && indexes[1].contains("(page_id, id)"),
        "{indexes:?}"
    );

    session.execute("SET search_path = crm; CREATE SCHEMA \"Bán hàng\"").unwrap();
    session.execute("CALL pancake.sync('shop.conversations', 'unqualified')").unwrap();
    assert_eq!(session.one("SELECT count(*) FROM crm.unqualified").unwrap(), "3");
    session.execute("CALL pancake.sync('shop.conversations', '\"Bán hàng\".\"Hội thoại\"')").unwrap();
    assert_eq!(session.one("SELECT count(*) FROM \"Bán hàng\".\"Hội thoại\"").unwrap(), "3");
}

/// Requests of the CALL, and rows in the window of the delta, of which some show an older time.
#[test]
fn a_delta_costs_a_request_for_59_rows_and_two_and_one_if_nothing_has_changed() {
    let (shop, mut session) = open(1_500);
    let page = shop.simulator.first_page();
    session.execute(SYNC).unwrap();
    // Long enough for a walk to be cut into pieces, where it may be.
    shop.simulator.switches(|switches| switches.latency = std::time::Duration::from_millis(40));
    for (messages, creates) in [
        (0, 0),
        (1, 0),
        (20, 3),
        (58, 0),
        (59, 0),
        (60, 0),
        (61, 10),
        (118, 0),
        (119, 40),
        (177, 0),
        (400, 48),
    ] {
        // What happened before is out of the window.
        shop.simulator.advance(std::time::Duration::from_secs(3_600));
        let ids = page.ids();
        page.message(&ids[0]);
        session
            .execute("CALL pancake.sync('shop.conversations', 'crm.conversations', reread => NULL)")
            .unwrap();
        ids[ids.len() - messages..].iter().for_each(|id| assert!(page.message(id)));
        (0..creates).for_each(|_| assert!(!page.create("INBOX").is_empty()));
        let ((), log) = shop.watch(|| {
            session
                .execute("CALL pancake.sync('shop.conversations', 'crm.conversations', reread => NULL)")
                .unwrap()
        });
        let rows = messages + creates + 1;
        let most = match rows {
            1 => 1,
            2..=41 => 2,
            _ => rows.div_ceil(59) + 2,
        };
        assert!(log.len() <= most, "{rows} rows cost {}", log.len());
        assert_eq!(last_run(&mut session, "kind || ' ' || requests"), format!("delta {}", log.len()));
        is_the_page(&mut session, &format!("{messages} messages, {creates} new"));
    }
    shop.assert_no_violations().unwrap();
}

/// More new conversations than one reply holds are a past of their own, read down to the delta's
/// window.
#[test]
fn a_burst_of_new_conversations_is_read_to_its_end() {
    let (shop, mut session) = open(300);
    let page = shop.simulator.first_page();
    session.execute(SYNC).unwrap();
    (0..200).for_each(|_| assert!(!page.create("INBOX").is_empty()));
    // One of them is known to the list under an old updated_at only, below a hundred others.
    let now = session
        .one("SELECT to_char(now() AT TIME ZONE 'UTC' - interval '1 minute', 'YYYY-MM-DD\"T\"HH24:MI:SS')")
        .unwrap();
    page.insert_row(
        json!({"id": "imported", "type": "INBOX", "inserted_at": now, "updated_at": "2026-01-02T03:04:05"}),
    );
    session.execute(SYNC).unwrap();
    is_the_page(&mut session, "a burst");
    assert_eq!(runs(&mut session), ["backfill ok", "delta ok", "backfill ok"]);
    let delta = "SELECT requests FROM pancake.sync_runs WHERE kind = 'delta'";
    let requests: usize = session.one(delta).unwrap().parse().unwrap();
    assert!(requests <= 202_usize.div_ceil(59) + 3, "{requests}");
    session.execute(SYNC).unwrap();
    is_the_page(&mut session, "after the burst");
}

#[test]
fn a_row_that_appears_late_under_an_old_time_is_found_by_the_reread() {
    let (shop, mut session) = open(300);
    session.execute(SYNC).unwrap();
    let now = "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')";
    let now = session.one(now).unwrap();
    shop.simulator.first_page().insert_row(
        json!({"id": "imported", "type": "INBOX", "inserted_at": now, "updated_at": "2026-01-02T03:04:05"}),
    );
    session
        .execute("CALL pancake.sync('shop.conversations', 'crm.conversations', reread_every => '0')")
        .unwrap();
    is_the_page(&mut session, "late");
}

#[test]
fn small_pages_and_empty_ones() {
    for rows in [0, 1, 59, 60, 61] {
        let (shop, mut session) = open(rows);
        for _ in 0..3 {
            session.execute(SYNC).unwrap();
            is_the_page(&mut session, &format!("{rows} rows"));
        }
        let ((), log) = shop.watch(|| session.execute(SYNC).unwrap());
        assert!(log.len() <= 4, "{rows} rows: {}", log.len());
        let page = shop.simulator.first_page();
        page.create("COMMENT");
        session.execute(SYNC).unwrap();
        is_the_page(&mut session, &format!("{rows} rows and one"));
        page.ids().iter().for_each(|id| assert!(page.delete(id)));
        session.execute(SYNC).unwrap();
    }
}

/// A row dated ahead of time must not hide all that comes after it.
#[test]
fn a_row_from_the_future_is_no_mark() {
    let (shop, mut session) = open(100);
    let page = shop.simulator.first_page();
    page.insert_row(json!({"id": "future", "type": "INBOX", "inserted_at": "2026-01-02T03:04:05", "updated_at": "2099-01-02T03:04:05"}));
    session.execute(SYNC).unwrap();
    assert_eq!(session.one("SELECT mark < now() FROM pancake.sync_state").unwrap(), "t");
    page.insert_row(json!({"id": "fresh", "type": "INBOX", "inserted_at": "2026-01-02T03:04:05",
        "updated_at": session.one("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS')").unwrap()}));
    session.execute(SYNC).unwrap();
    is_the_page(&mut session, "a row of 2099");
}

#[test]
fn the_first_run_may_be_bounded() {
    let (shop, mut session) = open(600);
    let since = session.one("SELECT now() - interval '30 days'").unwrap();
    // A first run that fails decides nothing about the next one.
    let page = shop.simulator.first_page();
    let token = page.token();
    page.set_token("another");
    assert_eq!(session.error(SYNC).unwrap().sqlstate, "28000");
    page.set_token(&token);
    let bounded =
        format!("CALL pancake.sync('shop.conversations', 'crm.conversations', first_since => '{since}')");
    session.execute(&bounded).unwrap();
    let copy = "SELECT count(*) || ' ' || min(inserted_at) FROM crm.conversations";
    let page_since = format!(
        "SELECT count(*) || ' ' || min(inserted_at) FROM shop.conversations WHERE inserted_at >= '{since}'"
    );
    assert_eq!(session.one(copy).unwrap(), session.one(&page_since).unwrap());

    // An old conversation that is taken up again comes with the delta; a full rescan keeps to the
    // bound.
    let old = page.ids().into_iter().rev().nth(20).unwrap();
    page.message(&old);
    session.execute(SYNC).unwrap();
    let has = format!("SELECT count(*) FROM crm.conversations WHERE id = '{old}'");
    assert_eq!(session.one(&has).unwrap(), "1");
    let older =
        format!("SELECT id FROM crm.conversations WHERE inserted_at < '{since}' AND removed_at IS NULL");
    assert_eq!(session.column(&older).unwrap().concat(), old);
    session.execute(FULL).unwrap();
    assert_eq!(session.column(&older).unwrap().concat(), old);
    is_the_page_since(&mut session, &since);

    // Also where little began since, so that one reply shows what is older.
    for _ in 0..2 {
        session
            .execute(
                "CALL pancake.sync('shop.conversations', 'crm.few', first_since => now() - interval '1 day')",
            )
            .unwrap();
        let few = format!(
            "SELECT count(*) FROM crm.few WHERE inserted_at < now() - interval '2 days' AND id <> '{old}'"
        );
        assert_eq!(session.one(&few).unwrap(), "0");
    }
}

/// The table that a widely read article recommends.
#[test]
fn a_table_of_ones_own_keeps_its_shape() {
    let (shop, mut session) = open(130);
    session
        .execute(
            "CREATE TABLE crm.conversations (
                 id text PRIMARY KEY, page_id text, type text, tags jsonb, updated_at timestamptz, inserted_at timestamptz,
                 last_message jsonb, participants jsonb, synced_at timestamptz, removed_at timestamptz,
                 phone_numbers jsonb, snippet varchar(200), note text DEFAULT 'ours',
                 loud text GENERATED ALWAYS AS (upper(type)) STORED);
             CREATE INDEX ON crm.conversations (page_id, updated_at)",
        )
        .unwrap();
    session.execute(SYNC).unwrap();
    let same = "id, type, to_jsonb(tags), updated_at, inserted_at, last_message, participants, to_jsonb(phone_numbers), snippet";
    assert_eq!(unlike(&mut session, same), Vec::<String>::new());
    session.execute("UPDATE crm.conversations SET note = 'mine'").unwrap();
    let page = shop.simulator.first_page();
    page.ids().iter().take(40).for_each(|id| assert!(page.message(id)));
    page.create("INBOX");
    session.execute(SYNC).unwrap();
    assert_eq!(unlike(&mut session, same), Vec::<String>::new());
    let notes = "SELECT note || ' ' || count(*) FROM crm.conversations GROUP BY note ORDER BY note";
    assert_eq!(session.column(notes).unwrap(), ["mine 130", "ours 1"]);
    assert_eq!(last_run(&mut session, "inserted || ' ' || updated"), "1 40");
}

#[test]
fn a_partitioned_target_and_other_schemas_of_the_source() {
    let (shop, mut session) = open(130);
    session
        .execute(
            "CREATE TABLE crm.conversations (LIKE shop.conversations, synced_at timestamptz, removed_at timestamptz,
                 PRIMARY KEY (page_id, id)) PARTITION BY LIST (page_id);
             CREATE TABLE crm.one PARTITION OF crm.conversations FOR VALUES IN ('100000000000001');
             ALTER TABLE crm.conversations DROP COLUMN snippet;
             ALTER FOREIGN TABLE shop.conversations DROP COLUMN has_phone, ADD COLUMN gender text OPTIONS (path '/page_customer/gender');
             ALTER TABLE crm.conversations ADD COLUMN gender text",
        )
        .unwrap();
    for _ in 0..2 {
        session.execute(SYNC).unwrap();
        let same = "id, page_id, type, tags, updated_at, raw, gender";
        assert_eq!(unlike(&mut session, same), Vec::<String>::new());
        shop.simulator.first_page().create("INBOX");
    }
    assert_eq!(last_run(&mut session, "kind || inserted || updated"), "delta10");
}

#[test]
fn the_list_moves_meanwhile() {
    let (shop, mut session) = open(400);
    let churn = pancake_simulator::Churn { messages: 2.0, creates: 0.5, retags: 0.5, ..Default::default() };
    shop.simulator.switches(|switches| {
        switches.churn = churn;
        switches.late = std::time::Duration::from_millis(30);
    });
    for _ in 0..8 {
        session.execute(SYNC).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    shop.simulator.switches(|switches| *switches = Switches::default());
    session.execute(SYNC).unwrap();
    assert_eq!(unlike(&mut session, "id, updated_at, snippet, message_count"), Vec::<String>::new());
    session.execute(FULL).unwrap();
    is_the_page(&mut session, "after a churn");
}
