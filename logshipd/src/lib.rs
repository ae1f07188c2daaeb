//! `logshipd`: ships the logs of the whole stack to Elasticsearch or OpenSearch, each line once.
//!
//! # Layout
//! - `document`: a JSON document in the making
//! - `parse`: from an entry of a log to the fields of a document
//! - `spool`, `inbox`: a queue on disk for what cannot be read again, and its two ends
//! - `syslog`, `journal`: what is put there

pub mod document;
pub mod inbox;
pub mod journal;
pub mod parse;
pub mod spool;
pub mod syslog;
