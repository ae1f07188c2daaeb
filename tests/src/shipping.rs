//! The oracle of log shipping: numbered lines, files that are written, rotated, compressed and removed by seed while a
//! shipper is killed and its store fails, and the comparison of what was written with what the store holds.
//!
//! A [`Schedule`] is a list of steps, and any part of one is a schedule too, so that a failing one can be cut short.
//! The steps on files are done by a [`Stage`]; what happens to the shipper and the store is done by the test.

mod compare;
mod drive;
mod line;
mod schedule;
mod shipper;
mod stage;

pub use compare::{Found, differences, read_index};
pub use drive::{Settled, drive};
pub use line::{Line, LineError};
pub use schedule::{DEATHS, Schedule, Step};
pub use shipper::Shipper;
pub use stage::{LOGS, Stage};
