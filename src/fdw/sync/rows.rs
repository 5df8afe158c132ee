//! This module reads the head of a list and writes a batch, whatever the types of their rows. In
//! PL/pgSQL each page's row type would compile them again, at 0.25 MB a page.

use std::sync::atomic::Ordering::Relaxed;

use pancake::error::{Error, Kind, Result};
use pancake::sync::frozen::Frozen;
use pancake::sync::head::{Head, HeadRow, Next};
use pancake::time::Micros;
use pgrx::datum::{AnyArray, AnyElement, DatumWithOid, FromDatum, TimestampWithTimeZone};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::spi::{Spi, SpiClient, SpiResult};
use pgrx::{PgMemoryContexts, name, pg_extern, pg_sys};

use crate::fdw::functions::{micros, server_time, time};
use crate::fdw::outcome::RECEIVED;
use crate::pg::report::OrRaise;
use crate::pg::scope::SettingsScope;

/// `pancake_internal.sync_write(batch, ids, witnesses, look, changed, upsert)`: writes a batch.
/// Nothing is written if none of the witnesses is left: then the marks that this batch goes by
/// belong to rows that are not there any more.
#[pg_extern(sql = false)]
fn pancake_fdw_sync_write(
    batch: Option<AnyArray>,
    ids: Option<AnyArray>,
    witnesses: Option<AnyArray>,
    look: &str,
    changed: &str,
    upsert: &str,
) -> TableIterator<
    'static,
    (name!(alive, bool), name!(existing, Option<i64>), name!(changed, i64), name!(written, i64)),
> {
    let texts = |array: Option<AnyArray>| {
        // SAFETY: an argument of this type.
        unsafe { DatumWithOid::new(array.map(|array| array.datum()), pg_sys::TEXTARRAYOID) }
    };
    let row = Spi::connect_mut(|client| -> SpiResult<_> {
        let looked = client.update(look, Some(1), &[texts(ids), texts(witnesses)])?.first();
        let (alive, existing) = looked.get_two::<bool, i64>()?;
        let alive = witnesses.is_none() || alive == Some(true);
        let (true, Some(batch), Some(_)) = (alive, batch, ids) else { return Ok((alive, existing, 0, 0)) };
        let replied_at = time(Some(server_time()));
        // SAFETY: an argument of that type.
        let rows = || unsafe { DatumWithOid::new(batch.datum(), batch.oid()) };
        let changed = match existing {
            None | Some(0) => 0,
            Some(_) => {
                // The types of the target are named as they are under this search_path.
                let _scope = SettingsScope::internal();
                let count = client.update(changed, Some(1), &[rows(), replied_at.into()])?.first();
                count.get_one::<i64>()?.unwrap_or_default()
            }
        };
        let written = client.update(upsert, None, &[rows(), replied_at.into()])?.len();
        Ok((alive, existing, changed, written as i64))
    });
    TableIterator::once(row.unwrap_or_report())
}

/// `pancake_internal.sync_head(kind, list, unlike, most, is_delta)`: reads the head of a list.
/// `list` gives row, id, at, is_due and is_wanted; rows and ids are those wanted, times and due
/// those read.
/// `unlike` counts how many of some rows differ from the copy.
#[pg_extern(sql = false)]
#[expect(clippy::type_complexity, reason = "the columns of a function")]
fn pancake_fdw_sync_head(
    _kind: Option<AnyElement>,
    list: &str,
    unlike: &str,
    most: i64,
    is_delta: bool,
    fcinfo: pg_sys::FunctionCallInfo,
) -> TableIterator<
    'static,
    (
        name!(rows, Option<AnyArray>),
        name!(ids, Vec<Option<String>>),
        name!(times, Vec<Option<TimestampWithTimeZone>>),
        name!(due, Vec<Option<bool>>),
        name!(lowest, Option<TimestampWithTimeZone>),
        name!(newest, Option<TimestampWithTimeZone>),
    ),
> {
    // SAFETY: the call that is executed.
    let kind = unsafe { pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, 0) };
    let types = [kind, pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID, pg_sys::BOOLOID, pg_sys::BOOLOID];
    let mut head = Head::new(usize::try_from(most).unwrap_or(usize::MAX), is_delta);
    let mut wanted = WantedRows::new();
    let read = Spi::connect_mut(|client| -> SpiResult<()> {
        let cursor = Cursor::open(list);
        cursor.check_types(&types).or_raise();
        loop {
            match head.next(RECEIVED.load(Relaxed) as usize, server_time()) {
                Next::FetchRow => head.fetched(cursor.fetch(|row| {
                    let is_wanted = row.get::<bool>(5) == Some(true);
                    if is_wanted {
                        wanted.push(row);
                    }
                    HeadRow { at: row.time(3), is_due: row.get(4), is_wanted }
                })),
                Next::Compare(rows) => head.compared(wanted.differ(client, unlike, rows)?),
                Next::End => return Ok(()),
            }
        }
    });
    read.unwrap_or_report();
    let times = head.rows().iter().map(|row| time(row.at)).collect();
    let due = head.rows().iter().map(|row| row.is_due).collect();
    let rows = wanted.rows(wanted.datums.len());
    TableIterator::once((rows, wanted.ids, times, due, time(head.lowest()), time(head.newest())))
}

/// A query whose rows are fetched one by one, planned for a few of them.
struct Cursor(pg_sys::Portal);

impl Drop for Cursor {
    fn drop(&mut self) {
        // After an error the transaction closes it.
        if !std::thread::panicking() {
            // SAFETY: the portal that was opened.
            unsafe { pg_sys::SPI_cursor_close(self.0) };
        }
    }
}

impl Cursor {
    fn open(query: &str) -> Self {
        let options = pg_sys::SPIParseOpenOptions {
            params: std::ptr::null_mut(),
            cursorOptions: pg_sys::CURSOR_OPT_FAST_PLAN as i32,
            read_only: false,
        };
        // A text of Postgres holds no NUL.
        let query = std::ffi::CString::new(query).unwrap_or_default();
        // SAFETY: inside of a connection to SPI; Postgres copies the query.
        Self(unsafe { pg_sys::SPI_cursor_parse_open(std::ptr::null(), query.as_ptr(), &options) })
    }

    /// Any role may call the function with a query of its own.
    fn check_types(&self, types: &[pg_sys::Oid]) -> Result<()> {
        // SAFETY: the open portal of a query.
        let columns = unsafe { (*self.0).tupDesc };
        let has = |place: usize, kind: pg_sys::Oid| {
            // SAFETY: a column that is not there has no type.
            unsafe { pg_sys::SPI_gettypeid(columns, place as i32 + 1) == kind }
        };
        if !columns.is_null() && types.iter().enumerate().all(|(place, kind)| has(place, *kind)) {
            return Ok(());
        }
        Err(Error::new(Kind::BadColumnType, "the query of a list has columns of other types"))
    }

    /// Returns what `read` makes of the next row; None if none is left.
    fn fetch<T>(&self, read: impl FnOnce(&FetchedRow) -> T) -> Option<T> {
        // SAFETY: the open portal; the row lies in SPI's memory until it is freed below.
        unsafe {
            pg_sys::SPI_cursor_fetch(self.0, true, 1);
            let table = pg_sys::SPI_tuptable;
            let row = (pg_sys::SPI_processed > 0).then(|| read(&FetchedRow { table }));
            pg_sys::SPI_freetuptable(table);
            row
        }
    }
}

/// Returns the conversations of a list that show a time before `first_since`, and have moved after
/// it.
pub fn read_frozen(list: &str, first_since: Micros) -> Vec<String> {
    let _settings = SettingsScope::set(&[
        (c"pancake_fdw.order_by", c"updated_at"),
        (c"pancake_fdw.max_concurrency", c"1"),
    ]);
    let mut frozen = Frozen::new(first_since);
    let read = Spi::connect_mut(|_| -> SpiResult<()> {
        let cursor = Cursor::open(&format!("SELECT c.id::text, c.updated_at FROM {list} AS c"));
        while !frozen.is_over()
            && let Some((id, at)) = cursor.fetch(|row| (row.get::<String>(1), row.time(2)))
        {
            frozen.push(id.unwrap_or_default(), at);
        }
        Ok(())
    });
    read.unwrap_or_report();
    frozen.into_ids()
}

/// The one row of a fetch.
struct FetchedRow {
    table: *mut pg_sys::SPITupleTable,
}

impl FetchedRow {
    fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the table holds a row, and the query has that column.
        let datum = unsafe {
            pg_sys::SPI_getbinval(*(*self.table).vals, (*self.table).tupdesc, column, &mut is_null)
        };
        (!is_null).then_some(datum)
    }

    fn get<T: FromDatum>(&self, column: i32) -> Option<T> {
        // SAFETY: the query has values of this type there.
        self.datum(column).and_then(|datum| unsafe { T::from_datum(datum, false) })
    }

    fn time(&self, column: i32) -> Option<Micros> {
        micros(self.get::<TimestampWithTimeZone>(column))
    }

    fn type_of(&self, column: i32) -> pg_sys::Oid {
        // SAFETY: as above.
        unsafe { pg_sys::SPI_gettypeid((*self.table).tupdesc, column) }
    }
}

/// The rows that are to be copied, as values of their type.
struct WantedRows {
    /// Outlives the connection to SPI.
    memory: PgMemoryContexts,
    kind: pg_sys::Oid,
    datums: Vec<pg_sys::Datum>,
    ids: Vec<Option<String>>,
}

impl WantedRows {
    fn new() -> Self {
        // SAFETY: the context of the call.
        let memory = PgMemoryContexts::For(unsafe { pg_sys::CurrentMemoryContext });
        Self { memory, kind: pg_sys::InvalidOid, datums: Vec::new(), ids: Vec::new() }
    }

    fn push(&mut self, row: &FetchedRow) {
        self.kind = row.type_of(1);
        let Some(datum) = row.datum(1) else { return };
        // SAFETY: the value is a text or a row, both of variable length. It is copied into the
        // memory of the call.
        self.datums.push(unsafe { pg_sys::SPI_datumTransfer(datum, false, -1) });
        self.ids.push(row.get(2));
    }

    /// Returns the last ones as an array; None if there are no rows.
    fn rows(&mut self, last: usize) -> Option<AnyArray> {
        if self.datums.is_empty() {
            return None;
        }
        let from = self.datums.len().saturating_sub(last);
        let (mut length, mut by_value, mut align) = (0, false, 0);
        let (kind, datums) = (self.kind, &mut self.datums[from..]);
        // SAFETY: values of that type, in the context that the array is made in.
        unsafe {
            pg_sys::get_typlenbyvalalign(kind, &mut length, &mut by_value, &mut align);
            let count = datums.len() as i32;
            let array = self.memory.switch_to(|_| {
                pg_sys::construct_array(datums.as_mut_ptr(), count, kind, length.into(), by_value, align)
            });
            AnyArray::from_polymorphic_datum(array.into(), false, pg_sys::get_array_type(kind))
        }
    }

    fn differ(&mut self, client: &mut SpiClient, unlike: &str, last: usize) -> SpiResult<bool> {
        let Some(rows) = self.rows(last).filter(|_| last > 0) else { return Ok(false) };
        // SAFETY: an array of that type.
        let rows = unsafe { DatumWithOid::new(rows.datum(), rows.oid()) };
        let differing = client.update(unlike, Some(1), &[rows, time(Some(server_time())).into()])?;
        Ok(differing.first().get_one::<i64>()?.unwrap_or(0) > 0)
    }
}
