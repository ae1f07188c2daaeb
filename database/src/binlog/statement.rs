//! What a statement does, and to which tables: as much of SQL as a server's log needs.
//!
//! It is for people who look for a transaction; nothing is decided by it. What is not understood is
//! [`Statement::Other`] without tables.

use std::fmt;

use serde::{Deserialize, Serialize};

/// More names than this are not taken from one statement.
const NAMES_MAX: usize = 64;

/// What a statement, or a row event, does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Statement {
    /// `INSERT`, `REPLACE`, `LOAD DATA`.
    Insert,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
    /// `CREATE`.
    Create,
    /// `ALTER`, and what changes indexes.
    Alter,
    /// `DROP`.
    Drop,
    /// `TRUNCATE`.
    Truncate,
    /// `RENAME`.
    Rename,
    /// Anything else, such as `GRANT`.
    Other,
}

/// A table, or a whole database if the table is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.table.as_str() {
            "" => f.write_str(&self.database),
            table => write!(f, "{}.{table}", self.database),
        }
    }
}

/// What a statement does and to what. `database` is the default one.
pub fn understand(database: &str, text: &str) -> (Statement, Vec<TableName>) {
    let words = Words::of(text);
    let mut words = words.0.as_slice();
    let first = next_word(&mut words);
    match first.as_deref() {
        Some("INSERT" | "REPLACE") => {
            skip(&mut words, &["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO"]);
            (Statement::Insert, names(database, &mut words).into_iter().take(1).collect())
        }
        Some("LOAD") => (Statement::Insert, after(database, words, "TABLE")),
        Some("UPDATE") => {
            skip(&mut words, &["LOW_PRIORITY", "IGNORE"]);
            (Statement::Update, names(database, &mut words))
        }
        Some("DELETE") => (Statement::Delete, after(database, words, "FROM")),
        Some("TRUNCATE") => {
            skip(&mut words, &["TABLE"]);
            (Statement::Truncate, names(database, &mut words))
        }
        Some("RENAME") => (Statement::Rename, renamed(database, words)),
        Some("CREATE") => definition(Statement::Create, database, words),
        Some("ALTER") => definition(Statement::Alter, database, words),
        Some("DROP") => definition(Statement::Drop, database, words),
        _ => (Statement::Other, Vec::new()),
    }
}

/// What follows `CREATE`, `ALTER`, `DROP`.
fn definition(kind: Statement, database: &str, words: &[Word]) -> (Statement, Vec<TableName>) {
    let mut words = words;
    while let Some(word) = next_word(&mut words) {
        match word.as_str() {
            "TABLE" | "VIEW" | "SEQUENCE" => {
                skip(&mut words, &["IF", "NOT", "EXISTS"]);
                let names = names(database, &mut words);
                let count = if kind == Statement::Drop { names.len() } else { 1 };
                return (kind, names.into_iter().take(count).collect());
            }
            "DATABASE" | "SCHEMA" => {
                skip(&mut words, &["IF", "NOT", "EXISTS"]);
                let name = words.first().map_or(database, |word| word.text.as_str());
                return (kind, vec![TableName { database: name.to_owned(), table: String::new() }]);
            }
            "INDEX" => {
                return (
                    Statement::Alter,
                    after(database, words, "ON").into_iter().take(1).collect(),
                );
            }
            "TRIGGER" | "PROCEDURE" | "FUNCTION" | "EVENT" | "USER" | "ROLE" | "PACKAGE" => break,
            _ => {}
        }
    }
    (kind, Vec::new())
}

/// `RENAME TABLE a TO b, c TO d`: all four.
fn renamed(database: &str, words: &[Word]) -> Vec<TableName> {
    let mut words = words;
    skip(&mut words, &["TABLE", "TABLES", "IF", "EXISTS"]);
    let mut all = Vec::new();
    while !words.is_empty() && all.len() < NAMES_MAX {
        all.extend(names(database, &mut words));
        words = words.get(1..).unwrap_or_default();
    }
    all
}

/// The names after a keyword.
fn after(database: &str, words: &[Word], keyword: &str) -> Vec<TableName> {
    let place = words.iter().position(|word| word.is(keyword));
    place.map_or_else(Vec::new, |place| names(database, &mut &words[place + 1..]))
}

/// A list of names: `a, b.c`.
fn names(database: &str, words: &mut &[Word]) -> Vec<TableName> {
    let mut names = Vec::new();
    while let Some((first, rest)) = words.split_first() {
        if first.is_mark || names.len() == NAMES_MAX {
            break;
        }
        let mut name = TableName { database: database.to_owned(), table: first.text.clone() };
        *words = rest;
        if let [dot, second, rest @ ..] = rest
            && dot.is_mark
            && dot.text == "."
        {
            name = TableName { database: first.text.clone(), table: second.text.clone() };
            *words = rest;
        }
        names.push(name);
        match words.split_first() {
            Some((comma, rest)) if comma.is_mark && comma.text == "," => *words = rest,
            _ => break,
        }
    }
    names
}

fn skip(words: &mut &[Word], these: &[&str]) {
    while words.first().is_some_and(|word| these.iter().any(|this| word.is(this))) {
        *words = &words[1..];
    }
}

fn next_word(words: &mut &[Word]) -> Option<String> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    Some(first.text.to_ascii_uppercase())
}

/// A word, a quoted name, or a mark such as a comma.
#[derive(Debug)]
struct Word {
    text: String,
    is_mark: bool,
    is_quoted: bool,
}

impl Word {
    fn is(&self, keyword: &str) -> bool {
        !self.is_quoted && self.text.eq_ignore_ascii_case(keyword)
    }
}

/// The first words of a statement, without comments. Text in quotes is passed over, names in
/// backticks are kept.
struct Words(Vec<Word>);

impl Words {
    /// A statement names its tables early; rows in a `VALUES` list are not wanted.
    const COUNT_MAX: usize = 400;

    fn of(text: &str) -> Self {
        let mut words = Vec::new();
        let mut rest = text;
        while words.len() < Self::COUNT_MAX {
            rest = rest.trim_start();
            let Some(first) = rest.chars().next() else { break };
            let (word, length) = match first {
                '`' => quoted(rest),
                '\'' | '"' => (None, quoted_length(rest, first)),
                '#' => (None, rest.find('\n').unwrap_or(rest.len())),
                '-' if rest.starts_with("-- ") => (None, rest.find('\n').unwrap_or(rest.len())),
                '/' if rest.starts_with("/*") => (None, comment_length(rest)),
                '*' if rest.starts_with("*/") => (None, 2),
                _ if is_word(first) => plain(rest),
                _ => (Some((first.to_string(), true, false)), first.len_utf8()),
            };
            words.extend(word.map(|(text, is_mark, is_quoted)| Word { text, is_mark, is_quoted }));
            rest = &rest[length..];
        }
        Self(words)
    }
}

type Found = (Option<(String, bool, bool)>, usize);

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '$' | '@')
}

fn plain(rest: &str) -> Found {
    let length = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
    (Some((rest[..length].to_owned(), false, false)), length)
}

fn quoted(rest: &str) -> Found {
    let length = quoted_length(rest, '`');
    let inner = rest[1..length].strip_suffix('`').unwrap_or(&rest[1..length]);
    (Some((inner.replace("``", "`"), false, true)), length)
}

/// The length of a quoted text with its quotes; a doubled quote does not end it, nor one behind a
/// backslash in a string.
fn quoted_length(rest: &str, quote: char) -> usize {
    let mut letters = rest.char_indices().skip(1).peekable();
    while let Some((place, letter)) = letters.next() {
        if letter == '\\' && quote != '`' {
            letters.next();
        } else if letter == quote && letters.next_if(|(_, next)| *next == quote).is_none() {
            return place + quote.len_utf8();
        }
    }
    rest.len()
}

/// What is in `/*! */` and `/*M! */` is part of the statement.
fn comment_length(rest: &str) -> usize {
    let inner = rest[2..].strip_prefix('M').unwrap_or(&rest[2..]);
    if let Some(inner) = inner.strip_prefix('!') {
        let digits = inner.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(inner.len());
        return rest.len() - inner.len() + digits;
    }
    rest.find("*/").map_or(rest.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_their_tables() {
        use Statement::{Alter, Create, Delete, Drop, Insert, Other, Rename, Truncate, Update};
        fn check(text: &str, kind: Statement, tables: &str) {
            let (found, names) = understand("shop", text);
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            assert_eq!((found, names.join(" ").as_str()), (kind, tables), "{text}");
        }
        check(
            "DROP TABLE IF EXISTS `a`, b . `c d` /* generated by server */",
            Drop,
            "shop.a b.c d",
        );
        check("drop table `a``b`", Drop, "shop.a`b");
        check("DROP DATABASE IF EXISTS `old`", Drop, "old");
        check("DROP VIEW v", Drop, "shop.v");
        check("DROP INDEX i ON t", Alter, "shop.t");
        check("DROP TRIGGER t", Drop, "");
        check("CREATE OR REPLACE TABLE IF NOT EXISTS x.t (a INT, b INT)", Create, "x.t");
        check("CREATE TEMPORARY TABLE t LIKE u", Create, "shop.t");
        check("CREATE UNIQUE INDEX i ON x.t (a, b)", Alter, "x.t");
        check("CREATE DEFINER=`root`@`localhost` PROCEDURE p() DROP TABLE t", Create, "");
        check("ALTER TABLE t ADD COLUMN a INT, ADD b INT", Alter, "shop.t");
        check("/*!40000 ALTER TABLE `t` DISABLE KEYS */", Alter, "shop.t");
        check("-- note\n# more\n/* DROP */ TRUNCATE TABLE t", Truncate, "shop.t");
        check("RENAME TABLE a TO x.b, c TO d", Rename, "shop.a x.b shop.c shop.d");
        check("INSERT INTO t VALUES ('DROP TABLE u')", Insert, "shop.t");
        check("LOAD DATA LOCAL INFILE 'TABLE x' INTO TABLE `t` (a)", Insert, "shop.t");
        check("UPDATE t SET a = 'it''s \\' FROM'", Update, "shop.t");
        check("DELETE FROM x.t WHERE a = 1", Delete, "x.t");
        check("GRANT ALL ON *.* TO u", Other, "");
        check("DROP TABLE `unfinished", Drop, "shop.unfinished");
        check("", Other, "");
    }
}
