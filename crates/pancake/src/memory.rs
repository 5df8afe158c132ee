//! This module makes a lack of memory an error of its statement.
//!
//! Rust ends the process when an allocation fails, and Postgres then restarts every session of the
//! cluster. So whatever grows with a reply reserves its room with `try_reserve`, and before a
//! library works on a piece of a reply the room that it may need is tried: allocated and given back
//! at once. What is allocated between the two is small.

use crate::error::{Error, Kind, Result};

/// What HTTP, TLS and the runtime may need for one request beside the reply: each of their buffers
/// is below 1 MB.
pub const REQUEST: usize = 4 << 20;
/// Decoding takes at most this many times the size of a row: an element of an array of numbers is
/// two bytes of JSON and up to 60 bytes on the way to Postgres.
pub const DECODING: usize = 32;
/// A set of ids, by which repeated rows are found, takes no more than this: those of seven million
/// rows.
pub const IDS: usize = 256 << 20;
/// Pieces below this size are decoded without trying.
const SMALL: usize = 64 << 10;

/// Reserves room for so many further elements.
pub fn reserve<T>(list: &mut Vec<T>, more: usize) -> Result<()> {
    list.try_reserve(more).map_err(|_| out_of_memory(list.len().saturating_add(more) * size_of::<T>()))
}

/// Tries whether so many bytes can be allocated.
pub fn probe(bytes: usize) -> Result<()> {
    let mut room = Vec::<u8>::new();
    let tried = room.try_reserve_exact(bytes).map_err(|_| out_of_memory(bytes));
    // Otherwise the compiler may leave out an allocation that nothing uses.
    std::hint::black_box(&room);
    tried
}

/// Tries whether a piece of a reply of this size can be decoded into so many columns, each of which
/// may hold all of it.
pub fn probe_decoding(size: usize, columns: usize) -> Result<()> {
    if size.saturating_mul(columns.max(1)) > SMALL {
        probe(size.saturating_mul(DECODING.saturating_add(2 * columns)))
    } else {
        Ok(())
    }
}

fn out_of_memory(bytes: usize) -> Error {
    Error::new(Kind::OutOfMemory, "out of memory")
        .detail(format!("A reply of Pancake needs {bytes} bytes more than this server process may allocate."))
}

/// A scan has met so many rows, and has no room for the ids of more.
pub fn too_many_rows(rows: usize) -> Error {
    Error::new(Kind::OutOfMemory, "out of memory")
        .detail(format!("The scan has met {rows} rows, and has no room for the ids of more."))
        .hint("Read the list in parts, by bounds on inserted_at.")
}

/// The text of a serde error for a failed reservation, by which [`failed_reservation`] finds it.
const SERDE_MESSAGE: &str = "no room for the reply";

/// Reserves room for one more element while JSON is read.
pub fn grow<T, E: serde::de::Error>(list: &mut Vec<T>, at_least: usize) -> Result<(), E> {
    if list.len() < list.capacity() {
        return Ok(());
    }
    list.try_reserve(at_least.max(1)).map_err(|_| E::custom(SERDE_MESSAGE))
}

/// The error of a reservation that failed while JSON of this size was read.
pub fn failed_reservation(error: &serde_json::Error, size: usize) -> Option<Error> {
    error.to_string().starts_with(SERDE_MESSAGE).then(|| out_of_memory(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_allocated_is_an_error() {
        let huge = isize::MAX as usize;
        assert!(probe(1 << 20).is_ok() && probe_decoding(huge / 64, 1).is_err());
        assert!(probe_decoding(huge >> 20, 1 << 20).is_err());
        assert_eq!(probe(huge).unwrap_err().sqlstate(), "53200");
        assert!(probe_decoding(SMALL, 1).is_ok());
        let mut list = Vec::<u64>::new();
        assert!(reserve(&mut list, 1000).is_ok() && list.capacity() >= 1000);
        assert_eq!(reserve(&mut list, huge / 8).unwrap_err().message(), "out of memory");
        let error = grow::<u64, serde_json::Error>(&mut Vec::new(), huge).unwrap_err();
        assert!(failed_reservation(&error, 1).is_some());
        assert!(grow::<u64, serde_json::Error>(&mut list, huge).is_ok(), "there is room already");
        let other = serde_json::from_str::<u8>("x").unwrap_err();
        assert!(failed_reservation(&other, 1).is_none());
    }
}
