//! This module cuts segments in two, and ends their parts where they meet: each row comes once, and
//! none is left between.

use super::Union;
use crate::scan::segment::Segment;
use crate::schema::keyset::Order;
use crate::time::Micros;

impl Union {
    /// Leaves what is older than `low` to a segment of its own.
    pub(super) fn divide(&mut self, at: usize, low: Micros) -> Option<()> {
        // By `updated_at` the parts overlap.
        if self.chains[self.segments[at].chain].order == Order::UpdatedAt {
            self.keep_ids();
        }
        let older = self.segments[at].cut(low, self.segments_made)?;
        self.segments_made += 1;
        self.segments.insert(at + 1, older);
        Some(())
    }

    /// What a reply to this segment means at its cuts.
    pub(super) fn look_at_cuts(&mut self, number: usize, has_rows_to_feed: bool) {
        let Some(at) = self.segments.iter().position(|segment| segment.number == number) else { return };
        for newer in at.checked_sub(1).into_iter().chain([at]) {
            self.meet(newer);
            self.fold(newer, number, has_rows_to_feed);
        }
        self.end_older_parts(number);
        let is_over = |segment: &Segment| segment.walk.ended().is_some() && !segment.walk.is_snapshot();
        self.took_a_while |= self.segments.iter().any(is_over);
    }

    /// Where a segment has come to the end of the list, nothing is left to those below it.
    pub(super) fn end_older_parts(&mut self, number: usize) {
        let at = self.segments.iter().position(|segment| segment.number == number);
        let Some([newer, older @ ..]) = at.map(|at| &mut self.segments[at..]) else { return };
        for older in older.iter_mut().take_while(|older| older.chain == newer.chain) {
            older.walk.ends_with(&newer.walk);
        }
    }

    /// A segment may end where it has come into the older one.
    pub(super) fn meet(&mut self, newer: usize) {
        if let [newer, older, ..] = &mut self.segments[newer..]
            && newer.chain == older.chain
        {
            newer.walk.meet(&older.walk);
        }
    }

    /// A segment that was cut off and finds no row to begin from, beyond the end of the list or on
    /// a page that takes no window, is given back to the newer one, which walks on. So is one that
    /// the newer one has overtaken.
    pub(super) fn fold(&mut self, at: usize, replied: usize, has_rows_to_feed: bool) {
        let [newer, older, ..] = &mut self.segments[at..] else { return };
        let has_replied = older.number == replied;
        let is_in_vain = has_replied && older.walk.has_no_beginning() || older.walk.is_behind(&newer.walk);
        let is_awaited = older.busy || has_replied && has_rows_to_feed;
        if !is_in_vain || is_awaited || !newer.can_replace(older) {
            return;
        }
        // Counted whether or not it can be given back: a page where cuts find no beginning is not
        // cut for ever.
        self.folded += u32::from(!std::mem::replace(&mut older.is_in_vain, true));
        if newer.walk.can_take_back() {
            let older = self.segments.remove(at + 1);
            self.segments[at].take_back(older);
        }
    }
}
