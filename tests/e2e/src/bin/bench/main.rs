//! `make bench`: what cancelling, the budget, learning it, a row, a million of them, a small LIMIT,
//! several pages, long scans, a sync, one of many pages, and events of a webhook cost, as a
//! Markdown table for each section. Decides which sections run (all, or those named as arguments;
//! `--write FILE` puts each in its place there, charts beside it); what a section measures is left
//! to its file.

mod budget;
mod cancel;
mod ceiling;
mod chart;
mod copies;
mod learning;
mod limit;
mod loops;
mod memory;
mod pages;
mod sync;
mod table;
mod throughput;
mod webhook;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use e2e::folder;

use table::Table;

type Section = fn() -> Result<Table>;

const HEADING: &str =
    "# Benchmark\n\nWritten by `make bench` on two cores, which the simulator and Postgres shared.\n";

const SECTIONS: [(&str, Section); 11] = [
    ("cancel", cancel::measure),
    ("budget", budget::measure),
    ("learning", learning::measure),
    ("throughput", throughput::measure),
    ("memory", memory::measure),
    ("limit", limit::measure),
    ("pages", pages::measure),
    ("ceiling", ceiling::measure),
    ("sync", sync::measure),
    ("copies", copies::measure),
    ("webhook", webhook::measure),
];

fn main() -> ExitCode {
    let done = run(std::env::args().skip(1).collect());
    folder::close();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut chosen: Vec<String>) -> Result<()> {
    let write = match chosen.iter().position(|argument| argument == "--write") {
        Some(at) => {
            chosen.remove(at);
            ensure!(at < chosen.len(), "--write needs the name of a file");
            Some(PathBuf::from(chosen.remove(at)))
        }
        None => None,
    };
    for name in &chosen {
        let names = SECTIONS.map(|(name, _)| name);
        ensure!(names.contains(&name.as_str()), "no section \"{name}\"; there are {}", names.join(", "));
    }
    if let (Some(path), true) = (&write, chosen.is_empty()) {
        fs::write(path, HEADING)?;
    }
    for (name, measure) in SECTIONS {
        if chosen.is_empty() || chosen.iter().any(|wanted| wanted == name) {
            let table = measure()?;
            println!("{table}");
            if let Some(path) = &write {
                write_down(path, &table)?;
            }
        }
    }
    Ok(())
}

/// Puts a section into the file, in its old place if it has one, and its chart beside it.
fn write_down(path: &Path, table: &Table) -> Result<()> {
    let mut section = format!("\n{table}");
    if let Some(chart) = &table.chart {
        fs::write(path.with_file_name(chart.file), chart.svg()?)?;
        section += &format!("\n![{}]({})\n", chart.title, chart.file);
    }
    let text = if path.exists() { fs::read_to_string(path)? } else { HEADING.to_owned() };
    let heading = format!("\n## {}\n", table.title);
    let (before, old) = text.split_at(text.find(&heading).unwrap_or(text.len()));
    let next = old.get(1..).and_then(|old| old.find("\n## ")).map_or(old.len(), |next| next + 1);
    fs::write(path, format!("{before}{section}{}", &old[next..]))?;
    Ok(())
}
