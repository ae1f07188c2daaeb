//! The steps that bring a table into a running server.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use chassis::cli::quoted;

use super::{ExportedTable, TRIGGERS, TableName, has_extension, quote};
use crate::filename::tablename_to_filename;

/// The table beside a partitioned one, in its database. Not made of its name, which may be as long as a
/// name can be.
const BESIDE: &str = "holdfast_part";

/// One step. Steps are done in order, by the operator or by a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A statement, with its semicolon. All in one session: the first sets variables of it.
    Sql(String),
    /// A file to be copied, so that the server's user owns it.
    Copy {
        /// The file in the prepared backup.
        from: PathBuf,
        /// Where it belongs, from the server's data directory.
        to: PathBuf,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql(statement) => f.write_str(statement),
            Self::Copy { from, to } => {
                let (from, to) = (quoted(&from.to_string_lossy()), quoted(&to.to_string_lossy()));
                write!(f, "\\! install -o mysql -g mysql -m 660 {from} DATADIR/{to}")
            }
        }
    }
}

/// The steps that make the table anew under the name `target` (which must not exist), and bring its
/// data in.
///
/// `create` is the statement of [`crate::scratch::ScratchServer::create_statement`]. For an InnoDB
/// table the last step makes the server write a checkpoint: until then `mariadb-backup` 10.11 would
/// leave the table out of the next backup.
pub fn import_steps(
    exported: &ExportedTable,
    create: &str,
    target: &TableName,
) -> anyhow::Result<Vec<Step>> {
    let body = columns_of(create).context("find columns in the statement")?;
    let database = quote(&target.database);
    let mut steps = vec![
        // The statement was made in this character set, and may have defaults that a strict mode refuses.
        Step::Sql("SET NAMES utf8mb4;".into()),
        Step::Sql(
            "SET SESSION sql_mode = '', foreign_key_checks = 0, lock_wait_timeout = 60;".into(),
        ),
        Step::Sql(format!("CREATE DATABASE IF NOT EXISTS {database};")),
    ];
    if !exported.is_innodb() {
        for file in exported.files().filter(|file| !has_extension(file, TRIGGERS)) {
            steps.push(copy(file.into(), target, &extension_with_partition(exported, file)?)?);
        }
        steps.push(Step::Sql(format!("FLUSH TABLES {};", target.quoted())));
        steps.push(Step::Sql(format!("CHECK TABLE {};", target.quoted())));
        return Ok(steps);
    }
    steps.push(Step::Sql(format!("CREATE TABLE {} {body};", target.quoted())));
    if exported.is_partitioned() {
        import_partitions(exported, target, &mut steps)?;
    } else {
        import_whole(exported, create, target, &mut steps)?;
    }
    steps.push(Step::Sql("SET GLOBAL innodb_log_checkpoint_now = ON;".into()));
    Ok(steps)
}

/// What is behind `` CREATE TABLE `name` ``. A backtick in the name is doubled.
fn columns_of(create: &str) -> Option<&str> {
    let mut rest = create.strip_prefix("CREATE TABLE `")?;
    loop {
        rest = rest.split_once('`')?.1;
        match rest.strip_prefix('`') {
            Some(behind) => rest = behind,
            None => return Some(rest.trim()),
        }
    }
}

fn import_whole(
    exported: &ExportedTable,
    create: &str,
    target: &TableName,
    steps: &mut Vec<Step>,
) -> anyhow::Result<()> {
    let files = exported.parts.get(&None).context("find files of the table")?;
    import_files(files, target, steps)?;
    if has_full_text_index(create) {
        // The index lies in tablespaces that cannot be imported. To drop it and add it again crashes
        // MariaDB 10.11.19, so the table is copied row by row, with all its indexes.
        steps.push(Step::Sql(format!("ALTER TABLE {} FORCE, ALGORITHM = COPY;", target.quoted())));
    }
    Ok(())
}

/// MariaDB cannot discard the tablespaces of a partitioned table, but it can exchange a partition
/// with a table.
fn import_partitions(
    exported: &ExportedTable,
    target: &TableName,
    steps: &mut Vec<Step>,
) -> anyhow::Result<()> {
    let beside = TableName { table: BESIDE.to_owned(), ..target.clone() };
    let (whole, part) = (target.quoted(), beside.quoted());
    for (partition, files) in &exported.parts {
        let Some(partition) = partition else { continue };
        steps.push(Step::Sql(format!("CREATE TABLE {part} LIKE {whole};")));
        steps.push(Step::Sql(format!("ALTER TABLE {part} REMOVE PARTITIONING;")));
        import_files(files, &beside, steps)?;
        let partition = quote(partition);
        steps.push(Step::Sql(format!(
            "ALTER TABLE {whole} EXCHANGE PARTITION {partition} WITH TABLE {part};"
        )));
        steps.push(Step::Sql(format!("DROP TABLE {part};")));
    }
    Ok(())
}

fn import_files(
    files: &[PathBuf],
    target: &TableName,
    steps: &mut Vec<Step>,
) -> anyhow::Result<()> {
    let table = target.quoted();
    ensure!(
        files.iter().any(|file| has_extension(file, "ibd")),
        "a tablespace of {target} is not in the backup"
    );
    steps.push(Step::Sql(format!("ALTER TABLE {table} DISCARD TABLESPACE;")));
    for extension in ["ibd", "cfg", "cfp"] {
        for file in files.iter().filter(|file| has_extension(file, extension)) {
            steps.push(copy(file.clone(), target, &format!(".{extension}"))?);
        }
    }
    steps.push(Step::Sql(format!("ALTER TABLE {table} IMPORT TABLESPACE;")));
    Ok(())
}

fn copy(from: PathBuf, target: &TableName, end: &str) -> anyhow::Result<Step> {
    let encode = |name: &str| tablename_to_filename(name).context("encode name of the table");
    let to =
        PathBuf::from(encode(&target.database)?).join(format!("{}{end}", encode(&target.table)?));
    Ok(Step::Copy { from, to })
}

/// What is behind the name of the table in a file name: `.MYD` or `#P#p0.MYD`.
fn extension_with_partition(
    exported: &ExportedTable,
    file: &std::path::Path,
) -> anyhow::Result<String> {
    let first = tablename_to_filename(&exported.name.table).context("encode name of the table")?;
    let name = file.file_name().and_then(|name| name.to_str()).context("read name of a file")?;
    Ok(name.strip_prefix(&first).context("find end of a file name")?.to_owned())
}

/// Whether a line of `SHOW CREATE TABLE` is that of a full-text index. The line of a column starts with a backtick.
fn has_full_text_index(create: &str) -> bool {
    create.lines().any(|line| line.trim_start().starts_with("FULLTEXT KEY "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn name(table: &str) -> TableName {
        TableName { database: "new-db".into(), table: table.into() }
    }

    fn exported(parts: &[(Option<&str>, &[&str])]) -> ExportedTable {
        let parts: BTreeMap<_, _> = parts
            .iter()
            .map(|(part, files)| {
                (part.map(str::to_owned), files.iter().map(PathBuf::from).collect())
            })
            .collect();
        ExportedTable { name: TableName { database: "db".into(), table: "t".into() }, parts }
    }

    fn lines(steps: &[Step]) -> Vec<String> {
        steps.iter().skip(3).map(ToString::to_string).collect()
    }

    #[test]
    fn a_table_is_made_emptied_filled_and_rebuilt_for_a_full_text_index() {
        let table = exported(&[(None, &["/r/db/t.cfg", "/r/db/t.frm", "/r/db/t.ibd"])]);
        let create =
            "CREATE TABLE `t` (\n  `s` text,\n  FULLTEXT KEY `a``b` (`s`)\n) ENGINE=InnoDB";
        let steps = import_steps(&table, create, &name("t")).unwrap();
        assert_eq!(
            lines(&steps),
            [
                "CREATE TABLE `new-db`.`t` (\n  `s` text,\n  FULLTEXT KEY `a``b` (`s`)\n) ENGINE=InnoDB;",
                "ALTER TABLE `new-db`.`t` DISCARD TABLESPACE;",
                "\\! install -o mysql -g mysql -m 660 /r/db/t.ibd DATADIR/new@002ddb/t.ibd",
                "\\! install -o mysql -g mysql -m 660 /r/db/t.cfg DATADIR/new@002ddb/t.cfg",
                "ALTER TABLE `new-db`.`t` IMPORT TABLESPACE;",
                "ALTER TABLE `new-db`.`t` FORCE, ALGORITHM = COPY;",
                "SET GLOBAL innodb_log_checkpoint_now = ON;",
            ]
        );
    }

    #[test]
    fn partitions_are_imported_one_by_one_and_exchanged() {
        let table = exported(&[
            (None, &["/r/db/t.frm"]),
            (Some("p0"), &["/r/db/t#P#p0.cfg", "/r/db/t#P#p0.ibd"]),
        ]);
        let steps = import_steps(&table, "CREATE TABLE `t` (x)", &name("u")).unwrap();
        assert_eq!(
            lines(&steps)[1..8],
            [
                "CREATE TABLE `new-db`.`holdfast_part` LIKE `new-db`.`u`;",
                "ALTER TABLE `new-db`.`holdfast_part` REMOVE PARTITIONING;",
                "ALTER TABLE `new-db`.`holdfast_part` DISCARD TABLESPACE;",
                "\\! install -o mysql -g mysql -m 660 '/r/db/t#P#p0.ibd' DATADIR/new@002ddb/holdfast_part.ibd",
                "\\! install -o mysql -g mysql -m 660 '/r/db/t#P#p0.cfg' DATADIR/new@002ddb/holdfast_part.cfg",
                "ALTER TABLE `new-db`.`holdfast_part` IMPORT TABLESPACE;",
                "ALTER TABLE `new-db`.`u` EXCHANGE PARTITION `p0` WITH TABLE `new-db`.`holdfast_part`;",
            ]
        );
    }

    #[test]
    fn columns_are_found_behind_odd_names() {
        assert_eq!(columns_of("CREATE TABLE `a``b(` (\n  `c(` int)"), Some("(\n  `c(` int)"));
        assert_eq!(columns_of("CREATE VIEW `a` AS SELECT 1"), None);
        assert_eq!(columns_of("CREATE TABLE `a"), None);
    }

    #[test]
    fn tables_of_other_engines_are_copied() {
        let table = exported(&[(None, &["/r/db/t.MYD", "/r/db/t.TRG", "/r/db/t.frm"])]);
        let steps = import_steps(&table, "CREATE TABLE `t` (x)", &name("u")).unwrap();
        assert_eq!(
            lines(&steps)[1..],
            [
                "\\! install -o mysql -g mysql -m 660 /r/db/t.frm DATADIR/new@002ddb/u.frm",
                "FLUSH TABLES `new-db`.`u`;",
                "CHECK TABLE `new-db`.`u`;",
            ]
        );
    }
}
