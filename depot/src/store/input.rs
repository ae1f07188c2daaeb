//! A body being sent, piece by piece. Its size is fixed when it is opened.

use std::fs::File;
use std::io::Read;

use super::{Body, StoreError};

/// A body opened: bytes are lent as they are, a file is read into a buffer that is used again.
#[derive(Debug)]
pub(super) struct Input<'a> {
    rest: Rest<'a>,
    size: u64,
    sent: u64,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Rest<'a> {
    Bytes(&'a [u8]),
    File(File, String),
}

impl<'a> Input<'a> {
    /// Opens a body; a file that cannot be read is an error.
    pub fn open(body: Body<'a>) -> Result<Self, StoreError> {
        let (rest, size) = match body {
            Body::Bytes(bytes) => (Rest::Bytes(bytes), bytes.len() as u64),
            Body::File(path) => {
                let what = format!("read {}", path.display());
                let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
                match opened {
                    Ok((size, file)) => (Rest::File(file, what), size),
                    Err(error) => return Err(StoreError::caused(what, error)),
                }
            }
        };
        Ok(Self { rest, size, sent: 0, buffer: Vec::new() })
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next piece: `most` bytes, or fewer at the end, where it is empty. A file that grew is
    /// cut at its first size; one that shrank is an error.
    pub fn next(&mut self, most: usize) -> Result<&[u8], StoreError> {
        let length = usize::try_from(self.size - self.sent).map_or(most, |left| left.min(most));
        self.sent += length as u64;
        match &mut self.rest {
            Rest::Bytes(bytes) => {
                let (piece, rest) = bytes.split_at(length);
                *bytes = rest;
                Ok(piece)
            }
            Rest::File(file, what) => {
                self.buffer.resize(length, 0);
                file.read_exact(&mut self.buffer)
                    .map_err(|error| StoreError::caused(what.clone(), error))?;
                Ok(&self.buffer)
            }
        }
    }

    /// All that is left, in memory.
    pub fn rest(mut self) -> Result<Vec<u8>, StoreError> {
        let left = usize::try_from(self.size - self.sent).expect("callers checked the size");
        if let Rest::Bytes(bytes) = self.rest {
            return Ok(bytes.to_vec());
        }
        self.next(left)?;
        Ok(self.buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pieces(body: Body<'_>) -> Vec<Vec<u8>> {
        let mut input = Input::open(body).unwrap();
        let mut pieces = Vec::new();
        loop {
            let piece = input.next(4).unwrap();
            if piece.is_empty() {
                return pieces;
            }
            pieces.push(piece.to_vec());
        }
    }

    #[test]
    fn bytes_and_files_come_in_the_same_pieces() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"0123456789").unwrap();
        let expected = [b"0123".to_vec(), b"4567".to_vec(), b"89".to_vec()];
        assert_eq!(pieces(Body::Bytes(b"0123456789")), expected);
        assert_eq!(pieces(Body::File(file.path())), expected);
        let mut input = Input::open(Body::File(file.path())).unwrap();
        input.next(3).unwrap();
        assert_eq!(input.rest().unwrap(), b"3456789");
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_and_one_that_grows_is_cut() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"0123").unwrap();
        let mut input = Input::open(Body::File(file.path())).unwrap();
        file.as_file().set_len(2).unwrap();
        assert!(input.next(4).is_err());
        let mut input = Input::open(Body::File(file.path())).unwrap();
        file.as_file().set_len(9).unwrap();
        assert_eq!(input.next(9).unwrap().len(), 2);
        assert!(input.next(9).unwrap().is_empty());
    }
}
