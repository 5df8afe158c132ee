//! Tests the lists beside the conversations, that their keys join, and TLS and gzip.
//! Conversations are left to `listing`.

mod client;

use std::collections::HashSet;
use std::io::Read;

use client::{shop, with};
use pancake_simulator::*;
use serde_json::Value;

fn set(rows: &[Value], key: &str) -> HashSet<String> {
    rows.iter().filter_map(|row| row[key].as_str().map(str::to_owned)).collect()
}

#[test]
fn messages_come_newest_batch_first_and_ascend_inside() {
    let shop = shop(60);
    let longest = |row: &&Value| row["message_count"].as_u64();
    let rows = shop.page.conversations();
    let row = rows.iter().max_by_key(longest).unwrap();
    let id = row["id"].as_str().unwrap();
    let truth = shop.page.messages(id);
    assert_eq!(truth.len() as u64, row["message_count"].as_u64().unwrap());
    assert!(truth.len() > 35);
    let mut read: Vec<Value> = Vec::new();
    loop {
        let got = shop.v1(&format!("conversations/{id}/messages"), &format!("current_count={}", read.len()));
        let batch = got.json()["messages"].as_array().unwrap().clone();
        if batch.is_empty() {
            break;
        }
        assert!(batch.len() <= 30);
        read.splice(0..0, batch);
    }
    assert_eq!(read, truth);
    shop.simulator.switches(|switches| switches.message_order = MessageOrder::Descending);
    let newest = shop.v1(&format!("conversations/{id}/messages"), "").json()["messages"].clone();
    assert!(newest.as_array().unwrap().iter().eq(truth.iter().rev().take(30)));
    let last = truth.last().unwrap();
    assert_eq!(last["inserted_at"], row["updated_at"]);
    // Some messages have no plain text.
    assert!(last["original_message"] == row["snippet"] || last["original_message"] == "");
    let share = |holds: &dyn Fn(&Value) -> bool| {
        let all: Vec<Value> =
            rows.iter().flat_map(|row| shop.page.messages(row["id"].as_str().unwrap())).collect();
        all.iter().filter(|message| holds(message)).count() * 100 / all.len()
    };
    assert!((10..22).contains(&share(&|message| message["original_message"] == "")));
    assert!((3..15).contains(&share(&|message| message["message"] == "")));
    for key in ["ai_generated", "is_automated", "admin_id", "uid"] {
        assert!(share(&|message| message["from"].get(key).is_some_and(|value| value != false)) > 0, "{key}");
    }
    assert!(truth.windows(2).all(|two| two[0]["inserted_at"].as_str() <= two[1]["inserted_at"].as_str()));
    assert_eq!(truth.iter().filter_map(|row| row["id"].as_str()).collect::<HashSet<_>>().len(), truth.len());
    shop.page.delete_message(id, 0);
    assert_eq!(shop.page.messages(id), truth[1..]);
}

/// Each reading of `current_count`, and batches that are smaller below the top.
#[test]
fn the_skip_of_messages_is_rounded_and_batches_shrink() {
    let shop = shop(60);
    let rows = shop.page.conversations();
    let row = rows.iter().max_by_key(|row| row["message_count"].as_u64()).unwrap();
    let id = row["id"].as_str().unwrap();
    let truth = shop.page.messages(id);
    // Which messages a reply holds: how many are newer than them, and how many there are.
    let place = |skipped: usize| {
        let got = shop.v1(&format!("conversations/{id}/messages"), &format!("current_count={skipped}"));
        let batch = got.json()["messages"].as_array().unwrap().clone();
        let newest = batch.last().and_then(|last| truth.iter().rposition(|row| row == last));
        (newest.map(|place| truth.len() - 1 - place), batch.len())
    };
    shop.simulator.switches(|switches| switches.message_batch = 10);
    for (reading, asked, skipped) in [
        (CountReading::Exact, 9, 9),
        (CountReading::RoundDown, 9, 0),
        (CountReading::RoundDown, 10, 10),
        (CountReading::RoundUp, 11, 20),
        (CountReading::RoundUp, 10, 10),
        (CountReading::RoundUp, 0, 0),
        (CountReading::Nearest, 14, 10),
        (CountReading::Nearest, 15, 20),
    ] {
        shop.simulator.switches(|switches| switches.current_count = reading);
        assert_eq!(place(asked), (Some(skipped), 10), "{reading:?} {asked}");
    }
    assert_eq!(place(usize::MAX), (None, 0));
    shop.simulator.switches(|switches| {
        switches.current_count = CountReading::Exact;
        switches.message_batch_later = Some(1);
    });
    assert_eq!((place(0), place(1), place(9)), ((Some(0), 10), (Some(1), 1), (Some(9), 1)));
}

#[test]
fn messages_move_between_two_requests() {
    let shop = shop(60);
    let rows = shop.page.conversations();
    let row = rows.iter().max_by_key(|row| row["message_count"].as_u64()).unwrap();
    let id = row["id"].as_str().unwrap();
    let read = |skipped| {
        let got = shop.v1(&format!("conversations/{id}/messages"), &format!("current_count={skipped}"));
        got.json()["messages"].as_array().unwrap().clone()
    };
    shop.page.at_messages_request(2, Event::Message(Target::Cursor));
    shop.page.at_messages_request(3, Event::DeleteMessage(Target::Cursor, shop.page.messages(id).len()));
    let first = read(0);
    assert_eq!(read(30).last(), first.first());
    assert_eq!(read(0), first);
    assert_eq!(shop.v1("conversations/nobody/messages", "").json()["messages"], serde_json::json!([]));
    shop.simulator.switches(|switches| switches.lost_conversation = LostConversation::Http404);
    assert_eq!(shop.v1("conversations/nobody/messages", "").status, 404);
}

#[test]
fn the_join_keys_meet() {
    let shop = shop(400);
    let conversations = shop.page.conversations();
    let customers = shop.page.customers();
    assert_eq!(set(&conversations, "customer_id"), set(&customers, "customer_id"));
    let inbox: Vec<Value> = conversations.iter().filter(|row| row["type"] == "INBOX").cloned().collect();
    assert_eq!(set(&inbox, "id"), set(&customers, "thread_id"));
    assert!(customers.len() < 400);
    let comments: Vec<Value> = conversations.iter().filter(|row| row["type"] == "COMMENT").cloned().collect();
    assert!(set(&comments, "post_id").is_subset(&set(&shop.page.posts(), "id")));
    let staff = set(&shop.page.users(), "id");
    let last: Vec<Value> = conversations.iter().map(|row| row["last_sent_by"].clone()).collect();
    assert!(!set(&last, "uid").is_empty() && set(&last, "uid").is_subset(&staff));
    for row in &conversations {
        assert!(
            row["assignee_ids"].as_array().unwrap().iter().all(|id| staff.contains(id.as_str().unwrap()))
        );
    }
}

#[test]
fn numbered_lists_add_up_to_their_total() {
    let shop = shop(400);
    for (path, key, size, truth) in [
        ("page_customers", "customers", 100, shop.page.customers()),
        ("posts", "posts", 4, shop.page.posts()),
    ] {
        let mut ids = HashSet::new();
        for number in 1.. {
            let params = format!("since=1&until=99999999999&page_number={number}&page_size={size}");
            let got = shop.v1(path, &params).json();
            assert_eq!(got["total"].as_u64().unwrap() as usize, truth.len());
            let batch = got[key].as_array().unwrap();
            if batch.is_empty() {
                break;
            }
            ids.extend(set(batch, "id"));
        }
        assert_eq!(ids, set(&truth, "id"));
        assert_eq!(shop.simulator.violations(), Vec::<String>::new());
        let got = shop.v1(path, "since=1&until=2").json();
        assert_eq!((got["success"].as_bool(), got["error_code"].as_i64()), (Some(false), Some(100)));
        shop.simulator.clear_log();
    }
    assert_eq!(shop.v1("tags", "").json().get("success"), None);
    assert_eq!(shop.v1("users", "").json()["users"].as_array().unwrap().len(), 5);
}

#[test]
fn posts_and_customers_shift_between_two_requests() {
    let shop = shop(400);
    let read = |path: &str, key: &str| {
        let got = shop.v1(path, "since=1&until=99999999999&page_number=1&page_size=4").json();
        (got["total"].as_u64().unwrap(), got[key][0]["id"].clone())
    };
    shop.page.at_list_request(2, Event::Publish);
    shop.page.at_list_request(3, Event::Unpublish(0));
    shop.page.at_list_request(4, Event::Create("INBOX".to_owned()));
    let (total, newest) = read("posts", "posts");
    let (more, other) = read("posts", "posts");
    assert!(more == total + 1 && other != newest);
    assert_eq!(read("posts", "posts"), (total, newest));
    let customers = shop.page.customers().len() as u64;
    assert_eq!(read("page_customers", "customers").0, customers + 1);
}

#[test]
fn the_pages_of_the_user_in_both_forms() {
    let shop = with(Settings {
        pages: (0..3)
            .map(PageSettings::numbered)
            .map(|page| PageSettings { conversations: 2, ..page })
            .collect(),
        ..Settings::default()
    });
    let get = |token: &str| {
        shop.raw(&format!("/v1/pages?access_token={token}"), "Accept: application/json\r\n").unwrap().json()
    };
    let pages = get("user-token-SECRET");
    let page = &pages["categorized"]["activated"][2];
    assert_eq!(page["settings"]["page_access_token"], "page-token-SECRET-3");
    let ids = pages["categorized"]["activated_page_ids"].as_array().unwrap();
    assert_eq!(*ids, ["100000000000001", "100000000000002", "100000000000003"]);
    shop.simulator.switches(|switches| switches.pages_form = PagesForm::Flat);
    assert_eq!(get("user-token-SECRET")["pages"].as_array().unwrap().len(), 3);
    assert_eq!(get("page-token-SECRET-1")["error_code"], 102);
    assert_eq!(shop.simulator.violations(), Vec::<String>::new());
}

#[test]
fn tls_and_gzip() {
    let shop = with(Settings { tls: true, ..Settings::of(30) });
    assert!(shop.simulator.base_url().starts_with("https://127.0.0.1:"));
    assert_eq!(shop.walk("").len(), 30);
    let token = shop.page.token();
    let url = format!("/public_api/v2/pages/{}/conversations?page_access_token={token}", shop.page.id());
    let got = shop.raw(&url, "Accept: application/json\r\nAccept-Encoding: gzip\r\n").unwrap();
    assert_eq!(got.header("content-encoding"), Some("gzip"));
    assert!(got.header("x-request-id").is_some());
    let mut body = String::new();
    flate2::read::GzDecoder::new(&got.body[..]).read_to_string(&mut body).unwrap();
    assert_eq!(body.as_bytes(), shop.list("").body);
}
