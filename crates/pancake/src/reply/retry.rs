//! This module decides whether a failed request is sent again, and after which pause.
//! [`crate::reply::envelope`] and [`crate::http::client`] classify failures; the pager decides in
//! which other form to ask.

use std::time::Duration;

use crate::error::Error;

/// Pauses after refusals for the rate. Clients that met them needed 5 to 20 s (docs/api.md).
const THROTTLE_PAUSES: [u64; 5] = [1, 2, 5, 10, 20];
/// Refusals for the rate that one request meets at most, however much is served in between.
const MOST_THROTTLED: u32 = 15;
/// How often a refusal without a code is asked again: some of them pass, most are about the request
/// itself.
const REFUSAL_RETRIES: u32 = 2;

/// A failed request.
#[derive(Debug)]
pub struct Failure {
    pub error: Error,
    pub again: Again,
    /// The failure may be due to the form of the request: nothing in it is about the token, the
    /// page or the rate.
    pub may_be_form: bool,
    /// Its words are about the times that were sent.
    pub names_times: bool,
}

/// Whether the same request may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    Never,
    Later,
    /// Later, if the page has answered properly not long ago: a gateway's page in the middle of a
    /// good run passes, the same at the first request means that the address is wrong.
    LaterIfAnswered,
    /// A refusal that gives no code: at most twice.
    Refused,
    /// The page's budget is spent; the server may name a pause.
    Throttled(Option<Duration>),
}

/// What one request has met so far.
#[derive(Debug, Default)]
pub struct Attempts {
    made: u32,
    faults: u32,
    refusals: u32,
    throttled: u32,
    all_throttled: u32,
    /// What the page had served to all sessions at the last refusal for the rate.
    served: Option<u64>,
}

impl Attempts {
    /// Counts a failure, and returns the pause before the next attempt, or none if the failure is
    /// final.
    ///
    /// A refusal for the rate after which another session was served shows that the pace was too
    /// quick, which the rate limiter learns, and not that the page's budget is gone: the count of
    /// those begins anew.
    pub fn pause_after(&mut self, failure: &Failure, max_retries: u32, served: u64) -> Option<Duration> {
        self.made += 1;
        match failure.again {
            Again::Never => None,
            Again::Later | Again::LaterIfAnswered => self.backoff(max_retries),
            Again::Refused => {
                self.refusals += 1;
                self.backoff(max_retries).filter(|_| self.refusals <= REFUSAL_RETRIES)
            }
            Again::Throttled(retry_after) => {
                let is_same = self.served.replace(served) == Some(served);
                self.throttled = if is_same { self.throttled + 1 } else { 1 };
                self.all_throttled += 1;
                let may_retry = max_retries > 0 && self.all_throttled <= MOST_THROTTLED;
                let pause = THROTTLE_PAUSES.get(self.throttled as usize - 1).filter(|_| may_retry)?;
                Some(retry_after.unwrap_or(Duration::from_secs(*pause)))
            }
        }
    }

    /// 1, 2, 4 … s.
    fn backoff(&mut self, max_retries: u32) -> Option<Duration> {
        self.faults += 1;
        (self.faults <= max_retries).then(|| Duration::from_secs(1 << (self.faults - 1).min(6)))
    }

    pub fn made(&self) -> u32 {
        self.made
    }

    /// Refusals for the rate in a row.
    #[cfg(test)]
    pub(crate) fn throttled(&self) -> u32 {
        self.throttled
    }
}

impl Failure {
    pub fn for_good(error: Error) -> Self {
        Self::new(error, Again::Never)
    }

    pub fn transient(error: Error) -> Self {
        Self::new(error, Again::Later)
    }

    pub fn throttled(error: Error, retry_after: Option<Duration>) -> Self {
        Self::new(error, Again::Throttled(retry_after))
    }

    pub fn new(error: Error, again: Again) -> Self {
        Self { error, again, may_be_form: false, names_times: false }
    }

    pub fn maybe_form(self) -> Self {
        Self { may_be_form: true, ..self }
    }

    pub fn about_times(self, names_times: bool) -> Self {
        Self { names_times, ..self }
    }

    /// How long all sessions of the page pause after a refusal for its rate, if this request has
    /// its own pause or none.
    pub fn shared_pause(&self, own: Option<Duration>) -> Option<Duration> {
        match self.again {
            Again::Throttled(retry_after) => {
                own.or(retry_after).or(Some(Duration::from_secs(THROTTLE_PAUSES[0])))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn failure(again: Again) -> Failure {
        Failure::new(Error::new(Kind::Throttled, "m"), again)
    }

    /// Pauses in seconds until the failure is final.
    fn pauses(again: Again, max_retries: u32) -> Vec<u64> {
        let mut attempts = Attempts::default();
        let next = || attempts.pause_after(&failure(again), max_retries, 0).map(|pause| pause.as_secs());
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn each_kind_of_failure_has_its_pauses() {
        assert_eq!(pauses(Again::Later, 3), [1, 2, 4]);
        assert_eq!(pauses(Again::LaterIfAnswered, 2), [1, 2]);
        assert_eq!(pauses(Again::Later, 10), [1, 2, 4, 8, 16, 32, 64, 64, 64, 64]);
        assert_eq!(pauses(Again::Refused, 3), [1, 2]);
        assert_eq!(pauses(Again::Refused, 1), [1]);
        assert_eq!(pauses(Again::Throttled(None), 1), [1, 2, 5, 10, 20]);
        assert_eq!(pauses(Again::Throttled(Some(Duration::from_secs(9))), 3), [9; 5]);
        for again in [Again::Later, Again::LaterIfAnswered, Again::Refused, Again::Throttled(None)] {
            assert_eq!(pauses(again, 0), [0; 0]);
        }
        assert_eq!(pauses(Again::Never, 10), [0; 0]);
    }

    #[test]
    fn refusals_for_the_rate_count_while_no_other_session_is_served() {
        let mut attempts = Attempts::default();
        let mut next =
            |again, served| attempts.pause_after(&failure(again), 3, served).map(|pause| pause.as_secs());
        let throttled = Again::Throttled(None);
        assert_eq!([next(throttled, 7), next(throttled, 7)], [Some(1), Some(2)]);
        assert_eq!([next(throttled, 8), next(Again::Later, 9)], [Some(1), Some(1)]);
        assert_eq!([next(throttled, 8), next(throttled, 9)], [Some(2), Some(1)]);
        assert_eq!(attempts.made(), 6);
        let mut attempts = Attempts::default();
        let endless = |served| attempts.pause_after(&failure(throttled), 3, served);
        assert_eq!((0..).map_while(endless).count(), MOST_THROTTLED as usize);
    }

    #[test]
    fn all_sessions_pause_as_long_as_the_one_that_was_refused() {
        let shared = |again, own: Option<u64>| {
            failure(again).shared_pause(own.map(Duration::from_secs)).map(|pause| pause.as_secs())
        };
        assert_eq!(shared(Again::Throttled(None), Some(5)), Some(5));
        assert_eq!(shared(Again::Throttled(None), None), Some(1));
        assert_eq!(shared(Again::Throttled(Some(Duration::from_secs(7))), None), Some(7));
        assert_eq!(shared(Again::Later, Some(1)), None);
    }
}
