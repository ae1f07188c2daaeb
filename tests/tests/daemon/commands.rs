//! The commands that work without the daemon: keys, export, show, prune, keep, schedule.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::lab::Lab;

/// A host with two backups and no daemon.
fn with_two_backups() -> (Lab, Vec<String>) {
    let lab = Lab::with_site("");
    let daemon = lab.start();
    lab.ctl(&["now"]).expect(0);
    fs::write(lab.path("www/new.php"), "new").unwrap();
    lab.ctl(&["now"]).expect(0);
    daemon.stop();
    let ids = lab.ids();
    assert_eq!(ids.len(), 2);
    (lab, ids)
}

#[test]
fn a_key_is_never_overwritten_and_opens_what_is_its() {
    let (lab, ids) = with_two_backups();
    let identity = lab.identity();
    let before = fs::read(&identity).unwrap();
    lab.ctl(&["keys", "generate", "-o", &identity]).expect(1).expect_error("never overwritten");
    assert_eq!(fs::read(&identity).unwrap(), before);
    let public = lab.ctl(&["keys", "show", &identity]).expect(0);
    assert!(public.stdout.starts_with("age1") && !public.stdout.contains("SECRET"));
    let opens = format!("vault: OK: opens {}", ids[1]);
    lab.ctl(&["keys", "check", "-i", &identity]).expect(0).expect_out(&opens);
    let other = lab.path("other").to_str().unwrap().to_owned();
    let made = lab.ctl(&["keys", "generate", "-o", &other]).expect(0);
    assert!(!format!("{made:?}").contains("SECRET-KEY"), "{made:?}");
    lab.ctl(&["keys", "check", "-i", &other]).expect(1).expect_out("vault: FAILED");
    lab.ctl(&["show", &ids[0], "-i", &other]).expect(1).expect_error("hint: ");
    lab.ctl(&["show", &ids[0], "-i", "/nowhere"]).expect(2);
}

#[test]
fn a_backup_is_shown_and_exported() {
    let (lab, ids) = with_two_backups();
    let identity = lab.identity();
    let shown = lab.ctl(&["show", &ids[1]]).expect(0).expect_out("files, complete");
    assert!(!shown.stdout.contains("new.php"));
    lab.ctl(&["show", &ids[1], "-i", &identity, "--files"])
        .expect(0)
        .expect_out("/www\n")
        .expect_out("new.php");
    let tar = lab.path("site.tar").to_str().unwrap().to_owned();
    lab.ctl(&["export", &ids[1], "-i", &identity, "-o", &tar]).expect(0).expect_error("3 entries");
    lab.ctl(&["export", &ids[1], "-i", &identity, "-o", &tar]).expect(1).expect_error("exists");
    let target = lab.path("target");
    fs::create_dir(&target).unwrap();
    let unpacked = Command::new("tar").args(["-xf", &tar, "-C"]).arg(&target).status().unwrap();
    assert!(unpacked.success());
    assert_eq!(fs::read_to_string(target.join("new.php")).unwrap(), "new");
    let piped = lab.ctl(&["export", &ids[1], "-i", &identity]).expect(0);
    assert_eq!(piped.stdout.as_bytes(), fs::read(&tar).unwrap());
}

#[test]
fn damage_is_found_without_any_key_and_named() {
    let (lab, ids) = with_two_backups();
    let folders = fs::read_dir(lab.path("depot/pack")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let pack = files.map(|file| file.unwrap().path()).next().unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    let name = pack.file_name().unwrap().to_str().unwrap().to_owned();
    lab.ctl(&["verify", "--quick"]).expect(0);
    lab.ctl(&["verify"]).expect(1).expect_out("DAMAGED").expect_out(&name).expect_out(&ids[1]);
    let identity = lab.identity();
    lab.ctl(&["verify", "--deep", "-i", &identity]).expect(1).expect_out(&name);
}

#[test]
fn only_a_keeper_prunes_and_says_why_first() {
    let (lab, ids) = with_two_backups();
    lab.ctl(&["prune"]).expect(2).expect_error("not the keeper");
    lab.configure("[keeper.default]\nkeep-last = 1\n");
    lab.ctl(&["prune", "--dry-run"])
        .expect(0)
        .expect_out(&format!("goes   {}", ids[0]))
        .expect_out(&format!("stays  {}", ids[1]))
        .expect_out("no rule wants it");
    assert_eq!(lab.ids(), ids);
    lab.ctl(&["keep", &ids[0]]).expect(0).expect_out("is kept in vault");
    lab.ctl(&["prune"]).expect(0).expect_out("2 backups stay, 0 go");
    lab.ctl(&["keep", &ids[0], "--remove"]).expect(0);
    lab.ctl(&["prune"]).expect(0);
    assert_eq!(lab.ids(), ids[1..]);
    lab.ctl(&["verify"]).expect(0);
    lab.ctl(&["keep", &ids[0]]).expect(4);
    // What is there does not stand for what is not.
    lab.ctl(&["verify", &ids[1], &ids[0]]).expect(4).expect_out("vault: OK").expect_error(&ids[0]);
    // There are no jobs here, so that no daemon is missed.
    lab.ctl(&["status"]).expect(0);
}

#[test]
fn a_backup_whose_upload_was_cut_is_not_restorable() {
    let (lab, ids) = with_two_backups();
    let status = lab.ctl(&["status"]);
    assert!(status.stdout.lines().next().unwrap().ends_with("(2 backups)"), "{status:?}");
    let manifest = lab.path(&format!("depot/snapshot/{}.age", ids[1]));
    fs::remove_file(&manifest).unwrap();
    fs::write(&manifest, "").unwrap();
    let status = lab.ctl(&["status"]);
    assert!(status.stdout.lines().next().unwrap().ends_with("(1 backup)"), "{status:?}");
}

/// Moves the arrival of all that is stored, as a clock that jumps makes it look.
fn move_arrivals(dir: &Path, hours: i64) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            move_arrivals(&path, hours);
            continue;
        }
        let file = fs::File::open(&path).unwrap();
        let by = Duration::from_hours(hours.unsigned_abs());
        let time = file.metadata().unwrap().modified().unwrap();
        file.set_modified(if hours < 0 { time - by } else { time + by }).unwrap();
    }
}

#[test]
fn a_clock_far_ahead_or_behind_prunes_nothing_unless_told() {
    let (lab, ids) = with_two_backups();
    lab.configure("[keeper.default]\nkeep-within = '1d'\n");
    for hours in [-8 * 24, 2] {
        move_arrivals(&lab.path("depot"), hours);
        let said = lab.ctl(&["prune", "--json"]).expect(1).expect_error("this host's clock says");
        said.expect_error("\"hint\":\"set the clock").expect_error("`--accept-clock`");
        assert_eq!(lab.ids(), ids);
        lab.ctl(&["prune", "--dry-run"]).expect(0);
        // Back to where it was.
        move_arrivals(&lab.path("depot"), -hours);
    }
    lab.ctl(&["prune"]).expect(0).expect_out("2 backups stay, 0 go");
    move_arrivals(&lab.path("depot"), -8 * 24);
    lab.ctl(&["prune", "--accept-clock"]).expect(0).expect_out(&format!("goes   {}", ids[0]));
    assert_eq!(lab.ids(), ids[1..], "the last good one stays all the same");
    lab.ctl(&["verify"]).expect(0);
}

#[test]
fn the_next_runs_are_told_in_the_zone_of_the_job() {
    let lab = Lab::with_site("schedule = '30 2 * * *'\ntime-zone = 'Europe/Berlin'");
    let said = lab.ctl(&["schedule", "-n", "3"]).expect(0);
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[1].contains(" 02:30 CE"), "{lines:?}");
    let next = lab.ctl(&["schedule", "--json"]).expect(0).json();
    assert_eq!(next[0]["next"].as_array().unwrap().len(), 5);
    lab.configure(&lab.site(""));
    lab.ctl(&["schedule"]).expect(4);
}

#[test]
fn completions_and_manual_pages_cover_every_command() {
    let lab = Lab::with_site("");
    lab.ctl(&["completions", "bash"]).expect(0).expect_out("--no-wait");
    lab.ctl(&["man"]).expect(0).expect_out(".TH backupctl 1");
    let dir = lab.path("man");
    fs::create_dir(&dir).unwrap();
    lab.ctl(&["man", dir.to_str().unwrap()]).expect(0);
    for page in ["backupctl.1", "backupctl-now.1", "backupctl-keys-generate.1"] {
        assert!(dir.join(page).exists(), "{page}");
    }
}
