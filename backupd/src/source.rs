//! What is backed up: a tree of files or a database server. Each source feeds a `SnapshotWriter`
//! and decides nothing else.

pub mod database;
pub mod files;
