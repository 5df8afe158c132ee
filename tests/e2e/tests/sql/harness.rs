//! This module tests the harness: clusters start, stop and vanish, sessions return what the server
//! sent. Needs Postgres only; what the extension does is left to the other modules.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use e2e::{Cluster, Mode, SqlError, Tree};
use postgres::NoTls;

fn plain() -> &'static Cluster {
    static PLAIN: OnceLock<Cluster> = OnceLock::new();
    PLAIN.get_or_init(|| Cluster::in_tree(Tree::plain().unwrap(), &[]).unwrap())
}

#[test]
fn the_copied_postgres_knows_only_itself() {
    let tree = Tree::plain().unwrap();
    for option in ["--bindir", "--pkglibdir", "--sharedir"] {
        let path = tree.ask(option).unwrap();
        assert!(path.starts_with("/tmp"), "{option}: {}", path.display());
        assert!(path.is_dir(), "{option}: {}", path.display());
    }
    let database = plain().empty_database("itself").unwrap();
    let sql = "SELECT setting FROM pg_config() WHERE name = 'SHAREDIR'";
    let shown = database.connect().unwrap().one(sql).unwrap();
    assert_eq!(PathBuf::from(shown), tree.ask("--sharedir").unwrap());
}

#[test]
fn a_cluster_starts_restarts_and_vanishes() {
    let cluster = Cluster::in_tree(Tree::plain().unwrap(), &[("work_mem", "7MB")]).unwrap();
    let database = cluster.empty_database("life").unwrap();
    let home = cluster.data_dir().parent().unwrap().to_owned();

    let mut session = database.connect().unwrap();
    assert_eq!(session.one("SHOW work_mem").unwrap(), "7MB");
    session.execute("CREATE TABLE kept AS SELECT 1 AS x").unwrap();
    drop(session);
    cluster.restart().unwrap();
    assert_eq!(database.connect().unwrap().one("SELECT x FROM kept").unwrap(), "1");
    assert!(cluster.log().unwrap().contains("database system is ready"));

    cluster.stop(Mode::Immediate).unwrap();
    assert!(database.connect().is_err());
    cluster.launch().unwrap();
    assert_eq!(database.connect().unwrap().one("SELECT 2").unwrap(), "2");

    drop(cluster);
    assert!(!home.exists());
}

#[test]
fn the_server_inherits_nothing_of_our_environment() {
    let mut session = plain().empty_database("environment").unwrap().connect().unwrap();
    session.execute("CREATE TEMP TABLE env(line text); COPY env FROM PROGRAM 'env'").unwrap();
    let mut names = session.column("SELECT split_part(line, '=', 1) FROM env").unwrap();
    // The shell's and pg_ctl's own.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(&name.as_str()) && !name.starts_with("PG"));
    names.retain(|name| !name.starts_with("LC_"));
    names.sort();
    assert_eq!(names, ["LANG", "PATH"]);
}

#[test]
fn rows_are_text_and_null_is_none() {
    let mut session = plain().empty_database("rows").unwrap().connect().unwrap();
    let rows = session.rows("SELECT 1, NULL, ARRAY['a', 'b']; SELECT 2, true, ''").unwrap();
    let text = |cell: &str| Some(cell.to_owned());
    assert_eq!(rows, [vec![text("1"), None, text("{a,b}")], vec![text("2"), text("t"), text("")]]);
    assert_eq!(session.column("VALUES (1), (NULL)").unwrap(), ["1", "∅"]);
    assert!(session.one("VALUES (1), (2)").is_err());
    assert!(session.explain("SELECT 1").unwrap().starts_with("Result"));
}

#[test]
fn errors_and_notices_keep_their_fields() {
    let mut session = plain().empty_database("errors").unwrap().connect().unwrap();
    let raise = |level: &str, more: &str| {
        format!("DO $$BEGIN RAISE {level} 'told' USING {more}DETAIL = 'why', HINT = 'what to do'; END$$")
    };
    let error = session.error(&raise("EXCEPTION", "ERRCODE = '53400', ")).unwrap();
    assert_eq!(error.sqlstate, "53400");
    assert_eq!(error.message, "told");
    assert_eq!(error.detail.as_deref(), Some("why"));
    assert_eq!(error.hint.as_deref(), Some("what to do"));
    assert!(error.context.is_some());

    session.execute(&raise("NOTICE", "")).unwrap();
    let notices = session.notices();
    assert_eq!(notices.len(), 1);
    assert_eq!((notices[0].severity.as_str(), notices[0].message.as_str()), ("NOTICE", "told"));
    assert!(session.notices().is_empty());

    assert!(session.error("SELECT 1").is_err());
    let failed = session.execute("SELECT 1/0").unwrap_err();
    assert_eq!(SqlError::of(&failed).unwrap().sqlstate, "22012");
}

#[test]
fn a_running_statement_can_be_cancelled() {
    let database = plain().empty_database("cancel").unwrap();
    let mut session = database.connect().unwrap();
    let pid = session.pid().unwrap();
    let token = session.cancel_token();
    let begun = Instant::now();
    let sleeper = std::thread::spawn(move || session.error("SELECT pg_sleep(60)").unwrap());

    let mut watcher = database.connect().unwrap();
    let running =
        format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'");
    while watcher.one(&running).unwrap() == "0" {
        assert!(begun.elapsed() < Duration::from_secs(10), "it never began to sleep");
    }
    token.cancel_query(NoTls).unwrap();
    assert_eq!(sleeper.join().unwrap().sqlstate, "57014");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn psql_tells_its_output_and_its_status() {
    let database = plain().empty_database("psql").unwrap();
    let good = database.psql("\\echo before\nSELECT 40 + 2 AS answer;\n").unwrap();
    assert_eq!(good.status, 0, "{good:?}");
    assert!(good.stdout.starts_with("before") && good.stdout.contains("42"), "{good:?}");
    let bad = database.psql("SELECT 1/0;\n\\echo after\n").unwrap();
    assert_eq!(bad.status, 3, "{bad:?}");
    assert!(bad.stderr.contains("22012") && !bad.stdout.contains("after"), "{bad:?}");
}

#[test]
fn a_standby_follows() {
    let primary = Cluster::in_tree(Tree::plain().unwrap(), &[]).unwrap();
    let standby = primary.standby(&[]).unwrap();
    assert_eq!(primary.connect("postgres").unwrap().one("SELECT pg_is_in_recovery()").unwrap(), "f");
    assert_eq!(standby.connect("postgres").unwrap().one("SELECT pg_is_in_recovery()").unwrap(), "t");
}
