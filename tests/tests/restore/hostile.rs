//! Manifests that nobody would write but an attacker: nothing outside of the target is touched.

use std::fs;
use std::os::unix::fs::symlink;

use depot::manifest::{Attributes, Entry, EntryKind};

use crate::lab::{Lab, entry, put_file};

/// A lab with a directory beside the target that must stay empty.
fn lab() -> Lab {
    let lab = Lab::new();
    fs::create_dir(lab.path("outside")).unwrap();
    lab
}

fn outside(lab: &Lab) -> usize {
    fs::read_dir(lab.path("outside")).unwrap().count()
}

#[test]
fn a_file_below_a_symbolic_link_is_refused() {
    let mut lab = lab();
    let target = lab.path("outside").display().to_string();
    lab.back_up_with(|writer| {
        writer.add(entry("a", EntryKind::Symlink, Some(&target))).unwrap();
        put_file(writer, "a/passwd", b"root::0:0::/:/bin/sh");
    });
    lab.run(&["--target", "there"]).expect(1).expect_error("goes through a symbolic link");
    assert!(outside(&lab) == 0 && !lab.path("there").exists());
}

#[test]
fn a_link_that_takes_the_place_of_a_directory_is_refused() {
    let mut lab = lab();
    let target = lab.path("outside").display().to_string();
    lab.back_up_with(|writer| {
        put_file(writer, "a/passwd", b"root::0:0::/:/bin/sh");
        writer.add(entry("a", EntryKind::Symlink, Some(&target))).unwrap();
    });
    lab.run(&["--target", "there"]).expect(1).expect_error("another entry has this path");
    assert!(outside(&lab) == 0 && !lab.path("there").exists());
}

#[test]
fn a_hard_link_to_something_outside_is_refused() {
    let mut lab = lab();
    fs::write(lab.path("precious"), "outside").unwrap();
    for first in ["../precious", "/etc/passwd"] {
        lab.back_up_with(|writer| {
            writer.add(entry("a", EntryKind::Hardlink, Some(first))).unwrap();
        });
        lab.run(&["--target", "there"]).expect(1).expect_error("is not a plain relative path");
    }
    // Through a link that is made before it: the kernel refuses.
    let target = lab.path("").display().to_string();
    lab.back_up_with(|writer| {
        writer.add(entry("a", EntryKind::Symlink, Some(&target))).unwrap();
        writer.add(entry("b", EntryKind::Hardlink, Some("a/precious"))).unwrap();
    });
    lab.run(&["--target", "there"]).expect(3);
    assert!(!lab.path("there/b").exists());
}

#[test]
fn links_in_an_existing_target_are_not_followed() {
    let mut lab = lab();
    lab.back_up_with(|writer| {
        put_file(writer, "dir/file", b"content");
        put_file(writer, "file", b"content");
        let attributes = Attributes { mode: 0o755, ..Attributes::default() };
        let dir = Entry { attributes: Some(attributes), ..entry("dir", EntryKind::Dir, None) };
        writer.add(dir).unwrap();
    });
    fs::create_dir(lab.path("there")).unwrap();
    symlink(lab.path("outside"), lab.path("there/dir")).unwrap();
    symlink(lab.path("outside/file"), lab.path("there/file")).unwrap();
    lab.run(&["--target", "there", "--delta"]).expect(0);
    assert_eq!(outside(&lab), 0);
    assert!(lab.path("there/dir/file").is_file() && !lab.path("there/dir").is_symlink());
    assert!(!lab.path("there/file").is_symlink());
}

#[test]
fn what_is_restored_is_closed_until_it_has_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let mut lab = lab();
    lab.back_up_with(|writer| put_file(writer, "dir/file", b"secret"));
    lab.run(&["--target", "there"]).expect(0);
    let mode = |path: &str| fs::metadata(lab.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("there/dir"), mode("there/dir/file")), (0o700, 0o600));
}
