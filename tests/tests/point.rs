//! `restore` to a point, of a real server and its real archive: what comes back is what was committed
//! before the point, and nothing else.
#![expect(clippy::unwrap_used, reason = "the helpers are parts of tests")]

#[path = "point/cut.rs"]
mod cut;
#[path = "point/scene.rs"]
mod scene;
