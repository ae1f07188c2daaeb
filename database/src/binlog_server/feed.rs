//! From binlog files to a replica: whole transactions, those that are wanted, and the format that
//! they are in.

use std::io::{self, Read, Write};

use anyhow::{Context, Result, ensure};

use super::stream::EventStream;
use crate::binlog::{
    EventKind, EventReader, GtidEvent, HEADER_BYTES, Header, Splitter, Step, Summary,
};
use crate::gtid::Gtid;

/// Events that are looked at before they are sent are never longer.
const HELD_BYTES_MAX: usize = 1 << 20;

/// What was sent so far on a connection.
#[derive(Debug, Default)]
pub struct Feed {
    format: Vec<u8>,
}

impl Feed {
    /// Sends the transactions of a binlog file that `wants` wants, in their order. `sent` is told of
    /// each of them.
    pub fn file(
        &mut self,
        file: impl Read,
        stream: &mut EventStream,
        mut wants: impl FnMut(&Gtid) -> bool,
        mut sent: impl FnMut(&Summary),
    ) -> Result<()> {
        let mut reader = EventReader::of_file(file)?;
        let mut splitter = Splitter::default();
        let held = Vec::new();
        let mut passage = Passage { stream, is_wanted: false, held, fate: Fate::Unknown };
        loop {
            passage.fate = Fate::Unknown;
            passage.held.clear();
            let Some(event) = reader.next(&mut passage)? else { break };
            match splitter.step(&event)? {
                Step::Begin { abandoned } => {
                    // Pieces hold whole transactions only.
                    ensure!(!abandoned, "a transaction has no end");
                    let gtid = GtidEvent::parse(&event)?.gtid;
                    passage.is_wanted = wants(&gtid.context("a transaction has no GTID")?);
                    if passage.is_wanted {
                        passage.stream.event(&passage.held).context("send event")?;
                    }
                }
                Step::End(summary) => {
                    if std::mem::take(&mut passage.is_wanted) {
                        sent(&summary);
                    }
                }
                Step::Outside { .. } if event.header.kind == EventKind::FORMAT_DESCRIPTION => {
                    if self.format != passage.held {
                        self.format.clone_from(&passage.held);
                        passage.stream.format(&self.format).context("send format")?;
                    }
                }
                Step::Outside { .. } | Step::Inside | Step::Heartbeat => {}
            }
        }
        ensure!(!splitter.is_open(), "the last transaction of a piece has no end");
        Ok(())
    }
}

/// What becomes of the event that is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its header tells.
    Unknown,
    /// It is looked at first.
    Held,
    Sent,
    Dropped,
}

/// Sends what belongs to a wanted transaction as it is read, and holds what must be looked at first.
struct Passage<'a> {
    stream: &'a mut EventStream,
    is_wanted: bool,
    held: Vec<u8>,
    fate: Fate,
}

impl Write for Passage<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.fate == Fate::Unknown {
            // An event's header comes first, by itself.
            let mut header = [0; HEADER_BYTES];
            header.copy_from_slice(bytes);
            let header = Header::parse(&header);
            let is_looked_at =
                header.kind.is_gtid() || header.kind == EventKind::FORMAT_DESCRIPTION;
            self.fate = match self.is_wanted {
                _ if is_looked_at => Fate::Held,
                true => Fate::Sent,
                false => Fate::Dropped,
            };
            if self.fate == Fate::Sent {
                self.stream.begin(header.length as usize)?;
            }
        }
        match self.fate {
            Fate::Sent => self.stream.write(bytes),
            Fate::Held if self.held.len() + bytes.len() > HELD_BYTES_MAX => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "an event is too long for its kind"))
            }
            Fate::Held => {
                self.held.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Fate::Unknown | Fate::Dropped => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
