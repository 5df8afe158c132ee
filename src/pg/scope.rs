//! This module sets settings for as long as a function runs, as the SET clause of a function does.

use std::ffi::CStr;

use pgrx::pg_sys;

/// Settings that end with this value. After an error Postgres ends them with the transaction.
pub struct SettingsScope(i32);

impl SettingsScope {
    pub fn set(settings: &[(&CStr, &CStr)]) -> Self {
        // SAFETY: names and values end with NUL. A value that is refused is raised.
        unsafe {
            let scope = Self(pg_sys::NewGUCNestLevel());
            for (name, value) in settings {
                pg_sys::set_config_option(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_USERSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                    true,
                    0,
                    false,
                );
            }
            scope
        }
    }

    /// Names resolve to Postgres's own objects, and row security applies.
    pub fn internal() -> Self {
        Self::set(&[(c"search_path", c"pg_catalog, pg_temp"), (c"row_security", c"on")])
    }
}

impl Drop for SettingsScope {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the level that was opened, and no deeper one.
            unsafe { pg_sys::AtEOXact_GUC(true, self.0) };
        }
    }
}
