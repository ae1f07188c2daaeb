//! Single tables out of chains in which a name has not always meant the same table, and whole databases that are
//! prepared beside something else, twice, or by half.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use depot::manifest::SnapshotKind;
use tests::servers::mariadb::{MariaDb, Options};

use crate::database::{Site, count, put_copy};

/// Checksum and number of rows, as the server tells them.
fn checksum(server: &MariaDb, table: &str) -> String {
    let line = server.query(&format!("CHECKSUM TABLE {table}")).unwrap();
    format!("{} {}", line.split_once('\t').unwrap().1.trim(), count(server, table))
}

/// So that the increment after it has changed pages only, and no record of what was renamed.
fn checkpoint(site: &Site) {
    site.sql("SET GLOBAL innodb_log_checkpoint_now = ON");
}

/// Restores one table of the chain and compares it with what the server has, then brings it back.
fn assert_comes_back(site: &Site, table: &str, target: &str) {
    let expected = checksum(&site.server, table);
    let said = site.lab.run(&["--target", target, "--table", table, "--json"]).expect(0);
    site.sql(&format!("SET foreign_key_checks = 0; DROP TABLE {table}"));
    // A strict server must take a table that was made on a lenient one.
    site.sql("SET GLOBAL sql_mode = 'TRADITIONAL,ANSI_QUOTES'");
    site.import(&said.json());
    site.sql("SET GLOBAL sql_mode = DEFAULT");
    assert_eq!(checksum(&site.server, table), expected, "{table}");
    let check = site.server.query(&format!("CHECK TABLE {table} EXTENDED")).unwrap();
    assert!(check.trim_end().ends_with("status\tOK"), "{check}");
}

#[test]
fn a_table_that_was_renamed_between_two_backups_comes_back_whole() {
    let mut site = Site::new();
    site.sell(1);
    checkpoint(&site);
    site.back_up(false);
    site.sql("RENAME TABLE shop.orders TO shop.sold");
    site.sql("INSERT INTO shop.sold VALUES (100001, 'after')");
    checkpoint(&site);
    site.back_up(true);
    assert_comes_back(&site, "shop.sold", "there");
}

#[test]
fn a_table_that_took_the_name_of_another_comes_back_whole() {
    let mut site = Site::new();
    site.sell(1);
    site.sql("CREATE TABLE shop.next LIKE shop.orders");
    site.sql("INSERT INTO shop.next SELECT id, REVERSE(what) FROM shop.orders");
    checkpoint(&site);
    site.back_up(false);
    site.sql("RENAME TABLE shop.orders TO shop.past, shop.next TO shop.orders");
    site.sql("INSERT INTO shop.orders VALUES (100001, 'after')");
    checkpoint(&site);
    site.back_up(true);
    assert_comes_back(&site, "shop.orders", "there");
}

#[test]
fn a_table_that_was_rebuilt_between_two_backups_comes_back_whole() {
    let mut site = Site::new();
    site.sell(1);
    checkpoint(&site);
    site.back_up(false);
    site.sql("ALTER TABLE shop.orders FORCE, ALGORITHM = COPY");
    site.sell(10_001);
    checkpoint(&site);
    site.back_up(true);
    assert_comes_back(&site, "shop.orders", "there");
}

#[test]
fn a_table_with_odd_defaults_and_triggers_comes_back_into_a_strict_server() {
    let mut site = Site::new();
    site.sql(
        "SET sql_mode = ''; CREATE TABLE shop.old (id INT PRIMARY KEY, \
         d DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00', t VARCHAR(20) DEFAULT 'ä€') \
         CHARACTER SET utf8mb4; INSERT INTO shop.old (id) VALUES (1); \
         CREATE TRIGGER shop.each BEFORE INSERT ON shop.old FOR EACH ROW SET NEW.t = 'x'",
    );
    site.sql("CREATE TABLE shop.my (id INT) ENGINE=MyISAM; INSERT INTO shop.my VALUES (1), (2)");
    site.sql("CREATE TRIGGER shop.my_each BEFORE INSERT ON shop.my FOR EACH ROW SET NEW.id = 1");
    site.back_up(false);
    for (table, target) in [("shop.old", "old"), ("shop.my", "my")] {
        assert_comes_back(&site, table, target);
        let said = site.lab.run(&["--target", &format!("{target}-again"), "--table", table]);
        let text = said.expect(0).stdout;
        assert!(text.contains(&format!("{table} has triggers")), "{text}");
        assert!(!text.contains(".TRG"), "{text}");
    }
}

#[test]
fn a_table_that_is_not_there_is_named_before_anything_is_fetched() {
    let mut site = Site::new();
    site.back_up(false);
    site.sql("DROP TABLE shop.other");
    checkpoint(&site);
    site.back_up(true);
    for table in ["shop.nothing", "shop.other"] {
        let said = site.lab.run(&["--target", "there", "--table", table]).expect(4);
        said.expect_error(&format!("there is no table {table}"));
        assert!(!site.lab.path("there").exists());
    }
}

#[test]
fn an_increment_that_names_no_parent_is_not_taken_for_a_full_backup() {
    let mut site = Site::new();
    site.back_up(false);
    site.sell(1);
    site.back_up(true);
    let (_, copy) = site.last.take().unwrap();
    let mut writer = site.lab.writer("orphan", SnapshotKind::Database, None);
    let positions = put_copy(&mut writer, &copy);
    writer.finish(Some(positions)).unwrap();
    let said = site.lab.run(&["--target", "there", "--job", "orphan", "--prepare"]).expect(1);
    said.expect_error("has only changes").expect_error("hint: ");
    assert!(!site.lab.path("there").exists());
}

#[test]
fn a_database_is_not_prepared_beside_other_files() {
    let mut site = Site::new();
    site.sell(1);
    site.back_up(false);
    fs::create_dir_all(site.lab.path("there/shop")).unwrap();
    fs::write(site.lab.path("there/shop/foreign.ibd"), "x").unwrap();
    let arguments = ["--target", "there", "--prepare", "--delta"];
    let said = site.lab.run(&arguments).expect(2);
    said.expect_error("beside other files").expect_error("--delete");
    site.lab.run(&[&arguments[..], &["--delete"]].concat()).expect(0);
    assert!(!site.lab.path("there/shop/foreign.ibd").exists());
}

#[test]
fn what_an_interrupted_preparation_left_is_gone_when_it_is_repeated() {
    let mut site = Site::new();
    site.sell(1);
    let id = site.back_up(false);
    fs::create_dir_all(site.lab.path("there/shop")).unwrap();
    // As a tool leaves it that has renamed a table.
    fs::write(site.lab.path("there/shop/renamed.ibd"), "x").unwrap();
    let marker = serde_json::json!({
        "note": "", "snapshot": id, "selection": ["`shop`.`orders`"], "owned": true,
        "started": "2025-11-23T02:00:00Z",
    });
    fs::write(site.lab.path("there/.restore-unfinished"), marker.to_string()).unwrap();
    let arguments = ["--target", "there", "--table", "shop.orders", "--json"];
    let report = site.lab.run(&arguments).expect(0).json();
    assert_eq!(report["found"], "unfinished");
    assert!(!site.lab.path("there/shop/renamed.ibd").exists());
}

/// A tool of that name, first in the search path, that waits for a pipe before it does what it is there for.
fn slow_tool(dir: &Path) -> String {
    fs::create_dir(dir).unwrap();
    let pipe = dir.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let tool = dir.join("mariadb-backup");
    let path = std::env::var("PATH").unwrap();
    let script = format!(
        "#!/bin/sh\nPATH='{path}'\ncase \"$*\" in *--prepare*)\n  touch '{0}/begun'\n  read -r word < '{1}';;\n\
         esac\nexec mariadb-backup \"$@\"\n",
        dir.display(),
        pipe.display()
    );
    fs::write(&tool, script).unwrap();
    fs::set_permissions(&tool, PermissionsExt::from_mode(0o755)).unwrap();
    format!("{}:{path}", dir.display())
}

#[test]
fn a_tool_that_outlives_its_restore_keeps_the_target() {
    let mut site = Site::new();
    site.sell(1);
    site.back_up(false);
    let dir = site.lab.path("tools");
    let path = slow_tool(&dir);
    let arguments = ["--target", "there", "--prepare"];
    let mut command = site.lab.command(&arguments);
    let mut killed =
        command.env("PATH", path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !dir.join("begun").exists() {
        assert!(killed.try_wait().unwrap().is_none(), "it ended before the tool began");
        thread::sleep(Duration::from_millis(10));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    site.lab.run(&arguments).expect(5).expect_error("another restore works in");
    fs::write(dir.join("pipe"), "go\n").unwrap();
    let mut code = 5;
    while code == 5 {
        thread::sleep(Duration::from_millis(50));
        code = site.lab.run(&arguments).code;
    }
    assert_eq!(code, 0);
    let restored = MariaDb::start_on(&site.lab.path("there"), Options::default()).unwrap();
    assert_eq!(count(&restored, "shop.orders"), "1000");
}
