//! A store in a directory of this host or of a mounted file system.
//!
//! An object is written to a hidden temporary file beside its final name, flushed, linked to the
//! final name (which fails if that is taken) and the directory is flushed: after a crash there is
//! the whole object or none. The file system must know hard links; nearly all do, some network
//! shares do not and are refused with a hint.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chassis::durable::{self, DurableError, NewFile};
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use super::direct::DirectWriter;
use super::input::Input;
use super::limit::UploadLimit;
use super::name::{folder_of, is_segment, join};
use super::{Body, LISTING_OBJECTS_MAX, OBJECT_BYTES_MAX, ObjectInfo, StoreError, check_size};

/// Objects are never changed; their mode says so.
const OBJECT_MODE: u32 = 0o440;
const FOLDER_MODE: u32 = 0o750;
const PIECE_BYTES: usize = 4 << 20;

/// `[depots.NAME.directory]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DirectoryConfig {
    /// The directory. `depot init` makes it if its parent exists.
    pub path: PathBuf,
}

/// Objects as files below a directory.
#[derive(Debug)]
pub struct DirectoryStore {
    root: PathBuf,
    limit: UploadLimit,
}

impl DirectoryStore {
    pub(super) fn open(config: &DirectoryConfig, limit: UploadLimit) -> Self {
        Self { root: config.path.clone(), limit }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn create(&self, name: &str, body: Body<'_>) -> Result<(), StoreError> {
        let mut input = Input::open(body)?;
        let path = self.path(name);
        // Only to spare the writing: the link below decides.
        if fs::symlink_metadata(&path).is_ok() {
            return Err(StoreError::exists(name));
        }
        let folder = path.parent().expect("a name is below the root");
        let file =
            NewFile::create(folder, OBJECT_MODE).map_err(|error| not_created(name, error))?;
        let mut writer = DirectWriter::new(file.file());
        loop {
            let piece = input.next(self.limit.piece(PIECE_BYTES))?;
            if piece.is_empty() {
                break;
            }
            self.limit.take(piece.len());
            writer.write_all(piece).map_err(|error| failure("write", name, error))?;
        }
        file.publish(&path).map_err(|error| not_created(name, error))
    }

    pub(super) fn sync(&self, name: &str) -> Result<(), StoreError> {
        let (file, _) = self.open_object(name)?;
        file.sync_all().map_err(|error| failure("flush", name, error))?;
        let path = self.path(name);
        let folder = path.parent().expect("a name is below the root");
        durable::sync_dir(folder).map_err(|error| failure("flush", name, error.source))
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.read_into(name, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn read_into(&self, name: &str, into: &mut Vec<u8>) -> Result<(), StoreError> {
        let (file, size) = self.open_object(name)?;
        check_size(name, size)?;
        read_all(file.take(size), name, into)
    }

    pub(super) fn read_range(
        &self,
        name: &str,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let (mut file, size) = self.open_object(name)?;
        // Past the end is empty; this also keeps the offset in the range that seek takes.
        file.seek(SeekFrom::Start(offset.min(size)))
            .map_err(|error| failure("read", name, error))?;
        let mut bytes = Vec::new();
        read_all(file.take(length as u64), name, &mut bytes)?;
        Ok(bytes)
    }

    /// Opens a file, not following a link in its last segment; anything but a file is missing.
    fn open_object(&self, name: &str) -> Result<(File, u64), StoreError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = rustix::fs::open(self.path(name), flags, Mode::empty());
        let file = match opened {
            Ok(descriptor) => File::from(descriptor),
            Err(rustix::io::Errno::LOOP) => return Err(StoreError::missing(name)),
            Err(error) => return Err(failure("open", name, error.into())),
        };
        let metadata = file.metadata().map_err(|error| failure("inspect", name, error))?;
        if !metadata.is_file() {
            return Err(StoreError::missing(name));
        }
        Ok((file, metadata.len()))
    }

    pub(super) fn stat(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        match fs::symlink_metadata(self.path(name)) {
            Ok(metadata) if metadata.is_file() => Ok(Some(info(name.to_owned(), &metadata))),
            Ok(_) => Ok(None),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failure("inspect", name, error)),
        }
    }

    pub(super) fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut objects = Vec::new();
        let failed = |error| failure("list", folder, error);
        for entry in fs::read_dir(self.path(folder)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let file_name = entry.file_name();
            let Some(segment) = file_name.to_str().filter(|segment| is_segment(segment)) else {
                continue;
            };
            let metadata = match entry.metadata() {
                Ok(metadata) if metadata.is_file() => metadata,
                Ok(_) => continue,
                // The keeper deleted it meanwhile.
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(failed(error)),
            };
            if objects.len() == LISTING_OBJECTS_MAX {
                return Err(StoreError::other(format!("too many objects in `{folder}`")));
            }
            objects.push(info(join(folder, segment), &metadata));
        }
        Ok(objects)
    }

    pub(super) fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(|error| failure("delete", name, error))?;
        let folder = path.parent().expect("a name is below the root");
        durable::sync_dir(folder).map_err(|error| failure("delete", name, error.source))
    }

    pub(super) fn make_folder(&self, folder: &str) -> Result<(), StoreError> {
        let mut path = self.root.clone();
        make_one(&path)?;
        for segment in folder.split('/').filter(|segment| !segment.is_empty()) {
            path.push(segment);
            make_one(&path)?;
        }
        Ok(())
    }

    pub(super) fn free_bytes(&self) -> Result<u64, StoreError> {
        let stat = rustix::fs::statvfs(&self.root)
            .map_err(|error| root_failure(&self.root, error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    pub(super) fn remove_leftovers(&self, folder: &str) -> Result<usize, StoreError> {
        durable::remove_leftovers(&self.path(folder))
            .map_err(|error| failure("sweep", folder, error.source))
    }
}

fn info(name: String, metadata: &Metadata) -> ObjectInfo {
    // Unknown counts as new: what looks old may be deleted.
    let arrived = metadata.modified().unwrap_or_else(|_| SystemTime::now());
    ObjectInfo { name, size: metadata.len(), arrived }
}

fn read_all(mut file: io::Take<File>, name: &str, into: &mut Vec<u8>) -> Result<(), StoreError> {
    into.clear();
    into.reserve(usize::try_from(file.limit()).unwrap_or(0).min(OBJECT_BYTES_MAX as usize));
    file.read_to_end(into).map_err(|error| failure("read", name, error))?;
    Ok(())
}

fn make_one(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Ok(()) => {}
        Err(_) if path.is_dir() => return Ok(()),
        Err(error) => return Err(root_failure(path, error)),
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    durable::sync_dir(parent.unwrap_or(Path::new(".")))
        .map_err(|error| root_failure(path, error.source))
}

fn not_created(name: &str, error: DurableError) -> StoreError {
    match (error.step, error.kind()) {
        ("create", io::ErrorKind::NotFound) => StoreError::missing(folder_of(name)),
        ("link", io::ErrorKind::AlreadyExists) => StoreError::exists(name),
        ("link", io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {
            StoreError::setup(
                format!("link `{name}`: the file system of the depot has no hard links"),
                "use another file system, or reach the same place over SFTP",
            )
        }
        (step, _) => failure(step, name, error.source),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failure(step: &str, name: &str, error: io::Error) -> StoreError {
    use io::ErrorKind as Kind;
    let what = format!("{step} `{name}`");
    match error.kind() {
        Kind::NotFound | Kind::NotADirectory => StoreError::missing(name),
        Kind::AlreadyExists => StoreError::exists(name),
        Kind::StorageFull | Kind::QuotaExceeded => StoreError::full(name),
        Kind::PermissionDenied => StoreError::denied(what),
        Kind::ReadOnlyFilesystem => StoreError::setup(
            format!("{what}: read-only file system"),
            "mount it for writing; under systemd, add `ReadWritePaths=` with the depot's path by \
             `systemctl edit backupd`",
        ),
        // A mounted file system whose server is away.
        Kind::TimedOut
        | Kind::StaleNetworkFileHandle
        | Kind::NotConnected
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown => StoreError::unreachable(what, error),
        _ => StoreError::caused(what, error),
    }
}

/// As `failure`, for the depot itself, which has no name.
fn root_failure(path: &Path, error: io::Error) -> StoreError {
    failure("reach", &path.display().to_string(), error)
}
