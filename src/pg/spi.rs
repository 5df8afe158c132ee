//! This module executes statements through SPI, and keeps the plans of those that are executed
//! often.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::PgOid;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::spi::{OwnedPreparedStatement, Spi, SpiClient, SpiHeapTupleData, SpiResult, SpiTupleTable};

/// Statements whose plans are kept. Beyond that each is planned when it is executed.
const MOST_PREPARED: usize = 100;

thread_local! {
    /// By text. The plans live as long as the session.
    static PREPARED: RefCell<HashMap<String, &'static OwnedPreparedStatement>> = RefCell::default();
}

/// Executes a statement and returns what `read` makes of its first row; None if there is none.
pub fn first<T>(
    statement: &str,
    values: &[DatumWithOid],
    read: impl FnOnce(SpiTupleTable) -> SpiResult<T>,
) -> Option<T> {
    Spi::connect_mut(|client| first_of(client.update(statement, None, values)?, read)).unwrap_or_report()
}

/// The same, with a plan that is kept. The text of the statement does not change from one execution
/// to the next.
pub fn first_prepared<T>(
    statement: &str,
    values: &[DatumWithOid],
    read: impl FnOnce(SpiTupleTable) -> SpiResult<T>,
) -> Option<T> {
    Spi::connect_mut(|client| first_of(prepared(client, statement, values)?, read)).unwrap_or_report()
}

fn first_of<T>(
    rows: SpiTupleTable,
    read: impl FnOnce(SpiTupleTable) -> SpiResult<T>,
) -> SpiResult<Option<T>> {
    if rows.is_empty() { Ok(None) } else { read(rows.first()).map(Some) }
}

/// Executes a statement and returns how many rows it returned or changed.
pub fn execute(statement: &str, values: &[DatumWithOid]) -> u64 {
    let rows =
        Spi::connect_mut(|client| -> SpiResult<_> { Ok(client.update(statement, None, values)?.len()) });
    rows.unwrap_or_report() as u64
}

/// The same, with a plan that is kept.
pub fn execute_prepared(statement: &str, values: &[DatumWithOid]) -> u64 {
    let rows = Spi::connect_mut(|client| -> SpiResult<_> { Ok(prepared(client, statement, values)?.len()) });
    rows.unwrap_or_report() as u64
}

/// Executes a query, with a plan that is kept, and returns what `read` makes of each row.
pub fn all_prepared<T>(
    query: &str,
    values: &[DatumWithOid],
    read: impl Fn(SpiHeapTupleData) -> SpiResult<T>,
) -> Vec<T> {
    Spi::connect_mut(|client| prepared(client, query, values)?.map(read).collect::<SpiResult<_>>())
        .unwrap_or_report()
}

fn prepared<'conn>(
    client: &mut SpiClient<'conn>,
    statement: &str,
    values: &[DatumWithOid],
) -> SpiResult<SpiTupleTable<'conn>> {
    if let Some(kept) = PREPARED.with_borrow(|prepared| prepared.get(statement).copied()) {
        return client.update(kept, None, values);
    }
    if PREPARED.with_borrow(HashMap::len) >= MOST_PREPARED {
        return client.update(statement, None, values);
    }
    let types: Vec<_> = values.iter().map(|value| PgOid::from(value.oid())).collect();
    let kept: &'static _ = Box::leak(Box::new(client.prepare_mut(statement, &types)?.keep()));
    PREPARED.with_borrow_mut(|prepared| prepared.insert(statement.to_owned(), kept));
    client.update(kept, None, values)
}
