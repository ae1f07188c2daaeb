//! Log shipping: the oracle itself, in front of real stores.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod oracle;
mod proxy;
