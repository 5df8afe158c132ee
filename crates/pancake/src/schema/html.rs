//! This module reads the text of an HTML fragment, as the API serves messages: tags vanish,
//! entities are decoded, and what a browser shows on a new line begins a new line.
//!
//! The HTML is read by [`html5gum`], a tokenizer of the WHATWG standard, so that whatever is served
//! has a text: tags that are never closed, comments, a bare `<` or `&`. Time and memory are linear
//! in the length.

use std::borrow::Cow;

use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Span, Tokenizer};
use memchr::memchr2;

/// Returns the text of a fragment: lines without spaces at their ends, at most one empty line in a
/// row, none at either end. Spaces and line breaks inside the text are kept, because messages are
/// written with them.
pub fn text(html: &str) -> Cow<'_, str> {
    let Some(first) = memchr2(b'<', b'&', html.as_bytes()) else { return tidy(html) };
    let mut text = String::with_capacity(html.len());
    // What stands before the first tag or entity is text as it is.
    let (plain, html) = html.split_at(first);
    text.push_str(plain);
    let mut hidden = HiddenText::No;
    let mut emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, _: Span<()>| -> Option<()> {
        match event {
            CallbackEvent::String { value } if hidden == HiddenText::No => {
                let value = String::from_utf8_lossy(value);
                // What separates two tags in the source is no text of its own.
                let begins = text.is_empty() || text.ends_with('\n');
                text.push_str(if begins { value.trim_start() } else { &value });
            }
            CallbackEvent::OpenStartTag { name: b"br" } => text.push('\n'),
            CallbackEvent::OpenStartTag { name: b"script" | b"style" } => hidden = HiddenText::Inside,
            CallbackEvent::EndTag { name: b"script" | b"style" } => hidden = HiddenText::No,
            CallbackEvent::OpenStartTag { name } | CallbackEvent::EndTag { name } if is_block(name) => {
                text.truncate(text.trim_end_matches([' ', '\t']).len());
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
            }
            _ => {}
        }
        None
    });
    // Else the content of a script would be read as HTML.
    emitter.naively_switch_states(true);
    Tokenizer::new_with_emitter(html, emitter).for_each(drop);
    Cow::Owned(tidy(&text).into_owned())
}

/// Whether text is the content of a script or a style.
#[derive(PartialEq)]
enum HiddenText {
    No,
    Inside,
}

/// Elements that a browser begins on a new line, and that end one.
fn is_block(name: &[u8]) -> bool {
    matches!(
        name,
        b"address"
            | b"article"
            | b"aside"
            | b"blockquote"
            | b"dd"
            | b"div"
            | b"dl"
            | b"dt"
            | b"footer"
            | b"form"
            | b"h1"
            | b"h2"
            | b"h3"
            | b"h4"
            | b"h5"
            | b"h6"
            | b"header"
            | b"hr"
            | b"li"
            | b"main"
            | b"ol"
            | b"p"
            | b"pre"
            | b"section"
            | b"table"
            | b"tr"
            | b"ul"
    )
}

/// Trims lines and the whole, and leaves one empty line where there are several.
fn tidy(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    let is_tidy = |line: &str| line.trim().len() == line.len();
    if !text.contains('\n') || (text.lines().all(is_tidy) && !text.contains("\n\n\n")) {
        return Cow::Borrowed(text);
    }
    let mut tidied = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.lines().map(str::trim) {
        if line.is_empty() {
            empty += 1;
            continue;
        }
        if !tidied.is_empty() {
            tidied.push_str(if empty > 0 { "\n\n" } else { "\n" });
        }
        empty = 0;
        tidied.push_str(line);
    }
    Cow::Owned(tidied)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn tags_vanish_and_entities_are_decoded() {
        for (html, expected) in [
            ("", ""),
            ("<div></div>", ""),
            ("Con size M không ạ?", "Con size M không ạ?"),
            ("<div>Con <b>size <i>M</i></b> không&nbsp;ạ?</div>", "Con size M không\u{a0}ạ?"),
            ("a&amp;nbsp;b &lt;3 &quot;x&quot; &#39;y&#39;", "a&nbsp;b <3 \"x\" 'y'"),
            ("Vi&#7879;t &#x1F600; &eacute; &unknown; & &", "Việt 😀 é &unknown; & &"),
            ("I <3 you, 1 < 2 > 0", "I <3 you, 1 < 2 > 0"),
            // Never closed, or closed twice.
            ("<div>a<b>b", "ab"),
            ("a</div></div>b<", "a\nb<"),
            ("a <img src=\"x", "a"),
            ("<a href='x>y'>link</a> <img alt=\"<b>\">end", "link end"),
            // What is no text.
            ("a<script>if (1 < 2) { alert('<b>x</b>') }</script>b", "ab"),
            ("a<style>p { color: red }</style>b<!-- c <b> -->d<!doctype html>", "abd"),
            ("a<script>b", "a"),
            ("<SCRIPT>x</SCRIPT>y", "y"),
            ("a&#0;b", "a\u{fffd}b"),
        ] {
            assert_eq!(text(html), expected, "{html}");
        }
    }

    #[test]
    fn what_stands_on_a_line_of_its_own_keeps_it() {
        for (html, expected) in [
            ("a<br>b<br/>c<BR />d", "a\nb\nc\nd"),
            ("a<br><br><br><br>b", "a\n\nb"),
            ("<p>a</p><p>b</p>", "a\nb"),
            ("<div><div>a</div><div>b</div></div>c", "a\nb\nc"),
            ("<ul><li>a</li> <li>b</li></ul>c", "a\nb\nc"),
            ("<ul><li>a<li>b</ul>", "a\nb"),
            ("<div>a</div>\n\n  <div>b<br>\n c</div>", "a\nb\nc"),
            ("  a \n b \n\n\n\n c  ", "a\nb\n\nc"),
            ("a\nb", "a\nb"),
            ("<br><br>a<br>", "a"),
            ("a<hr>b", "a\nb"),
        ] {
            assert_eq!(text(html), expected, "{html}");
        }
        // Nothing is copied if there is nothing to do.
        assert!(matches!(
            text(" Con size M không ạ?\nHay L? "),
            Cow::Borrowed("Con size M không ạ?\nHay L?")
        ));
    }

    #[test]
    fn a_megabyte_of_anything_takes_no_second() {
        for piece in ["<", "<b>", "&", "&#", "<!--", "</", "<a b='", "\n", "<br>", "<div>", "<script>"] {
            let html = piece.repeat(1_000_000 / piece.len());
            let begun = Instant::now();
            let read = text(&html);
            assert!(read.len() <= html.len(), "{piece}");
            assert!(begun.elapsed() < Duration::from_secs(5), "{piece}: {:?}", begun.elapsed());
        }
        assert_eq!(text(&"<".repeat(1_000_000)).len(), 1_000_000);
    }
}
