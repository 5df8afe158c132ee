//! What we know of Pancake.
#![forbid(unsafe_code)]
