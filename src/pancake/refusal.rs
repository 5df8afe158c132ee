//! This module reads what a reply says when it refuses a request: `success: false`, or an error code instead of the
//! list. Such replies come as HTTP 200, and their words and codes stand under several keys (API notes, sections B and I).

use std::borrow::Cow;

use crate::catalogue::Object;
use crate::cell::{self, Raw, is_object};
use crate::error::{Error, Kind, quote};
use crate::fields::{Fields, pick};
use crate::reply::Reply;
use crate::retry::{Again, Failure};

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
    /// It says that it passes.
    Load,
    /// It gives no code.
    Unnamed,
    UnknownCode,
}

impl Refusal {
    /// The refusal that these keys of a reply hold. A code counts only where the reply has no list.
    pub fn read(keys: &Fields, has_list: bool) -> Option<Self> {
        let [code, inner_code, inner_error_code] = {
            let [inner_code, inner_error_code] = pick(keys.get("error"), ["code", "error_code"]);
            [keys.get("error_code").or_else(|| keys.get("code")), inner_code, inner_error_code]
        };
        let code = [code, inner_error_code, inner_code].into_iter().find_map(cell::text);
        let is_false = cell::text(keys.get("success")).is_some_and(|success| success == "false");
        let is_error =
            !has_list && (code.is_some() || keys.get("error").is_some() || keys.get("errors").is_some());
        (is_false || is_error).then(|| Self { code: code.map(Cow::into_owned), words: words_of(keys) })
    }

    /// The failure that it is, or none if the HTTP status says more.
    pub fn judge(&self, object: Object, reply: &Reply) -> Option<Failure> {
        let said = match &self.code {
            Some(code) => format!(
                "Pancake answered HTTP {} with error code {}: {}",
                reply.status,
                quote(code),
                quote(&self.words)
            ),
            None => {
                format!("Pancake answered HTTP {} with success false: {}", reply.status, quote(&self.words))
            }
        };
        let said = full_stop(&said);
        let error = |kind, message: &str| Error::new(kind, message).detail(&said);
        Some(match self.matter() {
            Matter::Token(what) => Failure::for_good(token_refused(object, what).detail(&said)),
            Matter::Permission => Failure::for_good(error(Kind::PageRefused, "no permission for this page")),
            Matter::Subscription => {
                Failure::for_good(error(Kind::PageRefused, "page has no valid subscription"))
            }
            Matter::Rate => reply.throttled(&said),
            _ if !reply.is_success() => return None,
            Matter::Load => {
                Failure::transient(error(Kind::ServerFault, "Pancake could not answer")).maybe_cursor()
            }
            Matter::Unnamed => Failure::new(
                error(Kind::ServerFault, "Pancake refused the request").hint(
                    "DETAIL quotes Pancake's own words. If they name nothing that can be mended here, the fault is on \
                     Pancake's side: try later, and check its status page if it lasts.",
                ),
                Again::Refused,
            )
            .maybe_cursor(),
            Matter::UnknownCode => {
                Failure::for_good(error(Kind::NotUnderstood, "Pancake refused the request")).maybe_cursor()
            }
        })
    }

    /// Codes as documented; 100 and 106 have been seen for an invalid token as well, 121 and refusals without a code
    /// for a missing plan (API notes, section I). Their words decide.
    fn matter(&self) -> Matter {
        let words = self.words.to_lowercase();
        let names = |words_of: &[&str]| words_of.iter().any(|word| words.contains(word));
        let token = names(&["token"]).then(|| match () {
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
            (None, _) if names(&["try again", "thử lại"]) => Matter::Load,
            (None, _) => Matter::Unnamed,
            (Some(_), _) => Matter::UnknownCode,
        }
    }
}

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

/// A text, the text within an object or the elements of a list, or else the JSON itself.
fn text_of(value: Raw) -> Option<String> {
    if is_object(value) {
        let inner =
            pick(value, ["message", "error", "reason", "detail", "msg"]).into_iter().find_map(text_of);
        return inner.or_else(|| value.map(|json| json.get().to_owned()));
    }
    if value.is_some_and(|json| json.get().starts_with('[')) {
        let texts: Vec<_> = cell::list(value).into_iter().filter_map(text_of).collect();
        return Some(texts.join("; "));
    }
    cell::text(value).map(Cow::into_owned)
}

pub fn token_refused(object: Object, what: &str) -> Error {
    match object.needs_page() {
        true => Error::new(Kind::TokenRefused, format!("page access token {what}")),
        false => Error::new(Kind::TokenRefused, format!("access token {what}")).hint(
            "The pages of a user are listed with the user's own access_token, which lives for 90 days at most; \
             a page_access_token does not work here.",
        ),
    }
}

pub fn full_stop(sentence: &str) -> String {
    format!("{}.", sentence.trim_end_matches(['.', ':', ' ']))
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
        assert!(read(r#"{"success":false}"#, true).is_some());
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
            (Some("429"), "", Matter::Rate),
            (Some("9999"), "subscription", Matter::UnknownCode),
        ] {
            assert_eq!(matter(code, words), expected, "{code:?} {words}");
        }
    }
}
