//! This module prepares what requests for the rows of a table need: the session with its token and
//! its rate limit, the cells that the columns want, and the line in `pancake.progress`.

use std::sync::Arc;

use pancake::error::{Error, Kind, Result};
use pancake::options::suggest::closest;
use pancake::reply::decode::{Source, WantedCell};
use pancake::scan::session::Session;
use pancake::stats::ScanStats;
use pgrx::pg_sys;

use crate::fdw::slot::ColumnWriter;
use crate::pg::catalog::{self, ForeignTable};
use crate::pg::settings;
use crate::pg::shared::{CLOCKS, Progress, shared};
use crate::pg::worker::Worker;

/// What requests for the rows of a table need.
pub fn session(table: &ForeignTable, user: pg_sys::Oid, tally: Arc<ScanStats>) -> Result<Session> {
    let page_id = table.table.page_id.clone().unwrap_or_default();
    let object = table.table.object;
    let token = catalog::token(table, user, &page_id)?;
    let mut server = table.server.clone();
    server.max_concurrency = server.max_concurrency.min(settings::max_concurrency());
    let limiter = shared()?
        .memory
        .page(&server.base_url, &page_id, server.requests_per_second)
        .ok_or_else(|| Error::new(Kind::NoSharedMemory, "no room in the shared rate limit"))?;
    let client = Worker::get()?.client.clone();
    let opening = Default::default();
    Ok(Session { server, object, page_id, token, limiter, tally, client, opening })
}

/// The cells that these columns need.
pub fn wanted(table: &ForeignTable, writers: &[ColumnWriter]) -> Result<Vec<WantedCell>> {
    writers.iter().map(|writer| wanted_by(table, writer)).collect()
}

fn wanted_by(table: &ForeignTable, writer: &ColumnWriter) -> Result<WantedCell> {
    let object = table.table.object;
    let (name, path) = (&writer.column.name, writer.column.path.as_deref());
    let source = Source::find(object, name, path).ok_or_else(|| {
        let names: Vec<_> = object.columns().iter().map(|column| column.name).collect();
        let perhaps =
            closest(name, &names).map(|c| format!("Perhaps you meant \"{c}\". ")).unwrap_or_default();
        Error::new(Kind::BadDefinition, format!("column \"{name}\" is not a column of {}", object.name()))
            .detail(format!("The columns are: {}.", names.join(", ")))
            .hint(format!(
                "{perhaps}To read anything else of a row, give the column the option path, \
                 such as OPTIONS (path '/page_customer/gender')."
            ))
    })?;
    Ok(WantedCell { name: name.clone(), source })
}

/// Its line in `pancake.progress`; None where all are taken.
pub fn show_progress(table: &ForeignTable, tally: &ScanStats) -> Result<Option<&'static Progress>> {
    // SAFETY: a look-up in shared memory.
    let alive = |pid: u64| unsafe { !pg_sys::BackendPidGetProc(pid as i32).is_null() };
    let Some(progress) = Progress::claim(shared()?.scans, u64::from(std::process::id()), alive) else {
        return Ok(None);
    };
    // SAFETY: variables of this backend.
    let (database, role) = unsafe { (pg_sys::MyDatabaseId, pg_sys::GetUserId()) };
    progress.database.set(u64::from(database.to_u32()));
    progress.role.set(u64::from(role.to_u32()));
    progress.object.write(table.table.object.name());
    progress.page_id.write(table.table.page_id.as_deref().unwrap_or_default());
    progress.started_at.set((CLOCKS.wall_micros)());
    progress.show(tally);
    Ok(Some(progress))
}
