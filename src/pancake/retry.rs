//! What to do about a failed request: try again after a while, ask without cursor, or give up.
//! Recognising the failure is [`crate::reply`]'s matter; the walk decides how to ask without cursor.

use std::time::Duration;

use crate::error::Error;

/// A failed request.
#[derive(Debug)]
pub struct Failure {
    pub error: Error,
    pub again: Again,
    /// The failure may be the cursor's: nothing in it speaks of the token, the page or the rate.
    pub cursor_suspect: bool,
}

/// Whether the same request may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    Never,
    Later,
    /// The page's budget is spent; the server may say for how long.
    Throttled(Option<Duration>),
}

/// What one request has met so far.
#[derive(Debug, Default)]
pub struct Attempts {
    made: u32,
    faults: u32,
    refusals: u32,
    /// What the page had served to anybody at the last refusal.
    served: Option<u64>,
}

impl Attempts {
    /// The failures that speak against another try. A refusal after which somebody else was served says that the pace
    /// was too quick, which the meter learns, and not that the page's budget is gone: the count of those begins anew.
    pub fn count(&mut self, failure: &Failure, served: u64) -> u32 {
        self.made += 1;
        match failure.again {
            Again::Throttled(_) if self.served.replace(served) == Some(served) => self.refusals += 1,
            Again::Throttled(_) => self.refusals = 1,
            Again::Never | Again::Later => self.faults += 1,
        }
        self.faults + self.refusals
    }

    pub fn made(&self) -> u32 {
        self.made
    }
}

impl Failure {
    pub fn for_good(error: Error) -> Self {
        Self { error, again: Again::Never, cursor_suspect: false }
    }

    pub fn transient(error: Error) -> Self {
        Self { error, again: Again::Later, cursor_suspect: false }
    }

    pub fn maybe_cursor(self) -> Self {
        Self { cursor_suspect: true, ..self }
    }

    /// How long to wait before the attempt after this one: 1, 2, 4 … s, or as the server says.
    pub fn wait(&self, failed_attempts: u32) -> Option<Duration> {
        let backoff = Duration::from_secs(1 << failed_attempts.saturating_sub(1).min(6));
        match self.again {
            Again::Never => None,
            Again::Later => Some(backoff),
            Again::Throttled(retry_after) => Some(retry_after.unwrap_or(backoff)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn refusals_count_while_nobody_is_served() {
        let [fault, refusal] = [Again::Later, Again::Throttled(None)].map(|again| Failure {
            error: Error::new(Kind::Throttled, "m"),
            again,
            cursor_suspect: false,
        });
        let mut attempts = Attempts::default();
        let met = [(&refusal, 7), (&refusal, 7), (&refusal, 8), (&fault, 9), (&refusal, 8), (&refusal, 9)];
        assert_eq!(met.map(|(failure, served)| attempts.count(failure, served)), [1, 2, 1, 2, 3, 2]);
        assert_eq!(attempts.made(), 6);
    }

    #[test]
    fn waits_double_and_a_retry_after_is_honoured() {
        let failure =
            |again| Failure { error: Error::new(Kind::Throttled, "m"), again, cursor_suspect: false };
        let waits = |again| [1, 2, 3].map(|n| failure(again).wait(n).map(|wait| wait.as_secs()));
        assert_eq!(waits(Again::Later), [Some(1), Some(2), Some(4)]);
        assert_eq!(waits(Again::Throttled(None)), [Some(1), Some(2), Some(4)]);
        assert_eq!(waits(Again::Throttled(Some(Duration::from_secs(9)))), [Some(9); 3]);
        assert_eq!(waits(Again::Never), [None; 3]);
    }
}
