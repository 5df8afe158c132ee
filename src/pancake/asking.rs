//! One question to the server until there is an answer: under the meter, tried again where that may help.
//! What to ask, and what to make of the rows, is said by whoever asks.

use tokio::time::Instant;

use crate::client::Request;
use crate::error::Result;
use crate::fields::Fields;
use crate::lane::Turn;
use crate::ledger::Waiting;
use crate::reply::Reply;
use crate::retry::{Again, Failure};
use crate::scan::Scan;
use crate::url::Address;

/// What a request came to.
pub(crate) enum Answer<'a> {
    Rows(&'a Reply, &'a [Fields<'a>]),
    /// A failure that may be the cursor's: nothing in it speaks of the token, the page or the rate.
    Suspect,
}

impl Scan {
    /// Asks until there is an answer, or no more tries are allowed. `take` makes of the answer what is wanted; where
    /// it makes nothing of a suspect failure, that is one like any other.
    pub(crate) async fn answer<T>(
        &self,
        address: &Address,
        mut take: impl FnMut(Answer) -> Result<Option<T>>,
    ) -> Result<T> {
        let mut failed_attempts = 0;
        loop {
            let failure = match self.fetch(address).await {
                Ok(reply) => match reply.rows() {
                    Ok(rows) => {
                        match take(Answer::Rows(&reply, &rows)).map_err(|error| reply.trace(error))? {
                            Some(taken) => return Ok(taken),
                            None => continue,
                        }
                    }
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            if failure.cursor_suspect
                && let Some(taken) = take(Answer::Suspect)?
            {
                return Ok(taken);
            }
            failed_attempts += 1;
            self.wait_to_retry(failure, failed_attempts).await?;
        }
    }

    async fn fetch(&self, address: &Address) -> Result<Reply, Failure> {
        let turn = Turn::new(self.meter.clone(), self.tally.clone());
        let request =
            Request { server: &self.server, address, token_name: "page_access_token", token: &self.token };
        let fetched = self.client.get(&request, &turn).await;
        let stats = self.meter.stats;
        self.tally.requests.add(1);
        self.tally.network.add(turn.on_its_way());
        stats.requests.add(1);
        stats.last_request_at.set((self.meter.clocks.wall_micros)());
        stats.rate_milli.set((self.meter.rate() * 1000.0).round() as i64);
        fetched
    }

    /// Waits before another attempt. The failure itself where there is none.
    async fn wait_to_retry(&self, failure: Failure, failed_attempts: u32) -> Result<()> {
        let wait = failure.wait(failed_attempts).filter(|_| failed_attempts <= self.server.max_retries);
        if let Again::Throttled(_) = failure.again {
            self.tally.throttled.add(1);
            self.meter.stats.throttled.add(1);
            // Everybody who shares the page's budget waits.
            self.meter.pause(failure.wait(failed_attempts).unwrap_or_default());
        }
        let Some(wait) = wait else {
            let tries = match failed_attempts {
                1 => return Err(failure.error),
                n => format!("It was tried {n} times."),
            };
            return Err(failure.error.also(tries));
        };
        self.tally.retried.add(1);
        self.meter.stats.retries.add(1);
        self.tally.waiting(Waiting::Retry);
        let begun = Instant::now();
        tokio::time::sleep(wait.min(crate::meter::LONGEST_PAUSE)).await;
        self.tally.retry_wait.add(begun.elapsed());
        Ok(())
    }
}
