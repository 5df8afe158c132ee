//! This module packs what a plan carries from the planner to the executor: data that Postgres can
//! copy, never a pointer. A cached plan is copied and outlives the planner's memory by days.

use pancake::plan::filter::Filter;
use pancake::plan::pushdown::Pushdown;
use pancake::schema::catalogue::Object;
use pancake::schema::keyset::{Order, Sides};
use pgrx::pg_sys;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::pg::nodes::{c_string, list, text, to_list};

/// The decisions of the planner. Operands live beside it in `fdw_exprs`, where Postgres keeps them
/// up to date.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct ScanPrivate {
    pub object: Object,
    pub order: Order,
    /// Rows come in that order, and Postgres relies on it.
    pub ordered: bool,
    /// What becomes of each clause of the plan's list.
    pub pushdowns: Vec<Pushdown>,
    pub filters: Vec<Filter>,
    /// Of each filter, the place of its clause in that list.
    pub places: Vec<usize>,
    /// The sides on which bounds are of use on this page.
    pub useful: Sides,
    /// Attribute numbers of the columns that the query needs.
    pub columns: Vec<i16>,
    pub requests: u64,
    pub chains: u64,
    /// Why the scan takes a longer way than most.
    pub detour: Option<String>,
    /// The limit of the query, if it has one: a cap on what is fetched ahead, and nothing else.
    pub limit: Option<u64>,
    /// All rows are needed, or as many as a limit that is not small.
    pub whole: bool,
    pub requests_per_second: f64,
}

impl ScanPrivate {
    /// A list of one String node of JSON.
    pub fn pack(&self) -> *mut pg_sys::List {
        pack(self)
    }

    pub fn unpack(private: *mut pg_sys::List) -> Option<ScanPrivate> {
        unpack(private)
    }
}

/// What a path carries to the plan: the order that it promises, if any.
pub fn pack_order(order: Order) -> *mut pg_sys::List {
    pack(&order)
}

pub fn unpack_order(private: *mut pg_sys::List) -> Option<Order> {
    unpack(private)
}

fn pack(value: &impl Serialize) -> *mut pg_sys::List {
    let json = serde_json::to_string(value).unwrap_or_default();
    // SAFETY: the string ends with NUL; both calls copy into the current context.
    let node = unsafe { pg_sys::makeString(pg_sys::pstrdup(c_string(&json).as_ptr())) };
    to_list(&[node])
}

fn unpack<T: DeserializeOwned>(private: *mut pg_sys::List) -> Option<T> {
    let [node] = list::<pg_sys::Node>(private)[..] else { return None };
    serde_json::from_str(&text(string(node))).ok()
}

fn string(node: *mut pg_sys::Node) -> *const std::ffi::c_char {
    // SAFETY: pack wrote a String node.
    unsafe { (*node.cast::<pg_sys::String>()).sval }
}
