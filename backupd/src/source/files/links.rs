//! Which names belong to one file: hard links seen so far in this run.
//!
//! Only files with names still to come are held, so a tree whose links are all in it needs little. The memory has a
//! limit; beyond it further linked files are stored as files of their own, and that is said.

use std::collections::HashMap;

use depot::manifest::EntryPath;
use rustix::fs::Statx;

/// Memory for names, in bytes; enough for half a million files of which one name was seen.
pub const LINKS_BYTES_MAX: usize = 64 << 20;
/// What a held name costs beside its bytes.
const ENTRY_BYTES: usize = 64;

/// Files of which some names were stored and some are still to come.
#[derive(Debug, Default)]
pub struct Links {
    open: HashMap<Inode, Link>,
    bytes: usize,
}

/// A file system and an inode number in it.
type Inode = (u32, u32, u64);

#[derive(Debug)]
struct Link {
    first: Box<[u8]>,
    left: u32,
}

fn inode_of(stat: &Statx) -> Inode {
    (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino)
}

impl Links {
    /// The first name of a file that was stored before under another one.
    pub fn first_name(&mut self, stat: &Statx) -> Option<Vec<u8>> {
        if stat.stx_nlink < 2 {
            return None;
        }
        let inode = inode_of(stat);
        let link = self.open.get_mut(&inode)?;
        link.left -= 1;
        if link.left > 0 {
            return Some(link.first.to_vec());
        }
        let link = self.open.remove(&inode)?;
        self.bytes -= cost(&link.first);
        Some(link.first.into_vec())
    }

    /// Remembers that a file was stored under `path`. False if there is no room: its other names become files.
    pub fn remember(&mut self, stat: &Statx, path: &EntryPath) -> bool {
        if stat.stx_nlink < 2 {
            return true;
        }
        let bytes = cost(path.as_bytes());
        if self.bytes + bytes > LINKS_BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        let link = Link { first: path.as_bytes().into(), left: stat.stx_nlink - 1 };
        if let Some(old) = self.open.insert(inode_of(stat), link) {
            self.bytes -= cost(&old.first);
        }
        true
    }
}

fn cost(path: &[u8]) -> usize {
    path.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

    use super::*;

    #[test]
    fn names_of_one_file_are_told_apart_from_names_of_others() {
        let dir = tempfile::tempdir().expect("scratch");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), "1").expect("write");
        fs::write(at("x"), "1").expect("write");
        for name in ["b", "c"] {
            fs::hard_link(at("a"), at(name)).expect("link");
        }
        let stat = |name: &str| {
            statx(CWD, at(name), AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).expect("stat")
        };
        let mut links = Links::default();
        for name in ["a", "x"] {
            assert_eq!(links.first_name(&stat(name)), None);
            assert!(links.remember(&stat(name), &EntryPath::new(name).expect("valid")));
        }
        assert_eq!(links.first_name(&stat("b")), Some(b"a".to_vec()));
        assert_eq!(links.first_name(&stat("x")), None);
        assert_eq!(links.open.len(), 1);
        assert_eq!(links.first_name(&stat("c")), Some(b"a".to_vec()));
        assert!(links.open.is_empty() && links.bytes == 0, "nothing is held of what is complete");
    }

    #[test]
    fn memory_has_a_limit() {
        let dir = tempfile::tempdir().expect("scratch");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "1").expect("write");
        fs::hard_link(&a, &b).expect("link");
        let stat = statx(CWD, &a, AtFlags::empty(), StatxFlags::BASIC_STATS).expect("stat");
        let mut links = Links { bytes: LINKS_BYTES_MAX, ..Links::default() };
        assert!(!links.remember(&stat, &EntryPath::new("a").expect("valid")));
        assert_eq!(links.first_name(&stat), None);
    }
}
