//! `make bench`: what cancelling, the budget, learning it, a row, a million of them, a small LIMIT and several pages
//! cost, as a Markdown table for each section.
//! Decides which sections run (all, or those named as arguments); what a section measures is left to its file.

mod budget;
mod cancel;
mod ceiling;
mod learning;
mod limit;
mod loops;
mod memory;
mod pages;
mod table;
mod throughput;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use e2e::folder;

use table::Table;

type Section = fn() -> Result<Table>;

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

fn run(chosen: Vec<String>) -> Result<()> {
    for name in &chosen {
        let names = SECTIONS.map(|(name, _)| name);
        ensure!(names.contains(&name.as_str()), "no section \"{name}\"; there are {}", names.join(", "));
    }
    for (name, measure) in SECTIONS {
        if chosen.is_empty() || chosen.iter().any(|wanted| wanted == name) {
            println!("{}", measure()?);
        }
    }
    Ok(())
}
