//! Tables: what IMPORT FOREIGN SCHEMA makes, and what a user may declare instead.

use e2e::{Session, Shop};
use pancake_simulator::Settings;

use crate::errors::Told;

fn open() -> (Shop<'static>, Session) {
    let shop = Shop::open(Settings::of(10)).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE SCHEMA made").unwrap();
    (shop, session)
}

fn import(more: &str) -> String {
    let (limit, options) = more.split_once('|').unwrap_or((more, ""));
    format!("IMPORT FOREIGN SCHEMA pancake {limit} FROM SERVER shop INTO made {options}")
}

fn tables(session: &mut Session) -> Vec<String> {
    session
        .column("SELECT foreign_table_name FROM information_schema.foreign_tables WHERE foreign_table_schema = 'made' ORDER BY 1")
        .unwrap()
}

#[test]
fn import_makes_all_or_those_that_are_named() {
    let (_shop, mut session) = open();
    session.execute(&import("")).unwrap();
    let all = tables(&mut session);
    assert!(all.contains(&"conversations".to_owned()));
    session.execute("DROP SCHEMA made CASCADE; CREATE SCHEMA made").unwrap();
    session.execute(&import("LIMIT TO (conversations)")).unwrap();
    assert_eq!(tables(&mut session), ["conversations"]);
    session.execute("DROP SCHEMA made CASCADE; CREATE SCHEMA made").unwrap();
    session.execute(&import("EXCEPT (conversations)")).unwrap();
    let rest: Vec<_> = all.into_iter().filter(|name| name != "conversations").collect();
    assert_eq!(tables(&mut session), rest);
}

#[test]
fn import_writes_its_options_on_the_tables() {
    let (_shop, mut session) = open();
    session.execute(&import("LIMIT TO (conversations)|OPTIONS (page_id 'it''s', pushdown 'none')")).unwrap();
    let options = "SELECT ftoptions FROM pg_foreign_table WHERE ftrelid = 'made.conversations'::regclass";
    assert_eq!(session.one(options).unwrap(), "{object=conversations,page_id=it's,pushdown=none}");
}

#[test]
fn import_refuses_what_it_does_not_know() {
    let (_shop, mut session) = open();
    for (more, sqlstate, message, hint) in [
        (
            "LIMIT TO (conversation)",
            "HV00R",
            "no foreign table \"conversation\" in schema \"pancake\"",
            "Perhaps you meant \"conversations\". The tables are: ",
        ),
        (
            "EXCEPT (conversation)",
            "HV00R",
            "no foreign table \"conversation\" in schema \"pancake\"",
            "Perhaps you meant \"conversations\". The tables are: ",
        ),
        (
            "LIMIT TO (orders)",
            "HV00R",
            "no foreign table \"orders\" in schema \"pancake\"",
            "The tables are: ",
        ),
        (
            "|OPTIONS (pageid '1')",
            "HV00D",
            "invalid option \"pageid\"",
            "Perhaps you meant \"page_id\". IMPORT takes the options page_id, pushdown.",
        ),
        (
            "|OPTIONS (object 'conversations')",
            "HV00D",
            "invalid option \"object\"",
            "IMPORT takes the options",
        ),
        ("|OPTIONS (pushdown 'some')", "HV024", "invalid value for option \"pushdown\"", ""),
        ("|OPTIONS (page_id '')", "HV024", "invalid value for option \"page_id\"", ""),
    ] {
        let error = session.error(&import(more)).unwrap();
        Told { sqlstate, message, detail: "", hint }.check(&error, more);
        assert!(tables(&mut session).is_empty(), "{more}");
    }
    let error = session.error("IMPORT FOREIGN SCHEMA public FROM SERVER shop INTO made").unwrap();
    crate::errors::well_formed(&error, "schema");
    assert_eq!(error.message, "no foreign schema \"public\"");
    assert!(error.hint.unwrap().contains("IMPORT FOREIGN SCHEMA pancake FROM SERVER"));
}

#[test]
fn object_is_required() {
    let (_shop, mut session) = open();
    let error = session.error("CREATE FOREIGN TABLE made.x (id text) SERVER shop").unwrap();
    let told = Told {
        sqlstate: "HV00J",
        message: "option \"object\" is required",
        detail: "",
        hint: "OPTIONS (object 'conversations')",
    };
    told.check(&error, "no object");
}

#[test]
fn a_page_is_required_and_a_tables_own_goes_first() {
    let (shop, mut session) = open();
    let page = shop.simulator.first_page();
    session.execute("ALTER SERVER shop OPTIONS (DROP page_id)").unwrap();
    for statement in ["SELECT id FROM shop.conversations", "EXPLAIN SELECT id FROM shop.conversations"] {
        let error = session.error(statement).unwrap();
        let told = Told {
            sqlstate: "HV00J",
            message: "option \"page_id\" is required",
            detail: "Neither the server nor the foreign table has the option page_id",
            hint: "ALTER SERVER",
        };
        told.check(&error, statement);
    }
    session
        .execute(&format!("ALTER FOREIGN TABLE shop.conversations OPTIONS (ADD page_id '{}')", page.id()))
        .unwrap();
    assert_eq!(session.one("SELECT count(*) FROM shop.conversations").unwrap(), "10");
    session.execute("ALTER SERVER shop OPTIONS (ADD page_id '42')").unwrap();
    let shown = session.column("SELECT DISTINCT page_id FROM shop.conversations").unwrap();
    assert_eq!(shown, [page.id()]);
}

#[test]
fn a_column_that_is_none_is_told_the_closest() {
    let (shop, mut session) = open();
    for (column, hint) in [
        ("custumer_name", "Perhaps you meant \"customer_name\". "),
        ("\"Snippet\"", "Perhaps you meant \"snippet\". "),
        ("zzz", "To read anything else of a row, give the column the option path"),
    ] {
        session
            .execute(&format!("CREATE FOREIGN TABLE made.x (id text, {column} text) SERVER shop OPTIONS (object 'conversations')"))
            .unwrap();
        let name = column.trim_matches('"');
        let (error, log) = shop.watch(|| session.error("SELECT * FROM made.x").unwrap());
        let message = format!("column \"{name}\" is not a column of conversations");
        Told { sqlstate: "42P17", message: &message, detail: "The columns are: id, page_id, type, ", hint }
            .check(&error, column);
        assert!(log.is_empty());
        session.execute("DROP FOREIGN TABLE made.x").unwrap();
    }
}

#[test]
fn a_table_may_have_fewer_columns_other_names_and_other_types() {
    let (shop, mut session) = open();
    session
        .execute(
            "CREATE FOREIGN TABLE made.x (gone text, sex varchar(10) OPTIONS (path '/page_customer/gender'), id text,
                 updated_at date, message_count text, first jsonb OPTIONS (path '/customers/0'), seen text)
             SERVER shop OPTIONS (object 'conversations');
             ALTER FOREIGN TABLE made.x DROP COLUMN gone",
        )
        .unwrap();
    let differ = "SELECT count(*) FROM made.x JOIN shop.conversations c USING (id)
                  WHERE (sex, x.updated_at, x.message_count, first, x.seen) IS DISTINCT FROM
                        (c.raw #>> '{page_customer,gender}', (c.updated_at AT TIME ZONE 'UTC')::date,
                         c.message_count::text, c.raw #> '{customers,0}', c.seen::text)";
    assert_eq!(session.one(differ).unwrap(), "0");
    assert_eq!(session.one("SELECT count(*) FROM made.x WHERE sex IN ('male', 'female')").unwrap(), "10");
    shop.assert_no_violations().unwrap();
}
