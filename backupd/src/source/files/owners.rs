//! Names of users and groups, from `/etc/passwd` and `/etc/group`, read once a run.
//!
//! Names that only a directory service knows (LDAP, SSSD) are not found: asking for them needs the
//! C library's name service, and with it unsafe code. Such files are stored with their numbers,
//! which is what a restore falls back to.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Lines that are read of each file at most.
const LINES_MAX: usize = 1_000_000;

/// Names by number.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Owners {
    /// Reads this host's names. A file that is not there has none.
    pub fn load() -> Self {
        let names = |path: &str| {
            let file = File::open(Path::new(path));
            let file = file.inspect_err(|error| tracing::warn!("no names of {path}: {error}"));
            file.map(|file| parse(BufReader::new(file))).unwrap_or_default()
        };
        Self { users: names("/etc/passwd"), groups: names("/etc/group") }
    }

    /// The name of a user.
    pub fn user(&self, uid: u32) -> Option<String> {
        self.users.get(&uid).cloned()
    }

    /// The name of a group.
    pub fn group(&self, gid: u32) -> Option<String> {
        self.groups.get(&gid).cloned()
    }
}

/// Lines of `name:password:number:...`; the first of a number counts, as in the C library.
fn parse(lines: impl BufRead) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in lines.split(b'\n').take(LINES_MAX).map_while(Result::ok) {
        let Ok(line) = std::str::from_utf8(&line) else { continue };
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or_default();
        let number = fields.nth(1).and_then(|number| number.parse().ok());
        if let (Some(number), false) = (number, name.is_empty()) {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts_and_odd_lines_are_passed_over() {
        let text = b"root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/:/bin/sh\n\n+::::::\nbad\n:x:7:\n\xff:x:8:8\n\
            www-data:x:33:33::/var/www:/usr/sbin/nologin";
        let names = parse(&text[..]);
        assert_eq!(names.get(&0).map(String::as_str), Some("root"));
        assert_eq!(names.get(&33).map(String::as_str), Some("www-data"));
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn this_host_knows_root() {
        let owners = Owners::load();
        assert_eq!(owners.user(0).as_deref(), Some("root"));
        assert_eq!(owners.group(0).as_deref(), Some("root"));
        assert_eq!(owners.user(u32::MAX - 7), None);
    }
}
