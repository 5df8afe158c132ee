//! This module implements `pancake.doctor(server)`: what keeps the page from being asked, or what
//! the examination in `pancake::doctor` found. Only that there is no such server is an
//! error.

use std::ffi::CStr;
use std::sync::Arc;

use pancake::doctor::{Examination, Finding, PAGES, prescribe};
use pancake::error::{Error, Kind, Result};
use pancake::options::table::{ServerOptions, TableOptions};
use pancake::schema::catalogue::Object;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};

use crate::fdw::session::session;
use crate::pg::catalog::{ForeignTable, given, role_name};
use crate::pg::compat::may_use_server;
use crate::pg::nodes::{c_string, identifier, text};
use crate::pg::report::OrRaise;
use crate::pg::worker::Worker;

/// `pancake.doctor`, given the pages that tables of the server name.
#[pg_extern(sql = false)]
fn pancake_fdw_doctor(
    server: &CStr,
    pages: Vec<String>,
) -> TableIterator<
    'static,
    (
        name!(item, &'static str),
        name!(status, &'static str),
        name!(detail, String),
        name!(hint, Option<String>),
    ),
> {
    let findings = examine(&server.to_string_lossy(), &pages).or_raise();
    TableIterator::new(findings.into_iter().map(|f| (f.item, f.status.text(), f.detail, f.hint)))
}

fn examine(name: &str, pages: &[String]) -> Result<Vec<Finding>> {
    // SAFETY: raises where there is no such server; the wrapper of a server is there, and its
    // handler's name, null where it has none, as well.
    let (server, handler) = unsafe {
        let server = &*pg_sys::GetForeignServerByName(c_string(name).as_ptr(), false);
        let wrapper = &*pg_sys::GetForeignDataWrapper(server.fdwid);
        (server, text(pg_sys::get_func_name(wrapper.fdwhandler)))
    };
    if handler != "pancake_fdw_handler" {
        return Err(Error::new(Kind::BadDefinition, format!("server \"{name}\" is not a server of pancake_fdw"))
            .hint("Its servers: SELECT srvname FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw WHERE fdwname = 'pancake_fdw';"));
    }
    Ok(page_of(name, server, pages).unwrap_or_else(|finding| vec![finding]))
}

/// Examines the page of the server, else the first of the pages that its tables name.
fn page_of(name: &str, server: &pg_sys::ForeignServer, pages: &[String]) -> Result<Vec<Finding>, Finding> {
    const SERVER: &str = "server";
    // SAFETY: reads a variable of the backend.
    let user = unsafe { pg_sys::GetUserId() };
    if !may_use_server(server.serverid, user) {
        let (server, role) = (identifier(name), identifier(&role_name(user)));
        return Err(Finding::fail(SERVER, format!("permission denied for foreign server {server}"))
            .hint(format!("GRANT USAGE ON FOREIGN SERVER {server} TO {role};")));
    }
    let told = |item| move |error: Error| Finding::of_error(&error, item);
    let options = given(server.options);
    let is_set = |name: &str| options.iter().any(|(option, _)| option == name);
    let mut whole_page = vec![("object".to_owned(), "conversations".to_owned())];
    let mut whose = None;
    if !is_set("page_id") {
        let first = pages.first().ok_or_else(|| {
            Finding::fail("page", "the server names no page, nor does any table of it").hint(format!(
                "ALTER SERVER {0} OPTIONS (ADD page_id '…'); or name the page where tables are made: \
                 IMPORT FOREIGN SCHEMA pancake FROM SERVER {0} INTO … OPTIONS (page_id '…');",
                identifier(name)
            ))
        })?;
        whole_page.push(("page_id".to_owned(), first.clone()));
        whose = Some(match pages.len() {
            1 => "the server names no page, and all tables of it that do name this one".to_owned(),
            many => {
                format!("the server names no page, and this is the first of the {many} that its tables name")
            }
        });
    }
    let table = ForeignTable {
        server_id: server.serverid,
        server_name: name.to_owned(),
        server_owner: server.owner,
        server: ServerOptions::read(&options).map_err(told(SERVER))?,
        table: TableOptions::read(&options, &whole_page).map_err(told(SERVER))?,
        columns: Vec::new(),
    };
    let session = session(&table, user, Arc::default()).map_err(told(SERVER))?;
    let pushdown = table.table.pushdown.clone();
    let examination = async move { session.examine(&pushdown).await };
    let Examination { mut findings, is_cut_short } =
        Worker::get().and_then(|worker| worker.finish(examination)).map_err(told(SERVER))?;
    if let Some(page) = findings.iter_mut().find(|finding| finding.item == "page")
        && let Some(whose) = whose
    {
        *page = page.clone().also(whose);
    }
    if !is_cut_short {
        findings.push(pages_of(&table, user));
    }
    prescribe(&mut findings, &identifier(name), &table.table.pushdown, is_set("pushdown"));
    Ok(findings)
}

/// The user's list of pages, if the mapping has the token for it.
fn pages_of(table: &ForeignTable, user: pg_sys::Oid) -> Finding {
    let failed = |error: Error| Finding { item: PAGES, ..Finding::of_error(&error, PAGES) };
    let page_id = table.table.page_id.clone().unwrap_or_default();
    let pages = ForeignTable {
        table: TableOptions { object: Object::Pages, page_id: None, ..table.table.clone() },
        ..table.clone()
    };
    let session = match session(&pages, user, Arc::default()) {
        Ok(session) => session,
        Err(error) if error.kind() == Kind::NoToken => {
            let why = "not examined: the user mapping has no access_token, which only the table pages needs";
            return Finding::ok(PAGES, why);
        }
        Err(error) => return failed(error),
    };
    let examination = async move { session.examine_pages(&page_id).await };
    Worker::get().and_then(|worker| worker.finish(examination)).unwrap_or_else(failed)
}
