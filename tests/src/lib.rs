//! What the tests of the whole suite share: a host with the programs, real servers on loopback ports, and trees
//! of files.

pub mod lab;
pub mod oracle;
pub mod program;
pub mod servers;
pub mod shipping;
pub mod shop;
pub mod site;
pub mod small_disk;
pub mod tree;
