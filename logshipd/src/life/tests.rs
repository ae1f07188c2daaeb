//! How a growing file is cut into entries: whole lines, long ones, half ones, and what happens when it is replaced.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use super::*;
use crate::identity::Identity;
use crate::parse::Format;

struct Lab {
    _dir: tempfile::TempDir,
    path: PathBuf,
    life: Life,
    now: Instant,
    format: Option<Format>,
}

fn bounds(is_final: bool) -> Bounds {
    Bounds { entry_bytes: 2000, entry_age: Duration::from_secs(5), is_final }
}

impl Lab {
    fn new(format: Option<Format>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        File::create(&path).unwrap();
        let input = Input::open(&path).unwrap();
        let record = Record {
            path: path.clone(),
            base: path.clone(),
            identity: Identity::of(&input.metadata().unwrap()),
            copies: Vec::new(),
            generation: None,
            head: Print::default(),
            offset: 0,
            tail: Print::default(),
            size: 0,
            cuts: Vec::new(),
            uncertain: 0,
            closed: false,
        };
        let now = Instant::now();
        let life = Life::new(record, 0, Place::Live, Some(input), now);
        Self { _dir: dir, path, life, now, format }
    }

    fn append(&self, text: &[u8]) {
        File::options().append(true).open(&self.path).unwrap().write_all(text).unwrap();
    }

    /// Entries as `offset:text+cut`, read until the end.
    fn read(&mut self, is_final: bool) -> (Vec<String>, Outcome) {
        let mut found = Vec::new();
        let mut buffer = Vec::new();
        loop {
            let outcome = self.life.read(
                self.format.as_ref(),
                &bounds(is_final),
                &mut buffer,
                self.now,
                &mut |_, entry| {
                    let text = String::from_utf8_lossy(entry.bytes);
                    found.push(format!("{}:{text}+{}", entry.offset, entry.cut));
                },
            );
            match outcome.unwrap() {
                Outcome::More => {}
                outcome => return (found, outcome),
            }
        }
    }
}

#[test]
fn half_a_line_waits_for_its_end_or_for_the_end_of_the_file() {
    let mut lab = Lab::new(None);
    lab.append(b"one\ntw");
    assert_eq!(lab.read(false).0, ["0:one+0"]);
    assert_eq!(lab.read(false).0, [""; 0]);
    lab.append(b"o\nthree");
    assert_eq!(lab.read(false).0, ["4:two+0"]);
    assert_eq!(lab.read(true).0, ["8:three+0"]);
    assert_eq!(lab.life.record.cuts, [13]);
    // What comes after all the same is an entry of its own.
    lab.append(b"?\n");
    assert_eq!(lab.read(false).0, ["13:?+0"]);
}

#[test]
fn a_cut_that_was_remembered_is_made_again() {
    let mut lab = Lab::new(None);
    lab.life.record.cuts = vec![3];
    lab.append(b"one?\ntwo\n");
    assert_eq!(lab.read(false).0, ["0:one+0", "3:?+0", "5:two+0"]);
}

#[test]
fn a_line_that_is_too_long_is_cut_and_the_rest_counted() {
    for length in [2001, 5000, CHUNK_BYTES + 5000, 3 * CHUNK_BYTES] {
        let mut lab = Lab::new(None);
        lab.append(b"before\n");
        lab.append(&vec![b'x'; length]);
        assert_eq!(lab.read(false).0, ["0:before+0"], "{length}");
        lab.append(b"\nafter\n");
        let found = lab.read(false).0;
        assert_eq!(found[0], format!("7:{}+{}", "x".repeat(2000), length - 2000), "{length}");
        assert_eq!(found[1], format!("{}:after+0", 8 + length), "{length}");
    }
}

#[test]
fn what_was_read_must_still_be_there() {
    let mut lab = Lab::new(None);
    lab.append(b"one\ntwo\n");
    assert_eq!(lab.read(false).0.len(), 2);
    fs::write(&lab.path, b"new\n").unwrap();
    assert_eq!(lab.read(false).1, Outcome::Replaced);
    // Also when as much was written again as was there before.
    fs::write(&lab.path, b"one\nTWO\nthree\n").unwrap();
    assert_eq!(lab.read(false).1, Outcome::Replaced);
}

#[test]
fn an_entry_of_several_lines_waits_for_the_next_and_then_for_its_time() {
    let mut lab = Lab::new(Some(Format::NginxError));
    let head = "2026/11/23 10:00:00 [error] 1#1: *1 a";
    lab.append(format!("{head}\nmore\n{head}\n").as_bytes());
    assert_eq!(lab.read(false).0, [format!("0:{head}\nmore+0")]);
    lab.now += Duration::from_secs(6);
    let at = head.len() + 6;
    assert_eq!(lab.read(false).0, [format!("{at}:{head}+0")]);
    assert_eq!(lab.life.record.cuts, [(at + head.len() + 1) as u64]);
}

#[test]
fn the_offset_moves_over_what_is_delivered_without_a_gap() {
    let mut lab = Lab::new(None);
    for (batch, end) in [(1, 10), (2, 20), (3, 30)] {
        lab.life.send_out(batch, end, Print::default());
    }
    lab.life.acknowledge(2);
    assert_eq!(lab.life.record.offset, 0);
    lab.life.acknowledge(1);
    assert_eq!(lab.life.record.offset, 20);
    lab.life.acknowledge(3);
    assert_eq!(lab.life.record.offset, 30);
}
