//! What goes to the store in one request: the body in the making, and what each document of it is.
//!
//! A batch ends by bytes, by count and by age. It knows how far it brings every file when it is acknowledged.

use std::sync::Arc;
use std::time::Instant;

use crate::identity::{Generation, Print};

/// A document in a batch.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where its two lines begin in the body.
    pub start: usize,
    /// Which data stream, of those of the batch.
    pub stream: u16,
    /// The life of the file that it is from.
    pub generation: Generation,
    /// Where in the file.
    pub offset: u64,
    /// It may be in an older backing index.
    pub is_uncertain: bool,
}

/// How far a life is brought.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// The life.
    pub life: u32,
    /// Everything before this is in this batch or in earlier ones.
    pub end: u64,
    /// What stands before.
    pub tail: Print,
}

/// The body of a request and what is in it.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its number.
    pub number: u64,
    /// Actions and documents, a line each.
    pub body: Vec<u8>,
    /// The documents in the order of the body.
    pub items: Vec<Item>,
    /// The data streams that they go to.
    pub streams: Vec<Arc<str>>,
    /// How far it brings each life.
    pub marks: Vec<Mark>,
    /// When it was begun.
    pub opened: Instant,
}

impl Batch {
    /// An empty one.
    pub fn new(number: u64, capacity: usize, now: Instant) -> Self {
        let body = Vec::with_capacity(capacity);
        Self {
            number,
            body,
            items: Vec::new(),
            streams: Vec::new(),
            marks: Vec::new(),
            opened: now,
        }
    }

    /// Adds a document, which must be one line of JSON. With `ids` it is created under an id of its own.
    pub fn add(&mut self, stream: &Arc<str>, item: Item, ids: bool, document: &[u8]) {
        let known = self.streams.iter().position(|known| known == stream);
        let index = known.unwrap_or(self.streams.len());
        if known.is_none() {
            self.streams.push(Arc::clone(stream));
        }
        let start = self.body.len();
        self.body.extend_from_slice(b"{\"create\":{");
        if ids {
            self.body.extend_from_slice(b"\"_id\":\"");
            self.body.extend_from_slice(&item.generation.document_id(item.offset));
            self.body.push(b'"');
        }
        // The first stream is in the address of the request.
        if index > 0 {
            self.body.extend_from_slice(if ids { b",\"_index\":\"" } else { b"\"_index\":\"" });
            self.body.extend_from_slice(stream.as_bytes());
            self.body.push(b'"');
        }
        self.body.extend_from_slice(b"}}\n");
        self.body.extend_from_slice(document);
        self.body.push(b'\n');
        self.items.push(Item { start, stream: index as u16, ..item });
    }

    /// The two lines of a document.
    pub fn lines(&self, index: usize) -> &[u8] {
        let end = self.items.get(index + 1).map_or(self.body.len(), |next| next.start);
        &self.body[self.items[index].start..end]
    }

    /// The line of the document alone, without its newline.
    pub fn document(&self, index: usize) -> &[u8] {
        let lines = self.lines(index);
        let action = memchr::memchr(b'\n', lines).map_or(0, |newline| newline + 1);
        &lines[action..lines.len() - 1]
    }

    /// The id of a document.
    pub fn id(&self, index: usize) -> String {
        let item = &self.items[index];
        item.generation.document_id(item.offset).iter().map(|byte| char::from(*byte)).collect()
    }

    /// Notes how far it brings a life.
    pub fn mark(&mut self, mark: Mark) {
        match self.marks.iter_mut().find(|known| known.life == mark.life) {
            Some(known) => *known = mark,
            None => self.marks.push(mark),
        }
    }
}
