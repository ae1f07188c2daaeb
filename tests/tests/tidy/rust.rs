//! Rules for Rust files: they open with prose, are small, and panic on purpose only.
//!
//! No parser: `rustfmt` puts the closing brace of a function alone under its beginning, and that is enough.

use super::Fault;

/// Lines of a file, tests included.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Names that say nothing about what is in a file.
const VAGUE: [&str; 6] = ["mod", "util", "utils", "helper", "helpers", "common"];

/// What is wrong with a file.
pub fn faults(path: &str, text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    if VAGUE.contains(&name) {
        faults.push(Fault::new(1, format!("`{name}` says nothing: name it for what is in it")));
    }
    let opening = text.lines().take_while(|line| line.starts_with("//!"));
    if opening.map(|line| line.split_whitespace().count()).sum::<usize>() < 4 {
        faults.push(Fault::new(1, "the file does not open with `//!` and what it is"));
    }
    let count = text.lines().count();
    if count > FILE_LINES_MAX {
        faults.push(Fault::new(count, format!("{count} lines, at most {FILE_LINES_MAX}")));
    }
    faults.extend(long_functions(text));
    faults.extend(careless(path, text));
    faults
}

fn long_functions(text: &str) -> Vec<Fault> {
    let lines: Vec<&str> = text.lines().collect();
    let mut faults = Vec::new();
    for (start, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
        let indent = line.len() - line.trim_start().len();
        let is_end = |line: &&str| line.len() == indent + 1 && line.trim_start() == "}";
        let is_whole = line.ends_with(['}', ';']);
        let end = lines[start..].iter().position(is_end).filter(|_| !is_whole);
        let length = end.map_or(1, |end| end + 1);
        if length > FUNCTION_LINES_MAX {
            let what = format!("a function of {length} lines, at most {FUNCTION_LINES_MAX}");
            faults.push(Fault::new(start + 1, what));
        }
    }
    faults
}

fn begins_function(line: &str) -> bool {
    let mut words = line.split_whitespace().peekable();
    while words
        .next_if(|word| word.starts_with("pub") || ["async", "const", "extern"].contains(word))
        .is_some()
    {}
    words.next() == Some("fn")
}

/// What ends a program, or silences a lint, outside of tests.
fn careless(path: &str, text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let is_test =
        path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs");
    let mut in_tests = is_test;
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        in_tests |= code.trim_start().starts_with("#[cfg(test)]");
        if !in_tests && code.contains(concat!(".unw", "rap()")) {
            let what = "`unwrap` outside of tests: return the error, or `expect` with the reason";
            faults.push(Fault::new(number, what));
        }
        if code.contains(concat!("#[al", "low(")) || code.contains(concat!("#![al", "low(")) {
            faults.push(Fault::new(number, "`allow` is silent: `expect` with a reason"));
        }
        if code.contains(concat!("#[ig", "nore")) {
            faults.push(Fault::new(number, "a test that is not run"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENING: &str = "//! This file is here to be looked at.\n";

    fn check(path: &str, body: &str, expected: &[(usize, &str)]) {
        let found = faults(path, &format!("{OPENING}{body}"));
        assert_eq!(found.len(), expected.len(), "{body:?} gave {found:?}");
        for (fault, (line, word)) in found.iter().zip(expected) {
            assert_eq!(fault.line, *line, "{found:?}");
            assert!(fault.what.contains(word), "{found:?}");
        }
    }

    fn function(indent: &str, head: &str, lines: usize) -> String {
        let body = format!("{indent}    line();\n").repeat(lines - 2);
        format!("{indent}{head}fn f() {{\n{body}{indent}}}\n")
    }

    #[test]
    fn a_file_opens_with_prose_and_is_small() {
        assert_eq!(faults("a.rs", "use x;\n").len(), 1);
        assert_eq!(faults("a.rs", "//! placeholder\n").len(), 1);
        check("a.rs", "", &[]);
        check("a/mod.rs", "", &[(1, "says nothing")]);
        check("a.rs", &"line();\n".repeat(499), &[]);
        check("a.rs", &"line();\n".repeat(500), &[(501, "501 lines")]);
    }

    #[test]
    fn functions_are_measured_wherever_they_stand() {
        check("a.rs", &function("", "", 70), &[]);
        check("a.rs", &function("", "", 71), &[(2, "71 lines")]);
        check("a.rs", &function("    ", "pub(super) async ", 71), &[(2, "71 lines")]);
        check("a.rs", &(function("", "", 60) + &function("", "const ", 60)), &[]);
        check("a.rs", &format!("fn f() {{}}\n{}}}\n", "line();\n".repeat(90)), &[]);
    }

    #[test]
    fn carelessness_is_found_where_it_matters() {
        let unwrap = concat!("x.unw", "rap();\n");
        check("depot/src/a.rs", unwrap, &[(2, "outside of tests")]);
        check("depot/src/a.rs", &format!("// {unwrap}#[cfg(test)]\n{unwrap}"), &[]);
        check("tests/tests/a.rs", unwrap, &[]);
        check(
            "a.rs",
            concat!("#[al", "low(x)]\n#[ig", "nore]\n"),
            &[(2, "silent"), (3, "not run")],
        );
    }
}
