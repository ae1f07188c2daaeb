//! A query without what differs from one run to the next, and a digest of that.
//!
//! The rules are those of Percona's `pt-query-digest`, as far as they do not depend on its regular
//! expressions: comments go, blanks become one, all is lower case, strings and numbers become `?`, lists
//! `in (..)` and `values (..), (..)` become one of unknown length, `null` is a value, `limit ?, ?` is
//! `limit ?`. The digest is ours: the first 16 hexadecimal digits of the SHA-256 of the fingerprint.
//! It is computed in one pass, in time that grows with the length only.

use sha2::{Digest as _, Sha256};

/// A fingerprint is cut behind this; the digest is of all of it.
const TEXT_BYTES_MAX: usize = 4096;
const TABLES_MAX: usize = 16;

/// What a query is.
#[derive(Debug, Default)]
pub(super) struct Fingerprint {
    text: Vec<u8>,
    /// The tables that it names.
    pub tables: Vec<Vec<u8>>,
}

impl Fingerprint {
    /// The query without its values.
    pub fn text(&self) -> &[u8] {
        &self.text[..self.text.len().min(TEXT_BYTES_MAX)]
    }

    /// 16 hexadecimal digits.
    pub fn digest(&self) -> String {
        hex::encode(&Sha256::digest(&self.text)[..8])
    }

    /// The first word.
    pub fn command(&self) -> Option<&[u8]> {
        let text = self.text.trim_ascii_start();
        let text = text.trim_prefix_of(b"(");
        let length = text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        (length > 0).then(|| &text[..length])
    }
}

/// Without any of these bytes at the beginning.
trait TrimPrefix {
    fn trim_prefix_of(&self, bytes: &[u8]) -> &Self;
}

impl TrimPrefix for [u8] {
    fn trim_prefix_of(&self, bytes: &[u8]) -> &Self {
        let at = self.iter().position(|byte| !bytes.contains(byte)).unwrap_or(self.len());
        &self[at..]
    }
}

/// The fingerprint of a query.
pub(super) fn of(query: &[u8]) -> Fingerprint {
    let query = query.trim_ascii_end();
    let query = query.strip_suffix(b";").unwrap_or(query);
    let mut writer = Writer::default();
    let mut tokens = Tokens { rest: query };
    while let Some(token) = tokens.next() {
        if let Token::Punctuation(b'(') = token
            && let Some(after) = writer.list(tokens)
        {
            tokens = after;
            continue;
        }
        writer.token(token);
    }
    writer.print
}

/// A piece of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A keyword or name, in backticks or not.
    Word(&'a [u8]),
    /// A string or a number.
    Value,
    Punctuation(u8),
}

#[derive(Clone, Copy)]
struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn next(&mut self) -> Option<Token<'a>> {
        self.blanks();
        let first = *self.rest.first()?;
        Some(match first {
            b'\'' | b'"' => {
                self.string(first);
                Token::Value
            }
            b'`' => {
                let end =
                    memchr::memchr(b'`', &self.rest[1..]).map_or(self.rest.len(), |at| at + 2);
                Token::Word(self.take(end))
            }
            b'0'..=b'9' => {
                self.take(run(self.rest, |byte| byte.is_ascii_alphanumeric() || byte == b'.'));
                Token::Value
            }
            _ if is_word(first) => Token::Word(self.take(run(self.rest, is_word))),
            _ => {
                self.take(1);
                Token::Punctuation(first)
            }
        })
    }

    /// Passes over blanks and comments.
    fn blanks(&mut self) {
        loop {
            self.take(run(self.rest, |byte| byte.is_ascii_whitespace()));
            if self.rest.starts_with(b"/*") {
                let end = memchr::memmem::find(&self.rest[2..], b"*/");
                self.take(end.map_or(self.rest.len(), |at| at + 4));
            } else if self.rest.starts_with(b"#") || self.rest.starts_with(b"-- ") {
                self.take(run(self.rest, |byte| byte != b'\n'));
            } else {
                return;
            }
        }
    }

    fn string(&mut self, quote: u8) {
        self.take(1);
        while let Some(at) = memchr::memchr2(quote, b'\\', self.rest) {
            let is_escape = self.rest[at] == b'\\';
            self.take(at + 1);
            if is_escape || self.rest.first() == Some(&quote) {
                self.take(1);
            } else {
                return;
            }
        }
        self.rest = &[];
    }
}

fn run(text: &[u8], satisfies: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|&byte| !satisfies(byte)).unwrap_or(text.len())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'@') || byte >= 0x80
}

#[derive(Default)]
struct Writer {
    print: Fingerprint,
    /// The last word, lower case, if nothing came behind it.
    word: Vec<u8>,
    /// A name of a table is next.
    wants_table: bool,
    /// Where the last `limit ?` ends.
    limit: Option<usize>,
    /// A sign or the like: what is behind it is not the second part of an expression.
    after_operator: bool,
}

impl Writer {
    fn token(&mut self, token: Token) {
        match token {
            Token::Word(word) if word.eq_ignore_ascii_case(b"null") => self.value(),
            Token::Word(word) => self.word(word),
            Token::Value => self.value(),
            Token::Punctuation(byte) => self.punctuation(byte),
        }
    }

    fn word(&mut self, word: &[u8]) {
        self.blank();
        let lower = word.to_ascii_lowercase();
        self.print.text.extend_from_slice(&lower);
        let is_keyword = matches!(
            lower.as_slice(),
            b"from"
                | b"join"
                | b"into"
                | b"update"
                | b"table"
                | b"ignore"
                | b"low_priority"
                | b"if"
                | b"exists"
                | b"not"
        );
        if self.wants_table && !is_keyword && lower != b"select" && lower != b"set" {
            self.table(&lower);
        }
        // `on duplicate key update` names columns.
        let is_duplicate = lower == b"update" && self.word == b"key";
        self.wants_table = match lower.as_slice() {
            b"from" | b"join" | b"into" | b"table" => true,
            b"update" => !is_duplicate,
            _ => self.wants_table && is_keyword,
        };
        self.word = lower;
        self.limit = None;
        self.after_operator = false;
    }

    fn table(&mut self, name: &[u8]) {
        let name: Vec<u8> = name.iter().copied().filter(|&byte| byte != b'`').collect();
        let tables = &mut self.print.tables;
        if tables.len() < TABLES_MAX && !tables.contains(&name) {
            tables.push(name);
        }
    }

    fn value(&mut self) {
        // A sign belongs to its number, and `limit 1, 2` is one limit.
        if self.limit.is_some_and(|end| self.print.text[end..] == *b",") {
            self.print.text.pop();
            return;
        }
        let text = &mut self.print.text;
        if self.after_operator && text.ends_with(b"-") {
            text.pop();
            if text.ends_with(b" ") {
                text.pop();
            }
        }
        self.blank();
        self.print.text.push(b'?');
        let is_limit = matches!(self.word.as_slice(), b"limit" | b"offset");
        self.limit = is_limit.then_some(self.print.text.len());
        self.word.clear();
        self.after_operator = false;
    }

    fn punctuation(&mut self, byte: u8) {
        let before = self.print.text.last().copied();
        match byte {
            b',' | b')' | b';' | b'.' => {}
            b'(' if !self.word.is_empty() => {}
            b'=' | b'>' if matches!(before, Some(b'<' | b'>' | b'!' | b':')) => {}
            _ => self.blank(),
        }
        self.print.text.push(byte);
        let is_operator = |byte: u8| matches!(byte, b'=' | b'<' | b'>' | b'(' | b',' | b'+' | b'*');
        self.after_operator = byte == b'-' && before.is_none_or(|b| is_operator(b) || b == b' ');
        if byte != b',' {
            self.limit = None;
        }
        self.word.clear();
        self.wants_table &= matches!(byte, b'.' | b'`');
    }

    /// A blank between two words or values, none behind an opening parenthesis or a point.
    fn blank(&mut self) {
        let text = &mut self.print.text;
        if text.last().is_some_and(|last| !matches!(last, b'(' | b'.' | b' ')) {
            text.push(b' ');
        }
    }

    /// `(1, 2)` behind `in`, `(..), (..)` behind `values`: written as one. Where the list ends.
    fn list<'a>(&mut self, tokens: Tokens<'a>) -> Option<Tokens<'a>> {
        let after = match self.word.as_slice() {
            b"in" => values_only(tokens)?,
            b"values" | b"value" => rows(tokens)?,
            _ => return None,
        };
        self.print.text.extend_from_slice(b"(?+)");
        self.word.clear();
        Some(after)
    }
}

/// What is behind a list that holds values only; the opening parenthesis is already passed.
fn values_only(mut tokens: Tokens) -> Option<Tokens> {
    let mut depth = 1;
    loop {
        match tokens.next()? {
            Token::Punctuation(b'(') => depth += 1,
            Token::Punctuation(b')') => depth -= 1,
            Token::Word(word) if !word.eq_ignore_ascii_case(b"null") => return None,
            _ => {}
        }
        if depth == 0 {
            return Some(tokens);
        }
    }
}

/// What is behind all rows of `values`; `values(column)`, of a duplicate key, is no row.
fn rows(mut tokens: Tokens) -> Option<Tokens> {
    let mut ahead = tokens;
    if let Some(Token::Word(word)) = ahead.next()
        && !word.eq_ignore_ascii_case(b"null")
        && ahead.next() == Some(Token::Punctuation(b')'))
    {
        return None;
    }
    let mut depth = 1;
    loop {
        match tokens.next() {
            // A query that the server cut.
            None => return Some(tokens),
            Some(Token::Punctuation(b'(')) => depth += 1,
            Some(Token::Punctuation(b')')) => depth -= 1,
            _ => {}
        }
        if depth > 0 {
            continue;
        }
        let mut ahead = tokens;
        if ahead.next() != Some(Token::Punctuation(b','))
            || ahead.next() != Some(Token::Punctuation(b'('))
        {
            return Some(tokens);
        }
        (tokens, depth) = (ahead, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: &str, tables: &[&str]) {
        let print = of(query.as_bytes());
        assert_eq!(String::from_utf8_lossy(print.text()), expected);
        let found: Vec<_> = print.tables.iter().map(|name| String::from_utf8_lossy(name)).collect();
        assert_eq!(found, tables, "{query}");
    }

    #[test]
    fn values_are_taken_out() {
        check(
            "SELECT *  FROM wp_options WHERE option_name = 'it''s' AND id=-12.5e3 LIMIT 10, 20;",
            "select * from wp_options where option_name = ? and id = ? limit ?",
            &["wp_options"],
        );
        check(
            "insert into `t`.`a` (b, c) values (1, 'x)'), (2, now())\n on duplicate key update b=VALUES(b)",
            "insert into `t`.`a`(b, c) values(?+) on duplicate key update b = values(b)",
            &["t"],
        );
        check(
            "select a from b where c in (1,2, 'x') /* x */ -- y\n and d is null",
            "select a from b where c in(?+) and d is ?",
            &["b"],
        );
        check(
            "select 1 from a where b in (select c from d)",
            "select ? from a where b in(select c from d)",
            &["a", "d"],
        );
        check(
            "select \"a\\\"b\", 0x1F, count(*) from a join b on a.x = b.y",
            "select ?, ?, count(*) from a join b on a.x = b.y",
            &["a", "b"],
        );
        check("select 'open", "select ?", &[]);
    }

    #[test]
    fn the_digest_is_stable() {
        assert_eq!(of(b"SELECT 1").digest(), of(b"select  2;").digest());
        assert_eq!(of(b"SELECT 1").digest(), "e1c71d1661ae46e0");
    }
}
