//! The backup tool dies, hangs, or lies: there is never a backup then.
//!
//! The real tool runs behind a script of its name that spoils what it does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::database::{job, server};
use super::lab::{Daemon, Lab};

/// Puts a script before the tool. In it, `$REAL "$@"` is the tool; asking for the version always works.
fn spoil(lab: &Lab, script: &str) {
    let bin = lab.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let real = real_tool();
    let text = format!(
        "#!/bin/bash\nREAL={}\n[ \"$1\" = --version ] && exec $REAL --version\n{script}\n",
        real.display()
    );
    let path = bin.join("mariadb-backup");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn real_tool() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|dir| dir.join("mariadb-backup"))
        .find(|path| path.exists())
        .expect("the package mariadb-backup is installed")
}

fn start(lab: &Lab) -> Daemon {
    let before = lab.path("bin");
    let path = std::env::var_os("PATH").unwrap();
    let dirs: Vec<PathBuf> = std::iter::once(before).chain(std::env::split_paths(&path)).collect();
    let path = std::env::join_paths(dirs).unwrap();
    lab.start_with(&lab.path("backupd.toml"), &[("PATH", path.as_ref())])
}

#[test]
fn whatever_the_tool_does_wrong_there_is_no_backup_and_the_log_is_shown() {
    let server = server();
    let lab = Lab::new("");
    lab.configure(&job(&server, "stall-timeout = '2s'"));
    spoil(&lab, "exec $REAL \"$@\"");
    let _daemon = start(&lab);
    lab.ctl(&["now"]).expect(0);

    let cases = [
        ("$REAL \"$@\"; exit 3", "ended with exit status: 3"),
        ("$REAL \"$@\" 2>&1 >&3 3>&- | sed 's/completed OK!/all is well/' >&2", "completed OK!"),
        ("$REAL \"$@\" | head -c 3000000; exit 0", "stream"),
        ("$REAL \"$@\" | tail -c +1000; exit 0", "stream"),
        ("$REAL \"$@\" | head -c 3000000; kill -9 $$", "signal: 9"),
        ("$REAL \"$@\" | head -c 3000000; exec sleep 600", "silent for 2.0 s"),
        ("exec >&-; exec sleep 600", ""),
        ("echo 'Access denied for user b' >&2; exit 1", "hint: check user and password"),
        ("exit 0", "completed OK!"),
        ("echo 'completed OK!' >&2", "left out"),
    ];
    for (script, words) in cases {
        spoil(&lab, &format!("exec 3>&1\n{script}"));
        let said = lab.ctl(&["now"]);
        assert_eq!(said.code, 1, "{script}: {said:?}");
        said.expect_error(words);
        assert_eq!(lab.ids().len(), 1, "{script}");
    }
    spoil(&lab, "exec $REAL \"$@\"");
    lab.ctl(&["now"]).expect(0);
    lab.ctl(&["verify"]).expect(0);
    assert_eq!(lab.ids().len(), 2);
}

#[test]
fn a_missing_tool_is_named_with_its_package() {
    let server = server();
    let lab = Lab::new("");
    lab.configure(&job(&server, ""));
    let empty = lab.path("empty");
    fs::create_dir(&empty).unwrap();
    let _daemon = lab.start_with(&lab.path("backupd.toml"), &[("PATH", &empty)]);
    lab.ctl(&["now"])
        .expect(1)
        .expect_error("there is no mariadb-backup in PATH")
        .expect_error("hint: install the package mariadb-backup");
}
