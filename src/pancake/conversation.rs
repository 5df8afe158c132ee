//! A conversation as the API serves it, in both row shapes, and how each column is read from it.
//! Any key may be missing, null or of another type tomorrow; only `id` and the two times are needed.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::cell::{Cell, Misfit, Raw, list, text, texts};
use crate::column::columns;
use crate::fields::phone;
use crate::time::Micros;

columns! {
    COLUMNS made:
    "id" Text not_null;
    "page_id" Text not_null;
    "type" Text;
    "post_id" Text;
    "customer_id" Text;
    "customer_name" Text;
    "phone_numbers" TextArray not_null;
    "tags" TextArray not_null;
    "tag_names" TextArray not_null;
    "ad_ids" TextArray not_null;
    "assignee_ids" TextArray not_null;
    "snippet" Text;
    "seen" Bool;
    "has_phone" Bool;
    "message_count" Int;
    "last_sent_by_id" Text;
    "last_sent_by_name" Text;
    "last_staff_id" Text;
    "last_staff_name" Text;
    "inserted_at" Time not_null;
    "updated_at" Time not_null;
    "last_message" Jsonb;
    "participants" Jsonb;
    "raw" Jsonb;
}

/// The keys that are read. Borrowed and unparsed: a column costs only when it is asked for.
#[derive(Deserialize)]
pub struct Conversation<'a> {
    #[serde(borrow, default)]
    pub id: Raw<'a>,
    #[serde(borrow, default)]
    pub inserted_at: Raw<'a>,
    #[serde(borrow, default)]
    pub updated_at: Raw<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow, default)]
    post_id: Raw<'a>,
    #[serde(borrow, default)]
    customer_id: Raw<'a>,
    #[serde(borrow, default)]
    page_customer: Raw<'a>,
    #[serde(borrow, default)]
    customers: Raw<'a>,
    #[serde(borrow, default)]
    from: Raw<'a>,
    #[serde(borrow, default)]
    participants: Raw<'a>,
    #[serde(borrow, default)]
    recent_phone_numbers: Raw<'a>,
    #[serde(borrow, default)]
    tags: Raw<'a>,
    #[serde(borrow, default)]
    ad_ids: Raw<'a>,
    #[serde(borrow, default)]
    assignee_ids: Raw<'a>,
    #[serde(borrow, default)]
    snippet: Raw<'a>,
    #[serde(borrow, default)]
    last_message: Raw<'a>,
    #[serde(borrow, default)]
    seen: Raw<'a>,
    #[serde(borrow, default)]
    has_phone: Raw<'a>,
    #[serde(borrow, default)]
    message_count: Raw<'a>,
    #[serde(borrow, default)]
    last_sent_by: Raw<'a>,
}

/// The keys of the small objects inside a row: people, tags, phone numbers, the last message.
#[derive(Default, Deserialize)]
struct Inner<'a> {
    #[serde(borrow, default)]
    id: Raw<'a>,
    #[serde(borrow, default)]
    fb_id: Raw<'a>,
    #[serde(borrow, default)]
    customer_id: Raw<'a>,
    #[serde(borrow, default)]
    name: Raw<'a>,
    #[serde(borrow, default)]
    email: Raw<'a>,
    #[serde(borrow, default)]
    phone: Raw<'a>,
    #[serde(borrow, default)]
    text: Raw<'a>,
    #[serde(borrow, default)]
    sender: Raw<'a>,
    #[serde(borrow, default)]
    created_at: Raw<'a>,
    #[serde(borrow, default)]
    uid: Raw<'a>,
    #[serde(borrow, default)]
    admin_name: Raw<'a>,
}

/// The inside of an object; empty where there is none.
fn inner(raw: Raw<'_>) -> Inner<'_> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

impl Conversation<'_> {
    pub fn post_id(&self) -> Option<String> {
        text(self.post_id)
    }

    /// The cell of a documented column.
    pub fn cell(&self, column: &str, page_id: &str, whole: &RawValue) -> Result<Cell, Misfit> {
        Ok(match column {
            "id" => Cell::text(self.id),
            "page_id" => Cell::Text(page_id.to_owned()),
            "type" => Cell::text(self.kind),
            "post_id" => Cell::text(self.post_id),
            "customer_id" => match Cell::text(self.customer_id) {
                Cell::Null => Cell::text(inner(self.page_customer).customer_id),
                id => id,
            },
            "customer_name" => self.customer_name(page_id).map_or(Cell::Null, Cell::Text),
            "phone_numbers" => Cell::Texts(self.phone_numbers().into_iter().map(Some).collect()),
            "tags" => Cell::Texts(self.tags().into_iter().map(|(id, _)| Some(id)).collect()),
            "tag_names" => Cell::Texts(self.tags().into_iter().map(|(_, name)| name).collect()),
            "ad_ids" => texts(self.ad_ids),
            "assignee_ids" => texts(self.assignee_ids),
            "snippet" => match Cell::text(self.snippet) {
                Cell::Null => Cell::text(inner(self.last_message).text),
                snippet => snippet,
            },
            "seen" => Cell::bool(self.seen),
            "has_phone" => Cell::bool(self.has_phone),
            "message_count" => Cell::int(self.message_count),
            "last_sent_by_id" => Cell::text(inner(self.last_sent_by).id),
            "last_sent_by_name" => Cell::text(inner(self.last_sent_by).name),
            "last_staff_id" => Cell::text(inner(self.last_sent_by).uid),
            "last_staff_name" => Cell::text(inner(self.last_sent_by).admin_name),
            "inserted_at" => Cell::time(self.inserted_at)?,
            "updated_at" => Cell::time(self.updated_at)?,
            "last_message" => self.last_message(page_id),
            "participants" => self.participants(),
            _ => Cell::Json(whole.get().to_owned()),
        })
    }

    fn customer_name(&self, page_id: &str) -> Option<String> {
        let first = |people| list(people).first().and_then(|person| text(inner(*person).name));
        let sender = || {
            let from = inner(self.from);
            text(from.name).filter(|_| text(from.id).as_deref() != Some(page_id))
        };
        text(inner(self.page_customer).name)
            .or_else(|| first(self.customers))
            .or_else(sender)
            .or_else(|| first(self.participants))
    }

    /// Objects or plain strings, else the phones of the participants.
    fn phone_numbers(&self) -> Vec<String> {
        let recent: Vec<_> = list(self.recent_phone_numbers).into_iter().filter_map(phone).collect();
        match recent.is_empty() {
            false => recent,
            true => {
                list(self.participants).into_iter().filter_map(|person| text(inner(person).phone)).collect()
            }
        }
    }

    /// Id and name of each tag: objects, strings or bare integers; null entries are removed tags.
    fn tags(&self) -> Vec<(String, Option<String>)> {
        let tag = |entry: Raw| match entry?.get().starts_with('{') {
            true => {
                let tag = inner(entry);
                text(tag.id).map(|id| (id, text(tag.text)))
            }
            false => text(entry).map(|id| (id, None)),
        };
        list(self.tags).into_iter().filter_map(tag).collect()
    }

    /// `{text, sender, created_at}`: as served where the row has it, else built from what the other shape says.
    fn last_message(&self, page_id: &str) -> Cell {
        let zoned = |raw| text(raw).map(|time| Micros::parse(&time).map_or(time, Micros::iso));
        let message = match self.last_message.is_some() {
            true => {
                let message = inner(self.last_message);
                let (sender, at) = (text(message.sender), zoned(message.created_at));
                json!({"text": text(message.text), "sender": sender, "created_at": at})
            }
            false => {
                let sender = text(inner(self.last_sent_by).id);
                let sender = sender.map(|id| if id == page_id { "page" } else { "customer" });
                json!({"text": text(self.snippet), "sender": sender, "created_at": zoned(self.updated_at)})
            }
        };
        Cell::Json(message.to_string())
    }

    /// `[{name, email, phone}]`: as served where the row has it, else built from customers and phone numbers.
    fn participants(&self) -> Cell {
        if self.participants.is_some() {
            return Cell::json(self.participants);
        }
        let from = inner(self.from);
        let email = |person: &Inner| {
            let same = text(person.fb_id).or(text(person.id)) == text(from.id);
            text(from.email).filter(|_| same)
        };
        let phones = self.phone_numbers();
        let people = list(self.customers).into_iter().map(inner).enumerate();
        let people =
            people.map(|(i, p)| json!({"name": text(p.name), "email": email(&p), "phone": phones.get(i)}));
        Cell::Json(serde_json::Value::Array(people.collect()).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBSERVED: &str = r##"{"id":"1_7","type":"INBOX","page_id":"1","post_id":null,"snippet":"Size M?","seen":true,
        "message_count":39,"has_phone":true,"inserted_at":"2026-03-30T02:11:05.123456","updated_at":"2026-03-31T13:42:20.207000",
        "from":{"id":"7","name":"Khách A","email":"7@facebook.com"},
        "last_sent_by":{"id":"1","name":"Shop X","admin_name":"NV B","uid":"1111"},"customer_id":"2222",
        "customers":[{"id":"3333","fb_id":"7","name":"Khách A"}],"page_customer":{"id":"3333","customer_id":"2222","name":"Khách A"},
        "tags":[{"id":61,"text":"Đã mua","color":"#4b5577"},null,{"id":"62","text":"VIP"}],
        "recent_phone_numbers":[{"phone_number":"0900000000","captured":"0900.000.000"},"0911"],"ad_ids":["12"],"assignee_ids":[]}"##;
    const ARTICLE: &str = r#"{"id":"conv_1","type":"INBOX","page_uid":"1","updated_at":"2026-05-28T08:14:22Z","inserted_at":"2026-05-20T03:11:05Z",
        "tags":["t1",62],"last_message":{"text":"Chào","sender":"customer","created_at":"2026-05-28T15:14:22+07:00"},
        "participants":[{"name":"Văn A","email":null,"phone":"0901"}]}"#;

    fn cell(json: &str, column: &str) -> Cell {
        let whole: &RawValue = serde_json::from_str(json).unwrap();
        let row: Conversation = serde_json::from_str(json).unwrap();
        row.cell(column, "1", whole).unwrap()
    }

    fn some(texts: &[&str]) -> Cell {
        Cell::Texts(texts.iter().map(|t| Some((*t).to_owned())).collect())
    }

    fn as_json(cell: Cell) -> serde_json::Value {
        match cell {
            Cell::Json(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_observed_shape() {
        assert_eq!(cell(OBSERVED, "customer_name"), Cell::Text("Khách A".into()));
        assert_eq!(cell(OBSERVED, "phone_numbers"), some(&["0900000000", "0911"]));
        assert_eq!(cell(OBSERVED, "tags"), some(&["61", "62"]));
        assert_eq!(cell(OBSERVED, "tag_names"), some(&["Đã mua", "VIP"]));
        assert_eq!(cell(OBSERVED, "last_staff_name"), Cell::Text("NV B".into()));
        assert_eq!(cell(OBSERVED, "message_count"), Cell::Int(39));
        assert_eq!(cell(OBSERVED, "post_id"), Cell::Null);
        assert_eq!(
            as_json(cell(OBSERVED, "last_message")),
            json!({"text": "Size M?", "sender": "page", "created_at": "2026-03-31T13:42:20.207Z"})
        );
        assert_eq!(
            as_json(cell(OBSERVED, "participants")),
            json!([{"name": "Khách A", "email": "7@facebook.com", "phone": "0900000000"}])
        );
    }

    #[test]
    fn the_article_shape() {
        assert_eq!(cell(ARTICLE, "customer_name"), Cell::Text("Văn A".into()));
        assert_eq!(cell(ARTICLE, "phone_numbers"), some(&["0901"]));
        assert_eq!(cell(ARTICLE, "tags"), some(&["t1", "62"]));
        assert_eq!(cell(ARTICLE, "tag_names"), Cell::Texts(vec![None, None]));
        assert_eq!(cell(ARTICLE, "snippet"), Cell::Text("Chào".into()));
        assert_eq!(as_json(cell(ARTICLE, "last_message"))["created_at"], "2026-05-28T08:14:22Z");
        assert_eq!(cell(ARTICLE, "seen"), Cell::Null);
        assert_eq!(cell(ARTICLE, "ad_ids"), some(&[]));
    }
}
