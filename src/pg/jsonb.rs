//! JSON → jsonb in the form that Postgres stores (`utils/jsonb.h`, unchanged since 9.4), for a third of what `jsonb_in`
//! takes: on its way the row is the dearest value of all. What is rare is left to `jsonb_in`: numbers other than
//! integers, nesting beyond serde_json's limit, whatever is malformed.

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

/// A value whose bytes are written already.
#[derive(Clone, Copy)]
struct Value {
    kind: u32,
    start: usize,
    length: usize,
}

impl Value {
    /// These begin at multiples of four.
    fn is_aligned(&self) -> bool {
        matches!(self.kind, NUMERIC | CONTAINER)
    }
}

/// Writes values one after another; room is kept from one document to the next.
#[derive(Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    /// Those whose container is still open. In an object keys and values take turns.
    values: Vec<Value>,
    /// An object's keys in the order of jsonb: length, first bytes, place.
    order: Vec<(usize, u64, usize)>,
}

impl Encoder {
    /// What follows the varlena header. None where `jsonb_in` must do it.
    pub fn encode(&mut self, json: &str) -> Option<&[u8]> {
        if json.len() > LONGEST {
            return None;
        }
        self.bytes.clear();
        self.values.clear();
        let mut reader = serde_json::Deserializer::from_str(json);
        Next(self).deserialize(&mut reader).and_then(|()| reader.end()).ok()?;
        if self.values.first()?.kind != CONTAINER {
            self.close_array(0, SCALAR);
        }
        let whole = self.values.first()?;
        self.bytes.get(whole.start..)
    }

    fn put(&mut self, kind: u32, bytes: &[u8]) {
        self.values.push(Value { kind, start: self.bytes.len(), length: bytes.len() });
        self.bytes.extend_from_slice(bytes);
    }

    /// As `make_result` of numeric.c packs an integer: digits of base 10,000 without zeros at either end.
    fn put_integer(&mut self, negative: bool, mut magnitude: u64) {
        let mut digits = [0_u16; 5];
        let mut first = digits.len();
        while magnitude > 0 {
            first -= 1;
            digits[first] = (magnitude % 10_000) as u16;
            magnitude /= 10_000;
        }
        let weight = digits.len().saturating_sub(first + 1);
        let end = digits.iter().rposition(|digit| *digit != 0).map_or(first, |last| last + 1);
        let digits = &digits[first.min(end)..end];
        let length = 4 + 2 + 2 * digits.len();
        let sign = if negative { 0x2000 } else { 0 };
        self.values.push(Value { kind: NUMERIC, start: self.bytes.len(), length });
        self.bytes.extend_from_slice(&varlena_header(length).to_ne_bytes());
        self.bytes.extend_from_slice(&(0x8000_u16 | sign | weight as u16).to_ne_bytes());
        digits.iter().for_each(|digit| self.bytes.extend_from_slice(&digit.to_ne_bytes()));
    }

    fn close_array(&mut self, opened: usize, scalar: u32) {
        let count = self.values.len() - opened;
        let mut container = Container::begin(self, ARRAY | scalar | count as u32, count);
        for place in opened..opened + count {
            container.add(self, place);
        }
        container.end(self, opened);
    }

    fn close_object(&mut self, opened: usize) {
        let (bytes, values) = (&self.bytes, &self.values);
        let key = |place: usize| {
            let key = values[place];
            &bytes[key.start..key.start + key.length]
        };
        let ranked = |place: usize| {
            let mut first = [0; 8];
            key(place).iter().zip(&mut first).for_each(|(from, to)| *to = *from);
            (key(place).len(), u64::from_be_bytes(first), place)
        };
        self.order.clear();
        self.order.extend((opened..values.len()).step_by(2).map(ranked));
        // Of a key that came twice the last value counts.
        self.order.sort_unstable_by(|a, b| {
            (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| key(a.2).cmp(key(b.2))).then(b.2.cmp(&a.2))
        });
        self.order.dedup_by(|next, kept| key(next.2) == key(kept.2));
        let order = std::mem::take(&mut self.order);
        let mut container = Container::begin(self, OBJECT | order.len() as u32, 2 * order.len());
        order.iter().for_each(|(.., place)| container.add(self, *place));
        order.iter().for_each(|(.., place)| container.add(self, place + 1));
        container.end(self, opened);
        self.order = order;
    }
}

/// A container that is put together behind its values, and then takes their place.
struct Container {
    start: usize,
    /// Where its values begin, after the header and an entry for each.
    data: usize,
    entries: usize,
}

impl Container {
    fn begin(encoder: &mut Encoder, header: u32, entries: usize) -> Self {
        let start = encoder.bytes.len();
        let data = start + 4 + 4 * entries;
        encoder.bytes.extend_from_slice(&header.to_ne_bytes());
        encoder.bytes.resize(data, 0);
        Self { start, data, entries: 0 }
    }

    /// Copies a value in. Its padding counts as its own.
    fn add(&mut self, encoder: &mut Encoder, place: usize) {
        let value = encoder.values[place];
        let bytes = &mut encoder.bytes;
        let begun = bytes.len();
        if value.is_aligned() {
            bytes.resize(self.data + (begun - self.data).next_multiple_of(4), 0);
        }
        bytes.extend_from_within(value.start..value.start + value.length);
        let entry = match self.entries % STRIDE {
            0 => value.kind | HAS_OFFSET | (bytes.len() - self.data) as u32,
            _ => value.kind | (bytes.len() - begun) as u32,
        };
        let at = self.start + 4 + 4 * self.entries;
        bytes[at..at + 4].copy_from_slice(&entry.to_ne_bytes());
        self.entries += 1;
    }

    fn end(self, encoder: &mut Encoder, opened: usize) {
        let first = encoder.values.get(opened).map_or(self.start, |value| value.start);
        let length = encoder.bytes.len() - self.start;
        encoder.bytes.copy_within(self.start.., first);
        encoder.bytes.truncate(first + length);
        encoder.values.truncate(opened);
        encoder.values.push(Value { kind: CONTAINER, start: first, length });
    }
}

fn varlena_header(length: usize) -> u32 {
    match cfg!(target_endian = "big") {
        true => length as u32,
        false => (length as u32) << 2,
    }
}

/// The next value of the document, written by an encoder.
struct Next<'e>(&'e mut Encoder);

impl<'de> DeserializeSeed<'de> for Next<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Next<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.put(NULL, &[]);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.put(if value { TRUE } else { FALSE }, &[]);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.put_integer(false, value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.put_integer(value < 0, value.unsigned_abs());
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Err(E::custom("no integer"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match text.contains('\0') {
            true => Err(E::custom("no text of Postgres")),
            false => {
                self.0.put(STRING, text.as_bytes());
                Ok(())
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let opened = self.0.values.len();
        while list.next_element_seed(Next(self.0))?.is_some() {}
        self.0.close_array(opened, 0);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let opened = self.0.values.len();
        while map.next_key_seed(Next(self.0))?.is_some() {
            map.next_value_seed(Next(self.0))?;
        }
        self.0.close_object(opened);
        Ok(())
    }
}
