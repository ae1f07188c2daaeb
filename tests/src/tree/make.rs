//! Making a tree: every kind of entry once, then as chance has it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;

use super::compare::Kind;
use super::dice::Dice;
use super::metadata::{set_random, set_time};

const SIZES: [u64; 12] =
    [0, 1, 100, 4095, 4096, 65_535, 65_536, 65_537, 200_000, 1 << 20, (1 << 20) + 1, 3_000_000];
const TARGETS: [&[u8]; 6] =
    [b"a", b"../up", b"/etc/hostname", b"not/there", b"\xff\xfe", b"with space\nand line"];
const DIRS: u64 = 8;
const FILES: u64 = 40;

/// What was made.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// Regular files, each name of a hard-linked one.
    pub files: Vec<PathBuf>,
    /// Directories; the root is the first.
    pub dirs: Vec<PathBuf>,
    /// Symbolic links.
    pub symlinks: Vec<PathBuf>,
    /// Sockets, fifos and devices, which no backup can have.
    pub special: u64,
}

/// Fills the directory `root`, which is there and empty.
pub fn make(root: &Path, seed: u64) -> Result<Made> {
    let mut dice = Dice::new(seed);
    let mut made = Made { dirs: vec![root.to_owned()], ..Made::default() };
    for _ in 0..DIRS {
        let dir = place(&made, &mut dice);
        fs::create_dir(&dir).context("make directory")?;
        made.dirs.push(dir);
    }
    // Known to nobody while files are placed: it stays empty.
    let empty = place(&made, &mut dice);
    fs::create_dir(&empty).context("make directory")?;
    for number in 0..FILES {
        let path = place(&made, &mut dice);
        if number % 5 == 0 {
            write_sparse(&path, number / 5, &mut dice)?;
        } else {
            let size = SIZES.get(number as usize).copied();
            let size = size.unwrap_or_else(|| *dice.pick(&SIZES));
            write_file(&path, size, &mut dice)?;
        }
        made.files.push(path);
    }
    make_links(&mut made, &mut dice)?;
    make_special(&mut made, &mut dice)?;
    made.dirs.push(empty);
    dress(&made, &mut dice)?;
    Ok(made)
}

/// Many small files of `size` bytes each, a hundred in a directory: for measurements.
pub fn make_many(root: &Path, count: u64, size: usize, seed: u64) -> Result<()> {
    let mut dice = Dice::new(seed);
    for number in 0..count {
        let dir = root.join(format!("{:02}/{:03}", number / 10_000, number / 100 % 100));
        if number % 100 == 0 {
            fs::create_dir_all(&dir).context("make directory")?;
        }
        fs::write(dir.join(format!("file-{number:06}.php")), dice.text(size)).context("write")?;
    }
    Ok(())
}

fn make_links(made: &mut Made, dice: &mut Dice) -> Result<()> {
    for _ in 0..8 {
        let path = place(made, dice);
        fs::hard_link(dice.pick(&made.files), &path).context("make hard link")?;
        made.files.push(path);
    }
    for target in TARGETS {
        let path = place(made, dice);
        symlink(OsStr::from_bytes(target), &path).context("make symbolic link")?;
        made.symlinks.push(path);
    }
    Ok(())
}

fn make_special(made: &mut Made, dice: &mut Dice) -> Result<()> {
    for kind in [FileType::Fifo, FileType::Socket, FileType::CharacterDevice] {
        let path = place(made, dice);
        match mknodat(CWD, &path, kind, Mode::RUSR, makedev(1, 3)) {
            Ok(()) => made.special += 1,
            Err(Errno::PERM) if kind == FileType::CharacterDevice => {}
            Err(error) => return Err(error).context("make special file"),
        }
    }
    Ok(())
}

/// Owners, modes, attributes and times; directories last and from the inside, as making entries changes their time.
fn dress(made: &Made, dice: &mut Dice) -> Result<()> {
    for path in &made.files {
        set_random(path, Kind::File, dice)?;
    }
    for path in &made.symlinks {
        set_random(path, Kind::Symlink, dice)?;
    }
    for path in made.dirs.iter().rev() {
        set_random(path, Kind::Dir, dice)?;
    }
    made.dirs.iter().rev().try_for_each(|path| set_time(path, dice))
}

/// A name that is not there yet, in one of the directories.
pub fn place(made: &Made, dice: &mut Dice) -> PathBuf {
    loop {
        let path = dice.pick(&made.dirs).join(OsStr::from_bytes(&name(dice)));
        if fs::symlink_metadata(&path).is_err() {
            return path;
        }
    }
}

fn name(dice: &mut Dice) -> Vec<u8> {
    let number = dice.below(100_000).to_string();
    let odd: &[u8] = match dice.below(14) {
        0 => b"with space ",
        1 => b"line\nbreak",
        2 => b"-rf ",
        3 => b".hidden",
        4 => b"\xff\xfe not utf-8 ",
        5 => "\u{fc}ml\u{e4}ut\u{2603}".as_bytes(),
        6 => b"*?[a]{b}",
        7 => b"quote\"and\\",
        8 => &[b'x'; 249],
        _ => b"file",
    };
    [odd, number.as_bytes()].concat()
}

/// Writes a file of one of several kinds of content.
pub fn write_file(path: &Path, size: u64, dice: &mut Dice) -> Result<()> {
    let length = size as usize;
    let mut bytes = match dice.below(4) {
        0 => vec![0; length],
        1 => dice.bytes(length),
        _ => dice.text(length),
    };
    if length > 200_000 && dice.once_in(2) {
        // Zeros within, but stored on the disk.
        bytes[65_536..196_608].fill(0);
    }
    fs::write(path, bytes).context("write file")
}

/// Writes a file with holes: all of it, at the beginning, at the end, here and there, and a large one.
fn write_sparse(path: &Path, form: u64, dice: &mut Dice) -> Result<()> {
    let (size, data): (u64, &[u64]) = match form % 6 {
        0 => (1_000_000, &[]),
        1 => (2_000_000, &[1_900_000]),
        2 => (2_000_000, &[0]),
        3 => (8 << 20, &[70_000, 1 << 20, 5 << 20]),
        4 => ((1 << 30) + 300_000, &[(1 << 30) - 5000, (1 << 30) + 200_000]),
        _ => (12_288, &[8192]),
    };
    let file = File::create_new(path).context("make file")?;
    file.set_len(size).context("make hole")?;
    for at in data {
        let length = (1 + dice.below(9000)).min(size - at);
        file.write_all_at(&dice.bytes(length as usize), *at).context("write data")?;
    }
    Ok(())
}
