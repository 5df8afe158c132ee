//! This module compares random statements, and a sync, with the rows that the simulator holds, on
//! pages whose switches are random as well: each seed is a page. What one table of cells cannot
//! hold (`page_forms`) is found here by chance.
//!
//! A page is first read whole in both orders, so that it is known to all sessions: an upper bound
//! on `updated_at` trusts the order of a page only until then. After that an answer is the
//! reference's or an error, on a page that takes neither cursors nor windows; too many of
//! these fail the test as well.
//!
//! `PANCAKE_SEEDS=1000..3000 cargo test -p e2e --test sql -- random` runs others.

use std::ops::Range;

use e2e::{Cluster, Session, Shop, SqlError, page::literal};
use pancake_simulator::*;
use serde_json::Value;

/// A generator of choices: SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// Returns true so many times in a hundred.
    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// Sets the switches in which servers may differ. Those that break an assumption stay as they are.
fn choose(dice: &mut Dice, switches: &mut Switches) {
    let form = [FormReading::Taken, FormReading::Refused, FormReading::Empty, FormReading::Http500];
    let lost = [
        LostCursor::Continue,
        LostCursor::FirstPage,
        LostCursor::Empty,
        LostCursor::Http500,
        LostCursor::SuccessFalse,
    ];
    let bound = [Bound::Inclusive, Bound::InclusiveSeconds, Bound::Exclusive, Bound::ExclusiveSeconds];
    let frozen = [FrozenReading::Hidden, FrozenReading::Shown];
    switches.lone_bound = dice.pick(&form);
    switches.wide_window = dice.pick(&form);
    switches.late_until = dice.pick(&form);
    if dice.percent(30) {
        switches.windows = dice.pick(&form);
    }
    (switches.since, switches.until) = (dice.pick(&bound), dice.pick(&bound));
    (switches.frozen_time, switches.frozen_cursor) = (dice.pick(&frozen), dice.pick(&frozen));
    switches.undated = dice.pick(&[Undated::Placed, Undated::Top, Undated::Bottom]);
    switches.cursor =
        dice.pick(&[CursorReading::AfterRow, CursorReading::AfterRow, CursorReading::StrictlyBelow]);
    (switches.lost_cursor, switches.moved_cursor) = (dice.pick(&lost), dice.pick(&lost));
    if dice.percent(25) {
        switches.middle_cursor = dice.pick(&lost);
        // A jump from a row that shows an older time needs a cursor that goes by the row itself.
        switches.frozen_cursor = FrozenReading::Hidden;
    }
    switches.ties = dice.pick(&[Ties::IdAscending, Ties::IdDescending, Ties::Insertion]);
    switches.batch = dice.pick(&[60, 60, 60, 20, 100]);
    switches.short_batches = if dice.percent(30) { 0.3 } else { 0.0 };
    switches.repeated_rows = if dice.percent(30) { 0.3 } else { 0.0 };
    switches.tags = dice.pick(&[TagsReading::All, TagsReading::Any]);
    switches.unlisted_type = dice.pick(&[
        UnlistedType::Compared,
        UnlistedType::Ignored,
        UnlistedType::Nothing,
        UnlistedType::Http500,
    ]);
    switches.post_ids = dice.pick(&[
        PostIdsReading::CommaList,
        PostIdsReading::NeedsComment,
        PostIdsReading::SingleOnly,
        PostIdsReading::Ignored,
        PostIdsReading::NothingWithoutPost,
    ]);
    switches.ignore_type = dice.percent(15);
    switches.ignore_tags = dice.percent(15);
    switches.ignore_since = dice.percent(10);
    switches.ignore_until = dice.percent(10);
    switches.total = dice.pick(&[TotalReading::Exact, TotalReading::OfBatch, TotalReading::Missing]);
}

/// Fills the table of the reference with the rows as the simulator shows them.
fn load(shop: &Shop, session: &mut Session) {
    let rows = Value::Array(shop.simulator.first_page().conversations()).to_string();
    let sql = format!(
        "TRUNCATE truth;
         INSERT INTO truth SELECT e ->> 'id', e ->> 'type', e ->> 'post_id',
             ARRAY(SELECT x ->> 'id' FROM jsonb_array_elements(e -> 'tags') x WHERE x <> 'null'), (e ->> 'seen')::bool,
             coalesce(shown(e -> 'inserted_at'), shown(e -> 'updated_at'), '-infinity'),
             coalesce(shown(e -> 'updated_at'), shown(e -> 'inserted_at'), '-infinity')
         FROM jsonb_array_elements({}::jsonb) e",
        literal(&rows)
    );
    session.execute(&sql).unwrap();
}

fn time(dice: &mut Dice, session: &mut Session, days: u64) -> String {
    if dice.percent(40) {
        let column = dice.pick(&["inserted_at", "updated_at"]);
        let salt = dice.below(1_000);
        let sql = format!("SELECT {column} FROM truth ORDER BY md5(id || '{salt}') LIMIT 1");
        return format!("'{}'::timestamptz", session.one(&sql).unwrap());
    }
    if dice.percent(10) {
        return dice
            .pick(&["'-infinity'::timestamptz", "'infinity'::timestamptz", "'1969-01-01'::timestamptz"])
            .to_owned();
    }
    format!("(now() - interval '{} seconds')", dice.below(86_400 * (days + 3)))
}

fn clause(dice: &mut Dice, session: &mut Session, days: u64) -> String {
    let parts = (0..=dice.below(2)).map(|_| {
        let column = dice.pick(&["updated_at", "inserted_at"]);
        let bound = time(dice, session, days);
        match dice.below(11) {
            0 | 1 => format!("{column} {} {bound}", dice.pick(&["<", "<="])),
            2 | 3 => format!("{column} {} {bound}", dice.pick(&[">", ">="])),
            4 => format!("{column} = {bound}"),
            5 | 6 => {
                let hours = 1 + dice.below(24 * 40);
                format!("{column} BETWEEN {bound} AND {bound} + interval '{hours} hours'")
            }
            7 => format!("{column}::date = ({bound})::date"),
            8 => {
                let types = dice.pick(&["'INBOX'", "'INBOX', 'COMMENT'", "'RATING'", "'COMMENT', 'LIVESTREAM'"]);
                format!("type IN ({types})")
            }
            9 => dice.pick(&["tags @> '{61}'", "tags && '{61,62}'", "'66' = ANY (tags)"]).to_owned(),
            _ => {
                let salt = dice.below(100);
                format!(
                    "post_id = (SELECT post_id FROM truth WHERE post_id IS NOT NULL ORDER BY md5(id || '{salt}') LIMIT 1)"
                )
            }
        }
    });
    parts.collect::<Vec<_>>().join(" AND ")
}

/// What came of the seeds.
#[derive(Default)]
struct Outcome {
    statements: usize,
    refused: usize,
    wrong: Vec<String>,
}

impl Outcome {
    /// Compares a statement over the page with the same one over the reference.
    fn compare(&mut self, session: &mut Session, seed: u64, sql: &str) {
        self.statements += 1;
        let expected = session.column(&sql.replace("{}", "truth")).unwrap();
        match session.column(&sql.replace("{}", "shop.conversations")) {
            Ok(came) if came == expected => {}
            Ok(came) => {
                let lost: Vec<_> = expected.iter().filter(|row| !came.contains(row)).take(3).collect();
                let what = format!("{} rows instead of {}, not {lost:?}", came.len(), expected.len());
                self.wrong.push(format!("seed {seed}: {sql}: {what}"));
            }
            Err(error) => self.refused(seed, sql, &error),
        }
    }

    fn refused(&mut self, seed: u64, sql: &str, error: &anyhow::Error) {
        let state = SqlError::of(error).map(|error| error.sqlstate.clone());
        if matches!(state.as_deref(), Some("HV000" | "HV00M")) {
            self.refused += 1;
        } else {
            self.wrong.push(format!("seed {seed}: {sql}: {error:#}"));
        }
    }

    /// Copies the page, changes it, and copies what has changed.
    fn sync(&mut self, dice: &mut Dice, shop: &Shop, session: &mut Session, seed: u64) {
        let page = shop.simulator.first_page();
        for arguments in ["", ", reread => NULL", ", full_rescan => true"] {
            self.statements += 1;
            let call = format!("CALL pancake.sync('shop.conversations', 'crm.copy'{arguments})");
            if let Err(error) = session.execute(&call) {
                return self.refused(seed, &call, &error);
            }
            load(shop, session);
            let rows = "SELECT id, inserted_at, updated_at, seen, tags FROM";
            let copy = format!("{rows} crm.copy WHERE removed_at IS NULL");
            let unlike = format!(
                "SELECT count(*) FROM (({rows} truth EXCEPT ALL {copy}) UNION ALL ({copy} EXCEPT ALL {rows} truth)) u"
            );
            let unlike = session.one(&unlike).unwrap();
            if unlike != "0" {
                self.wrong.push(format!("seed {seed}: {call}: {unlike} rows differ"));
            }
            let ids = page.ids();
            for _ in 0..dice.pick(&[0, 3, 40]) {
                page.message(&ids[dice.below(ids.len() as u64) as usize]);
            }
            for _ in 0..dice.pick(&[0, 2, 70]) {
                page.create(dice.pick(&["INBOX", "COMMENT"]));
            }
        }
    }
}

fn run(seeds: Range<u64>) -> Outcome {
    let (cluster, mut outcome) = (Cluster::shared().unwrap(), Outcome::default());
    for seed in seeds {
        let mut dice = Dice(seed);
        let days = dice.pick(&[5, 60, 200]);
        // What is known of a page is kept by its address and id, and addresses come again.
        let page = PageSettings {
            conversations: dice.pick(&[40, 200, 400]),
            days: days as u32,
            ..PageSettings::numbered(seed as usize)
        };
        let mut settings = Settings { seed, pages: vec![page], ..Settings::default() }.as_seen();
        settings.pages[0].frozen = dice.pick(&[0.0, 0.02, 0.05]);
        if dice.percent(75) {
            choose(&mut dice, &mut settings.switches);
        }
        let requests = dice.pick(&["1", "8"]);
        let shop =
            Shop::open_in(cluster, settings, &[("max_retries", "1"), ("max_concurrency", requests)]).unwrap();
        let page = shop.simulator.first_page();
        if dice.percent(40) {
            let lower = 1 + dice.below(6) as usize;
            page.ids().iter().step_by(37).for_each(|id| assert!(page.lower(id, lower)));
        }
        if dice.percent(30) {
            for id in page.ids().iter().skip(11).step_by(97) {
                let column = dice.pick(&[TimeColumn::UpdatedAt, TimeColumn::InsertedAt]);
                let form = dice.pick(&[
                    TimeForm::Null,
                    TimeForm::Missing,
                    TimeForm::Seconds,
                    TimeForm::Milliseconds,
                ]);
                assert!(page.set_time_form(id, column, form));
            }
        }
        let mut session = shop.connect().unwrap();
        session
            .execute(
                "SET TimeZone = 'UTC'; SET statement_timeout = '60s'; CREATE SCHEMA crm;
                 CREATE TABLE truth (id text, type text, post_id text, tags text[], seen bool,
                                     inserted_at timestamptz, updated_at timestamptz);
                 CREATE FUNCTION shown(cell jsonb) RETURNS timestamptz LANGUAGE sql AS
                     $$ SELECT CASE jsonb_typeof(cell) WHEN 'string' THEN (cell #>> '{}')::timestamp AT TIME ZONE 'UTC'
                            WHEN 'number' THEN to_timestamp(CASE WHEN cell::bigint >= 1e11 THEN cell::numeric / 1000
                                                                 ELSE cell::numeric END::float8) END $$",
            )
            .unwrap();
        load(&shop, &mut session);
        let refused = outcome.refused;
        for order in ["updated_at", "inserted_at", "auto"] {
            session.execute(&format!("SET pancake_fdw.order_by = {order}")).unwrap();
            outcome.compare(&mut session, seed, "SELECT id FROM {} ORDER BY id");
        }
        if outcome.refused > refused {
            continue;
        }
        for _ in 0..8 {
            let clause = clause(&mut dice, &mut session, days);
            let column = dice.pick(&["updated_at", "inserted_at"]);
            let limit = 1 + dice.below(150);
            let sql = if dice.percent(30) {
                format!("SELECT {column} FROM {{}} WHERE {clause} ORDER BY {column} DESC LIMIT {limit}")
            } else {
                format!("SELECT id FROM {{}} WHERE {clause} ORDER BY id")
            };
            outcome.compare(&mut session, seed, &sql);
        }
        if dice.percent(50) {
            outcome.sync(&mut dice, &shop, &mut session, seed);
        }
    }
    outcome
}

#[test]
fn random_pages_and_statements() {
    let seeds = std::env::var("PANCAKE_SEEDS").ok();
    let seeds = seeds.as_deref().and_then(|seeds| seeds.split_once(".."));
    let seeds = seeds.map_or(0..40, |(first, last)| first.parse().unwrap()..last.parse().unwrap());
    let Outcome { statements, refused, wrong } = run(seeds);
    eprintln!("{statements} statements, {refused} refused");
    assert!(wrong.is_empty(), "{} of {statements}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(refused * 10 < statements, "{refused} of {statements} statements end in an error");
}
