//! The archive of the binary log: names, heads, listing, and the catalog of what can be reached.
//!
//! The names alone tell which transactions are there, so that neither an agent nor the keeper needs
//! a key to find holes. `docs/format.md`, section Log, has the format. What a transaction is, this
//! crate does not know: it handles sets of ids.

mod begin;
mod catalog;
mod head;
mod name;
mod object;

pub use begin::Begin;
pub use catalog::{Archive, Broken, Catalog, Chain, Link, Reach};
pub use head::Head;
pub use name::{Kind, LogName, NAME_BYTES_MAX, Timeline};
pub use object::{Listing, LogObject, LogReader, SealedLog, read_head, seal};

/// The folder of the archive.
pub const FOLDER: &str = "log";
