//! What is restored is what was backed up: whole, in part, and into a directory that has something already.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use tests::tree::{describe, differences, make};

use crate::lab::Lab;

const SEED: u64 = 20_261_123;

fn assert_same(left: &Path, right: &Path) {
    let found = differences(&describe(left).unwrap(), &describe(right).unwrap());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_tree_of_everything_comes_back_in_every_detail() {
    let mut lab = Lab::new();
    println!("seed {SEED}");
    make(&lab.tree(), SEED).unwrap();
    lab.back_up();
    let said = lab.run(&["--target", "new/target", "--json"]).expect(0);
    assert_same(&lab.tree(), &lab.path("new/target"));
    assert_eq!(said.json()["found"], "new");
    // Again, over itself: nothing is fetched.
    let said = lab.run(&["--target", "new/target", "--delta", "--json"]).expect(0);
    let report = said.json();
    assert_eq!(report["extra"].as_array().unwrap().len(), 0);
    assert_same(&lab.tree(), &lab.path("new/target"));
}

#[test]
fn only_a_new_or_empty_target_is_taken() {
    let mut lab = Lab::new();
    fs::write(lab.tree().join("file"), "content").unwrap();
    lab.back_up();
    fs::create_dir(lab.path("full")).unwrap();
    fs::write(lab.path("full/mine"), "mine").unwrap();
    lab.run(&["--target", "full"]).expect(2).expect_error("is not empty").expect_error("--delta");
    lab.run(&["--target", "key.txt"]).expect(2).expect_error("is not a directory");
    lab.run(&[]).expect(2).expect_error("no target is named");
    assert_eq!(fs::read(lab.path("full/mine")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(lab.path("full")).unwrap().count(), 1);
    fs::create_dir(lab.path("empty")).unwrap();
    lab.run(&["--target", "empty"]).expect(0);
    assert_eq!(fs::read(lab.path("empty/file")).unwrap(), b"content");
}

#[test]
fn a_delta_fetches_what_differs_and_leaves_or_removes_the_rest() {
    let mut lab = Lab::new();
    let big: Vec<u8> = (0..4_000_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    fs::write(lab.tree().join("big"), &big).unwrap();
    fs::write(lab.tree().join("zeros"), vec![0; 300_000]).unwrap();
    fs::create_dir(lab.tree().join("dir")).unwrap();
    fs::write(lab.tree().join("dir/file"), "in the backup").unwrap();
    symlink("big", lab.tree().join("link")).unwrap();
    lab.back_up();
    lab.run(&["--target", "there"]).expect(0);
    let there = lab.path("there");
    let mut changed = big.clone();
    changed[5_000_000] ^= 1;
    changed.extend_from_slice(b"longer");
    fs::write(there.join("big"), &changed).unwrap();
    fs::write(there.join("zeros"), vec![1; 500_000]).unwrap();
    fs::remove_file(there.join("dir/file")).unwrap();
    fs::remove_file(there.join("link")).unwrap();
    fs::write(there.join("link"), "a file in its place").unwrap();
    fs::write(there.join("dir/extra"), "mine").unwrap();
    let said = lab.run(&["--target", "there", "--delta", "--json"]).expect(0);
    let report = said.json();
    assert!(report["bytes-fetched"].as_u64().unwrap() < 200_000, "{report}");
    assert_eq!(report["extra"], serde_json::json!(["dir/extra"]));
    let said = lab.run(&["--target", "there", "--delta", "--delete", "--json"]).expect(0);
    assert_eq!(said.json()["deleted"], serde_json::json!(["dir/extra"]));
    assert_same(&lab.tree(), &there);
}

#[test]
fn a_delta_does_not_write_through_further_names_of_a_file() {
    let mut lab = Lab::new();
    fs::write(lab.tree().join("file"), "from the backup").unwrap();
    lab.back_up();
    fs::write(lab.path("precious"), "outside").unwrap();
    fs::create_dir(lab.path("there")).unwrap();
    fs::hard_link(lab.path("precious"), lab.path("there/file")).unwrap();
    lab.run(&["--target", "there", "--delta"]).expect(0);
    assert_eq!(fs::read(lab.path("precious")).unwrap(), b"outside");
    assert_eq!(fs::read(lab.path("there/file")).unwrap(), b"from the backup");
}

#[test]
fn paths_are_chosen_by_name_folder_and_pattern() {
    let mut lab = Lab::new();
    for dir in ["a/b", "c"] {
        fs::create_dir_all(lab.tree().join(dir)).unwrap();
    }
    for file in ["a/one.jpg", "a/b/two.jpg", "a/b/three.txt", "c/four.jpg", "five.txt"] {
        fs::write(lab.tree().join(file), file).unwrap();
    }
    fs::hard_link(lab.tree().join("a/one.jpg"), lab.tree().join("c/one-too.jpg")).unwrap();
    lab.back_up();
    let restored = |name: &str, arguments: &[&str]| {
        lab.run(&[&["--target", name], arguments].concat()).expect(0);
        let tree = describe(&lab.path(name)).unwrap();
        let files = tree.into_iter().filter(|(_, node)| node.size > 0);
        files.map(|(path, _)| String::from_utf8(path).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(restored("1", &["--path", "a/b"]), ["a/b/three.txt", "a/b/two.jpg"]);
    assert_eq!(
        restored("2", &["--path", "**/t*.jpg", "--path", "five.txt"]),
        ["a/b/two.jpg", "five.txt"]
    );
    // One name of a file with two: whichever came first in the backup, its content is there.
    assert_eq!(restored("3", &["--path", "a/one.jpg"]), ["a/one.jpg"]);
    assert_eq!(restored("4", &["--path", "c/one-too.jpg"]), ["c/one-too.jpg"]);
    assert_eq!(fs::read(lab.path("4/c/one-too.jpg")).unwrap(), b"a/one.jpg");
    lab.run(&["--target", "5", "--path", "nowhere"])
        .expect(4)
        .expect_error("nothing in the backup");
    assert!(!lab.path("5").exists(), "nothing is made for nothing");
}

#[test]
fn backups_are_chosen_by_time_job_and_id() {
    let mut lab = Lab::new();
    let mut ids = Vec::new();
    for content in ["one", "two", "three"] {
        fs::write(lab.tree().join("file"), content).unwrap();
        ids.push(lab.back_up());
    }
    let restored = |name: &str, arguments: &[&str]| {
        lab.run(&[&["--target", name], arguments].concat()).expect(0);
        fs::read_to_string(lab.path(name).join("file")).unwrap()
    };
    assert_eq!(restored("1", &[]), "three");
    assert_eq!(restored("2", &["--latest", "--job", "site"]), "three");
    assert_eq!(restored("3", &["--at", "2025-11-23 04:30:00 UTC"]), "two");
    assert_eq!(restored("4", &["--snapshot", &ids[0].to_string()]), "one");
    let error = lab.run(&["--target", "5", "--at", "2025-11-01"]).expect(4);
    error.expect_error("there are 3 from 2025-11-23T03:00:00Z");
    lab.run(&["--target", "5", "--job", "mail"]).expect(4);
    lab.run(&["--target", "5", "--at", "sometime"]).expect(2).expect_error("yesterday 03:00");
    assert!(!lab.path("5").exists());
}

#[test]
fn a_plan_says_what_would_be_done_and_needs_no_key() {
    let mut lab = Lab::new();
    fs::write(lab.tree().join("file"), vec![7; 100_000]).unwrap();
    let id = lab.back_up();
    let said = lab.run(&["--plan", "--target", "there"]).expect(0);
    assert!(
        said.stdout.contains(&id.to_string()) && said.stdout.contains("there (new)"),
        "{}",
        said.stdout
    );
    let mut without = lab.command(&["--plan", "--json"]);
    let arguments: Vec<_> = without.get_args().map(ToOwned::to_owned).collect();
    without = std::process::Command::new(without.get_program());
    // Depot first, then the key with its option, then the rest.
    without.args(&arguments[..2]).args(&arguments[4..]);
    let plan = tests::program::Said::of(&without.output().unwrap()).expect(0).json();
    assert_eq!(plan["bytes"], 100_000);
    assert_eq!(plan["links"][0]["entries"], serde_json::Value::Null);
    assert!(!lab.path("there").exists(), "a plan writes nothing");
}

#[test]
fn root_gives_files_their_owners_and_others_keep_them() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut lab = Lab::new();
    fs::write(lab.tree().join("file"), "x").unwrap();
    std::os::unix::fs::chown(lab.tree().join("file"), Some(4711), Some(4712)).unwrap();
    lab.back_up();
    lab.run(&["--target", "owned"]).expect(0);
    lab.run(&["--target", "mine", "--no-owner"]).expect(0);
    let owner = |path: &str| {
        let metadata = fs::metadata(lab.path(path)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!(owner("owned/file"), (4711, 4712));
    assert_eq!(owner("mine/file"), (0, 0));
}

#[test]
fn completions_and_the_manual_are_there() {
    let lab = Lab::new();
    let program = lab.command(&[]).get_program().to_owned();
    for arguments in [&["completions", "bash"][..], &["man"], &["--help"]] {
        let output = std::process::Command::new(&program).args(arguments).output().unwrap();
        let said = tests::program::Said::of(&output).expect(0);
        assert!(said.stdout.contains("keep-going") || said.stdout.contains("keep\\-going"));
    }
}
