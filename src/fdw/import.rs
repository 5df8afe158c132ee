//! This module implements IMPORT FOREIGN SCHEMA pancake: a CREATE FOREIGN TABLE for each object of
//! the catalogue.

use pancake::error::{Error, Kind, Result};
use pancake::options::suggest::closest;
use pancake::options::table::{self, Place};
use pancake::schema::catalogue::Object;
use pgrx::{pg_guard, pg_sys};

use crate::pg::catalog::{OptionList, given};
use crate::pg::nodes::{c_string, identifier, list, text, to_list};
use crate::pg::report::OrRaise;

const SCHEMA: &str = "pancake";
/// The options that IMPORT takes: they are written on each table.
const ALLOWED: [&str; 2] = ["page_id", "pushdown"];

#[pg_guard]
pub unsafe extern "C-unwind" fn import_foreign_schema(
    statement: *mut pg_sys::ImportForeignSchemaStmt,
    _server: pg_sys::Oid,
) -> *mut pg_sys::List {
    // SAFETY: Postgres passes the statement that it runs.
    let statement = unsafe { &*statement };
    let named: Vec<String> =
        // SAFETY: LIMIT TO and EXCEPT are lists of RangeVar.
        list(statement.table_list).into_iter().map(|t: *mut pg_sys::RangeVar| text(unsafe { (*t).relname })).collect();
    let limit = match statement.list_type {
        pg_sys::ImportForeignSchemaType::FDW_IMPORT_SCHEMA_LIMIT_TO => Limit::To(named),
        pg_sys::ImportForeignSchemaType::FDW_IMPORT_SCHEMA_EXCEPT => Limit::Except(named),
        _ => Limit::None,
    };
    let server = text(statement.server_name);
    let commands =
        commands(&text(statement.remote_schema), &server, &limit, &given(statement.options)).or_raise();
    // SAFETY: the strings end with NUL; pstrdup copies them into the current context.
    let copies: Vec<_> =
        commands.iter().map(|sql| unsafe { pg_sys::pstrdup(c_string(sql).as_ptr()) }).collect();
    to_list(&copies)
}

enum Limit {
    None,
    To(Vec<String>),
    Except(Vec<String>),
}

fn commands(schema: &str, server: &str, limit: &Limit, given: &OptionList) -> Result<Vec<String>> {
    if schema != SCHEMA {
        return Err(Error::new(Kind::PageNotFound, format!("no foreign schema \"{schema}\"")).hint(format!(
            "The one schema of a Pancake server is \"{SCHEMA}\": IMPORT FOREIGN SCHEMA {SCHEMA} FROM SERVER … INTO …;"
        )));
    }
    for (name, value) in given {
        if !ALLOWED.contains(&name.as_str()) {
            let closest = closest(name, &ALLOWED).map(|c| format!("Perhaps you meant \"{c}\". "));
            let hint =
                format!("{}IMPORT takes the options {}.", closest.unwrap_or_default(), ALLOWED.join(", "));
            return Err(Error::new(Kind::UnknownOption, format!("invalid option \"{name}\"")).hint(hint));
        }
        table::validate(Place::Table, name, value)?;
    }
    if let Limit::To(names) | Limit::Except(names) = limit {
        names.iter().try_for_each(|name| known(name))?;
    }
    let wanted = |object: &&Object| match limit {
        Limit::None => true,
        Limit::To(names) => names.iter().any(|name| name == object.name()),
        Limit::Except(names) => names.iter().all(|name| name != object.name()),
    };
    Ok(Object::ALL.iter().filter(wanted).map(|object| create(*object, server, given)).collect())
}

fn known(name: &str) -> Result<()> {
    if Object::by_name(name).is_some() {
        return Ok(());
    }
    let names: Vec<_> = Object::ALL.iter().map(|object| object.name()).collect();
    let closest = closest(name, &names).map(|c| format!("Perhaps you meant \"{c}\". ")).unwrap_or_default();
    Err(Error::new(Kind::PageNotFound, format!("no foreign table \"{name}\" in schema \"{SCHEMA}\""))
        .hint(format!("{closest}The tables are: {}.", names.join(", "))))
}

fn create(object: Object, server: &str, given: &OptionList) -> String {
    let column = |column: &pancake::schema::column::Column| {
        let not_null = if column.not_null { " NOT NULL" } else { "" };
        format!("{} {}{not_null}", identifier(column.name), column.of.sql())
    };
    let columns: Vec<_> = object.columns().iter().map(column).collect();
    let literal = |value: &str| format!("'{}'", value.replace('\'', "''"));
    let mut options = vec![format!("object {}", literal(object.name()))];
    // The pages are a user's, not a page's.
    let given = given.iter().filter(|(name, _)| object.needs_page() || name != "page_id");
    options.extend(given.map(|(name, value)| format!("{name} {}", literal(value))));
    format!(
        "CREATE FOREIGN TABLE {} ({}) SERVER {} OPTIONS ({})",
        identifier(object.name()),
        columns.join(", "),
        identifier(server),
        options.join(", ")
    )
}
