//! This module reads servers, tables, columns and user mappings from the catalogs. What options
//! mean: `pancake::options::table`.

use pancake::error::{Error, Kind, Result, quote};
use pancake::options::table::{ServerOptions, TableOptions};
use pancake::options::token_file;
use pancake::schema::catalogue::Object;
use pancake::secret::Secret;
use pgrx::{PgRelation, PgTupleDesc, pg_sys};

use crate::pg::nodes::{c_string, identifier, list, text};

/// Options as the catalog holds them.
pub type OptionList = Vec<(String, String)>;

/// Names and values of a list of DefElem.
pub fn given(options: *mut pg_sys::List) -> OptionList {
    let pair = |option: *mut pg_sys::DefElem| {
        // SAFETY: the list holds DefElem nodes, and option values are strings.
        unsafe { (text((*option).defname), text(pg_sys::defGetString(option))) }
    };
    list(options).into_iter().map(pair).collect()
}

/// A text[] of options, as catalogs and validators hold them.
pub fn given_array(options: pg_sys::Datum) -> OptionList {
    // SAFETY: the datum is a text[] of name=value pairs, or null, which untransformRelOptions
    // allows.
    given(unsafe { pg_sys::untransformRelOptions(options) })
}

/// One column of a foreign table as it was declared.
#[derive(Clone, Debug)]
pub struct DeclaredColumn {
    pub number: i16,
    pub name: String,
    pub type_id: pg_sys::Oid,
    pub type_modifier: i32,
    pub path: Option<String>,
}

/// A foreign table of ours, with the options of its server.
#[derive(Clone)]
pub struct ForeignTable {
    pub server_id: pg_sys::Oid,
    pub server_name: String,
    pub server_owner: pg_sys::Oid,
    pub server: ServerOptions,
    pub table: TableOptions,
    pub columns: Vec<DeclaredColumn>,
}

impl ForeignTable {
    pub fn read(relation: pg_sys::Oid) -> Result<Self> {
        // SAFETY: the planner and the executor ask only for foreign tables; both calls raise where
        // the row is gone.
        let (table, server) = unsafe {
            let table = pg_sys::GetForeignTable(relation);
            (&*table, &*pg_sys::GetForeignServer((*table).serverid))
        };
        let server_options = given(server.options);
        Ok(Self {
            server_id: server.serverid,
            server_name: text(server.servername),
            server_owner: server.owner,
            server: ServerOptions::read(&server_options)?,
            table: TableOptions::read(&server_options, &given(table.options))?,
            columns: columns(relation),
        })
    }
}

/// The columns that are there, dropped ones left out.
fn columns(relation: pg_sys::Oid) -> Vec<DeclaredColumn> {
    // SAFETY: Postgres holds a lock on every relation of a query that it plans or runs.
    let open = unsafe { PgRelation::open(relation) };
    let descriptor: PgTupleDesc = open.tuple_desc();
    let live = descriptor.iter().filter(|attribute| !attribute.attisdropped);
    let column = |attribute: &pg_sys::FormData_pg_attribute| {
        // SAFETY: the attribute is one of this relation's.
        let options = given(unsafe { pg_sys::GetForeignColumnOptions(relation, attribute.attnum) });
        DeclaredColumn {
            number: attribute.attnum,
            name: attribute.name().to_owned(),
            type_id: attribute.atttypid,
            type_modifier: attribute.atttypmod,
            path: options.into_iter().find(|(name, _)| name == "path").map(|(_, path)| path),
        }
    };
    live.map(column).collect()
}

/// Customers write Vietnamese, emoji and everything else: no other encoding holds it.
pub fn must_be_utf8() -> Result<()> {
    // SAFETY: reads a variable of the backend.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    if encoding == pg_sys::pg_enc::PG_UTF8 as i32 {
        return Ok(());
    }
    Err(Error::new(Kind::BadDefinition, "database encoding must be UTF8")
        .hint("Create a database for this: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."))
}

/// A table as SQL names it wherever it stands.
pub fn table_name(relation: pg_sys::Oid) -> String {
    // SAFETY: both names are copied; what is gone has a null for a name.
    let (schema, name) = unsafe {
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        (text(schema), text(pg_sys::get_rel_name(relation)))
    };
    format!("{}.{}", identifier(&schema), identifier(&name))
}

/// The foreign table of an object that stands under the object's own name beside a table of the
/// same server.
pub fn beside(relation: pg_sys::Oid, object: Object) -> Option<pg_sys::Oid> {
    let name = c_string(object.name());
    // SAFETY: look-ups in the caches; only a foreign table is asked for its options.
    unsafe {
        let found = pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_rel_namespace(relation));
        if found == pg_sys::InvalidOid
            || pg_sys::get_rel_relkind(found) as u8 != pg_sys::RELKIND_FOREIGN_TABLE
        {
            return None;
        }
        let (table, found_table) = (&*pg_sys::GetForeignTable(relation), &*pg_sys::GetForeignTable(found));
        let is_of_it =
            given(found_table.options).iter().any(|(n, value)| n == "object" && value == object.name());
        (is_of_it && table.serverid == found_table.serverid).then_some(found)
    }
}

pub fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: with missing_ok a dropped role gives null.
    text(unsafe { pg_sys::GetUserNameFromId(role, true) })
}

/// Whether the role may read files on the server's machine.
pub fn may_read_server_files(role: pg_sys::Oid) -> bool {
    // SAFETY: look-ups of roles by id.
    unsafe {
        pg_sys::superuser_arg(role)
            || pg_sys::has_privs_of_role(role, pg_sys::ROLE_PG_READ_SERVER_FILES.into())
    }
}

/// The token with which this role reads this page.
pub fn token(table: &ForeignTable, user: pg_sys::Oid, page_id: &str) -> Result<Secret> {
    let token_name = table.table.object.token_name();
    let noun = token_name.replace('_', " ");
    let statement = || {
        let (role, server) = (identifier(&role_name(user)), identifier(&table.server_name));
        format!("CREATE USER MAPPING FOR {role} SERVER {server} OPTIONS ({token_name} '…');")
    };
    let Some((options, own)) = mapping(user, table.server_id) else {
        let message =
            format!("no user mapping for \"{}\" on server \"{}\"", role_name(user), table.server_name);
        return Err(Error::new(Kind::NoToken, message).hint(statement()));
    };
    let option = |name: &str| options.iter().find(|(n, _)| n == name).map(|(_, value)| value);
    if let Some(token) = option(token_name) {
        return Ok(Secret::new(token.trim()));
    }
    let Some(path) = option("page_access_token_file").filter(|_| table.table.object.needs_page()) else {
        let (whose, hint) = if own {
            (
                format!("\"{}\"", role_name(user)),
                statement().replacen("CREATE", "ALTER", 1).replace("OPTIONS (", "OPTIONS (ADD "),
            )
        } else {
            ("PUBLIC".to_owned(), statement())
        };
        let message = format!("user mapping for {whose} has no {noun}");
        return Err(Error::new(Kind::NoToken, message).hint(hint));
    };
    if !may_read_server_files(table.server_owner) {
        return Err(Error::new(Kind::NotPermitted, "page_access_token_file is not allowed on this server")
            .detail(format!(
                "The owner of server \"{}\" may not read files of the database server.",
                table.server_name
            ))
            .hint(
                "Grant pg_read_server_files to the server's owner, or give the server to a role that has it.",
            ));
    }
    let file = read_file(path).map_err(|error| {
        Error::new(Kind::NoToken, "cannot read the page access token file")
            .detail(format!("{}: {error}.", quote(path)))
            .hint("The file must be readable by the operating system user that runs Postgres alone.")
    })?;
    token_file::from_file(&file, page_id)
}

/// Only a regular file is read: a pipe would keep the backend waiting, deaf to a cancel.
fn read_file(path: &str) -> std::io::Result<String> {
    if std::fs::metadata(path)?.is_file() {
        std::fs::read_to_string(path)
    } else {
        Err(std::io::Error::other("it is not a regular file"))
    }
}

/// The options of the role's mapping, or of the one for PUBLIC; and whether it is the role's own.
fn mapping(user: pg_sys::Oid, server: pg_sys::Oid) -> Option<(OptionList, bool)> {
    let find = |user: pg_sys::Oid| {
        // SAFETY: the cache is keyed by these two oids; a tuple found is released below, after its
        // last use.
        let tuple = unsafe {
            pg_sys::SearchSysCache2(
                pg_sys::SysCacheIdentifier::USERMAPPINGUSERSERVER as i32,
                user.to_u32().into(),
                server.to_u32().into(),
            )
        };
        if tuple.is_null() {
            return None;
        }
        let mut is_null = false;
        // SAFETY: the tuple is of pg_user_mapping, which has this column.
        let options = unsafe {
            pg_sys::SysCacheGetAttr(
                pg_sys::SysCacheIdentifier::USERMAPPINGUSERSERVER as i32,
                tuple,
                pg_sys::Anum_pg_user_mapping_umoptions as i16,
                &mut is_null,
            )
        };
        let options = if is_null { OptionList::new() } else { given_array(options) };
        // SAFETY: the one release of the tuple found above.
        unsafe { pg_sys::ReleaseSysCache(tuple) };
        Some(options)
    };
    let own = find(user).map(|options| (options, true));
    own.or_else(|| find(pg_sys::InvalidOid).map(|options| (options, false)))
}
