//! The unit that the package brings, as systemd itself reads it.

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::program::program;

/// In tenths, as `systemd-analyze` counts: 2.6 is what it finds today, 10 is a unit without any protection.
const EXPOSURE_MAX: &str = "30";

/// The unit, with the program where it was built and without the manual, which is not installed.
fn unit(folder: &Path) -> String {
    let packaged = include_str!("../../../backupd/systemd/backupd.service");
    let built = program("backupd").display().to_string();
    let is_kept = |line: &&str| !line.starts_with("Documentation=");
    let text: String = packaged.split_inclusive('\n').filter(is_kept).collect();
    assert!(text.contains("ExecStart=/usr/bin/backupd "), "{text}");
    let path = folder.join("backupd.service");
    fs::write(&path, text.replace("/usr/bin/backupd", &built)).unwrap();
    path.display().to_string()
}

fn analyze(arguments: &[&str]) -> String {
    let output = Command::new("systemd-analyze").args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    // Of a line that it does not know it says so and goes on.
    let said = analyze(&["verify", "--man=no", &unit(folder.path())]);
    assert!(!said.contains("backupd.service"), "{said}");
}

#[test]
fn systemd_finds_the_daemon_little_exposed() {
    let folder = tempfile::tempdir().unwrap();
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    analyze(&["security", "--offline=true", &threshold, &unit(folder.path())]);
}
