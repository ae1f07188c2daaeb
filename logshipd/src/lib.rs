//! `logshipd`: ships the logs of the whole stack to Elasticsearch or OpenSearch, each line once.
//!
//! # Layout
//! - `document`: a JSON document in the making
//! - `parse`: from an entry of a log to the fields of a document

pub mod document;
pub mod parse;
