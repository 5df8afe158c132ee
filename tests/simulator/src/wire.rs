//! Decides how a reply goes on the wire: headers, gzip, delay, and every way of breaking it.
//! The content of the reply is made in `world`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::Response;
use hyper::header::{HeaderValue, InvalidHeaderValue};
use serde_json::json;
use tokio::sync::mpsc;

use crate::clock::SECOND;
use crate::fault::Fault;
use crate::log::Endpoint;
use crate::reply::{JSON, Reply, gzip};
use crate::world::Answer;

/// A body known at once, or one that comes piece by piece and may break off.
pub enum Payload {
    Whole(Option<Bytes>),
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Payload::Whole(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Payload::Pieces(pieces) => {
                pieces.poll_recv(context).map(|piece| piece.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Payload::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
            Payload::Pieces(_) => SizeHint::default(),
        }
    }
}

impl Fault {
    /// The HTTP status the log shows: 0 where no head is ever sent.
    pub fn status(&self, right: u16) -> u16 {
        match self {
            Fault::Status(status) | Fault::StatusAfter(status, _) | Fault::OddStatus(status) => *status,
            Fault::Canned { status, .. } => *status,
            Fault::Redirect(_) => 302,
            Fault::Hang | Fault::DroppedBeforeHeaders => 0,
            Fault::Truncated | Fault::Dropped | Fault::Slow(_) | Fault::HangMidBody => right,
            _ => 200,
        }
    }
}

/// Sends an answer; an error closes the connection.
pub async fn send(answer: Answer, accepts_gzip: bool) -> io::Result<Response<Payload>> {
    let seconds = u64::try_from(answer.now.div_euclid(SECOND)).unwrap_or(0);
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    let mut response = respond(answer, accepts_gzip).await?;
    response.headers_mut().insert("date", HeaderValue::from_str(&date).map_err(io::Error::other)?);
    Ok(response)
}

async fn respond(answer: Answer, accepts_gzip: bool) -> io::Result<Response<Payload>> {
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay).await;
    }
    let Some(fault) = answer.fault else {
        return whole(answer.reply, accepts_gzip, &answer.request_id);
    };
    let id = answer.request_id;
    let right = answer.reply.body.clone();
    let half = right.slice(..right.len() / 2);
    match fault {
        Fault::Hang => {
            std::future::pending::<()>().await;
            Err(io::ErrorKind::TimedOut.into())
        }
        Fault::DroppedBeforeHeaders => Err(io::ErrorKind::ConnectionAborted.into()),
        Fault::Dropped => in_pieces(answer.reply, &id, Some(right.len()), |pieces| async move {
            let _ = pieces.send(Ok(half)).await;
            // Time for the first half to leave before the connection does.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let _ = pieces.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
        }),
        Fault::HangMidBody => in_pieces(answer.reply, &id, Some(right.len()), |pieces| async move {
            let _ = pieces.send(Ok(half)).await;
            pieces.closed().await;
        }),
        Fault::Slow(speed) => in_pieces(answer.reply, &id, Some(right.len()), move |pieces| async move {
            let step = (speed / 20).max(1);
            let pause = Duration::from_secs_f64(step as f64 / speed.max(1) as f64);
            let mut rest = right;
            while !rest.is_empty() {
                let piece = rest.split_to(step.min(rest.len()));
                if pieces.send(Ok(piece)).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        }),
        Fault::Oversized(bytes) => {
            let reply = Reply::new(200, JSON, "");
            in_pieces(reply, &id, None, move |pieces| async move {
                let mut sent = 0;
                let blank = Bytes::from(vec![b' '; 64 << 10]);
                let mut piece = Bytes::from_static(b"{\"success\":true,\"conversations\":[");
                while sent < bytes {
                    sent += piece.len() as u64;
                    if pieces.send(Ok(piece)).await.is_err() {
                        return;
                    }
                    piece = blank.clone();
                }
                let _ = pieces.send(Ok(Bytes::from_static(b"]}"))).await;
            })
        }
        Fault::Bomb(bytes) => {
            let mut body = b"{\"success\":true,\"conversations\":[".to_vec();
            body.resize(usize::try_from(bytes).unwrap_or(usize::MAX).max(body.len()), b' ');
            body.extend_from_slice(b"]}");
            let mut reply = Reply::new(200, JSON, "");
            reply.gzip = Some(gzip(&body));
            whole(reply, true, &id)
        }
        other => whole(broken(other, answer.reply, half, answer.endpoint), false, &id),
    }
}

/// The faults that are just another reply.
fn broken(fault: Fault, right: Reply, half: Bytes, endpoint: Endpoint) -> Reply {
    match fault {
        Fault::Status(status) => {
            Reply::json(status, json!({"success": false, "message": format!("HTTP {status}")}))
        }
        Fault::StatusAfter(status, after) => {
            let reply = Reply::json(status, json!({"success": false, "message": format!("HTTP {status}")}));
            Reply { retry_after: Some(after), ..reply }
        }
        Fault::OddStatus(status) => Reply { status, ..right },
        Fault::Html200 => Reply::web_app(),
        Fault::NotJson => Reply::new(200, JSON, "upstream connect error or disconnect/reset before headers"),
        Fault::Truncated => Reply { body: half, ..right },
        Fault::SuccessFalse { code, message } => {
            let mut body = json!({"success": false, "message": message});
            if let Some(code) = code {
                body["error_code"] = json!(code);
            }
            Reply::json(200, body)
        }
        Fault::MissingArray => Reply::json(200, json!({"success": true})),
        Fault::WrongShape => {
            let mut body = json!({"success": true});
            body[endpoint.list_key()] = json!({"0": {"id": "not in a list"}});
            Reply::json(200, body)
        }
        Fault::Redirect(url) => {
            let mut reply = Reply::new(302, JSON, "");
            reply.location = Some(url);
            reply
        }
        Fault::Canned { status, content_type, body } => Reply::new(status, content_type, body),
        Fault::EmptyBody => Reply::new(200, JSON, ""),
        Fault::NonObject => Reply::json(200, json!([{"success": true}])),
        _ => right,
    }
}

fn whole(mut reply: Reply, accepts_gzip: bool, id: &str) -> io::Result<Response<Payload>> {
    let zipped = reply.gzip.take().filter(|_| accepts_gzip);
    let is_zipped = zipped.is_some();
    let body = zipped.unwrap_or_else(|| reply.body.clone());
    let mut response = head(&reply, id).map_err(io::Error::other)?;
    if is_zipped {
        response.headers_mut().insert("content-encoding", HeaderValue::from_static("gzip"));
    }
    Ok(response.map(|()| Payload::Whole(Some(body))))
}

/// A body sent by a task of its own, which may take its time or break off.
fn in_pieces<F>(
    reply: Reply,
    id: &str,
    length: Option<usize>,
    send: impl FnOnce(mpsc::Sender<io::Result<Bytes>>) -> F,
) -> io::Result<Response<Payload>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut response = head(&reply, id).map_err(io::Error::other)?;
    if let Some(length) = length {
        response.headers_mut().insert("content-length", HeaderValue::from(length));
    }
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(send(sender));
    Ok(response.map(|()| Payload::Pieces(pieces)))
}

fn head(reply: &Reply, id: &str) -> Result<Response<()>, InvalidHeaderValue> {
    let mut response = Response::new(());
    *response.status_mut() = hyper::StatusCode::from_u16(reply.status).unwrap_or(hyper::StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static(reply.content_type));
    headers.insert("cache-control", HeaderValue::from_static("max-age=0, private, must-revalidate"));
    headers.insert("x-request-id", HeaderValue::from_str(id)?);
    if let Some(after) = &reply.retry_after {
        headers.insert("retry-after", HeaderValue::from_str(after)?);
    }
    if let Some(location) = &reply.location {
        headers.insert("location", HeaderValue::from_str(location)?);
    }
    Ok(response)
}
