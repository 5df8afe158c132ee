//! Which plan the planner takes for several pages, and what EXPLAIN and the progress show of it.

use e2e::Session;

use super::{agree, open, requests_by_page};

#[test]
fn what_is_read_whole_is_read_together_and_sorted() {
    let (shop, mut session) = open(4, 300);
    for by in ["inserted_at DESC", "updated_at DESC", "inserted_at DESC, id", "customer_name", "inserted_at"]
    {
        let sql = format!("SELECT id FROM live ORDER BY {by}");
        let plan = session.explain(&sql).unwrap();
        assert!(plan.starts_with("Sort") && plan.matches("Async Foreign Scan").count() == 4, "{by}: {plan}");
        assert!(session.explain(&format!("{sql} LIMIT 20000")).unwrap().contains("Async"), "{by}");
    }
    let ours = session.column("SELECT id FROM live ORDER BY inserted_at DESC, id").unwrap();
    assert_eq!(ours, session.column("SELECT id FROM copy ORDER BY inserted_at DESC, id").unwrap());
    assert_eq!(shop.simulator.most_in_flight(), 4);
}

#[test]
fn the_newest_rows_of_all_pages_cost_a_request_each() {
    let (shop, mut session) = open(4, 300);
    for by in ["inserted_at DESC", "updated_at DESC"] {
        for of in [
            "live",
            "(SELECT * FROM shop.conversations UNION ALL SELECT * FROM shop2.conversations) both_of_them",
        ] {
            // Times, because rows of one time may come in any order.
            let sql = format!("SELECT {} FROM {of} ORDER BY {by} LIMIT 20", &by[..by.len() - 5]);
            let plan = session.explain(&sql).unwrap();
            assert!(
                plan.contains("Merge Append") && !plan.contains("Sort (") && !plan.contains("Async"),
                "{plan}"
            );
            shop.simulator.clear_log();
            let (times, log) = shop.watch(|| session.column(&sql).unwrap());
            assert_eq!(shop.simulator.most_in_flight(), if of == "live" { 4 } else { 2 }, "{plan}");
            assert!(requests_by_page(&log).values().all(|requests| *requests == 1), "{plan}");
            let copy = if of == "live" { "copy" } else { "copy WHERE page_id < '100000000000003'" };
            assert_eq!(times, session.column(&sql.replace(of, copy)).unwrap());
        }
    }
    shop.assert_no_violations().unwrap();
}

/// The first requests of a Merge Append leave together: no more of them than one after another, and
/// none that is not needed.
#[test]
fn what_is_merged_is_asked_together_and_no_more() {
    let (shop, mut session) = open(3, 200);
    let newest = "SELECT updated_at FROM live ORDER BY updated_at DESC";
    let asked = |session: &mut Session, sql: &str| {
        shop.simulator.clear_log();
        let rows = session.rows(sql).unwrap().len();
        let log = shop.simulator.log();
        (rows, requests_by_page(&log).into_values().collect::<Vec<_>>())
    };
    assert_eq!(asked(&mut session, &format!("{newest} LIMIT 0")), (0, vec![]));
    // The second batch of a page is requested as its rows are taken.
    session.execute(&format!("BEGIN; DECLARE newest CURSOR FOR {newest} LIMIT 60")).unwrap();
    assert_eq!(asked(&mut session, "FETCH 1 FROM newest"), (1, vec![1, 1, 1]));
    assert_eq!(shop.simulator.most_in_flight(), 3);
    assert_eq!(asked(&mut session, "FETCH ALL FROM newest"), (59, vec![]));
    session.execute("COMMIT").unwrap();
    // A page that is pruned at run time is not asked.
    session.execute("SET plan_cache_mode = force_generic_plan").unwrap();
    let of_one = "SELECT updated_at FROM live WHERE page_id = $1 ORDER BY updated_at DESC LIMIT 5";
    session.execute(&format!("PREPARE of_one(text) AS {of_one}")).unwrap();
    let page_id = &shop.simulator.page_ids()[1];
    assert_eq!(asked(&mut session, &format!("EXECUTE of_one('{page_id}')")), (5, vec![1]));
    // Again and again, with new values and with the same.
    session.execute("CREATE TABLE bounds AS SELECT unnest(ARRAY[1, 10, 30, 30]) AS days").unwrap();
    for of_days in ["WHERE updated_at > now() - days * interval '1 day'", "WHERE days > 1", ""] {
        let sql = format!(
            "SELECT days, updated_at FROM bounds, LATERAL
                 (SELECT updated_at FROM {{}} live {of_days} ORDER BY updated_at DESC LIMIT 7) newest"
        );
        assert!(session.explain(&sql.replace("{}", "live")).unwrap().contains("Merge Append"), "{sql}");
        agree(&mut session, &sql);
    }
    // Nor is one that a condition of its own switches off.
    let switched = "SELECT updated_at FROM (
        SELECT * FROM shop.conversations WHERE current_setting('shop.is_on', true) = 'yes'
        UNION ALL SELECT * FROM shop2.conversations) both_of_them ORDER BY updated_at DESC LIMIT 5";
    let plan = session.explain(switched).unwrap();
    assert!(plan.contains("Merge Append") && plan.contains("One-Time Filter"), "{plan}");
    assert_eq!(asked(&mut session, switched), (5, vec![1]));
    // One of them is refused.
    shop.simulator.page(page_id).set_token("renewed");
    assert_eq!(session.error(&format!("{newest} LIMIT 20")).unwrap().sqlstate, "28000");
    shop.assert_no_violations().unwrap();
}

#[test]
fn explain_analyze_counts_each_page() {
    let (shop, mut session) = open(3, 200);
    let plan = session.explain("SELECT id FROM live").unwrap();
    assert_eq!(plan.matches("->  Async Foreign Scan on conversations").count(), 3, "{plan}");
    let sql = "SELECT id FROM live WHERE NOT seen";
    let json = session.one(&format!("EXPLAIN (ANALYZE, FORMAT JSON) {sql}")).unwrap();
    let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
    let append = &plan[0]["Plan"];
    let number = |node: &serde_json::Value, name: &str| node[name].as_f64().unwrap();
    assert_eq!(append["Node Type"], "Append");
    let arms = append["Plans"].as_array().unwrap();
    for (arm, page_id) in arms.iter().zip(shop.simulator.page_ids()) {
        let unseen =
            session.one(&format!("SELECT count(*) FROM copy WHERE NOT seen AND page_id = '{page_id}'"));
        let unseen: f64 = unseen.unwrap().parse().unwrap();
        assert_eq!(arm["Async Capable"], true);
        assert_eq!((number(arm, "Actual Rows"), number(arm, "Actual Loops")), (unseen, 1.0), "{arm}");
        assert_eq!(number(arm, "Rows Removed by Filter"), 200.0 - unseen, "{arm}");
        assert_eq!(number(arm, "Pancake Rows"), 200.0, "{arm}");
        // What a page's rows take in the backend; waiting is the Append's.
        assert!(number(arm, "Actual Total Time") < 0.5 * number(append, "Actual Total Time"), "{arm}");
    }
    let analyzed = session.explain_analyze("SELECT id FROM live LIMIT 5").unwrap();
    assert!(analyzed.contains("Pancake Stopped: no more rows were wanted"), "{analyzed}");
    assert!(analyzed.contains("Async Foreign Scan on conversations live_1 (actual rows="), "{analyzed}");
}

#[test]
fn progress_goes_on_while_an_append_waits() {
    let (shop, mut session) = open(3, 200);
    shop.simulator.switches(|switches| switches.latency = std::time::Duration::from_millis(700));
    session.execute("SET pancake_fdw.progress_interval = '100ms'").unwrap();
    session.notices();
    let pid = session.pid().unwrap();
    let mut watcher = shop.connect().unwrap();
    let running = std::thread::spawn(move || {
        session.execute("SELECT id FROM live").unwrap();
        session.notices()
    });
    let waiting = format!(
        "SELECT count(DISTINCT page_id) FROM pancake.progress WHERE pid = {pid} AND waiting_for = 'reply'"
    );
    crate::cancel::until("three pages wait", || watcher.one(&waiting).unwrap() == "3");
    let notices = running.join().unwrap();
    for page_id in shop.simulator.page_ids() {
        let of_page: Vec<_> = notices.iter().filter(|notice| notice.message.contains(&page_id)).collect();
        assert!(of_page.len() > 3, "{page_id}: {notices:?}");
        assert!(of_page[0].message.contains("waiting for"), "{notices:?}");
    }
}
