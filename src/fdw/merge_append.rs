//! This module makes the first requests of a Merge Append's scans together.
//!
//! A Merge Append needs the first row of each of its scans, and asks one after the other. So the
//! first scan that is asked for a row starts the others as well: each requests its first batch, as
//! it would when its turn comes. Nothing more is requested than without, and further batches come
//! as their rows are taken. Where scans may be pruned at run time each is started in its turn.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use pancake::error::Result;
use pgrx::pg_sys;

use crate::fdw::scan::ScanState;
use crate::pg::compat::may_be_pruned;
use crate::pg::nodes::{cast, list};

/// The scans of one Merge Append that have begun and have not ended.
#[derive(Default)]
pub struct Siblings(RefCell<Vec<*mut pg_sys::ForeignScanState>>);

/// A Merge Append of a query that runs.
struct Group {
    estate: *const pg_sys::EState,
    append: *const pg_sys::MergeAppend,
    siblings: Weak<Siblings>,
}

thread_local! {
    static GROUPS: RefCell<Vec<Group>> = const { RefCell::new(Vec::new()) };
}

impl Siblings {
    /// Those of a scan that begins, if a Merge Append drives it.
    pub fn of(node: *mut pg_sys::ForeignScanState) -> Option<Rc<Self>> {
        // SAFETY: the node that begins, its plan, and the query that it belongs to.
        let (estate, plan, planned) = unsafe {
            let estate = (*node).ss.ps.state;
            (estate.cast_const(), (*node).ss.ps.plan.cast_const(), (*estate).es_plannedstmt)
        };
        // SAFETY: the query's own plan.
        let plans = unsafe {
            let subplans: Vec<*mut pg_sys::Plan> = list((*planned).subplans);
            std::iter::once((*planned).planTree).chain(subplans)
        };
        let append = plans.into_iter().find_map(|root| merge_append_of(root, plan))?;
        GROUPS.with_borrow_mut(|groups| {
            groups.retain(|group| group.siblings.strong_count() > 0);
            let known = groups.iter().find(|group| group.estate == estate && group.append == append);
            let siblings = known.and_then(|group| group.siblings.upgrade()).unwrap_or_else(|| {
                let siblings = Rc::<Self>::default();
                groups.push(Group { estate, append, siblings: Rc::downgrade(&siblings) });
                siblings
            });
            siblings.0.borrow_mut().push(node);
            Some(siblings)
        })
    }

    /// Starts those that have not been asked for a row yet.
    pub fn start(&self, but: *mut pg_sys::ForeignScanState) -> Result<()> {
        let others: Vec<_> = self.0.borrow().iter().copied().filter(|node| *node != but).collect();
        for node in others {
            // SAFETY: the node has begun and not ended, so its state is there. A node whose
            // parameters have changed is to begin again when it is asked.
            let state = unsafe {
                let is_unchanged = (*node).ss.ps.chgParam.is_null();
                (*node).fdw_state.cast::<ScanState>().as_mut().filter(|_| is_unchanged)
            };
            if let Some(state) = state {
                state.start_ahead(node)?;
            }
        }
        Ok(())
    }

    pub fn leave(&self, node: *mut pg_sys::ForeignScanState) {
        self.0.borrow_mut().retain(|other| *other != node);
    }
}

/// The Merge Append at or below a node that drives this scan.
fn merge_append_of(root: *mut pg_sys::Plan, scan: *const pg_sys::Plan) -> Option<*const pg_sys::MergeAppend> {
    use pg_sys::NodeTag::{T_Append, T_CustomScan, T_MergeAppend, T_SubqueryScan};
    if root.is_null() {
        return None;
    }
    // SAFETY: nodes of the query's plan, each of which begins with its tag.
    unsafe {
        let node: *mut pg_sys::Node = root.cast();
        let mut below = vec![(*root).lefttree, (*root).righttree];
        if let Some(append) = cast::<pg_sys::MergeAppend>(node, T_MergeAppend) {
            let members: Vec<*mut pg_sys::Plan> = list((*append).mergeplans);
            if members.iter().any(|member| is_source(*member, scan)) {
                return (!may_be_pruned(append)).then_some(append.cast_const());
            }
            below.extend(members);
        } else if let Some(append) = cast::<pg_sys::Append>(node, T_Append) {
            below.extend(list::<pg_sys::Plan>((*append).appendplans));
        } else if let Some(subquery) = cast::<pg_sys::SubqueryScan>(node, T_SubqueryScan) {
            below.push((*subquery).subplan);
        } else if let Some(custom) = cast::<pg_sys::CustomScan>(node, T_CustomScan) {
            below.extend(list::<pg_sys::Plan>((*custom).custom_plans));
        }
        below.into_iter().find_map(|plan| merge_append_of(plan, scan))
    }
}

/// Whether a member of a Merge Append is this scan, or sorts what it gives.
fn is_source(member: *mut pg_sys::Plan, scan: *const pg_sys::Plan) -> bool {
    use pg_sys::NodeTag::{T_IncrementalSort, T_Result, T_Sort};
    if member.cast_const() == scan {
        return true;
    }
    // SAFETY: a node of the query's plan.
    unsafe {
        let passes_on = matches!((*member).type_, T_Sort | T_IncrementalSort | T_Result);
        passes_on && !(*member).lefttree.is_null() && is_source((*member).lefttree, scan)
    }
}
