//! This module holds the rows of the table: the forms of a page, each a name and a set-up.
//! What is asked of the page is left to [`columns`](super::columns).

use e2e::page::literal;
use e2e::{Session, Shop};
use pancake_simulator::*;
use serde_json::{Value, json};

pub const HOUR: i64 = 3_600_000_000;
pub const DAY: i64 = 24 * HOUR;

/// Batches join by a row, so with 60 rows in a reply these places of the list end one.
const ENDS: [usize; 5] = [59, 118, 177, 236, 295];

/// One row of the table.
pub struct Form {
    pub name: &'static str,
    pub set: fn(&mut Scene),
    /// The page breaks what is assumed of the order, so a statement in the order of `updated_at`
    /// may end in an error.
    pub looser: bool,
    /// Whether messages are synced as well, which takes as long as all other columns.
    pub messages: bool,
}

const fn form(name: &'static str, set: fn(&mut Scene)) -> Form {
    Form { name, set, looser: false, messages: false }
}

const fn looser(name: &'static str, set: fn(&mut Scene)) -> Form {
    Form { name, set, looser: true, messages: false }
}

const fn messages(name: &'static str, set: fn(&mut Scene)) -> Form {
    Form { name, set, looser: false, messages: true }
}

/// A page in one of its forms, and the truth about it in local tables: `truth.conversations`,
/// `truth.posts`, `truth.customers`, `truth.messages`.
pub struct Scene {
    pub shop: Shop<'static>,
    pub page: PageHandle,
    pub session: Session,
    pub looser: bool,
    /// The ids in the order of `updated_at` and of `inserted_at`, newest first, before the page was
    /// changed.
    pub by_updated: Vec<String>,
    pub by_inserted: Vec<String>,
}

impl Scene {
    pub fn open(form: &Form) -> Scene {
        let page =
            PageSettings { conversations: 400, days: 120, posts: Some(160), ..PageSettings::default() };
        let settings = Settings { pages: vec![page], ..Settings::default() };
        // Refused forms are replaced at once; nothing here is worth a second's wait.
        let options = [("max_retries", "0"), ("requests_per_second", "100000")];
        let shop = Shop::open_with(settings, &options).unwrap();
        let mut session = shop.connect().unwrap();
        session
            .execute(
                "SET statement_timeout = '20s'; SET TimeZone = 'UTC'; CREATE SCHEMA crm; CREATE SCHEMA truth;
                 CREATE FUNCTION truth.shown(cell jsonb) RETURNS timestamptz LANGUAGE sql AS
                     $$ SELECT CASE jsonb_typeof(cell) WHEN 'string' THEN (cell #>> '{}')::timestamp AT TIME ZONE 'UTC'
                            WHEN 'number' THEN to_timestamp(CASE WHEN cell::bigint >= 1e11 THEN cell::numeric / 1000
                                                                 ELSE cell::numeric END::float8) END $$;
                 CREATE TABLE truth.conversations (id text, type text, tags text[], message_count int,
                                                   inserted_at timestamptz, updated_at timestamptz);
                 CREATE TABLE truth.customers (id text, inserted_at timestamptz, updated_at timestamptz);
                 CREATE TABLE truth.posts (id text, type text, inserted_at timestamptz);
                 CREATE TABLE truth.messages (id text, conversation_id text, inserted_at timestamptz)",
            )
            .unwrap();
        let page = shop.simulator.first_page();
        let by_updated = page.ids();
        let mut rows = page.conversations();
        rows.sort_by(|a, b| b["inserted_at"].as_str().cmp(&a["inserted_at"].as_str()));
        let by_inserted = rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        let mut scene = Scene { shop, page, session, looser: form.looser, by_updated, by_inserted };
        scene.load();
        (form.set)(&mut scene);
        scene.load();
        scene.load_messages();
        scene
    }

    /// Fills the tables of the truth from the simulator, those of messages excepted.
    pub fn load(&mut self) {
        let fill = "TRUNCATE truth.conversations, truth.customers, truth.posts;
             INSERT INTO truth.conversations
                 SELECT r ->> 'id', r ->> 'type',
                     ARRAY(SELECT t ->> 'id' FROM jsonb_array_elements(r -> 'tags') t WHERE t <> 'null'),
                     (r ->> 'message_count')::int,
                     coalesce(truth.shown(r -> 'inserted_at'), truth.shown(r -> 'updated_at'), '-infinity'),
                     coalesce(truth.shown(r -> 'updated_at'), truth.shown(r -> 'inserted_at'), '-infinity')
                 FROM jsonb_array_elements($conversations) r;
             INSERT INTO truth.customers
                 SELECT r ->> 'id', truth.shown(r -> 'inserted_at'), truth.shown(r -> 'updated_at')
                 FROM jsonb_array_elements($customers) r;
             INSERT INTO truth.posts SELECT r ->> 'id', r ->> 'type', truth.shown(r -> 'inserted_at')
                 FROM jsonb_array_elements($posts) r";
        self.fill(
            fill,
            &[
                ("$conversations", self.page.conversations()),
                ("$customers", self.page.customers()),
                ("$posts", self.page.posts()),
            ],
        );
    }

    /// The same for messages.
    pub fn load_messages(&mut self) {
        let messages = self.page.ids().iter().flat_map(|id| self.page.messages(id)).collect();
        let fill = "TRUNCATE truth.messages;
             INSERT INTO truth.messages
                 SELECT r ->> 'id', r ->> 'conversation_id', (r ->> 'inserted_at')::timestamp AT TIME ZONE 'UTC'
                 FROM jsonb_array_elements($messages) r";
        self.fill(fill, &[("$messages", messages)]);
    }

    fn fill(&mut self, sql: &str, rows: &[(&str, Vec<Value>)]) {
        let sql =
            rows.iter().fold(sql.to_owned(), |sql, (name, rows)| sql.replace(name, &literal(&cells(rows))));
        self.session.execute(&sql).unwrap();
    }

    fn switch(&self, change: impl FnOnce(&mut Switches)) {
        self.shop.simulator.switches(change);
    }

    /// The time that a row shows.
    fn shown(&mut self, id: &str, column: &str) -> i64 {
        let sql = format!(
            "SELECT (extract(epoch FROM {column}) * 1000000)::bigint FROM truth.conversations WHERE id = '{id}'"
        );
        self.session.one(&sql).unwrap().parse().unwrap()
    }

    /// Freezes the rows at these places of the list by some hours, days, weeks in turn.
    fn freeze(&mut self, places: impl IntoIterator<Item = usize>) {
        for (place, by) in places.into_iter().zip([7 * HOUR, 2 * DAY, 45 * DAY, HOUR].into_iter().cycle()) {
            let id = self.by_updated[place].clone();
            let shown = self.shown(&id, "updated_at") - by;
            assert!(self.page.freeze(&id, shown));
        }
    }

    fn frozen(
        &mut self,
        time: FrozenReading,
        cursor: FrozenReading,
        places: impl IntoIterator<Item = usize>,
    ) {
        self.switch(|s| (s.frozen_time, s.frozen_cursor) = (time, cursor));
        self.freeze(places);
    }

    fn undated(&mut self, undated: Undated, columns: &[TimeColumn]) {
        self.switch(|s| s.undated = undated);
        for (place, form) in [(20, TimeForm::Null), (75, TimeForm::Missing), (200, TimeForm::Null)] {
            for column in columns {
                assert!(self.page.set_time_form(&self.by_updated[place], *column, form));
            }
        }
    }

    /// Writes all times in this form.
    fn write_all(&mut self, form: TimeForm) {
        for id in &self.by_updated {
            for column in [InsertedAt, UpdatedAt] {
                assert!(self.page.set_time_form(id, column, form));
            }
        }
    }

    /// Dates some rows so much ahead of now: by one time, by the other, by both.
    fn ahead(&mut self, by: i64) {
        let time = self.shop.simulator.now() + by;
        for (place, columns) in [
            (30, &[TimeColumn::UpdatedAt][..]),
            (90, &[TimeColumn::InsertedAt]),
            (150, &[TimeColumn::InsertedAt, TimeColumn::UpdatedAt]),
        ] {
            for column in columns {
                assert!(self.page.set_time(&self.by_updated[place], *column, time + place as i64));
            }
        }
    }
}

/// The keys of rows that the truth needs.
fn cells(rows: &[Value]) -> String {
    let keys = ["id", "conversation_id", "type", "tags", "message_count", "inserted_at", "updated_at"];
    let rows = rows.iter().map(|row| {
        let cells = keys.iter().filter_map(|key| row.get(*key).map(|cell| ((*key).to_owned(), cell.clone())));
        Value::Object(cells.collect())
    });
    json!(rows.collect::<Vec<_>>()).to_string()
}

/// Seven rows each: of eight in a row one shows its real time.
fn runs() -> impl Iterator<Item = usize> {
    [3..10, 150..157, 300..307].into_iter().flatten()
}

/// Runs that fill the end of a batch.
fn runs_at_ends() -> impl Iterator<Item = usize> {
    ENDS.into_iter().flat_map(|end| end - 6..=end)
}

use FormReading::{Empty, Http500, Refused};
use FrozenReading::{Hidden, Shown};
use TimeColumn::{InsertedAt, UpdatedAt};

/// Forms of `since` and `until` that are refused.
pub const WINDOWS: &[Form] = &[
    messages("as documented", |_| ()),
    form("lone bound refused", |s| s.switch(|s| s.lone_bound = Refused)),
    form("lone bound empty", |s| s.switch(|s| s.lone_bound = Empty)),
    form("lone bound HTTP 500", |s| s.switch(|s| s.lone_bound = Http500)),
    form("month refused", |s| s.switch(|s| s.wide_window = Refused)),
    form("month empty", |s| s.switch(|s| s.wide_window = Empty)),
    form("month HTTP 500", |s| s.switch(|s| s.wide_window = Http500)),
    form("late until refused", |s| s.switch(|s| s.late_until = Refused)),
    form("late until empty", |s| s.switch(|s| s.late_until = Empty)),
    messages("all windows refused", |s| s.switch(|s| (s.windows, s.lone_bound) = (Refused, Refused))),
    form("all windows empty", |s| s.switch(|s| (s.windows, s.lone_bound) = (Empty, Empty))),
    form("all windows HTTP 500", |s| s.switch(|s| (s.windows, s.lone_bound) = (Http500, Http500))),
    messages("as seen", |s| s.shop.simulator.as_seen()),
    messages("as seen, all empty", |s| {
        s.shop.simulator.as_seen();
        s.switch(|s| (s.lone_bound, s.wide_window, s.late_until) = (Empty, Empty, Empty));
    }),
];

/// Rows away from where their times would put them.
pub const ORDER: &[Form] = &[
    messages("seven places too low", |s| {
        [54, 111, 20, 230].into_iter().for_each(|place| assert!(s.page.lower(&s.by_updated[place], 7)));
    }),
    looser("thirty places too low", |s| {
        [40, 100, 230].into_iter().for_each(|place| assert!(s.page.lower(&s.by_updated[place], 30)));
    }),
    form("neighbours swapped by inserted_at", |s| {
        [10, 59, 117, 200].into_iter().for_each(|place| assert!(s.page.swap(&s.by_inserted[place])));
    }),
    form("frozen, low and swapped", |s| {
        s.freeze([58, 118, 236]);
        [54, 111].into_iter().for_each(|place| assert!(s.page.lower(&s.by_updated[place], 7)));
        assert!(s.page.swap(&s.by_inserted[59]));
    }),
];

/// Rows that show an older time than they stand for, in every reading of filter and cursor.
pub const FROZEN: &[Form] = &[
    messages("single, filter hidden, cursor hidden", |s| s.frozen(Hidden, Hidden, [5, 100, 250])),
    form("single, filter hidden, cursor shown", |s| s.frozen(Hidden, Shown, [5, 100, 250])),
    form("single, filter shown, cursor hidden", |s| s.frozen(Shown, Hidden, [5, 100, 250])),
    form("single, filter shown, cursor shown", |s| s.frozen(Shown, Shown, [5, 100, 250])),
    form("runs, filter hidden, cursor hidden", |s| s.frozen(Hidden, Hidden, runs())),
    form("runs, filter hidden, cursor shown", |s| s.frozen(Hidden, Shown, runs())),
    form("runs, filter shown, cursor hidden", |s| s.frozen(Shown, Hidden, runs())),
    messages("runs, filter shown, cursor shown", |s| s.frozen(Shown, Shown, runs())),
    form("last of a batch, filter hidden, cursor hidden", |s| s.frozen(Hidden, Hidden, ENDS)),
    form("last of a batch, filter hidden, cursor shown", |s| s.frozen(Hidden, Shown, ENDS)),
    form("last of a batch, filter shown, cursor hidden", |s| s.frozen(Shown, Hidden, ENDS)),
    form("last of a batch, filter shown, cursor shown", |s| s.frozen(Shown, Shown, ENDS)),
    form("run at the end of a batch, filter hidden, cursor hidden", |s| {
        s.frozen(Hidden, Hidden, runs_at_ends());
    }),
    form("run at the end of a batch, filter shown, cursor shown", |s| {
        s.frozen(Shown, Shown, runs_at_ends());
    }),
    messages("last of a batch, as seen", |s| {
        s.shop.simulator.as_seen();
        s.freeze(ENDS);
    }),
];

/// Times ahead of now, of long ago, as numbers, or missing.
pub const TIMES: &[Form] = &[
    messages("a day ahead", |s| s.ahead(DAY)),
    messages("three years ahead", |s| s.ahead(3 * 365 * DAY)),
    messages("without updated_at, on top", |s| s.undated(Undated::Top, &[UpdatedAt])),
    form("without updated_at, at the bottom", |s| s.undated(Undated::Bottom, &[UpdatedAt])),
    form("without updated_at, in place", |s| s.undated(Undated::Placed, &[UpdatedAt])),
    messages("without inserted_at, on top", |s| s.undated(Undated::Top, &[InsertedAt])),
    form("without inserted_at, at the bottom", |s| s.undated(Undated::Bottom, &[InsertedAt])),
    form("without inserted_at, in place", |s| s.undated(Undated::Placed, &[InsertedAt])),
    messages("without times, on top", |s| s.undated(Undated::Top, &[InsertedAt, UpdatedAt])),
    form("without times, at the bottom", |s| s.undated(Undated::Bottom, &[InsertedAt, UpdatedAt])),
    form("without times, in place", |s| s.undated(Undated::Placed, &[InsertedAt, UpdatedAt])),
    form("some times are numbers", |s| {
        for (place, form) in [(10, TimeForm::Seconds), (59, TimeForm::Milliseconds), (150, TimeForm::Seconds)]
        {
            for column in [InsertedAt, UpdatedAt] {
                assert!(s.page.set_time_form(&s.by_updated[place], column, form));
            }
        }
    }),
    messages("all times are seconds", |s| {
        s.write_all(TimeForm::Seconds);
    }),
    form("all times are milliseconds", |s| {
        s.write_all(TimeForm::Milliseconds);
    }),
    messages("before 1971", |s| {
        for (place, time) in [(10, 0), (150, 100 * DAY), (250, -400 * DAY)] {
            for column in [InsertedAt, UpdatedAt] {
                assert!(s.page.set_time(&s.by_updated[place], column, time));
            }
        }
        assert!(s.page.set_time(&s.by_updated[60], UpdatedAt, 101 * DAY));
        assert!(s.page.set_time(&s.by_updated[61], InsertedAt, 102 * DAY));
    }),
];

/// Cursors, sizes of batches, totals, messages.
pub const BATCHES: &[Form] = &[
    messages("cursor in mid-list empty", |s| s.switch(|s| s.middle_cursor = LostCursor::Empty)),
    form("cursor in mid-list first batch", |s| s.switch(|s| s.middle_cursor = LostCursor::FirstPage)),
    form("cursor in mid-list HTTP 500", |s| s.switch(|s| s.middle_cursor = LostCursor::Http500)),
    form("cursor in mid-list refused", |s| s.switch(|s| s.middle_cursor = LostCursor::SuccessFalse)),
    messages("cursor in mid-list empty, as seen", |s| {
        s.shop.simulator.as_seen();
        s.switch(|s| s.middle_cursor = LostCursor::Empty);
    }),
    form("cursor in mid-list empty, all windows refused", |s| {
        s.switch(|s| (s.middle_cursor, s.windows, s.lone_bound) = (LostCursor::Empty, Refused, Refused));
    }),
    form("cursor forgets filters", |s| s.switch(|s| s.cursor_forgets_filters = true)),
    messages("batches of 20", |s| s.switch(|s| (s.batch, s.message_batch) = (20, 20))),
    messages("batches of 25", |s| s.switch(|s| (s.batch, s.message_batch) = (25, 25))),
    messages("later batches of 20 messages", |s| s.switch(|s| s.message_batch_later = Some(20))),
    messages("current_count rounded down", |s| s.switch(|s| s.current_count = CountReading::RoundDown)),
    messages("current_count rounded up", |s| s.switch(|s| s.current_count = CountReading::RoundUp)),
    messages("current_count rounded to the nearest", |s| {
        s.switch(|s| s.current_count = CountReading::Nearest)
    }),
    messages("messages descending", |s| s.switch(|s| s.message_order = MessageOrder::Descending)),
    messages("messages descending and rounded", |s| {
        s.switch(|s| {
            (s.message_order, s.current_count) = (MessageOrder::Descending, CountReading::RoundDown);
        });
    }),
    form("total of the batch", |s| s.switch(|s| s.total = TotalReading::OfBatch)),
    form("no total", |s| s.switch(|s| s.total = TotalReading::Missing)),
    form("no total, month refused", |s| {
        s.switch(|s| (s.total, s.wide_window) = (TotalReading::Missing, Refused));
    }),
    form("total of the batch, month empty", |s| {
        s.switch(|s| (s.total, s.wide_window) = (TotalReading::OfBatch, Empty));
    }),
];
