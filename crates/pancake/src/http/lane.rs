//! This module is one connection of the HTTP client: it sends a request over it, reads the reply
//! under a limit, and names what breaks.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER,
};

use crate::error::{Error, Kind, Result, quote};
use crate::http::body::{Body, BodyFault};
use crate::http::connection::{ConnectTimeout, Gate, Phase};
use crate::http::tls::Trust;
use crate::json::escape::mend_escapes;
use crate::memory;
use crate::options::table::ServerOptions;
use crate::reply::envelope::{Reply, retry_after};
use crate::reply::retry::{Again, Failure};
use crate::secret::Secret;
use crate::url::Address;

/// An open connection that is idle for longer is not relied on: servers and firewalls drop them
/// silently.
const IDLE: Duration = Duration::from_secs(50);

/// One GET, all but its grant.
pub struct Request<'a> {
    pub server: &'a ServerOptions,
    pub address: &'a Address,
    pub token_name: &'static str,
    pub token: &'a Secret,
}

/// One connection, and what it was opened with.
pub(super) struct Lane {
    pub route: Route,
    http: reqwest::Client,
    pub gate: Gate,
    pub used: Instant,
    pub has_served: bool,
}

/// Why a request over one lane has no reply.
pub(super) enum LaneFailure {
    /// The connection had served before, and closed before a reply to this request began.
    Dead,
    Failed(Box<Failure>),
}

impl From<Failure> for LaneFailure {
    fn from(failure: Failure) -> Self {
        LaneFailure::Failed(Box::new(failure))
    }
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Route {
    base_url: String,
    proxy: Option<String>,
    ca_file: Option<String>,
    connect_timeout: Duration,
}

impl Route {
    pub fn of(server: &ServerOptions) -> Self {
        Route {
            base_url: server.base_url.as_str().to_owned(),
            proxy: server.proxy.clone(),
            ca_file: server.ca_file.clone(),
            connect_timeout: server.connect_timeout,
        }
    }
}

impl Lane {
    pub fn new(route: Route, trust: &Trust) -> Result<Self> {
        let gate = Gate::new(route.connect_timeout);
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .no_gzip()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(1)
            // A peer that has vanished without a word is noticed as fast as one that cannot be
            // reached.
            .tcp_user_timeout(route.connect_timeout)
            .user_agent(concat!("pancake_fdw/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(trust.config(route.ca_file.as_deref())?)
            .connector_layer(gate.clone());
        if let Some(proxy) = &route.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(|error| {
                Error::new(Kind::BadOption, "cannot use the server option \"proxy\"")
                    .detail(format!("{error}."))
            })?);
        }
        let http = builder.build().map_err(|error| {
            Error::new(Kind::Unreachable, "cannot set up HTTPS").detail(chain(&error.without_url()))
        })?;
        Ok(Self { route, http, gate, used: Instant::now(), has_served: false })
    }

    /// The same after a reply that leaves it open.
    pub fn used_now(self) -> Self {
        Self { used: Instant::now(), has_served: true, ..self }
    }

    pub fn is_fresh(&self) -> bool {
        self.used.elapsed() < IDLE
    }

    /// The reply, and whether the connection can be used again.
    pub async fn fetch(&self, request: &Request<'_>) -> Result<(Reply, bool), LaneFailure> {
        let body = Body::new(request.server.max_response_bytes).map_err(Failure::for_good)?;
        let url = request.address.with_token(&request.server.base_url, request.token_name, request.token);
        let sent = self
            .http
            .get(url)
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))
            .send();
        let mut response = match sent.await {
            Ok(response) => response,
            Err(error) if self.has_served && !error.is_connect() => return Err(LaneFailure::Dead),
            Err(error) => return Err(self.broken(error, request).into()),
        };
        self.gate.enter(Phase::Body);
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let mut reply = Reply {
            status: response.status().as_u16(),
            content_type: header(CONTENT_TYPE.as_str()).unwrap_or_default(),
            request_id: header("x-request-id").map(|id| request.token.scrub(&id).into_owned()),
            retry_after: header(RETRY_AFTER.as_str())
                .and_then(|value| retry_after(&value, SystemTime::now())),
            date: header(DATE.as_str()).and_then(|value| httpdate::parse_http_date(&value).ok()),
            body: String::new(),
        };
        let keep = header(CONNECTION.as_str()).is_none_or(|value| !value.eq_ignore_ascii_case("close"));
        let body = self.body(request, &mut response, body).await;
        reply.body = body.map_err(|failure| Failure { error: reply.trace(failure.error), ..failure })?;
        Ok((reply, keep))
    }

    async fn body(
        &self,
        request: &Request<'_>,
        response: &mut reqwest::Response,
        body: Body,
    ) -> Result<String, Failure> {
        let limit = request.server.max_response_bytes;
        let encoding = response.headers().get(CONTENT_ENCODING).and_then(|value| value.to_str().ok());
        let mut body = body.encoded(encoding.unwrap_or_default());
        let broken = |broken| {
            match broken {
            BodyFault::TooLarge => Failure::for_good(
                Error::new(Kind::NotUnderstood, "reply is too large")
                    .detail(format!("It is larger than {limit} bytes."))
                    .hint("The server option max_response_bytes sets the limit; 60 conversations are about 200 kB."),
            ),
            BodyFault::OutOfMemory(error) => Failure::for_good(error),
            BodyFault::Damaged => Failure::transient(
                Error::new(Kind::Unreachable, "connection was lost while the reply was read").detail(format!(
                    "{}: the compressed reply is damaged or ends early.",
                    request.server.base_url.authority()
                )),
            ),
        }
        };
        while let Some(piece) = response.chunk().await.map_err(|error| self.broken(error, request))? {
            body.take(&piece).map_err(broken)?;
        }
        let text = String::from_utf8(body.end().map_err(broken)?).map_err(|_| {
            let error = Error::new(Kind::NotUnderstood, "reply is not UTF-8").detail("JSON is always UTF-8.");
            Failure::new(error, Again::LaterIfAnswered)
        })?;
        // Both rewritings below copy the reply at most once.
        memory::probe(2 * text.len()).map_err(Failure::for_good)?;
        // A reply that echoes the token must not show it later, in `raw` or in a quotation.
        let text = rewritten(text, |text| request.token.scrub(text));
        Ok(rewritten(text, mend_escapes))
    }

    fn broken(&self, error: reqwest::Error, request: &Request<'_>) -> Failure {
        let error = error.without_url();
        let chain = chain(&error);
        let causes = format!("{}: {}", request.server.base_url.authority(), request.token.scrub(&chain));
        if is_connect_timeout(&error) {
            return timed_out(Phase::Connecting, self.route.connect_timeout);
        }
        if error.is_builder() {
            return Failure::for_good(
                Error::new(Kind::NotUnderstood, "request cannot be written as a URL")
                    .detail(format!("{causes} It may hold an id of the reply before, or a value of the query, that is too long."))
            );
        }
        let unreachable = |message: &str| Error::new(Kind::Unreachable, message).detail(&causes);
        if error.is_connect() {
            // Without the host's own name.
            let lower = chain.to_lowercase();
            let names = |words: &[&str]| words.iter().any(|word| lower.contains(word));
            return match () {
                () if names(&["dns"]) => {
                    Failure::transient(unreachable("could not resolve the host name of the API"))
                }
                () if names(&["certificate"]) => Failure::for_good(
                    unreachable("cannot trust the TLS certificate of the API")
                        .hint("If the certificate is signed by a CA of your own, name it in the server option ca_file."),
                ),
                // The error of rustls for a peer that does not speak TLS.
                () if names(&["corrupt message"]) => {
                    Failure::for_good(unreachable("cannot agree on TLS with the API"))
                }
                () if names(&["tls", "handshake"]) => {
                    Failure::transient(unreachable("could not agree on TLS with the API"))
                }
                () => Failure::transient(unreachable("could not connect to the API")),
            };
        }
        match self.gate.phase() {
            // The length was promised and not kept, or the compressed stream ends early.
            Phase::Body => Failure::transient(unreachable("connection was lost while the reply was read")),
            _ => Failure::transient(unreachable("connection was lost while waiting for the reply")),
        }
    }
}

/// The text itself where there is nothing to rewrite.
fn rewritten(text: String, rewrite: impl Fn(&str) -> Cow<'_, str>) -> String {
    match rewrite(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(text) => text,
    }
}

pub(super) fn timed_out(phase: Phase, after: Duration) -> Failure {
    let (what, option) = match phase {
        Phase::Connecting => ("connecting (DNS, TCP or TLS)", "connect_timeout"),
        Phase::Headers => ("waiting for the reply", "request_timeout"),
        Phase::Body => ("reading the reply", "request_timeout"),
    };
    Failure::transient(
        Error::new(Kind::Unreachable, format!("timeout while {what}"))
            .detail(format!("It took longer than {after:?}, the server option {option}.")),
    )
}

fn is_connect_timeout(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<ConnectTimeout>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An error with its causes, as one sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    format!("{}.", quote(&text))
}
