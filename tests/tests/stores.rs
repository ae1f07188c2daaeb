//! The contract of the stores, run against all five, and what each does when its other side fails.
//!
//! SFTP is a real OpenSSH server, S3 a real `versitygw`; both are started by the tests. Needs root, for the accounts
//! of the SSH server and a small file system to fill.

#[cfg(test)]
#[path = "stores/contract.rs"]
mod contract;
#[cfg(test)]
#[path = "stores/directory.rs"]
mod directory;
#[cfg(test)]
#[path = "stores/flaky.rs"]
mod flaky;
#[cfg(test)]
#[path = "stores/s3.rs"]
mod s3;
#[cfg(test)]
#[path = "stores/sftp.rs"]
mod sftp;
#[cfg(test)]
#[path = "stores/sftp_identity.rs"]
mod sftp_identity;
