//! A documented column: its name, its type, and where in a row it is read from. Which object has which columns is
//! said in the object's own table.

/// The types that documented columns have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Text,
    TextArray,
    Bool,
    Int,
    Numeric,
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
            Type::Numeric => "numeric",
            Type::Time => "timestamp with time zone",
            Type::Jsonb => "jsonb",
        }
    }
}

/// Where a column's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The key of the column's name.
    Key,
    /// A JSON pointer into the row.
    Path(&'static str),
    /// The page that the table is of.
    Page,
    /// The conversation that was asked for.
    Conversation,
    /// Phone numbers: objects or plain strings.
    Phones,
    /// The whole row.
    Row,
    /// Several keys, by code of the object's own.
    Made,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub of: Type,
    pub not_null: bool,
    pub from: From,
}

/// Lines `"name" Type [not_null] [<- From];`, by default from the key of the column's name. `made`: all by code.
macro_rules! columns {
    ($table:ident: $($name:literal $of:ident $($not_null:ident)? $(<- $from:expr)?;)+) => {
        pub const $table: &[$crate::column::Column] = &[$($crate::column::Column {
            name: $name,
            of: $crate::column::Type::$of,
            not_null: $crate::column::columns!(@null $($not_null)?),
            from: $crate::column::columns!(@from $($from)?),
        }),+];
    };
    ($table:ident made: $($name:literal $of:ident $($not_null:ident)?;)+) => {
        $crate::column::columns! { $table: $($name $of $($not_null)? <- $crate::column::From::Made;)+ }
    };
    (@null not_null) => { true };
    (@null) => { false };
    (@from $from:expr) => { $from };
    (@from) => { $crate::column::From::Key };
}
pub(crate) use columns;
