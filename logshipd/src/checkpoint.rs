//! How far every file is shipped, on disk, so that nothing is lost or doubled after a crash.
//!
//! Two files are written in turn, each whole and durable ([`chassis::durable`]); the newer good one counts. A
//! file that is torn, or of a newer version, is set aside and never overwritten. A position in here was
//! acknowledged by the store; what was read beyond it is at most [`WINDOW_BYTES_MAX`] further.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::identity::{Generation, Identity, Print};

/// Of one file, no more than this is sent beyond what the last checkpoint says.
pub const WINDOW_BYTES_MAX: u64 = 64 << 20;
/// No checkpoint is larger than this.
const CHECKPOINT_BYTES_MAX: u64 = 64 << 20;
const VERSION: u32 = 1;
const MAGIC: &str = "logshipd-checkpoint";
const NAMES: [&str; 2] = ["checkpoint.0", "checkpoint.1"];

/// What is known of one life of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// Where it was seen last.
    pub path: PathBuf,
    /// Where it was written to when it was first seen; its rotated siblings have names made of this.
    pub base: PathBuf,
    /// The file.
    pub identity: Identity,
    /// Other files with the same content: copies, and what became of it when it was compressed.
    #[serde(default)]
    pub copies: Vec<Identity>,
    /// None as long as there is no first line.
    pub generation: Option<Generation>,
    /// What it begins with.
    pub head: Print,
    /// Everything before this is shipped.
    pub offset: u64,
    /// What stands before the offset.
    pub tail: Print,
    /// How large it was seen.
    pub size: u64,
    /// Where entries were ended because nothing more came, beyond the offset.
    #[serde(default)]
    pub cuts: Vec<u64>,
    /// Entries before this may be in an older backing index than the newest.
    #[serde(default)]
    pub uncertain: u64,
    /// Nothing of it is to be shipped: it was there before us, or it is at its end and gone.
    #[serde(default)]
    pub closed: bool,
}

/// All that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checkpoint {
    /// The lives of all files.
    pub records: Vec<Record>,
    /// Log files whose rotated siblings are known.
    pub families: Vec<PathBuf>,
    /// The backing index of each data stream that nothing unacknowledged is older than.
    pub streams: BTreeMap<String, String>,
}

/// Where checkpoints are kept.
#[derive(Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    sequence: u64,
}

/// What was found at the start.
#[derive(Debug)]
pub struct Loaded {
    /// The newest good one.
    pub checkpoint: Option<Checkpoint>,
    /// What was set aside, and why. If nothing good is left, what was shipped is not known.
    pub set_aside: Vec<String>,
}

impl Checkpoints {
    /// Opens the directory, which must exist, and reads the newest good checkpoint.
    pub fn open(dir: &Path) -> Result<(Self, Loaded)> {
        let mut newest: Option<(u64, Checkpoint)> = None;
        let mut set_aside = Vec::new();
        for name in NAMES {
            let path = dir.join(name);
            match read(&path) {
                Ok(None) => {}
                Ok(Some((sequence, checkpoint))) => {
                    if newest.as_ref().is_none_or(|(found, _)| *found < sequence) {
                        newest = Some((sequence, checkpoint));
                    }
                }
                Err(error) => {
                    let kept = put_aside(&path)?;
                    set_aside.push(format!("{}: {error:#}", kept.display()));
                }
            }
        }
        let sequence = newest.as_ref().map_or(0, |(sequence, _)| *sequence);
        let checkpoint = newest.map(|(_, checkpoint)| checkpoint);
        Ok((Self { dir: dir.to_owned(), sequence }, Loaded { checkpoint, set_aside }))
    }

    /// Writes a checkpoint; when this returns, it survives a power cut.
    pub fn save(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let sequence = self.sequence + 1;
        let path = self.dir.join(NAMES[(sequence % 2) as usize]);
        let body = serde_json::to_vec(checkpoint).context("encode checkpoint")?;
        let sum = checksum(sequence, &body);
        let mut text =
            format!("{MAGIC} {VERSION} {sequence} {sum:08x} {}\n", body.len()).into_bytes();
        text.extend_from_slice(&body);
        text.push(b'\n');
        chassis::durable::write_replace(&path, &text, 0o600).context("write checkpoint")?;
        self.sequence = sequence;
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<(u64, Checkpoint)>> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        metadata => metadata.context("inspect checkpoint")?,
    };
    anyhow::ensure!(metadata.len() <= CHECKPOINT_BYTES_MAX, "it has {} bytes", metadata.len());
    parse(&fs::read(path).context("read checkpoint")?).map(Some)
}

/// Its sequence number and itself.
pub fn parse(text: &[u8]) -> Result<(u64, Checkpoint)> {
    let newline = memchr::memchr(b'\n', text).context("it has no first line")?;
    let head = std::str::from_utf8(&text[..newline]).context("read its first line")?;
    let words: Vec<&str> = head.split(' ').collect();
    let [MAGIC, version, rest @ ..] = words.as_slice() else {
        anyhow::bail!("it is no checkpoint");
    };
    let version: u32 = version.parse().context("read its version")?;
    anyhow::ensure!(version <= VERSION, "version {version} is newer than this program");
    anyhow::ensure!(version == VERSION, "version {version} was never written");
    let [sequence, sum, length] = rest else { anyhow::bail!("its first line is not whole") };
    let length: usize = length.parse().context("read its length")?;
    let body = text.get(newline + 1..).and_then(|rest| rest.get(..length));
    let body = body.context("it is torn: its end is missing")?;
    let sum = u32::from_str_radix(sum, 16).context("read its checksum")?;
    let sequence: u64 = sequence.parse().context("read its number")?;
    anyhow::ensure!(checksum(sequence, body) == sum, "it is damaged: its checksum does not fit");
    let checkpoint = serde_json::from_slice(body).context("read its records")?;
    Ok((sequence, checkpoint))
}

fn checksum(sequence: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sequence.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// Under a name that is free.
#[expect(clippy::disallowed_methods, reason = "what is moved is not trusted any more")]
fn put_aside(path: &Path) -> Result<PathBuf> {
    for number in 1..1000 {
        let kept = path.with_extension(format!("aside-{number}"));
        if !kept.exists() {
            fs::rename(path, &kept).context("set a checkpoint aside")?;
            return Ok(kept);
        }
    }
    anyhow::bail!("too many checkpoints are set aside next to {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(size: u64) -> Checkpoint {
        let record = Record {
            path: "/var/log/x".into(),
            base: "/var/log/x".into(),
            identity: Identity { device: 1, inode: 2, born: None },
            copies: Vec::new(),
            generation: None,
            head: Print::default(),
            offset: size,
            tail: Print::default(),
            size,
            cuts: vec![7],
            uncertain: 0,
            closed: false,
        };
        Checkpoint { records: vec![record], ..Checkpoint::default() }
    }

    fn loaded(dir: &Path) -> Loaded {
        Checkpoints::open(dir).unwrap().1
    }

    #[test]
    fn the_newest_is_read_and_a_torn_one_gives_way_to_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let (mut checkpoints, found) = Checkpoints::open(dir.path()).unwrap();
        assert!(found.checkpoint.is_none() && found.set_aside.is_empty());
        for size in 1..=4 {
            checkpoints.save(&of(size)).unwrap();
            assert_eq!(loaded(dir.path()).checkpoint, Some(of(size)));
        }
        let newest = dir.path().join("checkpoint.0");
        let whole = fs::read(&newest).unwrap();
        for length in [0, 10, whole.len() / 2, whole.len() - 3] {
            fs::write(&newest, &whole[..length]).unwrap();
            let found = loaded(dir.path());
            assert_eq!(found.checkpoint, Some(of(3)));
            assert_eq!(found.set_aside.len(), 1);
            assert!(!newest.exists());
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        Checkpoints::open(dir.path()).unwrap().0.save(&of(9)).unwrap();
        let whole = fs::read(dir.path().join("checkpoint.1")).unwrap();
        for at in 0..whole.len() - 1 {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            assert!(parse(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_newer_version_is_set_aside_and_stays_whole() {
        let dir = tempfile::tempdir().unwrap();
        let text = b"logshipd-checkpoint 2 5 00000000 0\n\n";
        fs::write(dir.path().join("checkpoint.0"), text).unwrap();
        let found = loaded(dir.path());
        assert!(found.set_aside[0].contains("newer than this program"), "{:?}", found.set_aside);
        assert_eq!(fs::read(dir.path().join("checkpoint.aside-1")).unwrap(), text);
    }
}
