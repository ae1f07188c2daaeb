//! Backups of a real MariaDB through the daemon: whole, in chains, under statements that change tables meanwhile, and
//! restored so that a server starts on the result.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::servers::mariadb::{MariaDb, Options};

use super::lab::Lab;

const ACCOUNT: &str = "CREATE USER b@localhost IDENTIFIED BY 'pw'; \
     GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR ON *.* TO b@localhost;";

/// A server with a table of some thousand rows and an account for backups.
pub fn server() -> MariaDb {
    let server = MariaDb::start(Options { log_bin: true, ..Options::default() }).unwrap();
    server
        .sql(&format!(
            "{ACCOUNT} CREATE DATABASE shop; USE shop; CREATE TABLE shop.t (id INT AUTO_INCREMENT PRIMARY KEY, \
             v VARCHAR(200)); INSERT INTO shop.t (v) SELECT REPEAT('x', 150) FROM seq_1_to_5000;"
        ))
        .unwrap();
    server
}

/// The tables of the job `db`.
pub fn job(server: &MariaDb, lines: &str) -> String {
    let file = server.option_file_for("b", "pw").unwrap();
    format!(
        "[jobs.db.database]\ntool = 'mariadb-backup'\noption-file = '{}'\n{lines}\n",
        file.display()
    )
}

/// Unpacks backups with `backupctl export` and `tar`, prepares them, and returns the directory.
fn restored(lab: &Lab, name: &str, ids: &[&str]) -> PathBuf {
    let base = lab.path(name);
    for (number, id) in ids.iter().enumerate() {
        let dir = if number == 0 { base.clone() } else { lab.path(&format!("{name}-{number}")) };
        unpack(lab, id, &dir);
        let mut prepare = Command::new("mariadb-backup");
        prepare.arg("--prepare").arg(format!("--target-dir={}", base.display()));
        if number > 0 {
            prepare.arg(format!("--incremental-dir={}", dir.display()));
        }
        let output = prepare.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    base
}

fn unpack(lab: &Lab, id: &str, dir: &Path) {
    fs::create_dir(dir).unwrap();
    let tar = lab.path(&format!("{id}.tar"));
    lab.ctl(&["export", id, "-i", &lab.identity(), "-o", tar.to_str().unwrap()]).expect(0);
    let status = Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(dir).status().unwrap();
    assert!(status.success());
}

fn rows(lab: &Lab) -> Vec<Value> {
    lab.ctl(&["list", "--json", "--job", "db"]).expect(0).json().as_array().unwrap().clone()
}

#[test]
fn a_server_is_checked_backed_up_and_starts_on_what_was_restored() {
    let server = server();
    let lab = Lab::new("");
    lab.configure(&job(&server, ""));
    lab.ctl(&["check"])
        .expect(0)
        .expect_out("job db: grants ... OK")
        .expect_out("job db: tool fits server ... OK");
    let _daemon = lab.start();
    lab.ctl(&["now"]).expect(0).expect_out("db: done in ");
    server.sql("UPDATE shop.t SET v = 'changed' WHERE id = 7").unwrap();
    lab.ctl(&["now"]).expect(0);
    let found = rows(&lab);
    let (first, second) = (&found[0], &found[1]);
    assert_eq!(
        (second["kind"].as_str(), second["state"].as_str()),
        (Some("database"), Some("complete"))
    );
    let stored = |row: &Value| row["stored"].as_u64().unwrap();
    assert!(stored(second) * 5 < stored(first), "{first} {second}");
    let id = second["id"].as_str().unwrap();
    let position = server.query("SELECT @@gtid_binlog_pos").unwrap();
    lab.ctl(&["show", id, "-i", &lab.identity()])
        .expect(0)
        .expect_out(&format!("gtid: {position}"))
        .expect_out("kind: full");
    lab.ctl(&["verify", "--deep", "-i", &lab.identity()]).expect(0);
    let dir = restored(&lab, "restored", &[id]);
    let copy = MariaDb::start_on(&dir, Options::default()).unwrap();
    assert_eq!(copy.query("SELECT COUNT(*), MIN(v) FROM shop.t").unwrap(), "5000\tchanged");
    assert!(copy.query("CHECK TABLE shop.t").unwrap().ends_with("OK"));
}

#[test]
fn an_lsn_chain_grows_is_checked_and_starts_over_when_it_is_broken() {
    let server = server();
    let lab = Lab::new("");
    lab.configure(&job(&server, "mode = 'lsn'\nfull-every = '7d'"));
    let daemon = lab.start();
    for change in ["'first'", "'second'"] {
        lab.ctl(&["now"]).expect(0);
        server.sql(&format!("UPDATE shop.t SET v = {change} WHERE id = 9")).unwrap();
    }
    lab.ctl(&["now"]).expect(0);
    let found = rows(&lab);
    let ids: Vec<&str> = found.iter().map(|row| row["id"].as_str().unwrap()).collect();
    let parents: Vec<Option<&str>> = found.iter().map(|row| row["parent"].as_str()).collect();
    assert_eq!(parents, [None, Some(ids[0]), Some(ids[1])]);
    lab.ctl(&["list"]).expect(0).expect_out("increment");
    let dir = restored(&lab, "chain", &ids);
    let copy = MariaDb::start_on(&dir, Options::default()).unwrap();
    assert_eq!(copy.query("SELECT v FROM shop.t WHERE id = 9").unwrap(), "second");
    assert!(copy.query("CHECK TABLE shop.t").unwrap().ends_with("OK"));
    drop(copy);

    lab.ctl(&["now", "--full"]).expect(0);
    assert!(rows(&lab)[3]["parent"].is_null());
    // Somebody deletes the full backup: nothing may build on it any more.
    let full = rows(&lab)[3]["id"].as_str().unwrap().to_owned();
    fs::remove_file(lab.path(&format!("depot/snapshot/{full}.age"))).unwrap();
    lab.ctl(&["now"]).expect(0);
    assert!(rows(&lab).last().unwrap()["parent"].is_null());
    assert!(daemon.log().contains("a depot does not have the whole chain"), "{}", daemon.log());
}

#[test]
fn statements_that_change_tables_meanwhile_do_not_spoil_a_backup() {
    let server = server();
    let lab = Lab::new("");
    lab.configure(&job(&server, ""));
    let _daemon = lab.start();
    let stop = lab.path("stop");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.exists() {
                number += 1;
                change_tables(&server, number);
            }
        });
        let said: Vec<_> = (0..6).map(|_| lab.ctl(&["now"])).collect();
        fs::write(&stop, "").unwrap();
        for said in said {
            said.expect(0);
        }
    });
    let last = rows(&lab).pop().unwrap();
    let dir = restored(&lab, "restored", &[last["id"].as_str().unwrap()]);
    let copy = MariaDb::start_on(&dir, Options::default()).unwrap();
    assert_eq!(copy.query("SELECT COUNT(*) FROM shop.t").unwrap(), "5000");
    let tables = copy.query("SHOW TABLES IN shop").unwrap();
    for table in tables.lines() {
        let checked = copy.query(&format!("CHECK TABLE shop.{table}")).unwrap();
        assert!(checked.ends_with("OK"), "{checked}");
    }
}

fn change_tables(server: &MariaDb, number: u32) {
    for engine in ["InnoDB", "Aria", "MyISAM"] {
        let (name, other) = (format!("shop.{engine}{number}"), format!("shop.r{engine}{number}"));
        let statements = format!(
            "CREATE TABLE {name} (id INT) ENGINE={engine}; INSERT INTO {name} VALUES (1); \
             ALTER TABLE {name} ADD v INT, ALGORITHM=COPY; RENAME TABLE {name} TO {other}; \
             TRUNCATE {other}; DROP TABLE {other};"
        );
        server.sql(&statements).unwrap();
    }
}

#[test]
fn a_wrong_password_and_a_server_that_is_down_are_told_apart() {
    let mut server = server();
    let lab = Lab::new("");
    lab.configure(&job(&server, ""));
    server.option_file_for("b", "wrong").unwrap();
    let _daemon = lab.start();
    lab.ctl(&["now"])
        .expect(1)
        .expect_error("Access denied")
        .expect_error("hint: check user and password");
    lab.ctl(&["check"]).expect(1).expect_out("job db: server ... FAILED");
    server.option_file_for("b", "pw").unwrap();
    server.sql("REVOKE LOCK TABLES ON *.* FROM b@localhost").unwrap();
    lab.ctl(&["check"]).expect(1).expect_out("job db: grants ... FAILED").expect_out("LOCK TABLES");
    server.stop().unwrap();
    lab.ctl(&["now"]).expect(1).expect_error("hint: check that the server runs");
    lab.ctl(&["list"]).expect(4);
}
