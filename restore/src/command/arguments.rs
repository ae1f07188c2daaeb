//! What can be typed.

use std::path::PathBuf;

use chassis::units::ByteSize;
use clap::{Args, Parser, Subcommand};
use database::gtid::Gtid;
use database::tablespace::TableName;
use depot::names::{HostName, JobName, SnapshotId};

use super::find::Did;
use crate::point::WantedTimeline;

/// Restore a backup: files, a database, or parts of them.
///
/// It writes only into a new or empty directory, unless --delta names one to change. Killed or stopped, the same
/// command goes on where it was.
#[derive(Clone, Debug, Parser)]
#[command(name = "restore", version, max_term_width = 100)]
pub struct Arguments {
    /// Where the backups are: a directory (with a slash in it) or a name in the configuration
    ///
    /// Without it, the configured depots are tried in the order of their names.
    #[arg(long, global = true, value_name = "NAME|PATH", help_heading = "Source")]
    pub depot: Option<String>,
    /// The configuration with the depots
    #[arg(long, global = true, value_name = "FILE", help_heading = "Source")]
    pub config: Option<PathBuf>,
    /// A key that opens the backup: an age identity file or an ssh-ed25519 private key
    #[arg(long, global = true, value_name = "FILE", help_heading = "Source")]
    pub identity: Vec<PathBuf>,
    /// The newest backup (the default)
    #[arg(long, group = "which", help_heading = "Which backup")]
    pub latest: bool,
    /// The newest backup that began at this time or before: "2026-11-23 02:10", "yesterday 03:00", "2h ago"
    #[arg(long, value_name = "TIME", group = "which", help_heading = "Which backup")]
    pub at: Option<String>,
    /// This backup
    #[arg(long, value_name = "ID", group = "which", help_heading = "Which backup")]
    pub snapshot: Option<SnapshotId>,
    /// Only backups of this job
    #[arg(long, help_heading = "Which backup")]
    pub job: Option<JobName>,
    /// Only backups of this host
    #[arg(long, help_heading = "Which backup")]
    pub host: Option<HostName>,
    /// A database as it was at this time: "2026-11-23 02:10:00 Europe/Berlin", "10 minutes ago"
    ///
    /// The newest backup before it is restored and prepared, and the archived log is replayed up to the first
    /// transaction that was committed later.
    #[arg(long, value_name = "TIME", group = "which", help_heading = "A point in time")]
    pub point_in_time: Option<String>,
    /// A database as it was right behind this transaction
    #[arg(long, value_name = "GTID", group = "which", help_heading = "A point in time")]
    pub to_gtid: Option<Gtid>,
    /// A database as it was right before this transaction, such as a DROP
    #[arg(long, value_name = "GTID", group = "which", help_heading = "A point in time")]
    pub before_gtid: Option<Gtid>,
    /// A database with everything that is archived
    #[arg(long, group = "which", help_heading = "A point in time")]
    pub to_latest: bool,
    /// The history to follow, such as `shop.2` or `2`: each server that was put back begins a new one
    #[arg(long, global = true, value_name = "NAME|N", help_heading = "A point in time")]
    pub timeline: Option<WantedTimeline>,
    /// The backup to begin with, instead of the newest one before the point
    #[arg(long, value_name = "ID", conflicts_with_all = ["snapshot", "at", "latest"], help_heading = "A point in time")]
    pub base: Option<SnapshotId>,
    /// Files of all other jobs too, as of the newest backup at or before the point; each job gets a directory in the target
    #[arg(long, help_heading = "A point in time")]
    pub with_files: bool,
    /// Write what is replayed into a binary log of the restored server
    #[arg(long, help_heading = "A point in time")]
    pub binlog: bool,
    /// Make the result the first node of a new Galera cluster
    #[arg(long, help_heading = "A point in time")]
    pub galera_bootstrap: bool,
    /// Transactions that are replayed at once; as many as there are cores by default, at most 8
    #[arg(long, value_name = "N", help_heading = "A point in time")]
    pub replay_workers: Option<usize>,
    /// The directory to restore into: new or empty
    #[arg(long, value_name = "DIR", help_heading = "What and where")]
    pub target: Option<PathBuf>,
    /// Only this file or directory, or what matches this pattern (`*` within a directory, `**` across)
    #[arg(long, value_name = "P", conflicts_with = "table", help_heading = "What and where")]
    pub path: Vec<std::ffi::OsString>,
    /// Only this table of a database, made ready for import into a running server; prints the statements
    #[arg(long, value_name = "DB.TABLE", help_heading = "What and where")]
    pub table: Vec<TableName>,
    /// Make a database ready for a server to start on: apply the log and all increments
    #[arg(long, help_heading = "What and where")]
    pub prepare: bool,
    /// Memory for applying the log, such as "2GiB"
    #[arg(long, value_name = "SIZE", default_value = "0", help_heading = "What and where")]
    pub prepare_memory: ByteSize,
    /// Change an existing directory into the backup; only blocks that differ are fetched
    #[arg(long, help_heading = "What and where")]
    pub delta: bool,
    /// With --delta: remove what the backup does not have
    #[arg(long, requires = "delta", conflicts_with_all = ["path", "table"], help_heading = "What and where")]
    pub delete: bool,
    /// Do not set owners
    #[arg(long, help_heading = "What and where")]
    pub no_owner: bool,
    /// Show what would be done, and whether everything needed is there; needs no key
    #[arg(long, help_heading = "How")]
    pub plan: bool,
    /// Name what is damaged or missing in the depot, and restore the rest
    #[arg(long, help_heading = "How")]
    pub keep_going: bool,
    /// Threads; one more than there are cores by default
    #[arg(long, value_name = "N", help_heading = "How")]
    pub workers: Option<usize>,
    /// Do not wait until everything is on the disk: for drills
    #[arg(long, help_heading = "How")]
    pub no_sync: bool,
    /// The server program that replays a log, or is asked how a table of --table was made
    #[arg(long, value_name = "PROGRAM", default_value = "mariadbd", help_heading = "How")]
    pub server: PathBuf,
    /// Print JSON instead of text; of an error too
    #[arg(long, global = true, help_heading = "How")]
    pub json: bool,
    /// What else it can do
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What is not restoring.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the transactions that touched a table: to find the one to stop before
    Find(Find),
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

/// What is looked for in the log.
#[derive(Clone, Debug, Args)]
pub struct Find {
    /// The table: `shop.orders`, or `orders` of any database
    #[arg(long, value_name = "[DB.]TABLE")]
    pub table: Option<String>,
    /// What was done to it
    #[arg(long, value_enum)]
    pub statement: Vec<Did>,
    /// From this time on; the last day by default
    #[arg(long, value_name = "TIME", default_value = "1 day ago")]
    pub since: String,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// So many at most, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
}
