//! Work on many things by a few threads. The order of the results is that of the things.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;

use crate::failure::{Exit, Failure};
use crate::retry::Stop;

/// Calls `act` on each item, on up to `workers` threads with a state of its own each; the first error stops the rest,
/// and so does `stop`, with an error that says [`Exit::Interrupted`].
pub fn share<I: Sync, S, T: Send>(
    workers: usize,
    items: &[I],
    stop: &Stop,
    state: impl Fn() -> Result<S> + Sync,
    act: impl Fn(&mut S, &I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let ended = stop.child();
    let work = || {
        let mut done = Vec::new();
        let mut run = || -> Result<()> {
            let mut state = state()?;
            while !ended.is_stopped() {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(number) else { break };
                done.push((number, act(&mut state, item)?));
            }
            Ok(())
        };
        if let Err(error) = run() {
            ended.stop();
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
        done
    };
    let mut done = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..workers.clamp(1, items.len().max(1))).map(|_| scope.spawn(work)).collect();
        let results = threads.into_iter().map(|thread| thread.join().expect("a worker panicked"));
        results.flatten().collect::<Vec<_>>()
    });
    if stop.is_stopped() {
        return Err(Failure::new(Exit::Interrupted, "stopped before the end").into());
    }
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    done.sort_unstable_by_key(|(number, _)| *number);
    assert_eq!(done.len(), items.len(), "every item was worked on");
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    #[test]
    fn results_keep_the_order_and_the_first_error_wins() {
        let items: Vec<u32> = (0..1000).collect();
        let double = |(): &mut (), n: &u32| Ok(n * 2);
        let doubled = share(4, &items, &Stop::never(), || Ok(()), double).unwrap();
        assert!(doubled.iter().zip(&items).all(|(d, n)| *d == n * 2));
        let refuse = |(): &mut (), n: &u32| {
            ensure!(*n != 500, "refused");
            Ok(())
        };
        let error = share(4, &items, &Stop::never(), || Ok(()), refuse).unwrap_err();
        assert_eq!(error.to_string(), "refused");
        let none = share(4, &[0_u32; 0], &Stop::never(), || Ok(()), double).unwrap();
        assert!(none.is_empty());
    }

    #[test]
    fn a_stop_is_an_interruption() {
        let stop = Stop::new();
        stop.stop();
        let error = share(2, &[1], &stop, || Ok(()), |(): &mut (), _| Ok(())).unwrap_err();
        assert_eq!(crate::failure::exit_of(&error), Exit::Interrupted);
    }
}
