//! Recovery without this software: the script and the commands of `docs/recover-by-hand.md`, as they are
//! written there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use depot::manifest::EntryKind;
use tests::tree::{Dice, describe, differences, make};

use crate::lab::{Lab, entry, put_file, spoil};
use tests::program::Said;

const SEED: u64 = 42;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

pub fn recover(lab: &Lab, arguments: &[&str]) -> Said {
    let mut command = Command::new("python3");
    command.arg(docs().join("recover.py")).arg(lab.path("depot"));
    command.arg("--identity").arg(lab.path("key.txt")).args(arguments);
    Said::of(&command.current_dir(lab.path("")).output().unwrap())
}

#[test]
fn the_script_brings_a_tree_back_in_every_detail() {
    let mut lab = Lab::new();
    println!("seed {SEED}");
    make(&lab.tree(), SEED).unwrap();
    lab.back_up();
    recover(&lab, &["--latest", "--target", "there"]).expect(0);
    let found =
        differences(&describe(&lab.tree()).unwrap(), &describe(&lab.path("there")).unwrap());
    assert!(found.is_empty(), "{found:#?}");
    recover(&lab, &["--target", "there"]).expect(2).expect_error("is not empty");
}

#[test]
fn the_script_takes_whole_candidates_and_names_what_is_lost() {
    let mut lab = Lab::new();
    let content = |number: u64| Dice::new(number).bytes(300_000);
    lab.back_up_with(|writer| {
        for number in 0..20 {
            put_file(writer, &format!("file-{number:02}"), &content(number));
        }
    });
    let packs = lab.packs();
    fs::copy(&packs[0], packs[0].with_extension("1")).unwrap();
    spoil(&packs[0], |bytes| bytes.truncate(100));
    recover(&lab, &["--target", "first"]).expect(0);
    spoil(&packs[1], |bytes| bytes[1000] ^= 1);
    fs::remove_file(&packs[2]).unwrap();
    let said = recover(&lab, &["--target", "second"]).expect(3);
    let lost: Vec<&str> = said.stderr.lines().filter(|line| line.contains("not whole")).collect();
    for number in 0..20 {
        let name = format!("file-{number:02}");
        assert_eq!(fs::read(lab.path("first").join(&name)).unwrap(), content(number));
        let is_whole = fs::read(lab.path("second").join(&name)).unwrap() == content(number);
        let is_named = lost.iter().any(|line| line.contains(&name));
        assert_ne!(is_whole, is_named, "{name}: {lost:?}");
    }
}

#[test]
fn the_script_restores_parts_and_refuses_traps() {
    let mut lab = Lab::new();
    lab.back_up_with(|writer| {
        put_file(writer, "a/one", b"1");
        put_file(writer, "a/two", b"2");
        put_file(writer, "three", b"3");
    });
    recover(&lab, &["--target", "part", "--path", "a/one", "--path", "thr*"]).expect(0);
    assert!(lab.path("part/a/one").exists() && lab.path("part/three").exists());
    assert!(!lab.path("part/a/two").exists());
    fs::create_dir(lab.path("outside")).unwrap();
    lab.back_up_with(|writer| {
        writer.add(entry("a", EntryKind::Symlink, Some("../outside"))).unwrap();
        put_file(writer, "a/passwd", b"x");
    });
    recover(&lab, &["--target", "trap"]).expect(1).expect_error("unsafe path");
    assert_eq!(fs::read_dir(lab.path("outside")).unwrap().count(), 0);
    let said = recover(&lab, &["--list"]).expect(0);
    assert_eq!(said.stdout.lines().count(), 2);
}

#[test]
fn the_commands_of_the_page_bring_a_file_back() {
    let mut lab = Lab::new();
    let mut content = Dice::new(SEED).text(300_000);
    content.resize(900_000, 0);
    content.extend(Dice::new(SEED).bytes(400_001));
    lab.back_up_with(|writer| {
        put_file(writer, "before", &Dice::new(1).bytes(1_500_000));
        put_file(writer, "dir/wanted file", &content);
    });
    let id = lab.depot.snapshots().unwrap().pop().unwrap().id;
    let page = fs::read_to_string(docs().join("recover-by-hand.md")).unwrap();
    let script = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).env("DEPOT", lab.path("depot")).env("KEY", lab.path("key.txt"));
    command.env("ID", id.to_string()).env("FILE", "dir/wanted file").current_dir(lab.path(""));
    Said::of(&command.output().unwrap()).expect(0);
    assert_eq!(fs::read(lab.path("recovered")).unwrap(), content);
}
