//! `logshipd`: ships the logs of the whole stack to Elasticsearch or OpenSearch, each line once.
//!
//! # Layout
//! - `dashboards`: saved objects for Kibana and OpenSearch Dashboards
//! - `document`: a JSON document in the making
//! - `parse`: from an entry of a log to the fields of a document
//! - `setup`: templates and lifecycle in the store

pub mod dashboards;
pub mod document;
pub mod parse;
pub mod setup;
