//! Parses the text of the metadata files. The names in the messages are the old ones; MariaDB 11
//! has others.

use anyhow::{Context, bail, ensure};
use chrono::NaiveDateTime;

use super::{BackupKind, BinlogPosition, GaleraPosition};

/// What of the info file is of use.
pub struct Info {
    pub tool_version: String,
    pub server_version: String,
    pub started: Option<NaiveDateTime>,
    pub ended: Option<NaiveDateTime>,
    pub partial: bool,
}

/// The value of a `key = value` line. A key that comes twice counts with its first value.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// `backup_type = full-backuped`, and the three log sequence numbers.
pub fn checkpoints(text: &str) -> anyhow::Result<(BackupKind, [u64; 3])> {
    let kind = match value(text, "backup_type") {
        // `log-applied` and `full-prepared` are what a prepared backup says.
        Some("full-backuped" | "log-applied" | "full-prepared") => BackupKind::Full,
        Some("incremental") => BackupKind::Incremental,
        other => bail!("unknown backup_type {other:?}"),
    };
    let lsn = |key: &str| -> anyhow::Result<u64> {
        let text = value(text, key).with_context(|| format!("find {key}"))?;
        text.parse().with_context(|| format!("read {key} from {text:?}"))
    };
    let numbers = [lsn("from_lsn")?, lsn("to_lsn")?, lsn("last_lsn")?];
    ensure!(numbers[0] <= numbers[1], "from_lsn {} is over to_lsn {}", numbers[0], numbers[1]);
    Ok((kind, numbers))
}

/// Versions and times.
pub fn info(text: &str) -> anyhow::Result<Info> {
    let string = |key: &str| -> anyhow::Result<String> {
        Ok(value(text, key).with_context(|| format!("find {key}"))?.to_owned())
    };
    let time = |key: &str| -> anyhow::Result<Option<NaiveDateTime>> {
        value(text, key)
            .map(|text| {
                NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S")
                    .with_context(|| format!("read {key} from {text:?}"))
            })
            .transpose()
    };
    Ok(Info {
        tool_version: string("tool_version")?,
        server_version: string("server_version")?,
        started: time("start_time")?,
        ended: time("end_time")?,
        partial: value(text, "partial") == Some("Y"),
    })
}

/// `binlog.000001<TAB>211859<TAB>0-7-10`. MySQL breaks a long GTID set over lines.
pub fn binlog(text: &str) -> anyhow::Result<(BinlogPosition, Option<String>)> {
    let mut fields = text.trim().splitn(3, '\t');
    let file = fields.next().unwrap_or_default();
    ensure!(
        !file.is_empty() && !file.contains(['/', '\0']),
        "not the name of a binary log: {file:?}"
    );
    let offset = fields.next().context("find offset")?;
    let offset = offset.trim().parse().with_context(|| format!("read offset from {offset:?}"))?;
    let gtid: String = fields.next().unwrap_or_default().split_whitespace().collect();
    Ok((BinlogPosition { file: file.to_owned(), offset }, (!gtid.is_empty()).then_some(gtid)))
}

/// `uuid:seqno`, in MariaDB 10.11 with the GTID domain behind a blank.
pub fn galera(text: &str) -> anyhow::Result<GaleraPosition> {
    let position = text.split_whitespace().next().unwrap_or_default();
    let (uuid, seqno) = position.split_once(':').context("find uuid:seqno")?;
    let is_uuid = uuid.len() == 36 && uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    ensure!(is_uuid, "not a UUID: {uuid:?}");
    let seqno = seqno.parse().with_context(|| format!("read seqno from {seqno:?}"))?;
    Ok(GaleraPosition { uuid: uuid.to_owned(), seqno })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::info::{Metadata, Positions, missing_files, required_files};
    use crate::tool::BackupTool;
    use crate::version::Flavour;

    const CHECKPOINTS: &str =
        "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 44404\nlast_lsn = 1250920\n";
    const INFO: &str = "uuid = 2baf07b0-e771-11f1-90e9-02fc00000001\nname = \ntool_name = mariadb-backup\n\
        tool_command = --defaults-file=/x --backup\ntool_version = 10.11.19-MariaDB\n\
        server_version = 10.11.19-MariaDB-0+deb12u1-log\nstart_time = 2026-11-23 19:07:46\n\
        end_time = 2026-11-23 19:07:47\nlock_time = 0\npartial = N\n";

    fn files(names: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        names.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn positions_are_read_under_the_old_names_and_the_new() {
        let old = files(&[
            ("xtrabackup_checkpoints", CHECKPOINTS),
            ("xtrabackup_info", INFO),
            ("xtrabackup_binlog_info", "binlog.000001\t211859\t0-7-10\n"),
            ("xtrabackup_galera_info", "f3f1d9a2-e771-11f1-90e9-02fc00000001:176283 0\n"),
        ]);
        let positions = Positions::parse(BackupTool::MariaDb, &old).unwrap();
        assert_eq!((positions.to_lsn, positions.last_lsn), (44404, 1_250_920));
        assert_eq!(positions.flavour, Flavour::MariaDb);
        assert_eq!(positions.gtid.as_deref(), Some("0-7-10"));
        assert_eq!(positions.binlog.as_ref().map(|b| b.offset), Some(211_859));
        assert_eq!(positions.galera.as_ref().map(|g| g.seqno), Some(176_283));
        assert_eq!(
            positions.started.map(|time| time.to_string()).as_deref(),
            Some("2026-11-23 19:07:46")
        );
        let new =
            old.into_iter().map(|(k, v)| (k.replace("xtrabackup", "mariadb_backup"), v)).collect();
        assert_eq!(Positions::parse(BackupTool::MariaDb, &new).unwrap(), positions);
        let json = serde_json::to_string(&positions).unwrap();
        assert_eq!(serde_json::from_str::<Positions>(&json).unwrap(), positions);
    }

    #[test]
    fn a_gtid_set_of_mysql_is_read_over_line_breaks() {
        let (position, gtid) =
            binlog("mysql-bin.000002\t1232\tc777888a:1-4,\ncddd8abc:1-7\n").unwrap();
        assert_eq!(position.file, "mysql-bin.000002");
        assert_eq!(gtid.as_deref(), Some("c777888a:1-4,cddd8abc:1-7"));
        assert_eq!(binlog("b.1\t4").unwrap().1, None);
    }

    #[test]
    fn what_is_not_as_it_should_be_is_refused() {
        let check = |checkpoints: &str, info: &str, expected: &str| {
            let files =
                files(&[("xtrabackup_checkpoints", checkpoints), ("xtrabackup_info", info)]);
            let error = Positions::parse(BackupTool::MariaDb, &files).expect_err(expected);
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        };
        check("", INFO, "unknown backup_type None");
        check("backup_type = log-copied", INFO, "unknown backup_type");
        check(&CHECKPOINTS.replace("44404", "-1"), INFO, "read to_lsn from \"-1\"");
        check(&CHECKPOINTS.replace("from_lsn = 0", "from_lsn = 9999999"), INFO, "is over to_lsn");
        check(CHECKPOINTS, "", "find tool_version");
        check(CHECKPOINTS, &INFO.replace("2026", "soon"), "read start_time");
        for text in ["", "x", "../x\t4", "b\t-4", "b\t4x"] {
            assert!(binlog(text).is_err(), "{text:?}");
        }
        for text in ["", ":", "x:1", "f3f1d9a2-e771-11f1-90e9-02fc00000001:x"] {
            assert!(galera(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_increment_must_start_where_its_parent_ends() {
        let of = |checkpoints: &str| {
            let files =
                files(&[("xtrabackup_checkpoints", checkpoints), ("xtrabackup_info", INFO)]);
            Positions::parse(BackupTool::MariaDb, &files).unwrap()
        };
        let parent = of(CHECKPOINTS);
        let increment =
            of("backup_type = incremental\nfrom_lsn = 44404\nto_lsn = 50000\nlast_lsn = 50000\n");
        assert!(increment.check_parent(&parent).is_ok());
        assert!(increment.check_parent(&increment).is_err());
        assert!(parent.check_parent(&parent).is_err());
    }

    #[test]
    fn missing_files_are_named() {
        let has = ["mariadb_backup_checkpoints", "mariadb_backup_info", "ib_logfile0"];
        let missing = missing_files(&required_files(true, false), |path| {
            has.iter().any(|n| path == std::path::Path::new(n))
        });
        assert_eq!(missing, ["backup-my.cnf", "xtrabackup_binlog_info"]);
        assert_eq!(Metadata::of("xtrabackup_info".as_ref()), Some(Metadata::Info));
        assert_eq!(Metadata::of("db/xtrabackup_info".as_ref()), None);
    }
}
