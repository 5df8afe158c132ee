//! Odd rows of the other tables, as docs/api.md has them or as they may come tomorrow: what
//! can be held is shown, what is no row or no list is an error. Cells of conversations are left to
//! `cells`.

use e2e::Session;

use super::{Told, canned, well_formed};

const TIMES: &str = r#""inserted_at":"2026-03-30T02:11:04","updated_at":"2026-03-31T13:42:20.207""#;

fn row(session: &mut Session, sql: &str) -> Vec<String> {
    let mut rows = session.rows(sql).unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0).into_iter().map(|cell| cell.unwrap_or_else(|| "∅".into())).collect()
}

#[test]
fn a_birthday_that_is_no_date_stays_text() {
    let customer = format!(
        r#"{{"id":3333,"customer_id":"2222","thread_id":null,"psid":7000000000000042,"name":null,"birthday":"1998-00-00",
            "gender":null,"phone_numbers":null,"emails":null,"can_inbox":"true","notes":[],"recent_orders":null,{TIMES}}}"#
    );
    let (_shop, mut session) =
        canned::shop(format!(r#"{{"success":true,"total":"1","customers":[{customer}]}}"#).as_bytes());
    let cells = row(
        &mut session,
        "SELECT id, conversation_id, psid, name, birthday, gender, phone_numbers, emails, can_inbox FROM shop.customers",
    );
    assert_eq!(cells, ["3333", "∅", "7000000000000042", "∅", "1998-00-00", "∅", "{}", "{}", "t"]);
    assert_eq!(row(&mut session, "SELECT count(*) FROM shop.customers WHERE birthday LIKE '1998-%'"), ["1"]);
    session
        .execute(
            "CREATE FOREIGN TABLE born (id text, birthday date) SERVER shop OPTIONS (object 'customers')",
        )
        .unwrap();
    let error = session.error("SELECT * FROM born").unwrap();
    let message = "value does not fit column \"birthday\"";
    Told { sqlstate: "HV004", message, detail: "1998-00-00", hint: "column raw" }.check(&error, "a date");
}

#[test]
fn messages_beside_which_no_comment_was_ever_made() {
    let message = format!(
        r#"{{"id":1,"type":null,"message":null,"original_message":7,"from":null,"attachments":null,"seen":"false",
            "has_phone":null,"parent_id":null,{TIMES}}}"#
    );
    let reply = format!(
        r#"{{"success":true,"conversation_id":null,"messages":[{message}],"last_commented_at":false}}"#
    );
    let (_shop, mut session) = canned::shop(reply.as_bytes());
    let cells = row(
        &mut session,
        "SELECT id, conversation_id, type, from_id, message, original_message, attachments, seen, has_phone
         FROM shop.messages WHERE conversation_id = 'c'",
    );
    assert_eq!(cells, ["1", "c", "∅", "∅", "∅", "7", "∅", "f", "∅"]);
}

#[test]
fn tags_without_success_and_numbers_that_are_strings() {
    let (_shop, mut session) =
        canned::shop(br#"{"tags":[{"id":"61","text":null,"color":7,"is_lead_event":"true"}]}"#);
    let cells = row(
        &mut session,
        "SELECT id, page_id, text, color, description, is_lead_event, is_deactive FROM shop.tags",
    );
    assert_eq!(cells, ["61", "100000000000001", "∅", "7", "∅", "t", "∅"]);

    let post = format!(
        r#"{{"id":9,"type":null,"message":null,"comment_count":"12","reactions":null,"phone_number_count":null,{TIMES}}}"#
    );
    let (_shop, mut session) =
        canned::shop(format!(r#"{{"success":true,"total":1,"posts":[{post}]}}"#).as_bytes());
    let cells =
        row(&mut session, "SELECT id, type, comment_count, reactions, phone_number_count FROM shop.posts");
    assert_eq!(cells, ["9", "∅", "12", "∅", "∅"]);

    let (_shop, mut session) = canned::shop(
        br#"{"success":true,"users":[{"id":1,"name":null,"fb_id":200000000000001,"is_online":null}],"disabled_users":null}"#,
    );
    let cells = row(&mut session, "SELECT id, name, status, fb_id, email, is_online FROM shop.users");
    assert_eq!(cells, ["1", "∅", "∅", "200000000000001", "∅", "∅"]);
}

const LISTS: [(&str, &str); 5] = [
    ("tags", "SELECT * FROM shop.tags"),
    ("posts", "SELECT * FROM shop.posts"),
    ("customers", "SELECT * FROM shop.customers"),
    ("users", "SELECT * FROM shop.users"),
    ("messages", "SELECT * FROM shop.messages WHERE conversation_id = 'c'"),
];

#[test]
fn a_list_that_is_null_or_no_list_is_no_empty_one() {
    for (list, sql) in LISTS {
        for value in ["null", "{}", "\"none\"", "7"] {
            let case = format!(r#"{{"success":true,"total":0,"{list}":{value}}}"#);
            let (_shop, mut session) = canned::shop(case.as_bytes());
            let message = format!("reply has no list of {list}");
            let told = Told { sqlstate: "HV000", message: &message, detail: canned::REQUEST_ID, hint: "" };
            told.check(&session.error(sql).unwrap(), &case);
        }
        let (_shop, mut session) = canned::shop(format!(r#"{{"total":0,"{list}":[]}}"#).as_bytes());
        assert!(session.rows(sql).unwrap().is_empty(), "{list}");
    }
}

#[test]
fn a_row_that_is_none_of_its_list_is_an_error() {
    for (list, sql) in LISTS {
        for odd in ["null", "7", "[]", "{}", r#"{"id":null}"#] {
            let case = format!(r#"{{"success":true,"total":1,"{list}":[{odd}]}}"#);
            let (_shop, mut session) = canned::shop(case.as_bytes());
            let error = session.error(sql).unwrap();
            well_formed(&error, &case);
            assert_eq!(error.sqlstate, "HV000", "{case}: {error}");
            let expected = if odd.starts_with('{') {
                format!("row of the reply is not a {}", list.trim_end_matches('s'))
            } else {
                format!("reply has no list of {list}")
            };
            assert_eq!(error.message, expected, "{case}");
        }
    }
}
