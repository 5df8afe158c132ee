//! This module draws the sample of a page for ANALYZE, within a small budget of requests: the
//! newest rows whole, older ones by probes at growing distance, of 27 days each. It estimates how
//! many rows there are, and keeps of each stretch as many as it stands for.

use std::cmp::Reverse;
use std::sync::Mutex;

use crate::error::Result;
use crate::http::endpoint::address;
use crate::paging::cursor::{self, FULL_BATCH, WIDTH_SECONDS};
use crate::paging::pager::BatchParams;
use crate::paging::time_slices::NumberedBatch;
use crate::plan::request::{Chain, RequestPlan};
use crate::reply::decode::{Row, WantedCell, spots};
use crate::reply::envelope::{Reply, RowList};
use crate::scan::merge::Union;
use crate::scan::run::lock;
use crate::scan::session::Session;
use crate::schema::catalogue::Pagination;
use crate::time::{Micros, SECOND, UnixSeconds};

/// Requests that read the newest rows one after the other: a thousand rows are counted, and the end
/// is proven. Where batches are small, more of them.
const WALKED: usize = 20;
const COUNTED: usize = 1_000;
/// Requests that look for older rows beyond them.
const PROBES: usize = 10;
/// Requests that ANALYZE spends at most: six seconds of a page's budget.
pub const BUDGET: usize = WALKED + PROBES;
/// Where the end of the list is known to this part of its length, no more are sent.
const PRECISION: i64 = 16;

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

impl Session {
    /// Reads the sample of these columns.
    pub async fn sample(&self, wanted: &[WantedCell]) -> Result<Sample> {
        let chain = Chain::whole(self.object.order());
        let plan = RequestPlan { chains: vec![chain.clone()], ..RequestPlan::default() };
        let known = self.known_to_try(chain.order);
        let union = Mutex::new(Union::new(self.object, &plan, false, known));
        let mut newest = Vec::new();
        let mut requests = 0;
        while requests < WALKED || (requests < BUDGET && newest.len() < COUNTED) {
            let Some(question) = lock(&union).next(false) else { break };
            self.ask(&union, question, None, wanted).await?;
            newest.extend(lock(&union).ready()?);
            requests += 1;
        }
        newest.sort_by_key(|row: &Row| Reverse(row.at));
        let whole = lock(&union).is_over();
        if let Some(total) = lock(&union).total().filter(|_| !whole) {
            return Ok(Sample { rows: newest, total: total as f64 });
        }
        let older = if whole { 0.0 } else { self.older(&union, &chain, BUDGET - requests).await? };
        let is_list = self.object.paging() == Pagination::Cursor;
        let (first, last) = match (newest.first(), newest.last()) {
            (Some(first), Some(last)) if !whole && is_list => (first.at, last.at),
            _ => return Ok(Sample { total: newest.len() as f64 + older, rows: newest }),
        };
        let density = newest.len() as f64 / first.0.saturating_sub(last.0).max(SECOND) as f64;
        let mut probes = Probes { first, last, density, batches: Vec::new(), nothing: None };
        let probed = if known.takes_windows { requests..BUDGET } else { 0..0 };
        for _ in probed {
            let until = probes.next();
            match self.at(&chain, until, wanted).await? {
                Some(rows) => probes.take(until, rows),
                None => break,
            }
        }
        Ok(weigh(probes.stretches(newest)))
    }

    /// How many rows the windows hold that have not been read, by estimate: windows at growing
    /// distance, up to an empty one.
    async fn older(&self, union: &Mutex<Union>, chain: &Chain, requests: usize) -> Result<f64> {
        let (mut sum, mut last): (f64, Option<(i64, f64)>) = (0.0, None);
        for index in [0, 1, 2, 4, 8, 16, 32, 64, 128].into_iter().take(requests) {
            let Some(window) = lock(union).unread(index) else { break };
            let count = self.rows_of(window, chain).await? as f64;
            // Those in between hold as many as both on average.
            sum +=
                last.map_or(0.0, |(before, rows)| (index - before - 1) as f64 * f64::midpoint(rows, count));
            sum += count;
            last = Some((index, count));
            if count == 0.0 {
                break;
            }
        }
        Ok(sum)
    }

    /// How many rows a window holds, as its first batch shows; none if the request is refused.
    async fn rows_of(&self, window: NumberedBatch, chain: &Chain) -> Result<u64> {
        let address = address(self.object, &self.page_id, chain, &BatchParams::Numbered(window));
        let count =
            |_: &Reply, listed: &RowList| Ok(listed.total.unwrap_or_default().max(listed.rows.len() as u64));
        Ok(self.read_unless_refused(&address, 2, count).await?.unwrap_or_default())
    }

    /// The batch that begins at a time; none on a page that takes no such window.
    async fn at(&self, chain: &Chain, until: Micros, wanted: &[WantedCell]) -> Result<Option<Vec<Row>>> {
        let until = UnixSeconds(until.ceil_second().0.max(1));
        let ask = cursor::CursorParams::up_to(until);
        let address = address(self.object, &self.page_id, chain, &BatchParams::Cursor(ask));
        let rows = |_: &Reply, listed: &RowList| {
            let served = spots(self.object, &listed.rows, chain.order)?;
            let context = self.context(chain);
            served.iter().map(|row| row.cells(wanted, &context)).collect()
        };
        self.read_unless_refused(&address, 2, rows).await
    }
}

/// Batches of older rows.
struct Probes {
    /// The newest row, and the oldest that was not read by a probe.
    first: Micros,
    last: Micros,
    /// Rows a microsecond in between.
    density: f64,
    /// Newest first.
    batches: Vec<Batch>,
    /// There is no row so old.
    nothing: Option<Micros>,
}

struct Batch {
    rows: Vec<Row>,
    top: Micros,
    bottom: Micros,
    density: f64,
}

impl Probes {
    fn oldest(&self) -> Micros {
        self.batches.last().map_or(self.last, |batch| batch.bottom)
    }

    /// Where the next one begins: at twice the distance until there is nothing so old, then between
    /// the oldest row and there, then where most rows are to be expected in a gap.
    fn next(&self) -> Micros {
        let (oldest, length) = (self.oldest(), self.first.0.saturating_sub(self.oldest().0).max(SECOND));
        match self.nothing {
            None => Micros(self.first.0.saturating_sub(length.saturating_mul(2))),
            Some(nothing) if oldest.0.saturating_sub(nothing.0) > length / PRECISION => {
                Micros(oldest.0.midpoint(nothing.0))
            }
            Some(_) => {
                let most = self.gaps().max_by(|(_, one), (_, other)| one.total_cmp(other));
                most.map_or(oldest, |(middle, _)| middle)
            }
        }
    }

    /// The middle of each gap, and the rows in it by estimate: as densely as on both sides on
    /// average.
    fn gaps(&self) -> impl Iterator<Item = (Micros, f64)> {
        let above = std::iter::once((self.last, self.density))
            .chain(self.batches.iter().map(|batch| (batch.bottom, batch.density)));
        above.zip(&self.batches).map(|((above, density), batch)| {
            let length = above.0.saturating_sub(batch.top.0).max(0) as f64;
            (Micros(above.0.midpoint(batch.top.0)), length * (density + batch.density) / 2.0)
        })
    }

    fn take(&mut self, until: Micros, rows: Vec<Row>) {
        let (Some(top), Some(bottom)) = (rows.first().map(|row| row.at), rows.last().map(|row| row.at))
        else {
            self.nothing = Some(until);
            return;
        };
        // Less than a batch is all that the window holds.
        let length = if rows.len() < FULL_BATCH {
            WIDTH_SECONDS * SECOND
        } else {
            until.0.saturating_sub(bottom.0).max(SECOND)
        };
        let density = rows.len() as f64 / length as f64;
        let place = self.batches.partition_point(|batch| batch.bottom > bottom);
        self.batches.insert(place, Batch { rows, top, bottom, density });
    }

    /// The newest rows, and each batch with the gap above it; a few rows stand for nothing alone.
    fn stretches(self, newest: Vec<Row>) -> Vec<Stretch> {
        let tail = self.nothing.map_or(0, |nothing| self.oldest().0.saturating_sub(nothing.0)).max(0) as f64;
        let tail = tail / 2.0 * self.batches.last().map_or(self.density, |batch| batch.density);
        let gaps: Vec<_> = self.gaps().map(|(_, rows)| rows).collect();
        let mut stretches = vec![Stretch { count: newest.len() as f64, rows: newest }];
        for (batch, gap) in self.batches.into_iter().zip(gaps) {
            let count = gap + batch.rows.len() as f64;
            match stretches.last_mut() {
                Some(nearest) if batch.rows.len() < FULL_BATCH => {
                    nearest.count += count;
                    nearest.rows.extend(batch.rows);
                }
                _ => stretches.push(Stretch { rows: batch.rows, count }),
            }
        }
        if let Some(oldest) = stretches.last_mut() {
            oldest.count += tail;
        }
        stretches
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
