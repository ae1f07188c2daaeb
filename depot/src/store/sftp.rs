//! A store in an SFTP account, down to an append-only one of a plain OpenSSH server.
//!
//! Objects are written in place under their final name: exclusive open, write, `fsync@openssh.com`,
//! close, size check. No rename, no change of mode or time, so an account that may do nothing else
//! is enough. A connection cut in the middle leaves a torn object under the name, which nobody can
//! continue; the caller puts it again as
//! `<name>.1`. `fsync` covers the file; that its name is durable too holds on ext4, XFS and Btrfs.
//!
//! The server's host key must be in known_hosts. Connections are pooled, at most `connections` of
//! them, and made again when they break. libssh2 keeps many packets in flight only within one call,
//! so calls are large.

use std::fmt;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use chassis::units::Span;
use serde::Deserialize;
use ssh2::{File, FileStat, OpenFlags, OpenType};

use super::input::Input;
use super::limit::UploadLimit;
use super::name::{folder_of, is_segment, join};
use super::{Body, LISTING_OBJECTS_MAX, ObjectInfo, StoreError, check_size};
use connection::Connection;
use login::Login;
use pool::Pool;

mod connection;
mod failure;
mod known_hosts;
mod login;
mod pool;

/// What is kept in flight while writing. Must cover the line's rate times its delay.
const WINDOW_BYTES: usize = 4 << 20;
/// A file is sent in pieces of this size; between two of them the line runs dry for a moment.
const PIECE_BYTES: usize = 16 << 20;
/// One call to libssh2 reads ahead four times its buffer, at most 8 MiB.
const READ_BYTES: usize = 2 << 20;
/// A server may be slow to flush a large object to its disk: so many times the timeout.
const FLUSH_TIMEOUTS: u32 = 4;
/// Objects are never changed; their mode says so, if the server's umask allows.
const OBJECT_MODE: i32 = 0o444;
const FOLDER_MODE: i32 = 0o750;

/// `[depots.NAME.sftp]`
///
/// Exactly one of `password-file`, `key-file` and `agent` says how to log in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SftpConfig {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The account.
    pub user: String,
    /// The depot's folder on the server; relative to where the account arrives.
    #[serde(default = "default_path")]
    pub path: String,
    /// A private file with the account's password.
    pub password_file: Option<PathBuf>,
    /// A private key file.
    pub key_file: Option<PathBuf>,
    /// A private file with the passphrase of the key file, if it has one.
    pub passphrase_file: Option<PathBuf>,
    /// Use the keys of an SSH agent.
    #[serde(default)]
    pub agent: bool,
    /// The agent's socket; `$SSH_AUTH_SOCK` without it.
    pub agent_socket: Option<PathBuf>,
    /// The file of known host keys; `~/.ssh/known_hosts` and `/etc/ssh/ssh_known_hosts` without it.
    pub known_hosts: Option<PathBuf>,
    /// Connections at once.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// How long the server may keep silent.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// How often the line is probed while it is silent; a connection unused for longer is tried
    /// before it is used.
    #[serde(default = "default_keepalive")]
    pub keepalive: Span,
}

fn default_port() -> u16 {
    22
}

fn default_path() -> String {
    ".".to_owned()
}

fn default_connections() -> usize {
    2
}

fn default_timeout() -> Span {
    Span::from_secs(30)
}

fn default_keepalive() -> Span {
    Span::from_secs(15)
}

/// Objects in an SFTP account.
pub struct SftpStore {
    pool: Pool,
    path: String,
    timeout: Duration,
    limit: UploadLimit,
}

impl fmt::Debug for SftpStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SftpStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SftpStore {
    pub(super) fn open(config: &SftpConfig, limit: UploadLimit) -> Result<Self, StoreError> {
        super::check_timeout(config.timeout.0)?;
        let login = Login::load(config)?;
        Ok(Self {
            path: config.path.clone(),
            timeout: config.timeout.0,
            limit,
            pool: Pool::new(config.clone(), login),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        // An empty path would make names absolute.
        let root = if self.path.is_empty() { "." } else { &self.path };
        Path::new(root).join(name)
    }

    pub(super) fn create(&self, name: &str, body: Body<'_>) -> Result<(), StoreError> {
        let input = Input::open(body)?;
        let size = input.size();
        let created = self.pool.with(|connection| {
            let mut file = self.open_new(connection, name)?;
            self.send(connection, &mut file, name, input)?;
            self.flush(connection, &mut file, name)?;
            let stat = connection.sftp.lstat(&self.path(name));
            let stat = stat.map_err(|error| connection.failure("inspect", name, error))?;
            if stat.size == Some(size) {
                return Ok(());
            }
            Err(StoreError::other(format!(
                "create `{name}`: the server has {:?} bytes of {size}",
                stat.size
            )))
        });
        created.map_err(|error| self.full_or(name, error))
    }

    /// After a refused write the library may lose count of the answers, which looks like a lost
    /// connection: a new one is asked whether the disk is full.
    fn full_or(&self, name: &str, error: StoreError) -> StoreError {
        if !matches!(error, StoreError::Unreachable { .. }) {
            return error;
        }
        let free = self.pool.with(|connection| {
            let file = connection.sftp.open(self.path(name));
            Ok(file.ok().and_then(|mut file| free_bytes(&mut file)))
        });
        match free {
            Ok(Some(free)) if free < WINDOW_BYTES as u64 => StoreError::full(name),
            _ => error,
        }
    }

    fn open_new(&self, connection: &Connection, name: &str) -> Result<File, StoreError> {
        let path = self.path(name);
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        match connection.sftp.open_mode(&path, flags, OBJECT_MODE, OpenType::File) {
            Ok(file) => Ok(file),
            // Version 3 of the protocol has no code for a name that is taken.
            Err(error) if failure::is_unspecific(&error) => match connection.sftp.lstat(&path) {
                Ok(_) => Err(StoreError::exists(name)),
                Err(_) => Err(connection.failure("create", name, error)),
            },
            Err(error) if failure::is_absent(&error) => Err(StoreError::missing(folder_of(name))),
            Err(error) => Err(connection.failure("create", name, error)),
        }
    }

    fn send(
        &self,
        connection: &Connection,
        file: &mut File,
        name: &str,
        mut input: Input<'_>,
    ) -> Result<(), StoreError> {
        loop {
            let piece = input.next(self.limit.piece(PIECE_BYTES))?;
            if piece.is_empty() {
                return Ok(());
            }
            self.limit.take(piece.len());
            self.send_piece(file, piece)
                .map_err(|error| not_written(connection, file, name, error))?;
        }
    }

    /// Writes a piece. Each call hands over all that may be in flight; libssh2 knows what it has
    /// sent already.
    fn send_piece(&self, file: &mut File, mut piece: &[u8]) -> std::io::Result<()> {
        let mut moved_at = Instant::now();
        while !piece.is_empty() {
            // Zero is not the end: nothing was acknowledged yet.
            let acknowledged = file.write(&piece[..piece.len().min(WINDOW_BYTES)])?;
            piece = &piece[acknowledged..];
            if acknowledged > 0 {
                moved_at = Instant::now();
            } else if moved_at.elapsed() > self.timeout {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    fn flush(
        &self,
        connection: &Connection,
        file: &mut File,
        name: &str,
    ) -> Result<(), StoreError> {
        connection.set_timeout(self.timeout * FLUSH_TIMEOUTS);
        let flushed = file.fsync().map_err(|error| failure::not_flushed(connection, name, error));
        let closed = file.close().map_err(|error| connection.failure("close", name, error));
        connection.set_timeout(self.timeout);
        flushed.and(closed)
    }

    pub(super) fn sync(&self, name: &str) -> Result<(), StoreError> {
        self.pool.with(|connection| {
            let (mut file, _) = self.open_object(connection, name)?;
            self.flush(connection, &mut file, name)
        })
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        self.pool.with(|connection| {
            let (mut file, size) = self.open_object(connection, name)?;
            check_size(name, size)?;
            read_exactly(connection, &mut file, name, size)
        })
    }

    pub(super) fn read_range(
        &self,
        name: &str,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StoreError> {
        self.pool.with(|connection| {
            let (mut file, size) = self.open_object(connection, name)?;
            let length = size.saturating_sub(offset).min(length as u64);
            if length == 0 {
                return Ok(Vec::new());
            }
            file.seek(SeekFrom::Start(offset)).map_err(|error| connection.lost(name, error))?;
            read_exactly(connection, &mut file, name, length)
        })
    }

    fn open_object(&self, connection: &Connection, name: &str) -> Result<(File, u64), StoreError> {
        let opened = connection.sftp.open(self.path(name));
        let mut file = opened.map_err(|error| connection.failure("open", name, error))?;
        let stat = file.stat().map_err(|error| connection.failure("inspect", name, error))?;
        match stat.size {
            Some(size) if !stat.is_dir() => Ok((file, size)),
            _ => Err(StoreError::missing(name)),
        }
    }

    pub(super) fn stat(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        self.pool.with(|connection| match connection.sftp.lstat(&self.path(name)) {
            Ok(stat) if stat.is_file() => Ok(Some(info(name.to_owned(), &stat))),
            Ok(_) => Ok(None),
            Err(error) if failure::is_absent(&error) => Ok(None),
            Err(error) => Err(connection.failure("inspect", name, error)),
        })
    }

    pub(super) fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.pool.with(|connection| {
            let opened = connection.sftp.opendir(self.path(folder));
            let mut entries = opened.map_err(|error| connection.failure("list", folder, error))?;
            let mut objects = Vec::new();
            loop {
                let (path, stat) = match entries.readdir() {
                    Ok(entry) => entry,
                    Err(error) if failure::is_end_of_listing(&error) => return Ok(objects),
                    Err(error) => return Err(connection.failure("list", folder, error)),
                };
                if objects.len() == LISTING_OBJECTS_MAX {
                    return Err(StoreError::other(format!("too many objects in `{folder}`")));
                }
                match path.to_str() {
                    Some(segment) if is_segment(segment) && stat.is_file() => {
                        objects.push(info(join(folder, segment), &stat));
                    }
                    _ => {}
                }
            }
        })
    }

    pub(super) fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.pool.with(|connection| {
            let deleted = connection.sftp.unlink(&self.path(name));
            deleted.map_err(|error| connection.failure("delete", name, error))
        })
    }

    pub(super) fn make_folder(&self, folder: &str) -> Result<(), StoreError> {
        self.pool.with(|connection| {
            let mut path = self.path("");
            make_one(connection, &path)?;
            for segment in folder.split('/').filter(|segment| !segment.is_empty()) {
                path.push(segment);
                make_one(connection, &path)?;
            }
            Ok(())
        })
    }

    /// The protocol's question goes to an open file; `depot.toml` is on every depot.
    pub(super) fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.pool.with(|connection| match connection.sftp.open(self.path("depot.toml")) {
            Ok(mut file) => Ok(free_bytes(&mut file)),
            Err(error) if failure::is_absent(&error) => Ok(None),
            Err(error) => Err(connection.failure("open", "depot.toml", error)),
        })
    }
}

/// `None` if the server does not know `fstatvfs@openssh.com`.
fn free_bytes(file: &mut File) -> Option<u64> {
    let stat = file.statvfs().ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn info(name: String, stat: &FileStat) -> ObjectInfo {
    // Unknown counts as new: what looks old may be deleted.
    let known = stat.mtime.map(|secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
    let arrived = known.unwrap_or_else(SystemTime::now);
    ObjectInfo { name, size: stat.size.unwrap_or(0), arrived }
}

/// Reads `length` bytes, fewer if the object ends before. Asks the server for no byte more: libssh2
/// reads ahead four times the buffer, so the buffer is at most a quarter of what is missing.
fn read_exactly(
    connection: &Connection,
    file: &mut File,
    name: &str,
    length: u64,
) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; usize::try_from(length).expect("callers checked the size")];
    let mut filled = 0;
    while filled < bytes.len() {
        let missing = bytes.len() - filled;
        let buffer = &mut bytes[filled..][..missing.div_ceil(4).min(READ_BYTES)];
        match file.read(buffer) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) => return Err(connection.lost(name, error)),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Finds out why a write failed: the library loses the server's code, and the server has only one
/// for a full disk and everything else.
fn not_written(
    connection: &Connection,
    file: &mut File,
    name: &str,
    error: std::io::Error,
) -> StoreError {
    if file.stat().is_err() {
        return connection.lost(name, error);
    }
    match free_bytes(file) {
        Some(free) if free < WINDOW_BYTES as u64 => StoreError::full(name),
        _ => StoreError::caused(
            format!("create `{name}`: the server refuses to write (a quota, perhaps)"),
            error,
        ),
    }
}

fn make_one(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let Err(error) = connection.sftp.mkdir(path, FOLDER_MODE) else { return Ok(()) };
    match connection.sftp.stat(path) {
        Ok(stat) if stat.is_dir() => Ok(()),
        _ => Err(connection.failure("make folder", &path.display().to_string(), error)),
    }
}
