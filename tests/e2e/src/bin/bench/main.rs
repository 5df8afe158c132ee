//! `make bench`: what cancelling, the budget, learning it, a row, a million of them, a small LIMIT and several pages
//! cost, as a Markdown table for each section.
//! Decides which sections run (all, or those named as arguments;
//! `--write FILE` keeps them, charts beside it); what a section measures is left to its file.

mod budget;
mod cancel;
mod ceiling;
mod chart;
mod learning;
mod limit;
mod loops;
mod memory;
mod pages;
mod table;
mod throughput;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use e2e::folder;

use table::Table;

type Section = fn() -> Result<Table>;

const HEADING: &str =
    "# Benchmark\n\nWritten by `make bench` on two cores, which the simulator and Postgres shared.\n";

const SECTIONS: [(&str, Section); 8] = [
    ("cancel", cancel::measure),
    ("budget", budget::measure),
    ("learning", learning::measure),
    ("throughput", throughput::measure),
    ("memory", memory::measure),
    ("limit", limit::measure),
    ("pages", pages::measure),
    ("ceiling", ceiling::measure),
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
            let path = PathBuf::from(chosen.remove(at));
            fs::write(&path, HEADING)?;
            Some(path)
        }
        None => None,
    };
    for name in &chosen {
        let names = SECTIONS.map(|(name, _)| name);
        ensure!(names.contains(&name.as_str()), "no section \"{name}\"; there are {}", names.join(", "));
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

/// Adds a section to the file, and puts its chart beside it.
fn write_down(path: &Path, table: &Table) -> Result<()> {
    let mut text = format!("\n{table}");
    if let Some(chart) = &table.chart {
        fs::write(path.with_file_name(chart.file), chart.svg()?)?;
        text += &format!("\n![{}]({})\n", chart.title, chart.file);
    }
    fs::OpenOptions::new().append(true).open(path)?.write_all(text.as_bytes())?;
    Ok(())
}
