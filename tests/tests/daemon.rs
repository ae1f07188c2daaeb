//! `backupd` and `backupctl`, the programs: a real daemon with its control socket, real backups into depots on disk, a
//! real MariaDB, and what happens when the daemon, a hook, a depot or the backup tool does not do what it should.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at the first thing that is not as it should be"
)]

#[path = "daemon/commands.rs"]
mod commands;
#[path = "daemon/database.rs"]
mod database;
#[path = "daemon/keeper.rs"]
mod keeper;
#[path = "daemon/lifecycle.rs"]
mod lifecycle;
#[path = "daemon/log.rs"]
mod log;
#[path = "daemon/log_limits.rs"]
mod log_limits;
#[path = "daemon/mysql.rs"]
mod mysql;
#[path = "daemon/pages.rs"]
mod pages;
#[path = "daemon/runs.rs"]
mod runs;
#[path = "daemon/tool.rs"]
mod tool;
#[path = "daemon/unit.rs"]
mod unit;

use tests::lab;
