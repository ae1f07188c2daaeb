//! What people read when their configuration is wrong: file, key or line, what is wrong, and a hint. And that the
//! examples of the documentation are right.

#![expect(
    clippy::unwrap_used,
    clippy::needless_raw_string_hashes,
    reason = "the helpers are parts of tests; snapshots are written by `SNAPSHOTS=overwrite`"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use snapbox::data::Inline;
use snapbox::{IntoData, assert_data_eq, str};

#[path = "config/keeper.rs"]
mod keeper;
#[path = "config/log.rs"]
mod log;
#[path = "config/start.rs"]
mod start;

const BACKUPD: &str = env!("CARGO_BIN_EXE_backupd");
const RECIPIENT: &str = "age17svgq3hlj2tpxn04hg9lwpltznsp5pyjf888qd93pvw6yyzf89zq38puf3";

/// Checks a configuration with the program itself; returns its exit code and what it said.
fn said(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("backupd.toml"), text).unwrap();
    let output = Command::new(BACKUPD)
        .args(["--config", "backupd.toml", "--check"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let code = output.status.code().unwrap();
    format!("exit {code}\n{}", String::from_utf8(output.stderr).unwrap())
}

#[track_caller]
fn check(text: &str, expected: Inline) {
    // Raw: a backslash is meant as it is.
    assert_data_eq!(said(text), expected.raw());
}

/// A configuration that is right, but for what is added to its job.
fn job(lines: &str) -> String {
    whole(&format!("[jobs.site]\n{lines}\n[jobs.site.files]\nroot = '/var/www'\n"))
}

/// A configuration that is right, but for what is added.
fn whole(tables: &str) -> String {
    let depot = "[depots.vault.directory]\npath = '/srv/depot'\n";
    format!("host = 'web1'\nrecipients = ['{RECIPIENT}']\n{depot}{tables}")
}

fn database(lines: &str) -> String {
    let tool = "tool = 'mariadb-backup'\noption-file = '/etc/my.cnf'";
    whole(&format!("[jobs.db.database]\n{tool}\n{lines}\n"))
}

#[test]
fn a_right_configuration_is_taken_without_a_word() {
    check(
        &job("schedule = '@daily'\ntime-zone = 'Europe/Berlin'"),
        str![[r#"
exit 0

"#]],
    );
    check(
        &database("mode = 'lsn'\nfull-every = '7d'"),
        str![[r#"
exit 0

"#]],
    );
    check(
        "host = 'log1'\n[depots.v.directory]\npath = '/d'\n[keeper.default]\ndaily = 7",
        str![[r#"
exit 0

"#]],
    );
}

#[test]
fn what_the_file_says_wrongly_is_shown_with_line_and_caret() {
    check(
        &job("shedule = '@daily'"),
        str![[r#"
exit 2
error: backupd.toml:6:1: unknown field `shedule`
  |
6 | shedule = '@daily'
  | ^^^^^^^
hint: did you mean `schedule`?

"#]],
    );
    check(
        &job("deadline = 3600"),
        str![[r#"
exit 2
error: backupd.toml:6:12: invalid type: integer `3600`, expected a duration with its unit such as "15m"
  |
6 | deadline = 3600
  |            ^^^^

"#]],
    );
    check(
        &job("time-zone = 'Berlin'"),
        str![[r#"
exit 2
error: backupd.toml:6:13: `Berlin` is not a time zone: write `UTC` or such as `Europe/Berlin`
  |
6 | time-zone = 'Berlin'
  |             ^^^^^^^^

"#]],
    );
    check(
        "host = 'Web 1'",
        str![[r#"
exit 2
error: backupd.toml:1:8: `Web 1` is not a name: only a-z, 0-9, `.`, `_` and `-` are allowed
  |
1 | host = 'Web 1'
  |        ^^^^^^^

"#]],
    );
    check(
        &whole("[jobs.'My Site'.files]\nroot = '/x'"),
        str![[r#"
exit 2
error: backupd.toml:5:7: `My Site` is not a name: only a-z, 0-9, `.`, `_` and `-` are allowed
  |
5 | [jobs.'My Site'.files]
  |       ^^^^^^^^^

"#]],
    );
    check(
        "host = 'web1",
        str![[r#"
exit 2
error: backupd.toml:1:13: invalid literal string, expected `'`
  |
1 | host = 'web1
  |             ^

"#]],
    );
}

#[test]
fn a_bad_schedule_names_its_field() {
    check(
        &job("schedule = '15 25 * * *'"),
        str![[r#"
exit 2
error: backupd.toml:6:12: schedule `15 25 * * *`: hour: `25` is not one
  |
6 | schedule = '15 25 * * *'
  |            ^^^^^^^^^^^^^
hint: hour is a number from 0 to 23

"#]],
    );
    check(
        &job("schedule = 'every day'"),
        str![[r#"
exit 2
error: backupd.toml:6:12: schedule `every day`: 2 fields instead of five
  |
6 | schedule = 'every day'
  |            ^^^^^^^^^^^
hint: write minute, hour, day of month, month and day of week, such as `30 2 * * *`

"#]],
    );
}

#[test]
fn depots_are_looked_up() {
    check(
        &job("depots = ['valt']"),
        str![[r#"
exit 2
error: backupd.toml:6:10: jobs.site.depots: no depot is called `valt`
  |
6 | depots = ['valt']
  |          ^^^^^^^^
hint: did you mean `vault`?

"#]],
    );
    check(
        &job("depots = ['vault', 'vault']"),
        str![[r#"
exit 2
error: backupd.toml:6:10: jobs.site.depots: `vault` is named twice
  |
6 | depots = ['vault', 'vault']
  |          ^^^^^^^^^^^^^^^^^^
hint: name it once

"#]],
    );
    check(
        &job("depots = []"),
        str![[r#"
exit 2
error: backupd.toml:6:10: jobs.site.depots: is empty
  |
6 | depots = []
  |          ^^
hint: leave the key out for all depots

"#]],
    );
}

#[test]
fn a_depot_is_in_one_place() {
    check(
        "host = 'web1'\n[jobs.site.files]\nroot = '/x'",
        str![[r#"
exit 2
error: backupd.toml: depots: there is none, and jobs need one
hint: add a table such as `[depots.vault.directory]`

"#]],
    );
    check(
        &whole("[depots.b]\nupload-limit = '1MiB'"),
        str![[r#"
exit 2
error: backupd.toml:5:9: depots.b: says nowhere where the depot is
  |
5 | [depots.b]
  |         ^
hint: add a table `[depots.b.directory]`, `.sftp` or `.s3`

"#]],
    );
    check(
        &whole("[depots.vault.s3]\nbucket = 'b'\nregion = 'x'"),
        str![[r#"
exit 2
error: backupd.toml:3:9: depots.vault: is in more than one place
  |
3 | [depots.vault.directory]
  |         ^^^^^
hint: give each place a depot of its own; a job may name several

"#]],
    );
}

#[test]
fn somebody_must_be_able_to_read_the_backups() {
    let depot = "[depots.v.directory]\npath = '/d'\n[jobs.site.files]\nroot = '/x'";
    check(
        &format!("host = 'web1'\n{depot}"),
        str![[r#"
exit 2
error: backupd.toml: recipients: there is none: nobody could ever read a backup
hint: run `backupctl keys generate` on a safe host, and put the public key here

"#]],
    );
    check(
        &format!("host = 'web1'\nrecipients = ['age1nonsense']\n{depot}"),
        str![[r#"
exit 2
error: backupd.toml:2:14: recipients: recipient `age1nonsense` is not valid: invalid Bech32 encoding
  |
2 | recipients = ['age1nonsense']
  |              ^^^^^^^^^^^^^^^^
hint: check it for typing errors

"#]],
    );
    check(
        &format!("host = 'web1'\nrecipients-file = 'nowhere'\n{depot}"),
        str![[r#"
exit 2
error: backupd.toml: recipients: read recipients from `nowhere`: No such file or directory (os error 2)
hint: a file of recipients has one public key a line, `age1...` or `ssh-ed25519 ...`

"#]],
    );
}

#[test]
fn a_job_has_one_source() {
    check(
        &whole("[jobs.site]\nschedule = '@daily'"),
        str![[r#"
exit 2
error: backupd.toml:5:7: jobs.site: says nowhere what to back up
  |
5 | [jobs.site]
  |       ^^^^
hint: add one of `[jobs.site.files]`, `.database` or `.log`

"#]],
    );
    let two = "[jobs.site.database]\ntool = 'mariadb-backup'\noption-file = '/o'";
    check(
        &format!("{}{two}", job("")),
        str![[r#"
exit 2
error: backupd.toml:5:7: jobs.site: has two sources
  |
5 | [jobs.site]
  |       ^^^^
hint: keep one of `[jobs.site.files]`, `.database` or `.log`; make a second job for the other

"#]],
    );
}

#[test]
fn limits_and_paths_are_checked() {
    check(
        &job("deadline = '3d'"),
        str![[r#"
exit 2
error: backupd.toml:6:12: jobs.site.deadline: 3days is not allowed
  |
6 | deadline = '3d'
  |            ^^^^
hint: at most 48h: the keeper spares what a run refers to for 72 hours

"#]],
    );
    check(
        &job("before = ['systemctl', 'stop', 'x']"),
        str![[r#"
exit 2
error: backupd.toml:6:10: jobs.site.before: `systemctl` is not an absolute path
  |
6 | before = ['systemctl', 'stop', 'x']
  |          ^^^^^^^^^^^^^^^^^^^^^^^^^^
hint: name the program with its path; there is no shell: `["/bin/sh", "-c", ...]`

"#]],
    );
    check(
        &whole("[jobs.site.files]\nroot = 'www'"),
        str![[r#"
exit 2
error: backupd.toml:6:8: jobs.site.files.root: `www` is not an absolute path
  |
6 | root = 'www'
  |        ^^^^^
hint: begin it with `/`: a daemon has no directory of its own

"#]],
    );
    check(
        &whole("[jobs.site.files]\nroot = '/www'\nexclude = ['a[']"),
        str![[r#"
exit 2
error: backupd.toml:7:11: jobs.site.files.exclude: pattern `a[` is not valid: unclosed character class; missing ']'
  |
7 | exclude = ['a[']
  |           ^^^^^^
hint: write `\` before a special character that is meant as it is

"#]],
    );
}

#[test]
fn what_a_database_job_says_is_checked() {
    check(
        &database("parallel = 0"),
        str![[r#"
exit 2
error: backupd.toml:8:12: jobs.db.database.parallel: 0 is not allowed
  |
8 | parallel = 0
  |            ^
hint: 1 to 64 threads

"#]],
    );
    check(
        &database("full-every = '7d'"),
        str![[r#"
exit 2
error: backupd.toml:8:14: jobs.db.database.full-every: has no meaning with `mode = "blocks"`
  |
8 | full-every = '7d'
  |              ^^^^
hint: every backup of that mode is a full one; leave it out, or use `mode = "lsn"`

"#]],
    );
    check(
        &database("extra-args = ['--password=secret']"),
        str![[r#"
exit 2
error: backupd.toml:8:14: jobs.db.database.extra-args: option --password cannot be passed on
  |
8 | extra-args = ['--password=secret']
  |              ^^^^^^^^^^^^^^^^^^^^^
hint: only long options that neither change where the backup goes nor hold a secret can be

"#]],
    );
}

#[test]
fn a_missing_file_is_a_matter_of_usage() {
    let output = Command::new(BACKUPD).args(["--config", "/nowhere.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_data_eq!(
        String::from_utf8(output.stderr).unwrap(),
        str![[r#"
error: read configuration /nowhere.toml: No such file or directory (os error 2)
hint: create the file, or name the one that you mean

"#]]
    );
}

#[test]
fn the_examples_of_the_documentation_are_right() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&examples).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    assert!(paths.len() >= 3, "{paths:?}");
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        // Examples of another program are for its own test.
        if text.contains("\n[depots.") || text.contains("\n[jobs.") {
            assert_eq!(said(&text), "exit 0\n", "{name}");
        }
    }
}
