//! Names of files, compared with what the server makes of them.

use database::filename::{filename_to_tablename, tablename_to_filename};
use tests::servers::mariadb::{MariaDb, Options};

#[test]
fn every_character_becomes_the_file_name_that_the_server_makes() {
    let server = MariaDb::start(Options::default()).unwrap();
    let query = "SELECT seq, CAST(CONVERT(CAST(CONVERT(CHAR(seq USING utf16) USING utf8mb3)
        AS CHAR CHARACTER SET utf8mb3) USING filename) AS BINARY) FROM seq_1_to_65535
        WHERE seq NOT BETWEEN 55296 AND 57343";
    let rows = server.query(&format!("CREATE DATABASE d; USE d; {query}")).unwrap();
    let mut count = 0;
    for row in rows.lines() {
        let (code, filename) = row.split_once('\t').unwrap();
        let name = char::from_u32(code.parse().unwrap()).unwrap().to_string();
        assert_eq!(tablename_to_filename(&name).as_deref(), Some(filename), "U+{code}");
        count += 1;
    }
    assert_eq!(count, 65_535 - 2048);
}

#[test]
fn tables_with_odd_names_have_the_files_that_we_say() {
    let server = MariaDb::start(Options::default()).unwrap();
    let names = [
        "plain",
        "a.b",
        "with space",
        "Ünï-cödé",
        "表",
        "con",
        "Aux",
        "com1",
        "x@y",
        "a`b",
        "#hash",
        "'q\"",
        "a\\b",
        "Ӽ",
    ];
    for name in names {
        let quoted = name.replace('`', "``");
        server
            .sql(&format!(
                "CREATE DATABASE `d{quoted}`; CREATE TABLE `d{quoted}`.`{quoted}` (id INT)"
            ))
            .unwrap();
        let directory = tablename_to_filename(&format!("d{name}")).unwrap();
        let file = tablename_to_filename(name).unwrap();
        let path = server.datadir().join(directory).join(format!("{file}.ibd"));
        assert!(path.exists(), "{name}: {path:?}");
        assert_eq!(filename_to_tablename(&file), name);
    }
}
