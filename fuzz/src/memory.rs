//! How much memory a piece of work takes at most. Only the work under test may run meanwhile: the count is that of the
//! whole process.

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What a parser may take whatever its input is, in bytes: small buffers, messages, temporary files.
pub const BASE: usize = 1 << 20;

/// Does the work, and panics if it held more than `limit` bytes at any time.
pub fn within<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = work();
    let held = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(held <= limit, "it held {held} bytes, at most {limit} are allowed");
    result
}
