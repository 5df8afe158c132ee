//! This module takes locks that no lock function of SQL can take or release.
//!
//! They are advisory locks with a fourth field of 3, where those of SQL have 1 or 2, and belong to
//! the lock method of tables: a session's lock of that method outlives a commit, is shown by
//! `pg_locks`, and is released when a transaction aborts.

use pgrx::pg_sys;

use crate::pg::compat;

/// The fourth field, `objsubid` in `pg_locks`.
const OURS: u16 = 3;

fn tag(key: i64) -> pg_sys::LOCKTAG {
    let [high, low] = [(key as u64 >> 32) as u32, key as u32];
    pg_sys::LOCKTAG {
        // SAFETY: reads a variable of the backend.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: high,
        locktag_field3: low,
        locktag_field4: OURS,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    }
}

/// A lock of the session. It is released when the value is dropped, and by every abort.
#[derive(Debug)]
pub struct SessionLock(i64);

impl SessionLock {
    /// Returns None if another session holds it.
    pub fn try_take(key: i64) -> Option<Self> {
        // SAFETY: the tag is complete. Without a wait nothing but an error of memory is raised.
        let taken = unsafe { pg_sys::LockAcquire(&tag(key), pg_sys::ExclusiveLock as i32, true, true) };
        (taken != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL).then_some(Self(key))
    }
}

impl Drop for SessionLock {
    fn drop(&mut self) {
        // SAFETY: after an abort the lock is not held any more, and a lock that is not held must
        // not be released.
        unsafe {
            if compat::holds_lock(&tag(self.0), pg_sys::ExclusiveLock as i32) {
                pg_sys::LockRelease(&tag(self.0), pg_sys::ExclusiveLock as i32, true);
            }
        }
    }
}

/// Waits for a lock that ends with the transaction.
pub fn take_until_end(key: i64) {
    // SAFETY: as above. The wait ends with a cancel.
    unsafe { pg_sys::LockAcquire(&tag(key), pg_sys::ExclusiveLock as i32, false, false) };
}
