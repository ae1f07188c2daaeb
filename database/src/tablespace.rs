//! One table out of a backup: which files it has, and what to do with them on a running server.
//!
//! The documented way for InnoDB is a backup prepared with `--export`, then `CREATE TABLE`,
//! `DISCARD TABLESPACE`, copying `.ibd` and `.cfg`, `IMPORT TABLESPACE`; all of it was done with
//! MariaDB 10.11. Partitions are imported one by one into a table beside and exchanged; tables with
//! full-text indexes are copied once more. MyISAM and Aria tables are copied as they are. Nothing
//! is executed here: the steps are data. The `CREATE TABLE` comes from
//! [`crate::scratch::ScratchServer`].

mod steps;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use chassis::failure::{Exit, Failure};

pub use self::steps::{Step, import_steps};
use crate::filename::{filename_to_tablename, tablename_to_filename};

/// The most files that one table is taken to have.
pub const FILES_MAX: usize = 100_000;

/// The extension of a file that lists the triggers of a table; each has a file of its own besides, under
/// its own name. They are not brought back: a trigger makes sense only with what it calls.
pub(crate) const TRIGGERS: &str = "TRG";

/// A table in a database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// The name for SQL, in backticks.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.database), quote(&self.table))
    }

    /// Directory and first part of the file names, from the top of the data directory. `None` if a
    /// server could not have such a table.
    fn file_prefix(&self) -> Option<(PathBuf, String)> {
        let directory = PathBuf::from(tablename_to_filename(&self.database)?);
        Some((directory, tablename_to_filename(&self.table)?))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

impl FromStr for TableName {
    type Err = Failure;

    /// Reads `db.t`, or `` `db`.`t` `` where a name has a dot; a backtick in a name is doubled.
    fn from_str(text: &str) -> Result<Self, Failure> {
        let parts = split_name(text).filter(|(d, t)| !d.is_empty() && !t.is_empty());
        let (database, table) = parts.ok_or_else(|| {
            Failure::new(Exit::Usage, format!("not the name of a table: {text:?}"))
                .hint("write db.table, or `db`.`table` with backticks if a name has a dot")
        })?;
        let name = Self { database, table };
        match name.file_prefix() {
            Some(_) => Ok(name),
            None => Err(Failure::new(Exit::Usage, format!("no server can have a table {text:?}"))),
        }
    }
}

fn split_name(text: &str) -> Option<(String, String)> {
    let Some(quoted) = text.strip_prefix('`') else {
        let (database, table) = text.split_once('.')?;
        return (!table.contains('.')).then(|| (database.to_owned(), table.to_owned()));
    };
    let (database, table) = quoted.strip_suffix('`')?.split_once("`.`")?;
    Some((database.replace("``", "`"), table.replace("``", "`")))
}

/// A name in backticks.
pub(crate) fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Whether a file of a backup belongs to a table: `t.ibd`, `t#P#p0.ibd`, `t.frm` and their like.
pub fn is_file_of(path: &Path, table: &TableName) -> bool {
    let Some((directory, first)) = table.file_prefix() else { return false };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(behind) = name.strip_prefix(&first) else { return false };
    path.parent() == Some(directory.as_path()) && is_end_of_file_name(behind)
}

fn is_end_of_file_name(text: &str) -> bool {
    text.starts_with('.') || text.starts_with("#P#") || text.starts_with("#p#")
}

/// Whether a file must be there for preparing a backup and getting one table out of it: InnoDB's
/// own files at the top, the system tables, and the table's.
///
/// Only good for a backup without renames: ask [`has_renames`] first, and take everything if there
/// are any. The tool warns about the tables that are not there and goes on.
pub fn is_needed_for(path: &Path, table: &TableName) -> bool {
    let mut components = path.components();
    let (Some(first), second) = (components.next(), components.next()) else { return false };
    let first = first.as_os_str();
    let is_system = second.is_none() || first == "mysql" || first == "#innodb_redo";
    let database = tablename_to_filename(&table.database).unwrap_or_default();
    is_system || path == Path::new(&database).join("db.opt") || is_file_of(path, table)
}

/// Whether tables were renamed or dropped while the backup was taken. Then a table may lie under
/// another name until the backup is prepared.
pub fn has_renames<'a>(mut paths: impl Iterator<Item = &'a Path>) -> bool {
    paths.any(|path| {
        path.extension().is_some_and(|extension| extension == "ren" || extension == "del")
    })
}

/// That a backup does not have a table.
pub fn no_table(name: &TableName) -> Failure {
    Failure::new(Exit::Nothing, format!("there is no table {name} in this backup"))
        .hint("names are case-sensitive; `backupctl show` lists the files of a backup")
}

/// The tablespace that the file of an increment changes: `t.ibd` of `t.ibd.delta` and `t.ibd.meta`.
pub fn base_of(path: &Path) -> Option<PathBuf> {
    let is_change = has_extension(path, "delta") || has_extension(path, "meta");
    Some(path.with_extension("")).filter(|base| is_change && has_extension(base, "ibd"))
}

/// The tablespace that a file brings whole: `t.ibd` itself, or `t.new`, which takes its place.
pub fn tablespace_of(path: &Path) -> Option<PathBuf> {
    let is_whole = has_extension(path, "ibd") || has_extension(path, "new");
    is_whole.then(|| path.with_extension("ibd"))
}

/// The number of the tablespace that the pages of an increment are of, as its `.meta` file says.
pub fn space_of_meta(text: &str) -> Option<u32> {
    let mut lines = text.lines().filter_map(|line| line.split_once('='));
    lines.find(|(key, _)| key.trim() == "space_id")?.1.trim().parse().ok()
}

/// The number of a tablespace, as its first page says; `head` holds the beginning of its file.
pub fn space_of_page(head: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(head.get(34..38)?.try_into().ok()?))
}

/// The files of a table in a prepared backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedTable {
    /// Its name in the backup.
    pub name: TableName,
    /// Files of each partition by its name; without partitions all under `None`. Paths are as
    /// found.
    pub parts: BTreeMap<Option<String>, Vec<PathBuf>>,
}

impl ExportedTable {
    /// Finds the files of a table below a prepared backup.
    ///
    /// Fails with [`Exit::Nothing`] if there are none.
    pub fn find(prepared: &Path, name: &TableName) -> anyhow::Result<Self> {
        let nothing = || no_table(name);
        let (directory, first) = name.file_prefix().ok_or_else(nothing)?;
        let directory = prepared.join(directory);
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(nothing().into());
            }
            Err(error) => {
                return Err(error).with_context(|| format!("list {}", directory.display()));
            }
        };
        let mut parts: BTreeMap<Option<String>, Vec<PathBuf>> = BTreeMap::new();
        for entry in entries.take(FILES_MAX) {
            let path = entry.with_context(|| format!("list {}", directory.display()))?.path();
            let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(behind) = file_name.strip_prefix(&first).filter(|b| is_end_of_file_name(b))
            else {
                continue;
            };
            let part = partition_of(behind);
            parts.entry(part).or_default().push(path);
        }
        for files in parts.values_mut() {
            files.sort();
        }
        if parts.is_empty() {
            return Err(nothing().into());
        }
        Ok(Self { name: name.clone(), parts })
    }

    /// Whether it is an InnoDB table: those have tablespaces to import, others have files to copy.
    pub fn is_innodb(&self) -> bool {
        self.files().any(|file| has_extension(file, "ibd"))
    }

    /// Whether it is divided into partitions.
    pub fn is_partitioned(&self) -> bool {
        self.parts.keys().any(Option::is_some)
    }

    /// Whether it has triggers, which are not imported. Not known of MySQL 8, which keeps them elsewhere.
    pub fn has_triggers(&self) -> bool {
        self.files().any(|file| has_extension(file, TRIGGERS))
    }

    /// All its files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.parts.values().flatten().map(PathBuf::as_path)
    }
}

/// `#P#p0.ibd` is of partition `p0`; of `#P#p0#SP#s1.ibd` only the subpartition `s1` can be
/// exchanged.
fn partition_of(behind: &str) -> Option<String> {
    if behind.starts_with('.') {
        return None;
    }
    let stem = behind[3..].split('.').next().unwrap_or_default();
    let last =
        ["#SP#", "#sp#"].iter().find_map(|mark| Some(stem.split_once(mark)?.1)).unwrap_or(stem);
    Some(filename_to_tablename(last))
}

pub(crate) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(database: &str, table: &str) -> TableName {
        TableName { database: database.into(), table: table.into() }
    }

    #[test]
    fn names_of_tables_are_read_with_and_without_backticks() {
        let check = |text: &str, expected: Option<TableName>| {
            assert_eq!(text.parse::<TableName>().ok(), expected, "{text}");
        };
        check("wp.wp_posts", Some(name("wp", "wp_posts")));
        check("`a.b`.`c``d`", Some(name("a.b", "c`d")));
        check("odd db.t t", Some(name("odd db", "t t")));
        for text in ["wp", "", ".", "a.", ".b", "a.b.c", "`a`", "a.😀", "#mysql50#../x.y"] {
            check(text, None);
        }
        assert_eq!(name("a`b", "c").quoted(), "`a``b`.`c`");
    }

    #[test]
    fn files_of_a_table_are_told_from_those_of_others() {
        let check = |path: &str, expected| {
            assert_eq!(is_file_of(Path::new(path), &name("my-db", "t")), expected, "{path}");
        };
        for path in
            ["t.ibd", "t.frm", "t.cfg", "t.ibd.delta", "t.new", "t#P#p0.ibd", "t#p#p0.ibd", "t.MYD"]
        {
            check(&format!("my@002ddb/{path}"), true);
        }
        for path in [
            "my@002ddb/t2.ibd",
            "my@002ddb/x/t.ibd",
            "other/t.ibd",
            "t.ibd",
            "my-db/t.ibd",
            "my@002ddb/tt#P#p.ibd",
        ] {
            check(path, false);
        }
    }

    #[test]
    fn what_one_table_needs_of_a_backup() {
        let check = |path: &str, expected| {
            assert_eq!(is_needed_for(Path::new(path), &name("db", "t")), expected, "{path}");
        };
        for path in [
            "ibdata1",
            "ib_logfile0",
            "backup-my.cnf",
            "mysql/user.frm",
            "#innodb_redo/x",
            "db/t.ibd",
            "db/db.opt",
        ] {
            check(path, true);
        }
        for path in ["db/u.ibd", "sys/x.frm", "other/db.opt", "performance_schema/db.opt"] {
            check(path, false);
        }
        assert!(has_renames([Path::new("db/t.ibd"), Path::new("db/10.ren")].into_iter()));
        assert!(!has_renames([Path::new("db/ren.ibd")].into_iter()));
    }

    #[test]
    fn what_an_increment_changes_is_told_from_its_files() {
        let path = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
        assert_eq!(path(base_of(Path::new("db/t.ibd.delta"))).unwrap(), "db/t.ibd");
        assert_eq!(path(base_of(Path::new("db/t.ibd.meta"))).unwrap(), "db/t.ibd");
        assert_eq!(path(base_of(Path::new("ibdata1.delta"))), None);
        assert_eq!(path(tablespace_of(Path::new("db/t.new"))).unwrap(), "db/t.ibd");
        assert_eq!(path(tablespace_of(Path::new("db/t.ibd"))).unwrap(), "db/t.ibd");
        assert_eq!(path(tablespace_of(Path::new("db/t.ibd.delta"))), None);
        let meta = "page_size = 16384\nzip_size = 0 \nspace_id = 4711\n";
        assert_eq!(space_of_meta(meta), Some(4711));
        assert_eq!(space_of_meta("page_size = 1"), None);
        let mut page = vec![0; 38];
        page[36..].copy_from_slice(&[0x12, 0x67]);
        assert_eq!(space_of_page(&page), Some(4711));
        assert_eq!(space_of_page(&page[1..]), None);
    }

    #[test]
    fn exported_files_are_sorted_by_partition() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("db");
        std::fs::create_dir(&database).unwrap();
        for file in ["t.frm", "t.par", "t#P#p0.ibd", "t#P#p0.cfg", "t#P#p1#SP#s@0031.ibd", "t2.ibd"]
        {
            std::fs::write(database.join(file), "").unwrap();
        }
        let table = ExportedTable::find(directory.path(), &name("db", "t")).unwrap();
        let parts: Vec<_> =
            table.parts.iter().map(|(part, files)| (part.clone(), files.len())).collect();
        assert_eq!(parts, [(None, 2), (Some("p0".into()), 2), (Some("s1".into()), 1)]);
        let error = ExportedTable::find(directory.path(), &name("db", "none")).unwrap_err();
        assert_eq!(chassis::failure::exit_of(&error), Exit::Nothing);
        assert!(ExportedTable::find(directory.path(), &name("none", "t")).is_err());
    }
}
