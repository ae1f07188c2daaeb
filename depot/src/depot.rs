//! An opened depot: a store whose format was checked, with the rules for torn objects and for trying again.
//!
//! Nothing here renames, changes or deletes an object.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use chassis::failure::{Exit, Failure};
use chassis::retry::{Backoff, Stop, retry};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::manifest::FORMAT_VERSION;
use crate::names::{PackId, Sha256, SnapshotId, candidate, split_candidate};
use crate::needs::Needs;
use crate::store::{Body, ObjectInfo, Store, StoreConfig, StoreError};

/// An object has at most this many candidates.
pub const CANDIDATES_MAX: u32 = 10;
const DESCRIPTION: &str = "depot.toml";
const READ_AHEAD_BYTES: u64 = 4 << 20;
const READ_AHEAD_BYTES_MAX: u64 = 32 << 20;

/// Named folders of a depot; `pack` has 256 more in it.
const FOLDERS: [&str; 6] = ["pack", "snapshot", "condemned", "keep", "log", "lease"];

/// What `depot.toml` says.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    format: u32,
    id: String,
    created: String,
}

/// A committed snapshot, as a listing shows it.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// When its manifest arrived, by the store's clock.
    pub arrived: DateTime<Utc>,
    /// Stored size of the manifest in bytes.
    pub manifest_bytes: u64,
}

/// An opened depot. Share it behind an `Arc`.
#[derive(Debug)]
pub struct Depot {
    name: String,
    id: String,
    store: Store,
    stop: Stop,
    backoff: Backoff,
}

/// How an object is tried again: five times within about 40 seconds.
fn standard_backoff() -> Backoff {
    Backoff {
        attempts_max: 5,
        first: Duration::from_secs(1),
        factor: 3,
        max: Duration::from_secs(30),
        jitter: 0.5,
    }
}

/// A store's error with its advice, as this suite prints errors. It stays in the chain for callers that branch on it.
pub fn explain(error: StoreError) -> anyhow::Error {
    let message = match &error {
        StoreError::Unreachable { .. } => "the depot is out of reach",
        StoreError::Refused { .. } => "the depot and we do not trust each other",
        StoreError::Full { .. } => "the depot is full",
        StoreError::Denied { .. } => "the depot's account may not do this",
        StoreError::Setup { .. } => "the depot is not set up as configured",
        StoreError::Exists { .. } | StoreError::Missing { .. } | StoreError::Other { .. } => {
            return error.into();
        }
    };
    let hint = error.hint().unwrap_or("check that the depot's host is up and reachable").to_owned();
    Failure::new(Exit::Failed, message).hint(hint).because(error).into()
}

impl Depot {
    /// Opens a depot and checks its format.
    pub fn open(name: &str, config: &StoreConfig, stop: &Stop) -> Result<Self> {
        let open = || -> Result<Self> {
            let backoff = standard_backoff();
            let store = retry(&backoff, stop, StoreError::is_permanent, || Store::open(config))
                .map_err(explain)?;
            Self::with(name, store, stop.clone(), backoff)
        };
        open().with_context(|| format!("open depot `{name}`"))
    }

    /// Opens a depot on a store that is at hand.
    pub fn from_store(name: &str, store: Store) -> Result<Self> {
        Self::with(name, store, Stop::never(), standard_backoff())
    }

    /// As [`Self::from_store`], for tests that want failures without waiting.
    pub fn from_store_with(name: &str, store: Store, stop: Stop, backoff: Backoff) -> Result<Self> {
        Self::with(name, store, stop, backoff)
    }

    fn with(name: &str, store: Store, stop: Stop, backoff: Backoff) -> Result<Self> {
        let read = retry(&backoff, &stop, StoreError::is_permanent, || store.read(DESCRIPTION));
        let text = match read {
            Ok(bytes) => bytes,
            Err(StoreError::Missing { .. }) => {
                return Err(Failure::new(Exit::Failed, "there is no depot here")
                    .hint("make one with `backupctl depot init`; if there was one, is it mounted?")
                    .into());
            }
            Err(error) => return Err(explain(error)),
        };
        let id = parse_description(&text)?.id;
        Ok(Self { name: name.to_owned(), id, store, stop, backoff })
    }

    /// Makes the folders and the description of a new depot; completes one that was begun. Run by the keeper, or by
    /// whoever owns the place.
    pub fn init(name: &str, config: &StoreConfig) -> Result<Self> {
        let store = Store::open(config).map_err(explain).context("open store")?;
        Self::init_store(name, store).with_context(|| format!("make depot `{name}`"))
    }

    /// As [`Self::init`], on a store that is at hand.
    pub fn init_store(name: &str, store: Store) -> Result<Self> {
        match store.read(DESCRIPTION) {
            Ok(bytes) => drop(parse_description(&bytes)?),
            Err(StoreError::Missing { .. }) => {}
            Err(error) => return Err(explain(error)),
        }
        for folder in FOLDERS {
            store.make_folder(folder).map_err(explain)?;
        }
        for number in 0..=255 {
            store.make_folder(&format!("pack/{number:02x}")).map_err(explain)?;
        }
        let description = Description {
            format: FORMAT_VERSION,
            id: hex::encode(rand::random::<[u8; 16]>()),
            created: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
        };
        let text = format!(
            "format = {}\nid = \"{}\"\ncreated = \"{}\"\n",
            description.format, description.id, description.created
        );
        match store.create(DESCRIPTION, Body::Bytes(text.as_bytes())) {
            Ok(()) | Err(StoreError::Exists { .. }) => Self::from_store(name, store),
            Err(error) => Err(explain(error)),
        }
    }

    /// The name that the configuration gives it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own id, from `depot.toml`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn again<T>(&self, attempt: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        retry(&self.backoff, &self.stop, StoreError::is_permanent, attempt)
    }

    /// Puts an object of known content, durably. One that is there already with the same content is done; one that was
    /// torn is put again as the next candidate.
    pub fn put(&self, object: &str, body: Body<'_>, size: u64, sha: Sha256) -> Result<()> {
        let mut number = 0;
        loop {
            let name = candidate(object, number);
            // A cut connection may leave a part of the object behind, or all of it without our knowing: then the
            // next attempt finds that it exists.
            match self.again(|| self.store.create(&name, body)) {
                Ok(()) => return Ok(()),
                Err(StoreError::Exists { .. }) if self.is_whole(&name, size, sha)? => return Ok(()),
                Err(StoreError::Exists { .. }) if number + 1 < CANDIDATES_MAX => number += 1,
                Err(error) => return Err(explain(error)).with_context(|| format!("put `{object}`")),
            }
        }
    }

    fn is_whole(&self, name: &str, size: u64, sha: Sha256) -> Result<bool> {
        let info = self.again(|| self.store.stat(name)).map_err(explain)?;
        if info.is_none_or(|info| info.size != size) {
            return Ok(false);
        }
        Ok(self.checksum(name)? == sha)
    }

    /// SHA-256 of a stored object, read through.
    pub fn checksum(&self, name: &str) -> Result<Sha256> {
        use sha2::Digest;
        let mut hash = sha2::Sha256::new();
        let mut offset = 0;
        loop {
            let piece = self
                .again(|| self.store.read_range(name, offset, READ_AHEAD_BYTES as usize))
                .map_err(explain)?;
            if piece.is_empty() {
                return Ok(Sha256(hash.finalize().into()));
            }
            hash.update(&piece);
            offset += piece.len() as u64;
        }
    }

    /// The stored name of the candidate of `object` that has the expected size, and checksum if one is given.
    pub fn find(&self, object: &str, size: Option<u64>, sha: Option<Sha256>) -> Result<ObjectInfo> {
        let mut seen = Vec::new();
        for number in 0..CANDIDATES_MAX {
            let name = candidate(object, number);
            let Some(info) = self.again(|| self.store.stat(&name)).map_err(explain)? else { break };
            let fits = size.is_none_or(|size| size == info.size)
                && match sha {
                    Some(sha) => self.checksum(&name)? == sha,
                    None => true,
                };
            if fits {
                return Ok(info);
            }
            seen.push(info.size);
        }
        match (seen.last(), size) {
            (None, _) => bail!("`{object}` is not in depot `{}`", self.name),
            (Some(found), Some(size)) if *found != size => {
                bail!("`{object}` has {found} bytes in depot `{}`, not {size}", self.name)
            }
            _ => bail!("`{object}` has another checksum in depot `{}`", self.name),
        }
    }

    /// Reads a whole object of at most [`crate::store::OBJECT_BYTES_MAX`].
    pub fn get(&self, object: &str, size: Option<u64>, sha: Option<Sha256>) -> Result<Vec<u8>> {
        let mut first_problem = None;
        for number in 0..CANDIDATES_MAX {
            let name = candidate(object, number);
            let bytes = match self.again(|| self.store.read(&name)) {
                Ok(bytes) => bytes,
                Err(StoreError::Missing { .. }) => break,
                Err(error) => return Err(explain(error)).with_context(|| format!("get `{object}`")),
            };
            let problem = match (size, sha) {
                (Some(size), _) if size != bytes.len() as u64 => {
                    format!("`{object}` has {} bytes, not {size}", bytes.len())
                }
                (_, Some(sha)) if Sha256::of(&bytes) != sha => {
                    format!("`{object}` has another checksum than expected")
                }
                _ => return Ok(bytes),
            };
            first_problem.get_or_insert(problem);
        }
        match first_problem {
            Some(problem) => bail!("{problem}, in depot `{}`", self.name),
            None => bail!("`{object}` is not in depot `{}`", self.name),
        }
    }

    /// Opens an object of any size for reading.
    pub fn open_object(&self, name: &str, size: u64) -> ObjectReader<'_> {
        let ahead = Arc::new(AtomicU64::new(READ_AHEAD_BYTES));
        let name = name.to_owned();
        ObjectReader { depot: self, name, size, ahead, at: 0, held_at: 0, held: Vec::new() }
    }

    /// Lists a folder.
    pub fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>> {
        let listed = self.again(|| self.store.list(folder)).map_err(explain);
        listed.with_context(|| format!("list `{folder}` of depot `{}`", self.name))
    }

    /// All packs that are there and that the keeper has not condemned, with their stored sizes. A pack of several candidates has
    /// the size of the largest, since the others were torn.
    pub fn pack_sizes(&self) -> Result<HashMap<PackId, u64>> {
        let mut sizes = HashMap::new();
        for number in 0..=255 {
            for info in self.list(&format!("pack/{number:02x}"))? {
                let (name, _) = split_candidate(&info.name);
                let hex = name.rsplit('/').next().unwrap_or_default();
                let Ok(pack) = hex.parse::<PackId>() else { continue };
                let size: &mut u64 = sizes.entry(pack).or_default();
                *size = info.size.max(*size);
            }
        }
        for pack in self.condemned()? {
            sizes.remove(&pack);
        }
        Ok(sizes)
    }

    /// The packs that the keeper has condemned.
    pub fn condemned(&self) -> Result<HashSet<PackId>> {
        let mut condemned = HashSet::new();
        for info in self.list("condemned")? {
            let mut text = String::new();
            let read = self.open_object(&info.name, info.size).read_to_string(&mut text);
            read.with_context(|| format!("read `{}`", info.name))?;
            condemned.extend(text.lines().filter_map(|line| line.parse::<PackId>().ok()));
        }
        Ok(condemned)
    }

    /// The committed snapshots, in the order of their ids: those whose manifest is there and not smaller than any age file.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        let mut found: HashMap<SnapshotId, SnapshotInfo> = HashMap::new();
        for info in self.list("snapshot")? {
            let (name, _) = split_candidate(&info.name);
            let Some(text) = name.strip_prefix("snapshot/").and_then(|n| n.strip_suffix(".age"))
            else {
                continue;
            };
            let Ok(id) = text.parse::<SnapshotId>() else { continue };
            let entry = found.entry(id.clone()).or_insert_with(|| SnapshotInfo {
                id,
                arrived: info.arrived.into(),
                manifest_bytes: info.size,
            });
            if info.size > entry.manifest_bytes {
                entry.manifest_bytes = info.size;
                entry.arrived = info.arrived.into();
            }
        }
        let mut snapshots: Vec<_> = found.into_values().collect();
        snapshots.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(snapshots)
    }

    /// The needs list of a snapshot: the first candidate that is whole.
    pub fn needs(&self, id: &SnapshotId) -> Result<Needs> {
        let mut problem = None;
        for number in 0..CANDIDATES_MAX {
            let name = candidate(&id.needs_object(), number);
            let Some(info) = self.again(|| self.store.stat(&name)).map_err(explain)? else { break };
            let mut text = String::new();
            self.open_object(&name, info.size)
                .read_to_string(&mut text)
                .with_context(|| format!("read `{name}`"))?;
            match Needs::parse(&text) {
                Ok(needs) => return Ok(needs),
                Err(error) => problem = Some(error),
            }
        }
        let missing = || anyhow::anyhow!("it is not there");
        Err(problem.unwrap_or_else(missing))
            .with_context(|| format!("read needs of `{id}` in depot `{}`", self.name))
    }
}

fn parse_description(bytes: &[u8]) -> Result<Description> {
    let text = std::str::from_utf8(bytes).context("read depot.toml")?;
    let description: Description = chassis::config::parse(DESCRIPTION, text)?;
    ensure!(
        description.format == FORMAT_VERSION,
        Failure::new(
            Exit::Failed,
            format!("the depot has format {}, this program {FORMAT_VERSION}", description.format)
        )
        .hint("use the version of this program that made the depot, or a newer one")
    );
    Ok(description)
}

/// Reads an object through ranges, so that one of any size needs little memory.
pub struct ObjectReader<'d> {
    depot: &'d Depot,
    name: String,
    size: u64,
    ahead: Arc<AtomicU64>,
    at: u64,
    held_at: u64,
    held: Vec<u8>,
}

impl ObjectReader<'_> {
    /// How many bytes the next request fetches, to be set before a seek to a place whose length is known.
    pub fn ahead(&self) -> Arc<AtomicU64> {
        self.ahead.clone()
    }

    fn fetch(&mut self) -> Result<()> {
        let ahead = self.ahead.load(Ordering::Relaxed).clamp(1, READ_AHEAD_BYTES_MAX);
        let length = ahead.min(self.size - self.at);
        let read = || self.depot.store.read_range(&self.name, self.at, length as usize);
        self.held = self.depot.again(read).map_err(explain)?;
        self.held_at = self.at;
        Ok(())
    }
}

impl Read for ObjectReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        let held_end = self.held_at + self.held.len() as u64;
        if !(self.held_at..held_end).contains(&self.at) {
            self.fetch().map_err(|error| io::Error::other(format!("{error:#}")))?;
            if self.held.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "object is cut short"));
            }
        }
        let from = (self.at - self.held_at) as usize;
        let count = buffer.len().min(self.held.len() - from);
        buffer[..count].copy_from_slice(&self.held[from..from + count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for ObjectReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| io::Error::other("seek before the start"))?;
        Ok(self.at)
    }
}
