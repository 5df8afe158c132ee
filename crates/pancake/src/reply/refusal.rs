//! This module classifies replies that refuse a request: `success: false`, or an error code instead
//! of the list. Such replies come as HTTP 200, and their words and codes stand under several keys
//! (docs/api.md).

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::error::{Error, Kind, quote};
use crate::json::cell::{self, Raw, is_object};
use crate::json::object::{Fields, pick};
use crate::reply::raw::{Reply, full_stop};
use crate::reply::retry::{Again, Failure};
use crate::schema::catalogue::Object;

/// A refusal: its code, if it gives one, and its words.
#[derive(Debug, PartialEq)]
pub struct Refusal {
    code: Option<String>,
    pub words: String,
}

/// What a refusal is about, by its code and its words.
#[derive(Debug, PartialEq)]
enum Matter {
    /// The token, and what is wrong with it.
    Token(&'static str),
    Permission,
    Subscription,
    Rate,
    /// The fault is described as a passing one.
    Load,
    /// It gives no code.
    Unnamed,
    UnknownCode,
}

impl Refusal {
    /// The refusal that these keys of a reply hold. Beside rows only `success` counts.
    pub fn read(keys: &Fields, has_rows: bool) -> Option<Self> {
        let said = |key: &str| cell::text(keys.get(key)).map(|text| text.to_lowercase());
        let is_refused = said("success").is_some_and(|success| ["false", "0"].contains(&success.as_str()))
            || said("status").is_some_and(|status| ["error", "fail", "failed"].contains(&status.as_str()));
        let code = code_of(keys);
        let has_words = ["error", "errors"].into_iter().any(|key| keys.get(key).is_some_and(is_said));
        let is_error = !has_rows && (code.is_some() || has_words);
        (is_refused || is_error).then(|| Self { code, words: words_of(keys) })
    }

    /// Returns the failure that it is, or none if the HTTP status is more specific.
    pub fn judge(&self, object: Object, reply: &Reply) -> Option<Failure> {
        let what = match &self.code {
            Some(code) => format!("error code {}", quote(code)),
            None => "a refusal".to_owned(),
        };
        let said = format!("Pancake answered HTTP {} with {what}: {}", reply.status, quote(&self.words));
        let said = full_stop(&said);
        let error = |kind, message: &str| Error::new(kind, message).detail(&said);
        let matter = self.matter();
        // Without a success the status is more specific than the words.
        if !reply.is_success() && !self.has_known_code() {
            return None;
        }
        Some(match matter {
            Matter::Token(what) => Failure::for_good(token_refused(object, what).detail(&said)),
            Matter::Permission => Failure::for_good(
                error(Kind::PageRefused, "no permission for this page")
                    .hint("The account that made the token has lost its part in the page: give it back, or make the token with another."),
            ),
            Matter::Subscription => {
                Failure::for_good(error(Kind::PageRefused, "page has no valid subscription"))
            }
            Matter::Rate => reply.throttled(&said),
            Matter::Load => {
                Failure::transient(error(Kind::ServerFault, "Pancake could not answer")).maybe_form()
            }
            Matter::Unnamed => Failure::new(
                error(Kind::ServerFault, "Pancake refused the request").hint(
                    "DETAIL quotes Pancake's own words. If they name nothing that can be mended here, the fault is on \
                     Pancake's side: try later, and check its status page if it lasts.",
                ),
                Again::Refused,
            )
            .maybe_form()
            .about_times(self.names_times()),
            Matter::UnknownCode => Failure::for_good(error(Kind::NotUnderstood, "Pancake refused the request"))
                .maybe_form()
                .about_times(self.names_times()),
        })
    }

    /// "Since must be provided with until", "date range must be less than 1 month!" (docs/api.md).
    pub fn names_times(&self) -> bool {
        let words = self.words.to_lowercase();
        ["since", "until", "date range", "month"].iter().any(|word| words.contains(word))
    }

    fn has_known_code(&self) -> bool {
        self.code.is_some() && self.matter() != Matter::UnknownCode
    }

    /// Codes as documented; 100 and 106 have been seen for an invalid token as well, 121 and
    /// refusals without a code for a missing plan (docs/api.md). Their words decide.
    fn matter(&self) -> Matter {
        let words = self.words.to_lowercase();
        let names = |words_of: &[&str]| words_of.iter().any(|word| words.contains(word));
        let token = names(TOKEN_WORDS).then(|| match () {
            () if names(&["renew", "regenerat"]) => "was regenerated",
            () if names(&["expire", "hết hạn"]) => "has expired",
            () if names(&["missing", "required", "thiếu"]) => "is missing",
            () => "is not valid",
        });
        let is_bad = names(&["invalid", "not valid", "expire", "renew", "không hợp lệ", "hết hạn"]);
        match (self.code.as_deref(), token) {
            (Some("101"), _) => Matter::Token("is missing"),
            (Some("102"), _) => Matter::Token("is not valid"),
            (Some("103"), _) => Matter::Token("has expired"),
            (Some("105"), _) => Matter::Token("was regenerated"),
            (Some("100" | "106"), Some(what)) => Matter::Token(what),
            (None, Some(what)) if is_bad => Matter::Token(what),
            (Some("121" | "122"), _) => Matter::Subscription,
            (None | Some("100" | "106" | "107"), _) if names(PLAN_WORDS) => Matter::Subscription,
            (Some("106" | "107"), _) => Matter::Permission,
            (Some("429"), _) => Matter::Rate,
            (None, _) if names(&["too many requests", "rate limit"]) => Matter::Rate,
            (None, _) if names(&["try again", "thử lại"]) => Matter::Load,
            (None, _) => Matter::Unnamed,
            (Some(_), _) => Matter::UnknownCode,
        }
    }
}

/// Words for a token of Pancake, and for none of JSON's.
const TOKEN_WORDS: &[&str] =
    &["access_token", "access token", "invalid token", "token is", "token has", "token không", "token đã"];

/// Words for the plan that a page pays for.
const PLAN_WORDS: &[&str] = &[
    "subscription",
    "your plan",
    "plan has expired",
    "plan expired",
    "gói cước",
    "gói dịch vụ",
    "mua gói",
    "gia hạn",
    "nâng cấp gói",
];

/// The words of a refusal, under whichever key they stand.
fn words_of(keys: &Fields) -> String {
    let under = ["message", "error", "errors", "reason", "detail"].into_iter();
    under.filter_map(|key| text_of(keys.get(key))).find(|words| !words.trim().is_empty()).unwrap_or_default()
}

/// Returns whether a value holds any text.
fn is_said(value: &RawValue) -> bool {
    !["null", "false", "0", "\"\"", "[]", "{}"].contains(&value.get())
}

/// The error code, under whichever key it stands; 0 and 200 are none.
fn code_of(keys: &Fields) -> Option<String> {
    let inner = |key: &str| {
        let value = first(keys.get(key));
        let [error_code, code] = pick(value, ["error_code", "code"]);
        error_code.or(code)
    };
    let all = [keys.get("error_code"), inner("error"), inner("errors"), keys.get("code")];
    let code = all.into_iter().find_map(cell::text)?;
    let code = cell::whole(&code).map_or_else(|| code.into_owned(), |number| number.to_string());
    (code != "0" && code != "200").then_some(code)
}

/// A value, or the first of a list.
fn first(value: Raw) -> Raw {
    if value.is_some_and(|json| json.get().starts_with('[')) {
        cell::list(value).into_iter().next().flatten()
    } else {
        value
    }
}

/// A text, or the text within an object, or of the elements of a list; what lies deeper is quoted
/// as it is.
fn text_of(value: Raw) -> Option<String> {
    let words = |value: Raw| {
        let inner = pick(value, ["message", "error", "reason", "detail", "msg"]);
        let inner = inner.into_iter().find_map(cell::text).filter(|_| is_object(value));
        inner.or_else(|| cell::text(value)).map(Cow::into_owned)
    };
    if value.is_some_and(|json| json.get().starts_with('[')) {
        let texts: Vec<_> = cell::list(value).into_iter().take(MOST_WORDS).filter_map(words).collect();
        Some(texts.join("; "))
    } else {
        words(value)
    }
}

/// Elements of a list of errors that are quoted at most.
const MOST_WORDS: usize = 5;

pub fn token_refused(object: Object, what: &str) -> Error {
    if object.needs_page() {
        Error::new(Kind::TokenRefused, format!("page access token {what}"))
    } else {
        Error::new(Kind::TokenRefused, format!("access token {what}")).hint(
            "The pages of a user are listed with the user's own access_token, which lives for 90 days at most; \
             a page_access_token does not work here.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, has_list: bool) -> Option<Refusal> {
        Refusal::read(&Fields::read(json).unwrap(), has_list)
    }

    #[test]
    fn words_and_codes_stand_under_several_keys() {
        for (json, code, words) in [
            (r#"{"success":false,"message":"m"}"#, None, "m"),
            (r#"{"success":"false","reason":"r"}"#, None, "r"),
            (r#"{"success":false,"message":"","error":"e"}"#, None, "e"),
            (r#"{"success":false,"error":{"message":"m","code":105}}"#, Some("105"), "m"),
            (r#"{"success":false,"error":{"odd":1}}"#, None, r#"{"odd":1}"#),
            (r#"{"success":false,"errors":["a",{"message":"b"}]}"#, None, "a; b"),
            (r#"{"success":false,"errors":{"detail":"d"}}"#, None, "d"),
            (r#"{"error_code":"102"}"#, Some("102"), ""),
            (r#"{"error_code":105.0}"#, Some("105"), ""),
            (r#"{"errors":[{"code":105,"message":"renewed"}]}"#, Some("105"), "renewed"),
            (r#"{"code":102,"message":"m"}"#, Some("102"), "m"),
            (r#"{"errors":{"detail":"Not Acceptable"}}"#, None, "Not Acceptable"),
            (r#"{"success":false}"#, None, ""),
        ] {
            let expected = Refusal { code: code.map(str::to_owned), words: words.to_owned() };
            assert_eq!(read(json, false), Some(expected), "{json}");
        }
        for json in [r#"{}"#, r#"{"success":true,"message":"fine"}"#, r#"{"success":true,"error":null}"#] {
            assert_eq!(read(json, false), None, "{json}");
        }
        for json in [r#"{"error_code":105}"#, r#"{"error":"e"}"#] {
            assert_eq!(read(json, true), None, "{json}");
        }
        for json in
            [r#"{"success":false}"#, r#"{"success":0}"#, r#"{"success":"False"}"#, r#"{"status":"error"}"#]
        {
            assert!(read(json, true).is_some(), "{json}");
        }
        // However deep it lies, it is read in one pass.
        for (open, close) in [("[", "]"), (r#"{"message":"#, "}")] {
            let deep =
                format!(r#"{{"success":false,"errors":{}"x"{}}}"#, open.repeat(50_000), close.repeat(50_000));
            assert!(read(&deep, false).is_some());
        }
    }

    #[test]
    fn codes_of_two_meanings_go_by_their_words() {
        let matter = |code: Option<&str>, words: &str| {
            Refusal { code: code.map(str::to_owned), words: words.to_owned() }.matter()
        };
        for (code, words, expected) in [
            (Some("100"), "Token is not valid", Matter::Token("is not valid")),
            (Some("100"), "page_access_token is required", Matter::Token("is missing")),
            (Some("100"), "Missing field since", Matter::UnknownCode),
            (Some("106"), "Invalid token", Matter::Token("is not valid")),
            (Some("106"), "No permission", Matter::Permission),
            (Some("107"), "Page has no subscription", Matter::Subscription),
            (Some("107"), "no", Matter::Permission),
            (Some("121"), "", Matter::Subscription),
            (
                Some("105"),
                "access_token renewed please use new access_token",
                Matter::Token("was regenerated"),
            ),
            (None, "Trang chưa mua gói dịch vụ", Matter::Subscription),
            (None, "Gói cước đã hết hạn", Matter::Subscription),
            (None, "Your subscription has expired", Matter::Subscription),
            (None, "Invalid access_token", Matter::Token("is not valid")),
            (None, "Token đã hết hạn", Matter::Token("has expired")),
            (None, "Since must be provided with until", Matter::Unnamed),
            (None, "date range must be less than 1 month!", Matter::Unnamed),
            (None, "An error occurred. Please try again later.", Matter::Load),
            (None, "Planned maintenance", Matter::Unnamed),
            (None, "Too many requests", Matter::Rate),
            (None, "Unexpected token '<' is not valid JSON", Matter::Unnamed),
            (Some("429"), "", Matter::Rate),
            (Some("9999"), "subscription", Matter::UnknownCode),
        ] {
            assert_eq!(matter(code, words), expected, "{code:?} {words}");
        }
    }
}
