//! This module reads a row of conversations as the API serves it, in both row shapes. Any key may
//! be missing, null or of another type tomorrow. Which columns are made of it: `conversations`.

use std::borrow::Cow;
use std::cell::OnceCell;

use serde::Serialize;

use crate::json::cell::{Cell, Raw, is_object, is_same_page, list, phones, text};
use crate::json::object::{Fields, pick};
use crate::time::Micros;

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
pub(super) struct Person<'a> {
    pub(super) id: Raw<'a>,
    pub(super) fb_id: Raw<'a>,
    pub(super) customer_id: Raw<'a>,
    pub(super) name: Raw<'a>,
    pub(super) email: Raw<'a>,
    pub(super) phone: Raw<'a>,
    pub(super) uid: Raw<'a>,
    pub(super) admin_name: Raw<'a>,
}

impl<'a> Person<'a> {
    fn read(raw: Raw<'a>) -> Self {
        let keys = ["id", "fb_id", "customer_id", "name", "email", "phone", "uid", "admin_name"];
        let [id, fb_id, customer_id, name, email, phone, uid, admin_name] = pick(raw, keys);
        Self { id, fb_id, customer_id, name, email, phone, uid, admin_name }
    }
}

/// A tag's id and name.
pub(super) type Tag<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

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

    pub(super) fn customer_id(&self) -> Raw<'a> {
        self.row.get("customer_id").or_else(|| self.page_customer().customer_id)
    }

    pub(super) fn snippet(&self) -> Raw<'a> {
        self.row.get("snippet").or_else(|| {
            let [text] = pick(self.row.get("last_message"), ["text"]);
            text
        })
    }

    fn from(&self) -> &Person<'a> {
        self.from.get_or_init(|| Person::read(self.row.get("from")))
    }

    pub(super) fn last_sent_by(&self) -> &Person<'a> {
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

    pub(super) fn customer_name(&self) -> Option<Cow<'a, str>> {
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
    pub(super) fn phones(&self) -> &[Cow<'a, str>] {
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
    pub(super) fn tags(&self) -> &[Tag<'a>] {
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
    pub(super) fn last_message(&self) -> Cell<'a> {
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
    pub(super) fn participants_cell(&self) -> Cell<'a> {
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
