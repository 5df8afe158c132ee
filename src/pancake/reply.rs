//! What counts as an answer: HTTP 2xx and a JSON object and `success` not false and the expected list.
//! Everything else is an error, never an empty result (API notes, section B).

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::cell::{self, Raw};
use crate::decode;
use crate::error::{Error, Kind, quote};
use crate::fields::{Fields, Key};
use crate::retry::{Again, Failure};

/// A reply as it came, its body read to the end.
#[derive(Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub content_type: String,
    pub request_id: Option<String>,
    pub retry_after: Option<Duration>,
    pub body: String,
}

/// The key of the list.
const LIST: &str = "conversations";

/// A reply's list, read in the same pass as the keys beside it.
struct Envelope<'a> {
    rows: Option<Vec<Fields<'a>>>,
    beside: Fields<'a>,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut envelope = Envelope { rows: None, beside: Fields::default() };
                while let Some(Key(key)) = map.next_key()? {
                    match key == LIST {
                        true => envelope.rows = map.next_value()?,
                        false => envelope.beside.push(key, map.next_value()?),
                    }
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl Reply {
    /// The rows of the list, or what the reply means instead.
    pub fn rows(&self) -> Result<Vec<Fields<'_>>, Failure> {
        self.judge().map_err(|failure| Failure { error: self.trace(failure.error), ..failure })
    }

    /// An error about this reply, with the id by which Pancake's side can find it.
    pub fn trace(&self, error: Error) -> Error {
        match &self.request_id {
            Some(id) => error.also(format!("Pancake's x-request-id is {}.", quote(id))),
            None => error,
        }
    }

    fn judge(&self) -> Result<Vec<Fields<'_>>, Failure> {
        let envelope = serde_json::from_str::<Envelope>(&self.body).or_else(|_| self.listless());
        if let Ok(envelope) = &envelope
            && let Some(failure) = self.refusal(envelope)
        {
            return Err(failure);
        }
        self.status()?;
        let envelope = envelope.map_err(|error| match error.classify() {
            _ if self.is_html() => not_understood(
                "reply is a web page, not JSON",
                format!(
                    "The API answers so to an unknown path. It begins with \"{}\".",
                    quote(self.body.trim_start())
                ),
            ),
            _ if self.body.trim().is_empty() => not_understood(
                "reply is empty",
                format!("Pancake answered HTTP {} without a body.", self.status),
            ),
            Category::Eof => not_understood(
                "reply is truncated",
                format!("The JSON breaks off after {} bytes.", self.body.len()),
            ),
            Category::Data => self.no_list(),
            _ => not_understood("reply is not JSON", format!("It begins with \"{}\".", quote(&self.body))),
        })?;
        match (envelope.rows, envelope.beside.get(LIST)) {
            (Some(rows), _) => Ok(rows),
            (None, list) => Err(self.stranger(list).unwrap_or_else(|| self.no_list())),
        }
    }

    /// The reply where its list is none, or not one of objects: that stands beside then.
    fn listless(&self) -> serde_json::Result<Envelope<'_>> {
        Ok(Envelope { rows: None, beside: Fields::read(&self.body)? })
    }

    /// What is wrong with a list that is not one of objects. None where it is no list at all.
    fn stranger(&self, list: Raw) -> Option<Failure> {
        let rows: Vec<&RawValue> = serde_json::from_str(list?.get()).ok()?;
        let stranger = rows.into_iter().find(|row| !row.get().starts_with('{'))?;
        Some(Failure::for_good(decode::odd("It is no JSON object.", stranger.get())))
    }

    fn no_list(&self) -> Failure {
        not_understood(
            "reply has no list of conversations",
            format!(
                "A JSON object with the list \"{LIST}\" was expected. It begins with \"{}\".",
                quote(&self.body)
            ),
        )
    }

    fn is_html(&self) -> bool {
        self.content_type.contains("html") || self.body.trim_start().starts_with('<')
    }

    /// `success: false`, or an error code where the list should be: authentication errors come as HTTP 200.
    fn refusal(&self, envelope: &Envelope) -> Option<Failure> {
        let code = cell::text(envelope.beside.get("error_code"));
        let refused = envelope.beside.get("success").is_some_and(|success| success.get() == "false");
        let has_list = envelope.rows.is_some() || envelope.beside.get(LIST).is_some();
        if !refused && (code.is_none() || has_list) {
            return None;
        }
        let message = cell::text(envelope.beside.get("message")).unwrap_or_default();
        let said = match &code {
            Some(code) => {
                format!("Pancake answered HTTP {} with error code {code}: {}", self.status, quote(&message))
            }
            None => format!("Pancake answered HTTP {} with success false: {}", self.status, quote(&message)),
        };
        let error = |kind, message: &str| Error::new(kind, message).detail(full_stop(&said));
        let failure = match code.as_deref() {
            Some("101") => Failure::for_good(error(Kind::TokenRefused, "page access token is missing")),
            Some("102") => Failure::for_good(error(Kind::TokenRefused, "page access token is not valid")),
            Some("103") => Failure::for_good(error(Kind::TokenRefused, "page access token has expired")),
            Some("105") => Failure::for_good(error(Kind::TokenRefused, "page access token was regenerated")),
            Some("106" | "107") => Failure::for_good(error(Kind::PageRefused, "no permission for this page")),
            Some("121" | "122") => {
                Failure::for_good(error(Kind::PageRefused, "page has no valid subscription"))
            }
            Some("429") => self.throttled(&said),
            // No code that is known: an HTTP status other than success says more.
            _ if !(200..300).contains(&self.status) => return None,
            None if message.to_lowercase().contains("try again") => {
                Failure::transient(error(Kind::ServerFault, "Pancake could not answer")).maybe_cursor()
            }
            None => Failure::for_good(error(Kind::ServerFault, "Pancake could not answer")).maybe_cursor(),
            Some(_) => {
                Failure::for_good(error(Kind::NotUnderstood, "Pancake refused the request")).maybe_cursor()
            }
        };
        Some(failure)
    }

    fn throttled(&self, said: &str) -> Failure {
        let error = Error::new(Kind::Throttled, "too many requests for this page").detail(full_stop(said));
        Failure { error, again: Again::Throttled(self.retry_after), cursor_suspect: false }
    }

    fn status(&self) -> Result<(), Failure> {
        if (200..300).contains(&self.status) {
            return Ok(());
        }
        let said = format!(
            "Pancake answered HTTP {}. The reply begins with \"{}\".",
            self.status,
            quote(&self.body)
        );
        let error = |kind, message: &str| Error::new(kind, message).detail(&said);
        Err(match self.status {
            300..=399 => Failure::for_good(
                error(Kind::NotUnderstood, "reply is a redirect")
                    .hint("Redirects are never followed: the token would go with them. Check the server option base_url."),
            ),
            401 => Failure::for_good(error(Kind::TokenRefused, "page access token was refused")),
            403 => Failure::for_good(error(Kind::PageRefused, "access to this page is forbidden")),
            404 => Failure::for_good(error(Kind::PageNotFound, "page not found")).maybe_cursor(),
            429 => self.throttled("Pancake answered HTTP 429"),
            500..=599 => Failure::transient(error(Kind::ServerFault, "Pancake could not answer")).maybe_cursor(),
            _ => Failure::for_good(error(Kind::NotUnderstood, "Pancake refused the request")).maybe_cursor(),
        })
    }
}

fn not_understood(message: &str, detail: String) -> Failure {
    Failure::for_good(Error::new(Kind::NotUnderstood, message).detail(detail))
}

fn full_stop(sentence: &str) -> String {
    format!("{}.", sentence.trim_end_matches(['.', ':', ' ']))
}

/// `Retry-After` as seconds or as an HTTP date.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let date =
        || httpdate::parse_http_date(value).ok().map(|date| date.duration_since(now).unwrap_or_default());
    value.trim().parse().ok().map(Duration::from_secs).or_else(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, body: body.to_owned(), request_id: Some("F-1".into()), ..Reply::default() }
    }

    fn sqlstate(status: u16, body: &str) -> &'static str {
        reply(status, body).rows().map(|_| ()).unwrap_err().error.sqlstate()
    }

    const EMPTY: &str = r#"{"conversations":[],"success":true}"#;

    #[test]
    fn only_a_well_formed_success_counts() {
        assert_eq!(reply(200, EMPTY).rows().unwrap().len(), 0);
        assert_eq!(reply(200, r#"{"conversations":[{"id":1}]}"#).rows().unwrap().len(), 1);
        for (status, body, expected) in [
            (200, r#"{"success":false,"error_code":105,"message":"renewed"}"#, "28000"),
            (200, r#"{"success":false,"error_code":"102"}"#, "28000"),
            (200, r#"{"error_code":101,"message":"m"}"#, "28000"),
            (200, r#"{"success":false,"error_code":122,"message":"m"}"#, "42501"),
            (200, r#"{"success":false,"error_code":429}"#, "53400"),
            (200, r#"{"success":false,"error_code":100,"message":"m"}"#, "HV000"),
            (200, r#"{"success":false,"message":"An error occurred. Please try again later."}"#, "HV00M"),
            (200, r#"{"success":false,"conversations":[]}"#, "HV00M"),
            (401, r#"{"success":false,"message":"m"}"#, "28000"),
            (401, "", "28000"),
            (502, r#"{"success":false,"message":"bad gateway"}"#, "HV00M"),
            (403, EMPTY, "42501"),
            (404, "{}", "HV00R"),
            (400, "{}", "HV000"),
            (400, r#"{"success":false,"message":"m"}"#, "HV000"),
            (401, r#"{"success":false,"error_code":999,"message":"m"}"#, "28000"),
            (503, r#"{"success":false,"error_code":999,"message":"m"}"#, "HV00M"),
            (302, "", "HV000"),
            (429, "", "53400"),
            (503, EMPTY, "HV00M"),
            (200, "<!DOCTYPE html><html>", "HV000"),
            (200, r#"{"conversations":[{"id":"#, "HV000"),
            (200, "", "HV000"),
            (200, "hello", "HV000"),
            (200, r#"{"success":true}"#, "HV000"),
            (200, r#"{"conversations":{}}"#, "HV000"),
            (200, r#"{"conversations":null}"#, "HV000"),
            (200, r#"{"conversations":[{"id":1},[{}]]}"#, "HV000"),
            (200, r#"{"conversations":[{"id":1}]}]"#, "HV000"),
            (200, "[]", "HV000"),
            (200, "[[],[],[],[]]", "HV000"),
        ] {
            assert_eq!(sqlstate(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn what_is_no_object_is_quoted() {
        let failure = reply(200, r#"{"conversations":[{"id":1},[7]]}"#).rows().map(|_| ()).unwrap_err();
        assert_eq!(failure.error.message(), "row of the reply is not a conversation");
        let detail = failure.error.detail_text().unwrap_or_default();
        assert!(detail.starts_with("It is no JSON object. The row begins with \"[7]\"."), "{detail}");
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        let again = |status, body| reply(status, body).rows().map(|_| ()).unwrap_err().again;
        assert_eq!(again(500, ""), Again::Later);
        assert_eq!(again(502, r#"{"success":false}"#), Again::Later);
        assert_eq!(again(200, r#"{"success":false,"message":"try again"}"#), Again::Later);
        assert_eq!(again(200, r#"{"success":false,"message":"no"}"#), Again::Never);
        assert_eq!(again(429, ""), Again::Throttled(None));
        assert_eq!(again(404, ""), Again::Never);
    }

    #[test]
    fn the_detail_carries_the_request_id() {
        let failure = reply(200, "[]").rows().map(|_| ()).unwrap_err();
        assert!(failure.error.detail_text().unwrap_or_default().ends_with("Pancake's x-request-id is F-1."));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:30 GMT").unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }
}
