//! Knows the ways in which a reply can be broken, and when an armed fault strikes.
//! How a broken reply looks on the wire is left to `wire`.

use crate::log::Endpoint;
use crate::request::Request;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This HTTP status with a JSON body `{"success":false,…}` (no `error_code`).
    Status(u16),
    /// The same with this `Retry-After`, sensible or not.
    StatusAfter(u16, String),
    /// The web app's HTML with HTTP 200.
    Html200,
    /// Text that is no JSON, with the content type of JSON.
    NotJson,
    /// The right reply cut within its JSON, correctly framed by HTTP.
    Truncated,
    /// The connection closes in the middle of the body.
    Dropped,
    /// The connection closes before any reply.
    DroppedBeforeHeaders,
    /// The right reply, this many bytes a second.
    Slow(usize),
    /// A well-formed reply at least this large, streamed.
    Oversized(u64),
    /// The same, as a gzip stream of about a thousandth of the size.
    Bomb(u64),
    /// No reply, ever.
    Hang,
    /// Half of the right reply, then nothing more.
    HangMidBody,
    /// HTTP 200 with `success: false`.
    SuccessFalse {
        code: Option<i64>,
        message: String,
    },
    /// `{"success":true}` without the list.
    MissingArray,
    /// The list's key holds an object.
    WrongShape,
    /// HTTP 302 to this URL.
    Redirect(String),
    EmptyBody,
    /// JSON, but an array at the top.
    NonObject,
    /// The right body with this HTTP status.
    OddStatus(u16),
    /// This reply, whatever is asked.
    Canned {
        status: u16,
        content_type: &'static str,
        body: String,
    },
}

impl Fault {
    /// `success:false` without a code, as the documents show it: transient.
    pub fn try_again() -> Fault {
        Fault::SuccessFalse { code: None, message: "An error occurred. Please try again later.".to_owned() }
    }
}

/// Which of the requests that a fault watches it strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Times {
    /// The next so many.
    Next(u64),
    Always,
    /// Those with these ordinals, counted from 1 since the fault was armed.
    On(Vec<u64>),
}

/// The requests a fault watches; empty fields watch all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Only {
    pub endpoint: Option<Endpoint>,
    pub page_id: Option<String>,
    /// Whose messages are asked for.
    pub conversation_id: Option<String>,
    /// `Some(true)`: only with `last_conversation_id`; `Some(false)`: only without.
    pub cursor: Option<bool>,
}

impl Only {
    pub fn endpoint(endpoint: Endpoint) -> Only {
        Only { endpoint: Some(endpoint), ..Only::default() }
    }

    pub fn with_cursor() -> Only {
        Only { endpoint: Some(Endpoint::Conversations), cursor: Some(true), ..Only::default() }
    }

    pub fn without_cursor() -> Only {
        Only { endpoint: Some(Endpoint::Conversations), cursor: Some(false), ..Only::default() }
    }

    pub fn conversation(id: &str) -> Only {
        Only { conversation_id: Some(id.to_owned()), ..Only::endpoint(Endpoint::Messages) }
    }

    fn watches(&self, request: &Request, cursor: bool) -> bool {
        self.endpoint.is_none_or(|only| only == request.endpoint)
            && self.page_id.as_ref().is_none_or(|only| *only == request.page_id)
            && self.conversation_id.as_ref().is_none_or(|only| *only == request.conversation_id)
            && self.cursor.is_none_or(|only| only == cursor)
    }
}

impl Fault {
    /// This JSON with HTTP 200.
    pub fn json(body: &str) -> Fault {
        Fault::Canned { status: 200, content_type: crate::reply::JSON, body: body.to_owned() }
    }

    /// Whether the right rows arrive in spite of it.
    pub fn delivers(&self) -> bool {
        matches!(self, Fault::Slow(_) | Fault::OddStatus(_))
    }
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    how: Times,
    only: Only,
    seen: u64,
}

/// The faults that wait.
#[derive(Debug, Default)]
pub struct Faults(Vec<Armed>);

impl Faults {
    pub fn arm(&mut self, fault: Fault, how: Times, only: Only) {
        self.0.push(Armed { fault, how, only, seen: 0 });
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault that strikes this request: of several the one armed first; all of them count the
    /// request.
    pub fn strike(&mut self, request: &Request, cursor: bool) -> Option<Fault> {
        let mut struck = None;
        for armed in &mut self.0 {
            if !armed.only.watches(request, cursor) {
                continue;
            }
            armed.seen += 1;
            let strikes = match &armed.how {
                Times::Next(count) => armed.seen <= *count,
                Times::Always => true,
                Times::On(ordinals) => ordinals.contains(&armed.seen),
            };
            if strikes && struck.is_none() {
                struck = Some(armed.fault.clone());
            }
        }
        struck
    }
}
