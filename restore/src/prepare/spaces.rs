//! Whether the changed pages of an increment belong to the tablespaces that were restored before it.
//!
//! Tablespaces have numbers. A table that was renamed, or dropped and made anew, between two backups has another
//! number under its name; the tool finds its pages a place among all tables, but not among a few.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use database::tablespace::{base_of, space_of_meta, space_of_page, tablespace_of};

use crate::run::Part;

/// As much of a file as its number is in.
const HEAD_LENGTH_MAX: u64 = 4096;

/// That a tablespace is not the one of that name in an earlier backup.
#[derive(Debug)]
pub struct AnotherSpace(PathBuf);

impl fmt::Display for AnotherSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is another tablespace than in an earlier backup", self.0.display())
    }
}

impl std::error::Error for AnotherSpace {}

/// Checks what was restored of each backup of a chain; fails with [`AnotherSpace`].
pub fn check(parts: &[Part]) -> Result<()> {
    let mut known: HashMap<PathBuf, u32> = HashMap::new();
    for part in parts {
        let paths = || part.tree.entries.iter().map(|node| &*node.path);
        for (path, base) in paths().filter_map(|path| Some((path, base_of(path)?))) {
            if path.extension().is_some_and(|extension| extension == "meta") {
                let found = space_of_meta(&String::from_utf8_lossy(&head(part, path)?));
                let found = found.with_context(|| format!("read {}", path.display()))?;
                if known.get(&base).is_some_and(|known| *known != found) {
                    bail!(AnotherSpace(base));
                }
            }
        }
        for (path, base) in paths().filter_map(|path| Some((path, tablespace_of(path)?))) {
            let found = space_of_page(&head(part, path)?);
            known.insert(base, found.with_context(|| format!("read {}", path.display()))?);
        }
    }
    Ok(())
}

fn head(part: &Part, path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let file = part.root.read(path).with_context(|| format!("open {}", path.display()))?;
    file.take(HEAD_LENGTH_MAX).read_to_end(&mut head).context("read number of a tablespace")?;
    Ok(head)
}
