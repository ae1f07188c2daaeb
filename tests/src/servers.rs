//! Real servers that tests start for themselves, on loopback ports of their own, and kill by process id at the end.

pub mod accounts;
pub mod line;
pub mod mariadb;
pub mod mysql;
pub mod process;
pub mod sshd;
pub mod versitygw;
