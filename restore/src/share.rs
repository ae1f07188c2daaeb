//! Work on many things by a few threads, and what is said when it is stopped.

use anyhow::Result;
use chassis::failure::{Exit, Failure};
use chassis::retry::Stop;

/// As [`chassis::share::share`]; a stop has the advice of [`check_stop`].
pub fn share<I: Sync, S, T: Send>(
    workers: usize,
    items: &[I],
    stop: &Stop,
    state: impl Fn() -> Result<S> + Sync,
    act: impl Fn(&mut S, &I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let done = chassis::share::share(workers, items, stop, state, act);
    check_stop(stop)?;
    done
}

/// An error if somebody asked to stop.
pub fn check_stop(stop: &Stop) -> Result<()> {
    if !stop.is_stopped() {
        return Ok(());
    }
    Err(Failure::new(Exit::Interrupted, "stopped before it was done")
        .hint("the same command goes on where this one stopped")
        .into())
}
