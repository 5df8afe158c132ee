//! Tokens that do not open the page: none, a wrong one, one regenerated in the middle; and pages
//! closed to all tokens.

use e2e::Shop;
use pancake_simulator::{AuthForm, Denial, Settings};

use super::{COUNT, Told, impatient, still_exact};

#[test]
fn without_a_mapping_the_hint_is_the_statement_that_makes_one() {
    let shop = impatient(10);
    let mut session = shop.connect().unwrap();
    session.execute("CREATE ROLE \"Chị Hoa\" SUPERUSER; SET ROLE \"Chị Hoa\"").unwrap();
    let (error, log) = shop.watch(|| session.error(COUNT).unwrap());
    let told = Told {
        sqlstate: "28000",
        message: "no user mapping for \"Chị Hoa\" on server \"shop\"",
        detail: "",
        hint: "CREATE USER MAPPING FOR \"Chị Hoa\" SERVER shop OPTIONS (page_access_token '…');",
    };
    told.check(&error, "no mapping");
    assert!(log.is_empty());

    let token = shop.simulator.first_page().token();
    session.execute(&error.hint.unwrap().replace('…', &token)).unwrap();
    still_exact(&shop, &mut session);
    session
        .execute("RESET ROLE; DROP USER MAPPING FOR \"Chị Hoa\" SERVER shop; DROP ROLE \"Chị Hoa\"")
        .unwrap();
}

#[test]
fn a_mapping_without_token_is_completed_by_the_hint() {
    let shop = impatient(10);
    let mut session = shop.connect().unwrap();
    session.execute("ALTER USER MAPPING FOR postgres SERVER shop OPTIONS (DROP page_access_token)").unwrap();
    let (error, log) = shop.watch(|| session.error(COUNT).unwrap());
    let told = Told {
        sqlstate: "28000",
        message: "user mapping for \"postgres\" has no page access token",
        detail: "",
        hint: "ALTER USER MAPPING FOR postgres SERVER shop OPTIONS (ADD page_access_token '…');",
    };
    told.check(&error, "no token");
    assert!(log.is_empty());
    session.execute(&error.hint.unwrap().replace('…', &shop.simulator.first_page().token())).unwrap();
    still_exact(&shop, &mut session);
}

#[test]
fn the_hint_about_a_public_mapping_without_token_works_as_well() {
    let shop = impatient(10);
    let mut session = shop.connect().unwrap();
    session
        .execute(
            "DROP USER MAPPING FOR postgres SERVER shop;
             CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (access_token 'a user''s')",
        )
        .unwrap();
    let error = session.error(COUNT).unwrap();
    super::well_formed(&error, "public");
    assert_eq!(error.message, "user mapping for PUBLIC has no page access token");
    assert_eq!(error.sqlstate, "28000");
    session.execute(&error.hint.unwrap().replace('…', &shop.simulator.first_page().token())).unwrap();
    still_exact(&shop, &mut session);
}

#[test]
fn a_wrong_token_is_told_in_both_forms() {
    let shop = impatient(10);
    let mut session = shop.connect().unwrap();
    session
        .execute("ALTER USER MAPPING FOR postgres SERVER shop OPTIONS (SET page_access_token 'SECRETx')")
        .unwrap();
    for (form, status) in [(AuthForm::Body200, "HTTP 200"), (AuthForm::Http401, "HTTP 401")] {
        shop.simulator.switches(|switches| switches.auth = form);
        let (error, log) = shop.watch(|| session.error(COUNT).unwrap());
        let told = Told {
            sqlstate: "28000",
            message: "page access token is not valid",
            detail: status,
            hint: "a user's access_token does not work here",
        };
        told.check(&error, status);
        assert_eq!(log.len(), 1);
        assert!(error.detail.unwrap().contains(&log[0].request_id));
    }
    let token = shop.simulator.first_page().token();
    session
        .execute(&format!(
            "ALTER USER MAPPING FOR postgres SERVER shop OPTIONS (SET page_access_token '{token}')"
        ))
        .unwrap();
    still_exact(&shop, &mut session);
}

#[test]
fn a_closed_page_is_told_and_opens_again() {
    let shop = impatient(10);
    let mut session = shop.connect().unwrap();
    let page = shop.simulator.first_page();
    for (denial, sqlstate) in [
        (Denial::Http403, "42501"),
        (Denial::Code(103), "28000"),
        (Denial::Code(106), "42501"),
        (Denial::Code(107), "42501"),
        (Denial::Code(121), "42501"),
        (Denial::Code(122), "42501"),
    ] {
        page.deny(Some(denial));
        let error = session.error(COUNT).unwrap();
        super::well_formed(&error, &format!("{denial:?}"));
        assert_eq!(error.sqlstate, sqlstate, "{denial:?}: {error}");
        assert!(error.hint.is_some(), "{denial:?}");
    }
    page.deny(None);
    still_exact(&shop, &mut session);
}

#[test]
fn an_unknown_page_is_not_an_empty_one() {
    let shop = impatient(10);
    let mut session = shop.connect().unwrap();
    session.execute("ALTER SERVER shop OPTIONS (SET page_id '42')").unwrap();
    let error = session.error(COUNT).unwrap();
    Told { sqlstate: "HV00R", message: "page not found", detail: "HTTP 404", hint: "page_id" }
        .check(&error, "404");
}

#[test]
fn a_token_regenerated_in_the_middle_of_a_walk_is_no_success() {
    let shop = impatient(300);
    let page = shop.simulator.first_page();
    let mut session = shop.connect().unwrap();
    session.execute("BEGIN; DECLARE walk CURSOR FOR SELECT id FROM shop.conversations").unwrap();
    let given = session.column("FETCH 100 FROM walk").unwrap();
    assert_eq!(given.len(), 100);
    page.set_token("SECRET-new");
    let error = session.error("FETCH ALL FROM walk").unwrap();
    let told = Told {
        sqlstate: "28000",
        message: "page access token was regenerated",
        detail: "code 105",
        hint: "Copy the page's token",
    };
    told.check(&error, "regenerated");
    assert_eq!(session.error("COMMIT; SELECT 1/0").unwrap().sqlstate, "22012");
    assert_eq!(session.error(COUNT).unwrap().sqlstate, "28000");

    // Another session changes the mapping: the next scan of this one has the new token.
    let change = "ALTER USER MAPPING FOR postgres SERVER shop OPTIONS (SET page_access_token 'SECRET-new')";
    shop.connect().unwrap().execute(change).unwrap();
    still_exact(&shop, &mut session);
}

#[test]
fn a_copy_that_fails_leaves_nothing_behind() {
    let shop = Shop::open_with(Settings::of(300), &[("max_retries", "0")]).unwrap();
    let mut session = shop.connect().unwrap();
    session.execute("CREATE TABLE copy (id text)").unwrap();
    shop.simulator.fault(
        pancake_simulator::Fault::SuccessFalse { code: Some(105), message: "renewed".to_owned() },
        pancake_simulator::Times::On((4..100).collect()),
    );
    for statement in [
        "INSERT INTO copy SELECT id FROM shop.conversations",
        "CREATE TABLE other AS SELECT id FROM shop.conversations",
    ] {
        assert_eq!(session.error(statement).unwrap().sqlstate, "28000");
        shop.simulator.clear_faults();
        shop.simulator.fault(
            pancake_simulator::Fault::SuccessFalse { code: Some(105), message: "renewed".to_owned() },
            pancake_simulator::Times::On((4..100).collect()),
        );
    }
    assert_eq!(session.one("SELECT count(*) FROM copy").unwrap(), "0");
    assert_eq!(session.one("SELECT to_regclass('other')").unwrap(), "∅");
}
