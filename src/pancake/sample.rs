//! A sample of a page for ANALYZE, within a small budget of requests: the newest rows whole, older ones by probes at
//! growing distance. It estimates how many rows there are, and keeps of each stretch as many as it stands for.

use std::sync::Mutex;

use crate::asking::Answer;
use crate::decode::{Row, spots};
use crate::endpoint::address;
use crate::error::Result;
use crate::plan::{Chain, RequestPlan};
use crate::scan::{Scan, lock};
use crate::time::{Micros, UnixSeconds};
use crate::union::Union;
use crate::walk;
use crate::walker::Ask;

/// Requests that ANALYZE spends at most: four seconds of a page's budget.
pub const BUDGET: usize = 20;
/// Of these, the requests that read the newest rows one after the other.
const WALKED: usize = 10;

/// Rows that stand for the page, and how many there are.
#[derive(Debug, Default)]
pub struct Sample {
    pub rows: Vec<Row>,
    pub total: f64,
}

/// Rows of one stretch of time, and how many rows the stretch has by estimate.
struct Stretch {
    rows: Vec<Row>,
    count: f64,
}

impl Scan {
    /// Reads the sample. The plan of the scan is not looked at: a page is sampled whole.
    pub async fn sample(&self) -> Result<Sample> {
        let chain = Chain::whole(self.object.order());
        let ordered = self.object.comes_in_order();
        let plan = RequestPlan { chains: vec![chain.clone()], ordered, ..RequestPlan::default() };
        let union = Mutex::new(Union::new(self.object, &plan, false, self.now(None)));
        let mut newest = Vec::new();
        for _ in 0..WALKED {
            let Some(question) = lock(&union).next(false) else { break };
            self.ask(&union, question, None).await?;
            newest.extend(lock(&union).ready()?);
        }
        let whole = lock(&union).is_over();
        if let Some(total) = lock(&union).total().filter(|_| !whole) {
            return Ok(Sample { rows: newest, total: total as f64 });
        }
        let (first, last) = match (newest.first(), newest.last()) {
            (Some(first), Some(last)) if !whole => (first.at, last.at),
            _ => return Ok(Sample { total: newest.len() as f64, rows: newest }),
        };
        let mut stretches = vec![Stretch { count: newest.len() as f64, rows: newest }];
        stretches.extend(self.probes(&chain, first, last).await?);
        Ok(weigh(stretches))
    }

    /// Batches at twice the distance each, until there is nothing so old.
    async fn probes(&self, chain: &Chain, first: Micros, last: Micros) -> Result<Vec<Stretch>> {
        let mut stretches: Vec<Stretch> = Vec::new();
        let mut span = first.0.saturating_sub(last.0).max(crate::time::SECOND);
        let mut above = last;
        for _ in WALKED..BUDGET {
            span = span.saturating_mul(2);
            let until = Micros(first.0.saturating_sub(span));
            let rows = self.at(chain, until).await?;
            let (Some(top), Some(bottom)) = (rows.first().map(|r| r.at), rows.last().map(|r| r.at)) else {
                // Nothing is so old. What lies between is as dense as the stretch above, on half of the way.
                if let Some(nearest) = stretches.last_mut() {
                    nearest.count *= 1.5;
                }
                break;
            };
            let density = rows.len() as f64 / top.0.saturating_sub(bottom.0).max(crate::time::SECOND) as f64;
            let count = (density * above.0.saturating_sub(bottom.0).max(0) as f64).max(rows.len() as f64);
            above = bottom;
            stretches.push(Stretch { rows, count });
        }
        Ok(stretches)
    }

    /// The batch that begins at a time.
    async fn at(&self, chain: &Chain, until: Micros) -> Result<Vec<Row>> {
        let until = UnixSeconds(until.ceil_second().0.max(1));
        let ask = walk::Ask::up_to(until);
        let take = |answer: Answer| match answer {
            // A page that takes no such window has no such probe.
            Answer::Suspect => Ok(Some(Vec::new())),
            Answer::Rows(_, listed) => {
                let served = spots(self.object, &listed.rows, chain.order)?;
                let context = self.context(chain);
                let rows = served.iter().map(|row| row.cells(&self.wanted, &context));
                rows.collect::<Result<Vec<_>>>().map(Some)
            }
        };
        self.answer(&address(self.object, &self.page_id, chain, &Ask::Cursor(ask)), None, take).await
    }
}

/// Keeps of each stretch so many rows that every kept row stands for equally many.
fn weigh(stretches: Vec<Stretch>) -> Sample {
    let total = stretches.iter().map(|stretch| stretch.count).sum();
    let weight = |stretch: &Stretch| stretch.count / stretch.rows.len().max(1) as f64;
    let heaviest = stretches.iter().map(weight).fold(1.0, f64::max);
    let keep = |stretch: Stretch| {
        let every = heaviest / weight(&stretch).max(f64::MIN_POSITIVE);
        let mut due = 0.0;
        let kept = stretch.rows.into_iter().filter(move |_| {
            due += 1.0;
            let take = due >= every;
            if take {
                due -= every;
            }
            take
        });
        kept.collect::<Vec<_>>()
    };
    Sample { rows: stretches.into_iter().flat_map(keep).collect(), total }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_that_is_kept_stands_for_equally_many() {
        let rows = |n: usize| {
            (0..n).map(|i| Row { id: i.to_string(), at: Micros(0), cells: Default::default() }).collect()
        };
        let sample = weigh(vec![
            Stretch { rows: rows(600), count: 600.0 },
            Stretch { rows: rows(60), count: 6_000.0 },
        ]);
        assert_eq!(sample.total, 6_600.0);
        assert_eq!(sample.rows.len(), 6 + 60);
    }
}
