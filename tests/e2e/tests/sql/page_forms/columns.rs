//! This module holds the columns of the table: statements, each a name and a function that compares
//! the answer with the rows that the simulator holds. In which form the page is, is left to
//! [`rows`](super::rows).

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::SqlError;

use super::rows::Scene;

/// What is wrong with the answer.
type Cell = Result<(), String>;

/// A name, and a function that fills the cell of a page.
pub type Column = (&'static str, fn(&mut Scene) -> Cell);

/// In this order: the first statements meet a page of which nothing is known.
pub const COLUMNS: &[Column] = &[
    ("updated_at <, at first", upper_bound_at_first),
    ("scan", |s| of(s, "true")),
    ("updated_at > 1 hour", |s| of(s, "updated_at > now() - interval '1 hour'")),
    ("updated_at > 10 days", |s| of(s, "updated_at > now() - interval '10 days'")),
    ("updated_at > 40 days", |s| of(s, "updated_at > now() - interval '40 days'")),
    ("inserted_at > 10 days", |s| of(s, "inserted_at > now() - interval '10 days'")),
    ("inserted_at > 40 days", |s| of(s, "inserted_at > now() - interval '40 days'")),
    ("inserted_at < 40 days", |s| of(s, "inserted_at < now() - interval '40 days'")),
    ("inserted_at BETWEEN, 40 days", |s| {
        of(s, "inserted_at BETWEEN now() - interval '80 days' AND now() - interval '40 days'")
    }),
    ("inserted_at BETWEEN, 100 days ago", |s| {
        of(s, "inserted_at BETWEEN now() - interval '101 days' AND now() - interval '99 days'")
    }),
    ("type", |s| of(s, "type = 'INBOX'")),
    ("type IN", |s| of(s, "type IN ('INBOX', 'COMMENT')")),
    ("tags", |s| of(s, "tags @> '{61}'")),
    ("type, updated_at > 40 days", |s| of(s, "type = 'INBOX' AND updated_at > now() - interval '40 days'")),
    ("type, inserted_at BETWEEN", |s| {
        of(
            s,
            "type = 'COMMENT' AND inserted_at BETWEEN now() - interval '80 days' AND now() - interval '40 days'",
        )
    }),
    ("ORDER BY inserted_at LIMIT 20", |s| ordered(s, "inserted_at", Some(20))),
    ("ORDER BY updated_at LIMIT 10", |s| ordered(s, "updated_at", Some(10))),
    ("ORDER BY updated_at LIMIT 100", |s| ordered(s, "updated_at", Some(100))),
    ("cursor by updated_at", |s| ordered(s, "updated_at", None)),
    ("cursor by inserted_at", |s| ordered(s, "inserted_at", None)),
    ("updated_at <", |s| of(s, "updated_at < now() - interval '40 days'")),
    ("updated_at BETWEEN", |s| {
        of(s, "updated_at BETWEEN now() - interval '50 days' AND now() - interval '10 days'")
    }),
    ("join by id", |s| {
        s.session
            .execute(
                "CREATE TABLE crm.few AS SELECT id FROM truth.conversations ORDER BY md5(id) LIMIT 5; ANALYZE crm.few",
            )
            .unwrap();
        same(s, "SELECT c.id FROM crm.few JOIN $t.conversations c USING (id)")
    }),
    ("join by inserted_at", |s| joined(s, "inserted_at")),
    ("join by updated_at", |s| joined(s, "updated_at")),
    ("count(*)", |s| same(s, "SELECT count(*) FROM $t.conversations")),
    ("ANALYZE", |s| analyzed(s, "conversations")),
    ("messages", |s| {
        same(
            s,
            "SELECT m.id FROM $t.messages m WHERE conversation_id = ANY (ARRAY(
                 (SELECT id FROM truth.conversations ORDER BY message_count DESC, id LIMIT 4)
                 UNION ALL (SELECT id FROM truth.conversations ORDER BY md5(id) LIMIT 4)))",
        )
    }),
    ("messages, inserted_at >", |s| {
        same(
            s,
            "SELECT m.id FROM $t.messages m JOIN truth.conversations c ON c.id = m.conversation_id
             WHERE c.message_count > 30 AND m.inserted_at > now() - interval '20 days'",
        )
    }),
    ("posts", |s| same(s, "SELECT id FROM $t.posts")),
    ("posts inserted_at > 10 days", |s| recent(s, "posts", "inserted_at", 10)),
    ("posts inserted_at > 100 days", |s| recent(s, "posts", "inserted_at", 100)),
    ("posts inserted_at BETWEEN", |s| between(s, "posts", "inserted_at")),
    ("posts type", |s| same(s, "SELECT id FROM $t.posts WHERE type = 'photo'")),
    ("posts ANALYZE", |s| analyzed(s, "posts")),
    ("customers", |s| same(s, "SELECT id FROM $t.customers")),
    ("customers updated_at > 10 days", |s| recent(s, "customers", "updated_at", 10)),
    ("customers updated_at > 100 days", |s| recent(s, "customers", "updated_at", 100)),
    ("customers inserted_at > 40 days", |s| recent(s, "customers", "inserted_at", 40)),
    ("customers inserted_at BETWEEN", |s| between(s, "customers", "inserted_at")),
    ("customers ANALYZE", |s| analyzed(s, "customers")),
    ("doctor", |s| s.session.execute("SELECT * FROM pancake.doctor('shop')").map_err(|error| told(&error))),
    ("sync", |s| synced(s, "conversations", "")),
    ("sync posts", |s| synced(s, "posts", "")),
    ("sync customers", |s| synced(s, "customers", "")),
    ("sync delta", |s| {
        changed(s);
        synced(s, "conversations", ", reread => NULL")
    }),
    ("sync full", |s| {
        s.page.delete(&s.by_updated[33]);
        s.page.retag(&s.by_updated[233], &[62]);
        s.load();
        synced(s, "conversations", ", full_rescan => true")
    }),
];

/// The columns of pages whose messages are synced as well.
pub const MESSAGES: &[Column] = &[
    ("sync messages", |s| {
        s.load_messages();
        synced(s, "messages", "")
    }),
    ("sync messages delta", |s| {
        changed(s);
        s.load_messages();
        synced(s, "messages", ", reread => NULL")
    }),
];

/// An error in one line.
fn told(error: &anyhow::Error) -> String {
    match SqlError::of(error) {
        None => format!("{error:#}"),
        Some(error) => {
            let detail = error.detail.as_deref().unwrap_or_default();
            let detail = detail.split(" Pancake's x-request-id").next().unwrap_or_default();
            format!("{}: {}. {detail}", error.sqlstate, error.message)
        }
    }
}

/// The rows that are missing, come too often, or should not be there.
fn compare(mut came: Vec<String>, mut expected: Vec<String>) -> Result<(), (Vec<String>, String)> {
    came.sort();
    expected.sort();
    if came == expected {
        return Ok(());
    }
    let mut times: BTreeMap<&String, i64> = BTreeMap::new();
    came.iter().for_each(|row| *times.entry(row).or_default() += 1);
    expected.iter().for_each(|row| *times.entry(row).or_default() -= 1);
    let of = |sign: i64| -> Vec<String> {
        times.iter().filter(|(_, times)| **times * sign > 0).map(|(row, _)| (*row).clone()).collect()
    };
    let (missing, extra) = (of(-1), of(1));
    let some = |rows: &[String]| format!("{:?}", &rows[..rows.len().min(2)]);
    let message = format!(
        "{} rows instead of {}: {} missing {}, {} too many {}",
        came.len(),
        expected.len(),
        missing.len(),
        some(&missing),
        extra.len(),
        some(&extra)
    );
    Err((if extra.is_empty() { missing } else { Vec::new() }, message))
}

/// Runs a statement over the page and over the truth. The error of a page looser than is assumed
/// counts as the truth.
fn both(s: &mut Scene, sql: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let came = s.session.column(&sql.replace("$t", "shop"));
    let expected = s.session.column(&sql.replace("$t", "truth")).unwrap();
    match came {
        Ok(came) => Ok((came, expected)),
        Err(error) if s.looser && sql.contains("updated_at") && is_too_loose(&error) => {
            Ok((expected.clone(), expected))
        }
        Err(error) => Err(told(&error)),
    }
}

fn same(s: &mut Scene, sql: &str) -> Cell {
    let (came, expected) = both(s, sql)?;
    compare(came, expected).map_err(|(_, message)| message)
}

/// The conversations of a clause.
fn of(s: &mut Scene, clause: &str) -> Cell {
    same(s, &format!("SELECT id FROM $t.conversations WHERE {clause}"))
}

fn recent(s: &mut Scene, table: &str, column: &str, days: u32) -> Cell {
    same(s, &format!("SELECT id FROM $t.{table} WHERE {column} > now() - interval '{days} days'"))
}

fn between(s: &mut Scene, table: &str, column: &str) -> Cell {
    same(
        s,
        &format!(
            "SELECT id FROM $t.{table} WHERE {column} BETWEEN now() - interval '80 days' AND now() - interval '40 days'"
        ),
    )
}

/// As the contract has it: an upper bound on `updated_at` trusts the times of a page that was never
/// seen out of order, up to six hours. So rows that stand higher than they show may be missing, and
/// no others.
fn upper_bound_at_first(s: &mut Scene) -> Cell {
    let sql = "SELECT id FROM $t.conversations WHERE updated_at < now() - interval '40 days'";
    let (came, expected) = both(s, sql)?;
    let Err((missing, message)) = compare(came, expected) else { return Ok(()) };
    let displaced = s.page.frozen();
    let undated = s.page.conversations().into_iter().filter(|row| row["updated_at"].is_null());
    let displaced: Vec<String> = displaced
        .into_iter()
        .chain(undated.filter_map(|row| row["id"].as_str().map(str::to_owned)))
        .collect();
    let excepted = !missing.is_empty() && missing.iter().all(|id| displaced.contains(id));
    if excepted { Ok(()) } else { Err(message) }
}

/// The rows in the order of a time, newest first: the first of them, or by a cursor all.
fn ordered(s: &mut Scene, column: &str, limit: Option<usize>) -> Cell {
    let sql = format!("SELECT id, {column} FROM shop.conversations ORDER BY {column} DESC");
    let rows = match limit {
        Some(limit) => s.session.rows(&format!("{sql} LIMIT {limit}")),
        None => fetched(s, &sql),
    };
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) if s.looser && column == "updated_at" && is_too_loose(&error) => return Ok(()),
        Err(error) => return Err(told(&error)),
    };
    let known = s.session.rows(&format!("SELECT id, {column} FROM truth.conversations")).unwrap();
    let known: BTreeMap<_, _> = known.iter().map(|row| (&row[0], &row[1])).collect();
    if let Some(row) = rows.iter().find(|row| known.get(&row[0]) != Some(&&row[1])) {
        return Err(format!("not a row of the page: {row:?}"));
    }
    let ids: BTreeMap<_, _> = rows.iter().map(|row| (&row[0], &row[1])).collect();
    if ids.len() < rows.len() {
        return Err(format!("{} rows come twice", rows.len() - ids.len()));
    }
    let top = limit.unwrap_or(known.len());
    let expected = s
        .session
        .column(&format!("SELECT {column} FROM truth.conversations ORDER BY {column} DESC LIMIT {top}"))
        .unwrap();
    let times: Vec<_> = rows.iter().map(|row| row[1].clone().unwrap_or_default()).collect();
    match times.iter().zip(&expected).position(|(came, expected)| came != expected) {
        None if times.len() == expected.len() => Ok(()),
        None => Err(format!("{} rows instead of {}", times.len(), expected.len())),
        Some(place) => Err(format!("row {place} is of {} instead of {}", times[place], expected[place])),
    }
}

fn fetched(s: &mut Scene, sql: &str) -> anyhow::Result<Vec<Vec<Option<String>>>> {
    s.session.execute(&format!("BEGIN; DECLARE c CURSOR FOR {sql}"))?;
    let mut all = Vec::new();
    loop {
        let rows = s.session.rows("FETCH 70 FROM c")?;
        if rows.is_empty() {
            s.session.execute("COMMIT")?;
            return Ok(all);
        }
        all.extend(rows);
    }
}

/// The error of a page looser than is assumed.
fn is_too_loose(error: &anyhow::Error) -> bool {
    let hint = |error: &SqlError| error.hint.as_deref().is_some_and(|hint| hint.contains("inserted_at"));
    SqlError::of(error).is_some_and(|error| error.sqlstate == "HV000" && hint(error))
}

/// Two days each after some times of a local table.
fn joined(s: &mut Scene, column: &str) -> Cell {
    s.session
        .execute(
            "CREATE TABLE IF NOT EXISTS crm.days AS SELECT now() - days * interval '1 day' AS at
                 FROM unnest('{1,9,45,70,100}'::int[]) days; ANALYZE crm.days",
        )
        .unwrap();
    same(
        s,
        &format!(
            "SELECT c.id FROM crm.days, LATERAL (SELECT id FROM $t.conversations
                 WHERE {column} > at - interval '2 days' AND {column} <= at) c"
        ),
    )
}

fn analyzed(s: &mut Scene, table: &str) -> Cell {
    s.session.execute(&format!("ANALYZE shop.{table}")).map_err(|error| told(&error))?;
    let estimate = format!("SELECT reltuples FROM pg_class WHERE oid = 'shop.{table}'::regclass");
    let estimate: f64 = s.session.one(&estimate).unwrap().parse().unwrap();
    let count: f64 = s.session.one(&format!("SELECT count(*) FROM truth.{table}")).unwrap().parse().unwrap();
    let most = if count <= 1_000.0 { count } else { count * 1.3 };
    if (count..=most).contains(&estimate) {
        Ok(())
    } else {
        Err(format!("{estimate} rows instead of {count}"))
    }
}

/// Runs a sync; the copy is then the truth.
fn synced(s: &mut Scene, table: &str, arguments: &str) -> Cell {
    let call = format!("CALL pancake.sync('shop.{table}', 'crm.{table}'{arguments})");
    s.session.execute(&call).map_err(|error| told(&error))?;
    let columns = match table {
        "conversations" => "id, inserted_at, updated_at, message_count, tags",
        "customers" => "id, inserted_at, updated_at",
        "messages" => "conversation_id, id, inserted_at",
        _ => "id, inserted_at",
    };
    let rows = |from: &str| format!("SELECT concat_ws(' ', {columns}) FROM {from}");
    let copy = s.session.column(&rows(&format!("crm.{table} WHERE removed_at IS NULL"))).unwrap();
    let truth = s.session.column(&rows(&format!("truth.{table}"))).unwrap();
    compare(copy, truth).map_err(|(_, message)| message)
}

/// Has customers write in some conversations, some of them frozen, and has one begin, all an hour
/// later. What follows is a delta alone, without its reread.
fn changed(s: &mut Scene) {
    // Out of the window of a delta is what was before.
    s.shop.simulator.advance(Duration::from_secs(3_600));
    let mut rows: Vec<String> =
        [3, 59, 180, 320, 399].iter().map(|place| s.by_updated[*place].clone()).collect();
    rows.extend(s.page.frozen().into_iter().rev().take(2));
    rows.iter().for_each(|id| assert!(s.page.message(id)));
    s.page.create("INBOX");
    s.load();
}
