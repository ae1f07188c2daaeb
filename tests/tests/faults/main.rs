//! Faults at random places: each round changes the source, breaks a run, and then looks whether design.md's promises
//! hold: what is committed is whole and restores to what it claims, nothing stored is lost, the next run succeeds.
//!
//! What happens comes from a seed; when it happens depends on the machine too. `HOLDFAST_FAULT_SEED=N` sets the seed
//! (it is printed when a round fails), `HOLDFAST_FAULT_ROUNDS=N` how many rounds there are. Needs root.
#![expect(clippy::print_stdout, reason = "seeds, and the figures of a long sweep")]

mod check;
mod fault;
mod restores;
mod source;
mod sweep;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use source::Kind;

/// Rounds of all sweeps together, if nothing else is asked for.
const ROUNDS: u64 = 24;

/// A number from the environment.
fn asked_for(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// The seed that was asked for, or a new one.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    asked_for("HOLDFAST_FAULT_SEED").unwrap_or(now % 1_000_000)
}

/// So many in `of` parts of all rounds.
fn rounds(parts: u64, of: u64) -> u64 {
    (asked_for("HOLDFAST_FAULT_ROUNDS").unwrap_or(ROUNDS) * parts).div_ceil(of)
}

/// Runs a sweep; says how to run it again if it fails.
#[track_caller]
fn with_seed(sweep: impl FnOnce(u64) -> Result<()>) {
    let seed = seed();
    println!("HOLDFAST_FAULT_SEED={seed}");
    if let Err(error) = sweep(seed) {
        panic!("HOLDFAST_FAULT_SEED={seed}: {error:#}");
    }
}

#[test]
fn files_survive_every_fault() {
    with_seed(|seed| sweep::sweep(Kind::Files, seed, rounds(16, 24)));
}

#[test]
fn a_database_survives_every_fault() {
    with_seed(|seed| sweep::sweep(Kind::Database, seed, rounds(4, 24)));
}

#[test]
fn a_restore_survives_every_fault() {
    with_seed(|seed| restores::sweep(seed, rounds(4, 24)));
}
