//! This module reads a reply's body as it comes in pieces: inflated into one buffer, and never
//! larger than the limit. What is in it is read by [`crate::reply::envelope`].
//!
//! reqwest's own decompression hands out 4 kB at a time, through four layers; here a body of 200 kB
//! is written once.

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::{Error, Result};
use crate::memory;

/// Room for sixty conversations (docs/api.md), so that a body seldom has to be moved.
const USUAL: usize = 256 << 10;
/// The largest window that gzip has.
const WINDOW_BITS: u8 = 15;

pub struct Body {
    bytes: Vec<u8>,
    limit: usize,
    gzip: Option<Gzip>,
}

struct Gzip {
    inflate: Decompress,
    /// A member has begun and not ended.
    open: bool,
}

#[derive(Debug)]
pub enum BodyFault {
    TooLarge,
    /// The compressed stream is damaged, or ends early.
    Damaged,
    OutOfMemory(Error),
}

impl Body {
    /// A body of at most `limit` bytes. The room for one of usual size is reserved here, before it
    /// is asked for.
    pub fn new(limit: usize) -> Result<Self> {
        let mut bytes = Vec::new();
        memory::reserve(&mut bytes, USUAL.min(limit))?;
        Ok(Self { bytes, limit, gzip: None })
    }

    /// `encoding`: the header `Content-Encoding`.
    pub fn encoded(mut self, encoding: &str) -> Self {
        let gzip = ["gzip", "x-gzip"].iter().any(|name| encoding.trim().eq_ignore_ascii_case(name));
        self.gzip = gzip.then(|| Gzip { inflate: Decompress::new_gzip(WINDOW_BITS), open: false });
        self
    }

    pub fn take(&mut self, mut piece: &[u8]) -> Result<(), BodyFault> {
        let Some(gzip) = &mut self.gzip else {
            if self.bytes.len() + piece.len() > self.limit {
                return Err(BodyFault::TooLarge);
            }
            memory::reserve(&mut self.bytes, piece.len()).map_err(BodyFault::OutOfMemory)?;
            self.bytes.extend_from_slice(piece);
            return Ok(());
        };
        while !piece.is_empty() {
            if self.bytes.len() == self.bytes.capacity() {
                memory::reserve(&mut self.bytes, USUAL).map_err(BodyFault::OutOfMemory)?;
            }
            gzip.open = true;
            let before = gzip.inflate.total_in();
            let status = gzip.inflate.decompress_vec(piece, &mut self.bytes, FlushDecompress::None);
            let taken = (gzip.inflate.total_in() - before) as usize;
            piece = piece.get(taken..).unwrap_or_default();
            match status.map_err(|_| BodyFault::Damaged)? {
                // Another member may follow.
                Status::StreamEnd => *gzip = Gzip { inflate: Decompress::new_gzip(WINDOW_BITS), open: false },
                Status::Ok => {}
                Status::BufError if self.bytes.len() == self.bytes.capacity() => {}
                Status::BufError => return Err(BodyFault::Damaged),
            }
            if self.bytes.len() > self.limit {
                return Err(BodyFault::TooLarge);
            }
        }
        Ok(())
    }

    pub fn end(self) -> Result<Vec<u8>, BodyFault> {
        if self.gzip.is_some_and(|gzip| gzip.open) { Err(BodyFault::Damaged) } else { Ok(self.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(encoding: &str, limit: usize, bytes: &[u8], piece: usize) -> Result<Vec<u8>, BodyFault> {
        let mut body = Body::new(limit).unwrap().encoded(encoding);
        bytes.chunks(piece).try_for_each(|piece| body.take(piece))?;
        body.end()
    }

    fn is_damaged(read: Result<Vec<u8>, BodyFault>) -> bool {
        matches!(read, Err(BodyFault::Damaged))
    }

    proptest! {
        #[test]
        fn comes_out_as_it_went_in(text in "[a-cệ\n]{0,2000}", times in 1_usize..400, piece in 1_usize..5000) {
            let text = text.repeat(times).into_bytes();
            prop_assert_eq!(read("gzip", 4 << 20, &gzip(&text), piece).unwrap(), text.clone());
            prop_assert_eq!(read("", 4 << 20, &text, piece).unwrap(), text);
        }
    }

    #[test]
    fn members_follow_one_another() {
        let both = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(read("GZIP", 100, &both, 7).unwrap(), b"one two");
        assert_eq!(read("gzip", 100, b"", 7).unwrap(), b"");
    }

    #[test]
    fn what_ends_early_or_is_damaged_is_no_body() {
        let whole = gzip(&b"conversations ".repeat(1000));
        for length in 1..whole.len() {
            assert!(is_damaged(read("gzip", 1 << 20, &whole[..length], 11)), "{length}");
        }
        let mut odd = whole.clone();
        let last = odd.len() - 5;
        odd[last] ^= 1;
        assert!(is_damaged(read("gzip", 1 << 20, &odd, 11)));
        assert!(is_damaged(read("gzip", 1 << 20, b"{\"no\":\"gzip\"}", 11)));
    }

    #[test]
    fn the_limit_is_of_what_is_inflated() {
        let bomb = gzip(&vec![b' '; 30 << 20]);
        assert!(bomb.len() < 1 << 20);
        let mut body = Body::new(1 << 20).unwrap().encoded("gzip");
        assert!(matches!(body.take(&bomb), Err(BodyFault::TooLarge)));
        assert!(body.bytes.capacity() <= 2 << 20, "{}", body.bytes.capacity());
        assert!(matches!(read("", 10, b"eleven bytes", 100), Err(BodyFault::TooLarge)));
        assert_eq!(read("", 10, b"ten bytes.", 3).unwrap(), b"ten bytes.");
        assert_eq!(read("gzip", 10, &gzip(b"ten bytes."), 3).unwrap(), b"ten bytes.");
    }
}
