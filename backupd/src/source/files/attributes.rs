//! What is stored of a file beside its content: mode, owner, times, extended attributes; and the
//! stamp by which an unchanged file is known in the next run.
//!
//! ACLs are the extended attributes `system.posix_acl_*`. Attributes of the file system itself
//! (other `system.*`, such as NTFS ones) are left out: they could not be set on another. Nothing
//! here follows a symbolic link.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use depot::manifest::Attributes;
use depot::writer::Stamp;
use rustix::fs::{Statx, fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;

use super::owners::Owners;

/// The kernel's limit of a list of names, and of a value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_BYTES_MAX: usize = 64 << 10;
/// What is tried first: the kernel allocates as much as it is offered, and most files need nothing.
const XATTR_BYTES_FIRST: usize = 1 << 10;
/// A stamp is trusted if the file was last changed at least this long before it was read; see
/// [`trusted_stamp`].
const SETTLED_AFTER: Duration = Duration::from_secs(2);
const PAGE_BYTES: u64 = 4096;

/// How a file is reached for its extended attributes.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// It is open.
    Open(BorrowedFd<'a>),
    /// By its name in an open directory.
    Named(BorrowedFd<'a>, &'a std::ffi::CStr),
}

/// Mode, owner and times as stored.
pub fn attributes(stat: &Statx, owners: &Owners, xattrs: BTreeMap<String, Vec<u8>>) -> Attributes {
    Attributes {
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        user: owners.user(stat.stx_uid),
        group: owners.group(stat.stx_gid),
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        xattrs,
    }
}

/// What a file looks like now.
pub fn stamp(stat: &Statx) -> Stamp {
    Stamp {
        size: stat.stx_size,
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        inode: stat.stx_ino,
    }
}

/// The stamp to store of a file whose reading began at `read_at`: one that equals no file if it
/// cannot be trusted.
///
/// File times have steps (a tick of the kernel, up to 2 s on old file systems). A file that was
/// changed, read, and changed again within one step looks the same after both changes. So a stamp
/// is trusted only if the step of the last change was over when reading began; otherwise the next
/// run reads the file again. Git has the same rule for its index ("racy clean"). The change time
/// alone decides, because programs can set the other one. A time in the future is not trusted
/// either.
pub fn trusted_stamp(stat: &Statx, read_at: SystemTime) -> Stamp {
    let stamp = stamp(stat);
    let settled = age(stamp.ctime, read_at).is_some_and(|age| age > SETTLED_AFTER);
    if settled { stamp } else { Stamp { inode: 0, ..stamp } }
}

/// How long before `now` something changed; none if that was later.
pub fn age(changed: (i64, u32), now: SystemTime) -> Option<Duration> {
    let change = Duration::new(u64::try_from(changed.0).unwrap_or(0), changed.1);
    now.duration_since(SystemTime::UNIX_EPOCH).ok()?.checked_sub(change)
}

/// True if a file has at least a page less than its size asks for, so that it is worth looking for
/// holes.
///
/// On compressing file systems that is so without holes, which costs two calls and has no other
/// effect.
pub fn has_holes(stat: &Statx) -> bool {
    let pages = stat.stx_size.div_ceil(PAGE_BYTES).saturating_mul(PAGE_BYTES);
    stat.stx_size > PAGE_BYTES
        && pages.saturating_sub(stat.stx_blocks.saturating_mul(512)) >= PAGE_BYTES
}

/// Reads extended attributes; keeps its buffers between files.
#[derive(Debug)]
pub struct XattrReader {
    names: Vec<u8>,
    value: Vec<u8>,
    path: Vec<u8>,
}

impl XattrReader {
    /// With buffers of the kernel's limits.
    pub fn with_buffers() -> Self {
        Self { names: vec![0; XATTR_BYTES_MAX], value: vec![0; XATTR_BYTES_MAX], path: Vec::new() }
    }

    /// All extended attributes that can be stored. A file without, or a file system without, has
    /// none.
    pub fn read(&mut self, place: Place<'_>) -> Result<BTreeMap<String, Vec<u8>>, Errno> {
        let length = match self.list(place) {
            Ok(0) | Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(BTreeMap::new()),
            listed => listed?,
        };
        let mut found = BTreeMap::new();
        for name in self.names[..length].split(|byte| *byte == 0) {
            if name.is_empty() || is_of_file_system(name) {
                continue;
            }
            // The manifest holds names as text; the kernel's own are ASCII.
            let name = std::str::from_utf8(name).map_err(|_| Errno::ILSEQ)?;
            let got = first_small(&mut self.value, |value| match place {
                Place::Open(file) => fgetxattr(file, name, value),
                Place::Named(..) => lgetxattr(self.path.as_slice(), name, value),
            });
            match got {
                Ok(length) => drop(found.insert(name.to_owned(), self.value[..length].to_vec())),
                Err(Errno::NODATA) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Lists names. By name in a directory goes through `/proc/self/fd`: there is no `listxattrat`
    /// before Linux 6.13, a full path could be led astray by a swapped directory, and opening each
    /// file is seen by whoever watches it.
    fn list(&mut self, place: Place<'_>) -> Result<usize, Errno> {
        let (dir, name) = match place {
            Place::Open(file) => {
                return first_small(&mut self.names, |names| flistxattr(file, names));
            }
            Place::Named(dir, name) => (dir, name),
        };
        self.path.clear();
        write!(self.path, "/proc/self/fd/{}/", dir.as_raw_fd()).expect("memory takes it");
        self.path.extend_from_slice(name.to_bytes());
        first_small(&mut self.names, |names| llistxattr(self.path.as_slice(), names))
    }
}

/// Makes a call with a part of the buffer, and with all of it if that was not enough.
fn first_small(
    buffer: &mut [u8],
    mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    match call(&mut buffer[..XATTR_BYTES_FIRST]) {
        Err(Errno::RANGE) => call(buffer),
        result => result,
    }
}

fn is_of_file_system(name: &[u8]) -> bool {
    name.starts_with(b"system.") && !name.starts_with(b"system.posix_acl_")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use rustix::fs::{AtFlags, CWD, StatxFlags, XattrFlags, setxattr, statx};

    use super::*;

    fn stat(path: &std::path::Path) -> Statx {
        statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).expect("stat")
    }

    #[test]
    fn a_stamp_is_trusted_only_when_the_step_of_the_last_change_is_over() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("new");
        fs::write(&path, "x").expect("write");
        let stat = stat(&path);
        let changed = SystemTime::UNIX_EPOCH
            + Duration::new(stat.stx_ctime.tv_sec as u64, stat.stx_ctime.tv_nsec);
        let check = |read_at: SystemTime, expected: bool| {
            assert_eq!(trusted_stamp(&stat, read_at) == stamp(&stat), expected, "{read_at:?}");
        };
        check(changed, false);
        check(changed + Duration::from_secs(2), false);
        check(changed + Duration::from_millis(2001), true);
        check(changed - Duration::from_secs(9), false);
    }

    #[test]
    fn an_age_is_never_negative() {
        let at = |secs: u64, nanos: u32| SystemTime::UNIX_EPOCH + Duration::new(secs, nanos);
        assert_eq!(age((100, 5), at(102, 6)), Some(Duration::new(2, 1)));
        assert_eq!(age((100, 5), at(100, 4)), None);
        assert_eq!(age((-5, 0), at(100, 0)), Some(Duration::from_secs(100)));
    }

    #[test]
    fn only_files_with_a_missing_page_are_searched_for_holes() {
        let dir = tempfile::tempdir().expect("scratch");
        let holes_of = |size: u64, data: &[u8]| {
            let path = dir.path().join("f");
            fs::write(&path, data).expect("write");
            File::options().write(true).open(&path).expect("open").set_len(size).expect("grow");
            has_holes(&stat(&path))
        };
        assert!(holes_of(1 << 40, b"x"));
        assert!(holes_of(10_000, b""));
        assert!(!holes_of(100, b""), "less than a page");
        assert!(!holes_of(70_000, &vec![7; 70_000]));
    }

    #[test]
    fn attributes_are_read_by_descriptor_and_by_name_and_not_through_links() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("scratch");
        let path = dir.path().join("f");
        fs::write(&path, "x").expect("write");
        symlink("f", dir.path().join("link")).expect("link");
        let long = vec![7; 2000];
        for (name, value) in
            [("user.empty", &b""[..]), ("user.bytes", b"\0\xff"), ("user.long", &long)]
        {
            setxattr(&path, name, value, XattrFlags::empty()).expect("set attribute");
        }
        let (folder, file) =
            (File::open(dir.path()).expect("open"), File::open(&path).expect("open"));
        let mut reader = XattrReader::with_buffers();
        let open = reader.read(Place::Open(file.as_fd())).expect("read");
        assert_eq!(open["user.bytes"], b"\0\xff");
        assert_eq!(open["user.empty"], b"");
        assert_eq!(open["user.long"], long);
        let named = reader.read(Place::Named(folder.as_fd(), c"f")).expect("read");
        assert_eq!(named, open);
        let link = reader.read(Place::Named(folder.as_fd(), c"link")).expect("read");
        assert!(!link.contains_key("user.bytes"), "{link:?}");
        let gone = reader.read(Place::Named(folder.as_fd(), c"gone"));
        assert_eq!(gone.expect_err("is not there"), Errno::NOENT);
    }
}
