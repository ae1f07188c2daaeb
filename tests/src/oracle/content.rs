//! What is in a database, as lines of text for each session, and the first difference between two.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use crate::servers::mariadb::MariaDb;

/// The tables that all sessions share.
const SHARED: &str = "USE oracle;
    SELECT s, CONCAT_WS(' ', 'ledger', k, HEX(note)) FROM ledger;
    SELECT s, CONCAT_WS(' ', 'state', k) FROM state;
    SELECT s, CONCAT_WS(' ', 'blobs', k, part, LENGTH(body), CRC32(body)) FROM blobs;
    SELECT s, CONCAT_WS(' ', 'words', k, HEX(CONVERT(w USING utf8mb4)), COUNT(*)) FROM words GROUP BY s, k, w;";
/// The tables of single sessions, and their columns.
const OWN: &str = "SELECT table_name, GROUP_CONCAT(column_name ORDER BY ordinal_position)
    FROM information_schema.columns
    WHERE table_schema = 'oracle' AND (table_name LIKE 'no\\_key\\_%' OR table_name LIKE 'made\\_%')
    GROUP BY table_name;";

/// What is there: lines by session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content(BTreeMap<u32, BTreeSet<String>>);

impl Content {
    /// All that a server has.
    pub fn read(server: &MariaDb) -> Result<Self> {
        let mut content = Self::default();
        let own = server.query(OWN)?;
        let own: Vec<String> = own.lines().filter_map(own_query).collect();
        let rows = server.query(&format!("{SHARED} {}", own.concat()))?;
        for row in rows.lines() {
            let (session, line) = row.split_once('\t').with_context(|| format!("row {row}"))?;
            content.insert(session.parse()?, line.to_owned());
        }
        Ok(content)
    }

    pub(super) fn insert(&mut self, session: u32, line: String) {
        self.0.entry(session).or_default().insert(line);
    }

    /// Adds all of another.
    pub fn add(&mut self, other: Self) {
        for (session, mut lines) in other.0 {
            self.0.entry(session).or_default().append(&mut lines);
        }
    }

    /// What one session has.
    pub fn of_session(&self, session: u32) -> Self {
        Self(self.0.get(&session).map(|lines| (session, lines.clone())).into_iter().collect())
    }

    /// How many lines there are.
    pub fn size(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// The first lines that only one of the two has.
    pub fn difference(&self, found: &Self) -> Option<String> {
        let all = |content: &Self| -> BTreeSet<(u32, String)> {
            let lines = |(session, lines): (&u32, &BTreeSet<String>)| {
                lines.iter().map(|line| (*session, line.clone())).collect::<Vec<_>>()
            };
            content.0.iter().flat_map(lines).collect()
        };
        let (expected, found) = (all(self), all(found));
        let missing: Vec<_> = expected.difference(&found).take(5).collect();
        let excess: Vec<_> = found.difference(&expected).take(5).collect();
        let differs = !missing.is_empty() || !excess.is_empty();
        differs.then(|| format!("missing {missing:?}, too much {excess:?}"))
    }
}

/// The query over a table of one session.
fn own_query(table: &str) -> Option<String> {
    let (table, columns) = table.split_once('\t')?;
    let session = table.rsplit('_').next()?;
    if table.starts_with("no_key") {
        let count = "CONCAT_WS(' ', 'no_key', v, COUNT(*))";
        return Some(format!(
            "SELECT {session}, 'no_key'; SELECT {session}, {count} FROM {table} GROUP BY v;"
        ));
    }
    let columns: Vec<String> =
        columns.split(',').map(|column| format!(", ' {column}=', {column}")).collect();
    let rows = format!("(SELECT COUNT(*) FROM {table})");
    let text = columns.concat();
    Some(format!("SELECT {session}, CONCAT('made ', {rows}{text}) FROM {table};"))
}
