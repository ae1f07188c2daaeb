//! `restore`, the program: real backups in a depot on disk, restored in every way, with faults in the depot, in the
//! target and in the process. And recovery without it, by the script and by the commands of the documentation.
#![expect(clippy::unwrap_used, reason = "the helpers are parts of tests")]
#![expect(clippy::print_stdout, reason = "seeds")]

#[path = "restore/by_hand.rs"]
mod by_hand;
#[path = "restore/closed.rs"]
mod closed;
#[path = "restore/damage.rs"]
mod damage;
#[path = "restore/database.rs"]
mod database;
#[path = "restore/hostile.rs"]
mod hostile;
#[path = "restore/interrupted.rs"]
mod interrupted;
#[path = "restore/lab.rs"]
mod lab;
#[path = "restore/tables.rs"]
mod tables;
#[path = "restore/trust.rs"]
mod trust;
#[path = "restore/whole.rs"]
mod whole;
