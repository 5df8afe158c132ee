//! This module finds the keys of a JSON object in one pass, and leaves their values unread: what a
//! row of any list is until a column is asked for. Any key may be missing, null or of another type
//! tomorrow. Which key feeds which column is in [`crate::schema::column`], what is made of a value
//! in [`crate::json::cell`].

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::memory;

/// Rows of conversations have about two dozen keys.
const USUAL: usize = 24;

/// A value as it was served; none where the key is missing or null.
pub type Raw<'a> = Option<&'a RawValue>;

/// Keys and values in the order served. A list, as looking through it takes less than hashing
/// would.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    served: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// A key that the object itself lacks: its place in the reply implies the value.
    implied: Option<(&'static str, bool)>,
}

impl<'a> Fields<'a> {
    pub fn read(json: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }

    /// The value of a key; a null is as none. Of a key that came twice the last value counts, as in
    /// jsonb.
    pub fn get(&self, key: &str) -> Raw<'a> {
        let served = self.served.iter().rev().find(|(name, _)| name == key);
        let served = served.map(|(_, value)| *value).filter(|value| value.get() != "null");
        served.or_else(|| match self.implied.filter(|(name, _)| *name == key)? {
            (_, true) => Some(RawValue::TRUE),
            (_, false) => Some(RawValue::FALSE),
        })
    }

    /// Whether a key came more than once.
    pub fn is_doubled(&self, key: &str) -> bool {
        self.served.iter().filter(|(name, _)| name == key).nth(1).is_some()
    }

    /// All keys with their values.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.served.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    pub fn push(&mut self, key: Cow<'a, str>, value: &'a RawValue) {
        self.served.push((key, value));
    }

    /// The value of a key where the object has none of its own; the whole stays as served.
    pub fn imply(&mut self, key: &'static str, value: bool) {
        self.implied = Some((key, value));
    }

    /// At least the bytes that the object has as JSON, unless keys have escapes.
    pub fn size(&self) -> usize {
        self.served.iter().map(|(key, value)| key.len() + value.get().len() + 4).sum()
    }

    /// The whole object as JSON, its values as served.
    pub fn whole(&self) -> String {
        let mut json = String::with_capacity(self.size() + 2);
        json.push('{');
        for (place, (key, value)) in self.served.iter().enumerate() {
            if place > 0 {
                json.push(',');
            }
            match key {
                // It had no escapes.
                Cow::Borrowed(key) => json.extend(["\"", key, "\""]),
                Cow::Owned(key) => spell(key, &mut json),
            }
            json.push(':');
            json.push_str(value.get());
        }
        json.push('}');
        json
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object { usual: USUAL })
    }
}

/// Reads an object that probably has so many keys.
struct Object {
    usual: usize,
}

impl<'de> Visitor<'de> for Object {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut served = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            memory::grow(&mut served, self.usual)?;
            served.push((key, map.next_value()?));
        }
        Ok(Fields { served, implied: None })
    }
}

/// The objects of a JSON list, and how many of its elements are none.
#[derive(Debug, Default)]
pub struct Objects<'a> {
    pub objects: Vec<Fields<'a>>,
    pub others: u64,
}

impl Objects<'_> {
    /// A list with elements of which none is an object is no list of rows.
    pub fn is_foreign(&self) -> bool {
        self.objects.is_empty() && self.others > 0
    }
}

impl<'de> Deserialize<'de> for Objects<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Objects<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut all = Objects::default();
                let mut usual = USUAL;
                while let Some(element) = list.next_element_seed(Element { usual })? {
                    let Some(object) = element else {
                        all.others += 1;
                        continue;
                    };
                    usual = object.served.len();
                    memory::grow(&mut all.objects, 64)?;
                    all.objects.push(object);
                }
                Ok(all)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// Reads an element of a list: an object, or nothing if it is anything else.
struct Element {
    usual: usize,
}

impl<'de> DeserializeSeed<'de> for Element {
    type Value = Option<Fields<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element {
    type Value = Option<Fields<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an element")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Object { usual: self.usual }.visit_map(map).map(Some)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Writes a text as a JSON string.
pub fn spell(text: &str, json: &mut String) {
    json.push_str(&serde_json::Value::from(text).to_string());
}

/// The values of a few keys of a small object, nothing kept of the others; none where there is no
/// object.
pub fn pick<'a, const N: usize>(raw: Raw<'a>, keys: [&str; N]) -> [Raw<'a>; N] {
    let none = [None; N];
    let Some(raw) = raw.filter(|raw| raw.get().starts_with('{')) else { return none };
    Pick(keys).deserialize(&mut serde_json::Deserializer::from_str(raw.get())).unwrap_or(none)
}

struct Pick<'k, const N: usize>([&'k str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Pick<'_, N> {
    type Value = [Raw<'de>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Pick<'_, N> {
    type Value = [Raw<'de>; N];

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; N];
        while let Some(Key(key)) = map.next_key()? {
            match self.0.iter().position(|wanted| *wanted == key) {
                Some(place) => values[place] = map.next_value()?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

/// A key, borrowed where it has no escapes.
pub struct Key<'a>(pub Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_what_was_read() {
        for json in [r#"{}"#, r#"{"a":1.50,"b\"\\":[ 1, {"c":"é"}],"a":null}"#] {
            assert_eq!(Fields::read(json).unwrap().whole(), json);
        }
        assert_eq!(Fields::read(" { \"a\" : 1 } ").unwrap().whole(), r#"{"a":1}"#);
    }

    #[test]
    fn the_last_of_a_key_counts_and_null_is_none() {
        let fields = Fields::read(r#"{"a":1,"b":null,"a":2}"#).unwrap();
        let get = |key| fields.get(key).map(RawValue::get);
        assert_eq!((get("a"), get("b"), get("c")), (Some("2"), None, None));
        let entries: Vec<_> = fields.entries().map(|(key, value)| (key, value.get())).collect();
        assert_eq!(entries, [("a", "1"), ("b", "null"), ("a", "2")]);
    }

    #[test]
    fn what_is_implied_gives_way_to_what_is_served() {
        for (json, expected) in [("{}", "true"), (r#"{"a":null}"#, "true"), (r#"{"a":false}"#, "false")] {
            let mut fields = Fields::read(json).unwrap();
            fields.imply("a", true);
            assert_eq!((fields.get("a").map(RawValue::get), fields.whole().as_str()), (Some(expected), json));
            assert!(fields.get("b").is_none());
        }
    }

    #[test]
    fn a_few_keys_are_picked() {
        let row = Fields::read(r#"{"a":{"x":[1],"y":null,"z":"z","x":2},"b":["x",1]}"#).unwrap();
        let get = |key| pick(row.get(key), ["y", "x", "w"]).map(|raw| raw.map(RawValue::get));
        assert_eq!(get("a"), [None, Some("2"), None]);
        assert_eq!((get("b"), get("c")), ([None; 3], [None; 3]));
    }

    #[test]
    fn a_list_gives_its_objects_and_counts_the_rest() {
        let read =
            |json| serde_json::from_str::<Objects>(json).map(|all| (all.objects.len(), all.others)).ok();
        assert_eq!(read("[]"), Some((0, 0)));
        let mixed = r#"[null,{"a":1},true,-1,1,1.5,"x","\u00e9",[1,[{}]],{}]"#;
        assert_eq!(read(mixed), Some((2, 8)));
        for json in ["{}", "1", "[{]", "[1", "null", "[1]]"] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    #[test]
    fn only_an_object_has_fields() {
        for json in ["[]", "[[1]]", "1", "null", r#"{"a":}"#, r#"{"a":1"#, r#"{"a":1}x"#] {
            assert!(Fields::read(json).is_err(), "{json}");
        }
    }
}
