//! Rules for documents: what they refer to exists, and the changelog can be read by a machine.

use super::Fault;

/// The sections of a version, in the order of keepachangelog.com.
const SECTIONS: [&str; 6] = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];

/// References to files that do not exist: links of Markdown, and `docs/NAME.md` in any text.
pub fn missing(path: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<Fault> {
    let is_markdown = path.ends_with(".md");
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let links = if is_markdown { links(path, line) } else { Vec::new() };
        let mut named = links.into_iter().chain(named_documents(line)).collect::<Vec<_>>();
        named.dedup();
        let lost = named.into_iter().filter(|target| !exists(target));
        faults.extend(lost.map(|target| Fault::new(number, format!("`{target}` does not exist"))));
    }
    faults
}

/// Targets of `[text](target)` that are files, relative to the root.
fn links(path: &str, line: &str) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let is_file = |target: &&str| !target.is_empty() && !target.contains(':');
    let without_anchor = |target: &str| target.split('#').next().unwrap_or_default().to_owned();
    let files = targets.filter(is_file).map(without_anchor).filter(|target| !target.is_empty());
    files.map(|target| resolve(folder, &target)).collect()
}

fn resolve(folder: &str, target: &str) -> String {
    let mut segments: Vec<&str> = folder.split('/').filter(|segment| !segment.is_empty()).collect();
    for segment in target.split('/') {
        match segment {
            "." | "" => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    segments.join("/")
}

/// Names such as `docs/format.md` or `docs/examples/x.toml`, wherever they stand.
fn named_documents(line: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    let names = line.split(|c| !is_part(c)).map(|word| word.trim_end_matches('.'));
    let is_document = |name: &&str| {
        name.starts_with(concat!("do", "cs/")) && (name.ends_with(".md") || name.ends_with(".toml"))
    };
    names.filter(is_document).map(str::to_owned).collect()
}

/// `# Changelog`, then versions newest first, each with known sections of at least one line.
pub fn changelog(text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !text.starts_with("# Changelog\n") {
        faults.push(Fault::new(1, "it does not begin with `# Changelog`"));
    }
    let mut dates: Vec<String> = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let fault = if let Some(version) = line.strip_prefix("## ") {
            version_fault(version, &mut dates)
        } else if let Some(section) = line.strip_prefix("### ") {
            section_fault(section, &lines[index + 1..])
        } else {
            None
        };
        faults.extend(fault.map(|what| Fault::new(index + 1, what)));
    }
    if !lines.contains(&"## [Unreleased]") {
        faults.push(Fault::new(1, "it has no `## [Unreleased]`"));
    }
    faults
}

fn version_fault(version: &str, dates: &mut Vec<String>) -> Option<String> {
    if version == "[Unreleased]" {
        return (!dates.is_empty()).then(|| "what is unreleased comes first".to_owned());
    }
    let Some((number, date)) = version.split_once(" - ") else {
        return Some("a version is `## [1.2.3] - 2026-11-23`".to_owned());
    };
    let is_number =
        number.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|number| {
            number.split('.').count() == 3
                && number.split('.').all(|part| part.parse::<u32>().is_ok())
        });
    if !is_number || chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d").is_err() {
        return Some("a version is `## [1.2.3] - 2026-11-23`".to_owned());
    }
    let is_newer = dates.last().is_some_and(|before| before.as_str() < date);
    dates.push(date.to_owned());
    is_newer.then(|| "versions are not newest first".to_owned())
}

fn section_fault(section: &str, below: &[&str]) -> Option<String> {
    if !SECTIONS.contains(&section) {
        return Some(format!("`{section}` is none of {SECTIONS:?}"));
    }
    let mut content = below.iter().take_while(|line| !line.starts_with('#'));
    let is_empty = !content.any(|line| line.starts_with("- "));
    is_empty.then(|| "a section without a line".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_exist_is_named_with_its_line() {
        let exists = |path: &str| ["README.md", "docs/format.md"].contains(&path);
        let check = |path: &str, text: &str, expected: &[usize]| {
            let found = missing(path, text, &exists);
            assert_eq!(found.iter().map(|f| f.line).collect::<Vec<_>>(), expected, "{found:?}");
        };
        check("README.md", "[a](docs/format.md#blocks)\n[b](https://x.org/y.md) [c](#d)\n", &[]);
        check("README.md", "\n[a](docs/lost.md)", &[2]);
        check("docs/a.md", "[a](format.md) [b](../README.md)", &[]);
        check("docs/a.md", "[a](README.md)", &[1]);
        check(
            "depot/src/a.rs",
            concat!("// see `do", "cs/format.md`.\n// do", "cs/lost.md.\n"),
            &[2],
        );
    }

    #[test]
    fn a_changelog_is_read_strictly() {
        fn check(text: &str, expected: &[usize]) {
            let found = changelog(text);
            assert_eq!(found.iter().map(|f| f.line).collect::<Vec<_>>(), expected, "{found:?}");
        }
        let head = "# Changelog\n\n## [Unreleased]\n";
        check(head, &[]);
        check(
            &format!("{head}\n### Added\n\n- A.\n\n## [0.1.0] - 2026-11-23\n### Fixed\n- B.\n"),
            &[],
        );
        check("## [Unreleased]\n", &[1]);
        check("# Changelog\n", &[1]);
        check(&format!("{head}### Nice\n- A.\n### Added\n## 1.0\n"), &[4, 6, 7]);
        check(&format!("{head}## [0.1.0] - 2026-01-01\n## [0.2.0] - 2026-02-01\n"), &[5]);
        check("# Changelog\n## [0.1.0] - 2026-01-01\n## [Unreleased]\n", &[3]);
    }
}
