//! This module lists every option of the wrapper: where it stands, what it takes, what it is by
//! default. The validator, its HINTs, the readers of servers and tables, and the table of
//! docs/reference.md all come from [`OPTIONS`].

use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::options::pushdown::PushdownOption;
use crate::options::suggest::closest;
use crate::options::units::{parse_duration, parse_size};
use crate::schema::catalogue::Object;
use crate::url::{BaseUrl, DEFAULT_BASE_URL, is_dots};

/// The things that take options. `Wrapper` takes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Wrapper,
    Server,
    UserMapping,
    Table,
    Column,
}

impl Place {
    pub fn noun(self) -> &'static str {
        match self {
            Place::Wrapper => "foreign data wrapper",
            Place::Server => "server",
            Place::UserMapping => "user mapping",
            Place::Table => "foreign table",
            Place::Column => "column",
        }
    }
}

/// The roles that may set an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    Anyone,
    Superuser,
    ReadServerFiles,
}

pub struct OptionDef {
    pub name: &'static str,
    pub places: &'static [Place],
    pub default: Option<&'static str>,
    pub permission: Permission,
    /// Returns what is wrong with a value, as the end of the sentence `"x" is not valid: …`.
    check: fn(&str) -> Result<(), String>,
}

macro_rules! options {
    ($($name:literal, [$($place:ident),+], $default:expr, $permission:ident, $check:expr;)+) => {
        pub const OPTIONS: &[OptionDef] = &[$(OptionDef {
            name: $name,
            places: &[$(Place::$place),+],
            default: $default,
            permission: Permission::$permission,
            check: $check,
        }),+];
    };
}

options! {
    "base_url", [Server], Some(DEFAULT_BASE_URL), Anyone, |v| BaseUrl::parse(v).map(drop);
    "proxy", [Server], None, Superuser, |v| BaseUrl::parse_proxy(v).map(drop);
    "page_id", [Server, Table], None, Anyone, |v| page_id(v);
    "requests_per_second", [Server], Some("4"), Anyone, |v| requests_per_second(v).map(drop);
    "max_concurrency", [Server], Some("16"), Anyone, |v| max_concurrency(v).map(drop);
    "max_retries", [Server], Some("3"), Anyone, |v| max_retries(v).map(drop);
    "request_timeout", [Server], Some("30s"), Anyone, |v| timeout(v).map(drop);
    "connect_timeout", [Server], Some("10s"), Anyone, |v| timeout(v).map(drop);
    "max_response_bytes", [Server], Some("32MB"), Anyone, |v| response_bytes(v).map(drop);
    "ca_file", [Server], None, ReadServerFiles, |v| absolute_path(v);
    "pushdown", [Server, Table], Some("all"), Anyone, |v| PushdownOption::parse(v).map(drop);
    "object", [Table], None, Anyone, |v| object(v).map(drop);
    "path", [Column], None, Anyone, |v| json_pointer(v);
    "page_access_token", [UserMapping], None, Anyone, |v| not_empty(v);
    "page_access_token_file", [UserMapping], None, ReadServerFiles, |v| absolute_path(v);
    "access_token", [UserMapping], None, Anyone, |v| not_empty(v);
}

pub fn find(name: &str) -> Option<&'static OptionDef> {
    OPTIONS.iter().find(|option| option.name == name)
}

/// Refuses an unknown name, a name out of place, or a bad value. A secret's value is never quoted.
pub fn validate(place: Place, name: &str, value: &str) -> Result<&'static OptionDef> {
    let here = || OPTIONS.iter().filter(|o| o.places.contains(&place)).map(|o| o.name).collect::<Vec<_>>();
    let Some(option) = find(name).filter(|option| option.places.contains(&place)) else {
        return Err(unknown(place, name, &here()));
    };
    (option.check)(value).map_err(|reason| {
        // An address may have been copied with the token, or the password of a proxy, in it.
        let may_be_secret = place == Place::UserMapping || value.contains(['?', '@']);
        let error = bad(option.name)(reason);
        if may_be_secret {
            error.detail("The value is not shown here.")
        } else {
            error.detail(format!("The value is \"{value}\"."))
        }
    })?;
    Ok(option)
}

fn unknown(place: Place, name: &str, here: &[&str]) -> Error {
    let error = Error::new(Kind::UnknownOption, format!("invalid option \"{name}\""));
    if let Some(elsewhere) = find(name) {
        let places: Vec<_> = elsewhere.places.iter().map(|place| place.noun()).collect();
        return error.hint(format!("The option \"{name}\" belongs to a {}.", places.join(" or a ")));
    }
    if here.is_empty() {
        return error.hint(format!("A {} takes no options.", place.noun()));
    }
    let valid = format!("Valid options of a {} are: {}.", place.noun(), here.join(", "));
    error.hint(match closest(name, here) {
        Some(closest) => format!("Perhaps you meant the option \"{closest}\". {valid}"),
        None => valid,
    })
}

fn not_empty(value: &str) -> Result<(), String> {
    if value.trim().is_empty() { Err("it must not be empty".to_owned()) } else { Ok(()) }
}

fn page_id(value: &str) -> Result<(), String> {
    let reason = match () {
        () if value.trim().is_empty() => "it must not be empty",
        () if value.contains(char::is_whitespace) => "the id of a page has no blanks",
        () if is_dots(value) => "it is not the id of a page",
        () => return Ok(()),
    };
    Err(format!("{reason}; the foreign table pages lists the ids of a user's pages"))
}

fn absolute_path(value: &str) -> Result<(), String> {
    if value.starts_with('/') {
        Ok(())
    } else {
        Err("it must be an absolute path on the database server".to_owned())
    }
}

fn json_pointer(value: &str) -> Result<(), String> {
    if value.is_empty() || value.starts_with('/') {
        Ok(())
    } else {
        Err("it must be a JSON pointer, such as \"/page_customer/gender\"".to_owned())
    }
}

fn whole(value: &str, low: u32, high: u32) -> Result<u32, String> {
    let number = value.trim().parse().ok().filter(|n| (low..=high).contains(n));
    number.ok_or_else(|| format!("it must be a whole number from {low} to {high}"))
}

fn max_concurrency(value: &str) -> Result<u32, String> {
    whole(value, 1, 64)
}

fn max_retries(value: &str) -> Result<u32, String> {
    whole(value, 0, 10)
}

fn requests_per_second(value: &str) -> Result<f64, String> {
    let number = value.trim().parse().ok().filter(|n: &f64| (0.01..=100_000.0).contains(n));
    number.ok_or_else(|| "it must be a number from 0.01 to 100000".to_owned())
}

fn timeout(value: &str) -> Result<Duration, String> {
    let duration = parse_duration(value)?;
    let fits = duration >= Duration::from_millis(1) && duration <= Duration::from_secs(86_400);
    fits.then_some(duration).ok_or_else(|| "it must be from 1ms to 1d".to_owned())
}

fn response_bytes(value: &str) -> Result<usize, String> {
    let bytes = parse_size(value)?;
    ((1 << 10)..=(1 << 30))
        .contains(&bytes)
        .then_some(bytes)
        .ok_or_else(|| "it must be from 1kB to 1GB".to_owned())
}

fn object(value: &str) -> Result<Object, String> {
    Object::by_name(value).ok_or_else(|| {
        let names: Vec<_> = Object::ALL.iter().map(|object| object.name()).collect();
        match closest(value, &names) {
            Some(closest) => {
                format!("perhaps you meant \"{closest}\"; it must be one of {}", names.join(", "))
            }
            None => format!("it must be one of {}", names.join(", ")),
        }
    })
}

/// The options of a server, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerOptions {
    pub base_url: BaseUrl,
    pub proxy: Option<String>,
    pub requests_per_second: f64,
    pub max_concurrency: u32,
    pub max_retries: u32,
    pub request_timeout: Duration,
    pub connect_timeout: Duration,
    pub max_response_bytes: usize,
    pub ca_file: Option<String>,
}

/// The options of a table; those that it does not set are the server's.
#[derive(Clone, Debug, PartialEq)]
pub struct TableOptions {
    pub object: Object,
    pub page_id: Option<String>,
    pub pushdown: PushdownOption,
}

/// Options as the catalog holds them.
pub type OptionList = [(String, String)];

fn given<'a>(options: &'a OptionList, name: &str) -> Option<&'a str> {
    options.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// The value that is set, else the default.
fn parsed<T>(
    options: &OptionList,
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T> {
    let default = find(name).and_then(|option| option.default);
    let value = given(options, name).or(default);
    let value =
        value.ok_or_else(|| Error::new(Kind::MissingOption, format!("option \"{name}\" is required")))?;
    parse(value).map_err(bad(name))
}

fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}

fn bad(name: &'static str) -> impl FnOnce(String) -> Error {
    move |reason| {
        Error::new(Kind::BadOption, format!("invalid value for option \"{name}\"")).hint(sentence(&reason))
    }
}

impl ServerOptions {
    pub fn read(server: &OptionList) -> Result<Self> {
        Ok(Self {
            base_url: parsed(server, "base_url", BaseUrl::parse)?,
            proxy: given(server, "proxy").map(str::to_owned),
            requests_per_second: parsed(server, "requests_per_second", requests_per_second)?,
            max_concurrency: parsed(server, "max_concurrency", max_concurrency)?,
            max_retries: parsed(server, "max_retries", max_retries)?,
            request_timeout: parsed(server, "request_timeout", timeout)?,
            connect_timeout: parsed(server, "connect_timeout", timeout)?,
            max_response_bytes: parsed(server, "max_response_bytes", response_bytes)?,
            ca_file: given(server, "ca_file").map(str::to_owned),
        })
    }
}

impl TableOptions {
    pub fn read(server: &OptionList, table: &OptionList) -> Result<Self> {
        let object = given(table, "object").ok_or_else(|| {
            let names: Vec<_> = Object::ALL.iter().map(|object| object.name()).collect();
            Error::new(Kind::MissingOption, "option \"object\" is required").hint(format!(
                "Say what the table holds: OPTIONS (object '…') with one of {}.",
                names.join(", ")
            ))
        })?;
        let object = self::object(object).map_err(bad("object"))?;
        let page_id = given(table, "page_id").or(given(server, "page_id")).map(str::to_owned);
        if page_id.is_none() && object.needs_page() {
            return Err(Error::new(Kind::MissingOption, "option \"page_id\" is required")
                .detail(format!("Neither the server nor the foreign table has the option page_id, which {} need.", object.name()))
                .hint("Set it on the server: ALTER SERVER … OPTIONS (ADD page_id '…'), or on the foreign table."));
        }
        let page_id = page_id.filter(|_| object.needs_page());
        let place = if given(table, "pushdown").is_some() { table } else { server };
        Ok(Self { object, page_id, pushdown: parsed(place, "pushdown", PushdownOption::parse)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(place: Place, name: &str) -> String {
        validate(place, name, "x").map(|_| ()).unwrap_err().hint_text().unwrap_or_default().to_owned()
    }

    #[test]
    fn every_default_passes_its_own_check() {
        for option in OPTIONS {
            if let Some(default) = option.default {
                assert_eq!((option.check)(default), Ok(()), "{}", option.name);
            }
        }
        assert!(ServerOptions::read(&[]).is_ok());
    }

    #[test]
    fn a_misspelt_name_gets_the_closest_and_the_list() {
        let hint = hint(Place::Server, "request_per_second");
        assert!(
            hint.contains("meant the option \"requests_per_second\"") && hint.contains("ca_file"),
            "{hint}"
        );
        let hint = self::hint(Place::UserMapping, "token");
        assert!(hint.contains("meant the option \"page_access_token\""), "{hint}");
    }

    #[test]
    fn a_name_out_of_place_is_told_its_place() {
        assert_eq!(
            hint(Place::Server, "page_access_token"),
            "The option \"page_access_token\" belongs to a user mapping."
        );
        assert_eq!(hint(Place::Wrapper, "foo"), "A foreign data wrapper takes no options.");
    }

    #[test]
    fn a_token_is_never_quoted() {
        let error = validate(Place::UserMapping, "page_access_token", " ").map(|_| ()).unwrap_err();
        assert_eq!(error.sqlstate(), "HV024");
        let file = validate(Place::UserMapping, "page_access_token_file", "MARKER").map(|_| ()).unwrap_err();
        assert!(!format!("{file:?}").contains("MARKER"));
    }

    #[test]
    fn bad_values_are_refused() {
        for (place, name, value) in [
            (Place::Server, "requests_per_second", "0.009"),
            (Place::Server, "requests_per_second", "nan"),
            (Place::Server, "max_retries", "11"),
            (Place::Server, "request_timeout", "30"),
            (Place::Server, "base_url", "http://example.com/api"),
            (Place::Server, "ca_file", "ca.pem"),
            (Place::Server, "page_id", " "),
            (Place::Server, "page_id", "."),
            (Place::Table, "page_id", ".."),
            (Place::Table, "page_id", "1 2"),
            (Place::Table, "page_id", "1\n"),
            (Place::Table, "object", "conversation"),
            (Place::Table, "pushdown", "typo"),
            (Place::Column, "path", "a/b"),
        ] {
            assert_eq!(
                validate(place, name, value).map(|_| ()).unwrap_err().sqlstate(),
                "HV024",
                "{name}={value}"
            );
        }
    }

    #[test]
    fn a_table_needs_a_page_and_may_have_its_own() {
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        let table = [pair("object", "conversations")];
        assert_eq!(TableOptions::read(&[], &table).unwrap_err().sqlstate(), "HV00J");
        let own = [pair("object", "conversations"), pair("page_id", "2")];
        assert_eq!(TableOptions::read(&[pair("page_id", "1")], &own).unwrap().page_id.as_deref(), Some("2"));
    }
}
