//! This module defines the errors that a user sees: SQLSTATE, message, DETAIL, HINT.
//! When to retry is decided in [`crate::reply::retry`]; how Postgres raises it, by the extension.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! kinds {
    ($($kind:ident,)+) => {
        /// The situations of the error table in docs/errors.md. Each has one SQLSTATE.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($kind,)+
        }

        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$kind),+];
        }
    };
}

kinds! {
    UnknownOption,
    MissingOption,
    BadOption,
    NoToken,
    TokenRefused,
    PageRefused,
    PageNotFound,
    Unreachable,
    ServerFault,
    Throttled,
    NotUnderstood,
    BadCell,
    NotPermitted,
    BadDefinition,
    NoSharedMemory,
    NoConversation,
    OutOfMemory,
    NotInTransaction,
    NullArgument,
    BadArgument,
    BadName,
    WrongObject,
    NotSupported,
    NoSuchTable,
    NoSuchColumn,
    BadColumnType,
    NoUniqueKey,
    WrongState,
    RowConflict,
}

impl Kind {
    /// The alert that users' monitoring depends on.
    pub fn sqlstate(self) -> &'static str {
        match self {
            Kind::UnknownOption => "HV00D",
            Kind::MissingOption => "HV00J",
            Kind::BadOption => "HV024",
            Kind::NoToken | Kind::TokenRefused => "28000",
            Kind::PageRefused | Kind::NotPermitted => "42501",
            Kind::PageNotFound => "HV00R",
            Kind::Unreachable => "HV00N",
            Kind::ServerFault => "HV00M",
            Kind::Throttled => "53400",
            Kind::NotUnderstood => "HV000",
            Kind::BadCell => "HV004",
            Kind::BadDefinition => "42P17",
            Kind::NoSharedMemory => "58030",
            Kind::NoConversation => "HV002",
            Kind::OutOfMemory => "53200",
            Kind::NotInTransaction => "2D000",
            Kind::NullArgument => "22004",
            Kind::BadArgument => "22023",
            Kind::BadName => "42602",
            Kind::WrongObject => "42809",
            Kind::NotSupported => "0A000",
            Kind::NoSuchTable => "42P01",
            Kind::NoSuchColumn => "42703",
            Kind::BadColumnType => "42804",
            Kind::NoUniqueKey => "42P10",
            Kind::WrongState => "55000",
            Kind::RowConflict => "23505",
        }
    }

    /// What to do, where that does not depend on the case at hand.
    fn hint(self) -> Option<&'static str> {
        match self {
            Kind::TokenRefused => Some(
                "Copy the page's token from Cài đặt → Công cụ → Pancake API into the user mapping; \
                 a user's access_token does not work here.",
            ),
            Kind::PageRefused => {
                Some("Switch the API on for this page in Cài đặt → Công cụ, and check its subscription.")
            }
            Kind::PageNotFound => Some(
                "Check the option page_id against the foreign table pages: it lists the pages of a user's access_token.",
            ),
            Kind::ServerFault => {
                Some("The fault is on Pancake's side: try later, and check its status page if it lasts.")
            }
            Kind::Throttled => Some(
                "Find out who else uses this page's budget (bots, other clusters), or lower the server option requests_per_second.",
            ),
            Kind::Unreachable => {
                Some("Check the network, DNS and firewall between this database server and the API.")
            }
            Kind::OutOfMemory => Some(
                "Lower the server options max_response_bytes or max_concurrency, or give the server process more memory.",
            ),
            Kind::NotUnderstood => Some("Try again. If it lasts, report it together with the DETAIL."),
            Kind::UnknownOption
            | Kind::MissingOption
            | Kind::BadOption
            | Kind::NoToken
            | Kind::BadCell
            | Kind::NotPermitted
            | Kind::BadDefinition
            | Kind::NoConversation
            | Kind::NoSharedMemory
            | Kind::NotInTransaction
            | Kind::NullArgument
            | Kind::BadArgument
            | Kind::BadName
            | Kind::WrongObject
            | Kind::NotSupported
            | Kind::NoSuchTable
            | Kind::NoSuchColumn
            | Kind::BadColumnType
            | Kind::NoUniqueKey
            | Kind::WrongState
            | Kind::RowConflict => None,
        }
    }
}

/// One error of the product. Boxed, so that a `Result` stays small.
#[derive(Clone, Debug)]
pub struct Error(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    kind: Kind,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    conversation_id: Option<String>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            kind,
            message: message.into(),
            detail: None,
            hint: kind.hint().map(str::to_owned),
            conversation_id: None,
        }))
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Names the conversation whose messages were asked for.
    pub fn of_conversation(mut self, id: &str) -> Self {
        self.0.conversation_id = Some(id.to_owned());
        self.also(format!("It was asked for the messages of conversation {}.", quote(id)))
    }

    /// Adds a sentence to the DETAIL.
    pub fn also(mut self, sentence: impl AsRef<str>) -> Self {
        let detail = self.0.detail.get_or_insert_default();
        if !detail.is_empty() {
            detail.push(' ');
        }
        detail.push_str(sentence.as_ref());
        self
    }

    /// The same with another detail made of the one that it has.
    pub fn map_detail(mut self, map: impl FnOnce(String) -> String) -> Self {
        self.0.detail = self.0.detail.map(map);
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }
    pub fn sqlstate(&self) -> &'static str {
        self.0.kind.sqlstate()
    }
    pub fn message(&self) -> &str {
        &self.0.message
    }
    pub fn detail_text(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }
    pub fn conversation_id(&self) -> Option<&str> {
        self.0.conversation_id.as_deref()
    }
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.message, self.sqlstate())
    }
}

impl std::error::Error for Error {}

/// The first bytes of a foreign text, fit to be quoted in a DETAIL: at most 200 bytes, on one line.
pub fn quote(text: &str) -> String {
    const LIMIT: usize = 200;
    let line = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    // A control character may be longer than the blank that stands for it, but never shorter.
    if text.len() > LIMIT {
        format!("{}…", line(&text[..text.floor_char_boundary(LIMIT - '…'.len_utf8())]))
    } else {
        line(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_at_most_200_bytes_and_one_line() {
        let quoted = quote(&"ệ\n".repeat(300));
        assert!(quoted.len() <= 200 && quoted.ends_with('…') && !quoted.contains('\n'));
        assert_eq!(quote("short"), "short");
    }

    #[test]
    fn sentences_gather_in_the_detail() {
        let error = Error::new(Kind::ServerFault, "m").also("One.").also("Two.");
        assert_eq!(error.detail_text(), Some("One. Two."));
        assert!(error.hint_text().is_some());
    }
}
