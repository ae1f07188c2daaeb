//! The spool: pieces of log on this host's disk, from when they were received until every depot has
//! them in a segment.
//!
//! A piece is a valid binlog file, `<n>.binlog`, with what is known about it in `<n>.json`. What
//! counts is in `place.json`, written last: up to which piece, and up to which transaction, all is
//! here. Whatever else a crash leaves behind is removed and asked of the server again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use chassis::durable;
use chrono::{DateTime, Utc};
use database::gtid::{Gtid, GtidSet};
use database::version::Flavour;
use depot::log::Timeline;
use serde::{Deserialize, Serialize};

use crate::state::make_private_dir;

const PLACE: &str = "place.json";

/// A closed piece.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// Pieces are numbered from 1.
    pub number: u64,
    /// The history that it is of.
    pub timeline: Timeline,
    /// Who made the server.
    pub flavour: Flavour,
    /// The server's version.
    pub server: String,
    /// The server's id.
    pub server_id: u32,
    /// What was there before.
    pub after: String,
    /// What is there with it.
    pub upto: String,
    /// The transactions in it.
    pub set: GtidSet,
    /// The first of them.
    pub first: Gtid,
    /// The last of them.
    pub last: Gtid,
    /// The least and the greatest commit time, in microseconds since 1970.
    pub committed: (u64, u64),
    /// How many transactions there are.
    pub transactions: u64,
    /// The length of the file.
    pub bytes: u64,
    /// What comes before the first transaction in it: it is the same in pieces that can be merged.
    pub head: Vec<u8>,
    /// When its first transaction was received.
    pub received: DateTime<Utc>,
}

/// The last transaction that is here, to know it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Last {
    /// Its id.
    pub gtid: Gtid,
    /// Its checksum.
    pub sum: u32,
    /// What was there before it.
    pub before: String,
}

/// Up to where all is here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The history.
    pub timeline: Timeline,
    /// The last piece that counts.
    pub number: u64,
    /// All that was archived, from this server or before.
    pub upto: String,
    /// The last transaction; none at the beginning of a timeline.
    pub last: Option<Last>,
}

/// The spool of one job.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    pieces: Mutex<BTreeMap<u64, Arc<Piece>>>,
}

impl Spool {
    /// Opens the directory and puts it in order.
    pub fn open(dir: &Path) -> Result<(Self, Option<Place>)> {
        make_private_dir(dir)?;
        durable::remove_leftovers(dir)?;
        let place: Option<Place> = read_json(&dir.join(PLACE));
        let last = place.as_ref().map_or(0, |place| place.number);
        let mut pieces = BTreeMap::new();
        for entry in fs::read_dir(dir).context("list spool")? {
            let path = entry.context("list spool")?.path();
            let Some(number) = piece_number(&path) else { continue };
            let piece = (number <= last).then(|| read_json(&dir.join(format!("{number}.json"))));
            let file = dir.join(format!("{number}.binlog"));
            match piece.flatten() {
                Some::<Piece>(piece) if file.metadata().is_ok_and(|m| m.len() == piece.bytes) => {
                    pieces.insert(number, Arc::new(piece));
                }
                _ => fs::remove_file(&path).or_else(ignore_missing).context("clean spool")?,
            }
        }
        Ok((Self { dir: dir.to_owned(), pieces: Mutex::new(pieces) }, place))
    }

    fn pieces(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Piece>>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of a piece.
    pub fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number}.binlog"))
    }

    /// Closed pieces from a number on.
    pub fn from(&self, number: u64) -> Vec<Arc<Piece>> {
        self.pieces().range(number..).map(|(_, piece)| Arc::clone(piece)).collect()
    }

    /// Bytes of all closed pieces.
    pub fn bytes(&self) -> u64 {
        self.pieces().values().map(|piece| piece.bytes).sum()
    }

    /// Adds a piece whose file is there and durable, and moves the place on.
    pub fn add(&self, piece: Piece, place: &Place) -> Result<()> {
        let text = serde_json::to_vec(&piece).context("encode piece")?;
        durable::write_replace(&self.dir.join(format!("{}.json", piece.number)), &text, 0o600)?;
        self.set_place(place)?;
        self.pieces().insert(piece.number, Arc::new(piece));
        Ok(())
    }

    /// Moves the place without a piece: a new timeline.
    pub fn set_place(&self, place: &Place) -> Result<()> {
        let text = serde_json::to_vec_pretty(place).context("encode place")?;
        durable::write_replace(&self.dir.join(PLACE), &text, 0o600)?;
        Ok(())
    }

    /// Removes pieces below a number: all depots have them.
    pub fn remove_below(&self, number: u64) -> Result<()> {
        let gone: Vec<u64> = self.pieces().range(..number).map(|(number, _)| *number).collect();
        for number in gone {
            fs::remove_file(self.path(number)).or_else(ignore_missing).context("clean spool")?;
            let path = self.dir.join(format!("{number}.json"));
            fs::remove_file(path).or_else(ignore_missing).context("clean spool")?;
            self.pieces().remove(&number);
        }
        Ok(())
    }
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn piece_number(path: &Path) -> Option<u64> {
    let is_ours = path.extension().is_some_and(|end| end == "binlog" || end == "json");
    is_ours.then(|| path.file_stem()?.to_str()?.parse().ok()).flatten()
}

/// What cannot be read is as good as not there: it is asked of the server again.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
