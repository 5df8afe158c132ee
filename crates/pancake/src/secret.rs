//! This module wraps a token so that it cannot be printed.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use memchr::memmem;

use crate::error::{Error, Kind};
use crate::percent::encoded;

/// A token of Pancake. `Debug` and `Display` show `***`; the text itself is had from
/// [`Secret::reveal`] alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    /// It stands in a token file, not in a user mapping.
    of_file: bool,
}

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), of_file: false }
    }

    pub fn of_file(text: impl Into<String>) -> Self {
        Self { text: text.into(), of_file: true }
    }

    /// The same error, its hint about a refused token leading to where this one was found.
    pub fn point_out(&self, error: Error, page_id: &str) -> Error {
        match error.kind() {
            Kind::TokenRefused if self.of_file => error.hint(format!(
                "Copy the page's token from Cài đặt → Công cụ → Pancake API into the token file, as its line \
                 {page_id}:token; the file is read at the start of each scan. A user's access_token does not work here."
            )),
            _ => error,
        }
    }

    /// The same error without this token, which a reply may have spelt in a way of its own.
    pub fn hide_in(&self, error: Error) -> Error {
        error.map_detail(|detail| self.scrub(&detail).into_owned())
    }

    /// The token itself. The one caller is the line that writes the query string.
    pub(crate) fn reveal(&self) -> &str {
        &self.text
    }

    /// Removes the token from a text that came from outside and may be shown: as it is, as a JSON
    /// string and as a URL spell it. A text so short that it stands in any reply is no token of
    /// Pancake, and would spoil the reply.
    pub fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        const SHORTEST: usize = 8;
        let mut scrubbed = Cow::Borrowed(text);
        if self.text.len() < SHORTEST {
            return scrubbed;
        }
        let json = serde_json::Value::from(self.text.as_str()).to_string();
        let inner = &json[1..json.len() - 1];
        // Most tokens are spelt alike everywhere: one pass over the reply.
        let spellings = BTreeSet::from([
            self.text.clone(),
            inner.replace('/', "\\/"),
            inner.to_owned(),
            encoded(&self.text),
        ]);
        for spelling in &spellings {
            if memmem::find(scrubbed.as_bytes(), spelling.as_bytes()).is_some() {
                scrubbed = Cow::Owned(scrubbed.replace(spelling, "***"));
            }
        }
        scrubbed
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_display_nor_debug_shows_it() {
        let secret = Secret::new("MARKER");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
    }

    #[test]
    fn is_scrubbed_from_a_foreign_text() {
        assert_eq!(Secret::new("MARKER-1").scrub("echo MARKER-1"), "echo ***");
        assert_eq!(Secret::new("x").scrub("xyz"), "xyz");
        let odd = Secret::new("long/b\"é");
        for spelling in ["long/b\"é", r#"long/b\"é"#, r#"long\/b\"é"#, "long%2Fb%22%C3%A9"] {
            assert_eq!(odd.scrub(&format!("<{spelling}>")), "<***>", "{spelling}");
        }
    }
}
