//! This module decides how far the head of a list is read: the list as the server shows it, newest
//! activity first, whatever times its rows show.
//!
//! It is read in blocks, the rows of one reply each, until the last eight rows of a block are all
//! older than the window of a delta and unchanged in the copy: the newest row may stand seven
//! places too low, and a row that shows an older time than its real one is found by what it holds.
//! Where rows of the target always differ, for example because a trigger drops them, three blocks
//! without a row of the window are the end.

use crate::paging::cursor::FULL_BATCH;
use crate::time::Micros;

/// So many rows in a row show that no newer one follows.
pub const PROOF: usize = 8;
/// Blocks without a row of the window.
const MOST_BEYOND: usize = 3;

/// A row of the list, in its place.
#[derive(Clone, Copy, Debug)]
pub struct HeadRow {
    pub at: Option<Micros>,
    /// It is of the window. None where it has no times to show that.
    pub is_due: Option<bool>,
    /// It is to be copied.
    pub is_wanted: bool,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    FetchRow,
    /// Compare so many of the last wanted rows with the copy.
    Compare(usize),
    End,
}

/// The rows that were read so far.
pub struct Head {
    /// A block that ends behind so many rows is the last one.
    most: usize,
    is_delta: bool,
    rows: Vec<HeadRow>,
    is_end: bool,
    /// Where the block begins.
    began: usize,
    /// Where it ends, unless it is as long as a reply.
    edge: usize,
    beyond: usize,
    newest: Option<Micros>,
    lowest: Option<Micros>,
    is_over: bool,
}

impl Head {
    pub fn new(most: usize, is_delta: bool) -> Self {
        Self {
            most,
            is_delta,
            rows: Vec::new(),
            is_end: false,
            began: 0,
            edge: most.min(FULL_BATCH),
            beyond: 0,
            newest: None,
            lowest: None,
            is_over: false,
        }
    }

    pub fn rows(&self) -> &[HeadRow] {
        &self.rows
    }

    /// The newest time of the first block. A row dated ahead of the reply is not the newest: the
    /// mark would stay up there, and hide all that comes after it.
    pub fn newest(&self) -> Option<Micros> {
        self.newest
    }

    /// Where the next batch begins if this one ended for its size: the newest time of its last
    /// eight rows.
    pub fn lowest(&self) -> Option<Micros> {
        self.lowest
    }

    /// `received` rows have come that were not fetched yet; the last reply left its server at
    /// `server_time`.
    pub fn next(&mut self, received: usize, server_time: Micros) -> Next {
        let seen = self.rows.len();
        // Of a delta a block is what one reply has brought, so that no request is made for the row
        // behind it; else a list that is shorter than a reply is read to its end.
        let is_in_block = if self.is_delta {
            seen == self.began || (seen < self.most && received > 0)
        } else {
            seen < self.edge
        };
        if self.is_over {
            return Next::End;
        }
        if is_in_block && !self.is_end {
            return Next::FetchRow;
        }
        if self.began == 0 {
            let times = self.rows.iter().filter_map(|row| row.at);
            self.newest = times.filter(|at| *at <= server_time).max();
        }
        if self.is_end {
            self.is_over = true;
            return Next::End;
        }
        let proof = self.proof();
        if seen >= PROOF && proof.iter().all(|row| row.is_due == Some(false)) {
            return Next::Compare(proof.iter().filter(|row| row.is_wanted).count());
        }
        self.end_block();
        self.next(received, server_time)
    }

    /// A row was fetched, or none was left.
    pub fn fetched(&mut self, row: Option<HeadRow>) {
        match row {
            Some(row) => self.rows.push(row),
            None => self.is_end = true,
        }
    }

    /// The rows that [`Next::Compare`] asked for were compared.
    pub fn compared(&mut self, differ: bool) {
        if differ {
            self.end_block();
        } else {
            self.is_over = true;
        }
    }

    fn proof(&self) -> &[HeadRow] {
        &self.rows[self.rows.len().saturating_sub(PROOF)..]
    }

    fn end_block(&mut self) {
        let is_due = self.rows[self.began..].iter().any(|row| row.is_due == Some(true));
        self.beyond = if is_due { 0 } else { self.beyond + 1 };
        if self.beyond == MOST_BEYOND {
            self.is_over = true;
        } else if self.rows.len() >= self.most {
            self.lowest = self.proof().iter().filter_map(|row| row.at).max();
            self.is_over = true;
        }
        self.began = self.rows.len();
        // Neighbouring replies share a row.
        self.edge += FULL_BATCH - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = Micros(1_000_000);

    fn row(at: i64, is_due: bool) -> HeadRow {
        HeadRow { at: Some(Micros(at)), is_due: Some(is_due), is_wanted: true }
    }

    /// Reads a list that comes in replies of 60 and 59 rows; `differ` by the rows that were read.
    fn read(mut head: Head, list: &[HeadRow], differ: impl Fn(usize) -> bool) -> Head {
        let mut received = 0;
        let mut compared = 0;
        loop {
            match head.next(received, NOW) {
                Next::FetchRow => {
                    let place = head.rows().len();
                    if received == 0 {
                        let reply = if place == 0 { FULL_BATCH } else { FULL_BATCH - 1 };
                        received = reply.min(list.len() - place);
                    }
                    received = received.saturating_sub(1);
                    head.fetched(list.get(place).copied());
                }
                Next::Compare(wanted) => {
                    compared += 1;
                    assert!(wanted <= PROOF && compared < 100);
                    head.compared(differ(head.rows().len()));
                }
                Next::End => return head,
            }
        }
    }

    /// Newest first, the first `due` of them of the window.
    fn list(rows: i64, due: i64) -> Vec<HeadRow> {
        (0..rows).map(|place| row(1_000 - place, place < due)).collect()
    }

    #[test]
    fn a_delta_without_changes_is_one_reply() {
        let head = read(Head::new(4_721, true), &list(300, 3), |_| false);
        assert_eq!((head.rows().len(), head.newest(), head.lowest()), (60, Some(Micros(1_000)), None));
    }

    #[test]
    fn what_differs_below_the_window_is_followed() {
        let head = read(Head::new(4_721, true), &list(400, 55), |read| read < 120);
        assert_eq!(head.rows().len(), 178, "a block holds the window, two differ, the next one does not");
    }

    #[test]
    fn rows_that_always_differ_end_after_three_blocks() {
        let head = read(Head::new(4_721, true), &list(600, 10), |_| true);
        assert_eq!(head.rows().len(), 60 + 3 * 59);
    }

    #[test]
    fn a_batch_ends_for_its_size() {
        let head = read(Head::new(100, true), &list(300, 300), |_| true);
        // The newest of the last eight.
        assert_eq!((head.rows().len(), head.lowest()), (100, Some(Micros(1_000 - 92))));
    }

    #[test]
    fn a_first_head_is_a_reply_or_a_whole_short_list() {
        assert_eq!(read(Head::new(4_721, false), &list(300, 0), |_| false).rows().len(), 60);
        assert_eq!(read(Head::new(4_721, false), &list(59, 0), |_| false).rows().len(), 59);
        assert_eq!(
            read(Head::new(4_721, true), &list(7, 0), |_| panic!("too few to compare")).rows().len(),
            7
        );
        assert_eq!(read(Head::new(4_721, true), &[], |_| panic!("none to compare")).newest(), None);
    }

    #[test]
    fn a_row_dated_ahead_is_not_the_newest() {
        let mut rows = list(20, 5);
        rows[0].at = Some(Micros(NOW.0 + 1));
        assert_eq!(read(Head::new(4_721, true), &rows, |_| false).newest(), Some(Micros(999)));
    }

    #[test]
    fn rows_without_times_prove_nothing() {
        let undated = HeadRow { at: None, is_due: None, is_wanted: true };
        let rows = vec![undated; 400];
        let head = read(Head::new(4_721, true), &rows, |_| panic!("nothing shows that they are old"));
        assert_eq!(head.rows().len(), 60 + 2 * 59, "blocks without a row of the window");
    }
}
