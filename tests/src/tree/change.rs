//! Changing a tree as time does: by seed, in every way that a second backup has to notice.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::dice::Dice;
use super::make::{Made, place, write_file};

/// Makes `count` changes in a tree that [`super::make`] made. `made` is kept up to date, but for what is special.
pub fn change(made: &mut Made, count: u64, seed: u64) -> Result<()> {
    let mut dice = Dice::new(seed);
    for _ in 0..count {
        // A file with other names, too, may have become something else by an earlier change.
        made.files.retain(|path| fs::symlink_metadata(path).is_ok_and(|found| found.is_file()));
        if made.files.len() < 5 {
            break;
        }
        let path = dice.pick(&made.files).clone();
        change_one(made, &path, &mut dice)
            .with_context(|| format!("change `{}`", path.display()))?;
    }
    Ok(())
}

fn change_one(made: &mut Made, path: &Path, dice: &mut Dice) -> Result<()> {
    match dice.below(11) {
        0 => append(path, dice),
        1 => overwrite_in_secret(path, dice),
        2 => File::options().write(true).open(path)?.set_len(dice.below(100_000)).context("cut"),
        3 => fs::remove_file(path).context("remove"),
        4 => add(made, dice).map(drop),
        5 => rename(made, path, dice),
        6 => fs::set_permissions(path, fs::Permissions::from_mode(0o640)).context("chmod"),
        7 => replace_by_directory(made, path, dice),
        8 => {
            fs::remove_file(path)?;
            made.symlinks.push(path.to_owned());
            symlink("instead", path).context("link")
        }
        9 => {
            let new = place(made, dice);
            fs::hard_link(path, &new)?;
            made.files.push(new);
            Ok(())
        }
        _ => {
            let new = add(made, dice)?;
            fs::rename(new, path).context("replace")
        }
    }
}

fn append(path: &Path, dice: &mut Dice) -> Result<()> {
    let file = File::options().write(true).open(path).context("open")?;
    let size = file.metadata().context("stat")?.len();
    let length = 1 + dice.below(100_000) as usize;
    file.write_all_at(&dice.text(length), size).context("append")
}

/// Changes bytes and puts size and time back, as some programs do; only the change time tells.
fn overwrite_in_secret(path: &Path, dice: &mut Dice) -> Result<()> {
    let file = File::options().write(true).open(path).context("open")?;
    let before = file.metadata().context("stat")?;
    let at = before.len() / 2;
    file.write_all_at(&dice.bytes(1 + (at.min(100) as usize)), at).context("overwrite")?;
    file.set_len(before.len()).context("set length")?;
    let time = Timespec { tv_sec: before.mtime(), tv_nsec: before.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::empty()).context("set times")
}

fn add(made: &mut Made, dice: &mut Dice) -> Result<PathBuf> {
    let path = place(made, dice);
    let size = dice.below(300_000);
    write_file(&path, size, dice)?;
    made.files.push(path.clone());
    Ok(path)
}

fn rename(made: &mut Made, path: &Path, dice: &mut Dice) -> Result<()> {
    let new = place(made, dice);
    fs::rename(path, &new).context("rename")?;
    made.files.push(new);
    Ok(())
}

fn replace_by_directory(made: &mut Made, path: &Path, dice: &mut Dice) -> Result<()> {
    fs::remove_file(path).context("remove")?;
    fs::create_dir(path).context("make directory")?;
    made.dirs.push(path.to_owned());
    write_file(&path.join("inside"), dice.below(9000), dice)?;
    made.files.push(path.join("inside"));
    Ok(())
}
