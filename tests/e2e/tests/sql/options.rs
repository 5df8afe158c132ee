//! Options: every name in its place, every value checked when it is set, and who may set what.
//! Token files and mappings are in `tokens`, what tables may be declared in `tables`, rights in
//! `rights`.

mod rights;
mod tables;
mod tokens;

use e2e::{Session, Shop, SqlError};
use pancake_simulator::Settings;

use crate::errors::{Told, well_formed};

const PLACES: [&str; 5] = ["foreign data wrapper", "server", "user mapping", "foreign table", "column"];

/// Each option, where it belongs, and a value that it takes.
const OPTIONS: [(&str, &[&str], &str); 16] = [
    ("base_url", &["server"], "https://pages.fm/api"),
    ("proxy", &["server"], "http://proxy.example:3128"),
    ("page_id", &["server", "foreign table"], "1"),
    ("requests_per_second", &["server"], "0.7"),
    ("max_concurrency", &["server"], "1"),
    ("max_retries", &["server"], "0"),
    ("request_timeout", &["server"], "1min"),
    ("connect_timeout", &["server"], "1.5 s"),
    ("max_response_bytes", &["server"], "512kB"),
    ("ca_file", &["server"], "/etc/ca.pem"),
    ("pushdown", &["server", "foreign table"], "type, tags"),
    ("object", &["foreign table"], "conversations"),
    ("path", &["column"], "/page_customer/gender"),
    ("page_access_token", &["user mapping"], "SECRET"),
    ("page_access_token_file", &["user mapping"], "/etc/token"),
    ("access_token", &["user mapping"], "SECRET"),
];

/// The statement that makes a thing of this kind with this option.
fn make(place: &str, name: &str, value: &str) -> String {
    let option = format!("{name} {}", e2e::page::literal(value));
    match place {
        "foreign data wrapper" => format!("ALTER FOREIGN DATA WRAPPER pancake_fdw OPTIONS (ADD {option})"),
        "server" => format!("CREATE SERVER made FOREIGN DATA WRAPPER pancake_fdw OPTIONS ({option})"),
        "user mapping" => format!("CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS ({option})"),
        "column" => format!(
            "CREATE FOREIGN TABLE made (id text OPTIONS ({option})) SERVER shop OPTIONS (object 'conversations')"
        ),
        _ if name.starts_with("obj") => {
            format!("CREATE FOREIGN TABLE made (id text) SERVER shop OPTIONS ({option})")
        }
        _ => format!(
            "CREATE FOREIGN TABLE made (id text) SERVER shop OPTIONS (object 'conversations', {option})"
        ),
    }
}

fn refused(session: &mut Session, place: &str, name: &str, value: &str) -> SqlError {
    let error = session.error(&make(place, name, value)).unwrap();
    well_formed(&error, &format!("{place}: {name} '{value}'"));
    error
}

fn open() -> (Shop<'static>, Session) {
    let shop = Shop::open(Settings::of(10)).unwrap();
    let session = shop.connect().unwrap();
    (shop, session)
}

#[test]
fn an_option_out_of_place_is_told_its_place() {
    let (_shop, mut session) = open();
    for (name, places, value) in OPTIONS {
        for place in PLACES {
            if places.contains(&place) {
                session.execute(&format!("BEGIN; {}; ROLLBACK", make(place, name, value))).unwrap();
                continue;
            }
            let error = refused(&mut session, place, name, value);
            let message = format!("invalid option \"{name}\"");
            let hint = format!("The option \"{name}\" belongs to a {}.", places.join(" or a "));
            Told { sqlstate: "HV00D", message: &message, detail: "", hint: &hint }.check(&error, place);
        }
    }
}

#[test]
fn a_misspelt_option_is_told_the_closest_and_all() {
    let (_shop, mut session) = open();
    for (name, places, value) in OPTIONS {
        for place in places {
            let typo = format!("{}{}", &name[..name.len() - 2], &name[name.len() - 1..]);
            let error = refused(&mut session, place, &typo, value);
            let message = format!("invalid option \"{typo}\"");
            let hint = format!("Perhaps you meant the option \"{name}\". Valid options of a {place} are: ");
            Told { sqlstate: "HV00D", message: &message, detail: "", hint: &hint }.check(&error, place);
            for (other, ..) in OPTIONS.iter().filter(|(_, places, _)| places.contains(place)) {
                assert!(error.hint.as_deref().unwrap().contains(other), "{error}");
            }
        }
    }
    let error = refused(&mut session, "server", "zzz", "1");
    assert!(error.hint.unwrap().starts_with("Valid options of a server are: base_url, "));
}

#[test]
fn a_bad_value_is_refused_when_it_is_set() {
    let (_shop, mut session) = open();
    let cases: [(&str, &str, &[&str], &str); 17] = [
        ("server", "base_url", &["pages.fm/api", "", "https://", "not a url"], ""),
        (
            "server",
            "base_url",
            &["http://pages.fm/api", "http://10.0.0.1/api"],
            "loopback address only; use https",
        ),
        (
            "server",
            "base_url",
            &["http://127.0.0.1.evil.example/api", "http://localhost.example"],
            "loopback",
        ),
        ("server", "base_url", &["ftp://pages.fm/api", "file:///etc/passwd"], ""),
        (
            "server",
            "base_url",
            &["https://a:b@pages.fm/api", "https://pages.fm/?a=1"],
            "must hold neither query",
        ),
        ("server", "proxy", &["socks5://127.0.0.1", "proxy", ""], ""),
        ("server", "page_id", &["", "  "], "must not be empty"),
        (
            "server",
            "requests_per_second",
            &["0", "-1", "nan", "inf", "many", "100001", ""],
            "from 0.01 to 100000",
        ),
        ("server", "max_concurrency", &["0", "65", "1.5", "x"], "a whole number from 1 to 64"),
        ("server", "max_retries", &["-1", "11", "x"], "a whole number from 0 to 10"),
        ("server", "request_timeout", &["30", "30000"], "It needs a unit, one of us, ms, s, min, h, d"),
        ("server", "connect_timeout", &["0s", "2d", "-1s", "soon", "1 fortnight", ""], ""),
        ("server", "max_response_bytes", &["32", "1B", "2GB", "1mb"], ""),
        ("server", "ca_file", &["ca.pem", ""], "absolute path"),
        (
            "foreign table",
            "pushdown",
            &["tag", "", "all,none", "snippet"],
            "is none of all, none, type, tags",
        ),
        ("foreign table", "object", &["conversation", "Conversations", ""], "must be one of conversations"),
        ("column", "path", &["page_customer/gender", "$.a"], "a JSON pointer, such as"),
    ];
    for (place, name, values, hint) in cases {
        for value in values {
            let error = refused(&mut session, place, name, value);
            let message = format!("invalid value for option \"{name}\"");
            Told { sqlstate: "HV024", message: &message, detail: "The value is ", hint }.check(&error, value);
        }
    }
    assert!(
        refused(&mut session, "foreign table", "pushdown", "tag").hint.unwrap().contains("perhaps \"tags\"")
    );
    let error = refused(&mut session, "foreign table", "object", "conversation");
    assert!(error.hint.unwrap().contains("Perhaps you meant \"conversations\""));
}

#[test]
fn a_refused_value_that_may_be_secret_is_not_shown() {
    let (_shop, mut session) = open();
    for (place, name, value) in [
        ("user mapping", "page_access_token", " "),
        ("user mapping", "page_access_token_file", "SECRET-token-by-mistake"),
        ("user mapping", "access_token", ""),
        ("server", "base_url", "https://pages.fm/api?page_access_token=SECRET"),
        ("server", "base_url", "https://user:SECRET@pages.fm/api"),
        ("server", "proxy", "socks5://user:SECRET@proxy.example"),
    ] {
        // `well_formed` looks for SECRET.
        let error = refused(&mut session, place, name, value);
        assert_eq!(error.sqlstate, "HV024");
        assert!(error.detail.unwrap().starts_with("The value is not shown here."));
    }
}

#[test]
fn alter_is_checked_as_create_is() {
    let (_shop, mut session) = open();
    for (statement, sqlstate) in [
        ("ALTER SERVER shop OPTIONS (ADD request_timeout '30')", "HV024"),
        ("ALTER SERVER shop OPTIONS (ADD timeout '30s')", "HV00D"),
        ("ALTER SERVER shop OPTIONS (SET base_url 'http://pages.fm/api')", "HV024"),
        ("ALTER FOREIGN TABLE shop.conversations OPTIONS (SET object 'conversation')", "HV024"),
        ("ALTER FOREIGN TABLE shop.conversations OPTIONS (DROP object)", "HV00J"),
        ("ALTER FOREIGN TABLE shop.conversations ALTER COLUMN seen OPTIONS (ADD path 'seen')", "HV024"),
        ("ALTER USER MAPPING FOR postgres SERVER shop OPTIONS (SET page_access_token '')", "HV024"),
        ("ALTER USER MAPPING FOR postgres SERVER shop OPTIONS (ADD page_access_token_file '/x')", "HV024"),
    ] {
        let error = session.error(statement).unwrap();
        well_formed(&error, statement);
        assert_eq!(error.sqlstate, sqlstate, "{statement}: {error}");
    }
    assert_eq!(session.one("SELECT count(*) FROM shop.conversations").unwrap(), "10");
}
