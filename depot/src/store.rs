//! The one seam to the outside: a place that holds objects by name.
//!
//! The only primitive for writing is *create, fail if it exists*. Nothing is ever renamed, and only
//! the keeper deletes. All calls block; each has its own deadline. A name is a relative path of
//! `[A-Za-z0-9._-]` segments. Retrying and torn objects are the caller's business (`Depot`), not
//! the stores'.
//!
//! After [`StoreError::Unreachable`] from `create` nobody knows what is under the name: nothing, a
//! part (SFTP writes in place) or all of it. A name is never taken back, so the caller looks, and
//! puts the object again as `<name>.1` if it is torn.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;

mod direct;
pub mod directory;
mod error;
pub mod flaky;
mod input;
mod limit;
pub mod memory;
mod name;
pub mod s3;
pub mod sftp;

pub use direct::ALIGNMENT;
pub use error::StoreError;
pub use name::check_name;

use limit::UploadLimit;
use name::check_folder;

/// No object that is read whole into memory may be larger: packs are at most 32 MiB.
pub const OBJECT_BYTES_MAX: u64 = 64 << 20;

/// No folder may hold more objects: a listing is held in memory.
pub const LISTING_OBJECTS_MAX: usize = 4 << 20;

/// Where a depot is. One of the tables `[depots.NAME.directory]`, `[depots.NAME.sftp]`,
/// `[depots.NAME.s3]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreConfig {
    /// A directory on this host or a mounted file system.
    pub directory: Option<directory::DirectoryConfig>,
    /// An SFTP account.
    pub sftp: Option<sftp::SftpConfig>,
    /// A bucket of an S3 service.
    pub s3: Option<s3::S3Config>,
    /// Upload limit over all connections, such as "20MiB" a second; unlimited without it.
    pub upload_limit: Option<chassis::units::ByteSize>,
}

impl StoreConfig {
    /// Makes the files that it names relative to `folder`, that of the configuration.
    pub fn make_absolute(&mut self, folder: &Path) {
        let sftp = self.sftp.iter_mut().flat_map(|sftp| {
            [
                &mut sftp.password_file,
                &mut sftp.key_file,
                &mut sftp.passphrase_file,
                &mut sftp.known_hosts,
                &mut sftp.agent_socket,
            ]
        });
        let s3 = self.s3.iter_mut().map(|s3| &mut s3.credentials_file);
        for path in sftp.chain(s3).flatten() {
            *path = folder.join(&path);
        }
    }
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The full name, as given to `create`.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// When the store says that it arrived: the store's clock, not the writer's.
    pub arrived: SystemTime,
}

/// What an object is made from. Packs are in memory; a manifest may be large and comes from a file.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A local file, sent whole. It must not change while it is sent.
    File(&'a Path),
}

/// A place that holds objects. Cheap to share behind an `Arc`; every method may be called from
/// several threads.
#[derive(Debug)]
pub enum Store {
    /// A directory.
    Directory(directory::DirectoryStore),
    /// SFTP.
    Sftp(sftp::SftpStore),
    /// S3.
    S3(s3::S3Store),
    /// Memory, for tests.
    Memory(memory::MemoryStore),
    /// Another store that fails by seed, for tests.
    Flaky(Box<flaky::FlakyStore>),
}

impl Store {
    /// Makes a store from its configuration; exactly one kind must be given.
    ///
    /// Files that the configuration names (keys, passwords) are read now. Connections are made by
    /// the first call that needs one, so a wrong password or a missing bucket is that call's error.
    pub fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let limit = UploadLimit::new(config.upload_limit)?;
        match (&config.directory, &config.sftp, &config.s3) {
            (Some(directory), None, None) => {
                Ok(Self::Directory(directory::DirectoryStore::open(directory, limit)))
            }
            (None, Some(sftp), None) => Ok(Self::Sftp(sftp::SftpStore::open(sftp, limit)?)),
            (None, None, Some(s3)) => Ok(Self::S3(s3::S3Store::open(s3, limit)?)),
            _ => Err(StoreError::setup(
                "a depot needs exactly one of the tables `directory`, `sftp` and `s3`",
                "for example: [depots.main.directory] with path = \"/srv/backup\"",
            )),
        }
    }

    /// Creates an object, or fails with [`StoreError::Exists`] if the name is taken, whatever is
    /// under it. Of several creators at once exactly one succeeds.
    ///
    /// On success the object is durable, as far as the store can promise it. Nothing is ever
    /// overwritten. The folder of the name must exist (see [`make_folder`](Self::make_folder));
    /// [`StoreError::Missing`] otherwise.
    pub fn create(&self, name: &str, body: Body<'_>) -> Result<(), StoreError> {
        check_name(name)?;
        match self {
            Self::Directory(store) => store.create(name, body),
            Self::Sftp(store) => store.create(name, body),
            Self::S3(store) => store.create(name, body),
            Self::Memory(store) => store.create(name, body),
            Self::Flaky(store) => store.create(name, body),
        }
    }

    /// Makes durable what is under a name already: whoever put it may not have heard, or may not have
    /// lived to ask. S3 shows an object only when it is durable.
    pub fn sync(&self, name: &str) -> Result<(), StoreError> {
        check_name(name)?;
        match self {
            Self::Directory(store) => store.sync(name),
            Self::Sftp(store) => store.sync(name),
            Self::S3(_) | Self::Memory(_) => Ok(()),
            Self::Flaky(store) => store.sync(name),
        }
    }

    /// Reads a whole object, at most [`OBJECT_BYTES_MAX`] bytes; a larger one is refused before it
    /// is read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        check_name(name)?;
        match self {
            Self::Directory(store) => store.read(name),
            Self::Sftp(store) => store.read(name),
            Self::S3(store) => store.read(name),
            Self::Memory(store) => store.read(name),
            Self::Flaky(store) => store.read(name),
        }
    }

    /// As [`Self::read`], into a buffer that is used again; what was in it is gone.
    pub fn read_into(&self, name: &str, into: &mut Vec<u8>) -> Result<(), StoreError> {
        if let Self::Directory(store) = self {
            check_name(name)?;
            return store.read_into(name, into);
        }
        *into = self.read(name)?;
        Ok(())
    }

    /// Reads `length` bytes from `offset`: fewer at the end of the object, none past it. `length`
    /// may be at most [`OBJECT_BYTES_MAX`]; the object may be larger.
    pub fn read_range(
        &self,
        name: &str,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StoreError> {
        check_name(name)?;
        check_size(name, length as u64)?;
        match self {
            Self::Directory(store) => store.read_range(name, offset, length),
            Self::Sftp(store) => store.read_range(name, offset, length),
            Self::S3(store) => store.read_range(name, offset, length),
            Self::Memory(store) => store.read_range(name, offset, length),
            Self::Flaky(store) => store.read_range(name, offset, length),
        }
    }

    /// Size and arrival of an object; `None` if there is none.
    pub fn stat(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        check_name(name)?;
        match self {
            Self::Directory(store) => store.stat(name),
            Self::Sftp(store) => store.stat(name),
            Self::S3(store) => store.stat(name),
            Self::Memory(store) => Ok(store.stat(name)),
            Self::Flaky(store) => store.stat(name),
        }
    }

    /// The objects directly in a folder (`""` is the depot itself), sorted by name. Anything that
    /// no `create` could have made is left out: hidden and temporary files, links, odd names.
    ///
    /// A folder that does not exist is [`StoreError::Missing`], or empty on stores without folders.
    /// At most [`LISTING_OBJECTS_MAX`] objects.
    pub fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        check_folder(folder)?;
        let mut objects = match self {
            Self::Directory(store) => store.list(folder),
            Self::Sftp(store) => store.list(folder),
            Self::S3(store) => store.list(folder),
            Self::Memory(store) => Ok(store.list(folder)),
            Self::Flaky(store) => store.list(folder),
        }?;
        objects.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        Ok(objects)
    }

    /// Deletes an object: the keeper's only. [`StoreError::Missing`] if there is none, except on
    /// S3, where two deletions at once may both succeed.
    pub fn delete(&self, name: &str) -> Result<(), StoreError> {
        check_name(name)?;
        match self {
            Self::Directory(store) => store.delete(name),
            Self::Sftp(store) => store.delete(name),
            Self::S3(store) => store.delete(name),
            Self::Memory(store) => store.delete(name),
            Self::Flaky(store) => store.delete(name),
        }
    }

    /// Makes a folder and those above it, down from the depot itself (`""`), whose parent must
    /// exist. Nothing happens if it exists, nor on stores without folders. Used by `depot init`
    /// only: agents need no right to do it.
    pub fn make_folder(&self, folder: &str) -> Result<(), StoreError> {
        check_folder(folder)?;
        match self {
            Self::Directory(store) => store.make_folder(folder),
            Self::Sftp(store) => store.make_folder(folder),
            Self::S3(_) | Self::Memory(_) => Ok(()),
            Self::Flaky(store) => store.inner().make_folder(folder),
        }
    }

    /// Bytes free for this account; `None` where the store does not say: S3, memory, and SFTP
    /// without `depot.toml`.
    pub fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        match self {
            Self::Directory(store) => store.free_bytes().map(Some),
            Self::Sftp(store) => store.free_bytes(),
            Self::S3(_) | Self::Memory(_) => Ok(None),
            Self::Flaky(store) => store.inner().free_bytes(),
        }
    }

    /// Removes what crashed writers left in a folder of a directory store; returns how many files.
    /// The other stores leave nothing that is not a torn object (S3: give the bucket a rule that
    /// aborts incomplete uploads).
    pub fn remove_leftovers(&self, folder: &str) -> Result<usize, StoreError> {
        check_folder(folder)?;
        match self {
            Self::Directory(store) => store.remove_leftovers(folder),
            Self::Sftp(_) | Self::S3(_) | Self::Memory(_) => Ok(0),
            Self::Flaky(store) => store.inner().remove_leftovers(folder),
        }
    }
}

/// Refuses what would not fit into memory.
fn check_size(name: &str, size: u64) -> Result<(), StoreError> {
    if size <= OBJECT_BYTES_MAX {
        return Ok(());
    }
    Err(StoreError::other(format!(
        "`{name}`: {size} bytes are more than the {OBJECT_BYTES_MAX} that are read at once"
    )))
}

/// Refuses a deadline that nothing could meet.
fn check_timeout(timeout: std::time::Duration) -> Result<(), StoreError> {
    if timeout.is_zero() {
        return Err(StoreError::setup("timeout is 0", "for example: timeout = \"30s\""));
    }
    Ok(())
}

/// The default of a path in the home directory, if there is one.
fn home_path(relative: &str) -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_exactly_one_kind() {
        let error = Store::open(&StoreConfig::default()).unwrap_err();
        assert!(error.to_string().contains("exactly one"), "{error}");
        let both = "[directory]\npath = \"/a\"\n[s3]\nbucket = \"b\"\n";
        let error = Store::open(&chassis::config::parse("x", both).unwrap()).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("[depots.main.directory]")));
    }

    #[test]
    fn reads_above_the_limit_are_refused() {
        let store = Store::Memory(memory::MemoryStore::default());
        assert!(store.read_range("a", 0, OBJECT_BYTES_MAX as usize + 1).is_err());
    }
}
