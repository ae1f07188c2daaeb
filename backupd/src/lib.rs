//! `backupd` takes backups of file trees and databases into depots; `backupctl` asks it to and shows what there is.
//!
//! # Layout
//! - [`config`]: what `backupd.toml` may say
//! - [`source`]: file trees and databases, read into a snapshot
//! - [`run`]: one run of one job, with hooks and outcomes
//! - [`keeper`]: one run over the depots that this host keeps
//! - [`state`], [`report`]: what is remembered between runs
//! - [`daemon`]: schedules, control socket, health and metrics
//! - [`command`]: the command line of `backupctl`
//! - [`process`]: commands that we start
//!
//! A node that runs this can add backups. It holds no key that opens one, and deletes nothing unless it
//! is the keeper: the depot's own host.

pub mod archive;
pub mod command;
pub mod config;
pub mod daemon;
pub mod keeper;
pub mod process;
pub mod report;
pub mod run;
pub mod source;
pub mod state;
