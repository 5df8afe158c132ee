//! One chain on its way to its end, whatever the paging of its list: what to ask next, and what a reply proves.
//! Each way of paging has a file of its own; parameters are made of an [`Ask`] by [`crate::endpoint`].

use crate::error::Result;
use crate::plan::Chain;
use crate::walk::{self, End, Spot, Walk};

/// What to ask beside the chain's own filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The batch at a cursor, or at a time.
    Cursor(walk::Ask),
}

impl Ask {
    /// Whether the reply must begin with a row that is known: its coming back proves something.
    pub fn overlaps(&self) -> bool {
        match self {
            Ask::Cursor(ask) => ask.cursor.is_some(),
        }
    }
}

#[derive(Debug)]
pub enum Walker {
    Cursor(Walk),
}

impl Walker {
    /// `looks`: rows may move into the chain's window while it is walked.
    pub fn new(chain: &Chain, looks: bool) -> Self {
        Walker::Cursor(Walk::new(chain.window, looks))
    }

    /// The next request. `None` at the end.
    pub fn ask(&self) -> Option<Ask> {
        match self {
            Walker::Cursor(walk) => walk.ask().map(Ask::Cursor),
        }
    }

    /// Takes a reply in, and says which of its rows to hand out.
    pub fn reply(&mut self, rows: &[Spot]) -> Result<Vec<usize>> {
        match self {
            Walker::Cursor(walk) => walk.reply(rows),
        }
    }

    /// A request failed in a way that says nothing of the page. True where it can be asked in another form.
    pub fn lost(&mut self) -> Result<bool> {
        match self {
            Walker::Cursor(walk) => walk.lost(),
        }
    }

    pub fn ended(&self) -> Option<End> {
        match self {
            Walker::Cursor(walk) => walk.ended(),
        }
    }
}
