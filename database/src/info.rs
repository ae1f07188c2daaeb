//! What the backup tools write about a backup: positions, versions, times.
//!
//! The files come from the stream, so they are read as hostile: limited in size, and every number
//! is parsed strictly. Names changed with MariaDB 11.1 from `xtrabackup_*` to `mariadb_backup_*`;
//! both are known for both tools.

mod parse;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};

use crate::tool::BackupTool;
use crate::version::Flavour;

/// The longest metadata file that is read, in bytes.
pub const METADATA_LENGTH_MAX: usize = 1 << 20;

/// A file that the tool writes about the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metadata {
    /// Kind and log sequence numbers.
    Checkpoints,
    /// Versions, times, command line.
    Info,
    /// Binary log file, offset and GTID.
    BinlogInfo,
    /// Galera state: `uuid:seqno`.
    GaleraInfo,
    /// Settings that preparing needs.
    BackupMyCnf,
    /// The redo log.
    RedoLog,
}

impl Metadata {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Checkpoints,
        Self::Info,
        Self::BinlogInfo,
        Self::GaleraInfo,
        Self::BackupMyCnf,
        Self::RedoLog,
    ];

    /// The names that the file can have, at the top of the backup.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Checkpoints => &["xtrabackup_checkpoints", "mariadb_backup_checkpoints"],
            Self::Info => &["xtrabackup_info", "mariadb_backup_info"],
            Self::BinlogInfo => &["xtrabackup_binlog_info", "mariadb_backup_binlog_info"],
            Self::GaleraInfo => &["xtrabackup_galera_info", "mariadb_backup_galera_info"],
            Self::BackupMyCnf => &["backup-my.cnf"],
            Self::RedoLog => &["ib_logfile0", "xtrabackup_logfile"],
        }
    }

    /// The metadata file at a path of the stream, if it is one whose content [`Positions::parse`]
    /// wants.
    pub fn of(path: &Path) -> Option<Self> {
        let wanted = [Self::Checkpoints, Self::Info, Self::BinlogInfo, Self::GaleraInfo];
        wanted.into_iter().find(|file| file.names().iter().any(|name| path == Path::new(name)))
    }
}

/// What must be in a backup of this server, whether full or incremental. Without all of it a run is
/// no success.
pub fn required_files(log_bin: bool, galera: bool) -> Vec<Metadata> {
    let mut required =
        vec![Metadata::Checkpoints, Metadata::Info, Metadata::BackupMyCnf, Metadata::RedoLog];
    if log_bin {
        required.push(Metadata::BinlogInfo);
    }
    if galera {
        required.push(Metadata::GaleraInfo);
    }
    required
}

/// The names of required files that a backup does not have. `has` is asked for a path in the
/// backup.
pub fn missing_files(required: &[Metadata], has: impl Fn(&Path) -> bool) -> Vec<&'static str> {
    required
        .iter()
        .filter(|file| !file.names().iter().any(|name| has(Path::new(name))))
        .map(|file| file.names()[0])
        .collect()
}

/// Full, or only the pages that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupKind {
    /// All pages.
    Full,
    /// The pages that changed since the parent.
    Incremental,
}

/// A place in a server's binary log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinlogPosition {
    /// The name of the file, without directory.
    pub file: String,
    /// The offset in it, in bytes.
    pub offset: u64,
}

/// A place in the history of a Galera cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaleraPosition {
    /// The state UUID of the cluster.
    pub uuid: String,
    /// The last write set that was applied; -1 if unknown.
    pub seqno: i64,
}

/// Where a backup stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// The tool that took it.
    pub tool: BackupTool,
    /// Its version, as it says it.
    pub tool_version: String,
    /// Who made the server.
    pub flavour: Flavour,
    /// The server's version, as it says it.
    pub server_version: String,
    /// Full or incremental.
    pub kind: BackupKind,
    /// The log sequence number that the pages changed since; 0 in a full backup.
    pub from_lsn: u64,
    /// The checkpoint that an increment of this backup starts from.
    pub to_lsn: u64,
    /// How far the redo log was copied.
    pub last_lsn: u64,
    /// GTIDs up to the end of the backup: MariaDB's position, or MySQL's set.
    pub gtid: Option<String>,
    /// The end of the backup in the server's binary log; none if the server writes no binary log.
    pub binlog: Option<BinlogPosition>,
    /// The end of the backup in the cluster's history; none outside of Galera.
    pub galera: Option<GaleraPosition>,
    /// When the tool started, in the local time of its host.
    pub started: Option<NaiveDateTime>,
    /// When the tool ended, in the local time of its host.
    pub ended: Option<NaiveDateTime>,
    /// Whether only some tables were copied.
    pub partial: bool,
}

impl Positions {
    /// Reads the positions from metadata files by their names; others are passed over.
    ///
    /// Fails if the checkpoints or the info file is missing, or if any file does not say what it
    /// should.
    pub fn parse(tool: BackupTool, files: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<Self> {
        let checkpoints =
            text_of(Metadata::Checkpoints, files)?.context("find xtrabackup_checkpoints")?;
        let (kind, [from_lsn, to_lsn, last_lsn]) =
            parse::checkpoints(checkpoints).context("read xtrabackup_checkpoints")?;
        let info = text_of(Metadata::Info, files)?.context("find xtrabackup_info")?;
        let info = parse::info(info).context("read xtrabackup_info")?;
        let binlog = text_of(Metadata::BinlogInfo, files)?
            .map(|text| parse::binlog(text).context("read xtrabackup_binlog_info"))
            .transpose()?;
        let galera = text_of(Metadata::GaleraInfo, files)?
            .map(|text| parse::galera(text).context("read xtrabackup_galera_info"))
            .transpose()?;
        let (binlog, gtid) = binlog.map_or((None, None), |(binlog, gtid)| (Some(binlog), gtid));
        Ok(Self {
            tool,
            tool_version: info.tool_version,
            flavour: Flavour::of(&info.server_version, ""),
            server_version: info.server_version,
            kind,
            from_lsn,
            to_lsn,
            last_lsn,
            gtid,
            binlog,
            galera,
            started: info.started,
            ended: info.ended,
            partial: info.partial,
        })
    }

    /// Whether this increment continues its parent. The error says why not.
    pub fn check_parent(&self, parent: &Self) -> anyhow::Result<()> {
        if self.kind != BackupKind::Incremental {
            bail!("a full backup has no parent");
        }
        if (self.tool, self.flavour) != (parent.tool, parent.flavour) {
            bail!("parent was taken by {} from {}", parent.tool, parent.flavour);
        }
        if self.from_lsn != parent.to_lsn {
            bail!(
                "increment starts at LSN {}, its parent ends at {}",
                self.from_lsn,
                parent.to_lsn
            );
        }
        if self.to_lsn < self.from_lsn {
            bail!("increment ends at LSN {}, before it starts at {}", self.to_lsn, self.from_lsn);
        }
        Ok(())
    }
}

fn text_of(file: Metadata, files: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<Option<&str>> {
    let Some(name) = file.names().iter().find(|name| files.contains_key(**name)) else {
        return Ok(None);
    };
    let bytes = &files[*name];
    if bytes.len() > METADATA_LENGTH_MAX {
        bail!("{name} is longer than {METADATA_LENGTH_MAX} bytes");
    }
    std::str::from_utf8(bytes).with_context(|| format!("read {name} as UTF-8")).map(Some)
}
