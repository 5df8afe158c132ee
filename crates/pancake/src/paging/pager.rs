//! One chain on its way to its end, whatever the paging of its list: what to ask next, and what a reply proves.
//! Each way of paging has a file of its own; parameters are made of an [`Ask`] by [`crate::http::endpoint`].

use std::collections::HashSet;

use crate::error::Result;
use crate::paging::cursor::{self, End, Terms, Walk};
use crate::paging::offset::Thread;
use crate::paging::time_slices::{Numbered, Windows};
use crate::plan::request::Chain;
use crate::scan::verdicts::{self, Known};
use crate::schema::catalogue::{Object, Paging};
use crate::schema::keyset::{Spot, Window};
use crate::time::Micros;

/// What to ask beside the chain's own filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The batch at a cursor, or at a time.
    Cursor(cursor::Ask),
    /// The batch after so many of the newest rows.
    Skip(u64),
    /// A numbered batch of a window.
    Numbered(Numbered),
    Whole,
}

impl Ask {
    /// What is asked of a list that goes by a cursor.
    #[cfg(test)]
    pub fn cursor(&self) -> &cursor::Ask {
        match self {
            Ask::Cursor(ask) => ask,
            other => panic!("{other:?}"),
        }
    }

    /// Whether the reply is expected to begin with a row that is known: its coming back proves something.
    pub fn overlaps(&self) -> bool {
        match self {
            Ask::Cursor(ask) => ask.cursor.is_some(),
            Ask::Skip(rows) => *rows > 0,
            Ask::Numbered(_) | Ask::Whole => false,
        }
    }
}

#[derive(Clone, Debug)]
pub enum Walker {
    Cursor(Box<Walk>),
    Thread(Box<Thread>),
    Windows(Box<Windows>),
    /// A list that comes in one reply: whether it has.
    Whole(bool),
}

impl Walker {
    /// `moves`: rows may move into the chain's window while it is walked.
    pub fn on(terms: Terms, object: Object, chain: &Chain, moves: bool, known: Known) -> Self {
        match object.paging() {
            Paging::Cursor => Walker::Cursor(Box::new(Walk::on(terms, chain.window, chain.order, known))),
            Paging::Skip => Walker::Thread(Box::new(Thread::new(chain.window))),
            Paging::Windows { batch } => {
                Walker::Windows(Box::new(Windows::new(chain.window, batch, moves, known)))
            }
            Paging::Whole => Walker::Whole(false),
        }
    }

    /// The next request. `None` at the end.
    pub fn ask(&self) -> Option<Ask> {
        match self {
            Walker::Cursor(walk) => walk.ask().map(Ask::Cursor),
            Walker::Thread(thread) => thread.ask().map(Ask::Skip),
            Walker::Windows(windows) => windows.ask().map(Ask::Numbered),
            Walker::Whole(came) => (!came).then_some(Ask::Whole),
        }
    }

    /// Takes a reply in, with its total, and returns which of its rows to hand out.
    pub fn reply(&mut self, rows: &[Spot], total: Option<u64>, now: Micros) -> Result<Vec<usize>> {
        match self {
            Walker::Cursor(walk) => walk.reply(rows, now),
            Walker::Thread(thread) => thread.reply(rows),
            Walker::Windows(windows) => windows.reply(rows, total, now),
            Walker::Whole(came) => {
                *came = true;
                let mut ids = HashSet::with_capacity(rows.len());
                Ok((0..rows.len()).filter(|row| ids.insert(rows[*row].id.as_str())).collect())
            }
        }
    }

    /// A request failed in a way that may be due to its form, which the refusal may name. False if there is no other form.
    pub fn lost(&mut self, is_named: bool) -> Result<bool> {
        match self {
            Walker::Cursor(walk) => walk.lost(is_named),
            Walker::Windows(windows) => Ok(windows.lost(is_named)),
            Walker::Thread(_) | Walker::Whole(_) => Ok(false),
        }
    }

    /// Whether the page takes the form of request that it may refuse, if this walk has shown it.
    pub fn verdict(&self) -> Option<verdicts::Window> {
        match self {
            Walker::Cursor(walk) => walk.verdict(),
            Walker::Windows(windows) => windows.verdict(),
            Walker::Thread(_) | Walker::Whole(_) => None,
        }
    }

    /// Whether the list was seen out of order.
    pub fn is_loose(&self) -> bool {
        self.walk().is_some_and(Walk::is_loose)
    }

    pub fn ended(&self) -> Option<End> {
        match self {
            Walker::Cursor(walk) => walk.ended(),
            Walker::Thread(thread) => thread.ended(),
            Walker::Windows(windows) => windows.ended(),
            Walker::Whole(came) => came.then_some(End::ListEnded),
        }
    }

    /// Whether the whole list came in its last reply.
    pub fn is_snapshot(&self) -> bool {
        self.walk().is_some_and(Walk::is_snapshot)
    }

    /// The window of a walk that goes down by time, and so can be cut in two.
    pub fn window(&self) -> Window {
        self.walk().map(Walk::window).unwrap_or_default()
    }

    /// How far down it has come.
    pub fn depth(&self) -> Option<Micros> {
        self.walk()?.depth()
    }

    /// In an ordered stream rows that show a later time than this can be handed out. `None`: those that came all can.
    pub fn holds_back_below(&self) -> Option<Micros> {
        let walk = self.walk().filter(|walk| walk.ended().is_none())?;
        Some(walk.reached().unwrap_or(Micros(i64::MAX)))
    }

    /// Whether what is older could be left to another walk.
    pub fn can_be_cut(&self, low: Micros) -> bool {
        self.walk().is_some_and(|walk| walk.can_begin_below(low))
    }

    /// Whether it is a walk by time whose first anchor did not do.
    pub fn has_no_beginning(&self) -> bool {
        self.walk().is_some_and(Walk::has_no_beginning)
    }

    /// Whether what was left to another walk can still be taken back.
    pub fn can_take_back(&self) -> bool {
        self.walk().is_some_and(Walk::can_take_back)
    }

    /// Takes back what was left to a walk that found no beginning.
    pub fn take_back(&mut self, low: Option<Micros>) {
        if let Walker::Cursor(walk) = self {
            walk.take_back(low);
        }
    }

    /// More rows are likely to follow.
    pub fn goes_on(&self) -> bool {
        self.walk().is_some_and(Walk::goes_on)
    }

    /// Leaves what is older than `low` to another, rows being `gap` microseconds apart. None where this is no walk by time.
    pub fn cut(&mut self, low: Micros, gap: i64) -> Option<Walker> {
        match self {
            Walker::Cursor(walk) => Some(Walker::Cursor(Box::new(walk.cut(low, gap)))),
            Walker::Thread(_) | Walker::Windows(_) | Walker::Whole(_) => None,
        }
    }

    fn walk(&self) -> Option<&Walk> {
        match self {
            Walker::Cursor(walk) => Some(walk),
            Walker::Thread(_) | Walker::Windows(_) | Walker::Whole(_) => None,
        }
    }

    /// One of the windows of a numbered list that have not been read, counted from the newest.
    pub fn unread(&self, index: i64) -> Option<Numbered> {
        match self {
            Walker::Windows(windows) => windows.unread(index),
            Walker::Cursor(_) | Walker::Thread(_) | Walker::Whole(_) => None,
        }
    }

    /// How many rows there are, where the list says so.
    pub fn total(&self) -> Option<u64> {
        match self {
            Walker::Windows(windows) => windows.total(),
            Walker::Cursor(_) | Walker::Thread(_) | Walker::Whole(_) => None,
        }
    }
}
