//! Who may set what: where tokens are sent is a superuser's choice, files of the server belong to
//! those who may read them.

use e2e::{Session, Shop};
use pancake_simulator::Settings;

use crate::errors::{Told, well_formed};

/// A role of this database's own that may create servers.
pub fn role(shop: &Shop, session: &mut Session, name: &str) -> String {
    let role = format!("{}_{name}", shop.database.name());
    session
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER pancake_fdw TO {role};
             GRANT CREATE ON SCHEMA public TO {role}"
        ))
        .unwrap();
    role
}

const NOT_ALLOWED: &str =
    "A server or user mapping that has such an option is created and altered, as a whole, by such roles.";

#[test]
fn where_tokens_go_is_for_superusers() {
    let shop = Shop::open(Settings::of(10)).unwrap();
    let mut session = shop.connect().unwrap();
    let owner = role(&shop, &mut session, "owner");
    let reader = role(&shop, &mut session, "reader");
    session.execute(&format!("GRANT pg_read_server_files TO {reader}")).unwrap();
    let create =
        |options: &str| format!("CREATE SERVER mine FOREIGN DATA WRAPPER pancake_fdw OPTIONS ({options})");

    for (who, option, value, refused_to) in [
        (&owner, "base_url", "https://elsewhere.example/api", Some("superusers")),
        (&owner, "base_url", "http://127.0.0.1:1/api", Some("superusers")),
        (&owner, "base_url", "https://pages.fm:8443/api", Some("superusers")),
        (&owner, "base_url", "https://pages.fm/other", Some("superusers")),
        (&owner, "base_url", "https://pages.fm/api", None),
        (&owner, "base_url", "HTTPS://Pages.FM:443/api/", None),
        (&owner, "proxy", "http://127.0.0.1:3128", Some("superusers")),
        (&owner, "ca_file", "/etc/passwd", Some("roles with the privileges of pg_read_server_files")),
        (&reader, "ca_file", "/etc/ca.pem", None),
        (&reader, "base_url", "https://elsewhere.example/api", Some("superusers")),
        (&reader, "proxy", "http://127.0.0.1:3128", Some("superusers")),
        (&owner, "requests_per_second", "2", None),
    ] {
        let statement = create(&format!("page_id '1', {option} '{value}'"));
        session.execute(&format!("SET ROLE {who}")).unwrap();
        match refused_to {
            None => session.execute(&format!("{statement}; DROP SERVER mine")).unwrap(),
            Some(allowed) => {
                let error = session.error(&statement).unwrap();
                let message = format!("only {allowed} may set option \"{option}\"");
                Told { sqlstate: "42501", message: &message, detail: "", hint: NOT_ALLOWED }
                    .check(&error, &statement);
            }
        }
        session.execute("RESET ROLE").unwrap();
    }
}

#[test]
fn a_server_with_such_an_option_is_not_altered_by_its_ordinary_owner() {
    let shop = Shop::open(Settings::of(10)).unwrap();
    let mut session = shop.connect().unwrap();
    let owner = role(&shop, &mut session, "owner");
    session.execute(&format!("ALTER SERVER shop OWNER TO {owner}; SET ROLE {owner}")).unwrap();
    for change in ["SET page_id '2'", "ADD max_retries '1'", "SET base_url 'https://elsewhere.example/api'"] {
        let error = session.error(&format!("ALTER SERVER shop OPTIONS ({change})")).unwrap();
        well_formed(&error, change);
        assert_eq!(
            (error.sqlstate.as_str(), error.hint.as_deref()),
            ("42501", Some(NOT_ALLOWED)),
            "{change}"
        );
    }
    session.execute("RESET ROLE").unwrap();
    assert_eq!(session.one("SELECT count(*) FROM shop.conversations").unwrap(), "10");
}

#[test]
fn a_token_file_is_named_by_those_who_may_read_it() {
    let shop = Shop::open(Settings::of(10)).unwrap();
    let mut session = shop.connect().unwrap();
    let owner = role(&shop, &mut session, "owner");
    session
        .execute(&format!(
            "SET ROLE {owner}; CREATE SERVER mine FOREIGN DATA WRAPPER pancake_fdw OPTIONS (page_id '1');
             CREATE USER MAPPING FOR {owner} SERVER mine OPTIONS (page_access_token 'x')"
        ))
        .unwrap();
    for statement in [
        "CREATE USER MAPPING FOR PUBLIC SERVER mine OPTIONS (page_access_token_file '/etc/passwd')"
            .to_owned(),
        format!(
            "ALTER USER MAPPING FOR {owner} SERVER mine OPTIONS (DROP page_access_token, ADD page_access_token_file '/etc/passwd')"
        ),
    ] {
        let error = session.error(&statement).unwrap();
        let told = Told {
            sqlstate: "42501",
            message: "only roles with the privileges of pg_read_server_files may set option \"page_access_token_file\"",
            detail: "It names a file on the database server.",
            hint: NOT_ALLOWED,
        };
        told.check(&error, &statement);
    }
    session.execute("RESET ROLE").unwrap();
}

#[test]
fn a_token_file_is_used_only_under_a_server_whose_owner_may_read_it() {
    let shop = Shop::open(Settings::of(10)).unwrap();
    let mut session = shop.connect().unwrap();
    let owner = role(&shop, &mut session, "owner");
    let file = super::tokens::TokenFile::new(&shop, "owner", &shop.simulator.first_page().token());
    session
        .execute(&format!(
            "ALTER USER MAPPING FOR postgres SERVER shop
                 OPTIONS (DROP page_access_token, ADD page_access_token_file '{}');
             ALTER SERVER shop OWNER TO {owner}",
            file.path()
        ))
        .unwrap();
    let (error, log) = shop.watch(|| session.error("SELECT count(*) FROM shop.conversations").unwrap());
    let told = Told {
        sqlstate: "42501",
        message: "page_access_token_file is not allowed on this server",
        detail: "The owner of server \"shop\" may not read files of the database server.",
        hint: "Grant pg_read_server_files to the server's owner",
    };
    told.check(&error, "owner");
    assert!(log.is_empty());
    session.execute(&format!("GRANT pg_read_server_files TO {owner}")).unwrap();
    assert_eq!(session.one("SELECT count(*) FROM shop.conversations").unwrap(), "10");
}
