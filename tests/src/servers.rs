//! Real servers that tests start for themselves, on loopback ports of their own, and kill by process id at the end.

pub mod accounts;
pub mod certificates;
pub mod elasticsearch;
pub mod line;
pub mod mariadb;
pub mod mysql;
pub mod opensearch;
pub mod process;
pub mod search_store;
pub mod sshd;
pub mod store_proxy;
pub mod versitygw;
