//! A token that cannot be printed. Who may hold one is decided elsewhere; here it only stays unseen.

use std::fmt;

/// A token of Pancake. `Debug` and `Display` show `***`; the text itself is had from [`Secret::reveal`] alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The token itself. The one caller is the line that writes the query string.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Removes the token from a text that came from outside and is about to be shown.
    pub fn scrub(&self, text: &str) -> String {
        match self.0.is_empty() {
            true => text.to_owned(),
            false => text.replace(&self.0, "***"),
        }
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
        assert_eq!(Secret::new("MARKER").scrub("echo MARKER"), "echo ***");
    }
}
