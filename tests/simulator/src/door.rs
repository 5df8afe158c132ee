//! Decides whether a request gets in: its token, the page's subscription, its rate.
//! What it gets inside is left to `answer`.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::readings::{AuthForm, RateForm, RateWindow, RetryAfter};
use crate::reply::Reply;
use crate::settings::PageSettings;
use crate::switches::Switches;

/// Why a whole page is closed, whatever the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// HTTP 403: the page is disabled, or its API not switched on.
    Http403,
    /// HTTP 200 with this `error_code`: 103 expired, 106 no permission, 107 no subscription, 121,
    /// 122 subscription expired.
    Code(i64),
}

/// A refusal comes when this much of the window has passed, so that the timer's own jitter refuses
/// no request.
const TOLERANCE: f64 = 0.975;

#[derive(Debug)]
pub struct Door {
    pub token: String,
    renewed: Vec<String>,
    pub denial: Option<Denial>,
    rate: Option<f64>,
    arrivals: VecDeque<Duration>,
}

impl Door {
    pub fn new(page: &PageSettings) -> Door {
        Door {
            token: page.token.clone(),
            renewed: Vec::new(),
            denial: None,
            rate: page.rate,
            arrivals: VecDeque::new(),
        }
    }

    /// The old token answers code 105 from now on.
    pub fn renew(&mut self, token: &str) {
        let old = std::mem::replace(&mut self.token, token.to_owned());
        self.renewed.retain(|known| known != token);
        self.renewed.push(old);
    }

    pub fn set_rate(&mut self, rate: Option<f64>) {
        self.rate = rate;
        self.arrivals.clear();
    }

    /// The refusal for a wrong token or a closed page.
    pub fn refuse(&self, token: Option<&str>, switches: &Switches) -> Option<Reply> {
        match (token, self.denial) {
            (None, _) => Some(unauthorized(101, "access_token is missing", switches)),
            (Some(token), _) if self.renewed.iter().any(|old| old == token) => {
                Some(unauthorized(105, "access_token renewed please use new access_token", switches))
            }
            (Some(token), _) if token != self.token => {
                Some(unauthorized(102, "invalid access_token", switches))
            }
            (_, Some(Denial::Http403)) => {
                Some(Reply::json(403, json!({"success": false, "message": "page is disabled"})))
            }
            (_, Some(Denial::Code(code))) => {
                Some(Reply::json(200, json!({"success": false, "error_code": code, "message": closed(code)})))
            }
            _ => None,
        }
    }

    /// The refusal for a request over the budget, with the violation about it.
    pub fn meter(&mut self, at: Duration, switches: &Switches) -> Option<(Option<Reply>, String)> {
        let rate = self.rate.or(switches.rate).filter(|rate| *rate > 0.0)?;
        // Below one a second the window grows; 0.7 is one in 1.43 s.
        let allowed = rate.floor().max(1.0);
        let window = Duration::from_secs_f64(allowed / rate);
        let kept = window.mul_f64(TOLERANCE);
        let same = |time: &Duration| match switches.rate_window {
            RateWindow::Sliding => *time + kept > at,
            RateWindow::Fixed => time.as_nanos() / window.as_nanos() == at.as_nanos() / window.as_nanos(),
        };
        while self.arrivals.front().is_some_and(|time| !same(time)) {
            self.arrivals.pop_front();
        }
        if (self.arrivals.len() as f64) < allowed {
            self.arrivals.push_back(at);
            return None;
        }
        let violation = format!(
            "over the budget: request {} within {:?} where {rate} a second are allowed",
            self.arrivals.len() + 1,
            self.arrivals.front().map_or(Duration::ZERO, |first| at.saturating_sub(*first)),
        );
        if switches.refused_count || !switches.refuse {
            self.arrivals.push_back(at);
        }
        let refusal = switches.refuse.then(|| too_many(switches));
        Some((refusal, violation))
    }
}

pub fn unauthorized(code: i64, message: &str, switches: &Switches) -> Reply {
    match switches.auth {
        AuthForm::Body200 => {
            Reply::json(200, json!({"success": false, "error_code": code, "message": message}))
        }
        AuthForm::Http401 => {
            Reply::json(401, json!({"success": false, "error_code": code, "message": message}))
        }
    }
}

fn closed(code: i64) -> &'static str {
    match code {
        103 => "access_token expired",
        106 => "you do not have permission on this page",
        107 | 121 => "page has no subscription",
        122 => "subscription expired",
        _ => "request refused",
    }
}

fn too_many(switches: &Switches) -> Reply {
    let body = json!({"success": false, "error_code": 429, "message": "Too many requests"});
    let mut reply = match switches.rate_form {
        RateForm::Http429 => Reply::json(429, body),
        RateForm::Body200 => Reply::json(200, body),
    };
    reply.retry_after = match switches.retry_after {
        RetryAfter::None => None,
        RetryAfter::Seconds(seconds) => Some(seconds.to_string()),
        RetryAfter::Date(seconds) => {
            Some(httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds)))
        }
    };
    reply
}
