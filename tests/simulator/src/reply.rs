//! Knows what a reply consists of before it goes on the wire.
//! Breaking and sending it is left to `wire`.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

use crate::readings::WordsUnder;

pub const JSON: &str = "application/json; charset=utf-8";
pub const HTML: &str = "text/html; charset=utf-8";

/// The web app, as it answers every path it does not know.
pub const WEB_APP: &str = "<!DOCTYPE html>\n<html lang=\"vi\"><head><title>Pancake</title></head>\
<body><div id=\"app\"></div><script src=\"/app.js\"></script></body></html>\n";

#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Bytes,
    /// The same body as gzip, where it is known already.
    pub gzip: Option<Bytes>,
    pub rows: usize,
    pub retry_after: Option<String>,
    pub location: Option<String>,
}

impl Reply {
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
        Reply {
            status,
            content_type,
            body: body.into(),
            gzip: None,
            rows: 0,
            retry_after: None,
            location: None,
        }
    }

    pub fn json(status: u16, body: Value) -> Reply {
        Reply::new(status, JSON, body.to_string())
    }

    /// A list of so many rows, successful.
    pub fn list(body: Value, rows: usize) -> Reply {
        Reply { rows, ..Reply::json(200, body) }
    }

    pub fn web_app() -> Reply {
        Reply::new(200, HTML, WEB_APP)
    }

    pub fn server_error() -> Reply {
        Reply::json(500, serde_json::json!({"errors": {"detail": "Internal Server Error"}}))
    }

    /// Moves the text of a refusal from `message` to this key.
    pub fn with_words_under(self, words_under: WordsUnder) -> Reply {
        let key = match words_under {
            WordsUnder::Message => return self,
            WordsUnder::Error => "error",
            WordsUnder::Reason => "reason",
        };
        let body = (self.rows == 0).then(|| serde_json::from_slice(&self.body).ok()).flatten();
        let Some(Value::Object(mut cells)) = body else { return self };
        if cells.get("success") != Some(&Value::Bool(false)) {
            return self;
        }
        if let Some(words) = cells.remove("message") {
            cells.insert(key.to_owned(), words);
        }
        Reply { body: Value::Object(cells).to_string().into(), ..self }
    }

    pub fn unsuccessful(message: &str) -> Reply {
        Reply::json(200, serde_json::json!({"success": false, "message": message}))
    }
}

pub fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Writing into a vector cannot fail; were it to, an empty stream would show.
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.unwrap_or_default().into()
}
