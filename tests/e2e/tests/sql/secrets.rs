//! A token is never shown: not in errors, notices, plans, views or rows, and not in the log at its
//! most talkative. And whose token it is: that of the role the scan runs as.

use std::sync::OnceLock;

use e2e::{Cluster, Session, Shop, SqlError};
use pancake_simulator::{AuthForm, Fault, PageSettings, RateForm, Settings, Times};
use serde_json::json;

const MARKER: &str = "MARKER-7f3a91-TOKEN";
const NEXT: &str = "MARKER-7f3a91-NEXT";
/// Part of every token here.
const TELLTALE: &str = "MARKER-7f3a91";
const COUNT: &str = "SELECT count(*) FROM shop.conversations";

/// A cluster that logs and sends all that it can.
fn talkative() -> &'static Cluster {
    static TALKATIVE: OnceLock<Cluster> = OnceLock::new();
    TALKATIVE.get_or_init(|| {
        let settings = [
            ("log_min_messages", "debug5"),
            ("client_min_messages", "debug5"),
            ("log_min_error_statement", "debug5"),
            ("log_error_verbosity", "verbose"),
            ("log_statement", "none"),
            ("pancake_fdw.progress_interval", "1ms"),
        ];
        Cluster::start_with(&settings).unwrap()
    })
}

fn marked(conversations: usize) -> Settings {
    let page = PageSettings { conversations, ..PageSettings::new("1001", MARKER) };
    Settings { pages: vec![page], ..Settings::default() }
}

/// Everything that a session received.
#[derive(Default)]
struct Heard(Vec<String>);

impl Heard {
    /// Runs a statement to whatever end it has.
    fn run(&mut self, session: &mut Session, sql: &str) {
        match session.rows(sql) {
            Ok(rows) => self.0.push(format!("{rows:?}")),
            Err(error) => {
                self.0.push(SqlError::of(&error).map_or(format!("{error:?}"), |e| format!("{e} {e:?}")))
            }
        }
        self.0.extend(session.notices().iter().map(|notice| format!("{notice} {notice:?}")));
    }

    fn check(&self, texts: usize) {
        assert!(self.0.len() >= texts, "only {} texts were heard", self.0.len());
        for text in &self.0 {
            assert!(!text.contains(TELLTALE), "{text}");
        }
    }
}

/// Lines of the log that hold a token, but for the statements that set one: Postgres logs those if
/// configured, and at debug5 with every message.
fn betrayed(log: &str) -> Vec<&str> {
    log.lines()
        .filter(|line| line.contains(TELLTALE))
        .filter(|line| !line.contains("USER MAPPING FOR"))
        .collect()
}

fn look_everywhere(heard: &mut Heard, session: &mut Session) {
    for sql in [
        "EXPLAIN (VERBOSE) SELECT * FROM shop.conversations",
        "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM shop.conversations",
        "EXPLAIN (ANALYZE, FORMAT json) SELECT id FROM shop.conversations WHERE type = 'INBOX' AND updated_at > '2020-01-01'",
        COUNT,
        "SELECT * FROM shop.conversations",
        "SELECT raw FROM shop.conversations LIMIT 1",
        "SELECT * FROM pancake.request_stats",
        "SELECT * FROM pancake.progress",
        "SELECT * FROM pancake.version()",
        "SELECT * FROM pancake.doctor('shop')",
    ] {
        heard.run(session, sql);
    }
}

#[test]
fn no_statement_however_it_ends_shows_a_token() {
    let options = [("max_retries", "0"), ("request_timeout", "200ms")];
    let shop = Shop::open_in(talkative(), marked(130), &options).unwrap();
    let mut session = shop.connect().unwrap();
    session.notices();
    let mut heard = Heard::default();
    session.execute("SET client_min_messages = debug5").unwrap();
    look_everywhere(&mut heard, &mut session);
    let at_debug = heard.0.len();
    assert!(at_debug > 50, "debug5 is on");

    // What Pancake itself may reply about the token.
    let echo = |code| Fault::SuccessFalse { code, message: format!("token {MARKER} is no good; {MARKER}") };
    let url = format!("https://elsewhere.example/?page_access_token={MARKER}");
    for fault in [
        echo(None),
        echo(Some(102)),
        echo(Some(105)),
        echo(Some(106)),
        echo(Some(429)),
        echo(Some(9999)),
        Fault::Redirect(url),
        Fault::Status(500),
        Fault::Html200,
        Fault::NotJson,
        Fault::Truncated,
        Fault::Dropped,
        Fault::DroppedBeforeHeaders,
        Fault::Hang,
        Fault::HangMidBody,
        Fault::WrongShape,
    ] {
        shop.simulator.fault(fault, Times::Always);
        heard.run(&mut session, COUNT);
        heard.run(&mut session, "SELECT last_error, last_sqlstate FROM pancake.request_stats");
        shop.simulator.clear_faults();
    }
    let page = shop.simulator.first_page();
    shop.simulator.switches(|switches| switches.auth = AuthForm::Http401);
    page.set_token(NEXT);
    heard.run(&mut session, COUNT);
    session
        .execute(&format!(
            "ALTER USER MAPPING FOR postgres SERVER shop OPTIONS (SET page_access_token '{NEXT}')"
        ))
        .unwrap();
    // That one is Postgres's own text, and its notices.
    session.notices();
    look_everywhere(&mut heard, &mut session);

    // A port on which nothing listens; and a name that is none.
    for url in ["http://127.0.0.1:1/api", "https://nonexistent.invalid/api"] {
        session.execute(&format!("ALTER SERVER shop OPTIONS (SET base_url '{url}')")).unwrap();
        heard.run(&mut session, COUNT);
    }
    heard.check(at_debug + 60);

    let log = talkative().log().unwrap();
    assert!(log.contains("DEBUG:") && log.contains("token *** is no good"), "the log has it all");
    assert_eq!(betrayed(&log), Vec::<&str>::new());
}

#[test]
fn a_row_that_holds_the_token_does_not_give_it_away() {
    let shop = Shop::open_in(talkative(), marked(0), &[]).unwrap();
    let mut session = shop.connect().unwrap();
    session.notices();
    shop.simulator.first_page().insert_row(json!({
        "id": "1", "type": "INBOX", "inserted_at": "2026-03-30T02:11:05", "updated_at": "2026-03-30T02:11:05",
        "snippet": format!("see https://pages.fm/?page_access_token={MARKER}"), "tags": [MARKER],
        "settings": {"page_access_token": MARKER},
    }));
    let mut heard = Heard::default();
    look_everywhere(&mut heard, &mut session);
    heard.run(&mut session, "CREATE TABLE copy AS SELECT * FROM shop.conversations");
    heard.run(&mut session, "SELECT * FROM copy");
    heard.check(10);
    assert_eq!(session.one("SELECT tags FROM copy").unwrap(), "{***}");
}

#[test]
fn a_token_with_signs_in_it_is_hidden_in_every_spelling() {
    // As a URL and as a JSON string may spell it.
    let token = "MARKER-7f3a91/é+=\"\\";
    for echo in [token.to_owned(), "MARKER-7f3a91%2F%C3%A9%2B%3D%22%5C".to_owned()] {
        let page = PageSettings { conversations: 0, ..PageSettings::new("1001", token) };
        let settings = Settings { pages: vec![page], ..Settings::default() };
        let shop = Shop::open_in(talkative(), settings, &[("max_retries", "0")]).unwrap();
        let mut session = shop.connect().unwrap();
        assert_eq!(session.one(COUNT).unwrap(), "0");
        session.notices();
        let mut heard = Heard::default();
        shop.simulator.fault(Fault::SuccessFalse { code: Some(102), message: echo }, Times::Always);
        heard.run(&mut session, COUNT);
        heard.check(1);
    }
}

#[test]
fn nothing_that_waits_or_is_throttled_tells_a_token() {
    let shop = Shop::open_in(talkative(), marked(200), &[]).unwrap();
    shop.simulator.switches(|switches| {
        (switches.rate, switches.rate_form) = (Some(20.0), RateForm::Body200);
        switches.retry_after = pancake_simulator::RetryAfter::Seconds(0);
    });
    let mut session = shop.connect().unwrap();
    session.notices();
    let mut heard = Heard::default();
    session.execute("SET statement_timeout = '2s'").unwrap();
    look_everywhere(&mut heard, &mut session);
    heard.check(9);
}

#[test]
fn a_bad_statement_about_a_token_is_not_made_worse() {
    const BLUNDER: &str = "BLUNDER-7f3a91";
    let shop = Shop::open_in(talkative(), marked(0), &[]).unwrap();
    let mut session = shop.connect().unwrap();
    for sql in [
        format!("CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (page_access_tokn '{BLUNDER}')"),
        format!("CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (page_access_token_file '{BLUNDER}')"),
        format!("ALTER SERVER shop OPTIONS (ADD page_access_token '{BLUNDER}')"),
        format!("ALTER FOREIGN TABLE shop.conversations OPTIONS (ADD page_access_token '{BLUNDER}')"),
        format!(
            "ALTER SERVER shop OPTIONS (SET base_url 'https://pages.fm/api?page_access_token={BLUNDER}')"
        ),
    ] {
        let error = session.error(&sql).unwrap();
        assert!(!format!("{error:?}").contains(BLUNDER), "{error}");
    }
    // Postgres logs the statements that failed; nothing else does.
    let log = talkative().log().unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(BLUNDER)).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("STATEMENT: ")), "{lines:#?}");
}

#[test]
fn a_view_reads_with_its_owners_token() {
    let shop = Shop::open(marked(10)).unwrap();
    let mut session = shop.connect().unwrap();
    let name = |name: &str| format!("{}_{name}", shop.database.name());
    let (owner, reader) = (name("owner"), name("reader"));
    session
        .execute(&format!(
            "CREATE ROLE {owner} LOGIN; CREATE ROLE {reader} LOGIN;
             GRANT USAGE ON SCHEMA shop TO {owner}, {reader};
             GRANT SELECT ON shop.conversations TO {owner};
             CREATE USER MAPPING FOR {owner} SERVER shop OPTIONS (page_access_token '{MARKER}');
             CREATE VIEW board AS SELECT id, snippet FROM shop.conversations;
             CREATE VIEW asking WITH (security_invoker) AS SELECT id FROM shop.conversations;
             CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) FROM shop.conversations';
             ALTER VIEW board OWNER TO {owner}; ALTER FUNCTION counted OWNER TO {owner};
             GRANT SELECT ON board, asking TO {reader};
             DROP USER MAPPING FOR postgres SERVER shop"
        ))
        .unwrap();
    let mut theirs = shop.database.connect_as(&reader).unwrap();
    assert_eq!(theirs.one("SELECT count(*) FROM board").unwrap(), "10");
    assert_eq!(theirs.one("SELECT counted()").unwrap(), "10");
    assert_eq!(theirs.one("SELECT count(*) FROM board a JOIN board b USING (id)").unwrap(), "10");
    for table in ["shop.conversations", "asking"] {
        let error = theirs.error(&format!("SELECT count(*) FROM {table}")).unwrap();
        assert_eq!(error.sqlstate, "42501", "{table}: {error}");
    }
    // May read the table, and has no token: nothing is asked.
    session.execute(&format!("GRANT SELECT ON shop.conversations TO {reader}")).unwrap();
    let (error, log) = shop.watch(|| theirs.error(COUNT).unwrap());
    assert_eq!(error.sqlstate, "28000");
    assert_eq!(error.message, format!("no user mapping for \"{reader}\" on server \"shop\""));
    assert!(log.is_empty());
    assert_eq!(theirs.error("SELECT * FROM asking").unwrap().sqlstate, "28000");

    // The mapping shows no token to those who are not meant.
    let options = "SELECT umoptions FROM pg_user_mappings WHERE srvname = 'shop'";
    assert!(theirs.column(options).unwrap().iter().all(|shown| shown == "∅"));
    // A superuser without mapping has no token either, but the view goes on.
    assert_eq!(session.error(COUNT).unwrap().sqlstate, "28000");
    assert_eq!(session.one("SELECT count(*) FROM board").unwrap(), "10");
    session.execute(&format!("DROP USER MAPPING FOR {owner} SERVER shop")).unwrap();
    let error = theirs.error("SELECT count(*) FROM board").unwrap();
    assert_eq!(error.message, format!("no user mapping for \"{owner}\" on server \"shop\""));
}

#[test]
fn a_materialized_view_is_refreshed_with_its_owners_token_and_read_without() {
    let shop = Shop::open(marked(10)).unwrap();
    let mut session = shop.connect().unwrap();
    let reader = format!("{}_reader", shop.database.name());
    session
        .execute(&format!(
            "CREATE ROLE {reader} LOGIN; CREATE MATERIALIZED VIEW board AS SELECT id FROM shop.conversations;
             CREATE UNIQUE INDEX ON board (id); GRANT SELECT ON board TO {reader}"
        ))
        .unwrap();
    let page = shop.simulator.first_page();
    page.create("INBOX");
    session.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY board").unwrap();
    let mut theirs = shop.database.connect_as(&reader).unwrap();
    let (count, log) = shop.watch(|| theirs.one("SELECT count(*) FROM board").unwrap());
    assert_eq!((count.as_str(), log.len()), ("11", 0));
    shop.assert_no_violations().unwrap();
}
