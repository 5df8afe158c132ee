//! This module turns JSON into jsonb in the form that Postgres stores (`utils/jsonb.h`, unchanged
//! since 9.4), for a third of what `jsonb_in` takes: on its way the row is the dearest value of
//! all. What is rare is left to `jsonb_in`: numbers other than integers, nesting beyond
//! serde_json's limit, whatever is malformed.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

const STRING: u32 = 0;
const NUMERIC: u32 = 0x1000_0000;
const FALSE: u32 = 0x2000_0000;
const TRUE: u32 = 0x3000_0000;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;
/// The entry holds where its value ends, not how long it is: every so many entries.
const HAS_OFFSET: u32 = 0x8000_0000;
const STRIDE: usize = 32;

const ARRAY: u32 = 0x4000_0000;
const OBJECT: u32 = 0x2000_0000;
/// An array that stands for its one element.
const SCALAR: u32 = 0x1000_0000;

/// Lengths have 28 bits; a value this long is none of a row.
const LONGEST: usize = 64 << 20;

/// A value of the document; what is inside it follows it.
struct Node<'a> {
    value: Value<'a>,
    /// Where the next value stands that is not inside this one.
    next: usize,
}

enum Value<'a> {
    Null,
    Bool(bool),
    Integer {
        negative: bool,
        magnitude: u64,
    },
    Text(Cow<'a, str>),
    Array,
    /// Keys and values take turns.
    Object,
}

/// Writes documents one after another; room is kept from one to the next.
#[derive(Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    /// The children of the containers that are being written, in the order of jsonb.
    children: Vec<usize>,
    /// The keys of one object: length, first bytes, place.
    keys: Vec<(usize, u64, usize)>,
    usual_nodes: usize,
}

impl Encoder {
    /// What follows the varlena header. None where `jsonb_in` must do it.
    pub fn encode(&mut self, json: &str) -> Option<&[u8]> {
        if json.len() > LONGEST {
            return None;
        }
        let mut nodes = Vec::with_capacity(self.usual_nodes);
        let mut reader = serde_json::Deserializer::from_str(json);
        Next(&mut nodes).deserialize(&mut reader).and_then(|()| reader.end()).ok()?;
        self.usual_nodes = nodes.len();
        self.bytes.clear();
        self.children.clear();
        if matches!(nodes.first()?.value, Value::Array | Value::Object) {
            self.value(&nodes, 0);
        } else {
            self.children.push(0);
            self.container(ARRAY | SCALAR | 1, &nodes, 0);
        }
        Some(&self.bytes)
    }

    /// Writes a value; padding counts as its own.
    fn value(&mut self, nodes: &[Node], place: usize) -> u32 {
        let opened = self.children.len();
        let end = nodes[place].next;
        match &nodes[place].value {
            Value::Null => NULL,
            Value::Bool(true) => TRUE,
            Value::Bool(false) => FALSE,
            Value::Text(text) => {
                self.bytes.extend_from_slice(text.as_bytes());
                STRING
            }
            Value::Integer { negative, magnitude } => {
                self.align();
                self.integer(*negative, *magnitude);
                NUMERIC
            }
            Value::Array => {
                self.align();
                let mut element = place + 1;
                while element < end {
                    self.children.push(element);
                    element = nodes[element].next;
                }
                let count = self.children.len() - opened;
                self.container(ARRAY | count as u32, nodes, opened);
                CONTAINER
            }
            Value::Object => {
                self.align();
                self.sort_keys(nodes, place + 1, end);
                self.children.extend(self.keys.iter().map(|(.., key)| *key));
                self.children.extend(self.keys.iter().map(|(.., key)| key + 1));
                self.container(OBJECT | self.keys.len() as u32, nodes, opened);
                CONTAINER
            }
        }
    }

    /// The keys of an object, each once: of those that came twice the last counts.
    fn sort_keys(&mut self, nodes: &[Node], mut key: usize, end: usize) {
        let text = |place: usize| match &nodes[place].value {
            Value::Text(text) => text.as_bytes(),
            _ => &[],
        };
        self.keys.clear();
        while key < end {
            let mut first = [0; 8];
            text(key).iter().zip(&mut first).for_each(|(from, to)| *to = *from);
            self.keys.push((text(key).len(), u64::from_be_bytes(first), key));
            key = nodes[key + 1].next;
        }
        self.keys.sort_unstable_by(|a, b| {
            (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| text(a.2).cmp(text(b.2))).then(b.2.cmp(&a.2))
        });
        self.keys.dedup_by(|next, kept| text(next.2) == text(kept.2));
    }

    /// Header, an entry for each child, and the children: an object's keys and then its values.
    fn container(&mut self, header: u32, nodes: &[Node], opened: usize) {
        self.bytes.extend_from_slice(&header.to_ne_bytes());
        let entries = self.bytes.len();
        let count = self.children.len() - opened;
        let data = entries + 4 * count;
        self.bytes.resize(data, 0);
        for i in 0..count {
            let begun = self.bytes.len();
            let kind = self.value(nodes, self.children[opened + i]);
            let end = self.bytes.len();
            let entry = match i % STRIDE {
                0 => kind | HAS_OFFSET | (end - data) as u32,
                _ => kind | (end - begun) as u32,
            };
            self.bytes[entries + 4 * i..][..4].copy_from_slice(&entry.to_ne_bytes());
        }
        self.children.truncate(opened);
    }

    /// Numbers and containers begin at multiples of four.
    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// As `make_result` of numeric.c packs an integer: digits of base 10,000 without zeros at
    /// either end.
    fn integer(&mut self, negative: bool, mut magnitude: u64) {
        let mut digits = [0_u16; 5];
        let mut first = digits.len();
        while magnitude > 0 {
            first -= 1;
            digits[first] = (magnitude % 10_000) as u16;
            magnitude /= 10_000;
        }
        let weight = digits.len().saturating_sub(first + 1);
        let end = digits.iter().rposition(|digit| *digit != 0).map_or(first, |last| last + 1);
        let digits = &digits[first..end];
        let sign = if negative { 0x2000 } else { 0 };
        self.bytes.extend_from_slice(&varlena_header(4 + 2 + 2 * digits.len()).to_ne_bytes());
        self.bytes.extend_from_slice(&(0x8000_u16 | sign | weight as u16).to_ne_bytes());
        digits.iter().for_each(|digit| self.bytes.extend_from_slice(&digit.to_ne_bytes()));
    }
}

fn varlena_header(length: usize) -> u32 {
    if cfg!(target_endian = "big") { length as u32 } else { (length as u32) << 2 }
}

/// The next value of the document.
struct Next<'n, 'a>(&'n mut Vec<Node<'a>>);

impl<'a> Next<'_, 'a> {
    fn push(self, value: Value<'a>) {
        let next = self.0.len() + 1;
        self.0.push(Node { value, next });
    }
}

impl<'de> DeserializeSeed<'de> for Next<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Next<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.push(Value::Null);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.push(Value::Bool(value));
        Ok(())
    }

    fn visit_u64<E>(self, magnitude: u64) -> Result<(), E> {
        self.push(Value::Integer { negative: false, magnitude });
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.push(Value::Integer { negative: value < 0, magnitude: value.unsigned_abs() });
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Err(E::custom("no integer"))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.push(Value::Text(Cow::Borrowed(text)));
        Ok(())
    }

    /// A text with escapes, among which may be a NUL.
    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if text.contains('\0') {
            return Err(E::custom("no text of Postgres"));
        }
        self.push(Value::Text(Cow::Owned(text.to_owned())));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let place = self.0.len();
        self.0.push(Node { value: Value::Array, next: 0 });
        while list.next_element_seed(Next(self.0))?.is_some() {}
        self.0[place].next = self.0.len();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let place = self.0.len();
        self.0.push(Node { value: Value::Object, next: 0 });
        while map.next_key_seed(Next(self.0))?.is_some() {
            map.next_value_seed(Next(self.0))?;
        }
        self.0[place].next = self.0.len();
        Ok(())
    }
}
