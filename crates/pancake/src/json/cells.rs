//! This module packs the cells of a row on their way to Postgres: two allocations, however many
//! texts there are. They are made in the worker's thread and freed in the backend's, which is dear
//! by the piece. A cell is defined in [`crate::json::cell`].

use std::borrow::Cow;

use crate::json::cell::Cell;
use crate::time::Micros;

#[derive(Clone, Debug, Default)]
pub struct Cells {
    /// All texts, one behind the other.
    text: String,
    packed: Vec<PackedCells>,
}

#[derive(Clone, Copy, Debug)]
enum PackedCells {
    Null,
    Bool(bool),
    Int(i64),
    Time(Micros),
    /// Where the text ends; it begins where the one before it does end.
    Text(usize),
    Json(usize),
    /// So many that follow, `Text` or `Null`, are one cell.
    Texts(usize),
}

impl Cells {
    pub fn with_capacity(cells: usize) -> Self {
        Cells { text: String::new(), packed: Vec::with_capacity(cells) }
    }

    pub fn push(&mut self, cell: Cell) {
        let packed = match cell {
            Cell::Null => PackedCells::Null,
            Cell::Bool(value) => PackedCells::Bool(value),
            Cell::Int(number) => PackedCells::Int(number),
            Cell::Time(at) => PackedCells::Time(at),
            Cell::Text(text) => PackedCells::Text(self.end_of(&text)),
            Cell::Json(json) => PackedCells::Json(self.end_of(&json)),
            Cell::Texts(texts) => {
                self.packed.push(PackedCells::Texts(texts.len()));
                for text in texts {
                    let text = text.map_or(PackedCells::Null, |text| PackedCells::Text(self.end_of(&text)));
                    self.packed.push(text);
                }
                return;
            }
        };
        self.packed.push(packed);
    }

    /// Bytes of all texts.
    pub fn size(&self) -> usize {
        self.text.len()
    }

    /// Bytes that are allocated.
    pub fn allocated(&self) -> usize {
        self.text.capacity() + self.packed.capacity() * size_of::<PackedCells>()
    }

    fn end_of(&mut self, text: &str) -> usize {
        self.text.push_str(text);
        self.text.len()
    }
}

impl<'a> IntoIterator for &'a Cells {
    type Item = Cell<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter { text: &self.text, packed: self.packed.iter(), begin: 0 }
    }
}

pub struct Iter<'a> {
    text: &'a str,
    packed: std::slice::Iter<'a, PackedCells>,
    begin: usize,
}

impl<'a> Iter<'a> {
    fn text(&mut self, end: usize) -> Cow<'a, str> {
        let begin = std::mem::replace(&mut self.begin, end);
        Cow::Borrowed(&self.text[begin..end])
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        Some(match *self.packed.next()? {
            PackedCells::Null => Cell::Null,
            PackedCells::Bool(value) => Cell::Bool(value),
            PackedCells::Int(number) => Cell::Int(number),
            PackedCells::Time(at) => Cell::Time(at),
            PackedCells::Text(end) => Cell::Text(self.text(end)),
            PackedCells::Json(end) => Cell::Json(self.text(end)),
            PackedCells::Texts(count) => {
                let mut texts = Vec::with_capacity(count);
                for _ in 0..count {
                    texts.push(match self.packed.next()? {
                        PackedCells::Text(end) => Some(self.text(*end)),
                        _ => None,
                    });
                }
                Cell::Texts(texts)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn come_out_as_they_went_in() {
        let cells = || {
            [
                Cell::Text("ệ".into()),
                Cell::Texts(vec![Some("a".into()), None, Some("".into())]),
                Cell::Null,
                Cell::Texts(vec![]),
                Cell::Json("{}".into()),
                Cell::Text("".into()),
                Cell::Bool(true),
                Cell::Int(-1),
                Cell::Texts(vec![None]),
                Cell::Time(Micros(7)),
                Cell::Text("last".into()),
            ]
        };
        let mut packed = Cells::default();
        cells().into_iter().for_each(|cell| packed.push(cell));
        let packed = &packed;
        assert!(packed.into_iter().eq(cells()));
    }
}
