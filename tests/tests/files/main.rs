//! A tree of files, backed up for real and compared in every detail with what is stored.
//!
//! Trees are made by seed; a failing seed is printed and can be given as `TREE_SEED`.

#![expect(clippy::print_stdout, reason = "seeds, and what cannot be tried here")]

mod lab;
mod restless;

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use chassis::failure::{Exit, exit_of, hint_of};
use depot::manifest::SnapshotState;
use depot::names::SnapshotId;
use lab::{Lab, settle};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use tests::tree::{Kind, Tree, change, describe, differences, make};

/// Some seeds that are always tried, and one that is new each time.
fn seeds() -> Vec<u64> {
    let given = std::env::var("TREE_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("it is after 1970");
    given.map_or_else(|| vec![1, 2, 3, 4, now.as_nanos() as u64], |seed| vec![seed])
}

fn assert_same(source: &Tree, stored: &Tree, what: &str) {
    let found = differences(source, stored);
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

/// What is in the depot, and what is restored from it, is the source.
fn assert_whole(lab: &Lab, id: &SnapshotId, source: &Tree, what: &str) {
    assert_same(source, &lab.stored(id).expect("read snapshot"), &format!("{what}, stored"));
    assert_same(source, &lab.restored(id).expect("restore"), &format!("{what}, restored"));
}

/// Files that have to be read because they were not there before or look different now: one for each set of names.
fn to_be_read(before: &Tree, after: &Tree) -> usize {
    let inodes = |tree: &Tree, all: bool| -> BTreeSet<_> {
        let files = tree.iter().filter(|(_, node)| node.kind == Kind::File);
        files
            .filter(|(path, node)| {
                all || before.get(*path).map(|old| old.identity) != Some(node.identity)
            })
            .map(|(_, node)| node.identity.0)
            .collect()
    };
    inodes(after, false).len()
}

#[test]
fn every_kind_of_entry_is_stored_and_a_second_run_reads_only_what_changed() {
    let made: Vec<_> = seeds()
        .into_iter()
        .map(|seed| {
            println!("TREE_SEED={seed}");
            let lab = Lab::new().unwrap();
            let made = make(&lab.root(), seed).unwrap();
            (seed, lab, made)
        })
        .collect();
    settle();
    let changed: Vec<_> = made
        .into_iter()
        .map(|(seed, mut lab, mut made)| {
            let source = describe(&lab.root()).unwrap();
            let (summary, report) = lab.back_up(&lab.job(), false).unwrap();
            assert_eq!(report.state, SnapshotState::Complete, "{:?}", report.problems);
            assert_whole(&lab, &report.id, &source, &format!("seed {seed}"));
            assert_eq!(summary.skipped, made.special, "seed {seed}");
            assert_eq!(report.totals.entries, source.len() as u64, "seed {seed}");
            change(&mut made, 12, seed ^ 0xffff).unwrap();
            (seed, lab, source)
        })
        .collect();
    settle();
    for (seed, mut lab, before) in changed {
        let source = describe(&lab.root()).unwrap();
        let (summary, report) = lab.back_up(&lab.job(), false).unwrap();
        assert_eq!(report.state, SnapshotState::Complete, "{:?}", report.problems);
        assert_whole(&lab, &report.id, &source, &format!("seed {seed}, changed"));
        assert_eq!(summary.files_read, to_be_read(&before, &source) as u64, "seed {seed}");
        assert!(summary.files_kept > 5, "seed {seed}: {summary:?}");

        let (third, report) = lab.back_up(&lab.job(), false).unwrap();
        assert_eq!(third.files_read, 0, "seed {seed}: nothing has changed");
        assert_eq!(report.totals.stored, 0, "seed {seed}: nothing is new");
        assert_same(&source, &lab.stored(&report.id).unwrap(), &format!("seed {seed}, unchanged"));

        let (rescan, report) = lab.back_up(&lab.job(), true).unwrap();
        assert_eq!(rescan.files_kept, 0, "seed {seed}: all is read");
        assert_eq!(rescan.files_read, third.files_kept, "seed {seed}: all is read");
        assert_eq!(report.totals.stored, 0, "seed {seed}: what was read is not new");
        assert_same(&source, &lab.stored(&report.id).unwrap(), &format!("seed {seed}, rescan"));
    }
}

#[test]
fn a_file_that_was_changed_just_before_it_was_read_is_read_again_in_the_next_run() {
    let mut lab = Lab::new().unwrap();
    fs::write(lab.root().join("new"), "1").unwrap();
    lab.back_up(&lab.job(), false).unwrap();
    // Same size; were the stamp trusted, only luck would tell this from the first.
    fs::write(lab.root().join("new"), "2").unwrap();
    let (summary, report) = lab.back_up(&lab.job(), false).unwrap();
    assert_eq!(summary.files_read, 1);
    let source = describe(&lab.root()).unwrap();
    assert_same(&source, &lab.stored(&report.id).unwrap(), "second run");
    settle();
    assert_eq!(lab.back_up(&lab.job(), false).unwrap().0.files_read, 1, "not trusted yet");
    assert_eq!(lab.back_up(&lab.job(), false).unwrap().0.files_read, 0, "now it is");
}

#[test]
fn patterns_choose_what_is_stored() {
    let mut lab = Lab::new().unwrap();
    for path in
        ["a.log", "a.php", "wp/cache/x", "wp/up/b.log", "wp/up/c.jpg", "wp/up/d/e.jpg", "z/y"]
    {
        let path = lab.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "content").unwrap();
    }
    let mut check = |include: &[&str], exclude: &[&str], expected: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let mut job = lab.job();
        (job.include, job.exclude) = (owned(include), owned(exclude));
        let (_, report) = lab.back_up(&job, false).unwrap();
        let stored = lab.stored(&report.id).unwrap();
        let paths: Vec<_> = stored.keys().map(|path| String::from_utf8_lossy(path)).collect();
        assert_eq!(paths, expected, "include {include:?}, exclude {exclude:?}");
    };
    check(
        &[],
        &["*.log", "/wp/cache/"],
        &["", "a.php", "wp", "wp/up", "wp/up/c.jpg", "wp/up/d", "wp/up/d/e.jpg", "z", "z/y"],
    );
    check(&["wp/up"], &["d"], &["", "wp", "wp/up", "wp/up/b.log", "wp/up/c.jpg"]);
    check(&["/*.php"], &[], &["", "a.php"]);
    check(
        &["*.jpg"],
        &["cache"],
        &["", "wp", "wp/up", "wp/up/c.jpg", "wp/up/d", "wp/up/d/e.jpg", "z"],
    );
}

#[test]
fn a_run_that_is_stopped_commits_nothing() {
    let mut lab = Lab::new().unwrap();
    fs::write(lab.root().join("a"), "1").unwrap();
    lab.stop.stop();
    let error = lab.back_up(&lab.job(), false).expect_err("it was stopped");
    assert_eq!(exit_of(&error), Exit::Interrupted, "{error:#}");
}

#[test]
fn a_root_that_is_not_there_is_a_failure_with_advice() {
    let mut lab = Lab::new().unwrap();
    let mut job = lab.job();
    job.root = lab.outside().join("gone");
    let error = lab.back_up(&job, false).expect_err("there is no root");
    assert!(hint_of(&error).is_some_and(|hint| hint.contains("mounted")), "{error:#}");
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_stored() {
    let mut lab = Lab::new().unwrap();
    let mut job = lab.job();
    let unreadable = if rustix::process::geteuid().is_root() {
        // Root can read everything but what has no way to be read.
        job.root = "/sys/bus/cpu".into();
        "drivers_probe"
    } else {
        fs::write(lab.root().join("readable"), "1").unwrap();
        fs::write(lab.root().join("secret"), "1").unwrap();
        fs::set_permissions(
            lab.root().join("secret"),
            std::os::unix::fs::PermissionsExt::from_mode(0o000),
        )
        .unwrap();
        "secret"
    };
    let (summary, report) = lab.back_up(&job, false).unwrap();
    assert_eq!(report.state, SnapshotState::Partial);
    assert_eq!(summary.problems, report.problems.len() as u64);
    assert!(
        report.problems.iter().any(|problem| problem.path == unreadable),
        "{:?}",
        report.problems
    );
    let stored = lab.stored(&report.id).unwrap();
    assert!(!stored.contains_key(unreadable.as_bytes()));
    assert!(stored.values().any(|node| node.kind == Kind::File), "the rest is there");
}

/// All names of problems are in one line of the manifest, which would be too long to be read.
#[test]
fn more_problems_than_can_be_named_are_counted() {
    let mut lab = Lab::new().unwrap();
    let mut dir = OwnedFd::from(fs::File::open(lab.root()).unwrap());
    // The longest directory that a manifest can have, and files that do not fit into it any more.
    let name = "\u{1}".repeat(255);
    for _ in 0..16 {
        mkdirat(&dir, &*name, Mode::RWXU).unwrap();
        dir = openat(&dir, &*name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    for number in 0..1200 {
        openat(&dir, &*format!("{number}"), OFlags::CREATE, Mode::RUSR).unwrap();
    }
    let (summary, report) = lab.back_up(&lab.job(), false).unwrap();
    assert_eq!(summary.problems, 1200);
    let named = report.problems.len() as u64 - 1;
    let last = &report.problems.last().unwrap().what;
    assert!(named > 100 && last.starts_with(&format!("{} more problems", 1200 - named)), "{last}");
    assert_eq!(lab.stored(&report.id).unwrap().len(), 17, "the manifest can be read");
}

#[test]
fn other_file_systems_are_left_out_if_asked_to() {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &str| fs::metadata(path).map(|found| found.dev()).ok();
    if device("/dev/shm").is_none() || device("/dev/shm") == device("/dev") {
        println!("skipped: /dev/shm is no file system of its own here");
        return;
    }
    let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    let name = Path::new("shm").join(file.path().file_name().unwrap());
    let name = name.to_str().unwrap().as_bytes();
    let mut lab = Lab::new().unwrap();
    let mut job = lab.job();
    (job.root, job.include) = ("/dev".into(), vec!["/shm".into()]);
    for one_file_system in [false, true] {
        job.one_file_system = one_file_system;
        let (_, report) = lab.back_up(&job, false).unwrap();
        let stored = lab.stored(&report.id).unwrap();
        assert!(stored.contains_key(b"shm".as_slice()), "the mount point is stored");
        assert_eq!(stored.contains_key(name), !one_file_system);
    }
}
