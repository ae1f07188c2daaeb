//! The plain list of what a snapshot is made of: enough to verify and collect without any key.
//!
//! It is not authenticated. What is restored is checked against the manifest; this list only says
//! what must be there.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};

use crate::manifest::{PackLine, SnapshotKind, SnapshotState};
use crate::names::{Sha256, SnapshotId};

/// What a snapshot needs. See `docs/format.md`, section Needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// What was backed up.
    pub kind: SnapshotKind,
    /// Whether all of it is there.
    pub state: SnapshotState,
    /// The snapshot that this increment builds on.
    pub parent: Option<SnapshotId>,
    /// Size of all files in bytes.
    pub bytes: u64,
    /// Bytes of packs that the run added.
    pub stored: u64,
    /// Checksum and size of the manifest object.
    pub manifest: (Sha256, u64),
    /// All packs, sorted by name.
    pub packs: Vec<PackLine>,
}

const KINDS: [(&str, SnapshotKind); 2] =
    [("files", SnapshotKind::Files), ("database", SnapshotKind::Database)];
const STATES: [(&str, SnapshotState); 2] =
    [("complete", SnapshotState::Complete), ("partial", SnapshotState::Partial)];

fn word_of<T: PartialEq + Copy>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, v)| *v == value).expect("all values have a word").0
}

fn value_of<T: Copy>(words: &[(&str, T)], word: &str) -> Result<T> {
    let found = words.iter().find(|(w, _)| *w == word);
    found.map(|(_, value)| *value).with_context(|| format!("unknown word `{word}`"))
}

impl Needs {
    /// The text of the object.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(256 + self.packs.len() * 80);
        let mut line = |line: std::fmt::Arguments<'_>| {
            writeln!(text, "{line}").expect("writing to a string does not fail");
        };
        line(format_args!("holdfast-needs 1"));
        line(format_args!("kind {}", word_of(&KINDS, self.kind)));
        line(format_args!("state {}", word_of(&STATES, self.state)));
        if let Some(parent) = &self.parent {
            line(format_args!("parent {parent}"));
        }
        line(format_args!("bytes {} {}", self.bytes, self.stored));
        line(format_args!("manifest {} {}", self.manifest.0, self.manifest.1));
        for PackLine { pack, size } in &self.packs {
            line(format_args!("pack {pack} {size}"));
        }
        line(format_args!("end {}", self.packs.len()));
        text
    }

    /// Reads the object; one that is cut short or has lines of another kind is refused.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        ensure!(lines.next() == Some("holdfast-needs 1"), "not a needs list of version 1");
        let mut needs = Self {
            kind: SnapshotKind::Files,
            state: SnapshotState::Complete,
            parent: None,
            bytes: 0,
            stored: 0,
            manifest: (Sha256([0; 32]), 0),
            packs: Vec::new(),
        };
        let mut seen_manifest = false;
        for line in lines.by_ref() {
            // No line has more words than three: a fourth is what is wrong with it.
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["kind", word] => needs.kind = value_of(&KINDS, word)?,
                ["state", word] => needs.state = value_of(&STATES, word)?,
                ["parent", id] => needs.parent = Some(id.parse()?),
                ["bytes", bytes, stored] => {
                    (needs.bytes, needs.stored) = (number(bytes)?, number(stored)?);
                }
                ["manifest", sum, size] => {
                    needs.manifest = (sum.parse()?, number(size)?);
                    seen_manifest = true;
                }
                ["pack", pack, size] => {
                    needs.packs.push(PackLine { pack: pack.parse()?, size: number(size)? });
                }
                ["end", count] => {
                    ensure!(
                        number(count)? == needs.packs.len() as u64,
                        "needs list has lost lines"
                    );
                    ensure!(seen_manifest, "needs list names no manifest");
                    return Ok(needs);
                }
                _ => bail!("unknown line in needs list"),
            }
        }
        bail!("needs list is cut short")
    }
}

fn number(word: &str) -> Result<u64> {
    word.parse().with_context(|| format!("`{word}` is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Needs {
        Needs {
            kind: SnapshotKind::Database,
            state: SnapshotState::Complete,
            parent: Some("db--20261123T021500Z--db1".parse().expect("valid")),
            bytes: 12,
            stored: 3,
            manifest: (Sha256::of(b"m"), 99),
            packs: vec![PackLine { pack: Sha256::of(b"p"), size: 7 }],
        }
    }

    #[test]
    fn reads_as_written() {
        assert_eq!(Needs::parse(&example().to_text()).expect("own text"), example());
    }

    #[test]
    fn a_line_of_many_words_is_refused() {
        let text = example().to_text().replace("bytes 12 3", "bytes 12 3 4");
        assert!(Needs::parse(&text).is_err());
        let many = format!("holdfast-needs 1\n{}\n", " ".repeat(1 << 20));
        assert!(Needs::parse(&many).is_err());
    }

    #[test]
    fn every_cut_is_found() {
        let text = example().to_text();
        for cut in 0..text.len() - 1 {
            assert!(Needs::parse(&text[..cut]).is_err(), "cut at {cut}: {}", &text[..cut]);
        }
    }
}
