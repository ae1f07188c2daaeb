//! How data is printed: JSON, or plain columns. Colour only on a terminal, and never with `NO_COLOR`.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context as _, Result};
use chassis::cli::{Stdout, forgive_closed_stdout};
pub(super) use chassis::text::escaped;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// A colour that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    /// Good.
    Green,
    /// Worth a look.
    Yellow,
    /// Bad.
    Red,
}

/// Prints a text with a newline. A reader that went away is not an error.
pub(super) fn print(text: &str) -> Result<()> {
    with_stdout(|out| writeln!(out, "{text}").context("write to standard output"))
}

/// Lets `write` print much. A reader that went away ends it, and is not an error.
pub(super) fn with_stdout(write: impl FnOnce(&mut Stdout) -> Result<()>) -> Result<()> {
    let mut out = Stdout::default();
    let written = write(&mut out);
    forgive_closed_stdout(written.and_then(|()| out.finish()))
}

/// Prints a word to people on standard error.
pub(super) fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Prints a value as JSON, over several lines.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(value).context("encode JSON")?)
}

/// Columns that are as wide as they need to be; the last one is not filled. `right` names the columns of numbers.
pub(super) fn table(header: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let lines: Vec<String> =
        std::iter::once(&head).chain(rows).map(|row| line(row, &widths, right)).collect();
    lines.join("\n")
}

fn line(row: &[String], widths: &[usize], right: &[usize]) -> String {
    let cells: Vec<String> = row
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, width))| {
            if right.contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        })
        .collect();
    cells.join("  ").trim_end().to_owned()
}

/// A time for people: to the minute, UTC.
pub(super) fn minute(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M").to_string()
}

/// A word in colour, where colour is wanted.
pub(super) fn paint(word: &str, colour: Colour) -> String {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if is_plain || !io::stdout().is_terminal() {
        return word.to_owned();
    }
    let code = match colour {
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Red => 31,
    };
    format!("\x1b[{code}m{word}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows = [["a", "1", "x"], ["bcd", "22", ""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&["ID", "N", "LAST"], &rows, &[1]), "ID    N  LAST\na     1  x\nbcd  22");
    }
}
