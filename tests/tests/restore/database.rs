//! A real MariaDB, backed up with its increments, lost, and started again on what was restored. What the tool
//! writes is put into the depot by the tests, so that nothing is assumed of the program that takes backups.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use database::info::Positions;
use database::tool::BackupTool;
use depot::manifest::SnapshotKind;
use depot::names::SnapshotId;
use depot::writer::{SnapshotWriter, Stamp};
use tests::servers::mariadb::{MariaDb, Options};

use crate::lab::{Lab, entry_path};

/// A server with two tables, and its backups.
pub struct Site {
    pub server: MariaDb,
    pub lab: Lab,
    pub last: Option<(SnapshotId, PathBuf)>,
}

impl Site {
    pub fn new() -> Self {
        Self::with(Options { log_bin: true, ..Options::default() })
    }

    pub fn with(options: Options) -> Self {
        let site = Self { server: MariaDb::start(options).unwrap(), lab: Lab::new(), last: None };
        site.sql("CREATE DATABASE shop");
        site.sql("CREATE TABLE shop.orders (id INT PRIMARY KEY, what VARCHAR(200), KEY (what))");
        site.sql("CREATE TABLE shop.other (id INT PRIMARY KEY)");
        site
    }

    pub fn sql(&self, statement: &str) {
        self.server.sql(statement).unwrap();
    }

    /// A thousand more orders.
    pub fn sell(&self, from: u32) {
        let to = from + 999;
        self.sql(&format!(
            "INSERT INTO shop.orders SELECT seq, CONCAT('order ', seq) FROM shop.seq_{from}_to_{to}; \
             INSERT INTO shop.other VALUES ({from})"
        ));
    }

    /// Does what a report says, on the server itself.
    pub fn import(&self, report: &serde_json::Value) {
        let datadir = self.server.datadir().display().to_string();
        let mut script = String::new();
        for step in report["next-steps"].as_array().unwrap() {
            // This host may have no user mysql.
            let step = step.as_str().unwrap().replace("-o mysql -g mysql", "");
            script.extend([step.replace("DATADIR", &datadir).as_str(), "\n"]);
        }
        // One session: the first statements set variables of it.
        self.sql(&script);
    }

    /// A full backup, or an increment of the last one.
    pub fn back_up(&mut self, increment: bool) -> SnapshotId {
        let parent = self.last.take().filter(|_| increment);
        let name = format!("copy-{}", self.lab.depot.snapshots().unwrap().len());
        let copy = self.lab.path(&name);
        let mut command = Command::new("mariadb-backup");
        let options = self.server.option_file().unwrap();
        command.arg(format!("--defaults-file={}", options.display())).arg("--backup");
        command.arg(format!("--target-dir={}", copy.display()));
        if let Some((_, base)) = &parent {
            command.arg(format!("--incremental-basedir={}", base.display()));
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.trim_end().ends_with("completed OK!"), "{said}");
        let kind = SnapshotKind::Database;
        let mut writer = self.lab.writer("db", kind, parent.map(|(id, _)| id));
        let positions = put_copy(&mut writer, &copy);
        let id = writer.finish(Some(positions)).unwrap().id;
        self.last = Some((id.clone(), copy));
        id
    }
}

/// Puts what the tool wrote; returns where it stands.
pub fn put_copy(writer: &mut SnapshotWriter, copy: &Path) -> serde_json::Value {
    let mut metadata = BTreeMap::new();
    put_dir(writer, copy, copy, &mut metadata);
    let positions = Positions::parse(BackupTool::MariaDb, &metadata).unwrap();
    serde_json::to_value(positions).unwrap()
}

/// Files without attributes and without directories, as from a stream.
fn put_dir(
    writer: &mut SnapshotWriter,
    root: &Path,
    dir: &Path,
    metadata: &mut BTreeMap<String, Vec<u8>>,
) {
    for child in fs::read_dir(dir).unwrap() {
        let path = child.unwrap().path();
        if path.is_dir() {
            put_dir(writer, root, &path, metadata);
            continue;
        }
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let content = fs::read(&path).unwrap();
        let file = writer.open(entry_path(name.as_bytes())).unwrap();
        writer.write(file, &content).unwrap();
        writer.close(file, None, false, Stamp::default()).unwrap();
        if !name.contains('/') && content.len() < 1 << 20 {
            metadata.insert(name, content);
        }
    }
}

pub fn count(server: &MariaDb, table: &str) -> String {
    server.query(&format!("SELECT COUNT(*) FROM {table}")).unwrap().trim().to_owned()
}

#[test]
fn a_server_starts_on_a_chain_of_increments() {
    let mut site = Site::new();
    site.sell(1);
    site.back_up(false);
    site.sell(10_001);
    let middle = site.back_up(true);
    site.sell(20_001);
    site.back_up(true);
    let lab = &site.lab;
    let plan = lab.run(&["--plan", "--job", "db"]).expect(0);
    assert_eq!(plan.stdout.matches("(increment, ").count(), 2, "{}", plan.stdout);
    for (name, which, rows) in [
        ("all", vec!["--latest"], "3000"),
        ("two", vec!["--snapshot", middle.to_string().leak()], "2000"),
    ] {
        let arguments = [&["--target", name, "--prepare", "--json"], &which[..]].concat();
        let report = lab.run(&arguments).expect(0).json();
        assert!(report["next-steps"].to_string().contains("mariadbd"), "{report}");
        assert!(!lab.path(name).join(".increments").exists());
        let restored = MariaDb::start_on(&lab.path(name), Options::default()).unwrap();
        assert_eq!(count(&restored, "shop.orders"), rows);
        restored.query("CHECK TABLE shop.orders, shop.other EXTENDED").unwrap();
    }
}

#[test]
fn without_preparing_the_commands_are_told() {
    let mut site = Site::new();
    site.sell(1);
    site.back_up(false);
    site.sell(10_001);
    site.back_up(true);
    let said = site.lab.run(&["--target", "there"]).expect(0);
    let commands = said.stdout.lines().filter(|line| line.contains("mariadb-backup "));
    assert_eq!(commands.filter(|line| line.contains("--prepare")).count(), 2, "{}", said.stdout);
    assert!(site.lab.path("there/.increments/1/ibdata1.delta").exists());
}

#[test]
fn a_chain_with_a_missing_link_is_refused_before_anything_is_written() {
    let mut site = Site::new();
    site.back_up(false);
    site.sell(1);
    let middle = site.back_up(true);
    site.sell(10_001);
    site.back_up(true);
    fs::remove_file(site.lab.path("depot").join(middle.manifest_object())).unwrap();
    let said = site.lab.run(&["--target", "there"]).expect(1);
    said.expect_error(&format!("builds on {middle}, which is not in the depot"));
    assert!(!site.lab.path("there").exists());
}

#[test]
fn one_table_comes_back_into_a_running_server() {
    let mut site = Site::new();
    site.sell(1);
    site.back_up(false);
    site.sell(10_001);
    site.back_up(true);
    site.sql("DROP TABLE shop.orders");
    let arguments = ["--target", "there", "--table", "shop.orders", "--json"];
    let report = site.lab.run(&arguments).expect(0).json();
    assert!(!site.lab.path("there/shop/other.ibd").exists(), "the other table was not fetched");
    site.import(&report);
    assert_eq!(count(&site.server, "shop.orders"), "2000");
    assert_eq!(count(&site.server, "shop.other"), "2");
    let said = site.lab.run(&["--target", "none", "--table", "shop.nothing"]).expect(4);
    said.expect_error("there is no table shop.nothing");
}

#[test]
fn what_the_tool_says_is_kept_and_its_end_is_shown_when_it_fails() {
    let mut site = Site::new();
    site.back_up(false);
    site.lab.run(&["--target", "good", "--prepare"]).expect(0);
    let log = fs::read_to_string(site.lab.path("good.prepare.log")).unwrap();
    assert!(log.trim_end().ends_with("completed OK!"), "{log}");
    let (_, copy) = site.last.take().unwrap();
    fs::write(copy.join("ibdata1"), vec![7; 1 << 20]).unwrap();
    let mut writer = site.lab.writer("db", SnapshotKind::Database, None);
    let positions = put_copy(&mut writer, &copy);
    writer.finish(Some(positions)).unwrap();
    let said = site.lab.run(&["--target", "spoilt", "--prepare"]).expect(1);
    said.expect_error("did not prepare the backup").expect_error("hint: ");
    assert!(site.lab.path("spoilt/.restore-unfinished").exists());
}
