//! This module checks options when an object is created or altered. What is valid:
//! `pancake::options::table`; which roles may set it is checked here.

use pancake::error::{Error, Kind, Result};
use pancake::options::table::{self, Permission, Place};
use pancake::url::BaseUrl;
use pgrx::{AnyArray, pg_extern, pg_sys};

use crate::pg::catalog::{OptionList, given_array, may_read_server_files};
use crate::pg::report::OrRaise;

/// `pancake.pancake_fdw_validator(text[], oid)`: the whole list of options as it will be, and the
/// catalog it is for.
#[pg_extern(sql = false)]
fn pancake_fdw_validator(options: AnyArray, catalog: pg_sys::Oid) {
    if let Some(place) = place(catalog.to_u32()) {
        validate(place, &given_array(options.datum())).or_raise();
    }
}

fn place(catalog: u32) -> Option<Place> {
    Some(match catalog {
        c if c == pg_sys::ForeignDataWrapperRelationId.to_u32() => Place::Wrapper,
        c if c == pg_sys::ForeignServerRelationId.to_u32() => Place::Server,
        c if c == pg_sys::UserMappingRelationId.to_u32() => Place::UserMapping,
        c if c == pg_sys::ForeignTableRelationId.to_u32() => Place::Table,
        c if c == pg_sys::AttributeRelationId.to_u32() => Place::Column,
        _ => return None,
    })
}

fn validate(place: Place, given: &OptionList) -> Result<()> {
    for (name, value) in given {
        let option = table::validate(place, name, value)?;
        let default_url = name == "base_url" && BaseUrl::parse(value).is_ok_and(|url| url.is_default());
        if !default_url {
            permitted(name, if name == "base_url" { Permission::Superuser } else { option.permission })?;
        }
    }
    let has = |name: &str| given.iter().any(|(n, _)| n == name);
    match place {
        Place::Table if !has("object") => Err(Error::new(Kind::MissingOption, "option \"object\" is required")
            .hint("Say what the table holds, for example OPTIONS (object 'conversations'), or use IMPORT FOREIGN SCHEMA.")),
        Place::UserMapping if has("page_access_token") && has("page_access_token_file") => {
            Err(Error::new(Kind::BadOption, "options page_access_token and page_access_token_file exclude each other")
                .hint("Keep the one of them that is meant."))
        }
        _ => Ok(()),
    }
}

fn permitted(name: &str, permission: Permission) -> Result<()> {
    // SAFETY: reads a variable of the backend, and looks a role up.
    let (user, superuser) = unsafe { (pg_sys::GetUserId(), pg_sys::superuser()) };
    let refused = |who: &str, why: &str| {
        Error::new(Kind::NotPermitted, format!("only {who} may set option \"{name}\""))
            .detail(why)
            .hint("A server or user mapping that has such an option is created and altered, as a whole, by such roles.")
    };
    match permission {
        Permission::Superuser if !superuser => {
            Err(refused("superusers", "It decides where the page access tokens of other roles are sent."))
        }
        Permission::ReadServerFiles if !may_read_server_files(user) => Err(refused(
            "roles with the privileges of pg_read_server_files",
            "It names a file on the database server.",
        )),
        _ => Ok(()),
    }
}
