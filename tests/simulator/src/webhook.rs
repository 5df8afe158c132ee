//! The events that Pancake posts to a webhook: an envelope with the conversation, whose tags are
//! bare integers and which has no times, and the message. When events are posted is the caller's
//! matter.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};

use crate::handle::PageHandle;

/// Each event about a conversation has a greater version than those before.
static VERSION: AtomicI64 = AtomicI64::new(1);

impl PageHandle {
    /// The event about the newest message of a conversation.
    pub fn messaging_event(&self, id: &str) -> Option<Value> {
        let data = json!({
            "conversation": event_row(&self.conversation(id)?),
            "message": self.messages(id).pop()?,
            "post": null,
        });
        Some(self.event("messaging", data))
    }

    /// The event about a conversation that has changed.
    pub fn conversation_event(&self, id: &str) -> Option<Value> {
        let mut row = event_row(&self.conversation(id)?);
        row["version"] = VERSION.fetch_add(1, Relaxed).into();
        Some(self.event("conversation", json!({ "conversation": row })))
    }

    /// The event about a conversation that was deleted.
    pub fn removal_event(&self, id: &str) -> Value {
        let version = VERSION.fetch_add(1, Relaxed);
        let row = json!({"id": id, "version": version, "is_removed": true});
        self.event("conversation", json!({ "conversation": row }))
    }

    fn event(&self, kind: &str, data: Value) -> Value {
        json!({"page_id": self.id(), "event_type": kind, "data": data, "timestamp": self.now() / 1_000_000})
    }
}

fn event_row(row: &Value) -> Value {
    let tags: Vec<_> = row["tags"].as_array().into_iter().flatten().filter_map(|tag| tag.get("id")).collect();
    json!({
        "id": row["id"],
        "type": row["type"],
        "from": row["from"],
        "seen": row["seen"],
        "snippet": row["snippet"],
        "tags": tags,
        "assignee_ids": row["assignee_ids"],
        "is_removed": false,
        "is_replied": false,
    })
}

/// Posts an event to an `http://host:port/path`, and returns the status of the reply.
pub fn post(url: &str, event: &Value) -> io::Result<u16> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "a webhook is http://host:port/path");
    let rest = url.strip_prefix("http://").ok_or_else(invalid)?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let body = event.to_string();
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let status = reply.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP reply"))
}
