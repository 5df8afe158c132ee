//! The tables of the API: their columns, types, and what the server can filter by.
//! One table entry per object; IMPORT FOREIGN SCHEMA, the planner and README's tables come from it.
//! How a column is read from a reply is said in the object's own module.

use crate::column::Column;
use crate::conversation;

/// What a foreign table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    Conversations,
}

impl Object {
    pub const ALL: &[Object] = &[Object::Conversations];

    pub fn name(self) -> &'static str {
        match self {
            Object::Conversations => "conversations",
        }
    }

    pub fn by_name(name: &str) -> Option<Object> {
        Self::ALL.iter().copied().find(|object| object.name() == name)
    }

    pub fn needs_page(self) -> bool {
        match self {
            Object::Conversations => true,
        }
    }

    pub fn columns(self) -> &'static [Column] {
        match self {
            Object::Conversations => conversation::COLUMNS,
        }
    }

    pub fn column(self, name: &str) -> Option<&'static Column> {
        self.columns().iter().find(|column| column.name == name)
    }
}
