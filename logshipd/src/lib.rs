//! `logshipd`: ships the logs of the whole stack to Elasticsearch or OpenSearch, each line once.
//!
//! # Layout
//! - `discover`: which logs there are, by the configuration of their servers
//! - `document`, `parse`: from an entry of a log to a JSON document
//! - `paths`, `identity`, `input`, `life`, `follow`: which files there are, which is which, and their entries
//! - `checkpoint`: how far every file is shipped
//! - `spool`, `inbox`, `syslog`, `journal`: what cannot be read again waits on disk; not in the pipeline yet
//! - `batch`, `gzip`, `client`, `verdict`, `deliver`: to the store, until it has everything
//! - `aside`: documents that it will not take
//! - `pipeline`, `watch`: the thread that reads and those that send
//! - `setup`, `dashboards`: what the store is given once
//! - `daemon`, `command`, `config`: the program

pub mod aside;
pub mod batch;
pub mod checkpoint;
pub mod client;
pub mod command;
pub mod compose;
pub mod config;
pub mod daemon;
pub mod dashboards;
pub mod deliver;
pub mod discover;
pub mod document;
pub mod fault;
pub mod follow;
pub mod gzip;
pub mod identity;
pub mod inbox;
pub mod input;
pub mod journal;
pub mod life;
pub mod parse;
pub mod paths;
pub mod pipeline;
pub mod setup;
pub mod spool;
pub mod syslog;
pub mod verdict;
pub mod watch;
