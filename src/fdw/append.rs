//! This module reads several pages at once: how an Append drives the scans of partitions, or of the
//! arms of a UNION ALL, together.
//!
//! The Append asks each scan for a row; one that has none yet is *pending*. When all are, the
//! Append waits, and asks again when it is woken. All scans of a backend share one wake event, so
//! the first pending scan waits for all of them, and when it fires, all that have news are served.
//! (An event of its own for each, as core has it in mind, would take a descriptor for each.) What a
//! row is, and when there is one, is `scan`'s matter.

use pgrx::{pg_guard, pg_sys};

use crate::fdw::scan::ScanState;
use crate::pg::compat;
use crate::pg::nodes::cast;

/// Every way of ours can be driven by an Append. (Of a Merge Append: `merge_append`.)
#[pg_guard]
pub unsafe extern "C-unwind" fn is_foreign_path_async_capable(_path: *mut pg_sys::ForeignPath) -> bool {
    true
}

/// The Append asks for a row.
#[pg_guard]
pub unsafe extern "C-unwind" fn foreign_async_request(request: *mut pg_sys::AsyncRequest) {
    produce(request);
}

/// The Append is going to wait. Nothing here may raise: before 17 the set of what it waits for
/// would stay open.
#[pg_guard]
pub unsafe extern "C-unwind" fn foreign_async_configure_wait(request: *mut pg_sys::AsyncRequest) {
    let Some(fetch) = state(request).and_then(|state| state.fetch.as_ref()) else { return };
    // SAFETY: core's own request, whose requestor is an Append with a set to wait for.
    let append = unsafe { (*request).requestor.cast::<pg_sys::AppendState>() };
    if pending(append, -1).is_some_and(|(_, first)| first == request) {
        // SAFETY: as above.
        fetch.wake_event.wait_in(unsafe { (*append).as_eventset }, request);
    }
    // Another scan may have taken the notification.
    if fetch.has_news() {
        fetch.wake_event.notify();
    }
}

/// The wake event fired for some scan of this backend. Core answers for this request; for the
/// others we do.
#[pg_guard]
pub unsafe extern "C-unwind" fn foreign_async_notify(request: *mut pg_sys::AsyncRequest) {
    if let Some(fetch) = state(request).and_then(|state| state.fetch.as_ref()) {
        fetch.wake_event.drain();
    }
    // SAFETY: core's own request; its requestor is an Append.
    let append = unsafe { (*request).requestor.cast::<pg_sys::AppendState>() };
    serve(request);
    // What the others do is not this scan's time.
    let clock = Clock::of(request);
    clock.stop(0.0);
    let mut last = -1;
    while let Some((index, other)) = pending(append, last) {
        last = index;
        if other != request {
            serve_other(other);
        }
    }
    clock.start();
}

/// As core does for the request that it notifies.
fn serve_other(request: *mut pg_sys::AsyncRequest) {
    let clock = Clock::of(request);
    clock.start();
    // SAFETY: core's own request, alive as long as its Append.
    unsafe { (*request).callback_pending = false };
    serve(request);
    // SAFETY: as above; a result is a slot of the scan, or null.
    let rows = unsafe {
        let slot = (*request).result;
        if slot.is_null() || (*slot).tts_flags & pg_sys::TTS_FLAG_EMPTY as u16 != 0 { 0.0 } else { 1.0 }
    };
    clock.stop(rows);
    compat::deliver(request);
}

/// Produces a row where there is news; else the scan stays pending, and shows how far it is.
fn serve(request: *mut pg_sys::AsyncRequest) {
    match state(request).and_then(|state| state.fetch.as_mut()) {
        Some(fetch) if !fetch.has_news() => {
            fetch.show();
            compat::answer(request, None);
        }
        _ => produce(request),
    }
}

/// Runs the scan until it has a row that Postgres lets pass, or is at its end, or has nothing yet.
fn produce(request: *mut pg_sys::AsyncRequest) {
    // SAFETY: the requestee is a node that ExecInitNode made; the uncounted function is what core
    // means us to call, for it counts the rows of a request itself.
    let slot = unsafe {
        let node = (*request).requestee;
        let Some(run) = (*node).ExecProcNodeReal else { return };
        pg_sys::ffi::pg_guard_ffi_boundary(|| run(node))
    };
    let is_pending = state(request).is_some_and(|state| state.is_pending);
    compat::answer(request, (!is_pending).then_some(slot));
}

/// The next request of the Append after this place that waits for a scan of ours.
fn pending(append: *mut pg_sys::AppendState, after: i32) -> Option<(i32, *mut pg_sys::AsyncRequest)> {
    let mut index = after;
    loop {
        // SAFETY: the Append's own set, and its requests, one for each member.
        let request = unsafe {
            index = pg_sys::bms_next_member((*append).as_asyncplans, index);
            if index < 0 {
                return None;
            }
            *(*append).as_asyncrequests.add(index as usize)
        };
        // SAFETY: as above.
        if unsafe { (*request).callback_pending } && state(request).is_some() {
            return Some((index, request));
        }
    }
}

/// The state of the scan that is asked, where it is one of ours: an Append may drive other
/// wrappers' scans as well.
fn state<'a>(request: *mut pg_sys::AsyncRequest) -> Option<&'a mut ScanState> {
    // SAFETY: core's own request; a foreign scan has its wrapper's routine, and ours have what
    // Begin set. Nothing else holds the state while a callback of ours runs.
    unsafe {
        let node: *mut pg_sys::ForeignScanState =
            cast((*request).requestee.cast(), pg_sys::NodeTag::T_ForeignScanState)?;
        let notify = (*(*node).fdwroutine).ForeignAsyncNotify?;
        let is_ours = std::ptr::fn_addr_eq(notify, foreign_async_notify as unsafe extern "C-unwind" fn(_));
        if is_ours { (*node).fdw_state.cast::<ScanState>().as_mut() } else { None }
    }
}

/// What EXPLAIN ANALYZE has of a scan.
struct Clock(*mut pg_sys::Instrumentation);

impl Clock {
    fn of(request: *mut pg_sys::AsyncRequest) -> Self {
        // SAFETY: core's own request; null without EXPLAIN ANALYZE.
        Self(unsafe { (*(*request).requestee).instrument })
    }

    fn start(&self) {
        if !self.0.is_null() {
            // SAFETY: the node's own, stopped before.
            unsafe { pg_sys::InstrStartNode(self.0) };
        }
    }

    fn stop(&self, rows: f64) {
        if !self.0.is_null() {
            // SAFETY: the node's own, started before.
            unsafe { pg_sys::InstrStopNode(self.0, rows) };
        }
    }
}
