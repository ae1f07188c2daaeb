//! How a timeline began: plain text, so that agents can read it.

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, SecondsFormat, Utc};

use crate::names::HostName;

const FIRST_LINE: &str = "holdfast-timeline 1";

/// What is in a `.begin` object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// When it was opened, by the agent's clock.
    pub began: DateTime<Utc>,
    /// The host whose agent opened it.
    pub source: HostName,
    /// `mariadb` or `mysql`.
    pub flavour: String,
    /// The UUID of the Galera cluster, of a node of one.
    pub cluster: Option<String>,
    /// What the server had already: a position of MariaDB or a set of MySQL; may be empty.
    pub after: String,
    /// Why.
    pub why: String,
}

impl Begin {
    /// The text of the object.
    pub fn to_text(&self) -> String {
        let began = self.began.to_rfc3339_opts(SecondsFormat::Secs, true);
        let cluster =
            self.cluster.as_ref().map(|uuid| format!("cluster {uuid}\n")).unwrap_or_default();
        let Self { source, flavour, after, why, .. } = self;
        format!(
            "{FIRST_LINE}\nbegan {began}\nsource {source}\nflavour {flavour}\n\
             {cluster}after {after}\nwhy {why}\nend\n"
        )
    }

    /// Reads it; lines that are not known are passed over.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.lines().next() == Some(FIRST_LINE), "this does not say how a timeline began");
        ensure!(text.lines().last() == Some("end"), "it is cut short");
        let field = |name: &str| {
            text.lines().find_map(|line| {
                let (first, rest) = line.split_once(' ')?;
                (first == name).then(|| rest.to_owned())
            })
        };
        let needed = |name: &str| field(name).with_context(|| format!("it has no line `{name}`"));
        Ok(Self {
            began: needed("began")?.parse().context("read when it began")?,
            source: needed("source")?.parse()?,
            flavour: needed("flavour")?,
            cluster: field("cluster"),
            after: field("after").unwrap_or_default(),
            why: field("why").unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_reads_as_written() {
        let mut begin = Begin {
            began: "2026-11-23T02:15:00Z".parse().unwrap(),
            source: "db1".parse().unwrap(),
            flavour: "mariadb".into(),
            cluster: Some("3e11fa47".into()),
            after: "0-1-100,5-1-3".into(),
            why: "the archive begins".into(),
        };
        assert_eq!(Begin::parse(&begin.to_text()).unwrap(), begin);
        begin.cluster = None;
        begin.after = String::new();
        let text = begin.to_text();
        assert_eq!(Begin::parse(&text).unwrap(), begin);
        for length in 0..text.len() - 1 {
            assert!(Begin::parse(&text[..length]).is_err(), "{length}");
        }
    }
}
