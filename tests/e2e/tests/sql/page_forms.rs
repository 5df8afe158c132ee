//! This module runs a table of statements over pages in every form that was met or must be
//! expected: rows are the forms of a page ([`rows`]), columns the statements ([`columns`]), and
//! each cell compares the answer with the rows that the simulator holds.
//!
//! The reference is computed from the rows as the simulator serves them, by the times that they
//! show: the same statement over a local table of these rows. A wrong answer fails, and so does an
//! error, except HV000 with the hint to bound by `inserted_at`, for a statement in the order of
//! `updated_at` on a page looser than is assumed ([`rows::Form::looser`]). All failing cells are
//! reported at once. Cells that are known to fail stand in [`KNOWN`]; one that passes although it
//! is listed fails the test.

mod columns;
mod known;
mod rows;

use std::collections::BTreeSet;
use std::time::Instant;

use columns::{COLUMNS, MESSAGES};
use known::KNOWN;
use rows::{Form, Scene};

/// Whether a cell is listed in [`KNOWN`].
fn is_known(row: &str, column: &str) -> bool {
    KNOWN.iter().any(|(rows, columns)| rows.contains(&row) && columns.contains(&column))
}

/// Runs all columns over each of these pages.
fn check(forms: &[Form]) {
    let (mut cells, mut failed, mut wrong, begun) = (0, 0, Vec::new(), Instant::now());
    for form in forms {
        let mut scene = Scene::open(form);
        let messages = if form.messages { MESSAGES } else { &[] };
        for (column, run) in COLUMNS.iter().chain(messages) {
            cells += 1;
            let answer = run(&mut scene);
            // A statement that failed may have left its transaction open.
            scene.session.execute("ROLLBACK").unwrap();
            let is_known = is_known(form.name, column);
            match answer {
                Ok(()) if is_known => wrong.push(format!("{} × {column}: passes, but is listed", form.name)),
                Ok(()) => {}
                Err(message) => {
                    failed += 1;
                    if !is_known {
                        wrong.push(format!("{} × {column}: {message}", form.name));
                    }
                }
            }
        }
    }
    eprintln!("{cells} cells, {failed} failed, {:.1} s", begun.elapsed().as_secs_f32());
    assert!(wrong.is_empty(), "{} of {cells} cells:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn windows_and_bounds() {
    check(rows::WINDOWS);
}

#[test]
fn rows_out_of_order() {
    check(rows::ORDER);
}

#[test]
fn frozen_rows() {
    check(rows::FROZEN);
}

#[test]
fn odd_times() {
    check(rows::TIMES);
}

#[test]
fn cursors_batches_and_totals() {
    check(rows::BATCHES);
}

/// Every name in [`KNOWN`] is one of the table.
#[test]
fn known_cells_exist() {
    let tables = [rows::WINDOWS, rows::ORDER, rows::FROZEN, rows::TIMES, rows::BATCHES];
    let names: Vec<_> = tables.iter().flat_map(|forms| forms.iter()).map(|form| form.name).collect();
    let unique: BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "two rows of one name");
    let is_column = |name: &str| COLUMNS.iter().chain(MESSAGES).any(|(column, _)| *column == name);
    for (rows, columns) in KNOWN {
        rows.iter().for_each(|row| assert!(names.contains(row), "no row {row}"));
        columns.iter().for_each(|column| assert!(is_column(column), "no column {column}"));
    }
}
