//! The upload limit: one for a store, shared by all its connections.
//!
//! Whoever sends reserves the time that his bytes take at the limit, and waits until the time
//! reserved before him is over. So the rate holds on average and nobody starves; a pause saves up
//! nothing.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use chassis::units::ByteSize;

use super::StoreError;

/// Pieces are so small that one takes at most a quarter of a second, but not smaller than this.
const PIECE_BYTES_MIN: usize = 16 << 10;

/// See the module; without a rate it does nothing.
#[derive(Debug, Default)]
pub(super) struct UploadLimit {
    rate: Option<u64>,
    free_at: Mutex<Option<Instant>>,
}

impl UploadLimit {
    /// A limit in bytes a second. A limit of nothing is refused.
    pub fn new(rate: Option<ByteSize>) -> Result<Self, StoreError> {
        if rate == Some(ByteSize(0)) {
            return Err(StoreError::setup(
                "upload-limit is 0: nothing could ever be sent",
                "leave upload-limit out for no limit",
            ));
        }
        Ok(Self { rate: rate.map(|rate| rate.0), free_at: Mutex::default() })
    }

    /// Waits until `bytes` may be sent.
    pub fn take(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let wait = {
            let mut free_at = self.free_at.lock().expect("no holder of this lock panics");
            reserve(&mut free_at, Instant::now(), bytes, rate)
        };
        if !wait.is_zero() {
            thread::sleep(wait);
        }
    }

    /// How much to send at once, at most `most`, so that a slow line is used evenly.
    pub fn piece(&self, most: usize) -> usize {
        match self.rate {
            Some(rate) => most.min(((rate / 4) as usize).max(PIECE_BYTES_MIN)),
            None => most,
        }
    }
}

/// Moves `free_at` by the time that the bytes take, and returns how long to wait before sending
/// them.
fn reserve(free_at: &mut Option<Instant>, now: Instant, bytes: usize, rate: u64) -> Duration {
    let start = free_at.map_or(now, |free_at| free_at.max(now));
    let nanos = (bytes as u128 * 1_000_000_000 / u128::from(rate)).min(u128::from(u64::MAX));
    // A rate of a byte a second and a large body: so far away that it need not be exact.
    let taken = Duration::from_nanos(nanos as u64).min(Duration::from_secs(1 << 30));
    *free_at = Some(start + taken);
    start - now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_on_average_and_a_pause_saves_nothing_up() {
        let now = Instant::now();
        let mut free_at = None;
        let second = Duration::from_secs(1);
        assert_eq!(reserve(&mut free_at, now, 1000, 1000), Duration::ZERO);
        assert_eq!(reserve(&mut free_at, now, 500, 1000), second);
        assert_eq!(reserve(&mut free_at, now + second, 500, 1000), second / 2);
        assert_eq!(reserve(&mut free_at, now + 9 * second, 1000, 1000), Duration::ZERO);
        assert_eq!(reserve(&mut free_at, now + 9 * second, 1, 1000), second);
    }

    #[test]
    fn pieces_are_a_quarter_of_a_second() {
        fn check(rate: Option<u64>, expected: usize) {
            let limit = UploadLimit::new(rate.map(ByteSize)).unwrap();
            assert_eq!(limit.piece(1 << 20), expected);
        }
        check(None, 1 << 20);
        check(Some(1 << 30), 1 << 20);
        check(Some(1 << 20), 256 << 10);
        check(Some(1), PIECE_BYTES_MIN);
        assert!(UploadLimit::new(Some(ByteSize(0))).is_err());
    }

    #[test]
    fn an_absurdly_low_rate_does_not_overflow() {
        let mut free_at = None;
        let now = Instant::now();
        reserve(&mut free_at, now, usize::MAX, 1);
        assert!(reserve(&mut free_at, now, 1, 1) > Duration::from_secs(1 << 29));
    }
}
