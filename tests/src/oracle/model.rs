//! Steps: what a session sends, and what is there afterwards, both from the seed alone.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::content::Content;
use crate::tree::Dice;

/// Tables that all sessions share; each session makes its own besides.
pub(super) const TABLES: &str = "CREATE DATABASE oracle CHARACTER SET utf8mb4; USE oracle;
    CREATE TABLE ledger (s INT, k INT, note VARCHAR(100), PRIMARY KEY (s, k));
    CREATE TABLE state (s INT PRIMARY KEY, k INT);
    CREATE TABLE blobs (s INT, k INT, part INT, body LONGBLOB, PRIMARY KEY (s, k, part));
    CREATE TABLE words (s INT, k INT, w VARCHAR(50) CHARACTER SET latin1, KEY (s));";

/// A note in which no two character sets agree.
const NOTE_UTF8: &str = "C3A4E282ACF09F9880";
/// Characters of latin1, and the same in UTF-8.
const WORD_LATIN1: &str = "E4F6DF";
const WORD_UTF8: &str = "C3A4C3B6C39F";
/// More columns than this are not added to a table.
const COLUMNS_MAX: usize = 5;

/// How large things get.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Bytes of a large value.
    pub blob_bytes: usize,
    /// How many of them one transaction has, now and then.
    pub blobs_max: usize,
    /// One step in so many has large values.
    pub once_in: u64,
}

/// What a step sends.
#[derive(Debug)]
pub(super) struct Statements {
    /// The text; it leaves the GTID in `@gtid`.
    pub text: String,
    /// Its time is one that the session has set.
    pub is_set_back: bool,
}

/// One session: its dice, and what it has so far.
#[derive(Debug)]
pub struct Model {
    dice: Dice,
    sizes: Sizes,
    session: u32,
    steps: u32,
    /// The step that is prepared and not committed.
    pending: Option<u32>,
    ledger: Vec<u32>,
    state: Option<u32>,
    blobs: Vec<(u32, usize)>,
    words: Vec<u32>,
    /// Values and how often each is there.
    no_key: Option<BTreeMap<u32, u32>>,
    /// The value of the only row, and the columns that were added.
    made: Option<(u32, Vec<u32>)>,
}

impl Model {
    /// A session that has done nothing.
    pub fn new(seed: u64, session: u32, sizes: Sizes) -> Self {
        Self {
            dice: Dice::new(seed ^ u64::from(session) << 32),
            sizes,
            session,
            steps: 0,
            pending: None,
            ledger: Vec::new(),
            state: None,
            blobs: Vec::new(),
            words: Vec::new(),
            no_key: None,
            made: None,
        }
    }

    pub(super) fn session(&self) -> u32 {
        self.session
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Takes so many steps without sending them.
    pub fn skip(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
    }

    /// Takes the next step.
    pub(super) fn step(&mut self) -> Statements {
        let (s, k) = (self.session, self.steps);
        self.steps += 1;
        let is_set_back = self.pending.is_none() && k > 0 && self.dice.once_in(12);
        let body = self.body(s, k);
        let mut text = String::from("USE oracle; ");
        if is_set_back {
            write!(text, "SET timestamp = {}; ", 1_000_000_000 + k).expect("a string");
        }
        text.push_str(&body);
        text.push_str(" SET timestamp = DEFAULT;");
        Statements { text, is_set_back }
    }

    fn body(&mut self, s: u32, k: u32) -> String {
        const KEEP: &str = "SET @gtid = @@last_gtid;";
        if k == 0 {
            self.no_key = Some(BTreeMap::new());
            return format!("CREATE TABLE no_key_{s} (v INT); {KEEP}");
        }
        if let Some(prepared) = self.pending.take() {
            self.ledger.push(prepared);
            return format!("XA COMMIT 'x{s}_{prepared}'; {KEEP}");
        }
        if self.dice.once_in(self.sizes.once_in) {
            return format!("{} {KEEP}", self.blobs(s, k));
        }
        let text = match self.dice.below(12) {
            0 => return format!("{} {KEEP}", self.make(s, k)),
            1 => return format!("{} {KEEP}", self.change_definition(s, k)),
            2 => {
                self.pending = Some(k);
                let insert = insert_ledger(s, k);
                let x = format!("'x{s}_{k}'");
                return format!("XA START {x}; {insert} XA END {x}; XA PREPARE {x}; {KEEP}");
            }
            3 => self.no_key(s, k),
            4 => self.temporary(s, k),
            5 => {
                self.words.push(k);
                let word =
                    format!("INSERT INTO words VALUES ({s}, {k}, _latin1 X'{WORD_LATIN1}');");
                format!("SET NAMES latin1; BEGIN; {word}")
            }
            6 => self.by_statement(s, k),
            7 => format!("BEGIN; SAVEPOINT a; DELETE FROM ledger WHERE s = {s}; ROLLBACK TO a;"),
            _ => "BEGIN;".to_owned(),
        };
        self.ledger.push(k);
        self.state = Some(k);
        let insert = insert_ledger(s, k);
        format!(
            "{text} {insert} REPLACE INTO state VALUES ({s}, {k}); COMMIT; {KEEP}
             DROP TEMPORARY TABLE IF EXISTS temp; SET NAMES utf8mb4; SET SESSION binlog_format = ROW;"
        )
    }

    fn blobs(&mut self, s: u32, k: u32) -> String {
        let fewer = self.dice.below(self.sizes.blobs_max as u64) as usize;
        let parts = if self.dice.once_in(2) { self.sizes.blobs_max } else { fewer.max(1) };
        self.blobs.push((k, parts));
        let (letter, bytes) = (letter(k), self.sizes.blob_bytes);
        format!(
            "INSERT INTO blobs SELECT {s}, {k}, seq, REPEAT('{letter}', {bytes} + seq) \
             FROM seq_1_to_{parts};"
        )
    }

    /// `CREATE OR REPLACE` would do both, but a server that dies within it has neither table.
    fn make(&mut self, s: u32, k: u32) -> String {
        if self.made.take().is_some() {
            return format!("DROP TABLE made_{s};");
        }
        self.made = Some((k, Vec::new()));
        format!("CREATE TABLE made_{s} AS SELECT {k} AS made;")
    }

    fn change_definition(&mut self, s: u32, k: u32) -> String {
        match &mut self.made {
            Some((_, columns)) if columns.len() < COLUMNS_MAX => {
                columns.push(k);
                format!("ALTER TABLE made_{s} ADD COLUMN c{k} INT NOT NULL DEFAULT {k};")
            }
            _ => self.make(s, k),
        }
    }

    /// Rows of a table without a key: some come, some go, some change.
    fn no_key(&mut self, s: u32, k: u32) -> String {
        let old = self.dice.below(u64::from(k)) as u32;
        if let Some(values) = &mut self.no_key {
            *values.entry(k).or_default() += 2;
            values.remove(&old);
            let changed = values.remove(&(old + 1)).unwrap_or_default();
            if changed > 0 {
                *values.entry(k + 1_000_000).or_default() += changed;
            }
        }
        format!(
            "BEGIN; INSERT INTO no_key_{s} VALUES ({k}), ({k}); DELETE FROM no_key_{s} WHERE v = {old};
             UPDATE no_key_{s} SET v = {k} + 1000000 WHERE v = {old} + 1;"
        )
    }

    fn temporary(&mut self, s: u32, k: u32) -> String {
        self.put_no_key(k);
        format!(
            "CREATE TEMPORARY TABLE temp (v INT); INSERT INTO temp VALUES ({k});
             BEGIN; INSERT INTO no_key_{s} SELECT v FROM temp;"
        )
    }

    fn by_statement(&mut self, s: u32, k: u32) -> String {
        self.put_no_key(k);
        format!(
            "SET SESSION binlog_format = STATEMENT; SET @v = {k}; BEGIN;
             INSERT INTO no_key_{s} VALUES (@v);"
        )
    }

    fn put_no_key(&mut self, k: u32) {
        if let Some(values) = &mut self.no_key {
            *values.entry(k).or_default() += 1;
        }
    }

    /// What is there.
    pub fn content(&self) -> Content {
        let s = self.session;
        let mut content = Content::default();
        let mut add = |line: String| content.insert(s, line);
        for k in &self.ledger {
            add(format!("ledger {k} {NOTE_UTF8}"));
        }
        if let Some(k) = self.state {
            add(format!("state {k}"));
        }
        for (k, parts) in &self.blobs {
            for part in 1..=*parts {
                let length = self.sizes.blob_bytes + part;
                add(format!("blobs {k} {part} {length} {}", sum(letter(*k), length)));
            }
        }
        for k in &self.words {
            add(format!("words {k} {WORD_UTF8} 1"));
        }
        if let Some(values) = &self.no_key {
            add("no_key".to_owned());
            for (value, count) in values {
                add(format!("no_key {value} {count}"));
            }
        }
        if let Some((k, columns)) = &self.made {
            let columns: Vec<String> = columns.iter().map(|k| format!(" c{k}={k}")).collect();
            add(format!("made 1 made={k}{}", columns.concat()));
        }
        content
    }
}

fn insert_ledger(s: u32, k: u32) -> String {
    format!("INSERT INTO ledger VALUES ({s}, {k}, CONVERT(X'{NOTE_UTF8}' USING utf8mb4));")
}

fn letter(k: u32) -> char {
    char::from(b'a' + (k % 26) as u8)
}

/// What the server's `CRC32()` gives.
fn sum(letter: char, length: usize) -> u32 {
    let mut bytes = [0; 1];
    letter.encode_utf8(&mut bytes);
    let piece = [bytes[0]; 4096];
    let mut sum = crc32fast::Hasher::new();
    for _ in 0..length / piece.len() {
        sum.update(&piece);
    }
    sum.update(&piece[..length % piece.len()]);
    sum.finalize()
}
