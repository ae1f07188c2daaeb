//! A depot that is not as it should be: named with the files that it hurts, and the rest still restored.

use std::fs;

use tests::tree::Dice;

use crate::lab::{Lab, put_file, spoil};

/// Content that does not compress and is different in each file.
fn content(number: u64) -> Vec<u8> {
    Dice::new(number).bytes(200_000)
}

const FILES: u64 = 30;

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.back_up_with(|writer| {
        for number in 0..FILES {
            put_file(writer, &format!("file-{number:02}"), &content(number));
        }
    });
    assert!(lab.packs().len() > 3, "several packs make it interesting");
    lab
}

/// How many files are as they were.
fn whole(lab: &Lab, target: &str) -> u64 {
    let is_whole = |number: &u64| {
        let path = lab.path(target).join(format!("file-{number:02}"));
        fs::read(path).is_ok_and(|found| found == content(*number))
    };
    (0..FILES).filter(is_whole).count() as u64
}

#[test]
fn a_missing_pack_is_found_before_anything_is_written() {
    let lab = lab();
    let pack = lab.packs().remove(1);
    let name = pack.file_name().unwrap().to_str().unwrap().to_owned();
    fs::remove_file(&pack).unwrap();
    let said = lab.run(&["--target", "there"]).expect(1);
    said.expect_error(&name).expect_error("it is missing").expect_error("it hurts file-");
    lab.run(&["--plan"]).expect(1).expect_error(&name);
    assert!(!lab.path("there").exists());
    let said = lab.run(&["--target", "there", "--keep-going", "--json"]).expect(3);
    let report = said.json();
    let hurt = report["damage"][0]["files"].as_array().unwrap().len() as u64;
    assert_eq!(report["damage"][0]["pack"], name.as_str());
    assert_eq!(whole(&lab, "there"), FILES - hurt, "all others are whole");
    assert!(hurt < FILES / 2);
}

#[test]
fn a_pack_that_was_cut_short_is_as_good_as_missing() {
    let lab = lab();
    spoil(&lab.packs()[0], |bytes| bytes.truncate(bytes.len() / 2));
    lab.run(&["--target", "there"]).expect(1).expect_error("bytes, not");
    lab.run(&["--target", "there", "--keep-going"]).expect(3);
    assert!(whole(&lab, "there") > FILES / 2);
}

#[test]
fn one_flipped_bit_hurts_only_what_is_near_it() {
    let lab = lab();
    let pack = lab.packs().remove(2);
    spoil(&pack, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let name = pack.file_name().unwrap().to_str().unwrap().to_owned();
    let said = lab.run(&["--target", "there"]).expect(1);
    said.expect_error(&name).expect_error("it hurts file-").expect_error("--keep-going");
    // The target is unfinished, and the same command takes the rest.
    let said = lab.run(&["--target", "there", "--keep-going", "--json"]).expect(3);
    let report = said.json();
    let hurt = report["damage"][0]["files"].as_array().unwrap().len() as u64;
    assert!((1..=3).contains(&hurt), "{report}");
    assert_eq!(whole(&lab, "there"), FILES - hurt);
}

#[test]
fn a_whole_candidate_is_taken_for_a_torn_object() {
    let lab = lab();
    for pack in [&lab.packs()[0], &lab.packs()[1]] {
        fs::copy(pack, pack.with_extension("1")).unwrap();
        spoil(pack, |bytes| bytes.truncate(10));
    }
    lab.run(&["--target", "there"]).expect(0);
    assert_eq!(whole(&lab, "there"), FILES);
}

#[test]
fn a_candidate_is_found_after_the_torn_object_was_collected() {
    let lab = lab();
    let pack = lab.packs().remove(0);
    fs::rename(&pack, pack.with_extension("1")).unwrap();
    lab.run(&["--target", "there"]).expect(0);
    assert_eq!(whole(&lab, "there"), FILES);
}

#[test]
fn the_wrong_key_or_none_is_told_with_advice() {
    let lab = lab();
    let (secret, _) = depot::crypt::generate_identity();
    fs::write(lab.path("key.txt"), secret.expose()).unwrap();
    let said = lab.run(&["--target", "there"]).expect(1);
    said.expect_error("none of the identities opens this backup").expect_error("hint: ");
    fs::write(lab.path("key.txt"), "this is no key").unwrap();
    lab.run(&["--target", "there"]).expect(2).expect_error("is not an identity file");
    fs::remove_file(lab.path("key.txt")).unwrap();
    lab.run(&["--target", "there"]).expect(2).expect_error("backupctl keys generate");
    assert!(!lab.path("there").exists());
}

#[test]
fn a_manifest_that_was_cut_or_changed_is_refused() {
    let lab = lab();
    let manifest = fs::read_dir(lab.path("depot/snapshot")).unwrap();
    let manifest =
        manifest.map(|entry| entry.unwrap().path()).find(|path| path.extension().unwrap() == "age");
    let manifest = manifest.unwrap();
    spoil(&manifest, |bytes| {
        let last = bytes.len() - 20;
        bytes[last] ^= 1;
    });
    lab.run(&["--target", "there"]).expect(1).expect_error("manifest");
    // As an upload leaves it that was cut: at some byte, or before the first.
    for length in [30, 0] {
        spoil(&manifest, |bytes| bytes.truncate(length));
        let said = lab.run(&["--target", "there"]).expect(1).expect_error("its upload was cut");
        said.expect_error("hint: take an older backup with `--snapshot ID`");
    }
    assert!(!lab.path("there").exists());
}

#[test]
fn a_place_that_is_no_depot_is_told() {
    let lab = Lab::new();
    fs::remove_file(lab.path("depot/depot.toml")).unwrap();
    lab.run(&["--target", "there"]).expect(1).expect_error("there is no depot here");
    fs::write(lab.path("depot/depot.toml"), "format = 2\nid = \"x\"\ncreated = \"y\"\n").unwrap();
    lab.run(&["--target", "there"]).expect(1).expect_error("the depot has format 2");
}
