//! This module makes the first requests of a Merge Append's scans together.
//!
//! A Merge Append needs the first row of each of its scans, and asks one after the other. So the
//! first scan that is asked for a row starts the others as well: each requests its first batch, as
//! it would when its turn comes. Nothing more is requested than without, and further batches come
//! as their rows are taken. A scan is started in its turn where it may not be run at all, because
//! members are pruned at run time or a condition of its own switches it off, and where its
//! parameters change.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use pgrx::pg_sys;

use crate::pg::compat::may_be_pruned;
use crate::pg::nodes::{cast, list};

type Scan = *mut pg_sys::ForeignScanState;

/// A query that runs: which of its plans a Merge Append drives, and their scans that have begun and
/// have not ended.
pub struct Query {
    estate: *const pg_sys::EState,
    /// The Merge Append of a plan, by its number.
    appends: HashMap<*const pg_sys::Plan, usize>,
    scans: RefCell<HashMap<usize, Vec<Scan>>>,
}

thread_local! {
    static QUERIES: RefCell<Vec<Weak<Query>>> = const { RefCell::new(Vec::new()) };
}

impl Query {
    /// The query of a scan that begins.
    pub fn of(node: Scan) -> Rc<Self> {
        // SAFETY: the node that begins, and the query that it belongs to.
        let (estate, planned) = unsafe {
            let estate = (*node).ss.ps.state;
            (estate.cast_const(), (*estate).es_plannedstmt)
        };
        let query = QUERIES.with_borrow_mut(|queries| {
            queries.retain(|query| query.strong_count() > 0);
            let known = queries.iter().filter_map(Weak::upgrade).find(|query| query.estate == estate);
            known.unwrap_or_else(|| {
                let query = Rc::new(Self::read(estate, planned));
                queries.push(Rc::downgrade(&query));
                query
            })
        });
        if let Some(append) = query.append_of(node) {
            query.scans.borrow_mut().entry(append).or_default().push(node);
        }
        query
    }

    fn read(estate: *const pg_sys::EState, planned: *mut pg_sys::PlannedStmt) -> Self {
        // SAFETY: the query's own plan.
        let mut plans: Vec<*mut pg_sys::Plan> = unsafe { list((*planned).subplans) };
        // SAFETY: as above.
        plans.push(unsafe { (*planned).planTree });
        let (mut appends, mut count) = (HashMap::new(), 0);
        while let Some(plan) = plans.pop() {
            let (below, members) = below(plan);
            plans.extend(below);
            appends.extend(members.into_iter().filter_map(source).map(|scan| (scan, count)));
            count += 1;
        }
        Self { estate, appends, scans: RefCell::default() }
    }

    fn append_of(&self, node: Scan) -> Option<usize> {
        // SAFETY: a node that has begun.
        let plan = unsafe { (*node).ss.ps.plan.cast_const() };
        self.appends.get(&plan).copied()
    }

    /// The scans beside this one that are run in any case.
    pub fn beside(&self, node: Scan) -> Vec<Scan> {
        let scans = self.append_of(node).and_then(|append| self.scans.borrow().get(&append).cloned());
        // SAFETY: nodes that have begun and not ended. A scan with parameters begins again when
        // they have changed.
        let is_fixed = |scan: &Scan| unsafe {
            let state = &(**scan).ss.ps;
            (*state.plan).extParam.is_null() && state.chgParam.is_null()
        };
        scans.unwrap_or_default().into_iter().filter(|scan| *scan != node && is_fixed(scan)).collect()
    }

    pub fn leave(&self, node: Scan) {
        if let Some(append) = self.append_of(node)
            && let Some(scans) = self.scans.borrow_mut().get_mut(&append)
        {
            scans.retain(|other| *other != node);
        }
    }
}

/// The plans below one, and, of a Merge Append that runs all of them, its members.
fn below(plan: *mut pg_sys::Plan) -> (Vec<*mut pg_sys::Plan>, Vec<*mut pg_sys::Plan>) {
    use pg_sys::NodeTag::{T_Append, T_CustomScan, T_MergeAppend, T_SubqueryScan};
    if plan.is_null() {
        return (Vec::new(), Vec::new());
    }
    let node: *mut pg_sys::Node = plan.cast();
    let (mut below, mut members) = (Vec::new(), Vec::new());
    // SAFETY: nodes of the query's plan, each of which begins with its tag.
    unsafe {
        below.extend([(*plan).lefttree, (*plan).righttree]);
        if let Some(append) = cast::<pg_sys::MergeAppend>(node, T_MergeAppend) {
            below.extend(list::<pg_sys::Plan>((*append).mergeplans));
            if !may_be_pruned(append) {
                members = list((*append).mergeplans);
            }
        } else if let Some(append) = cast::<pg_sys::Append>(node, T_Append) {
            below.extend(list::<pg_sys::Plan>((*append).appendplans));
        } else if let Some(subquery) = cast::<pg_sys::SubqueryScan>(node, T_SubqueryScan) {
            below.push((*subquery).subplan);
        } else if let Some(custom) = cast::<pg_sys::CustomScan>(node, T_CustomScan) {
            below.extend(list::<pg_sys::Plan>((*custom).custom_plans));
        }
    }
    (below, members)
}

/// The foreign scan that a member of a Merge Append is, or sorts, if it is run in any case.
fn source(member: *mut pg_sys::Plan) -> Option<*const pg_sys::Plan> {
    use pg_sys::NodeTag::{T_ForeignScan, T_IncrementalSort, T_Result, T_Sort};
    if member.is_null() {
        return None;
    }
    // SAFETY: a node of the query's plan.
    unsafe {
        match (*member).type_ {
            T_ForeignScan => Some(member.cast_const()),
            T_Sort | T_IncrementalSort => source((*member).lefttree),
            T_Result if (*member.cast::<pg_sys::Result>()).resconstantqual.is_null() => {
                source((*member).lefttree)
            }
            _ => None,
        }
    }
}
