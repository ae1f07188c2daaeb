//! Which file is which: what the system says of it, what it begins with, and what stands before a position.
//!
//! No one of these is enough. Inodes are used again, names change, two files may begin alike. A position is
//! trusted only where all that is known agrees. Hashes are BLAKE3 cut to 64 bits: they tell files apart, they
//! are no secret.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// The hash of the beginning grows with the file up to this many bytes.
pub const HEAD_BYTES_MAX: usize = 1024;
/// At most so many bytes before a position are remembered by their hash.
pub const TAIL_BYTES_MAX: usize = 64;
/// At most so many bytes of the first line tell a life of a file.
pub const FIRST_BYTES_MAX: usize = 256;
/// The length of a document's id.
pub const ID_BYTES: usize = 20;

/// What the system says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The device that it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// When it was created, in nanoseconds since 1970, where the file system knows.
    pub born: Option<i64>,
}

impl Identity {
    /// From what `stat` says.
    pub fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            born: born.map(|since| since.as_nanos() as i64),
        }
    }
}

/// A number of bytes and their hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// How many bytes.
    pub bytes: u32,
    /// Their hash; 0 of none.
    pub hash: u64,
}

impl Print {
    /// Of the beginning of a file, of which `beginning` is known.
    pub fn of_head(beginning: &[u8]) -> Self {
        Self::of(&beginning[..beginning.len().min(HEAD_BYTES_MAX)])
    }

    /// Of the last bytes of what stands before a position.
    pub fn of_tail(before: &[u8]) -> Self {
        Self::of(&before[before.len().saturating_sub(TAIL_BYTES_MAX)..])
    }

    fn of(bytes: &[u8]) -> Self {
        let hash = if bytes.is_empty() { 0 } else { short_hash(bytes) };
        Self { bytes: bytes.len() as u32, hash }
    }

    /// Whether these are the bytes.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        *self == Self::of(bytes)
    }
}

fn short_hash(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight of 32 bytes"))
}

/// One life of a file on one host: from its first line until it is truncated, whatever it is called meanwhile.
///
/// It is told from the file and not made up, so that a lost checkpoint gives the same one again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation([u8; 9]);

impl Generation {
    /// `epoch` tells lives apart that are equal in all else.
    pub fn new(
        host: &str,
        base: &Path,
        identity: Option<Identity>,
        first: &[u8],
        epoch: u32,
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in [host.as_bytes(), base.as_os_str().as_encoded_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        if let Some(identity) = identity {
            hasher.update(&identity.device.to_le_bytes()).update(&identity.inode.to_le_bytes());
            hasher.update(&identity.born.unwrap_or(0).to_le_bytes());
        }
        hasher.update(&epoch.to_le_bytes());
        hasher.update(&first[..first.len().min(FIRST_BYTES_MAX)]);
        let hash = hasher.finalize();
        Self(hash.as_bytes()[..9].try_into().expect("nine of 32 bytes"))
    }

    /// The id of the document of the entry at an offset: 20 characters that need no escape. Entries of one
    /// file share the first twelve, which keeps the store's index of ids small.
    pub fn document_id(&self, offset: u64) -> [u8; ID_BYTES] {
        let mut raw = [0; 15];
        raw[..9].copy_from_slice(&self.0);
        raw[9..].copy_from_slice(&offset.to_be_bytes()[2..]);
        let mut id = [0; ID_BYTES];
        URL_SAFE_NO_PAD.encode_slice(raw, &mut id).expect("15 bytes are 20 characters");
        id
    }
}

impl Serialize for Generation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(&text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("not a generation"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Identity = Identity { device: 1, inode: 2, born: Some(3) };

    fn generation(base: &str, identity: Identity, first: &str, epoch: u32) -> Generation {
        Generation::new("web1", Path::new(base), Some(identity), first.as_bytes(), epoch)
    }

    #[test]
    fn everything_that_tells_a_life_changes_its_generation() {
        let one = generation("/a", FILE, "x", 0);
        assert_eq!(one, generation("/a", FILE, "x", 0));
        assert_ne!(one, generation("/b", FILE, "x", 0));
        assert_ne!(one, generation("/a", Identity { born: None, ..FILE }, "x", 0));
        assert_ne!(one, generation("/a", Identity { inode: 9, ..FILE }, "x", 0));
        assert_ne!(one, generation("/a", FILE, "y", 0));
        assert_ne!(one, generation("/a", FILE, "x", 1));
    }

    #[test]
    fn ids_are_short_and_differ_by_offset_only_at_the_end() {
        let one = generation("/a", FILE, "x", 0);
        let (first, second) = (one.document_id(0), one.document_id((1 << 48) - 1));
        assert_eq!(first[..12], second[..12]);
        assert_ne!(first[12..], second[12..]);
        assert!(
            first.iter().chain(&second).all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b))
        );
    }

    #[test]
    fn a_generation_survives_json() {
        let one = generation("/a", FILE, "x", 0);
        let json = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Generation>(&json).unwrap(), one);
        assert!(serde_json::from_str::<Generation>("\"AAAA\"").is_err());
    }

    #[test]
    fn a_print_is_of_the_first_or_last_bytes_only() {
        let long = vec![b'x'; 3000];
        assert_eq!(Print::of_head(&long), Print::of_head(&long[..HEAD_BYTES_MAX]));
        assert_eq!(Print::of_tail(&long), Print::of_tail(&long[..TAIL_BYTES_MAX]));
        assert!(Print::default().fits(b"") && !Print::default().fits(b"x"));
    }
}
