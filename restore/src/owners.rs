//! Owners by name where this host knows the name, by number otherwise: a rescue system numbers its users differently.

use std::collections::HashMap;
use std::process::{Command, Stdio};

use rustix::fs::{Gid, Uid};

use crate::tree::Owner;

/// Owner and group on this host.
pub type Ids = (Uid, Gid);

/// The number of nobody: the system calls take it for "leave it".
const UNSET: u32 = u32::MAX;

/// The owners on this host, in the same order; none if owners are not to be set.
pub fn resolve(owners: &[Owner], set_owner: bool) -> Vec<Option<Ids>> {
    let mut known = HashMap::new();
    let mut look_up = |database: &'static str, name: &Option<String>, number: u32| match name {
        Some(name) => known
            .entry((database, name.clone()))
            .or_insert_with(|| number_of(database, name))
            .unwrap_or(number),
        None => number,
    };
    let mut resolve = |owner: &Owner| {
        let uid = look_up("passwd", &owner.names.0, owner.ids.0);
        let gid = look_up("group", &owner.names.1, owner.ids.1);
        (uid != UNSET && gid != UNSET).then(|| (Uid::from_raw(uid), Gid::from_raw(gid)))
    };
    owners.iter().map(|owner| if set_owner { resolve(owner) } else { None }).collect()
}

/// The number of a user (`passwd`) or a group (`group`) on this host, from whatever directory service it uses.
pub fn number_of(database: &str, name: &str) -> Option<u32> {
    // A number would be looked up as one, an option would be obeyed.
    if name.starts_with(|c: char| c.is_ascii_digit() || c == '-') || name.is_empty() {
        return None;
    }
    let mut command = Command::new("getent");
    let command = command.args([database, name]).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    let line = String::from_utf8(output.stdout).ok()?;
    line.lines().next()?.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_known_name_wins_over_the_number_and_an_unknown_one_does_not() {
        let owner = |name: &str| Owner {
            mode: 0,
            ids: (4711, 4712),
            names: (Some(name.into()), Some(name.into())),
            xattrs: BTreeMap::new(),
        };
        let numbers = |name: &str| {
            let ids = resolve(&[owner(name)], true)[0].unwrap();
            (ids.0.as_raw(), ids.1.as_raw())
        };
        assert_eq!(numbers("root"), (0, 0));
        assert_eq!(numbers("no-such-user-here"), (4711, 4712));
        assert_eq!(numbers("0"), (4711, 4712));
        assert_eq!(numbers("--help"), (4711, 4712));
        assert!(resolve(&[owner("root")], false)[0].is_none());
    }
}
