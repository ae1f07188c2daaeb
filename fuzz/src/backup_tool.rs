//! What the backup tools write beside the data, and the option files that they and we read.

use std::collections::BTreeMap;
use std::fs;

use chassis::failure::{Exit, exit_of};
use database::info::Positions;
use database::options::OptionFile;
use database::tool::BackupTool;

use crate::memory::{BASE, within};

/// Metadata files in their old names; the parts of an input, divided by [`DIVIDER`], are their contents.
const FILES: [&str; 4] = [
    "xtrabackup_checkpoints",
    "xtrabackup_info",
    "xtrabackup_binlog_info",
    "xtrabackup_galera_info",
];
/// No text in UTF-8 has it.
const DIVIDER: u8 = 0xff;

/// Four metadata files.
pub fn metadata(data: &[u8]) {
    let parts = data.split(|byte| *byte == DIVIDER).map(<[u8]>::to_vec);
    let old: BTreeMap<String, Vec<u8>> = FILES.map(str::to_owned).into_iter().zip(parts).collect();
    let limit = 8 * data.len() + BASE;
    let found = within(limit, || Positions::parse(BackupTool::MariaDb, &old));
    let renamed = old.into_iter().map(|(k, v)| (k.replace("xtrabackup", "mariadb_backup"), v));
    let new: BTreeMap<_, _> = renamed.collect();
    let found_new = Positions::parse(BackupTool::MariaDb, &new);
    let Ok(positions) = found else {
        return assert!(found_new.is_err(), "it is read under its new name");
    };
    assert_eq!(found_new.ok().as_ref(), Some(&positions), "it is another under its new name");
    let json = serde_json::to_string(&positions).expect("plain data is JSON");
    let read: Positions = serde_json::from_str(&json).expect("it was written by us");
    assert_eq!(read, positions);
    assert!(positions.from_lsn <= positions.to_lsn);
    assert!(positions.binlog.is_none_or(|binlog| !binlog.file.contains('/')));
    let _ = read.check_parent(&read);
}

/// An option file, and behind a zero byte one that it may include under the name `more.cnf`.
pub fn option_file(data: &[u8]) {
    let dir = tempfile::tempdir().expect("make a directory");
    let mut parts = data.splitn(2, |byte| *byte == 0);
    for name in ["my.cnf", "more.cnf"] {
        let text = parts.next().unwrap_or_default();
        fs::write(dir.path().join(name), text).expect("write a file");
    }
    let path = dir.path().join("my.cnf");
    for tool in [BackupTool::MariaDb, BackupTool::Percona] {
        match within(16 * data.len() + BASE, || OptionFile::read(&path, tool)) {
            Ok(options) => {
                let _ = options.endpoint().to_string();
                assert!(options.path.is_absolute());
            }
            Err(error) => assert_eq!(exit_of(&error), Exit::Usage, "{error:#}"),
        }
    }
}
