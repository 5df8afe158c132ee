//! This module holds the table `conversations` (docs/api.md), and reads a row as the API serves it,
//! in both row shapes, and how each column is read from it. Any key may be missing, null or of
//! another type tomorrow; only `id` and the two times are needed.

use std::borrow::Cow;
use std::cell::OnceCell;

use serde::Serialize;

use crate::json::cell::{Cell, Raw, is_object, is_same_page, list, phones, text};
use crate::json::object::{Fields, pick};
use crate::schema::column::From::{Made, Page, Row};
use crate::schema::column::columns;
use crate::schema::table::{BOTH, ByValue, Pagination, Shape, Table};
use crate::time::Micros;

columns! {
    COLUMNS:
    "id" Text not_null;
    "page_id" Text not_null <- Page;
    "type" Text;
    "post_id" Text;
    "customer_id" Text <- Made(|row| Cell::text(row.customer_id()));
    "customer_name" Text <- Made(|row| row.customer_name().map_or(Cell::Null, Cell::Text));
    "phone_numbers" TextArray not_null <- Made(|row| Cell::Texts(row.phones().iter().cloned().map(Some).collect()));
    "tags" TextArray not_null <- Made(|row| Cell::Texts(row.tags().iter().map(|(id, _)| Some(id.clone())).collect()));
    "tag_names" TextArray not_null <- Made(|row| Cell::Texts(row.tags().iter().map(|(_, name)| name.clone()).collect()));
    "ad_ids" TextArray not_null;
    "assignee_ids" TextArray not_null;
    "snippet" Text <- Made(|row| Cell::text(row.snippet()));
    "seen" Bool;
    "has_phone" Bool;
    "message_count" Int;
    "last_sent_by_id" Text <- Made(|row| Cell::text(row.last_sent_by().id));
    "last_sent_by_name" Text <- Made(|row| Cell::text(row.last_sent_by().name));
    "last_staff_id" Text <- Made(|row| Cell::text(row.last_sent_by().uid));
    "last_staff_name" Text <- Made(|row| Cell::text(row.last_sent_by().admin_name));
    "inserted_at" Time not_null;
    "updated_at" Time not_null;
    "last_message" Jsonb <- Made(|row| row.last_message());
    "participants" Jsonb <- Made(|row| row.participants_cell());
    "raw" Jsonb <- Row;
}

pub const TABLE: Table = Table {
    name: "conversations",
    row: "conversation",
    columns: COLUMNS,
    path: "public_api/v2/pages/{page_id}/conversations",
    shape: Shape::List,
    pagination: Pagination::Cursor,
    orders: BOTH,
    by_value: &[
        ByValue { column: "type", values: &["INBOX", "COMMENT"] },
        ByValue { column: "post_id", values: &[] },
    ],
    by_elements: Some("tags"),
    unknown_rows: 6_000.0,
};

/// A row, and what several columns read of its inside: parsed when the first of them is asked for.
pub struct Conversation<'r, 'a> {
    row: &'r Fields<'a>,
    page_id: &'r str,
    from: OnceCell<Person<'a>>,
    last_sent_by: OnceCell<Person<'a>>,
    page_customer: OnceCell<Person<'a>>,
    customers: OnceCell<Vec<Person<'a>>>,
    participants: OnceCell<Vec<Person<'a>>>,
    tags: OnceCell<Vec<Tag<'a>>>,
    phones: OnceCell<Vec<Cow<'a, str>>>,
}

/// The sender, the last sender, a customer: each kind has some of these keys.
#[derive(Clone, Copy)]
struct Person<'a> {
    id: Raw<'a>,
    fb_id: Raw<'a>,
    customer_id: Raw<'a>,
    name: Raw<'a>,
    email: Raw<'a>,
    phone: Raw<'a>,
    uid: Raw<'a>,
    admin_name: Raw<'a>,
}

impl<'a> Person<'a> {
    fn read(raw: Raw<'a>) -> Self {
        let keys = ["id", "fb_id", "customer_id", "name", "email", "phone", "uid", "admin_name"];
        let [id, fb_id, customer_id, name, email, phone, uid, admin_name] = pick(raw, keys);
        Self { id, fb_id, customer_id, name, email, phone, uid, admin_name }
    }
}

/// A tag's id and name.
type Tag<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

#[derive(Serialize)]
struct LastMessage<'t> {
    text: Option<Cow<'t, str>>,
    sender: Option<Cow<'t, str>>,
    created_at: Option<Cow<'t, str>>,
}

#[derive(Serialize)]
struct Participant<'t> {
    name: Option<Cow<'t, str>>,
    email: Option<Cow<'t, str>>,
    phone: Option<&'t str>,
}

impl<'r, 'a> Conversation<'r, 'a> {
    pub fn new(row: &'r Fields<'a>, page_id: &'r str) -> Self {
        Conversation {
            row,
            page_id,
            from: OnceCell::new(),
            last_sent_by: OnceCell::new(),
            page_customer: OnceCell::new(),
            customers: OnceCell::new(),
            participants: OnceCell::new(),
            tags: OnceCell::new(),
            phones: OnceCell::new(),
        }
    }

    fn customer_id(&self) -> Raw<'a> {
        self.row.get("customer_id").or_else(|| self.page_customer().customer_id)
    }

    fn snippet(&self) -> Raw<'a> {
        self.row.get("snippet").or_else(|| {
            let [text] = pick(self.row.get("last_message"), ["text"]);
            text
        })
    }

    fn from(&self) -> &Person<'a> {
        self.from.get_or_init(|| Person::read(self.row.get("from")))
    }

    fn last_sent_by(&self) -> &Person<'a> {
        self.last_sent_by.get_or_init(|| Person::read(self.row.get("last_sent_by")))
    }

    fn page_customer(&self) -> &Person<'a> {
        self.page_customer.get_or_init(|| Person::read(self.row.get("page_customer")))
    }

    fn customers(&self) -> &[Person<'a>] {
        self.customers.get_or_init(|| people(self.row.get("customers")))
    }

    fn participants(&self) -> &[Person<'a>] {
        self.participants.get_or_init(|| people(self.row.get("participants")))
    }

    fn customer_name(&self) -> Option<Cow<'a, str>> {
        let first = |people: &[Person<'a>]| people.first().and_then(|person| text(person.name));
        let sender = || {
            let from = self.from();
            text(from.name).filter(|_| !text(from.id).is_some_and(|id| is_same_page(&id, self.page_id)))
        };
        text(self.page_customer().name)
            .or_else(|| first(self.customers()))
            .or_else(sender)
            .or_else(|| first(self.participants()))
    }

    /// Objects or plain strings, else the phones of the participants.
    fn phones(&self) -> &[Cow<'a, str>] {
        self.phones.get_or_init(|| {
            let recent = phones(self.row.get("recent_phone_numbers"));
            if recent.is_empty() {
                self.participants().iter().filter_map(|person| text(person.phone)).collect()
            } else {
                recent
            }
        })
    }

    /// Objects, strings or bare integers; null entries are removed tags.
    fn tags(&self) -> &[Tag<'a>] {
        let tag = |entry: Raw<'a>| {
            if is_object(entry) {
                let [id, name] = pick(entry, ["id", "text"]);
                text(id).map(|id| (id, text(name)))
            } else {
                text(entry).map(|id| (id, None))
            }
        };
        self.tags.get_or_init(|| list(self.row.get("tags")).into_iter().filter_map(tag).collect())
    }

    /// `{text, sender, created_at}`: as served where the row has it, else built from the keys of
    /// the other shape.
    fn last_message(&self) -> Cell<'a> {
        let zoned =
            |raw: Raw<'a>| text(raw).map(|time| Micros::parse(&time).map_or(time, |at| Cow::Owned(at.iso())));
        let served = self.row.get("last_message");
        json(&if served.is_some() {
            let [words, sender, at] = pick(served, ["text", "sender", "created_at"]);
            LastMessage { text: text(words), sender: text(sender), created_at: zoned(at) }
        } else {
            let sender = text(self.last_sent_by().id);
            let sender = sender.map(|id| if is_same_page(&id, self.page_id) { "page" } else { "customer" });
            LastMessage {
                text: text(self.row.get("snippet")),
                sender: sender.map(Cow::Borrowed),
                created_at: zoned(self.row.get("updated_at")),
            }
        })
    }

    /// `[{name, email, phone}]`: as served where the row has it, else built from customers and
    /// phone numbers.
    fn participants_cell(&self) -> Cell<'a> {
        let served = self.row.get("participants");
        if served.is_some() {
            return Cell::json(served);
        }
        let email = |person: &Person<'a>| {
            let same = text(person.fb_id).or(text(person.id)) == text(self.from().id);
            text(self.from().email).filter(|_| same)
        };
        let phone = |place: usize| self.phones().get(place).map(Cow::as_ref);
        let people = self.customers().iter().enumerate().map(|(place, person)| Participant {
            name: text(person.name),
            email: email(person),
            phone: phone(place),
        });
        json(&people.collect::<Vec<_>>())
    }
}

/// The objects of a list; what is none has no keys.
fn people(raw: Raw<'_>) -> Vec<Person<'_>> {
    list(raw).into_iter().map(Person::read).collect()
}

/// Texts always can be written as JSON.
fn json<'a>(value: &impl Serialize) -> Cell<'a> {
    serde_json::to_string(value).map_or(Cell::Null, |json| Cell::Json(Cow::Owned(json)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::catalogue::Object;
    use crate::schema::column::Context;

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

    fn cell(json: &'static str, column: &str) -> Cell<'static> {
        let row = Fields::read(json).unwrap();
        let context = Context { page_id: "1", conversation_id: None };
        let column = Object::Conversations.column(column).unwrap();
        column.cell(&row, &Conversation::new(&row, "1"), &context).unwrap()
    }

    fn some(texts: &[&'static str]) -> Cell<'static> {
        Cell::Texts(texts.iter().map(|t| Some((*t).into())).collect())
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
