//! The union of chains as one stream: each row once, newest first where that is promised.
//! What a chain asks is its walk's matter; requests are made by [`crate::scan`].

use std::collections::{BTreeSet, VecDeque};

use crate::decode::Row;
use crate::error::{Error, Kind, Result};
use crate::plan::{Chain, RequestPlan};
use crate::seen::Seen;
use crate::time::Micros;
use crate::walk::{End, Walk};

pub struct Merge<'a> {
    lanes: Vec<Lane<'a>>,
    ordered: bool,
    /// The time of the last row that was handed out.
    last: Option<Micros>,
    /// Ids that came, where there are several chains: their filters may overlap, and a server may ignore one.
    came: Option<Seen>,
    /// Ids that are still to come, where the query names them all.
    missing: Option<BTreeSet<String>>,
}

struct Lane<'a> {
    chain: &'a Chain,
    walk: Walk,
    rows: VecDeque<Row>,
}

impl Lane<'_> {
    fn is_hungry(&self) -> bool {
        self.rows.is_empty() && self.walk.ended().is_none()
    }
}

impl<'a> Merge<'a> {
    pub fn new(plan: &'a RequestPlan, ordered: bool, walk: impl Fn(&Chain) -> Walk) -> Self {
        let lane = |chain| Lane { chain, walk: walk(chain), rows: VecDeque::new() };
        Self {
            lanes: plan.chains.iter().map(lane).collect(),
            ordered,
            last: None,
            came: (plan.chains.len() > 1).then(Seen::default),
            missing: plan.ids.clone(),
        }
    }

    /// The chain that must be asked before another row can be handed out. None when all is done.
    pub fn hungry(&self) -> Option<usize> {
        match self.found_all() {
            true => None,
            false => self.lanes.iter().position(Lane::is_hungry),
        }
    }

    pub fn at(&mut self, lane: usize) -> (&'a Chain, &mut Walk) {
        let lane = &mut self.lanes[lane];
        (lane.chain, &mut lane.walk)
    }

    /// Takes in what a chain brought, newest first.
    pub fn feed(&mut self, lane: usize, rows: Vec<Row>) {
        self.lanes[lane].rows.extend(rows);
    }

    /// The rows that can be handed out now. An error where the promised order cannot be kept.
    pub fn ready(&mut self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        while let Some(row) = self.next() {
            if self.ordered && self.last.replace(row.at).is_some_and(|last| last < row.at) {
                let detail = format!("Row \"{}\" of {} came too late.", row.id, row.at.iso());
                return Err(Error::new(Kind::NotUnderstood, "reply is not in the order that was asked for")
                    .detail(detail));
            }
            if self.came.as_mut().is_none_or(|came| came.is_new(&row.id)) {
                if let Some(missing) = &mut self.missing {
                    missing.remove(&row.id);
                }
                rows.push(row);
            }
        }
        Ok(rows)
    }

    fn next(&mut self) -> Option<Row> {
        // A chain that has not shown its next row might have a newer one than all the others.
        if self.ordered && self.lanes.iter().any(Lane::is_hungry) {
            return None;
        }
        let newest = |lane: &&mut Lane| lane.rows.front().map(|row| row.at);
        self.lanes.iter_mut().filter(|lane| !lane.rows.is_empty()).max_by_key(newest)?.rows.pop_front()
    }

    fn found_all(&self) -> bool {
        self.missing.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// Why the stream is over.
    pub fn end(&self) -> Option<End> {
        match self.found_all() {
            true => Some(End::FoundAll),
            false => self.lanes.last().and_then(|lane| lane.walk.ended()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Order, Window};
    use crate::walk::Spot;

    fn plan(chains: usize, ids: Option<&[&str]>) -> RequestPlan {
        let chain = Chain {
            order: Order::InsertedAt,
            kind: None,
            tags: vec![],
            post_id: None,
            window: Window::default(),
        };
        let ids = ids.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
        RequestPlan { chains: vec![chain; chains], ids }
    }

    /// Serves each chain its batches, then the end; tells what came out.
    fn run(plan: &RequestPlan, ordered: bool, batches: &[&[&[(&str, i64)]]]) -> Vec<String> {
        let mut merge = Merge::new(plan, ordered, |chain| Walk::new(chain.window, false));
        let mut served = vec![0; batches.len()];
        let mut out = vec![];
        while let Some(lane) = merge.hungry() {
            let batch = batches[lane].get(served[lane]).copied().unwrap_or_default();
            served[lane] += 1;
            let rows = batch.iter().map(|(id, at)| Row {
                id: (*id).into(),
                at: Micros(*at),
                cells: Default::default(),
            });
            if batch.is_empty() {
                // Answers the walk's last questions as a list of no rows would.
                let (_, walk) = merge.at(lane);
                *walk = Walk::new(Window::default(), false);
                walk.reply(&[] as &[Spot]).unwrap();
            }
            merge.feed(lane, rows.collect());
            out.extend(merge.ready().unwrap().into_iter().map(|row| row.id));
        }
        out
    }

    #[test]
    fn ordered_chains_come_newest_first() {
        let batches: &[&[&[(&str, i64)]]] =
            &[&[&[("a", 9), ("b", 5)], &[("c", 1)]], &[&[("d", 7)], &[("e", 3), ("f", 2)]]];
        assert_eq!(run(&plan(2, None), true, batches), ["a", "d", "b", "e", "f", "c"]);
    }

    #[test]
    fn a_row_of_several_chains_comes_once() {
        let batches: &[&[&[(&str, i64)]]] = &[&[&[("a", 9), ("b", 5)]], &[&[("a", 9), ("c", 4)]]];
        for ordered in [true, false] {
            assert_eq!(run(&plan(2, None), ordered, batches), ["a", "b", "c"]);
        }
    }

    #[test]
    fn the_stream_is_over_when_all_ids_have_come() {
        let batches: &[&[&[(&str, i64)]]] = &[&[&[("a", 9), ("b", 5)], &[("c", 1)]]];
        assert_eq!(run(&plan(1, Some(&["b", "a"])), false, batches), ["a", "b"]);
    }
}
