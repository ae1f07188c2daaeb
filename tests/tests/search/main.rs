//! Search stores: that the real ones answer as the rest of the tests relies on, and what is installed in them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod stores;
