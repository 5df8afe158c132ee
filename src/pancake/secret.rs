//! A token that cannot be printed. Who may hold one is decided elsewhere; here it only stays unseen.

use std::fmt;

use crate::url::encoded;

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

    /// Removes the token from a text that came from outside and is about to be shown: as it is, as a JSON string and as
    /// a URL spell it.
    pub fn scrub(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        let json = serde_json::Value::from(self.0.as_str()).to_string();
        let inner = &json[1..json.len() - 1];
        let spellings = [inner.replace('/', "\\/"), inner.to_owned(), encoded(&self.0)];
        let mut scrubbed = text.replace(&self.0, "***");
        for spelling in spellings.iter().filter(|spelling| **spelling != self.0) {
            scrubbed = scrubbed.replace(spelling, "***");
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
        assert_eq!(Secret::new("MARKER").scrub("echo MARKER"), "echo ***");
        let odd = Secret::new("a/b\"é");
        for spelling in ["a/b\"é", r#"a/b\"é"#, r#"a\/b\"é"#, "a%2Fb%22%C3%A9"] {
            assert_eq!(odd.scrub(&format!("<{spelling}>")), "<***>", "{spelling}");
        }
    }
}
