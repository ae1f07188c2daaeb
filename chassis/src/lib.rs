//! How a program of this suite runs: strict configuration, durable files, logs, shutdown, the
//! driver that starts due work, retries, metrics, the control socket and what is said when
//! something fails.
//!
//! Nothing here knows what a backup or a log line is.

pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod drive;
pub mod durable;
pub mod failure;
pub mod log;
pub mod metrics;
pub mod progress;
pub mod retry;
pub mod schedule;
pub mod share;
pub mod shutdown;
pub mod text;
pub mod units;
