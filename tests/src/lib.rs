//! What the tests of the whole suite share: real servers on loopback ports, and trees of files.

pub mod servers;
pub mod tree;
