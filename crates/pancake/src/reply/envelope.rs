//! This module decides what counts as a reply: HTTP 2xx and a JSON object and `success` not false
//! and the expected list. Everything else is an error, never an empty result (docs/api.md). What a
//! refusal means is decided in [`crate::reply::refusal`].

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::error::{Error, Kind, quote};
use crate::json::cell;
use crate::json::object::{Fields, Key, Objects};
use crate::json::redact::redacted;
use crate::memory;
use crate::reply::raw::full_stop;
pub use crate::reply::raw::{Reply, retry_after};
use crate::reply::refusal::{Refusal, token_refused};
use crate::reply::retry::{Again, Failure};
use crate::schema::catalogue::Object;
use crate::schema::table::Shape;

/// The rows of a list.
#[derive(Debug, Default)]
pub struct RowList<'a> {
    pub rows: Vec<Fields<'a>>,
    /// Elements of the list that are no objects, and so no rows.
    pub passed_over: u64,
    /// How many rows the list has in the window that was asked for, if the reply has a total.
    pub total: Option<u64>,
}

/// A reply's list, read in the same pass as the keys beside it.
struct ListEnvelope<'a> {
    list: Option<Objects<'a>>,
    beside: Fields<'a>,
}

/// Why a reply has no rows.
enum NoRows {
    NoList,
    /// The list has elements, and none of them is an object.
    Foreign,
    OutOfMemory(Error),
}

/// Reads an envelope with the list of this key.
struct Holding(&'static str);

impl<'a> ListEnvelope<'a> {
    fn read(body: &'a str, object: Object) -> serde_json::Result<Self> {
        let mut json = serde_json::Deserializer::from_str(body);
        Holding(object.name())
            .deserialize(&mut json)
            .and_then(|envelope| json.end().map(|()| envelope))
            .or_else(|_| Ok(ListEnvelope { list: None, beside: Fields::read(body)? }))
    }

    /// The rows under the keys that hold them: the list's own name, or `data`.
    fn rows(&mut self, object: Object) -> Result<Objects<'a>, NoRows> {
        let own = match self.list.take() {
            Some(list) => Some(Ok(list)),
            None => self.beside.get(object.name()).map(rows),
        };
        let is_empty = own.as_ref().is_none_or(|own| own.as_ref().is_ok_and(|list| list.objects.is_empty()));
        let (groups, more) = match object.shape() {
            Shape::List => (None, None),
            Shape::ListOrGroups(key) => (self.beside.get(key).filter(|_| is_empty), None),
            Shape::ListAnd(key) => (None, self.beside.get(key)),
        };
        let mut found = match (groups, own, self.beside.get("data")) {
            (Some(groups), ..) => grouped(groups)?,
            (None, None, Some(data)) => rows(data)?,
            (None, own, _) => own.unwrap_or(Err(NoRows::NoList))?,
        };
        if let Some(more) = more {
            let more = rows(more)?;
            found.objects.extend(more.objects);
            found.others += more.others;
        }
        if found.is_foreign() { Err(NoRows::Foreign) } else { Ok(found) }
    }
}

fn rows(list: &RawValue) -> Result<Objects<'_>, NoRows> {
    let json = list.get();
    serde_json::from_str(json).map_err(|error| match memory::failed_reservation(&error, json.len()) {
        Some(error) => NoRows::OutOfMemory(error),
        None => NoRows::NoList,
    })
}

/// Newer replies group the pages by their state, which a page itself need not hold. Beside the
/// groups stand lists of ids (`activated_page_ids`): only lists with objects, or without any
/// element, are groups.
fn grouped(groups: &RawValue) -> Result<Objects<'_>, NoRows> {
    let groups = Fields::read(groups.get()).map_err(|_| NoRows::NoList)?;
    let mut found = Objects::default();
    let (mut has_group, mut has_more) = (false, false);
    for (name, group) in groups.entries().filter(|(_, group)| group.get() != "null") {
        let mut pages = if group.get().starts_with('[') {
            rows(group)?
        } else {
            Objects { others: 1, ..Objects::default() }
        };
        if pages.is_foreign() {
            has_more = true;
            continue;
        }
        has_group = true;
        pages.objects.iter_mut().for_each(|page| page.imply("is_activated", name == "activated"));
        found.objects.extend(pages.objects);
        found.others += pages.others;
    }
    // No pages, and something that may be some in another form, is no empty list.
    let is_believed = has_group && !(has_more && found.objects.is_empty());
    if is_believed { Ok(found) } else { Err(NoRows::NoList) }
}

impl<'de> DeserializeSeed<'de> for Holding {
    type Value = ListEnvelope<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Holding {
    type Value = ListEnvelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut envelope = ListEnvelope { list: None, beside: Fields::default() };
        while let Some(Key(key)) = map.next_key()? {
            if key == self.0 {
                envelope.list = map.next_value()?
            } else {
                envelope.beside.push(key, map.next_value()?)
            }
        }
        Ok(envelope)
    }
}

impl Reply {
    /// The same without the tokens of a user's pages.
    pub fn fit_to_show(self, object: Object) -> Self {
        if object.needs_page() { self } else { Self { body: redacted(self.body), ..self } }
    }

    /// The rows of the list, or what the reply means instead.
    pub fn rows(&self, object: Object) -> Result<RowList<'_>, Failure> {
        self.judge(object).map_err(|failure| Failure { error: self.trace(failure.error), ..failure })
    }

    fn judge(&self, object: Object) -> Result<RowList<'_>, Failure> {
        let envelope = ListEnvelope::read(&self.body, object).map(|mut envelope| {
            let rows = envelope.rows(object);
            (rows, envelope.beside)
        });
        let mut refusal = None;
        if let Ok((rows, beside)) = &envelope {
            let has_rows = match rows {
                Ok(list) => !list.objects.is_empty(),
                Err(why) => !matches!(why, NoRows::NoList),
            };
            refusal = Refusal::read(beside, has_rows);
            if let Some(failure) = refusal.as_ref().and_then(|refusal| refusal.judge(object, self)) {
                return Err(failure);
            }
        }
        self.status(object, refusal.as_ref())?;
        let (rows, beside) = envelope.map_err(|error| self.no_json(object, &error))?;
        let Objects { objects, others } = rows.map_err(|why| match why {
            NoRows::NoList => self.no_list(object),
            NoRows::OutOfMemory(error) => Failure::for_good(error),
            NoRows::Foreign => not_understood(
                &format!("reply has no list of {}", object.name()),
                format!("No element of the list is a JSON object. {}", self.beginning(object)),
            ),
        })?;
        // What is kept of each row beside its keys.
        memory::probe(objects.len() * 512).map_err(Failure::for_good)?;
        let total = cell::text(beside.get("total")).and_then(|total| cell::whole(&total)?.try_into().ok());
        Ok(RowList { rows: objects, passed_over: others, total })
    }

    /// A body that is no JSON. One that breaks off was cut on its way; anything else may be a
    /// gateway's.
    fn no_json(&self, object: Object, error: &serde_json::Error) -> Failure {
        if let Some(error) = memory::failed_reservation(error, self.body.len()) {
            return Failure::for_good(error);
        }
        let gateway = |error: Error| Failure::new(error, Again::LaterIfAnswered);
        match error.classify() {
            _ if self.is_html() => gateway(
                Error::new(Kind::NotUnderstood, "reply is a web page, not JSON")
                    .detail(self.beginning(object))
                    .hint(format!(
                        "{BASE_URL_HINT} A proxy, a gateway or a firewall in between may answer so as well."
                    )),
            ),
            _ if self.body.trim().is_empty() => gateway(
                Error::new(Kind::NotUnderstood, "reply is empty")
                    .detail(format!("Pancake answered HTTP {} without a body.", self.status)),
            ),
            Category::Eof => Failure::transient(
                Error::new(Kind::NotUnderstood, "reply is truncated")
                    .detail(format!("The JSON breaks off after {} bytes.", self.body.len())),
            ),
            Category::Data => self.no_list(object),
            _ => gateway(Error::new(Kind::NotUnderstood, "reply is not JSON").detail(self.beginning(object))),
        }
    }

    fn no_list(&self, object: Object) -> Failure {
        let name = object.name();
        not_understood(
            &format!("reply has no list of {name}"),
            format!("A JSON object with the list \"{name}\" was expected. {}", self.beginning(object)),
        )
    }

    /// The first bytes of the reply as a sentence. A user's list of pages holds their tokens.
    fn beginning(&self, object: Object) -> String {
        if object.needs_page() {
            format!("The reply begins with \"{}\".", quote(self.body.trim_start()))
        } else {
            "The reply is not shown, for it may hold tokens.".to_owned()
        }
    }

    fn is_html(&self) -> bool {
        self.content_type.contains("html") || self.body.trim_start().starts_with('<')
    }

    /// An HTTP status other than success, with the words of the refusal if the body has some.
    fn status(&self, object: Object, refusal: Option<&Refusal>) -> Result<(), Failure> {
        if self.is_success() {
            return Ok(());
        }
        let said = match refusal.map(|refusal| refusal.words.as_str()).filter(|words| !words.is_empty()) {
            Some(words) => full_stop(&format!("Pancake answered HTTP {}: {}", self.status, quote(words))),
            None => format!("Pancake answered HTTP {}. {}", self.status, self.beginning(object)),
        };
        let error = |kind, message: &str| Error::new(kind, message).detail(&said);
        Err(match self.status {
            300..=399 => Failure::for_good(
                error(Kind::NotUnderstood, "reply is a redirect")
                    .hint("Redirects are never followed: the token would go with them. Check the server option base_url."),
            ),
            401 => Failure::for_good(token_refused(object, "was refused").detail(&said)),
            403 => Failure::for_good(error(Kind::PageRefused, "access to this page is forbidden")),
            404 if object.needs_conversation() => {
                Failure::for_good(error(Kind::PageNotFound, "page or conversation not found").hint(
                    "Check the conversation_id: the conversation may be gone, or of another page. Where every one is not \
                     found, check the option page_id.",
                ))
            }
            404 => Failure::for_good(error(Kind::PageNotFound, "page not found")).maybe_form(),
            // Seen on 2026-09-15: what the web server of the API answers to a path that it does not
            // know, if the client accepts JSON alone.
            406 => Failure::for_good(
                error(Kind::NotUnderstood, "path is unknown to the API").hint(BASE_URL_HINT),
            ),
            429 => self.throttled("Pancake answered HTTP 429"),
            500..=599 => Failure::transient(error(Kind::ServerFault, "Pancake could not answer")).maybe_form(),
            _ => Failure::for_good(error(Kind::NotUnderstood, "Pancake refused the request"))
                .maybe_form()
                .about_times(refusal.is_some_and(Refusal::names_times)),
        })
    }
}

const BASE_URL_HINT: &str =
    "Check the server option base_url: the default https://pages.fm/api ends with /api.";

fn not_understood(message: &str, detail: String) -> Failure {
    Failure::for_good(Error::new(Kind::NotUnderstood, message).detail(detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, body: body.to_owned(), request_id: Some("F-1".into()), ..Reply::default() }
    }

    fn sqlstate(status: u16, body: &str) -> &'static str {
        reply(status, body).rows(Object::Conversations).map(|_| ()).unwrap_err().error.sqlstate()
    }

    const EMPTY: &str = r#"{"conversations":[],"success":true}"#;

    #[test]
    fn only_a_well_formed_success_counts() {
        assert_eq!(reply(200, EMPTY).rows(Object::Conversations).unwrap().rows.len(), 0);
        assert_eq!(
            reply(200, r#"{"conversations":[{"id":1}]}"#).rows(Object::Conversations).unwrap().rows.len(),
            1
        );
        for (status, body, expected) in [
            (200, r#"{"success":false,"error_code":105,"message":"renewed"}"#, "28000"),
            (200, r#"{"success":false,"error_code":"102"}"#, "28000"),
            (200, r#"{"error_code":101,"message":"m"}"#, "28000"),
            (200, r#"{"success":false,"error_code":122,"message":"m"}"#, "42501"),
            (200, r#"{"success":false,"error_code":429}"#, "53400"),
            (200, r#"{"success":false,"error_code":100,"message":"m"}"#, "HV000"),
            (406, "", "HV000"),
            (429, r#"{"success":false,"message":"Too many requests, upgrade your plan"}"#, "53400"),
            (503, r#"{"error":"your plan service is unavailable"}"#, "HV00M"),
            (502, r#"{"error":"Unexpected token '<' is not valid JSON"}"#, "HV00M"),
            (400, r#"{"success":false,"error_code":105}"#, "28000"),
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
            (200, r#"{"conversations":[7,[{}]]}"#, "HV000"),
            (200, r#"{"data":[7]}"#, "HV000"),
            (200, r#"{"conversations":[{"id":1}]}]"#, "HV000"),
            (200, "[]", "HV000"),
            (200, "[[],[],[],[]]", "HV000"),
        ] {
            assert_eq!(sqlstate(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn every_list_has_its_key() {
        let rows = |object, body: &str| {
            reply(200, body).rows(object).map(|listed| (listed.rows.len(), listed.total))
        };
        assert_eq!(rows(Object::Tags, r#"{"tags":[{"id":61}]}"#).unwrap(), (1, None));
        for total in ["7", "7.0", "\"7\"", "\"7.0\""] {
            let body = format!(r#"{{"success":true,"total":{total},"posts":[]}}"#);
            assert_eq!(rows(Object::Posts, &body).unwrap(), (0, Some(7)), "{total}");
        }
        for (object, body, expected) in [
            (Object::Users, r#"{"users":[{}],"disabled_users":[{},{}]}"#, Some(3)),
            (Object::Users, r#"{"users":[{}],"disabled_users":null}"#, Some(1)),
            (Object::Users, r#"{"users":[{}]}"#, Some(1)),
            (Object::Users, r#"{"users":[{}],"disabled_users":{}}"#, None),
            (Object::Users, r#"{"users":[{}],"disabled_users":[1]}"#, Some(1)),
            (Object::Users, r#"{"users":[1]}"#, None),
            (Object::Users, r#"{"data":[{}],"disabled_users":[{}]}"#, Some(2)),
            (Object::Tags, r#"{"data":[{},{}]}"#, Some(2)),
            (Object::Tags, r#"{"tags":[{}],"data":[{},{}]}"#, Some(1)),
            (Object::Tags, r#"{"data":{"tags":[{}]}}"#, None),
            (Object::Conversations, r#"{"conversations":[{},null,"x",{}]}"#, Some(2)),
            (Object::Users, r#"{"disabled_users":[{}]}"#, None),
            (Object::Pages, r#"{"pages":[{},{}]}"#, Some(2)),
            (
                Object::Pages,
                r#"{"categorized":{"activated":[{}],"hidden":null,"inactivated":[{}],"nopermission":[{}]}}"#,
                Some(3),
            ),
            (
                Object::Pages,
                r#"{"categorized":{"activated":[{}],"hidden":{},"activated_page_ids":["1"]}}"#,
                Some(1),
            ),
            (
                Object::Pages,
                r#"{"categorized":{"activated":[{},1],"activated_page_ids":["1","2"]}}"#,
                Some(1),
            ),
            (Object::Pages, r#"{"categorized":{"activated":[],"activated_page_ids":[]}}"#, Some(0)),
            (Object::Pages, r#"{"categorized":{"activated_page_ids":["1"]}}"#, None),
            (Object::Pages, r#"{"categorized":{"activated":[1]}}"#, None),
            (Object::Pages, r#"{"categorized":[[{}]]}"#, None),
            (Object::Pages, r#"{"data":[{}]}"#, Some(1)),
            (Object::Pages, r#"{"pages":[],"categorized":{"activated":[{}]}}"#, Some(1)),
            (Object::Pages, r#"{"categorized":{"activated":["1"],"inactivated":[]}}"#, None),
            (Object::Pages, r#"{"categorized":{"activated":{"1":{}},"inactivated":[]}}"#, None),
            (Object::Pages, r#"{"success":true}"#, None),
        ] {
            assert_eq!(rows(object, body).ok().map(|found| found.0), expected, "{body}");
        }
    }

    #[test]
    fn a_users_pages_show_no_secret() {
        let page = r#"{"id":"1","settings":{"page_access_token":"MARKER"}}"#;
        for body in [
            page.to_owned(),
            format!(r#"{{"pages":[{page}]}}"#),
            format!(r#"{{"categorized":{{"activated":[{page}]}}}}"#),
            format!(r#"{{"pages":[{page},[{page}]]}}"#),
            format!(r#"{{"pages":[{page}],"success":false}}"#),
            format!(r#"{{"pages":[{{"id":"1","nested":[{page}]}}]}}"#),
        ] {
            let reply = reply(200, &body).fit_to_show(Object::Pages);
            let shown = format!("{reply:?} {:?}", reply.rows(Object::Pages));
            assert!(!shown.contains("MARKER"), "{shown}");
        }
    }

    #[test]
    fn the_group_of_a_page_says_whether_it_is_activated() {
        let body = r#"{"categorized":{"activated":[{"id":1},{"id":2,"is_activated":false}],"hidden":[{"id":3}],
            "inactivated":[{"id":4,"is_activated":true},{"id":5,"is_activated":null}]}}"#;
        let listing = reply(200, body);
        let listed = listing.rows(Object::Pages).unwrap();
        let said: Vec<_> = listed.rows.iter().map(|row| row.get("is_activated").map(RawValue::get)).collect();
        assert_eq!(said, [Some("true"), Some("false"), Some("false"), Some("true"), Some("false")]);
        let flat = reply(200, r#"{"pages":[{"id":1}]}"#);
        assert!(flat.rows(Object::Pages).unwrap().rows[0].get("is_activated").is_none());
    }

    #[test]
    fn what_is_no_object_is_passed_over_and_counted() {
        let mixed = reply(200, r#"{"conversations":[{"id":1},[7],null]}"#);
        let listed = mixed.rows(Object::Conversations).unwrap();
        assert_eq!((listed.rows.len(), listed.passed_over), (1, 2));
        let failure =
            reply(200, r#"{"conversations":[[7]]}"#).rows(Object::Conversations).map(|_| ()).unwrap_err();
        assert_eq!(failure.error.message(), "reply has no list of conversations");
        let detail = failure.error.detail_text().unwrap_or_default();
        assert!(detail.starts_with("No element of the list is a JSON object."), "{detail}");
    }

    #[test]
    fn an_error_code_counts_where_the_list_should_be() {
        for (list, expected) in [("{}", "28000"), ("null", "28000"), ("[7]", "HV000")] {
            assert_eq!(sqlstate(200, &format!(r#"{{"error_code":105,"conversations":{list}}}"#)), expected);
        }
        // An empty list beside an error is no answer.
        assert_eq!(sqlstate(200, r#"{"error_code":105,"conversations":[]}"#), "28000");
        assert_eq!(sqlstate(200, r#"{"error":"invalid token","data":[]}"#), "28000");
        assert_eq!(sqlstate(200, r#"{"errors":["access denied"],"conversations":[]}"#), "HV00M");
        assert_eq!(sqlstate(200, r#"{"status":"error","message":"m","conversations":[]}"#), "HV00M");
        for body in [
            r#"{"error_code":105,"conversations":[{"id":1}]}"#,
            r#"{"error_code":0,"error":null,"errors":[],"success":true,"conversations":[]}"#,
            r#"{"code":200,"error":false,"errors":{},"message":"ok","status":"ok","conversations":[]}"#,
        ] {
            assert!(reply(200, body).rows(Object::Conversations).is_ok(), "{body}");
        }
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        let again =
            |status, body| reply(status, body).rows(Object::Conversations).map(|_| ()).unwrap_err().again;
        assert_eq!(again(500, ""), Again::Later);
        assert_eq!(again(502, r#"{"success":false}"#), Again::Later);
        assert_eq!(again(200, r#"{"success":false,"message":"try again"}"#), Again::Later);
        assert_eq!(again(200, r#"{"success":false,"message":"no"}"#), Again::Refused);
        assert_eq!(again(200, r#"{"conversations":[{"id""#), Again::Later);
        for gateway in ["<html>", "", "bad gateway"] {
            assert_eq!(again(200, gateway), Again::LaterIfAnswered, "{gateway}");
        }
        assert_eq!(again(200, r#"{"success":true}"#), Again::Never);
        assert_eq!(again(429, ""), Again::Throttled(None));
        assert_eq!(again(404, ""), Again::Never);
    }

    #[test]
    fn the_detail_carries_the_request_id() {
        let failure = reply(200, "[]").rows(Object::Conversations).map(|_| ()).unwrap_err();
        assert!(failure.error.detail_text().unwrap_or_default().ends_with("Pancake's x-request-id is F-1."));
    }
}
