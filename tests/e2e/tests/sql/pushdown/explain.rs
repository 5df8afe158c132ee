//! Whether EXPLAIN says what is sent, what is not and why, and with ANALYZE what it took: the labels people alert on.

use std::collections::BTreeMap;

use e2e::Session;

use super::open;

/// The plan with the estimate's figures, which may change with the cost model, blotted out.
fn golden(session: &mut Session, sql: &str) -> String {
    let plan = session.explain(sql).unwrap();
    let line = |line: &str| match line.split_once("Pancake Estimate: ") {
        Some((indent, estimate)) => {
            assert!(
                estimate.contains(" request") && estimate.contains(", at least ") && estimate.contains("/s"),
                "{estimate}"
            );
            format!("{indent}Pancake Estimate: …")
        }
        None => line.to_owned(),
    };
    plan.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn explain_says_what_is_sent() {
    let (shop, mut session) = open(0, &[]);
    session.execute("SET TimeZone = 'UTC'").unwrap();
    let select = "SELECT id FROM shop.conversations WHERE ";
    let scan = |filter: &str, lines: &[&str]| {
        let mut plan = vec!["Foreign Scan on conversations".to_owned()];
        plan.extend((!filter.is_empty()).then(|| format!("  Filter: {filter}")));
        plan.extend(lines.iter().map(|line| format!("  {line}")));
        plan.push("  Pancake Estimate: …".to_owned());
        plan.join("\n")
    };
    for (clause, filter, lines) in [
        ("true", "", vec!["Pancake Sent: order_by=inserted_at"]),
        ("type = 'INBOX'", "(type = 'INBOX'::text)", vec!["Pancake Sent: type=INBOX, order_by=inserted_at"]),
        (
            "type = 'INBOX' AND updated_at > now() - interval '1 day' AND NOT seen",
            "((NOT seen) AND (type = 'INBOX'::text) AND (updated_at > (now() - '1 day'::interval)))",
            vec![
                "Pancake Sent: type=INBOX, order_by=updated_at, since=(now() - '1 day'::interval)",
                "Pancake Not Sent: NOT seen (no server filter)",
            ],
        ),
        (
            "tags @> '{61,62}' AND message_count > 5",
            "((tags @> '{61,62}'::text[]) AND (message_count > 5))",
            vec![
                "Pancake Sent: tags=61,62, order_by=inserted_at",
                "Pancake Not Sent: message_count > 5 (no server filter)",
            ],
        ),
        (
            "inserted_at BETWEEN '2026-01-01' AND '2026-02-01'",
            "((inserted_at >= '2026-01-01 00:00:00+00'::timestamp with time zone) AND (inserted_at <= '2026-02-01 00:00:00+00'::timestamp with time zone))",
            vec![
                "Pancake Sent: order_by=inserted_at, since='2026-01-01 00:00:00+00'::timestamp with time zone, until='2026-02-01 00:00:00+00'::timestamp with time zone",
            ],
        ),
        (
            "'61' = ANY (tags)",
            "('61'::text = ANY (tags))",
            vec!["Pancake Sent: tags=61, order_by=inserted_at"],
        ),
    ] {
        assert_eq!(golden(&mut session, &format!("{select}{clause}")), scan(filter, &lines), "{clause}");
    }
    assert_eq!(shop.simulator.log().len(), 1, "but for the copy there was no request");
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
    shop.honest().unwrap();
}
