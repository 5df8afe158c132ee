//! Whether the views and functions of the schema `pancake` show what happens, and to which roles.

use std::thread;
use std::time::{Duration, Instant};

use e2e::{Session, Shop};
use pancake_simulator::{Fault, Settings, Times};

/// Counters are cluster-wide, and so are roles: these tests want a cluster of their own.
fn open(rows: usize) -> (e2e::Cluster, Settings) {
    (e2e::Cluster::start().unwrap(), Settings::of(rows))
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
    }
}

#[test]
fn version_tells_what_is_installed() {
    let shop = Shop::open(Settings::of(0).as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    let row =
        session.rows("SELECT extension, library, postgres, pgrx FROM pancake.version()").unwrap().remove(0);
    let installed = session.one("SELECT extversion FROM pg_extension WHERE extname = 'pancake_fdw'").unwrap();
    assert_eq!(row[0].as_deref(), Some(installed.as_str()));
    assert_eq!(row[2], Some(session.one("SHOW server_version").unwrap()));
    for part in [&row[1], &row[3]] {
        assert!(part.as_deref().unwrap().starts_with(|c: char| c.is_ascii_digit()), "{row:?}");
    }
}

#[test]
fn request_stats_count_what_the_page_saw() {
    let (cluster, settings) = open(200);
    let shop = Shop::open_in(&cluster, settings.as_seen(), &[]).unwrap();
    let mut session = shop.connect().unwrap();
    let stats = |session: &mut Session, columns: &str| {
        session
            .rows(&format!("SELECT {columns} FROM pancake.request_stats WHERE page_id = '100000000000001'"))
            .unwrap()
    };
    session.rows("SELECT * FROM shop.conversations").unwrap();
    shop.connect().unwrap().rows("SELECT * FROM shop.conversations WHERE type = 'INBOX' LIMIT 3").unwrap();
    let log = shop.simulator.log();
    let counted = stats(
        &mut session,
        "requests, errors, throttled, retries, bytes > 100000, rows >= 200, rate > 0, last_error, last_request_at BETWEEN now() - interval '1 minute' AND clock_timestamp(), since <= last_request_at",
    );
    let text = |cell: &str| Some(cell.to_owned());
    let requests = log.len().to_string();
    assert_eq!(
        counted,
        [[&requests, "0", "0", "0", "t", "t", "t"]
            .map(text)
            .into_iter()
            .chain([None, text("t"), text("t")])
            .collect::<Vec<_>>()]
    );
    // Failures too.
    shop.simulator.fault(Fault::Status(404), Times::Always);
    let error = session.error("SELECT * FROM shop.conversations").unwrap();
    shop.simulator.clear_faults();
    let told = stats(&mut session, "errors, last_sqlstate, last_error, last_error_at IS NOT NULL").remove(0);
    assert_eq!(told, [text("1"), Some(error.sqlstate), Some(error.message), text("t")]);
    session.execute("SELECT pancake.request_stats_reset()").unwrap();
    assert_eq!(
        stats(&mut session, "requests, rows, bytes, errors, last_error").remove(0),
        [text("0"), text("0"), text("0"), text("0"), None]
    );
    session.rows("SELECT * FROM shop.conversations LIMIT 1").unwrap();
    assert_eq!(stats(&mut session, "requests").remove(0), [text("1")]);
    // Roles that may use the server, or a table that names the page, see it, others nothing; only
    // monitors reset.
    session
        .execute(&format!(
            "CREATE ROLE stranger LOGIN; CREATE ROLE clerk LOGIN; CREATE ROLE seller LOGIN; CREATE ROLE watcher LOGIN;
             GRANT pg_monitor TO watcher; GRANT USAGE ON FOREIGN SERVER shop TO clerk;
             ALTER FOREIGN TABLE shop.tags OPTIONS (ADD page_id '100000000000001'); GRANT SELECT ON shop.tags TO seller;
             {}",
            wrappers("pancake.request_stats")
        ))
        .unwrap();
    for (role, sees) in [("stranger", "0"), ("clerk", "1"), ("seller", "1"), ("watcher", "1")] {
        let mut session = shop.database.connect_as(role).unwrap();
        assert_eq!(session.one("SELECT count(*) FROM pancake.request_stats").unwrap(), sees, "{role}");
        let rows = "SELECT count(*) FROM pancake_internal.request_stats_rows()";
        assert_eq!(session.one(rows).unwrap(), sees, "{role}");
        assert_eq!(session.one("SELECT public.of_all()").unwrap(), "1", "{role}");
        let reset = session.rows("SELECT pancake.request_stats_reset()");
        assert_eq!(reset.is_ok(), role == "watcher", "{role}");
    }
    assert_eq!(session.one("SELECT public.of_the_stranger()").unwrap(), "0");
    // Also as a role that was taken on for the moment, and under operators of its own.
    session
        .execute(
            "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO stranger, clerk;
             CREATE FUNCTION evil.strike(name, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'struck'; END $$;
             CREATE FUNCTION evil.strike(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'struck'; END $$;
             CREATE FUNCTION evil.strike(oid, oid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'struck'; END $$;
             CREATE OPERATOR evil.= (FUNCTION = evil.strike, LEFTARG = text, RIGHTARG = text);
             CREATE OPERATOR evil.= (FUNCTION = evil.strike, LEFTARG = name, RIGHTARG = text);
             CREATE OPERATOR evil.= (FUNCTION = evil.strike, LEFTARG = oid, RIGHTARG = oid);
             CREATE FUNCTION evil.has_server_privilege(oid, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             CREATE FUNCTION evil.has_table_privilege(oid, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        )
        .unwrap();
    let mut session = shop.connect().unwrap();
    for (role, sees) in [("stranger", "0"), ("clerk", "1")] {
        session.execute(&format!("SET ROLE {role}; SET search_path = evil, pg_catalog")).unwrap();
        assert_eq!(session.one("SELECT count(*) FROM pancake.request_stats").unwrap(), sees, "{role}");
    }
}

/// A SECURITY DEFINER function of an administrator that counts the lines of a view, and one of a
/// role without rights.
fn wrappers(view: &str) -> String {
    let create = |name: &str| {
        format!(
            "CREATE FUNCTION public.{name}() RETURNS bigint LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) FROM {view}'"
        )
    };
    format!(
        "{}; {}; ALTER FUNCTION public.of_the_stranger() OWNER TO stranger",
        create("of_all"),
        create("of_the_stranger")
    )
}

#[test]
fn progress_shows_what_runs_to_those_who_may_see_it() {
    let (cluster, settings) = open(300);
    let shop = Shop::open_in(&cluster, settings.as_seen(), &[]).unwrap();
    let mut session = shop.connect().unwrap();
    let token = shop.simulator.first_page().token();
    session
        .execute(&format!(
            "CREATE ROLE stranger LOGIN; CREATE ROLE clerk LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher;
             GRANT USAGE ON SCHEMA shop TO clerk; GRANT SELECT ON shop.conversations TO clerk;
             CREATE USER MAPPING FOR clerk SERVER shop OPTIONS (page_access_token '{token}');
             CREATE ROLE superior LOGIN; GRANT clerk TO superior; {}",
            wrappers("pancake.progress")
        ))
        .unwrap();
    let sql = "SELECT page_id, object, requests >= 2, rows >= 100, oldest_row < now(), started_at <= clock_timestamp(), waiting_for IS NOT NULL FROM pancake.progress";
    let mut clerk = shop.database.connect_as("clerk").unwrap();
    let pid = clerk.pid().unwrap().to_string();
    clerk.execute("BEGIN; DECLARE c CURSOR FOR SELECT id FROM shop.conversations; FETCH 130 FROM c").unwrap();
    let text = |cell: &str| Some(cell.to_owned());
    let expected = [["100000000000001", "conversations", "t", "t", "t", "t", "t"].map(text).to_vec()];
    let roles =
        [("postgres", true), ("watcher", true), ("clerk", true), ("superior", true), ("stranger", false)];
    for (role, sees) in roles {
        let mut session = shop.database.connect_as(role).unwrap();
        let rows = session.rows(sql).unwrap();
        assert_eq!(rows, if sees { &expected[..] } else { &[] }, "{role}");
        if sees {
            assert_eq!(session.one("SELECT pid FROM pancake.progress").unwrap(), pid);
        }
        assert_eq!(session.one("SELECT public.of_all()").unwrap(), "1", "{role}");
    }
    assert_eq!(session.one("SELECT public.of_the_stranger()").unwrap(), "0");
    session.execute("SET ROLE stranger").unwrap();
    assert_eq!(session.rows(sql).unwrap().len(), 0);
    session.execute("RESET ROLE").unwrap();
    clerk.execute("CLOSE c").unwrap();
    assert_eq!(session.rows(sql).unwrap().len(), 0);
    clerk.execute("COMMIT").unwrap();
    // While it waits for the server, and after it was ended by force.
    shop.simulator.fault(Fault::Hang, Times::Always);
    let hanging = thread::spawn(move || clerk.error("SELECT * FROM shop.conversations"));
    until("a scan that hangs", || {
        session.rows("SELECT FROM pancake.progress WHERE waiting_for = 'reply'").unwrap().len() == 1
    });
    session.execute(&format!("SELECT pg_terminate_backend({pid}, 10000)")).unwrap();
    if let Ok(error) = hanging.join().unwrap() {
        assert_eq!(error.sqlstate, "57P01", "{error}");
    }
    until("its line goes", || session.rows(sql).unwrap().is_empty());
}

#[test]
fn notices_tell_how_far_a_statement_is() {
    let shop = Shop::open(Settings::of(400).as_seen()).unwrap();
    let mut session = shop.connect().unwrap();
    session.rows("SELECT * FROM shop.conversations").unwrap();
    assert!(session.notices().is_empty());
    shop.simulator.switches(|switches| switches.latency = Duration::from_millis(10));
    session.execute("SET pancake_fdw.progress_interval = '5ms'").unwrap();
    assert_eq!(session.one("SELECT count(*) FROM shop.conversations").unwrap(), "400");
    let notices = session.notices();
    assert!(notices.len() > 3, "{notices:?}");
    for notice in &notices {
        assert_eq!(notice.severity, "NOTICE");
        assert!(notice.message.contains(" request") && notice.message.contains(" rows, "), "{notice}");
        assert!(!notice.to_string().contains("SECRET"), "{notice}");
    }
    assert!(notices.last().unwrap().message.contains("back to 20"), "{notices:?}");
    session.execute("SET pancake_fdw.progress_interval = 0").unwrap();
    session.rows("SELECT * FROM shop.conversations").unwrap();
    assert!(session.notices().is_empty());
    shop.assert_no_violations().unwrap();
}
