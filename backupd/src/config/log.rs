//! The `[jobs.NAME.log]` table.

use std::path::PathBuf;

use chassis::units::{ByteSize, Span};
use depot::names::JobName;
use serde::Deserialize;

/// A server's binary log, archived as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogJob {
    /// `mariadb-backup` for MariaDB, `xtrabackup` for Percona and MySQL: it tells which groups of
    /// the option file count.
    pub tool: database::tool::BackupTool,
    /// The option file with user, password and socket in `[client]`; 0600. The account needs
    /// `REPLICATION SLAVE` and `BINLOG MONITOR` (MySQL: `REPLICATION CLIENT`).
    pub option_file: PathBuf,
    /// The database job whose backups this log brings forward; not needed if there is only one.
    pub base: Option<JobName>,
    /// The server has the same transactions under the same ids as the other sources of this job: it
    /// is a replica of theirs. Nodes of a Galera cluster know it by themselves.
    #[serde(default)]
    pub join: bool,
    /// The id of this replica: no other server or replica may have it. Made from host and job if not
    /// given.
    pub server_id: Option<u32>,
    /// What was committed is in the depots this much later, at the most.
    #[serde(default = "default_max_lag")]
    pub max_lag: Span,
    /// Pieces are merged when they have grown to this.
    #[serde(default = "default_segment_size")]
    pub segment_size: ByteSize,
    /// Pieces are merged when the oldest is this old.
    #[serde(default = "default_segment_age")]
    pub segment_age: Span,
    /// How much may wait here while depots are away. When it is reached, nothing more is read from
    /// the server until there is room: what the server purges meanwhile is a hole.
    #[serde(default = "default_spool_limit")]
    pub spool_limit: ByteSize,
}

fn default_max_lag() -> Span {
    Span::from_secs(5)
}

fn default_segment_size() -> ByteSize {
    ByteSize(64 << 20)
}

fn default_segment_age() -> Span {
    Span::from_secs(3600)
}

fn default_spool_limit() -> ByteSize {
    ByteSize(4 << 30)
}
