//! Trying again, synchronously and a bounded number of times, and stopping early when asked to.
//!
//! [`Stop`] is the one cancel flag of the suite: blocking threads look at it and sleep on it,
//! asynchronous tasks take its token. Nothing here retries for ever, and no sleep outlives a stop.

use std::fmt::Display;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How often to try and how long to wait in between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Attempts in all, the first one included; 0 counts as 1.
    pub attempts_max: u32,
    /// The wait after the first attempt.
    pub first: Duration,
    /// By how much each further wait is longer.
    pub factor: u32,
    /// No wait is longer than this.
    pub max: Duration,
    /// The share of a wait, 0 to 1, that is left to chance, so that many clients do not come back
    /// as one.
    pub jitter: f64,
}

impl Default for Backoff {
    /// Six attempts within about half a minute.
    fn default() -> Self {
        Self {
            attempts_max: 6,
            first: Duration::from_millis(500),
            factor: 2,
            max: Duration::from_secs(15),
            jitter: 0.3,
        }
    }
}

impl Backoff {
    /// The wait after failed attempt number `attempt` (from 1), with `chance` from 0 to 1 deciding
    /// the jitter.
    pub fn wait(&self, attempt: u32, chance: f64) -> Duration {
        let growth = self.factor.saturating_pow(attempt.saturating_sub(1));
        let longest = self.first.saturating_mul(growth).min(self.max);
        longest.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0))
    }
}

/// Calls `attempt` until it succeeds, fails for good, has failed `attempts_max` times, or `stop` is
/// asked for; the last error is returned. It is called at least once. Errors that are tried again
/// are logged as warnings.
pub fn retry<T, E: Display>(
    backoff: &Backoff,
    stop: &Stop,
    is_permanent: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for number in 1..backoff.attempts_max {
        let error = match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if stop.is_stopped() || is_permanent(&error) => return Err(error),
            Err(error) => error,
        };
        let wait = backoff.wait(number, rand::random());
        let attempts_max = backoff.attempts_max;
        tracing::warn!(attempt = number, attempts_max, ?wait, "trying again after: {error:#}");
        if stop.wait_timeout(wait) {
            return Err(error);
        }
    }
    attempt()
}

/// A flag that says "stop at the next safe point". Clones share it; it never goes back.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    token: CancellationToken,
}

impl Stop {
    /// A flag nobody has raised yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag of one's own, for callers that cannot be stopped.
    pub fn never() -> Self {
        Self::default()
    }

    /// Asks everyone who holds a clone or a child to stop.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Whether somebody asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.token.is_cancelled()
    }

    /// A flag that is raised with this one, and may be raised alone.
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token() }
    }

    /// The same flag for asynchronous code.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Sleeps on a blocking thread; ends early, and returns true, when asked to stop. Needs no
    /// runtime.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let waker = Arc::new(Unpark(thread::current())).into();
        let mut context = Context::from_waker(&waker);
        let mut cancelled = pin!(self.token.cancelled());
        let start = Instant::now();
        loop {
            if cancelled.as_mut().poll(&mut context).is_ready() {
                return true;
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return false;
            }
            thread::park_timeout(left);
        }
    }
}

impl From<CancellationToken> for Stop {
    fn from(token: CancellationToken) -> Self {
        Self { token }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUICK: Backoff = Backoff {
        attempts_max: 4,
        first: Duration::from_micros(10),
        factor: 2,
        max: Duration::from_millis(1),
        jitter: 0.5,
    };

    /// Fails `failures` times before it succeeds; returns the outcome and how often it was called.
    fn attempts(failures: u32, stop: &Stop, permanent: bool) -> (Result<u32, String>, u32) {
        let mut calls = 0;
        let result = retry(
            &QUICK,
            stop,
            |_| permanent,
            || {
                calls += 1;
                if calls > failures { Ok(calls) } else { Err(format!("failure {calls}")) }
            },
        );
        (result, calls)
    }

    #[test]
    fn tries_until_it_succeeds_or_the_bound_is_reached() {
        assert_eq!(attempts(0, &Stop::never(), false), (Ok(1), 1));
        assert_eq!(attempts(3, &Stop::never(), false), (Ok(4), 4));
        assert_eq!(attempts(9, &Stop::never(), false), (Err("failure 4".into()), 4));
    }

    #[test]
    fn a_permanent_error_is_not_tried_again() {
        assert_eq!(attempts(9, &Stop::never(), true), (Err("failure 1".into()), 1));
    }

    #[test]
    fn a_stopped_retry_tries_once() {
        let stop = Stop::new();
        stop.stop();
        assert_eq!(attempts(9, &stop, false), (Err("failure 1".into()), 1));
        assert_eq!(attempts(0, &stop, false), (Ok(1), 1));
    }

    #[test]
    fn a_stop_ends_a_sleep_of_another_thread() {
        let stop = Stop::new();
        let sleeper = thread::spawn({
            let stop = stop.clone();
            move || stop.wait_timeout(Duration::from_mins(10))
        });
        stop.stop();
        assert!(sleeper.join().unwrap(), "the sleep says that it was ended");
    }

    #[test]
    fn a_sleep_without_a_stop_lasts_its_time() {
        let start = Instant::now();
        assert!(!Stop::never().wait_timeout(Duration::from_millis(20)));
        assert!(start.elapsed() >= Duration::from_millis(20));
        let stop = Stop::new();
        stop.stop();
        assert!(stop.wait_timeout(Duration::MAX), "a raised flag does not sleep at all");
    }

    #[test]
    fn a_child_stops_with_its_parent_and_alone() {
        let parent = Stop::new();
        let child = parent.child();
        let alone = parent.child();
        alone.stop();
        assert!(!parent.is_stopped() && !child.is_stopped());
        parent.stop();
        assert!(child.is_stopped());
    }

    proptest! {
        #[test]
        fn a_wait_never_shrinks_with_attempts_and_never_exceeds_the_maximum(
            attempt in 1u32..200, first in 0u64..10_000, factor in 1u32..10, max in 0u64..100_000,
            jitter in 0.0..1.0f64, chance in 0.0..1.0f64,
        ) {
            let backoff = Backoff {
                attempts_max: 9, factor, jitter,
                first: Duration::from_millis(first), max: Duration::from_millis(max),
            };
            let wait = backoff.wait(attempt, chance);
            prop_assert!(wait <= backoff.max);
            prop_assert!(wait <= backoff.wait(attempt + 1, chance));
            prop_assert!(wait >= backoff.wait(attempt, 1.0));
        }
    }
}
