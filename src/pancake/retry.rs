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
