//! What is stored and where: names, blocks, packs, encryption, manifests, the catalog, retention
//! and the stores.
//!
//! The format is described in `docs/format.md`; this crate is its only implementation in Rust. The
//! core is synchronous: callers run it in `spawn_blocking`.

pub mod block;
pub mod cache;
pub mod compression;
pub mod crypt;
pub mod depot;
pub mod export;
pub mod log;
pub mod manifest;
pub mod names;
pub mod needs;
pub mod reader;
pub mod retention;
pub mod store;
pub mod verify;
pub mod writer;
