//! Cuts bytes into events, checks their checksums, and copies them on.

use std::io::{self, ErrorKind, Read, Write};

use super::checksum::{CHECKSUM_BYTES, Checksum, Summing};
use super::event::{EventKind, HEADER_BYTES, Header};
use super::{BinlogError, EVENT_BYTES_MAX, HEAD_BYTES_MAX, MAGIC};

/// How much is read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// An event as far as it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its header.
    pub header: Header,
    /// Where it began in what was read.
    pub position: u64,
    /// What is between header and checksum, at most [`HEAD_BYTES_MAX`] of it.
    pub body: &'a [u8],
}

impl Event<'_> {
    /// An error about it.
    pub(super) fn error(&self, what: impl Into<String>) -> BinlogError {
        BinlogError::Malformed { position: self.position, what: what.into() }
    }

    /// Adds it to a checksum, without its place in a file.
    pub(super) fn sum_up(&self, sum: &mut crc32fast::Hasher) {
        let header = Header { next_position: 0, flags: 0, ..self.header };
        sum.update(&header.to_bytes());
        sum.update(self.body);
    }
}

/// Reads events one after another, from a file or from packets.
#[derive(Debug)]
pub struct EventReader<R> {
    input: R,
    position: u64,
    checksum: Checksum,
    head: Vec<u8>,
}

impl<R: Read> EventReader<R> {
    /// Begins with a file, at its first byte.
    pub fn of_file(mut input: R) -> Result<Self, BinlogError> {
        let mut magic = [0; MAGIC.len()];
        match input.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => Ok(Self::at(input, MAGIC.len() as u64, Checksum::Crc32)),
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => {
                Err(BinlogError::Io { position: 0, source: error })
            }
            _ => Err(BinlogError::NotABinlog),
        }
    }

    /// Begins with events that have no file around them. `checksum` holds until a format description
    /// says what it is.
    pub fn of_events(input: R, checksum: Checksum) -> Self {
        Self::at(input, 0, checksum)
    }

    fn at(input: R, position: u64, checksum: Checksum) -> Self {
        Self { input, position, checksum, head: Vec::new() }
    }

    /// The bytes of whole events that were read, with what is before them in a file.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How the events are protected that come now.
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// What the events are read from.
    pub fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// Reads the next event and copies all bytes of it, as they are. None at the end.
    ///
    /// What was copied of an event that turns out to be damaged is for the caller to take back.
    pub fn next(&mut self, copy: &mut impl Write) -> Result<Option<Event<'_>>, BinlogError> {
        let position = self.position;
        let Some(bytes) = self.read_header()? else { return Ok(None) };
        let header = Header::parse(&bytes);
        let length = self.check_length(&header)?;
        let io = |source| BinlogError::Io { position, source };
        copy.write_all(&bytes).map_err(io)?;
        let mut sum = Summing::begin(&bytes);
        self.head.clear();
        let checked = if header.kind == EventKind::FORMAT_DESCRIPTION {
            self.read_format(length, &mut sum, copy)?;
            Checksum::Crc32
        } else {
            let rest = length - self.checksum.length();
            self.read_body(rest, &mut sum, copy)?;
            self.checksum
        };
        if checked == Checksum::Crc32 {
            let mut expected = [0; CHECKSUM_BYTES];
            self.fill(&mut expected)?;
            copy.write_all(&expected).map_err(io)?;
            if sum.end() != expected {
                return Err(BinlogError::Checksum { position });
            }
        }
        self.position += u64::from(header.length);
        if header.kind == EventKind::START_ENCRYPTION {
            return Err(BinlogError::Encrypted);
        }
        Ok(Some(Event { header, position, body: &self.head }))
    }

    fn read_header(&mut self) -> Result<Option<[u8; HEADER_BYTES]>, BinlogError> {
        let mut bytes = [0; HEADER_BYTES];
        let first = loop {
            match self.input.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(source)),
                Ok(count) => break count,
            }
        };
        if first == 0 {
            return Ok(None);
        }
        self.fill(&mut bytes[first..])?;
        Ok(Some(bytes))
    }

    /// The length of what follows the header.
    fn check_length(&self, header: &Header) -> Result<usize, BinlogError> {
        let least = HEADER_BYTES + self.checksum.length();
        if (header.length as usize) < least || header.length > EVENT_BYTES_MAX {
            let what = format!("length {} of kind {} is impossible", header.length, header.kind.0);
            return Err(BinlogError::Malformed { position: self.position, what });
        }
        Ok(header.length as usize - HEADER_BYTES)
    }

    /// A format description says how what follows is protected. It has a checksum itself either way.
    fn read_format(
        &mut self,
        length: usize,
        sum: &mut Summing,
        copy: &mut impl Write,
    ) -> Result<(), BinlogError> {
        // Version, server version, time, length of headers; then at least 27 lengths.
        const LEAST: usize = 2 + 50 + 4 + 1 + 27;
        if !(LEAST + 1 + CHECKSUM_BYTES..HEAD_BYTES_MAX).contains(&length) {
            let what = "it comes from a server older than MySQL 5.6 or MariaDB 10.0";
            return Err(self.malformed(what.to_owned()));
        }
        let rest = length - CHECKSUM_BYTES;
        self.read_body(rest, sum, copy)?;
        let version = u16::from_le_bytes([self.head[0], self.head[1]]);
        let code = self.head[rest - 1];
        self.checksum = match (version, Checksum::of_code(code)) {
            (4, Some(checksum)) => checksum,
            (4, None) => return Err(self.malformed(format!("checksum {code} is unknown"))),
            _ => return Err(self.malformed(format!("version {version} of the format is unknown"))),
        };
        Ok(())
    }

    fn malformed(&self, what: String) -> BinlogError {
        BinlogError::Malformed { position: self.position, what }
    }

    fn read_body(
        &mut self,
        length: usize,
        sum: &mut Summing,
        copy: &mut impl Write,
    ) -> Result<(), BinlogError> {
        let in_head = length.min(HEAD_BYTES_MAX);
        let mut head = std::mem::take(&mut self.head);
        head.resize(in_head, 0);
        let read = self.pass_on(&mut head, sum, copy);
        self.head = head;
        read?;
        let mut chunk = vec![0; CHUNK_BYTES.min(length - in_head)];
        let mut left = length - in_head;
        while left > 0 {
            let count = left.min(chunk.len());
            self.pass_on(&mut chunk[..count], sum, copy)?;
            left -= count;
        }
        Ok(())
    }

    fn pass_on(
        &mut self,
        bytes: &mut [u8],
        sum: &mut Summing,
        copy: &mut impl Write,
    ) -> Result<(), BinlogError> {
        self.fill(bytes)?;
        sum.add(bytes);
        copy.write_all(bytes).map_err(|source| self.failed(source))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), BinlogError> {
        self.input.read_exact(bytes).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> BinlogError {
        let position = self.position;
        match source.kind() {
            ErrorKind::UnexpectedEof => BinlogError::Truncated { position },
            _ => BinlogError::Io { position, source },
        }
    }
}
