//! Trees that do not hold still while they are backed up, by accident or on purpose.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use chassis::progress::Progress;
use depot::manifest::SnapshotState;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tests::tree::{Dice, describe, differences};

use crate::lab::Lab;

/// So large that something can be done while it is read.
const LARGE: usize = 48 << 20;

/// Waits until the first bytes were read.
fn wait_for_reading(progress: &Progress) {
    while progress.snapshot().bytes_done == 0 {
        thread::sleep(Duration::from_micros(200));
    }
}

fn lab_with_large_file() -> Lab {
    let lab = Lab::new().expect("make lab");
    fs::write(lab.root().join("large"), Dice::new(7).bytes(LARGE)).expect("write large file");
    lab
}

#[test]
fn a_file_that_changes_once_is_read_again_and_stored_as_it_is() {
    let mut lab = lab_with_large_file();
    let (progress, path) = (Arc::clone(&lab.progress), lab.root().join("large"));
    let changer = thread::spawn(move || {
        wait_for_reading(&progress);
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(b"changed at the beginning", 0).unwrap();
        file.write_all_at(b"changed at the end", LARGE as u64 - 100).unwrap();
    });
    let (summary, report) = lab.back_up(&lab.job(), false).unwrap();
    changer.join().unwrap();
    assert_eq!(report.state, SnapshotState::Complete, "{:?}", report.problems);
    assert_eq!(summary.files_read, 1);
    assert!(lab.progress.snapshot().bytes_done > LARGE as u64, "it was read more than once");
    let found = differences(&describe(&lab.root()).unwrap(), &lab.stored(&report.id).unwrap());
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_file_that_never_holds_still_is_stored_and_named() {
    let mut lab = lab_with_large_file();
    fs::write(lab.root().join("quiet"), "quiet").unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let (done, path) = (Arc::clone(&done), lab.root().join("large"));
        move || {
            let mut file = File::options().append(true).open(path).unwrap();
            while !done.load(Ordering::Relaxed) {
                file.write_all(b"one more line\n").unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let result = lab.back_up(&lab.job(), false);
    done.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    let (_, report) = result.unwrap();
    assert_eq!(report.state, SnapshotState::Partial);
    let named: Vec<_> = report.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(named, ["large"]);
    let stored = lab.stored(&report.id).unwrap();
    assert!(stored[b"large".as_slice()].size >= LARGE as u64, "it is stored as it was read last");
    assert!(stored.contains_key(b"quiet".as_slice()));

    let (again, report) = lab.back_up(&lab.job(), false).unwrap();
    assert!(again.files_read >= 1, "what did not hold still is read by the next run");
    assert_eq!(report.state, SnapshotState::Complete);
    let found = differences(&describe(&lab.root()).unwrap(), &lab.stored(&report.id).unwrap());
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn what_vanishes_after_it_was_listed_is_no_problem() {
    let mut lab = lab_with_large_file();
    let (progress, root) = (Arc::clone(&lab.progress), lab.root());
    fs::write(root.join("z-file"), "1").unwrap();
    fs::create_dir(root.join("z-folder")).unwrap();
    symlink("x", root.join("z-link")).unwrap();
    let remover = thread::spawn(move || {
        wait_for_reading(&progress);
        fs::remove_file(root.join("z-file")).unwrap();
        fs::remove_dir(root.join("z-folder")).unwrap();
        fs::remove_file(root.join("z-link")).unwrap();
    });
    let (summary, report) = lab.back_up(&lab.job(), false).unwrap();
    remover.join().unwrap();
    assert_eq!(report.state, SnapshotState::Complete, "{:?}", report.problems);
    assert_eq!(summary.vanished, 3);
    let [mut source, mut stored] =
        [describe(&lab.root()).unwrap(), lab.stored(&report.id).unwrap()];
    // The root was stored before its entries vanished: its time is an earlier one.
    for tree in [&mut source, &mut stored] {
        tree.remove(b"".as_slice()).unwrap();
    }
    let found = differences(&source, &stored);
    assert!(found.is_empty(), "{found:?}");
}

/// The owner of a web root could let root's backup read any file for him, if a path were followed.
#[test]
fn a_directory_swapped_for_a_link_leads_nowhere() {
    let mut lab = Lab::new().unwrap();
    let (root, secrets) = (lab.root(), lab.outside().join("secrets"));
    fs::create_dir(&secrets).unwrap();
    fs::write(secrets.join("file"), "secret").unwrap();
    for number in 0..20 {
        let (folder, link) =
            (root.join(format!("folder{number}")), root.join(format!("link{number}")));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("file"), "mine").unwrap();
        symlink(&secrets, link).unwrap();
    }
    let done = Arc::new(AtomicBool::new(false));
    let swapper = thread::spawn({
        let (done, root) = (Arc::clone(&done), root.clone());
        move || {
            let mut swaps = 0;
            while !done.load(Ordering::Relaxed) {
                for number in 0..20 {
                    let (folder, link) =
                        (root.join(format!("folder{number}")), root.join(format!("link{number}")));
                    renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                    swaps += 1;
                }
            }
            swaps
        }
    });
    let reports: Vec<_> = (0..20).map(|_| lab.back_up(&lab.job(), true)).collect();
    done.store(true, Ordering::Relaxed);
    let swaps = swapper.join().unwrap();
    assert!(swaps > 1000, "only {swaps} swaps");
    for report in reports {
        let stored = lab.stored(&report.unwrap().1.id).unwrap();
        for (path, node) in stored.iter().filter(|(path, _)| path.ends_with(b"/file")) {
            assert_eq!(node.size, 4, "{:?} is the secret", String::from_utf8_lossy(path));
        }
    }
}
