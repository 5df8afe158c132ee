//! Reads the head of a request: endpoint, page, parameters, and the manners every request owes.
//! What it gets is left to `answer`.

use std::time::Duration;

use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;

use crate::log::Endpoint;

#[derive(Debug)]
pub struct Request {
    pub at: Duration,
    pub connection: u64,
    pub method: String,
    pub path: String,
    pub endpoint: Endpoint,
    /// Empty where the path names none.
    pub page_id: String,
    /// Of a messages request.
    pub conversation_id: String,
    pub params: Vec<(String, String)>,
    pub gzip: bool,
    pub accepts_json: bool,
    /// All header values, to find tokens in them.
    headers: Vec<(String, String)>,
}

impl Request {
    pub fn read(head: &Parts, at: Duration, connection: u64) -> Request {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers: Vec<(String, String)> =
            head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
        let says =
            |name: &str, word: &str| headers.iter().any(|(key, value)| key == name && value.contains(word));
        let path = head.uri.path().to_owned();
        let segments: Vec<String> = path
            .trim_start_matches('/')
            .split('/')
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
            .collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (endpoint, page_id, conversation_id) = match segments.as_slice() {
            ["api", "v1", "pages"] => (Endpoint::Pages, "", ""),
            ["api", "public_api", version, "pages", page, rest @ ..] => match (*version, rest) {
                ("v2", ["conversations"]) => (Endpoint::Conversations, *page, ""),
                ("v1", ["conversations"]) => (Endpoint::ConversationsV1, *page, ""),
                ("v1", ["conversations", conversation, "messages"]) => {
                    (Endpoint::Messages, *page, *conversation)
                }
                ("v1", ["tags"]) => (Endpoint::Tags, *page, ""),
                ("v1", ["posts"]) => (Endpoint::Posts, *page, ""),
                ("v1", ["page_customers"]) => (Endpoint::Customers, *page, ""),
                ("v1", ["users"]) => (Endpoint::Users, *page, ""),
                _ => (Endpoint::Unknown, *page, ""),
            },
            _ => (Endpoint::Unknown, "", ""),
        };
        Request {
            at,
            connection,
            method: head.method.to_string(),
            endpoint,
            page_id: page_id.to_owned(),
            conversation_id: conversation_id.to_owned(),
            params: params(head.uri.query().unwrap_or("")),
            gzip: says("accept-encoding", "gzip"),
            accepts_json: says("accept", "application/json"),
            path,
            headers,
        }
    }

    /// The token, if one came in the right parameter.
    pub fn token(&self) -> Option<&str> {
        crate::query::last(&self.params, self.endpoint.token_param())
    }

    /// The parameters with the values of all tokens hidden.
    pub fn shown_params(&self) -> Vec<(String, String)> {
        let hide = |(name, value): &(String, String)| {
            let value = if name.contains("token") { "***" } else { value };
            (name.clone(), value.to_owned())
        };
        self.params.iter().map(hide).collect()
    }

    /// What every request owes; `tokens` are those no header may hold.
    pub fn manners<'a>(&self, mut tokens: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut violations = Vec::new();
        if self.method != "GET" {
            violations.push(format!("{} instead of GET", self.method));
        }
        if !self.accepts_json {
            violations.push("no `Accept: application/json`".to_owned());
        }
        if self.endpoint == Endpoint::Unknown {
            violations.push("unknown path".to_owned());
        }
        if self.endpoint == Endpoint::ConversationsV1 {
            violations.push("v1 of the conversations list is deprecated".to_owned());
        }
        if self.headers.iter().any(|(name, _)| name == "authorization")
            || tokens
                .any(|token| !token.is_empty() && self.headers.iter().any(|(_, value)| value.contains(token)))
        {
            violations.push("a token in a header".to_owned());
        }
        violations.extend(crate::query::review(&self.params, self.endpoint));
        violations
    }
}

fn params(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}
