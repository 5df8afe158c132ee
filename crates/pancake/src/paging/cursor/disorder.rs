//! This module finds rows that stand lower than the walk takes for granted.

use super::CursorPager;
use crate::error::{Error, Kind};
use crate::schema::keyset::RowKey;

/// A row that stands lower than the time that it shows, by more than has been seen of any page.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct OutOfOrder {
    above: RowKey,
    row: RowKey,
    beyond: usize,
    is_remembered: bool,
}

impl OutOfOrder {
    pub(super) fn error(&self) -> Error {
        let Self { above, row, beyond, is_remembered } = self;
        Error::new(Kind::NotUnderstood, "reply is not in the order that was asked for")
            .detail(format!(
                "Row \"{}\" of {} comes {beyond} rows before row \"{}\" of {}.",
                above.id,
                above.at.iso(),
                row.id,
                row.at.iso()
            ))
            .hint(if *is_remembered {
                "The page lists its rows in a looser order than any that has been seen; pancake.doctor \
                 shows how loose. Execute the statement again (a prepared one after DISCARD PLANS): when \
                 it is planned anew, Postgres sorts."
            } else {
                "The page lists its rows in a looser order than any that has been seen; pancake.doctor \
                 shows how loose."
            })
    }
}

impl CursorPager {
    /// A row that shows a newer time than eight in a row above it in the same reply, or by
    /// `inserted_at` than two: then nothing that is proven by rows beyond a bound holds on this
    /// page.
    pub(super) fn out_of_order(&self, rows: &[&RowKey]) -> Option<OutOfOrder> {
        let beyond = self.terms.beyond_by(self.order);
        let dated: Vec<&RowKey> = rows.iter().copied().filter(|row| row.is_dated).collect();
        let is_low = |rows: &&[&RowKey]| {
            rows.split_last().is_some_and(|(row, above)| above.iter().all(|other| other.at < row.at))
        };
        let found = dated.windows(beyond + 1).find(is_low)?;
        let is_remembered = self.meets_by_ids();
        Some(OutOfOrder { above: found[0].clone(), row: found[beyond].clone(), beyond, is_remembered })
    }
}

/// Whether at most one of four neighbours stands in the wrong order.
pub(super) fn is_nearly_sorted(rows: &[&RowKey]) -> bool {
    4 * rows.windows(2).filter(|pair| pair[0].at < pair[1].at).count() < rows.len()
}
