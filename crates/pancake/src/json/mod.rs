//! This module reads JSON loosely: any key may be missing, null or of another type.

pub mod cell;
pub mod cells;
pub mod escape;
pub mod object;
pub mod redact;
