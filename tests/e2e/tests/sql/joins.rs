//! The joins that people write between the tables of a page, and with their own: the same rows as
//! over copies of all the tables, for as many requests as they need; and many pages, made by SQL
//! from the list of them.

use std::fs;

use e2e::{Cluster, Session, Shop, page::literal};
use pancake_simulator::*;

/// A page, and the schema `copy` with all rows of all its tables.
fn open() -> (Shop<'static>, Session) {
    let shop = Shop::open(Settings::of(900).as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE SCHEMA copy").unwrap();
    for table in ["conversations", "tags", "posts", "customers", "users"] {
        session.execute(&format!("CREATE TABLE copy.{table} AS SELECT * FROM shop.{table}")).unwrap();
    }
    session
        .execute(
            "CREATE TABLE copy.messages AS SELECT * FROM shop.messages
                 WHERE conversation_id = ANY (ARRAY(SELECT id FROM copy.conversations WHERE updated_at > now() - interval '3 days'));
             CREATE TABLE crm (phone text, customer_id text, level text);
             INSERT INTO crm SELECT phone_numbers[1], customer_id, 'gold' FROM copy.customers WHERE phone_numbers <> '{}' ORDER BY id LIMIT 40;
             ANALYZE",
        )
        .unwrap();
    (shop, session)
}

/// The cookbook's count of every tag, on a page without ANALYZE: one walk, and not one for each
/// tag.
#[test]
fn tags_are_counted_by_one_walk_before_anybody_has_looked_at_the_page() {
    let shop = Shop::open(Settings::of(900).as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    let counts = "SELECT t.text, count(c.id) FROM shop.tags t
        LEFT JOIN shop.conversations c ON t.id = ANY (c.tags) AND c.updated_at > now() - interval '1 day'
        WHERE NOT coalesce(t.is_deactive, false) GROUP BY t.text";
    let (rows, log) = shop.watch(|| session.rows(counts).unwrap());
    assert!(rows.len() > 5);
    let walked: Vec<_> = log.iter().filter(|entry| entry.endpoint == Endpoint::Conversations).collect();
    assert!(walked.len() < 8 && walked.iter().all(|entry| entry.param("tags").is_none()), "{walked:?}");
    shop.assert_no_violations().unwrap();
}

/// Runs a query over `shop.…` and over `copy.…`; gives the rows' number and the requests.
fn same(shop: &Shop, session: &mut Session, query: &str) -> (usize, Vec<Entry>) {
    let (mut page, log) = shop.watch(|| session.rows(query).unwrap());
    let mut copy = session.rows(&query.replace("shop.", "copy.")).unwrap();
    page.sort();
    copy.sort();
    assert_eq!(page, copy, "{query}");
    (page.len(), log)
}

fn of(log: &[Entry], endpoint: Endpoint) -> usize {
    log.iter().filter(|entry| entry.endpoint == endpoint).count()
}

#[test]
fn conversations_by_the_names_of_tags() {
    let (shop, mut session) = open();
    let name = session.one("SELECT text FROM copy.tags t WHERE EXISTS (SELECT FROM copy.conversations c WHERE t.id = ANY (c.tags)) ORDER BY id LIMIT 1").unwrap();
    let list = |name: &str| {
        format!(
            "SELECT id FROM shop.conversations WHERE tags && ARRAY(SELECT id FROM shop.tags WHERE text = {}) AND updated_at > now() - interval '7 days'",
            literal(name)
        )
    };
    let (rows, log) = same(&shop, &mut session, &list(&name));
    assert!(rows > 0 && of(&log, Endpoint::Tags) == 1);
    assert!(
        log.iter()
            .filter(|entry| entry.endpoint == Endpoint::Conversations)
            .all(|entry| entry.param("tags").is_some())
    );
    // A mistyped name is no tag at all: nothing is asked but the tags.
    let (rows, log) = same(&shop, &mut session, &list("Khach VIP?"));
    assert_eq!((rows, log.len()), (0, 1));
    let (rows, log) = same(
        &shop,
        &mut session,
        &format!(
            "SELECT c.id FROM shop.tags t JOIN shop.conversations c ON t.id = ANY (c.tags) WHERE t.text = {}",
            literal(&name)
        ),
    );
    assert!(rows > 0 && of(&log, Endpoint::Tags) == 1, "{log:?}");
    let counts = "SELECT t.text, count(c.id) FROM shop.tags t LEFT JOIN shop.conversations c ON t.id = ANY (c.tags) AND c.updated_at > now() - interval '2 days' GROUP BY t.text";
    same(&shop, &mut session, counts);
    shop.assert_no_violations().unwrap();
}

#[test]
fn comments_of_a_post_that_is_found_by_its_text() {
    let (shop, mut session) = open();
    let words = session
        .one("SELECT message FROM copy.posts p JOIN copy.conversations c ON c.post_id = p.id LIMIT 1")
        .unwrap();
    let (rows, log) = same(
        &shop,
        &mut session,
        &format!(
            "SELECT p.id, c.id FROM shop.posts p JOIN shop.conversations c ON c.post_id = p.id WHERE p.message = {} AND c.type = 'COMMENT'",
            literal(&words)
        ),
    );
    assert!(rows > 0 && of(&log, Endpoint::Posts) >= 1);
    let count = "SELECT p.type, count(*) FROM shop.posts p JOIN shop.conversations c ON c.post_id = p.id GROUP BY p.type";
    same(&shop, &mut session, count);
    shop.assert_no_violations().unwrap();
}

#[test]
fn customers_conversations_and_a_crm() {
    let (shop, mut session) = open();
    for query in [
        "SELECT p.phone, k.id FROM crm p JOIN shop.customers k ON p.phone = ANY (k.phone_numbers)",
        "SELECT p.level, k.name FROM crm p JOIN shop.customers k USING (customer_id) WHERE k.updated_at > now() - interval '20 days'",
        "SELECT p.level, c.id FROM crm p JOIN shop.conversations c ON p.phone = ANY (c.phone_numbers)",
        "SELECT p.level, c.id FROM crm p JOIN shop.conversations c USING (customer_id)",
        "SELECT k.id, c.id FROM shop.customers k JOIN shop.conversations c ON c.id = k.conversation_id",
        "SELECT k.id, c.id FROM shop.customers k JOIN shop.conversations c ON c.customer_id = k.customer_id AND c.type = 'INBOX'",
        "SELECT k.id FROM shop.customers k WHERE NOT EXISTS (SELECT FROM shop.conversations c WHERE c.customer_id = k.customer_id AND c.type = 'COMMENT')",
    ] {
        let (rows, log) = same(&shop, &mut session, query);
        assert!(rows > 0, "{query}");
        // No table is read more than once; segments that are walked at once cost a few requests
        // more. Customers are read in windows of 27 days back to 2015, of which there are some 160.
        assert!(
            of(&log, Endpoint::Conversations) <= 900_usize.div_ceil(59) + 8
                && of(&log, Endpoint::Customers) <= 165 + 14,
            "{query}: {}",
            log.len()
        );
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn messages_of_chosen_conversations() {
    let (shop, mut session) = open();
    let recent = session
        .one("SELECT count(*) FROM copy.conversations WHERE updated_at > now() - interval '1 day'")
        .unwrap();
    let recent: usize = recent.parse().unwrap();
    let last = "SELECT c.id, m.id, m.original_message FROM shop.conversations c,
                LATERAL (SELECT * FROM shop.messages WHERE conversation_id = c.id ORDER BY inserted_at DESC, id LIMIT 1) m
                WHERE c.updated_at > now() - interval '1 day'";
    let (rows, log) = same(&shop, &mut session, last);
    // Where there is one message, the next of the same time is looked for.
    let alone = "SELECT count(*) FROM copy.conversations WHERE updated_at > now() - interval '1 day' AND message_count = 1";
    let alone: usize = session.one(alone).unwrap().parse().unwrap();
    assert_eq!((rows, of(&log, Endpoint::Messages)), (recent, recent + alone));
    for query in [
        "SELECT c.id, m.id FROM shop.conversations c JOIN shop.messages m ON m.conversation_id = c.id
         WHERE c.updated_at > now() - interval '1 day' AND m.inserted_at > now() - interval '1 day'",
        "SELECT id FROM shop.messages WHERE inserted_at > now() - interval '1 day'
         AND conversation_id = ANY (ARRAY(SELECT id FROM shop.conversations WHERE updated_at > now() - interval '1 day'))",
        "SELECT u.name, m.id FROM shop.conversations c JOIN shop.messages m ON m.conversation_id = c.id JOIN shop.users u ON u.id = m.from_staff_id
         WHERE c.updated_at > now() - interval '1 day'",
        "SELECT m.id, k.name FROM shop.customers k JOIN shop.messages m ON m.conversation_id = k.conversation_id
         WHERE k.updated_at > now() - interval '12 hours'",
    ] {
        let (rows, _) = same(&shop, &mut session, query);
        assert!(rows > 0, "{query}");
    }
    shop.assert_no_violations().unwrap();
}

#[test]
fn who_of_the_staff_answered() {
    let (shop, mut session) = open();
    for query in [
        "SELECT u.name, count(*) FROM shop.conversations c JOIN shop.users u ON u.id = c.last_staff_id GROUP BY u.name",
        "SELECT u.name, c.id FROM shop.conversations c JOIN shop.users u ON u.id = ANY (c.assignee_ids)",
        "SELECT u.id FROM shop.users u WHERE NOT EXISTS (SELECT FROM shop.conversations c WHERE c.last_staff_id = u.id)",
    ] {
        let (rows, log) = same(&shop, &mut session, query);
        assert!(rows > 0 && of(&log, Endpoint::Users) == 1, "{query}");
    }
    shop.assert_no_violations().unwrap();
}

/// From the list of the pages: schemas and partitions of one server, and a server for each.
#[test]
fn twenty_pages_are_made_by_sql() {
    let cluster = Cluster::start().unwrap();
    let page = |ordinal| PageSettings { conversations: 70 + ordinal, ..PageSettings::numbered(ordinal) };
    let shop = Shop::open_in(
        &cluster,
        Settings { pages: (0..20).map(page).collect(), ..Settings::default() }.as_seen(),
        &[],
    )
    .unwrap();
    let tokens = cluster.socket_dir().join("twenty.tokens");
    fs::write(&tokens, shop.simulator.token_file()).unwrap();
    let database = cluster.database("twenty").unwrap();
    let options = format!("base_url {}, requests_per_second '1000'", literal(&shop.simulator.base_url()));
    let (tokens, user) = (literal(tokens.to_str().unwrap()), literal(shop.simulator.user_token()));
    let output = database
        .psql(&format!(
            r"CREATE SERVER pancake FOREIGN DATA WRAPPER pancake_fdw OPTIONS ({options});
            CREATE USER MAPPING FOR CURRENT_USER SERVER pancake OPTIONS (page_access_token_file {tokens}, access_token {user});
            CREATE SCHEMA my;
            IMPORT FOREIGN SCHEMA pancake LIMIT TO (pages) FROM SERVER pancake INTO my;
            SELECT format('CREATE SCHEMA %I', 'page_' || id) FROM my.pages \gexec
            SELECT format('IMPORT FOREIGN SCHEMA pancake EXCEPT (pages) FROM SERVER pancake INTO %I OPTIONS (page_id %L)', 'page_' || id, id) FROM my.pages \gexec
            SELECT format('CREATE TABLE my.%1$s (LIKE %2$I.%1$s) PARTITION BY LIST (page_id)', t, 'page_' || id)
            FROM (SELECT min(id) AS id FROM my.pages) p, unnest('{{conversations,messages,customers,users,tags,posts}}'::text[]) t \gexec
            SELECT format('ALTER TABLE my.%1$s ATTACH PARTITION %2$I.%1$s FOR VALUES IN (%3$L)', t, 'page_' || id, id)
            FROM my.pages, unnest('{{conversations,messages,customers,users,tags,posts}}'::text[]) t \gexec
            SELECT format('CREATE SERVER %I FOREIGN DATA WRAPPER pancake_fdw OPTIONS (page_id %L, base_url %L, requests_per_second ''1000'')', 'srv_' || id, id, {base_url}) FROM my.pages \gexec
            SELECT format('CREATE USER MAPPING FOR CURRENT_USER SERVER %I OPTIONS (page_access_token_file %L)', 'srv_' || id, {tokens}) FROM my.pages \gexec
            SELECT format('CREATE SCHEMA %I', 'own_' || id) FROM my.pages \gexec
            SELECT format('IMPORT FOREIGN SCHEMA pancake FROM SERVER %I INTO %I', 'srv_' || id, 'own_' || id) FROM my.pages \gexec
            SELECT 'CREATE VIEW my.everything AS ' || string_agg(format('SELECT * FROM %I.conversations', 'own_' || id), ' UNION ALL ') FROM my.pages \gexec
            ",
            base_url = literal(&shop.simulator.base_url()),
        ))
        .unwrap();
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    let mut session = database.connect().unwrap();
    let truth: usize = (0..20).map(|ordinal| 70 + ordinal).sum();
    for table in ["my.conversations", "my.everything"] {
        let sql = format!("SELECT count(*) || '/' || count(DISTINCT page_id) FROM {table}");
        assert_eq!(session.one(&sql).unwrap(), format!("{truth}/20"));
    }
    // One page's condition asks one page.
    for page_id in shop.simulator.page_ids().iter().take(3) {
        let (count, log) = shop.watch(|| {
            session
                .one(&format!("SELECT count(*) FROM my.conversations WHERE page_id = '{page_id}'"))
                .unwrap()
        });
        assert_eq!(count, shop.simulator.page(page_id).len().to_string());
        assert!(log.iter().all(|entry| entry.page_id == *page_id));
    }
    assert_eq!(
        session.one("SELECT count(*) || '/' || count(DISTINCT page_id) FROM my.users").unwrap(),
        "120/20"
    );
    // Messages of all pages, joined partition by partition or not.
    let sql = "SELECT count(DISTINCT (c.page_id, c.id)) FROM my.conversations c JOIN my.messages m ON m.conversation_id = c.id AND m.page_id = c.page_id
               WHERE c.updated_at > now() - interval '1 day'";
    let recent = session
        .one("SELECT count(*) FROM my.conversations WHERE updated_at > now() - interval '1 day'")
        .unwrap();
    session.execute("SET enable_partitionwise_join = on").unwrap();
    assert_eq!(session.one(sql).unwrap(), recent);
    shop.assert_no_violations().unwrap();
}
