//! Whether EXPLAIN shows what is sent, what is not and why, and with ANALYZE what it took: the
//! labels people alert on.

use std::collections::BTreeMap;

use e2e::Session;

use super::open;

/// The EXPLAIN of every row of the pushdown table, as plain text: questions with their answers
/// indented below. After a change that is meant, `PANCAKE_GOLDEN=write cargo test -p e2e --test sql
/// -- explain::` writes it anew.
const GOLDEN: &str = "tests/e2e/tests/sql/pushdown/explain.txt";

#[test]
fn explain_says_what_is_sent_what_not_and_what_it_will_cost() {
    let (shop, mut session) = open(0, &[("requests_per_second", "4")]);
    session.execute("SET TimeZone = 'UTC'").unwrap();
    let path = e2e::tree::repository().join(GOLDEN);
    let golden = std::fs::read_to_string(&path).unwrap();
    let mut said = String::new();
    for line in golden.lines().filter(|line| !line.starts_with(' ')) {
        said.extend([line, "\n"]);
        for answer in answer(&mut session, line) {
            said.extend(["    ", &answer, "\n"]);
        }
    }
    if std::env::var("PANCAKE_GOLDEN").is_ok_and(|wish| wish == "write") {
        std::fs::write(&path, &said).unwrap();
    }
    let first = said.lines().zip(golden.lines()).find(|(now, then)| now != then);
    assert!(said == golden, "{GOLDEN} says something else from here on: {first:#?}");
    assert_eq!(shop.simulator.log().len(), 1, "but for the copy there was no request");
}

/// What stands below a line of the golden file: nothing below a remark or a statement that prepares
/// the next ones, the plan below a query, and below a clause the lines of a scan by it.
fn answer(session: &mut Session, line: &str) -> Vec<String> {
    let plan = |session: &mut Session, sql: &str| {
        let plan = session.explain(sql).unwrap();
        plan.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    match line.split(' ').next().unwrap_or_default() {
        "" | "#" => vec![],
        "SET" | "RESET" | "PREPARE" | "CREATE" | "ALTER" => {
            session.execute(line).unwrap();
            vec![]
        }
        "SELECT" | "EXECUTE" | "DECLARE" => plan(session, line),
        _ => {
            let plan = plan(session, &format!("SELECT id FROM shop.conversations WHERE {line}"));
            if plan[0] != "Foreign Scan on conversations" {
                return plan;
            }
            let (filters, rest): (Vec<_>, Vec<_>) = plan[1..]
                .iter()
                .map(|line| line.trim_start().to_owned())
                .partition(|line| line.starts_with("Filter: "));
            assert_eq!(filters.len(), 1, "every clause is checked again: {line}");
            // Before ANALYZE the age of a date decides.
            let is_dated = line.contains("'20") || line.contains("current_date");
            let shown = |line: String| match line.replacen("Pancake ", "", 1) {
                line if is_dated && line.starts_with("Estimate: ") => {
                    line.replace(|c: char| c.is_ascii_digit(), "#")
                }
                line => line,
            };
            rest.into_iter().map(shown).collect()
        }
    }
}

#[test]
fn explain_needs_neither_network_nor_mapping() {
    let (shop, mut session) = open(0, &[]);
    session
        .execute(
            "CREATE SERVER dead FOREIGN DATA WRAPPER pancake_fdw OPTIONS (page_id '1', base_url 'http://127.0.0.1:1/api');
             CREATE SCHEMA dead; IMPORT FOREIGN SCHEMA pancake FROM SERVER dead INTO dead",
        )
        .unwrap();
    for options in ["COSTS", "VERBOSE", "SETTINGS", "FORMAT JSON", "FORMAT XML", "FORMAT YAML, VERBOSE"] {
        let plan = session
            .explain_with(options, "SELECT * FROM dead.conversations WHERE type = 'INBOX' AND NOT seen")
            .unwrap();
        assert!(plan.contains("Sent") && plan.contains("INBOX"), "{plan}");
    }
    drop(shop);
}

fn labels(plan: &str) -> BTreeMap<String, String> {
    let lines = plan.lines().filter_map(|line| line.trim().strip_prefix("Pancake ")?.split_once(": "));
    lines.map(|(label, value)| (label.to_owned(), value.to_owned())).collect()
}

#[test]
fn explain_analyze_says_what_it_took() {
    let (shop, mut session) = open(300, &[]);
    let mut took = |sql: &str| {
        let (plan, log) = shop.watch(|| session.explain_analyze(sql).unwrap());
        (labels(&plan), log.len(), log.iter().map(|entry| entry.rows).sum::<usize>())
    };
    let (all, requests, served) = took("SELECT * FROM shop.conversations");
    assert!(
        all["Requests"].starts_with(&format!("{requests} (0 retried, 0 throttled), 300 rows, ")),
        "{all:?}"
    );
    assert!(
        served > 300 && all["Requests"].contains(" repeats, ") && all["Requests"].ends_with('B'),
        "{all:?}"
    );
    assert!(
        all["Time"].starts_with("network ")
            && all["Time"].contains("rate limit ")
            && all["Time"].contains("retry waits "),
        "{all:?}"
    );
    assert!(
        all.contains_key("Stopped") && all.contains_key("Sent") && all.contains_key("Estimate"),
        "{all:?}"
    );

    let (window, requests, _) =
        took("SELECT * FROM shop.conversations WHERE updated_at > now() - interval '3 days'");
    assert_eq!(window["Stopped"], "passed the lower bound");
    assert!(window["Requests"].starts_with(&format!("{requests} (")), "{window:?}");

    let (few, requests, _) = took("SELECT * FROM shop.conversations LIMIT 5");
    assert_eq!(requests, 1);
    assert!(few["Requests"].starts_with("1 (0 retried, 0 throttled), "), "{few:?}");

    let (none, requests, _) = took("SELECT * FROM shop.conversations WHERE type = NULL::text OR false");
    assert_eq!(requests, 0);
    assert!(none.get("Requests").is_none_or(|line| line.starts_with("0 (")), "{none:?}");

    let (nothing, requests, _) =
        took("SELECT * FROM shop.conversations WHERE type = (SELECT NULL::text FROM one)");
    assert_eq!(
        (requests, nothing["Requests"].as_str()),
        (0, "0 (0 retried, 0 throttled), 0 rows, 0 repeats, 0 B")
    );

    let (never, requests, _) =
        took("SELECT CASE WHEN one = 2 THEN (SELECT count(*) FROM shop.conversations) END FROM one");
    assert_eq!((requests, never["Stopped"].as_str()), (0, "never started"));
    // Loops add up.
    let (loops, requests, _) = took(
        "SELECT (SELECT count(*) FROM shop.conversations c WHERE c.type = t.type) FROM (VALUES ('INBOX'), ('COMMENT')) t (type)",
    );
    assert!(loops["Requests"].starts_with(&format!("{requests} (")), "{loops:?}");
    shop.assert_no_violations().unwrap();
}

/// What a generic plan or a join hopes to send depends on values that only the run has: then
/// EXPLAIN ANALYZE shows it.
#[test]
fn explain_analyze_says_what_could_not_be_sent() {
    let (shop, mut session) = open(70, &[]);
    session
        .execute(
            "SET plan_cache_mode = force_generic_plan; SET enable_memoize = off;
             PREPARE p(text, text[], timestamptz, text[]) AS SELECT id FROM shop.conversations
                 WHERE type = $1 AND tags @> $2 AND updated_at > $3 AND post_id = ANY ($4);
             PREPARE r(text, timestamptz) AS SELECT id FROM shop.conversations WHERE id = $1 AND updated_at < $2;
             PREPARE q(text) AS SELECT id FROM shop.conversations WHERE type = $1",
        )
        .unwrap();
    let all = "post_ids=any of $4, tags=$2, order_by=updated_at";
    let posts: Vec<_> = (0..33).map(|post| post.to_string()).collect();
    for (sql, sent, not_sent) in [
        ("EXECUTE q('INBOX')", "type=$1, order_by=inserted_at", None),
        ("EXECUTE q('RATING')", "order_by=inserted_at", Some("type = $1 (only INBOX and COMMENT are sent)")),
        (
            "EXECUTE r('x', now())",
            "order_by=inserted_at",
            Some(
                "updated_at < $2 (the walk goes by inserted_at), id = $1 (stops the scan when all are found)",
            ),
        ),
        ("EXECUTE q(NULL)", "type=$1, order_by=inserted_at", None),
        (
            "EXECUTE p('INBOX', '{61}', '2026-01-02', '{p}')",
            all,
            Some("type = $1 (post_ids is sent instead)"),
        ),
        (
            &format!("EXECUTE p('RATING', '{{VIP}}', '-infinity', '{{{}}}')", posts.join(",")),
            "order_by=updated_at",
            Some(
                "tags @> $2 (no tag id), updated_at > $3 (no bound), type = $1 (only INBOX and COMMENT are sent), post_id = ANY ($4) (too many streams)",
            ),
        ),
        (
            "SELECT (SELECT count(*) FROM shop.conversations c WHERE c.type = t.type) FROM (VALUES ('INBOX'), ('RATING'), ('COMMENT')) t (type)",
            "type=$0, order_by=inserted_at",
            Some("c.type = $0 (only INBOX and COMMENT are sent: 1 of 3 times)"),
        ),
    ] {
        let (plan, log) = shop.watch(|| session.explain_analyze(sql).unwrap());
        let labels = labels(&plan);
        assert_eq!(labels["Sent"], sent, "{plan}");
        assert_eq!(labels.get("Not Sent").map(String::as_str), not_sent, "{plan}");
        for (name, parameter) in [("type=", "type"), ("tags=", "tags"), ("post_ids=", "post_ids")] {
            let is_sent = log.iter().any(|entry| entry.param(parameter).is_some());
            let proof = parameter == "type" && sent.contains("post_ids");
            assert!(is_sent == sent.contains(name) || log.is_empty() || proof, "{parameter}: {plan}");
        }
    }
    shop.assert_no_violations().unwrap();
}
