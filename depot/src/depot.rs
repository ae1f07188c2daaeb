//! An opened depot: a store whose format was checked, with the rules for torn objects and for
//! trying again.
//!
//! Nothing here renames, changes or deletes an object.

use std::io;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use chassis::failure::{Exit, Failure};
use chassis::retry::{Backoff, Stop, retry};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::manifest::FORMAT_VERSION;
use crate::names::{Sha256, SnapshotId, candidate};
use crate::store::{Body, OBJECT_BYTES_MAX, ObjectInfo, Store, StoreConfig, StoreError};

mod listing;
mod object;

pub(crate) use listing::SnapshotObjects;
pub use object::ObjectReader;

/// An object has at most this many candidates.
pub const CANDIDATES_MAX: u32 = 10;
const DESCRIPTION: &str = "depot.toml";
/// Objects of such names prove that a host can write. They are of use for a day.
pub const PROOF_PREFIX: &str = "lease/check--";

/// Named folders of a depot; `pack` has 256 more in it.
const FOLDERS: [&str; 6] = ["pack", "snapshot", "condemned", "keep", "log", "lease"];

/// What `depot.toml` says.
#[derive(Debug, Deserialize)]
struct Description {
    format: u32,
    id: String,
    #[serde(default)]
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
    created: Option<DateTime<Utc>>,
    store: Store,
    stop: Stop,
    backoff: Backoff,
}

/// How an object is tried again: within about three minutes, so that a restart of the depot's host
/// does not end a long run.
fn standard_backoff() -> Backoff {
    Backoff {
        attempts_max: 8,
        first: Duration::from_secs(1),
        factor: 3,
        max: Duration::from_mins(1),
        jitter: 0.5,
    }
}

/// How opening is tried again: a depot that is down shall not hold up a run for long.
fn opening_backoff() -> Backoff {
    Backoff { attempts_max: 3, ..standard_backoff() }
}

/// True if an error says only that a store is away or refuses us, and nothing about what is in it.
pub fn is_outage(error: &anyhow::Error) -> bool {
    let is_away = |error: &StoreError| {
        matches!(error, StoreError::Unreachable { .. } | StoreError::Refused { .. })
    };
    error.chain().any(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<StoreError>());
        cause.downcast_ref::<StoreError>().or(inner).is_some_and(is_away)
    })
}

/// A store's error with its advice, as this suite prints errors. It stays in the chain for callers
/// that branch on it.
pub fn explain(error: StoreError) -> anyhow::Error {
    match explanation(&error) {
        Some(failure) => failure.because(error).into(),
        None => error.into(),
    }
}

/// The same for readers.
fn explain_to_reader(error: StoreError) -> io::Error {
    match explanation(&error) {
        Some(failure) => io::Error::other(failure.because(error)),
        None => io::Error::other(error),
    }
}

fn explanation(error: &StoreError) -> Option<Failure> {
    let message = match error {
        StoreError::Unreachable { .. } => "the depot is out of reach",
        StoreError::Refused { .. } => "the depot and we do not trust each other",
        StoreError::Full { .. } => "the depot is full",
        StoreError::Denied { .. } => "the depot's account may not do this",
        StoreError::Setup { .. } => "the depot is not set up as configured",
        StoreError::Exists { .. } | StoreError::Missing { .. } | StoreError::Other { .. } => {
            return None;
        }
    };
    let mut failure = Failure::new(Exit::Failed, message);
    failure.hint = error.hint().map(str::to_owned);
    Some(failure)
}

impl Depot {
    /// Opens a depot and checks its format.
    pub fn open(name: &str, config: &StoreConfig, stop: &Stop) -> Result<Self> {
        let open = || -> Result<Self> {
            let opening = opening_backoff();
            let store = retry(&opening, stop, StoreError::is_permanent, || Store::open(config))
                .map_err(explain)?;
            let mut depot = Self::with(name, store, stop.clone(), opening)?;
            depot.backoff = standard_backoff();
            Ok(depot)
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
        let Description { id, created, .. } = parse_description(&text)?;
        let created = DateTime::parse_from_rfc3339(&created).ok().map(|time| time.to_utc());
        Ok(Self { name: name.to_owned(), id, created, store, stop, backoff })
    }

    /// Makes the folders and the description of a new depot; completes one that was begun. Run by
    /// the keeper, or by whoever owns the place.
    pub fn init(name: &str, config: &StoreConfig) -> Result<Self> {
        let store = Store::open(config).map_err(explain).context("open store")?;
        Self::init_store(name, store).with_context(|| format!("make depot `{name}`"))
    }

    /// As [`Self::init`], on a store that is at hand.
    pub fn init_store(name: &str, store: Store) -> Result<Self> {
        let is_new = match store.read(DESCRIPTION) {
            Ok(bytes) => parse_description(&bytes).map(|_| false)?,
            Err(StoreError::Missing { .. }) => true,
            Err(error) => return Err(explain(error)),
        };
        for folder in FOLDERS {
            store.make_folder(folder).map_err(explain)?;
        }
        for number in 0..=255 {
            store.make_folder(&format!("pack/{number:02x}")).map_err(explain)?;
        }
        if is_new {
            describe(&store)?;
        }
        Self::from_store(name, store)
    }

    /// The name that the configuration gives it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own id, from `depot.toml`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it was made, by the clock of who made it; `None` if its description does not say so.
    pub fn created(&self) -> Option<DateTime<Utc>> {
        self.created
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn again<T>(&self, attempt: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        retry(&self.backoff, &self.stop, StoreError::is_permanent, attempt)
    }

    /// Puts an object of known content, durably. One that is there already with the same content is
    /// done; one that was torn is put again as the next candidate.
    pub fn put(&self, object: &str, body: Body<'_>, size: u64, sha: Sha256) -> Result<()> {
        let mut number = 0;
        loop {
            let name = candidate(object, number);
            // A cut connection may leave a part of the object behind, or all of it without our
            // knowing: then the next attempt finds that it exists.
            match self.again(|| self.store.create(&name, body)) {
                Ok(()) => return Ok(()),
                // It was read back, maybe from the memory of a server that has not flushed it yet.
                Err(StoreError::Exists { .. }) if self.is_whole(&name, size, sha)? => {
                    return self
                        .again(|| self.store.sync(&name))
                        .map_err(explain)
                        .with_context(|| format!("flush `{name}`"));
                }
                Err(StoreError::Exists { .. }) if number + 1 < CANDIDATES_MAX => number += 1,
                Err(error) => {
                    return Err(explain(error)).with_context(|| format!("put `{object}`"));
                }
            }
        }
    }

    /// Puts an object under the first free name, although one with the same content may be there:
    /// that one is condemned.
    pub fn put_anew(&self, object: &str, body: Body<'_>) -> Result<()> {
        for number in 1..CANDIDATES_MAX {
            match self.again(|| self.store.create(&candidate(object, number), body)) {
                Err(StoreError::Exists { .. }) => {}
                other => return other.map_err(explain).with_context(|| format!("put `{object}`")),
            }
        }
        bail!("all candidates of `{object}` are taken in depot `{}`", self.name)
    }

    fn is_whole(&self, name: &str, size: u64, sha: Sha256) -> Result<bool> {
        let info = self.again(|| self.store.stat(name)).map_err(explain)?;
        if info.is_none_or(|info| info.size != size) {
            return Ok(false);
        }
        Ok(self.checksum(name, size)? == sha)
    }

    /// SHA-256 of a stored object of this size, read through.
    pub fn checksum(&self, name: &str, size: u64) -> Result<Sha256> {
        use sha2::Digest;
        if size <= OBJECT_BYTES_MAX {
            let bytes = self.again(|| self.store.read(name)).map_err(explain)?;
            return Ok(Sha256::of(&bytes));
        }
        let mut hash = sha2::Sha256::new();
        let mut object = self.open_object(name, size);
        object.read_far_ahead();
        io::copy(&mut object, &mut hash).with_context(|| format!("read `{name}`"))?;
        Ok(Sha256(hash.finalize().into()))
    }

    /// SHA-256 of a stored object of any size.
    pub fn checksum_of(&self, name: &str) -> Result<Sha256> {
        let info = self.again(|| self.store.stat(name)).map_err(explain)?;
        let info = info.with_context(|| format!("`{name}` is gone from depot `{}`", self.name))?;
        self.checksum(name, info.size)
    }

    /// The stored name of the candidate of `object` that has the expected size, and checksum if one
    /// is given.
    pub fn find(&self, object: &str, size: Option<u64>, sha: Option<Sha256>) -> Result<ObjectInfo> {
        let mut seen = Vec::new();
        for number in 0..CANDIDATES_MAX {
            let name = candidate(object, number);
            let Some(info) = self.again(|| self.store.stat(&name)).map_err(explain)? else {
                continue;
            };
            let fits = size.is_none_or(|size| size == info.size)
                && match sha {
                    Some(sha) => self.checksum(&name, info.size)? == sha,
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
        let mut bytes = Vec::new();
        self.get_into(object, size, sha, &mut bytes)?;
        Ok(bytes)
    }

    /// As [`Self::get`], into a buffer that is used again. If no candidate fits, it has the last one
    /// that was read, if any.
    pub fn get_into(
        &self,
        object: &str,
        size: Option<u64>,
        sha: Option<Sha256>,
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        bytes.clear();
        let mut first_problem = None;
        for number in 0..CANDIDATES_MAX {
            let name = candidate(object, number);
            match self.again(|| self.store.read_into(&name, bytes)) {
                Ok(()) => {}
                Err(StoreError::Missing { .. }) => continue,
                Err(error) => {
                    return Err(explain(error)).with_context(|| format!("get `{object}`"));
                }
            }
            let problem = match (size, sha) {
                (Some(size), _) if size != bytes.len() as u64 => {
                    format!("`{object}` has {} bytes, not {size}", bytes.len())
                }
                (_, Some(sha)) if Sha256::of(bytes) != sha => {
                    format!("`{object}` has another checksum than expected")
                }
                _ => return Ok(()),
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
        ObjectReader::new(self, name, size)
    }
}

/// Writes the description of a new depot, and proves with it that the store refuses to write over
/// what is there.
fn describe(store: &Store) -> Result<()> {
    let id = hex::encode(rand::random::<[u8; 16]>());
    let created = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let text = format!("format = {FORMAT_VERSION}\nid = \"{id}\"\ncreated = \"{created}\"\n");
    match store.create(DESCRIPTION, Body::Bytes(text.as_bytes())) {
        Ok(()) | Err(StoreError::Exists { .. }) => {}
        Err(error) => return Err(explain(error)),
    }
    match store.create(DESCRIPTION, Body::Bytes(text.as_bytes())) {
        Err(StoreError::Exists { .. }) => Ok(()),
        Err(error) => Err(explain(error)),
        Ok(()) => Err(Failure::new(Exit::Failed, "the store writes over what is there")
            .hint("it ignores `If-None-Match: *`: use a service that honours conditional writes")
            .into()),
    }
}

fn parse_description(bytes: &[u8]) -> Result<Description> {
    let text = std::str::from_utf8(bytes).context("read depot.toml")?;
    let description: Description =
        toml::from_str(text).map_err(|error| damaged_description(&error))?;
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

fn damaged_description(error: &toml::de::Error) -> Failure {
    Failure::new(Exit::Failed, format!("depot.toml cannot be read: {}", error.message()))
        .hint("if no backup is in the depot yet, delete this file and run `backupctl depot init`")
}
