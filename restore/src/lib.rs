//! Restoring a backup: plan, fetch, place, prepare, report. Works when every daemon is dead.
//!
//! [`command`] is the program; the other modules are its steps, each usable alone. [`chain`] reads manifests,
//! [`plan`] says what would be done, [`run`] does it: [`existing`] keeps what is at its place, [`fetch`]
//! brings packs to files, [`place`] sets attributes and links, [`prepare`] makes a database startable.
//! Everything is written [`beneath`] one open directory.

pub mod beneath;
pub mod chain;
pub mod command;
pub mod config;
pub mod existing;
pub mod fetch;
mod owners;
pub mod place;
pub mod plan;
pub mod point;
pub mod prepare;
pub mod replay;
pub mod report;
pub mod run;
pub mod select;
mod share;
pub mod target;
pub mod tree;
