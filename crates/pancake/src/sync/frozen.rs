//! This module finds conversations that show an older time than their newest message has, in a list
//! as it is shown.

use crate::time::Micros;

/// So many in a row that show a time before the bound are the end.
const END: usize = 8;

/// Conversations that show a time before a bound, and stand above one that shows a later one: they
/// have moved after it.
pub struct Frozen {
    since: Micros,
    ids: Vec<String>,
    /// The last ones that were read, if they show a time before the bound.
    above: Vec<String>,
}

impl Frozen {
    pub fn new(since: Micros) -> Self {
        Self { since, ids: Vec::new(), above: Vec::new() }
    }

    pub fn push(&mut self, id: String, at: Option<Micros>) {
        if at.is_some_and(|at| at < self.since) {
            self.above.push(id);
        } else {
            self.ids.append(&mut self.above);
        }
    }

    /// Returns whether no more rows need to be read.
    pub fn is_over(&self) -> bool {
        self.above.len() >= END
    }

    /// Returns their ids. Of the last rows nothing shows where they belong.
    pub fn into_ids(mut self) -> Vec<String> {
        self.ids.append(&mut self.above);
        self.ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_above_a_later_one_has_moved() {
        let mut frozen = Frozen::new(Micros(100));
        let mut read = 0;
        for (place, at) in [200, 50, 150, 90, 80, 70, 60, 50, 40, 30, 20, 10].into_iter().enumerate() {
            if frozen.is_over() {
                break;
            }
            frozen.push(place.to_string(), Some(Micros(at)));
            read += 1;
        }
        assert_eq!(read, 11, "eight in a row");
        assert_eq!(frozen.into_ids(), ["1", "3", "4", "5", "6", "7", "8", "9", "10"]);
    }
}
