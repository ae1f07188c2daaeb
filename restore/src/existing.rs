//! What a target has already: directories are made, what is in the way goes, and blocks whose content is at its
//! place are not fetched again.
//!
//! The content of an existing file is hashed block by block with the manifest's key: that reads it once and trusts no
//! time or size. A file with several names is made anew, since writing to it would change what the others show.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};
use chassis::failure::{Exit, Failure};
use chassis::progress::Progress;
use chassis::retry::Stop;
use depot::block::{BLOCK_BYTES_MAX, BlockKey};
use rustix::fs::{FallocateFlags, FileType, fallocate};

use crate::beneath::{Beneath, kind_of};
use crate::share::share;
use crate::target::remove_tree;
use crate::tree::{AT_PLACE, Block, Tree, What, Zeros};

/// Blocks of one file that one thread looks at in one go.
const BLOCKS_AT_ONCE: usize = 256;

/// Makes all directories, closed to others. What is in the way of one is removed, unless nothing can be there.
pub fn make_dirs(root: &Beneath, tree: &Tree, is_empty: bool) -> Result<()> {
    for dir in &tree.dirs {
        if !is_empty {
            clear(root, &dir.path, true, false)?;
        }
        root.make_dir(&dir.path)
            .with_context(|| format!("make {}", root.full(&dir.path).display()))?;
    }
    Ok(())
}

/// Removes what is under a name if it is of another kind than what shall be there. Directories go only with `delete`.
fn clear(root: &Beneath, path: &Path, is_dir: bool, delete: bool) -> Result<()> {
    let Some(stat) = root.stat(path).with_context(|| format!("look at {}", path.display()))? else {
        return Ok(());
    };
    let found_dir = kind_of(&stat) == FileType::Directory;
    match (is_dir, found_dir) {
        (true, true) | (false, false) => Ok(()),
        (true, false) => {
            root.remove(path).with_context(|| format!("remove {}", root.full(path).display()))
        }
        (false, true) if delete => remove_tree(root, path),
        (false, true) => {
            let message =
                format!("{} is a directory, in the backup it is a file", root.full(path).display());
            Err(Failure::new(Exit::Usage, message)
                .hint("move it away, or add --delete to remove what the backup does not have")
                .into())
        }
    }
}

/// How to look at what is there.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Threads.
    pub workers: usize,
    /// Whether directories in the way of files may be removed.
    pub delete: bool,
    /// To stop early.
    pub stop: &'a Stop,
    /// Counts the bytes that were looked at.
    pub progress: &'a Progress,
}

/// Takes the blocks out of `tree` that are at their place; returns their bytes. Zeros are put where zeros belong.
pub fn keep_what_fits(root: &Beneath, tree: &mut Tree, options: Options<'_>) -> Result<u64> {
    let usable = clear_files(root, tree, options.delete)?;
    tree.blocks.sort_unstable_by_key(|block| (block.file, block.at));
    let units: Vec<&[Block]> = tree
        .blocks
        .chunk_by(|a, b| a.file == b.file)
        .filter(|blocks| usable[blocks[0].file as usize])
        .flat_map(|blocks| blocks.chunks(BLOCKS_AT_ONCE))
        .collect();
    let bytes = units.iter().flat_map(|unit| unit.iter()).map(|block| tree.length(block)).sum();
    options.progress.begin("compare", bytes);
    let key = BlockKey(tree.head.key);
    let buffer = || Ok(vec![0; BLOCK_BYTES_MAX as usize]);
    let found = share(options.workers, &units, options.stop, buffer, |buffer, unit| {
        let fits = compare(root, tree, &key, unit, buffer);
        options.progress.add_bytes(unit.iter().map(|block| tree.length(block)).sum());
        Ok(fits)
    })?;
    let runs: Vec<Zeros> =
        tree.zeros.iter().filter(|run| usable[run.file as usize]).copied().collect();
    share(
        options.workers,
        &runs,
        options.stop,
        || Ok(()),
        |(), run| clear_zeros(root, tree, *run),
    )?;
    Ok(take_out(tree, &usable, &found))
}

/// Makes way for files and links; says which files are there, regular and with one name only.
fn clear_files(root: &Beneath, tree: &Tree, delete: bool) -> Result<Vec<bool>> {
    let mut usable = vec![false; tree.files.len()];
    for node in &tree.entries {
        clear(root, &node.path, false, delete)?;
        let What::File(file) = node.what else { continue };
        let Some(stat) = root.stat(&node.path)? else { continue };
        if kind_of(&stat) == FileType::RegularFile && stat.st_nlink == 1 {
            usable[file as usize] = true;
        } else {
            root.remove(&node.path)
                .with_context(|| format!("remove {}", root.full(&node.path).display()))?;
        }
    }
    Ok(usable)
}

/// Which blocks of one file have the content of their name. What cannot be read does not fit.
fn compare(
    root: &Beneath,
    tree: &Tree,
    key: &BlockKey,
    blocks: &[Block],
    buffer: &mut [u8],
) -> Vec<bool> {
    let path = tree.path_of(blocks[0].file);
    let Ok(file) = root.read(path) else { return vec![false; blocks.len()] };
    let fits = |block: &Block| {
        let content = &mut buffer[..tree.length(block) as usize];
        file.read_exact_at(content, block.at).is_ok() && key.name(content) == block.name
    };
    blocks.iter().map(fits).collect()
}

fn clear_zeros(root: &Beneath, tree: &Tree, run: Zeros) -> Result<()> {
    let path = tree.path_of(run.file);
    let file = root.create(path).with_context(|| format!("open {}", path.display()))?;
    let end = file.metadata()?.size().min(run.at + run.length);
    if end <= run.at {
        return Ok(());
    }
    punch(&file, run.at, end - run.at)
        .with_context(|| format!("write {}", root.full(path).display()))
}

/// Makes a hole, or writes zeros where the file system knows no holes.
fn punch(file: &File, at: u64, length: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if fallocate(file, flags, at, length).is_ok() {
        return Ok(());
    }
    let zeros = vec![0; BLOCK_BYTES_MAX as usize];
    let mut done = 0;
    while done < length {
        let piece = (length - done).min(BLOCK_BYTES_MAX);
        file.write_all_at(&zeros[..piece as usize], at + done)?;
        done += piece;
    }
    Ok(())
}

/// Takes out the blocks that fit; `found` has the verdicts of those of usable files, in order.
fn take_out(tree: &mut Tree, usable: &[bool], found: &[Vec<bool>]) -> u64 {
    let mut verdicts = found.iter().flatten();
    let mut bytes = 0;
    for number in 0..tree.blocks.len() {
        let block = tree.blocks[number];
        let is_known = usable[block.file as usize];
        if is_known && *verdicts.next().expect("a verdict for each block") {
            bytes += tree.length(&block);
            tree.blocks[number].pack = AT_PLACE;
        }
    }
    assert!(verdicts.next().is_none(), "a block for each verdict");
    tree.blocks.retain(|block| block.pack != AT_PLACE);
    bytes
}
