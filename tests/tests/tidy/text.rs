//! Rules for every text file: white space, words that mean unfinished, paths of somebody's machine.

use super::Fault;

/// Columns of code and of shell scripts.
const LINE_MAX: usize = 100;
/// Where no formatter breaks lines: comments and texts in quotes.
const LINE_OF_WORDS_MAX: usize = 120;

/// Put together here so that this file does not find itself.
const UNFINISHED: [&str; 6] = [
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("to", "do!("),
    concat!("un", "implemented!("),
    concat!("db", "g!("),
    concat!("TO", "DO"),
];

/// A home in a container of the lab's, which is the same everywhere.
const OF_A_CONTAINER: &str = concat!("/ro", "ot/.ssh/authorized_keys");
/// Paths that are right on one machine only.
const OF_A_MACHINE: [&str; 3] =
    [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("../sha", "red")];

/// What is wrong with a text, line by line.
pub fn faults(path: &str, text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        faults.extend(line_fault(path, line).map(|what| Fault::new(number, what)));
    }
    if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        faults.push(Fault::new(text.lines().count(), "the file does not end with one newline"));
    }
    faults
}

fn line_fault(path: &str, line: &str) -> Option<String> {
    if line.ends_with([' ', '\t', '\r']) {
        return Some("white space at the end".into());
    }
    if line.contains('\t') && path != "Makefile" {
        return Some("a tab".into());
    }
    if let Some(word) = UNFINISHED.iter().find(|word| line.contains(**word)) {
        return Some(format!("`{word}`: finish it, or open an issue"));
    }
    let line_of_ours = line.replace(OF_A_CONTAINER, "");
    if let Some(path) = OF_A_MACHINE.iter().find(|path| line_of_ours.contains(**path)) {
        return Some(format!("`{path}` is a path of one machine"));
    }
    too_long(path, line)
}

fn too_long(path: &str, line: &str) -> Option<String> {
    let is_rust = path.ends_with(".rs");
    let is_script = path.starts_with("scripts/") || path.starts_with("tests/bench/");
    if !(is_rust || is_script) || line.contains("https://") {
        return None;
    }
    let start = line.trim_start();
    let is_message = start.starts_with("error: ") || start.starts_with("hint: ");
    let is_comment = start.starts_with("//") || start.starts_with('#');
    let is_words = is_message || is_comment || line.contains('"');
    let limit = if is_words { LINE_OF_WORDS_MAX } else { LINE_MAX };
    let length = line.chars().count();
    (length > limit).then(|| format!("{length} columns, at most {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[(usize, &str)]) {
        let found = faults(path, text);
        assert_eq!(found.len(), expected.len(), "{text:?} gave {found:?}");
        for (fault, (line, word)) in found.iter().zip(expected) {
            assert_eq!(fault.line, *line, "{found:?}");
            assert!(fault.what.contains(word), "{found:?}");
        }
    }

    #[test]
    fn every_rule_finds_its_fault() {
        check("a.rs", "//! Good.\n", &[]);
        check("a.rs", "one \ntwo\t\nthree", &[(1, "white"), (2, "white"), (3, "newline")]);
        check("a.md", "x\n\n", &[(2, "newline")]);
        check("a.rs", "\tx\n", &[(1, "tab")]);
        check("Makefile", "\tx\n", &[]);
        check("a.rs", concat!("x to", "do!()\n// FIX", "ME\n"), &[(1, "finish"), (2, "finish")]);
        check("a.md", concat!("see /ro", "ot/x\n"), &[(1, "machine")]);
    }

    #[test]
    fn code_is_narrower_than_words() {
        let code = format!("{}\n", "x".repeat(101));
        check("a.rs", &code, &[(1, "101 columns")]);
        check("a.md", &code, &[]);
        check("a.rs", &format!("// {}\n", "x".repeat(117)), &[]);
        check("a.rs", &format!("// {}\n", "x".repeat(118)), &[(1, "121 columns")]);
        check("scripts/x", &format!("{}\n", "x".repeat(101)), &[(1, "101")]);
        check("a.rs", &format!("// https://{}\n", "x".repeat(118)), &[]);
    }
}
