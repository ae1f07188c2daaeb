//! Rules for dependencies: each is explained in the root `Cargo.toml`, declared there only, used where it is taken,
//! and those among our own crates run one way.

use super::Fault;

/// Who may depend on whom. The programs do not know one another: they meet in the stored format.
const DIRECTIONS: [(&str, &[&str]); 9] = [
    ("chassis", &[]),
    ("gtid", &[]),
    ("depot", &["chassis", "gtid"]),
    ("database", &["chassis", "gtid"]),
    ("backupd", &["chassis", "depot", "database"]),
    ("restore", &["chassis", "depot", "database"]),
    ("logshipd", &["chassis"]),
    ("tests", &["chassis", "depot", "database", "backupd", "restore", "logshipd"]),
    ("fuzz", &["chassis", "depot", "database", "backupd", "restore", "logshipd"]),
];

/// Lines of the sections whose names end with `dependencies`: number, name and whole line.
fn dependencies(text: &str) -> Vec<(usize, &str, &str)> {
    let mut is_inside = false;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(section) = line.strip_prefix('[') {
            is_inside = section.trim_end_matches(']').ends_with("dependencies");
        } else if let Some((name, _)) = line.split_once(['.', ' ', '=']).filter(|_| is_inside)
            && !line.starts_with(['#', ' '])
        {
            found.push((number, name, line));
        }
    }
    found
}

fn is_ours(name: &str) -> bool {
    DIRECTIONS.iter().any(|(crate_name, _)| *crate_name == name)
}

/// Every foreign dependency of the root has a comment right above it.
pub fn explained(text: &str) -> Vec<Fault> {
    let lines: Vec<&str> = text.lines().collect();
    let is_explained = |number: usize| number >= 2 && lines[number - 2].starts_with("# ");
    dependencies(text)
        .into_iter()
        .filter(|(number, name, _)| !is_ours(name) && !is_explained(*number))
        .map(|(number, name, _)| Fault::new(number, format!("`{name}`: no comment says what for")))
        .collect()
}

/// A member takes its dependencies from the workspace, and ours in the right direction only.
pub fn member(path: &str, text: &str) -> Vec<Fault> {
    let folder = path.strip_suffix("/Cargo.toml").unwrap_or(path);
    let allowed = DIRECTIONS.iter().find(|(name, _)| *name == folder).map(|(_, allowed)| *allowed);
    let Some(allowed) = allowed else {
        return vec![Fault::new(1, "a new crate: say in tidy what it may depend on")];
    };
    let mut faults = Vec::new();
    for (number, name, line) in dependencies(text) {
        if !line.contains("workspace = true") {
            faults
                .push(Fault::new(number, format!("`{name}`: versions are in the root Cargo.toml")));
        }
        if is_ours(name) && !allowed.contains(&name) {
            faults.push(Fault::new(number, format!("`{folder}` may not depend on `{name}`")));
        }
    }
    faults
}

/// Dependencies that the crate's code never mentions.
pub fn unused(manifest: &str, code: &[&str]) -> Vec<Fault> {
    dependencies(manifest)
        .into_iter()
        .filter(|(_, name, _)| !code.iter().any(|text| mentions(text, &name.replace('-', "_"))))
        .map(|(number, name, _)| Fault::new(number, format!("`{name}` is not used")))
        .collect()
}

/// Whether a text has `name::` or an import or attribute of it, as a word of its own.
fn mentions(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let before = text[..at].chars().next_back();
        let after = &text[at + name.len()..];
        let is_path =
            after.starts_with("::") || after.starts_with(';') || after.starts_with(" as ");
        is_path && !before.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(faults: &[Fault]) -> Vec<usize> {
        faults.iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn an_unexplained_dependency_is_found() {
        let text = "[workspace]\nx = 1\n[workspace.dependencies]\ndepot = { path = \"depot\" }\n\
                    # Errors.\nanyhow = \"1\"\nserde = \"1\"\n[profile.dev]\ny = 2\n";
        assert_eq!(lines(&explained(text)), [7]);
    }

    #[test]
    fn a_member_adds_no_version_and_looks_no_way_back() {
        let text = "[package]\nname = \"depot\"\n[dependencies]\nchassis.workspace = true\n\
                    backupd.workspace = true\nhex = \"0.4\"\n[dev-dependencies]\n\
                    tokio = { workspace = true, features = [\"rt\"] }\n";
        assert_eq!(lines(&member("depot/Cargo.toml", text)), [5, 6]);
        assert_eq!(lines(&member("other/Cargo.toml", text)), [1]);
    }

    #[test]
    fn a_dependency_is_used_if_a_path_begins_with_it() {
        let manifest = "[dependencies]\nhex.workspace = true\nsd-notify.workspace = true\n";
        assert_eq!(
            lines(&unused(manifest, &["hex::encode(sd_notify::notify())"])),
            [] as [usize; 0]
        );
        assert_eq!(lines(&unused(manifest, &["use hex;", "my_sd_notify::x; // sd_notify"])), [3]);
    }
}
