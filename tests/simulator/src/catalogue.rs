//! Answers the lists beside the conversations: messages, tags, posts, customers, users.
//! Who may ask is left to the door.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::clock::{Micros, floor};
use crate::log::Endpoint;
use crate::page::Page;
use crate::query::{Params, last};
use crate::readings::{CountReading, LostConversation, MessageOrder, TotalReading};
use crate::render;
use crate::reply::Reply;
use crate::row::Row;
use crate::shop::Shop;
use crate::switches::Switches;
use crate::window;

/// All messages of a row that were not taken back, by number, oldest first.
fn numbers(row: &Row) -> Vec<u64> {
    (0..row.talk.total()).filter(|number| !row.talk.removed.contains(number)).collect()
}

/// All messages of a conversation, oldest first.
pub fn all_messages(page: &Page, id: &str) -> Vec<Value> {
    let row = page.find(id).and_then(|index| page.rows.get(index));
    row.map(|row| numbers(row).into_iter().map(|number| render::message(row, &page.shop, number)).collect())
        .unwrap_or_default()
}

pub fn messages(
    page: &Page,
    id: &str,
    params: &Params,
    switches: &Switches,
    violations: &mut Vec<String>,
) -> Reply {
    let count = last(params, "current_count").map(str::parse::<usize>);
    if matches!(count, Some(Err(_))) {
        violations.push("`current_count` is not a number: ignored".to_owned());
    }
    let asked = count.and_then(Result::ok).unwrap_or(0);
    let skipped = rounded(asked, switches);
    let size = switches.message_batch_later.filter(|_| asked > 0).unwrap_or(switches.message_batch);
    let found = page.find(id).filter(|index| page.shows(*index)).and_then(|index| page.rows.get(index));
    let Some(row) = found else {
        return match switches.lost_conversation {
            LostConversation::Empty => messages_reply(id, Vec::new()),
            LostConversation::SuccessFalse => Reply::unsuccessful("Conversation not found"),
            LostConversation::Http404 => {
                Reply::json(404, json!({"success": false, "message": "Conversation not found"}))
            }
        };
    };
    let numbers = numbers(row);
    let end = numbers.len().saturating_sub(skipped);
    let start = end.saturating_sub(size);
    let batch = numbers.get(start..end).unwrap_or_default();
    let mut messages: Vec<Value> =
        batch.iter().map(|number| render::message(row, &page.shop, *number)).collect();
    if switches.message_order == MessageOrder::Descending {
        messages.reverse();
    }
    messages_reply(id, messages)
}

/// How many messages a `current_count` skips.
fn rounded(count: usize, switches: &Switches) -> usize {
    let unit = switches.message_batch.max(1);
    match switches.current_count {
        CountReading::Exact => count,
        CountReading::RoundDown => count / unit * unit,
        CountReading::RoundUp => count.div_ceil(unit).saturating_mul(unit),
        CountReading::Nearest => count.saturating_add(unit / 2) / unit * unit,
    }
}

fn messages_reply(id: &str, messages: Vec<Value>) -> Reply {
    let rows = messages.len();
    Reply::list(
        json!({"success": true, "conversation_id": id, "messages": messages, "last_commented_at": false}),
        rows,
    )
}

pub fn tags() -> Reply {
    let tags = Shop::tags();
    let rows = tags.len();
    Reply::list(json!({"tags": tags}), rows)
}

pub fn users(page: &Page) -> Reply {
    let users = page.shop.users();
    let rows = users.len();
    let left = json!([{"id": "left-1", "name": "Đinh Văn Nghỉ", "status": "disabled", "fb_id": "299999999999999", "is_online": false}]);
    Reply::list(json!({"success": true, "users": users, "disabled_users": left}), rows)
}

/// All posts, newest first, each with its time.
pub fn all_posts(page: &Page) -> Vec<(Micros, Value)> {
    let mut comments: HashMap<&str, usize> = HashMap::new();
    for row in page.rows.iter().filter(|row| row.kind == "COMMENT" && !row.gone) {
        *comments.entry(row.post_id.as_deref().unwrap_or_default()).or_default() += 1;
    }
    let count = |id: &str| comments.get(id).copied().unwrap_or(0);
    let posts = page.shop.posts.iter().rev();
    posts.map(|post| (post.inserted, post.json(&page.shop, count(&post.id)))).collect()
}

pub fn posts(
    page: &Page,
    params: &Params,
    switches: &Switches,
    now: Micros,
    violations: &mut Vec<String>,
) -> Reply {
    if let Some(refusal) = required(params, &["since", "until", "page_number", "page_size"], violations) {
        return refusal;
    }
    let window = match window::read(params, Endpoint::Posts, switches, now, violations) {
        Ok(window) => window,
        Err(refusal) => return refusal.reply(),
    };
    let kind = last(params, "type");
    if kind.is_some_and(|kind| !["video", "photo", "text", "livestream"].contains(&kind)) {
        violations.push("`type` is no type of post".to_owned());
    }
    let inside: Vec<Value> = all_posts(page)
        .into_iter()
        .filter(|(time, _)| window.lets_in(*time))
        .filter(|(_, post)| kind.is_none_or(|kind| post["type"] == kind))
        .map(|(_, post)| post)
        .collect();
    numbered(inside, |post| post, Numbering { key: "posts", most: 30 }, params, switches, violations)
}

/// Someone who wrote to the page: when first and last, and in which row of the inbox.
#[derive(Debug)]
pub struct Writer {
    person: u64,
    first: Micros,
    latest: Micros,
    inbox: Option<usize>,
}

/// The page's customers, also those whose conversations are gone; newest last, remembered while
/// nothing changes.
fn writers(page: &mut Page) -> Arc<Vec<Writer>> {
    if let Some((version, known)) = &page.writers
        && *version == page.version
    {
        return known.clone();
    }
    let mut people: BTreeMap<u64, Writer> = BTreeMap::new();
    for (index, row) in page.rows.iter().enumerate() {
        if row.verbatim.is_some() || !(row.gone || page.shows(index)) {
            continue;
        }
        // A customer's times are whole seconds, in the filter as in the reply.
        let (first, latest) = (floor(row.inserted.min(row.updated)), floor(row.updated));
        let person = row.person;
        let writer = people.entry(person).or_insert(Writer { person, first, latest, inbox: None });
        writer.first = writer.first.min(first);
        writer.latest = writer.latest.max(latest);
        if row.kind == "INBOX" {
            writer.inbox = Some(index);
        }
    }
    let writers: Arc<Vec<Writer>> = Arc::new(people.into_values().collect());
    page.writers = Some((page.version, writers.clone()));
    writers
}

fn customer(page: &Page, writer: &Writer) -> Value {
    let thread = writer.inbox.and_then(|index| page.rows.get(index)).map(|row| row.id.as_ref());
    render::customer(&page.shop, writer.person, thread, writer.first, writer.latest)
}

pub fn all_customers(page: &mut Page) -> Vec<Value> {
    writers(page).iter().map(|writer| customer(page, writer)).collect()
}

pub fn customers(
    page: &mut Page,
    params: &Params,
    switches: &Switches,
    now: Micros,
    violations: &mut Vec<String>,
) -> Reply {
    if let Some(refusal) = required(params, &["since", "until", "page_number"], violations) {
        return refusal;
    }
    let window = match window::read(params, Endpoint::Customers, switches, now, violations) {
        Ok(window) => window,
        Err(refusal) => return refusal.reply(),
    };
    let order = last(params, "order_by");
    if !matches!(order, None | Some("updated_at" | "inserted_at")) {
        violations.push("`order_by` is neither updated_at nor inserted_at: ignored".to_owned());
    }
    let time = |writer: &Writer| match order {
        Some("updated_at") => writer.latest,
        _ => writer.first,
    };
    let writers = writers(page);
    let mut inside: Vec<&Writer> = writers.iter().filter(|writer| window.lets_in(time(writer))).collect();
    inside.sort_by_key(|writer| Reverse((time(writer), writer.person)));
    let customer = |writer: &Writer| customer(page, writer);
    numbered(inside, customer, Numbering { key: "customers", most: 100 }, params, switches, violations)
}

/// The refusal where a required parameter is missing.
fn required(params: &Params, names: &[&str], violations: &mut Vec<String>) -> Option<Reply> {
    let missing = names.iter().find(|name| last(params, name).is_none())?;
    violations.push(format!("required parameter `{missing}` is missing"));
    Some(Reply::json(
        200,
        json!({"success": false, "error_code": 100, "message": format!("missing required field: {missing}")}),
    ))
}

/// The key of a numbered list, and the most rows of a batch.
struct Numbering {
    key: &'static str,
    most: usize,
}

/// One numbered page of a list, with the total of its window.
fn numbered<T>(
    rows: Vec<T>,
    write: impl Fn(T) -> Value,
    numbering: Numbering,
    params: &Params,
    switches: &Switches,
    violations: &mut Vec<String>,
) -> Reply {
    let Numbering { key, most } = numbering;
    let mut read = |name: &str, usual: usize, most: usize| {
        let Some(text) = last(params, name) else { return usual };
        let number = text.parse::<usize>().ok().filter(|number| (1..=most).contains(number));
        if number.is_none() {
            violations.push(format!("`{name}` is not a number from 1 to {most}"));
        }
        number.unwrap_or(usual)
    };
    let size = read("page_size", most, most);
    let number = read("page_number", 1, usize::MAX);
    let number = if switches.page_number_ignored { 1 } else { number };
    let total = rows.len();
    let first = (number - 1).saturating_mul(size);
    let batch: Vec<Value> = rows.into_iter().skip(first).take(size).map(write).collect();
    let count = batch.len();
    let mut body = json!({"success": true});
    match switches.total {
        TotalReading::Exact => body["total"] = json!(total),
        TotalReading::OfBatch => body["total"] = json!(count),
        TotalReading::Missing => {}
    }
    body[key] = Value::Array(batch);
    Reply::list(body, count)
}
