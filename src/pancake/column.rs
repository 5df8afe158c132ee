//! A documented column: its name and type. Which object has which columns is said in the object's own module.

/// The types that documented columns have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Text,
    TextArray,
    Bool,
    Int,
    Time,
    Jsonb,
}

impl Type {
    pub fn sql(self) -> &'static str {
        match self {
            Type::Text => "text",
            Type::TextArray => "text[]",
            Type::Bool => "boolean",
            Type::Int => "integer",
            Type::Time => "timestamp with time zone",
            Type::Jsonb => "jsonb",
        }
    }
}

pub struct Column {
    pub name: &'static str,
    pub of: Type,
    pub not_null: bool,
}
