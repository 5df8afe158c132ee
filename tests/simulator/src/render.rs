//! Knows how conversations, messages and customers are written as JSON, in both recorded shapes.
//! What they hold is left to `row` and `shop`.

use serde_json::{Map, Value, json};

use crate::clock::{Micros, naive, seconds, zulu};
use crate::dice::Dice;
use crate::row::Row;
use crate::settings::Shape;
use crate::shop::{Person, Shop, about};
use crate::times::TimeColumn;

/// A conversation as its list serves it.
pub fn conversation(row: &Row, shop: &Shop) -> Value {
    if let Some(value) = &row.verbatim {
        return value.clone();
    }
    let mut value = match shop.shape {
        Shape::Observed => observed(row, shop),
        Shape::Article => article(row, shop),
    };
    row.write_forms(&mut value);
    if let Some(bytes) = shop.row_bytes {
        pad(&mut value, bytes, shop, row);
    }
    value
}

fn time(row: &Row, time: Micros) -> String {
    if row.whole_seconds { seconds(time) } else { naive(time) }
}

fn observed(row: &Row, shop: &Shop) -> Value {
    let mut dice = Dice::of(&[shop.key, about::CELLS, row.ordinal]);
    let person = shop.person(row.person);
    let last = row.talk.total().saturating_sub(1);
    let phones: Vec<Value> = person.phone.iter().map(|phone| phone_number(phone, &mut dice)).collect();
    let assignees: Vec<&str> = match dice.index(shop.staff.len() * 2) {
        drawn if drawn < shop.staff.len() => {
            shop.staff.iter().skip(drawn).take(1 + drawn % 2).map(|staff| staff.uid.as_str()).collect()
        }
        _ => Vec::new(),
    };
    let assigned: Vec<Value> = shop
        .staff
        .iter()
        .filter(|staff| assignees.contains(&staff.uid.as_str()))
        .map(|staff| json!({"id": staff.uid, "name": staff.name, "fb_id": staff.fb_id}))
        .collect();
    let mut value = json!({
        "id": row.id.as_ref(), "type": row.kind, "page_id": shop.id, "post_id": row.post_id,
        "snippet": row.talk.words(last), "seen": row.seen, "message_count": row.talk.total(),
        "has_phone": person.phone.is_some(),
        "inserted_at": time(row, row.inserted), "updated_at": time(row, row.shown(TimeColumn::UpdatedAt)),
        "from": {"id": person.psid, "name": person.name, "email": format!("{}@facebook.com", person.psid)},
        "last_sent_by": sender(row, shop, &person, last),
        "customer_id": person.customer_id,
        "customers": [{"id": person.record_id, "fb_id": person.psid, "name": person.name}],
        "page_customer": {
            "id": person.record_id, "customer_id": person.customer_id, "psid": person.psid, "name": person.name,
            "gender": person.gender, "birthday": person.birthday, "inserted_at": seconds(row.inserted),
            "notes": null, "recent_orders": null,
        },
        "tags": row.tags.iter().map(|tag| tag.map_or(Value::Null, tag_cell)).collect::<Vec<_>>(),
        "tag_histories": [], "assignee_ids": assignees, "assignee_group_id": null,
        "current_assign_users": assigned, "assignee_histories": [], "recent_phone_numbers": phones,
    });
    if !matches!(row.kind.as_str(), "COMMENT" | "RATING") {
        let ads: Vec<String> =
            (0..dice.times(0.3)).map(|_| format!("1202{:014}", dice.below(100_000_000_000_000))).collect();
        let detail =
            |ad: &String| json!({"ad_id": ad, "post_id": null, "inserted_at": seconds(row.inserted)});
        value["ads"] = ads.iter().map(detail).collect();
        value["ad_ids"] = json!(ads);
    }
    value
}

fn article(row: &Row, shop: &Shop) -> Value {
    let person = shop.person(row.person);
    let last = row.talk.total().saturating_sub(1);
    let by_page = row.talk.staff(last, shop.staff.len()).is_some();
    json!({
        "id": row.id.as_ref(), "type": row.kind, "page_uid": shop.id,
        "updated_at": zulu(row.shown(TimeColumn::UpdatedAt)), "inserted_at": zulu(row.inserted),
        "tags": row.tags.iter().flatten().map(ToString::to_string).collect::<Vec<_>>(),
        "last_message": {
            "text": row.talk.words(last), "sender": if by_page { "page" } else { "customer" },
            "created_at": zulu(row.updated),
        },
        "participants": [{"name": person.name, "email": null, "phone": person.phone}],
    })
}

fn tag_cell(id: i64) -> Value {
    Shop::tag(id).unwrap_or_else(
        || json!({"id": id, "text": format!("Thẻ {id}"), "color": "#4b5577", "lighten_color": "#c9ccd6"}),
    )
}

/// Mostly an object, on some rows a plain string.
fn phone_number(phone: &str, dice: &mut Dice) -> Value {
    if dice.chance(0.2) {
        return json!(phone);
    }
    let (head, tail) = phone.split_at(4);
    let captured = format!("{head}.{tail}");
    json!({
        "phone_number": phone, "captured": captured, "m_id": format!("m_{:x}", dice.roll()),
        "offset": dice.below(40), "length": captured.len(), "status": 0,
    })
}

/// Who wrote a message: the customer, or the page by the hand of its staff.
fn sender(row: &Row, shop: &Shop, person: &Person, number: u64) -> Value {
    let staff = row.talk.staff(number, shop.staff.len());
    match staff.and_then(|ordinal| shop.staff.get(ordinal)) {
        Some(staff) => json!({"id": shop.id, "name": shop.name, "admin_name": staff.name, "uid": staff.uid}),
        None => json!({"id": person.psid, "name": person.name}),
    }
}

/// Makes a row about `bytes` large, by the histories that make live rows large.
fn pad(value: &mut Value, bytes: usize, shop: &Shop, row: &Row) {
    let mut missing = bytes.saturating_sub(value.to_string().len());
    let mut dice = Dice::of(&[row.talk.key, about::CELLS]);
    let mut histories = Vec::new();
    while missing > 0 {
        let staff = shop.staff.get(dice.index(shop.staff.len()));
        let mut history = json!({
            "inserted_at": seconds(row.inserted),
            "payload": {"editor_name": staff.map(|staff| staff.name), "editor_id": staff.map(|staff| &staff.uid),
                        "add": [61 + dice.below(9)], "remove": []},
        });
        let size = history.to_string().len() + 1;
        if size > missing {
            // The last one is cut to what is missing, at worst a few bytes too long.
            history = json!({"note": "x".repeat(missing.saturating_sub(12))});
        }
        missing = missing.saturating_sub(size);
        histories.push(history);
    }
    value["tag_histories"] = Value::Array(histories);
}

/// One message of a conversation.
pub fn message(row: &Row, shop: &Shop, number: u64) -> Value {
    let person = shop.person(row.person);
    let mut dice = Dice::of(&[row.talk.key, about::MESSAGE, number, 2]);
    let words = row.talk.words(number);
    let comment = row.kind != "INBOX";
    let attachments = if dice.chance(0.1) {
        json!([{"type": "photo", "url": format!("https://content.pancake.example/{:x}.jpg", dice.roll())}])
    } else {
        json!([])
    };
    let mut other = Dice::of(&[row.talk.key, about::MESSAGE, number, 3]);
    let escaped = words.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    // Of a picture or a sticker there is no text, of a click on an ad only the HTML.
    let (html, plain) = match other.below(100) {
        0..8 => (String::new(), ""),
        8..16 => (format!("<div>{}</div>", escaped.replace(' ', "&#32;")), ""),
        16..24 => (format!("<div><p>{escaped}</p></div>"), words),
        _ => (format!("<div>{escaped}</div>"), words),
    };
    let mut from = sender(row, shop, &person, number);
    if let Some(uid) = from.get("uid").cloned() {
        match other.below(10) {
            0 => from["ai_generated"] = json!(true),
            1 => from["is_automated"] = json!(true),
            2..5 => from["ai_generated"] = json!(false),
            _ => {}
        }
        // The same person by the other key.
        if other.chance(0.2)
            && let Some(keys) = from.as_object_mut()
        {
            keys.remove("uid");
            keys.insert("admin_id".to_owned(), uid);
        }
    }
    json!({
        "id": if comment { format!("{}_{number}", row.id) } else { format!("m_{:x}{number:04}", dice.roll()) },
        "conversation_id": row.id.as_ref(), "page_id": shop.id, "type": row.kind,
        "message": html, "original_message": plain, "from": from,
        "inserted_at": time(row, row.talk.time(number, row.whole_seconds)),
        "seen": dice.chance(0.9), "has_phone": dice.chance(0.05), "attachments": attachments,
        "is_hidden": comment && dice.chance(0.05), "is_removed": dice.chance(0.02),
        "parent_id": (comment && number > 0).then(|| format!("{}_0", row.id)),
    })
}

/// A customer of the page: someone who wrote, with when they first and last did.
pub fn customer(shop: &Shop, person: u64, thread: Option<&str>, first: Micros, last: Micros) -> Value {
    let known = shop.person(person);
    let mut dice = Dice::of(&[shop.key, about::PERSON, person, 1]);
    let mut customer = json!({
        "id": known.record_id, "customer_id": known.customer_id, "name": known.name, "psid": known.psid,
        "thread_id": thread, "birthday": known.birthday, "gender": known.gender, "can_inbox": thread.is_some(),
        "emails": null, "phone_numbers": known.phone.iter().collect::<Vec<_>>(),
        "inserted_at": seconds(first), "updated_at": seconds(last), "recent_orders": [], "notes": [],
    });
    if dice.chance(0.1) {
        customer["emails"] = json!([format!("khach{person}@mail.example")]);
    }
    if dice.chance(0.3) {
        customer["lives_in"] = json!(dice.pick(&["TP. Hồ Chí Minh", "Hà Nội", "Đà Nẵng", "Cần Thơ"]));
    }
    customer
}

/// A page as the user API lists it. Its settings hold the page's token, and so does what stands
/// deeper.
pub fn page(shop: &Shop, token: &str) -> Value {
    let mut settings = Map::new();
    settings.insert("page_access_token".to_owned(), json!(token));
    settings.insert("filter_multi_tag".to_owned(), json!(false));
    json!({
        "id": shop.id, "name": shop.name, "username": null, "platform": "facebook", "timezone": 7,
        "settings": settings,
        "nested": {"access_token": token, "list": [{"page_access_token": token, "kept": 1}]},
    })
}
