//! This module reads a slice by the numbers of its batches, until it reads the same twice.

use super::{SLICE_SECONDS, Slice, TimeSlicePager, Totals, restless};
use crate::error::Result;
use crate::paging::cursor::TERMS;
use crate::schema::keyset::RowKey;
use crate::time::{Micros, SECOND};

/// A slice that is read by numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    pub number: u64,
    pub ids: Vec<String>,
    pub before: Option<Vec<String>>,
    pub count: u32,
    /// The first batch was full and its total is so much: the second one shows whether that is all.
    pub checking: Option<u64>,
}

impl TimeSlicePager {
    /// A second that is too full is asked for with its neighbours; so they belong to the slice, or
    /// they would be too full themselves.
    pub(super) fn read_by_numbers(&mut self) {
        let Slice { low, high } = self.slice;
        let margin = if self.is_narrow { (SLICE_SECONDS - (high - low + 1)).clamp(0, 2) } else { 2 };
        self.slice = if self.moves {
            Slice { low, high: self.up_to(high.saturating_add(margin)).high }
        } else {
            Slice { low: (low - margin).max(self.rest.low), high }
        };
        self.reading = Some(Reading { number: 1, ..Reading::default() });
    }

    pub(super) fn read_on(&mut self, rows: &[RowKey], total: Option<u64>) -> Result<Vec<usize>> {
        let fresh = self.hand_out(rows);
        let Some(reading) = &mut self.reading else { return Ok(fresh) };
        if let Some(checked) = reading.checking.take() {
            if rows.is_empty() && total == Some(checked) {
                self.totals = Totals::Proven;
                let rows = reading.ids.len();
                self.next_slice(rows);
                return Ok(fresh);
            }
            (self.totals, self.total) = (Totals::OfBatch, None);
        }
        let last = &reading.ids[reading.ids.len().saturating_sub(rows.len())..];
        let is_repeated = !rows.is_empty() && rows.iter().map(|row| &row.id).eq(last);
        if !rows.is_empty() && !is_repeated {
            reading.number += 1;
            reading.ids.extend(rows.iter().map(|row| row.id.clone()));
            return Ok(fresh);
        }
        let ids = std::mem::take(&mut reading.ids);
        // The same rows under another number may have moved there: that proves no end.
        if !is_repeated && reading.before.as_ref() == Some(&ids) {
            self.next_slice(ids.len());
            if self.is_narrow || self.ended {
                return Ok(fresh);
            }
            // What is next to a crowd need not be one.
            self.seconds_per_row = (self.rest.high.min(self.newest.unwrap_or(0)) - self.rest.low).max(1)
                as f64
                / self.left.max(1) as f64;
            self.take(self.slice_length());
            return Ok(fresh);
        }
        (reading.before, reading.number) = (Some(ids), 1);
        reading.count += 1;
        if reading.count > TERMS.patience {
            Err(restless(format!(
                "More rows than one reply holds are of {} or later, and they moved during each of {} readings.",
                Micros(self.slice.low.saturating_mul(SECOND)).iso(),
                TERMS.patience
            )))
        } else {
            Ok(fresh)
        }
    }
}
