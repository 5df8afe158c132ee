//! This module copies the list of a user's pages without what may be secret, at whatever depth:
//! Pancake's reply holds the tokens of all of them. Which lists need it is decided where replies
//! are fetched.

use serde_json::value::RawValue;

use crate::json::object::{Fields, spell};

/// What lies deeper is not looked through, and not shown: no page is known to go beyond five.
const DEEPEST: usize = 100;

/// The same JSON without settings, and without whatever calls itself a token. What is no JSON stays
/// as it is.
pub fn redacted(json: String) -> String {
    let mut shown = String::with_capacity(json.len());
    let Ok(whole) = serde_json::from_str::<&RawValue>(&json) else { return json };
    match copy(whole, 0, &mut shown) {
        Ok(()) => shown,
        Err(_) => "null".to_owned(),
    }
}

fn is_secret(key: &str) -> bool {
    key == "settings" || key.to_lowercase().contains("token")
}

fn copy(value: &RawValue, depth: usize, shown: &mut String) -> serde_json::Result<()> {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'{' | b'[') if depth == DEEPEST => shown.push_str("null"),
        Some(b'{') => {
            shown.push('{');
            let fields = Fields::read(json)?;
            for (place, (key, value)) in fields.entries().filter(|(key, _)| !is_secret(key)).enumerate() {
                shown.push_str(if place > 0 { "," } else { "" });
                spell(key, shown);
                shown.push(':');
                copy(value, depth + 1, shown)?;
            }
            shown.push('}');
        }
        Some(b'[') => {
            shown.push('[');
            for (place, value) in serde_json::from_str::<Vec<&RawValue>>(json)?.into_iter().enumerate() {
                shown.push_str(if place > 0 { "," } else { "" });
                copy(value, depth + 1, shown)?;
            }
            shown.push(']');
        }
        _ => shown.push_str(json),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_left_out_at_every_depth() {
        let json = r#"{"a":1.50,"settings":{"x":"MARKER"},"Access_Token":"MARKER","access\u005ftoken":["MARKER"],
            "nested":{"b\"\\":null,"access_token":"MARKER","more":{"settings":"MARKER","c":"é"}},
            "list":[ 1,{"page_access_token":"MARKER","id":"token"},[{"tokens":["MARKER"],"d":[]}]]}"#;
        assert_eq!(
            redacted(json.to_owned()),
            r#"{"a":1.50,"nested":{"b\"\\":null,"more":{"c":"é"}},"list":[1,{"id":"token"},[{"d":[]}]]}"#
        );
    }

    #[test]
    fn what_is_too_deep_is_not_shown_and_what_is_no_json_stays() {
        let deep = |inner: &str, depth: usize| format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(redacted(deep(r#"{"token":"MARKER"}"#, DEEPEST)), deep("null", DEEPEST));
        assert_eq!(redacted(deep(r#"{"token":1,"a":2}"#, DEEPEST - 1)), deep(r#"{"a":2}"#, DEEPEST - 1));
        assert!(!redacted(deep(r#"{"token":"MARKER"}"#, 100_000)).contains("MARKER"));
        // A key that is half a character cannot be read.
        assert_eq!(redacted(r#"{"a":{"\ud800":{"token":"MARKER"}}}"#.to_owned()), "null");
        for odd in ["", "<html>", r#"{"a":"#] {
            assert_eq!(redacted(odd.to_owned()), odd);
        }
    }
}
