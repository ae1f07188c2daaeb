//! The `[jobs.NAME.database]` table.

use std::path::PathBuf;

use chassis::units::Span;
use serde::Deserialize;

/// A database server, copied by its own backup tool while it runs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DatabaseJob {
    /// `mariadb-backup` for MariaDB, `xtrabackup` for Percona Server and Percona XtraDB Cluster;
    /// found by `PATH`.
    pub tool: database::tool::BackupTool,
    /// The option file with user, password and socket in `[client]`; 0600. The only way to give a
    /// password.
    pub option_file: PathBuf,
    /// How later backups are made smaller.
    #[serde(default)]
    pub mode: Mode,
    /// With `mode = "lsn"`: a full backup at least this often.
    pub full_every: Option<Span>,
    /// Threads that copy.
    #[serde(default = "default_parallel")]
    pub parallel: u32,
    /// Limit of the tool's reading, in pieces a second: of 1 MiB with `mariadb-backup`, of 10 MiB
    /// with `xtrabackup`.
    pub throttle: Option<u32>,
    /// Further options for the tool; not those that the run depends on.
    #[serde(default)]
    pub extra_args: Vec<String>,
    /// A tool that is silent for this long is ended.
    #[serde(default = "default_stall_timeout")]
    pub stall_timeout: Span,
}

/// How later backups are made smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The tool sends everything; blocks that are stored already are referred to. Every backup
    /// restores by itself.
    #[default]
    Blocks,
    /// The tool sends only pages changed since the last backup. Cheaper for large busy servers;
    /// restoring applies a chain.
    Lsn,
}

/// An LSN chain has a new full backup this often unless told otherwise.
pub const FULL_EVERY_DEFAULT: Span = Span::from_secs(7 * 24 * 3600);

impl DatabaseJob {
    /// The age at which a chain is ended by a full backup.
    pub fn full_every(&self) -> Span {
        self.full_every.unwrap_or(FULL_EVERY_DEFAULT)
    }
}

fn default_parallel() -> u32 {
    2
}

fn default_stall_timeout() -> Span {
    Span::from_secs(30 * 60)
}
