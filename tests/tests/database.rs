//! The `database` crate against a real MariaDB and its real backup tool.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "database/backup.rs"]
mod backup;
#[path = "database/binlog.rs"]
mod binlog;
#[path = "database/names.rs"]
mod names;
#[path = "database/one_table.rs"]
mod one_table;
#[path = "database/reach.rs"]
mod reach;
#[path = "database/taken.rs"]
mod taken;
#[path = "database/tls.rs"]
mod tls;
