//! This module checks how comments and documents are written: no words that make persons of
//! programs, and lines that fit on a screen. The rules are in CONTRIBUTING.md.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::tree;

/// Programs return, send and log; they do not speak.
const PERSONS: &[&str] =
    &["nobody", "somebody", "everybody", "whoever", "says", "said", "tells", "told", "lends", "hears"];
/// Columns of a comment, and of a paragraph of a document.
const COMMENT: usize = 100;
const PARAGRAPH: usize = 120;

/// The files of these endings below a folder.
pub(super) fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            files(&entry, endings, found);
        } else if endings.iter().any(|ending| entry.extension().is_some_and(|found| found == *ending)) {
            found.push(entry);
        }
    }
}

/// Returns the text of a line that is nothing but a comment.
fn comment<'a>(line: &'a str, marker: &str) -> Option<&'a str> {
    line.trim_start().strip_prefix(marker).map(|text| text.trim_start_matches(['/', '!']))
}

/// What is wrong with a line of prose.
fn faults(text: &str, width: usize, most: usize) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric() && c != '_');
    let persons = words.filter(|word| PERSONS.contains(word)).map(|word| format!("the word {word}"));
    let is_too_wide = width > most && text.trim().contains(' ') && !text.contains("http");
    persons.chain(is_too_wide.then(|| format!("{width} columns"))).collect()
}

#[test]
fn comments_and_documents_are_plain() {
    let root = &tree::repository();
    let mut sources = Vec::new();
    for folder in ["crates", "src", "sql", "tests"] {
        files(&root.join(folder), &["rs", "sql"], &mut sources);
    }
    let mut documents = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("CHANGELOG.md")];
    files(&root.join("docs"), &["md"], &mut documents);
    let mut wrong = Vec::new();
    let mut note = |path: &Path, number: usize, faults: Vec<String>| {
        let path = path.strip_prefix(root).unwrap().display();
        wrong.extend(faults.into_iter().map(|fault| format!("{path}:{}: {fault}", number + 1)));
    };
    for path in &sources {
        let marker = if path.extension().is_some_and(|ending| ending == "rs") { "//" } else { "--" };
        let (text, mut is_code) = (fs::read_to_string(path).unwrap(), false);
        let is_production = marker == "//"
            && path.strip_prefix(root).unwrap().components().all(|part| part.as_os_str() != "tests");
        if is_production && !path.ends_with("lib.rs") && !text.starts_with("//! This module ") {
            note(path, 0, vec!["the head does not begin with This module".to_owned()]);
        }
        for (number, line) in text.lines().enumerate() {
            let Some(comment) = comment(line, marker) else { continue };
            is_code ^= comment.trim_start().starts_with("```");
            // Tables and diagrams keep their shape.
            let is_drawn = is_code || comment.starts_with("   ") || comment.trim_start().starts_with('|');
            let most = if is_drawn { usize::MAX } else { COMMENT };
            note(path, number, faults(comment, line.chars().count(), most));
        }
    }
    for path in &documents {
        // `make bench` writes that one.
        let is_generated = path.ends_with("docs/benchmark.md");
        let (text, mut is_code) = (fs::read_to_string(path).unwrap(), false);
        for (number, line) in text.lines().enumerate() {
            is_code ^= line.starts_with("```");
            if !is_code {
                let most = if is_generated || line.starts_with('|') { usize::MAX } else { PARAGRAPH };
                note(path, number, faults(line, line.chars().count(), most));
            }
        }
    }
    assert!(sources.len() > 100 && documents.len() > 10);
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.join("\n"));
}
