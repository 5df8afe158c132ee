//! This module implements ANALYZE: a sample of the page within a small budget of requests. How it
//! is drawn: `pancake::scan::sample`.

use std::sync::Arc;

use pancake::error::Result;
use pancake::memory;
use pancake::scan::sample::{BUDGET, Sample};
use pgrx::{pg_guard, pg_sys};

use crate::fdw::session::{session, wanted};
use crate::fdw::slot::ColumnWriter;
use crate::pg::catalog::ForeignTable;
use crate::pg::report::OrRaise;
use crate::pg::worker::Worker;

#[pg_guard]
pub unsafe extern "C-unwind" fn analyze_foreign_table(
    relation: pg_sys::Relation,
    function: *mut pg_sys::AcquireSampleRowsFunc,
    pages: *mut pg_sys::BlockNumber,
) -> bool {
    // SAFETY: ANALYZE holds the relation open.
    let table = ForeignTable::read(unsafe { (*relation).rd_id }).or_raise();
    if table.table.object.needs_conversation() {
        // Of all conversations at once there is no sample; Postgres warns that it skips the table.
        return false;
    }
    // SAFETY: both are out parameters of Postgres. A table has no disk pages here; what is read is
    // counted in requests.
    unsafe {
        *function = Some(acquire_sample_rows);
        *pages = BUDGET as u32;
    }
    true
}

#[pg_guard]
unsafe extern "C-unwind" fn acquire_sample_rows(
    relation: pg_sys::Relation,
    _level: i32,
    rows: *mut pg_sys::HeapTuple,
    wanted_rows: i32,
    total: *mut f64,
    dead: *mut f64,
) -> i32 {
    // SAFETY: ANALYZE holds the relation open.
    let (table_id, descriptor) = unsafe { ((*relation).rd_id, (*relation).rd_att) };
    let table = ForeignTable::read(table_id).or_raise();
    let mut writers: Vec<ColumnWriter> = table.columns.iter().cloned().map(ColumnWriter::new).collect();
    let sample = read(&table, &writers).or_raise();
    let count = sample.rows.len().min(wanted_rows.max(0) as usize);
    for (place, row) in sample.rows.iter().take(count).enumerate() {
        memory::probe_decoding(row.cells.size(), 1).or_raise();
        // SAFETY: the descriptor has as many attributes as the two arrays, and the output room for
        // every wanted row.
        unsafe {
            let width = (*descriptor).natts as usize;
            let (mut values, mut nulls) = (vec![pg_sys::Datum::from(0); width], vec![true; width]);
            for (writer, cell) in writers.iter_mut().zip(&row.cells) {
                let at = (writer.column.number - 1) as usize;
                if let Some(datum) = writer.datum(cell, &row.id).or_raise() {
                    (values[at], nulls[at]) = (datum, false);
                }
            }
            *rows.add(place) = pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        }
    }
    // SAFETY: both are out parameters of Postgres.
    unsafe {
        *total = sample.total;
        *dead = 0.0;
    }
    count as i32
}

fn read(table: &ForeignTable, writers: &[ColumnWriter]) -> Result<Sample> {
    // SAFETY: reads a variable of the backend.
    let user = unsafe { pg_sys::GetUserId() };
    let wanted = wanted(table, writers)?;
    let session = session(table, user, Arc::default())?;
    Worker::get()?.finish(async move { session.sample(&wanted).await })?
}
