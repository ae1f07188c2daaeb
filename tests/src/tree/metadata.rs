//! Modes, owners, times, extended attributes and ACLs for entries of test trees.

use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::fs::{chmodat, chownat, setxattr, utimensat};
use rustix::io::Errno;

use super::compare::Kind;
use super::dice::Dice;

const FILE_MODES: [u32; 7] = [0o644, 0o600, 0o755, 0o4755, 0o2711, 0o444, 0o1777];
const DIR_MODES: [u32; 4] = [0o755, 0o700, 0o2775, 0o1777];
const OWNERS: [u32; 4] = [0, 33, 1000, 1_234_567];
const SECONDS: [i64; 6] = [0, -1, -1_000_000_000, 1_700_000_000, 2_147_483_653, 951_782_400];

/// True if tests may do what only root may.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Gives an entry an owner, a mode, perhaps attributes, and a time: in this order, since each may undo the later ones.
pub fn set_random(path: &Path, kind: Kind, dice: &mut Dice) -> Result<()> {
    if is_root() {
        let (user, group) = (*dice.pick(&OWNERS), *dice.pick(&OWNERS));
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        chownat(CWD, path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW).context("chown")?;
    }
    if kind != Kind::Symlink {
        let modes: &[u32] = if kind == Kind::Dir { &DIR_MODES } else { &FILE_MODES };
        let mode = match *dice.pick(modes) {
            _ if is_root() && dice.once_in(6) => 0,
            mode if is_root() => mode,
            // Who is not root must be able to change it later, and gets no set-id bits from a restore.
            mode => mode & 0o1777 | 0o600,
        };
        chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty()).context("chmod")?;
        set_attributes(path, kind, dice)?;
    }
    set_time(path, dice)
}

/// A time with nanoseconds, of the entry itself.
pub fn set_time(path: &Path, dice: &mut Dice) -> Result<()> {
    let seconds = *dice.pick(&SECONDS) + dice.below(1000) as i64;
    let time = Timespec { tv_sec: seconds, tv_nsec: dice.below(1_000_000_000) as i64 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).context("set times")
}

fn set_attributes(path: &Path, kind: Kind, dice: &mut Dice) -> Result<()> {
    if dice.once_in(2) {
        return Ok(());
    }
    let length = *dice.pick(&[0, 1, 30, 900]);
    let value = dice.bytes(length);
    set(path, &format!("user.test{}", dice.below(9)), &value)?;
    if dice.once_in(2) {
        let list = access_list(dice);
        set(path, "system.posix_acl_access", &list)?;
        if kind == Kind::Dir {
            set(path, "system.posix_acl_default", &list)?;
        }
    }
    if kind == Kind::File && is_root() && dice.once_in(3) {
        // cap_net_bind_service=p, in the kernel's second layout.
        let mut capability = vec![0; 20];
        capability[3] = 2;
        capability[5] = 4;
        set(path, "security.capability", &capability)?;
    }
    Ok(())
}

/// Sets an attribute; that it cannot be had here is no error.
fn set(path: &Path, name: &str, value: &[u8]) -> Result<()> {
    match setxattr(path, name, value, XattrFlags::empty()) {
        Ok(()) | Err(Errno::NOTSUP | Errno::PERM | Errno::NOSPC) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("set {name}")),
    }
}

/// An ACL as the kernel has it (`linux/posix_acl_xattr.h`): owner (who may do everything), one more user, group, mask,
/// others.
pub fn access_list(dice: &mut Dice) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let user = *dice.pick(&[1, 33, 4242]);
    let entries: [(u16, u16, u32); 5] = [
        (0x01, 7, NOBODY),
        (0x02, dice.below(8) as u16, user),
        (0x04, dice.below(8) as u16, NOBODY),
        (0x10, 7, NOBODY),
        (0x20, dice.below(8) as u16, NOBODY),
    ];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&permissions.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    list
}
