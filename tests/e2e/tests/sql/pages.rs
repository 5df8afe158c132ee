//! Several pages in one statement: a partitioned table by `page_id`, or a UNION ALL. Pages are read
//! at the same time, and the answers are those of one page after another. Interruptions are in
//! `broken`, plans in `ways`, very many pages in `thousand`.

mod broken;
mod thousand;
mod ways;

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::{Session, Shop};
use pancake_simulator::{Entry, PageSettings, Settings};

/// Long enough that requests of several pages overlap, whatever the machine.
const LATENCY: Duration = Duration::from_millis(40);

/// Scans of this session.
const RUNNING: &str = "SELECT count(*) FROM pancake.progress WHERE pid = pg_backend_pid()";

/// Pages of so many conversations, the partitioned table `live` over them, and its rows in the
/// table `copy`.
fn open(pages: usize, conversations: usize) -> (Shop<'static>, Session) {
    let pages: Vec<_> =
        (0..pages).map(|n| PageSettings { conversations, ..PageSettings::numbered(n) }).collect();
    // One request in flight for each page: what is in flight together is of several pages.
    let shop =
        Shop::open_with(Settings { pages, ..Settings::default() }.as_seen(), &[("max_concurrency", "1")])
            .unwrap();
    let mut session = shop.connect().unwrap();
    attach(&shop, &mut session);
    session.execute("CREATE TABLE copy AS SELECT * FROM live; ANALYZE copy").unwrap();
    shop.simulator.switches(|switches| switches.latency = LATENCY);
    shop.simulator.clear_log();
    (shop, session)
}

fn attach(shop: &Shop, session: &mut Session) {
    session.execute("CREATE TABLE live (LIKE shop.conversations) PARTITION BY LIST (page_id)").unwrap();
    for (ordinal, page_id) in shop.simulator.page_ids().iter().enumerate() {
        let schema = schema(ordinal);
        let attach =
            format!("ALTER TABLE live ATTACH PARTITION {schema}.conversations FOR VALUES IN ('{page_id}')");
        session.execute(&attach).unwrap();
    }
}

fn schema(ordinal: usize) -> String {
    if ordinal == 0 { "shop".to_owned() } else { format!("shop{}", ordinal + 1) }
}

fn requests_by_page(log: &[Entry]) -> BTreeMap<&str, usize> {
    let mut requests = BTreeMap::new();
    log.iter().for_each(|entry| *requests.entry(entry.page_id.as_str()).or_default() += 1);
    requests
}

/// The statement over the pages answers as it does over their copy.
fn agree(session: &mut Session, sql: &str) {
    session.execute("BEGIN").unwrap();
    let [mut ours, mut theirs] =
        ["live", "copy"].map(|table| session.rows(&sql.replace("{}", table)).unwrap());
    session.execute("COMMIT").unwrap();
    ours.sort();
    theirs.sort();
    assert!(!theirs.is_empty(), "{sql}");
    assert_eq!(ours, theirs, "{sql}");
}

#[test]
fn four_pages_are_read_at_the_same_time() {
    let (shop, mut session) = open(4, 300);
    assert_eq!(session.one("SELECT count(DISTINCT (page_id, id)) FROM live").unwrap(), "1200");
    assert_eq!(shop.simulator.most_in_flight(), 4);
    let log = shop.simulator.log();
    let requests = requests_by_page(&log);
    assert!(
        requests.len() == 4 && requests.values().all(|requests| (6..10).contains(requests)),
        "{requests:?}"
    );
    // No page is ahead of another by more than the fetching of a batch and the ordering of the
    // next.
    for step in 1..log.len() {
        let so_far = requests_by_page(&log[..step]);
        let (most, least) = (so_far.values().max().unwrap(), so_far.values().min().unwrap());
        assert!(so_far.len() < 4 || most - least <= 3, "{so_far:?}");
    }
    agree(&mut session, "SELECT page_id, id, tags, updated_at FROM {} WHERE type = 'INBOX'");
    shop.assert_no_violations().unwrap();
}

#[test]
fn every_shape_of_statement_answers_as_over_a_copy() {
    let (shop, mut session) = open(3, 130);
    session
        .execute(
            "CREATE TABLE mine (LIKE copy); INSERT INTO mine SELECT * FROM copy LIMIT 50; ANALYZE mine;
             CREATE TABLE bounds AS SELECT unnest(ARRAY[10, 30, 60, 60]) AS days; ANALYZE bounds",
        )
        .unwrap();
    for sql in [
        "SELECT count(*), min(updated_at) FROM {}",
        "SELECT page_id, type, count(*) FROM {} GROUP BY 1, 2",
        "SELECT id FROM {} WHERE length(snippet) % 7 = 3",
        "SELECT id FROM {} WHERE tags @> '{61}' ORDER BY updated_at DESC, id",
        "SELECT (SELECT count(*) FROM {}) - (SELECT count(*) FROM {} WHERE seen)",
        "SELECT count(*) FROM {} a JOIN {} b USING (page_id, id)",
        // With arms that are no scans of ours.
        "SELECT id FROM {} UNION ALL SELECT id FROM mine",
        "SELECT page_id, count(*) FROM (SELECT page_id FROM {} UNION ALL SELECT page_id FROM mine) all_of_them GROUP BY 1",
        // Read again and again, with new values and with the same.
        "SELECT days, of_them.* FROM bounds, LATERAL (SELECT count(*), max(id) FROM {}
            WHERE updated_at > now() - days * interval '1 day') of_them",
        "SELECT days, (SELECT count(*) FROM {} WHERE inserted_at > now() - days * interval '1 day') FROM bounds",
        "SELECT id, EXISTS (SELECT FROM {} live WHERE live.id = mine.id AND live.page_id = mine.page_id) FROM mine",
    ] {
        agree(&mut session, sql);
    }
    // In the middle of a batch of each.
    let lateral = "SELECT count(*), count(DISTINCT n) FROM generate_series(1, 5) n,
                   LATERAL (SELECT id FROM live WHERE type <> n::text LIMIT 70) of_them";
    assert_eq!(session.rows(lateral).unwrap()[0], ["350", "5"].map(|cell| Some(cell.to_owned())));
    session
        .execute("SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off")
        .unwrap();
    agree(
        &mut session,
        "SELECT days, count(*) FROM bounds LEFT JOIN {} live ON length(snippet) % 70 = days GROUP BY 1",
    );
    shop.assert_no_violations().unwrap();
}

#[test]
fn a_union_of_pages_without_a_partitioned_table() {
    let (shop, mut session) = open(3, 130);
    let union =
        "SELECT id, page_id FROM shop.conversations UNION ALL SELECT id, page_id FROM shop2.conversations
                 UNION ALL SELECT id, page_id FROM shop3.conversations";
    let plan = session.explain(union).unwrap();
    assert_eq!(plan.matches("Async Foreign Scan").count(), 3, "{plan}");
    assert_eq!(session.rows(union).unwrap().len(), 390);
    assert_eq!(shop.simulator.most_in_flight(), 3);
    shop.assert_no_violations().unwrap();
}

#[test]
fn a_pruned_page_is_not_asked() {
    let (shop, mut session) = open(4, 70);
    let ids = shop.simulator.page_ids();
    session.execute("CREATE TABLE wanted (page_id text); SET plan_cache_mode = force_generic_plan").unwrap();
    session.execute(&format!("INSERT INTO wanted VALUES ('{}')", ids[1])).unwrap();
    session.execute("PREPARE of_one(text) AS SELECT id FROM live WHERE page_id = $1").unwrap();
    for (sql, pages, rows) in [
        (format!("SELECT id FROM live WHERE page_id = '{}'", ids[2]), &ids[2..3], 70),
        (
            format!("SELECT id FROM live WHERE page_id IN ('{}', '{}')", ids[0], ids[3]),
            &[ids[0].clone(), ids[3].clone()][..],
            140,
        ),
        (format!("SELECT id FROM live WHERE page_id = ANY ('{{{},x}}')", ids[0]), &ids[..1], 70),
        ("SELECT id FROM live WHERE page_id = 'x'".to_owned(), &[], 0),
        // While it runs.
        (format!("EXECUTE of_one('{}')", ids[3]), &ids[3..], 70),
        ("SELECT id FROM live WHERE page_id = (SELECT page_id FROM wanted)".to_owned(), &ids[1..2], 70),
        (
            "SELECT id FROM live WHERE page_id = ANY (ARRAY(SELECT page_id FROM wanted))".to_owned(),
            &ids[1..2],
            70,
        ),
        ("SELECT id FROM wanted JOIN live USING (page_id)".to_owned(), &ids[..], 70),
    ] {
        let (rows_of, log) = shop.watch(|| session.rows(&sql).unwrap().len());
        assert_eq!(rows_of, rows, "{sql}");
        let asked: Vec<_> = requests_by_page(&log).into_keys().map(str::to_owned).collect();
        assert_eq!(asked, pages, "{sql}");
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn enough_rows_end_the_reading_of_all_pages() {
    let (shop, mut session) = open(4, 600);
    let (rows, log) = shop.watch(|| session.rows("SELECT id FROM live LIMIT 100").unwrap().len());
    assert_eq!(rows, 100);
    assert_eq!(requests_by_page(&log).len(), 4);
    // Each page is asked once, whichever then is the quickest: nothing is fetched ahead before a
    // page's second batch. The last requests may still be on their way when the statement ends; the
    // whole pages would be 44.
    std::thread::sleep(LATENCY * 3);
    let log = shop.simulator.log();
    assert!(log.len() <= 6, "{:?}", requests_by_page(&log));
    assert_eq!(session.one(RUNNING).unwrap(), "0");
    shop.assert_no_violations().unwrap();
}

#[test]
fn one_server_and_one_token_file_for_all_pages() {
    let (shop, mut session) = open(3, 70);
    let file = shop.database.cluster().socket_dir().join("tokens");
    std::fs::write(&file, shop.simulator.token_file()).unwrap();
    session
        .execute(&format!(
            "CREATE SERVER pages FOREIGN DATA WRAPPER pancake_fdw
                 OPTIONS (base_url '{}', requests_per_second '1000');
             CREATE USER MAPPING FOR CURRENT_USER SERVER pages OPTIONS (page_access_token_file '{}');
             DROP TABLE live; CREATE TABLE live (LIKE copy) PARTITION BY LIST (page_id)",
            shop.simulator.base_url(),
            file.display()
        ))
        .unwrap();
    for (n, id) in shop.simulator.page_ids().iter().enumerate() {
        session
            .execute(&format!(
                "CREATE SCHEMA of{n}; IMPORT FOREIGN SCHEMA pancake FROM SERVER pages INTO of{n} OPTIONS (page_id '{id}');
                 ALTER TABLE live ATTACH PARTITION of{n}.conversations FOR VALUES IN ('{id}')"
            ))
            .unwrap();
    }
    shop.simulator.clear_log();
    agree(&mut session, "SELECT page_id, count(*) FROM {} GROUP BY 1");
    assert!(shop.simulator.most_in_flight() >= 3);
    shop.assert_no_violations().unwrap();
}

/// Scans of one backend share what wakes them: none may miss its own news.
#[test]
fn cursors_over_all_pages_side_by_side() {
    let (shop, mut session) = open(3, 200);
    session
        .execute(
            "BEGIN; DECLARE one CURSOR FOR SELECT page_id, id FROM live;
             DECLARE two CURSOR FOR SELECT page_id, id FROM live WHERE type = 'INBOX';
             DECLARE three CURSOR FOR SELECT page_id, id FROM shop.conversations",
        )
        .unwrap();
    let mut rows = [0; 3];
    for (count, cursor) in
        [(7, 0), (90, 1), (1, 2), (200, 0), (70, 2), (1000, 1), (100, 2), (1000, 0), (1000, 2)]
    {
        let name = ["one", "two", "three"][cursor];
        rows[cursor] += session.rows(&format!("FETCH {count} FROM {name}")).unwrap().len();
    }
    session.execute("COMMIT").unwrap();
    let inbox = session.one("SELECT count(*) FROM copy WHERE type = 'INBOX'").unwrap().parse().unwrap();
    assert_eq!(rows, [600, inbox, 200]);
    session
        .execute("BEGIN; DECLARE one CURSOR FOR SELECT id FROM live; FETCH 70 FROM one; CLOSE one; COMMIT")
        .unwrap();
    assert_eq!(session.one(RUNNING).unwrap(), "0");
    agree(&mut session, "SELECT id FROM {}");
    shop.assert_no_violations().unwrap();
}

#[test]
fn prepared_statements_loops_and_row_security() {
    let (shop, mut session) = open(3, 100);
    session.execute("PREPARE of(text) AS SELECT count(*) FROM live WHERE type = $1").unwrap();
    for kind in ["INBOX", "COMMENT"].repeat(4) {
        let expected = session.one(&format!("SELECT count(*) FROM copy WHERE type = '{kind}'")).unwrap();
        assert_eq!(session.one(&format!("EXECUTE of('{kind}')")).unwrap(), expected);
    }
    session
        .execute(
            "CREATE FUNCTION seen_so_far(enough int) RETURNS int LANGUAGE plpgsql AS $$
             DECLARE row record; n int := 0;
             BEGIN
                 FOR row IN SELECT id, (SELECT count(*) FROM live WHERE page_id = outer_live.page_id) FROM live outer_live LOOP
                     n := n + 1;
                     EXIT WHEN n = enough;
                 END LOOP;
                 BEGIN
                     PERFORM 1 / (id <> '')::int - 1 / (type <> 'INBOX')::int FROM live;
                 EXCEPTION WHEN division_by_zero THEN
                     RETURN n;
                 END;
             END $$",
        )
        .unwrap();
    assert_eq!(session.one("SELECT seen_so_far(70)").unwrap(), "70");
    session
        .execute(
            "CREATE ROLE reader LOGIN; ALTER TABLE live ENABLE ROW LEVEL SECURITY;
             CREATE POLICY only_inbox ON live USING (type = 'INBOX'); GRANT SELECT ON live, copy TO reader",
        )
        .unwrap();
    let ids = shop.simulator.page_ids();
    for (n, id) in ids.iter().enumerate() {
        let token = shop.simulator.page(id).token();
        session
            .execute(&format!(
                "CREATE USER MAPPING FOR reader SERVER {} OPTIONS (page_access_token '{token}')",
                schema(n)
            ))
            .unwrap();
    }
    let mut reader = shop.database.connect_as("reader").unwrap();
    shop.simulator.clear_log();
    let [ours, theirs] = ["live", "copy WHERE type = 'INBOX'"]
        .map(|from| reader.column(&format!("SELECT id FROM {from} ORDER BY 1")).unwrap_or_default());
    assert!(!ours.is_empty());
    assert_eq!(ours, session.column("SELECT id FROM copy WHERE type = 'INBOX' ORDER BY 1").unwrap());
    assert!(theirs.is_empty() || ours == theirs);
    assert_eq!(shop.simulator.most_in_flight(), 3);
    drop(reader);
    session.execute("DROP OWNED BY reader CASCADE").unwrap();
    session.execute("DROP ROLE reader").unwrap();
    shop.assert_no_violations().unwrap();
}

#[test]
fn sixty_four_pages() {
    let (shop, mut session) = open(64, 20);
    assert_eq!(session.one("SELECT count(*) FROM live").unwrap(), "1280");
    assert!(shop.simulator.most_in_flight() > 32, "{} at once", shop.simulator.most_in_flight());
    agree(&mut session, "SELECT page_id, count(*) FROM {} GROUP BY 1");
    shop.assert_no_violations().unwrap();
}

/// Joined by `conversation_id` alone every page would be asked for every conversation.
#[test]
fn messages_of_pages_are_joined_by_both_keys() {
    let (shop, mut session) = open(3, 6);
    shop.simulator.switches(|switches| switches.latency = Duration::ZERO);
    session.execute("CREATE TABLE messages (LIKE shop.messages) PARTITION BY LIST (page_id)").unwrap();
    for (ordinal, page_id) in shop.simulator.page_ids().iter().enumerate() {
        let schema = schema(ordinal);
        session
            .execute(&format!(
                "ALTER TABLE messages ATTACH PARTITION {schema}.messages FOR VALUES IN ('{page_id}')"
            ))
            .unwrap();
    }
    let mut ask = |condition: &str| {
        let sql = format!(
            "SELECT c.page_id, c.id, m.id FROM live c JOIN messages m ON m.conversation_id = c.id {condition}
             AND m.inserted_at >= c.updated_at - interval '1 second' ORDER BY 1, 2, 3"
        );
        let (rows, log) = shop.watch(|| session.rows(&sql).unwrap());
        let asked =
            log.iter().filter(|entry| entry.endpoint == pancake_simulator::Endpoint::Messages).count();
        (rows, asked)
    };
    let (by_both, few) = ask("AND m.page_id = c.page_id");
    let (by_one, many) = ask("");
    assert!(by_both.len() >= 18);
    assert_eq!(by_both, by_one);
    assert!((18..=36).contains(&few) && many >= few + 2 * 18, "{few} requests, {many} without the page");
    shop.assert_no_violations().unwrap();
}
