//! Dashboards as saved objects that Kibana 8 and 9 and OpenSearch Dashboards 2 and 3 import, from one description.
//!
//! The objects are those that both know, in the form of their common ancestor 7.10: index pattern, visualization,
//! search and dashboard. No Lens, no maps, no controls. Filters are made by a click on a value; links lead from one
//! dashboard to the others, and from a fingerprint or a host to what it did.

pub mod panel;
pub mod query;
pub mod saved;
pub mod set;

pub use saved::ndjson;
