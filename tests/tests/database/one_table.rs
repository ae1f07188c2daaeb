//! One table out of a backup and into a running server.

use std::fs;
use std::path::Path;

use database::scratch::ScratchServer;
use database::tablespace::{
    ExportedTable, Step, TableName, has_renames, import_steps, is_needed_for,
};
use database::tool::{is_complete, skipped_tablespace};
use tests::servers::mariadb::{MariaDb, Options};

use crate::taken::{Taken, prepare, take, unpack};

const TABLES: &str = "
    CREATE DATABASE shop; USE shop;
    CREATE TABLE other (id INT PRIMARY KEY); INSERT INTO other SELECT seq FROM seq_1_to_1000;
    CREATE TABLE plain (id INT PRIMARY KEY AUTO_INCREMENT, t VARCHAR(100) DEFAULT 'ä€', o INT,
        KEY (t), FOREIGN KEY (o) REFERENCES other (id)) CHARACTER SET utf8mb4;
    INSERT INTO plain (t, o) SELECT MD5(seq), seq FROM seq_1_to_1000;
    CREATE TABLE words (id INT PRIMARY KEY, t TEXT, FULLTEXT KEY `f t` (t));
    INSERT INTO words VALUES (1, 'hello world');
    CREATE TABLE `p.a r` (id INT PRIMARY KEY) PARTITION BY RANGE (id)
        (PARTITION `low-1` VALUES LESS THAN (100), PARTITION high VALUES LESS THAN MAXVALUE);
    INSERT INTO `p.a r` SELECT seq FROM seq_1_to_500;
    CREATE TABLE my (id INT, t TEXT) ENGINE=MyISAM;
    INSERT INTO my SELECT seq, 'x' FROM seq_1_to_100;
    CREATE TABLE ar (id INT, t TEXT) ENGINE=Aria;
    INSERT INTO ar SELECT seq, 'x' FROM seq_1_to_100;
    ";

/// Unpacks and prepares only what one table needs.
fn export(taken: &Taken, table: &TableName, directory: &Path) {
    let seen = unpack(&taken.stream[..], directory, |path| is_needed_for(path, table)).unwrap();
    assert!(!has_renames(seen.files.iter().map(std::path::PathBuf::as_path)));
    prepare(directory, &[], true);
}

/// Does the steps on a server, as a program does them.
fn import(server: &MariaDb, steps: &[Step]) {
    // One session: the statements go to one client, which copies the files where they come.
    let script: String = steps
        .iter()
        .map(|step| match step {
            Step::Sql(statement) => format!("{statement}\n"),
            Step::Copy { from, to } => {
                let to = server.datadir().join(to);
                format!("\\! cp '{}' '{}'\n", from.display(), to.display())
            }
        })
        .collect();
    server.sql(&script).unwrap();
}

#[test]
fn tables_of_every_kind_come_back_under_another_name() {
    let server = MariaDb::start(Options { log_bin: true, ..Options::default() }).unwrap();
    server.sql(TABLES).unwrap();
    let taken = take(&server, None);
    for (table, target) in [
        ("shop.plain", "back.plain"),
        ("shop.words", "back.wörds"),
        ("`shop`.`p.a r`", "back.parts"),
        ("shop.my", "back.my"),
        ("shop.ar", "back.ar"),
    ] {
        let (table, target): (TableName, TableName) =
            (table.parse().unwrap(), target.parse().unwrap());
        let directory = tempfile::tempdir().unwrap();
        export(&taken, &table, directory.path());
        let create = ScratchServer::start("mariadbd".as_ref(), directory.path())
            .and_then(|scratch| scratch.create_statement(&table))
            .unwrap();
        let original = server.query(&format!("SHOW CREATE TABLE {}", table.quoted())).unwrap();
        assert_eq!(without_counter(original.split_once('\t').unwrap().1), without_counter(&create));
        let exported = ExportedTable::find(directory.path(), &table).unwrap();
        import(&server, &import_steps(&exported, &create, &target).unwrap());
        let checksum = |name: &TableName| {
            let line = server.query(&format!("CHECKSUM TABLE {}", name.quoted())).unwrap();
            line.split_once('\t').unwrap().1.to_owned()
        };
        assert_eq!(checksum(&table), checksum(&target), "{table}");
        let check = server.query(&format!("CHECK TABLE {} EXTENDED", target.quoted())).unwrap();
        assert!(check.ends_with("status\tOK"), "{check}");
    }
    let found =
        server.query("SELECT id FROM back.`wörds` WHERE MATCH (t) AGAINST ('hello')").unwrap();
    assert_eq!(found, "1");
    // What was imported is in the next backup.
    let seen =
        unpack(&take(&server, None).stream[..], Path::new("/nonexistent"), |_| false).unwrap();
    for file in ["back/plain", "back/w@1irds", "back/parts#P#low@002d1", "back/parts#P#high"] {
        assert!(
            seen.files.contains(&Path::new(file).with_extension("ibd")),
            "{file} in {:?}",
            seen.files
        );
    }
}

/// A statement without the next value of an AUTO_INCREMENT, which a restart may lower.
fn without_counter(create: &str) -> String {
    let words = create.split(' ').filter(|word| !word.starts_with("AUTO_INCREMENT="));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_table_that_is_not_in_the_backup_is_named() {
    let server = MariaDb::start(Options::default()).unwrap();
    let table: TableName = "shop.none".parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    export(&take(&server, None), &table, directory.path());
    let scratch = ScratchServer::start("mariadbd".as_ref(), directory.path()).unwrap();
    let error = scratch.create_statement(&table).unwrap_err();
    assert!(format!("{error:#}").contains("shop.none"), "{error:#}");
    assert!(ExportedTable::find(directory.path(), &table).is_err());
    drop(scratch);
    fs::remove_file(directory.path().join("ibdata1")).unwrap();
    let error = ScratchServer::start("mariadbd".as_ref(), directory.path()).unwrap_err();
    assert!(format!("{error:#}").contains("ended with"), "{error:#}");
}

/// `mariadb-backup` 10.11 leaves a table out, with a warning and `completed OK!`, if it was imported since the last
/// checkpoint. Should a newer one not do so any more, the table must be in the stream.
#[test]
fn a_table_that_the_tool_leaves_out_is_seen_in_its_log() {
    let server = MariaDb::start(Options { log_bin: true, ..Options::default() }).unwrap();
    server.sql(TABLES).unwrap();
    let table: TableName = "shop.other".parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    export(&take(&server, None), &table, directory.path());
    let exported = ExportedTable::find(directory.path(), &table).unwrap();
    let create = "CREATE TABLE `other` (`id` int(11) NOT NULL, PRIMARY KEY (`id`)) ENGINE=InnoDB";
    let mut steps = import_steps(&exported, create, &"shop.again".parse().unwrap()).unwrap();
    assert!(steps.pop().unwrap().to_string().contains("checkpoint"));
    import(&server, &steps);

    let taken = take(&server, None);
    assert!(taken.is_success && is_complete(&taken.log));
    let skipped: Vec<&str> = taken.log.lines().filter_map(skipped_tablespace).collect();
    let seen = unpack(&taken.stream[..], Path::new("/nonexistent"), |_| false).unwrap();
    let is_there = ["shop/again.ibd", "shop/again.new"]
        .iter()
        .any(|file| seen.files.contains(Path::new(file)));
    assert!(is_there || skipped == ["./shop/again.ibd"], "{skipped:?}");
    assert!(server.datadir().join("./shop/again.ibd").exists());
}
