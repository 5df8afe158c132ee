//! This module presents Postgres's lists and strings as Rust's own. Nothing is allocated or freed
//! on the Postgres side unless documented.

use std::ffi::{CStr, CString, c_char};

use pgrx::{PgList, pg_sys};

/// The pointers of a node list.
pub fn list<T>(list: *mut pg_sys::List) -> Vec<*mut T> {
    // SAFETY: callers pass a list that Postgres gave them, of nodes of this type; NIL is a null
    // pointer and is empty.
    unsafe { PgList::<T>::from_pg(list) }.iter_ptr().collect()
}

/// A new list in the current memory context.
pub fn to_list<T>(nodes: &[*mut T]) -> *mut pg_sys::List {
    let mut list = PgList::<T>::new();
    nodes.iter().for_each(|node| list.push(*node));
    list.into_pg()
}

/// A copy of a C string; empty for a null pointer.
pub fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: not null, and Postgres's strings end with NUL and outlive this call.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

/// A C string; what stands behind a NUL is cut off.
pub fn c_string(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// A name as it stands in SQL.
pub fn identifier(name: &str) -> String {
    let name = c_string(name);
    // SAFETY: the string ends with NUL; the result may be the string itself, which outlives the
    // copy.
    text(unsafe { pg_sys::quote_identifier(name.as_ptr()) })
}

/// The node, if it is of this tag.
pub fn cast<T>(node: *mut pg_sys::Node, tag: pg_sys::NodeTag) -> Option<*mut T> {
    // SAFETY: a node pointer is null or points to a node, which begins with its tag.
    let same = !node.is_null() && unsafe { (*node).type_ } == tag;
    same.then_some(node.cast())
}
