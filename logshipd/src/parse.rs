//! From an entry of a log to the fields of a document. No I/O, no clock, no configuration file.

/// How a line relates to the entry that is open before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joint {
    /// It begins an entry, which may go on; the open one is complete.
    Start,
    /// It is an entry, which never goes on; the open one is complete.
    Whole,
    /// It belongs to the open entry.
    Continue,
}

/// A format of a log.
#[derive(Clone, Debug)]
pub enum Format {
    /// Every line is a message.
    Plain,
}

impl Format {
    /// How a line relates to the entry that is open before it.
    pub fn joint(&self, _line: &[u8], _open: &[u8]) -> Joint {
        Joint::Whole
    }
}
