//! This module is a reply as it came: its status, what its headers hold, its body.

use std::time::{Duration, SystemTime};

use crate::error::{Error, Kind, quote};
use crate::reply::retry::Failure;

/// A reply as it came, its body read to the end.
#[derive(Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub content_type: String,
    pub request_id: Option<String>,
    pub retry_after: Option<Duration>,
    /// The server's clock when it answered.
    pub date: Option<SystemTime>,
    pub body: String,
}

impl Reply {
    /// An error about this reply, with the id by which Pancake's side can find it.
    pub fn trace(&self, error: Error) -> Error {
        match &self.request_id {
            Some(id) => error.also(format!("Pancake's x-request-id is {}.", quote(id))),
            None => error,
        }
    }

    pub(crate) fn throttled(&self, said: &str) -> Failure {
        let error = Error::new(Kind::Throttled, "too many requests for this page").detail(full_stop(said));
        Failure::throttled(error, self.retry_after)
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The sentence with one full stop at its end.
pub fn full_stop(sentence: &str) -> String {
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

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:30 GMT").unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }
}
