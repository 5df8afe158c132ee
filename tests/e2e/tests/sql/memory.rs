//! A lack of memory is an error of its statement: the backend lives, and so do all other sessions.

use e2e::{Cluster, Mode, Session, Shop, SqlError};
use pancake_simulator::{Fault, Settings, Times};

/// As after `ulimit -v 500000` in the shell that starts the postmaster.
fn small_cluster() -> Cluster {
    let cluster = Cluster::start_with(&[("shared_buffers", "32MB")]).unwrap();
    cluster.stop(Mode::Fast).unwrap();
    cluster.launch_with_memory(500_000).unwrap();
    cluster
}

fn out_of_memory(session: &mut Session, sql: &str) {
    let error = session.error(sql).unwrap();
    assert_eq!(error.sqlstate, "53200", "{sql}: {error}");
    assert_eq!(session.one("SELECT 1").unwrap(), "1", "the session lives");
}

#[test]
fn a_reply_that_does_not_fit_is_an_error_of_its_statement() {
    let cluster = small_cluster();
    let mut settings = Settings::of(60);
    settings.pages[0].row_bytes = Some(4 << 20);
    settings.switches.gzip = false;
    let options = [("max_response_bytes", "1GB"), ("max_retries", "0")];
    let shop = Shop::open_in(&cluster, settings.as_seen(), &options).unwrap();
    let mut other = shop.connect().unwrap();
    other.execute("CREATE TEMP TABLE alive AS SELECT pg_postmaster_start_time() AS since").unwrap();

    // 60 rows of 4 MB.
    let mut session = shop.connect().unwrap();
    out_of_memory(&mut session, "SELECT raw FROM shop.conversations");
    out_of_memory(&mut session, "CREATE TABLE copy AS SELECT * FROM shop.conversations");
    out_of_memory(&mut session, "ANALYZE shop.conversations");
    shop.simulator.fault(Fault::Bomb(600 << 20), Times::Next(1));
    out_of_memory(&mut session, "SELECT id FROM shop.conversations");
    // Small in JSON, large as rows.
    let rows = r#"{"id":1},"#.repeat(8 << 20);
    let tiny = format!(r#"{{"tags":[{rows}{{"id":1}}]}}"#);
    shop.simulator.fault(Fault::json(&tiny), Times::Next(1));
    out_of_memory(&mut session, "SELECT id FROM shop.tags");
    let long = format!(r#"{{"tags":[{{"id":1,"text":[{}1]}}]}}"#, "1,".repeat(20 << 20));
    shop.simulator.fault(Fault::json(&long), Times::Next(1));
    session
        .execute("CREATE FOREIGN TABLE long (id text, text text[]) SERVER shop OPTIONS (object 'tags')")
        .unwrap();
    out_of_memory(&mut session, "SELECT * FROM long");

    // A copy of each row in each of two hundred columns; in one large row, and in sixty smaller
    // ones.
    let columns: Vec<_> = (0..200).map(|n| format!("c{n} text OPTIONS (path '/snippet')")).collect();
    let table = format!(
        "CREATE FOREIGN TABLE wide ({}) SERVER shop OPTIONS (object 'conversations')",
        columns.join(",")
    );
    session.execute(&table).unwrap();
    for (rows, size) in [(1, 4 << 20), (60, 60_000)] {
        let row = |n| {
            format!(r#"{{"id":"{n}","inserted_at":"2026-03-30T02:11:05","snippet":"{}"}}"#, "x".repeat(size))
        };
        let rows: Vec<_> = (0..rows).map(row).collect();
        let body = format!(r#"{{"conversations":[{}]}}"#, rows.join(","));
        shop.simulator.fault(Fault::json(&body), Times::Next(1));
        out_of_memory(&mut session, "SELECT * FROM wide");
    }
    let alter = format!(
        "ALTER USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (ADD access_token '{}')",
        shop.simulator.user_token()
    );
    session.execute(&alter).unwrap();
    let pages = format!(r#"{{"pages":[{{"id":"1","k":[{}1]}}]}}"#, "1,".repeat(15_000_000));
    shop.simulator.fault(Fault::json(&pages), Times::Next(1));
    out_of_memory(&mut session, "SELECT id FROM shop.pages");

    // What fits is read, in the same session.
    shop.simulator.clear_faults();
    shop.simulator.first_page().replace_rows(Vec::new());
    assert_eq!(session.one("SELECT count(*) FROM shop.conversations").unwrap(), "0");
    assert_eq!(other.one("SELECT since = pg_postmaster_start_time() FROM alive").unwrap(), "t");
    assert!(!cluster.log().unwrap().contains("was terminated by signal"));
}

/// However much of its memory a statement has used up already, it ends with its answer or with an
/// error.
#[test]
fn a_statement_that_runs_out_of_memory_anywhere_ends_with_an_error() {
    let cluster = small_cluster();
    let shop = Shop::open_in(&cluster, Settings::of(300).as_seen(), &[("max_retries", "0")]).unwrap();
    let mut session = shop.connect().unwrap();
    let pid = session.pid().unwrap();
    let (mut whole, mut failed) = (0, 0);
    for megabytes in (0..440).step_by(11) {
        let sql = format!(
            "SELECT count(c.raw) FROM (SELECT repeat('x', {megabytes} << 20) AS t OFFSET 0) x, shop.conversations c
             WHERE length(x.t) >= 0"
        );
        match session.one(&sql) {
            Ok(count) => {
                assert_eq!(count, "300");
                whole += 1;
            }
            Err(error) => {
                let error = SqlError::of(&error).unwrap_or_else(|| panic!("{megabytes} MB: {error:#}"));
                assert_eq!(error.sqlstate, "53200", "{megabytes} MB: {error}");
                failed += 1;
            }
        }
    }
    assert!(whole > 0 && failed > 0, "{whole} {failed}");
    assert_eq!(session.pid().unwrap(), pid);
    assert!(!cluster.log().unwrap().contains("was terminated by signal"));
}
