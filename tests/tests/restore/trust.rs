//! What a backup, its name or the place around a target may try: settings that are read as root, a time in the
//! future, a log that is a link.

use std::fs;
use std::os::unix::fs::symlink;

use depot::manifest::SnapshotKind;
use tests::servers::mariadb::{MariaDb, Options};

use crate::database::{Site, count, put_copy};
use crate::lab::{Lab, put_file};
use tests::program::Said;

/// A backup whose settings do all that settings can do.
fn hostile(site: &mut Site) {
    site.back_up(false);
    let (_, copy) = site.last.take().unwrap();
    let settings = copy.join("backup-my.cnf");
    let marks = site.lab.path("");
    let marks = marks.display();
    let init = site.lab.path("init.sql");
    fs::write(&init, format!("SELECT 1 INTO OUTFILE '{marks}/init-ran';\n")).unwrap();
    let text = fs::read_to_string(&settings).unwrap();
    let traps = format!(
        "init_file={}\ngeneral_log=1\ngeneral_log_file={marks}/general-log\nlog_error={marks}/error-log\n\
         plugin_dir={marks}\nplugin_load_add=none_such.so\ninnodb_undo_directory={marks}/undo\n\
         !include {marks}/more.cnf\n[mariadbd]\ninit_file={}\n[mariadb-backup]\nredirect={marks}\n",
        init.display(),
        init.display()
    );
    fs::write(site.lab.path("more.cnf"), "[mysqld]\nport=1\n").unwrap();
    fs::write(&settings, text.replace("innodb_undo_directory=./\n", "") + &traps).unwrap();
    let mut writer = site.lab.writer("db", SnapshotKind::Database, None);
    let positions = put_copy(&mut writer, &copy);
    writer.finish(Some(positions)).unwrap();
}

#[test]
fn settings_of_a_backup_are_not_obeyed() {
    let mut site = Site::new();
    site.sell(1);
    hostile(&mut site);
    let lab = &site.lab;
    for (target, arguments) in [("one", vec!["--table", "shop.orders"]), ("all", vec!["--prepare"])]
    {
        let said = lab.run(&[&["--target", target], &arguments[..]].concat()).expect(0);
        for name in ["init-file", "general-log-file", "plugin-load-add", "plugin-dir", "!include"] {
            assert!(said.stdout.contains(name), "{name} in {}", said.stdout);
        }
        let said = said.expect_error("which no tool writes there");
        assert!(!said.stdout.contains("could not be asked"), "{}", said.stdout);
        let settings = fs::read_to_string(lab.path(target).join("backup-my.cnf")).unwrap();
        assert!(settings.contains("innodb_page_size=16384"), "{settings}");
        assert!(!settings.contains("init_file") && !settings.contains('!'), "{settings}");
        assert!(settings.contains("innodb_undo_directory=./\n"), "{settings}");
    }
    for mark in ["init-ran", "general-log", "error-log", "undo"] {
        assert!(!lab.path(mark).exists(), "{mark}");
    }
    let said = lab.run(&["--target", "told", "--json"]).expect(0);
    assert!(said.stdout.contains("look at it before"), "{}", said.stdout);
    let restored = MariaDb::start_on(&lab.path("all"), Options::default()).unwrap();
    assert_eq!(count(&restored, "shop.orders"), "1000");
}

#[test]
fn the_printed_commands_start_a_server_with_another_layout() {
    let extra = vec!["--innodb-data-file-path=ibdata1:12M;ibdata2:12M:autoextend".to_owned()];
    let mut site = Site::with(Options { log_bin: true, extra, ..Options::default() });
    site.sell(1);
    site.back_up(false);
    let said = site.lab.run(&["--target", "there", "--prepare", "--json"]).expect(0);
    let report = said.json();
    let steps = report["next-steps"].as_array().unwrap();
    let steps: Vec<&str> = steps.iter().map(|step| step.as_str().unwrap()).collect();
    assert!(steps.iter().any(|step| step.starts_with("chown -R mysql:mysql ")), "{steps:?}");
    let start = steps.iter().find(|step| step.starts_with("mariadbd ")).unwrap();
    // This host may have no user mysql. The server reads statements and ends.
    let start = start.replace("--user=mysql", "--user=root --bootstrap");
    let script =
        format!("echo 'SELECT COUNT(*) INTO OUTFILE \"rows\" FROM shop.orders;' | {start}");
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let rows = site.lab.path("there/rows");
    assert_eq!(fs::read_to_string(rows).unwrap_or_default().trim(), "1000", "{output:?}");
}

#[test]
fn the_log_of_the_tool_is_not_written_through_a_link() {
    let mut site = Site::new();
    site.back_up(false);
    let log = site.lab.path("there.prepare.log");
    let precious = site.lab.path("precious");
    fs::write(&precious, "precious").unwrap();
    symlink(&precious, &log).unwrap();
    let arguments = ["--target", "there", "--prepare"];
    site.lab.run(&arguments).expect(1).expect_error("symbolic link").expect_error("hint: ");
    fs::remove_file(&log).unwrap();
    fs::hard_link(&precious, &log).unwrap();
    site.lab.run(&arguments).expect(1).expect_error("this name alone");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    fs::remove_file(&log).unwrap();
    site.lab.run(&arguments).expect(0);
}

#[test]
fn a_backup_dated_in_the_future_is_not_the_newest() {
    let mut lab = Lab::new();
    lab.back_up_with(|writer| put_file(writer, "file", b"good"));
    lab.time = chrono::Utc::now() + chrono::TimeDelta::days(400);
    let future = lab.back_up_with(|writer| put_file(writer, "file", b"from the future"));
    let content = |target: &str| fs::read_to_string(lab.path(target).join("file")).unwrap();
    let said = lab.run(&["--target", "latest"]).expect(0);
    said.expect_error(&format!("{future} is passed over"));
    assert_eq!(content("latest"), "good");
    lab.run(&["--target", "named", "--snapshot", &future.to_string()]).expect(0);
    assert_eq!(content("named"), "from the future");
    let said = lab.run(&["--plan", "--snapshot", &future.to_string()]).expect(0);
    assert!(said.stdout.contains("ahead of this host's clock"), "{}", said.stdout);
    let recover = crate::by_hand::recover(&lab, &["--target", "by-hand"]);
    assert_eq!((recover.expect(0), content("by-hand")).1, "good");
}

#[test]
fn a_path_that_matches_nothing_is_named() {
    let mut lab = Lab::new();
    lab.back_up_with(|writer| {
        put_file(writer, "dir/one", b"1");
        put_file(writer, "two", b"2");
    });
    let paths = ["--path", "dir", "--path", "twoo", "--path", "*.jpg"];
    let check = |said: Said| {
        let said = said.expect(3);
        assert!(said.stdout.contains("nothing in the backup matches: 2"), "{}", said.stdout);
        assert!(said.stdout.contains("twoo") && said.stdout.contains("*.jpg"), "{}", said.stdout);
    };
    check(lab.run(&[&["--plan"], &paths[..]].concat()));
    check(lab.run(&[&["--target", "there"], &paths[..]].concat()));
    assert!(lab.path("there/dir/one").exists() && !lab.path("there/two").exists());
    lab.run(&["--target", "whole", "--path", "dir", "--path", "t*"]).expect(0);
}
