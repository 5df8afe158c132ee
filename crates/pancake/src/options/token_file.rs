//! This module finds the token of a page: the mapping's own, or the line of that page in a token
//! file. Reading the file and the right to read it are the extension's matter.

use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// Finds a page's token in the text of a token file: one bare token, or lines `page_id:token`,
/// split at the last colon (page ids hold colons). Empty lines and lines that begin with `#` are
/// passed over, and so is the mark with which some editors begin a file.
pub fn from_file(text: &str, page_id: &str) -> Result<Secret> {
    let lines: Vec<&str> = text
        .trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .collect();
    if let [only] = lines[..]
        && !only.contains(':')
    {
        return Ok(Secret::of_file(only));
    }
    let found =
        lines.iter().filter_map(|line| line.rsplit_once(':')).find(|(page, _)| page.trim() == page_id);
    match found.map(|(_, token)| token.trim()).filter(|token| !token.is_empty()) {
        Some(token) => Ok(Secret::of_file(token)),
        None => Err(Error::new(Kind::NoToken, format!("no token for page \"{page_id}\" in the token file"))
            .detail(match lines.len() {
                0 => "The file has no line that is neither empty nor a comment.".to_owned(),
                1 => "The file has 1 line, which is not this page's id, a colon and a token.".to_owned(),
                many => format!("The file has {many} lines, none of which is this page's id, a colon and a token."),
            })
            .hint("Write a line page_id:token for this page into the file; it is read at the start of each scan.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_token_or_a_line_per_page() {
        assert_eq!(from_file(" abc \n", "1").unwrap().reveal(), "abc");
        let file = "# tokens\n1:one\nzl_a:b@c:two\n3:\n";
        assert_eq!(from_file(file, "1").unwrap().reveal(), "one");
        assert_eq!(from_file(file, "zl_a:b@c").unwrap().reveal(), "two");
        for marked in ["\u{feff}abc\r\n", "\u{feff}1:abc\r\n2:other\r\n", "\u{feff}# tokens\n1:abc"] {
            assert_eq!(from_file(marked, "1").unwrap().reveal(), "abc", "{marked:?}");
        }
    }

    #[test]
    fn a_refused_token_is_mended_where_it_was_found() {
        let hint = |token: &Secret, kind| {
            let error = token.point_out(Error::new(kind, "m"), "zl_a:b@c");
            error.hint_text().unwrap_or_default().to_owned()
        };
        assert!(hint(&Secret::new("t"), Kind::TokenRefused).contains("into the user mapping"));
        for text in ["zl_a:b@c:MARKER", "MARKER"] {
            let found = from_file(text, "zl_a:b@c").unwrap();
            let file = hint(&found, Kind::TokenRefused);
            assert!(
                file.contains("its line zl_a:b@c:token;")
                    && !file.contains("mapping")
                    && !file.contains("MARKER"),
                "{file}"
            );
            assert!(!hint(&found, Kind::PageRefused).contains("token file"));
        }
    }

    #[test]
    fn a_page_without_line_is_an_error_that_shows_no_token() {
        for page in ["2", "3"] {
            let error = from_file("1:MARKER\n3:\n", page).unwrap_err();
            assert_eq!(error.sqlstate(), "28000");
            assert!(!format!("{error:?}").contains("MARKER"));
        }
        for (file, told) in
            [("# none\n", "no line"), ("1:MARKER", "1 line, which is"), ("1:MARKER\n3:x", "2 lines, none")]
        {
            let detail = from_file(file, "2").unwrap_err().detail_text().unwrap().to_owned();
            assert!(detail.contains(told) && !detail.contains("MARKER"), "{detail}");
        }
    }
}
