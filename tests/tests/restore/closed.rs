//! Directories and files that their owner may not write, or not even read, restored by a user who is not root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use depot::manifest::{Attributes, Entry, EntryKind};
use depot::writer::{SnapshotWriter, Stamp};
use rustix::process::geteuid;

use crate::lab::{Lab, entry, entry_path};
use tests::program::Said;

/// Nobody's number on any system; it needs no account.
const PLAIN_USER: u32 = 54_321;

/// A lab that a plain user can restore in. The depot and the key are readable, the targets are below `home`.
fn lab() -> Lab {
    let mut lab = Lab::below(Path::new("/var/tmp"));
    lab.back_up_with(|writer| {
        put_dir(writer, ".", 0o555);
        put_dir(writer, "unread", 0o300);
        put_dir(writer, "none", 0o000);
        for (name, mode) in
            [("unread/file", 0o640), ("none/file", 0o400), ("write-only", 0o200), ("closed", 0)]
        {
            let file = writer.open(entry_path(name.as_bytes())).unwrap();
            writer.write(file, name.as_bytes()).unwrap();
            writer.close(file, Some(attributes(mode)), false, Stamp::default()).unwrap();
        }
    });
    fs::create_dir(lab.path("home")).unwrap();
    if geteuid().is_root() {
        open_to_all(&lab.path(""));
        chown(lab.path("home"), Some(PLAIN_USER), Some(PLAIN_USER)).unwrap();
        chown(lab.path("key.txt"), Some(PLAIN_USER), Some(PLAIN_USER)).unwrap();
        fs::set_permissions(lab.path("key.txt"), PermissionsExt::from_mode(0o600)).unwrap();
    }
    lab
}

fn attributes(mode: u32) -> Attributes {
    Attributes { mode, mtime: (1_700_000_000, 0), ..Attributes::default() }
}

fn put_dir(writer: &mut SnapshotWriter, path: &str, mode: u32) {
    let attributes = Some(attributes(mode));
    writer.add(Entry { attributes, ..entry(path, EntryKind::Dir, None) }).unwrap();
}

fn open_to_all(path: &Path) {
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.is_dir() {
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        for entry in fs::read_dir(path).unwrap() {
            open_to_all(&entry.unwrap().path());
        }
    } else {
        fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
    }
}

fn run(lab: &Lab, arguments: &[&str]) -> Said {
    let mut command = lab.command(arguments);
    if geteuid().is_root() {
        // The program may lie where only root can go.
        let program = lab.path("home/restore");
        fs::copy(command.get_program(), &program).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let mut plain = std::process::Command::new(&program);
        plain.args(command.get_args()).current_dir(lab.path("home"));
        plain.uid(PLAIN_USER).gid(PLAIN_USER);
        command = plain;
    }
    Said::of(&command.output().unwrap())
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn assert_restored(target: &Path) {
    assert!(!target.join(".restore-unfinished").exists());
    let expected = [
        (".", 0o555),
        ("unread", 0o300),
        ("none", 0),
        ("write-only", 0o200),
        ("closed", 0),
        ("unread/file", 0o640),
        ("none/file", 0o400),
    ];
    for (name, expected) in expected {
        // Not as the plain user, who cannot look into them.
        if geteuid().is_root() || !name.contains('/') {
            assert_eq!(mode(&target.join(name)), expected, "{name}");
        }
    }
    let modified = fs::metadata(target).unwrap().modified().unwrap();
    let seconds = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(seconds, 1_700_000_000, "the time of the target");
}

#[test]
fn a_plain_user_restores_what_its_owner_may_not_write() {
    let lab = lab();
    let target = lab.path("home/there");
    let name = target.display().to_string();
    run(&lab, &["--target", &name, "--no-owner"]).expect(0);
    assert_restored(&target);
    // Over itself, as after a kill when all modes were set.
    run(&lab, &["--target", &name, "--no-owner", "--delta"]).expect(0);
    assert_restored(&target);
    // Only a part: the target itself stays as it was.
    run(&lab, &["--target", &name, "--no-owner", "--delta", "--path", "closed"]).expect(0);
    assert_eq!(mode(&target), 0o555);
}
