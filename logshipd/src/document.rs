//! A document in the making: one JSON object, written as a log entry is parsed.
//!
//! Keys are dotted ECS names, each written once by the parser that knows it; nothing is looked up and
//! no map is built. Values that are not UTF-8 are made so; nothing that a log holds breaks the JSON.

/// Nanoseconds since 1970 in UTC.
pub type UnixNanos = i64;

/// One JSON object, built key by key.
#[derive(Clone, Debug, Default)]
pub struct Document {
    json: Vec<u8>,
}

impl Document {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.json.clear();
    }

    /// How far it is written: for [`Document::roll_back`].
    pub fn mark(&self) -> usize {
        self.json.len()
    }

    /// Takes back what was written after a mark.
    pub fn roll_back(&mut self, mark: usize) {
        self.json.truncate(mark);
    }
}
