//! The oracle: whatever is written, and whatever dies meanwhile, a database that is brought to a point has exactly the
//! commits up to it.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "oracle/archive.rs"]
mod archive;
#[path = "oracle/points.rs"]
mod points;
#[path = "oracle/reference.rs"]
mod reference;
