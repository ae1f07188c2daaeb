//! `restore find`: the transactions that touched a table.

use std::collections::VecDeque;
use std::io::Write;

use anyhow::Result;
use chassis::cli::Stdout;
use chassis::clock::{local_zone, parse_time};
use chassis::failure::{Exit, Failure};
use chassis::retry::Stop;
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use database::binlog::{Statement, Summary};
use database::gtid::GtidSet;
use depot::log::{Catalog, Link};

use super::{Arguments, Find, keys};
use crate::config::{CONFIG_PATH, Config, open_first};
use crate::point::cut::Transaction;
use crate::point::timeline::{Begins, choose};
use crate::point::{Goal, read, time_of};

/// What can be done to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Did {
    /// Rows were added.
    Insert,
    /// Rows were changed.
    Update,
    /// Rows were removed.
    Delete,
    /// It was made.
    Create,
    /// It was changed.
    Alter,
    /// It was removed.
    Drop,
    /// It was emptied.
    Truncate,
    /// It got another name.
    Rename,
    /// Anything else.
    Other,
}

impl Did {
    fn is(self, statement: Statement) -> bool {
        format!("{self:?}") == format!("{statement:?}")
    }
}

struct Filter<'a> {
    find: &'a Find,
    since: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
}

impl Filter<'_> {
    fn fits(&self, summary: &Summary) -> bool {
        let time = time_of(summary.committed);
        let is_in_time = time >= self.since && self.until.is_none_or(|until| time <= until);
        let Find { table, statement, .. } = self.find;
        let is_all = table.is_none() && statement.is_empty();
        let is_done = |did: &[Statement]| {
            statement.is_empty() || did.iter().any(|did| statement.iter().any(|s| s.is(*did)))
        };
        let fits = |touched: &database::binlog::Touched| {
            let name = &touched.table;
            let is_table = table.as_ref().is_none_or(|wanted| match wanted.split_once('.') {
                Some((database, table)) => {
                    // A database that was dropped had the table in it.
                    name.database == database && (name.table == table || name.table.is_empty())
                }
                None => name.table == *wanted || name.table.is_empty(),
            });
            is_table && is_done(&touched.statements)
        };
        // Of one that touched more than is told, nobody knows.
        is_in_time && (is_all || summary.has_more || summary.tables.iter().any(fits))
    }
}

/// Lists them.
pub(super) fn run(
    arguments: &Arguments,
    find: &Find,
    stop: &Stop,
    now: DateTime<Utc>,
) -> Result<Exit> {
    if arguments.target.is_some() {
        return Err(Failure::new(Exit::Usage, "`restore find` restores nothing")
            .hint("leave --target away")
            .into());
    }
    let zone = local_zone();
    let since = parse_time(&find.since, now, zone)?;
    let until = find.until.as_ref().map(|text| parse_time(text, now, zone)).transpose()?;
    let config_path = arguments.config.clone().unwrap_or_else(|| CONFIG_PATH.into());
    let config = Config::load(&config_path, arguments.config.is_some())?;
    let identities = keys(&arguments.identity, &config)?;
    let depot = open_first(config.depots_to_try(arguments.depot.as_deref())?, stop)?;
    let catalog = Catalog::of(&depot.logs()?);
    let timeline = choose(&catalog, &Begins::new(), &Goal::Latest, arguments.timeline.as_ref())?;
    let archive = &catalog.archives[&timeline];
    let filter = Filter { find, since, until };
    let mut pieces: Vec<_> = archive.pieces.iter().collect();
    pieces.sort_by_key(|piece| (piece.name.from, piece.name.kind));
    let mut found: VecDeque<Transaction> = VecDeque::new();
    let mut seen = GtidSet::default();
    let mut is_cut = false;
    for piece in pieces {
        let take = piece.name.set.subtract(&seen);
        let is_early = piece.name.to < since;
        if take.is_empty() || is_early || until.is_some_and(|until| piece.name.from > until) {
            continue;
        }
        let link = Link { object: piece.clone(), take };
        read::transactions(&depot, &identities, &link, stop, &mut |summary| {
            if filter.fits(summary) {
                found.push_back(Transaction::of(summary));
            }
            if found.len() > find.limit {
                found.pop_front();
                is_cut = true;
            }
            true
        })?;
        seen.add(&piece.name.set);
    }
    if is_cut {
        tracing::warn!("there are more: only the newest {} are shown, see --limit", find.limit);
    }
    if found.is_empty() {
        return Err(Failure::new(Exit::Nothing, "no transaction matches")
            .hint(format!(
                "timeline {timeline} was looked through; try --since, or another --timeline"
            ))
            .into());
    }
    let mut out = Stdout::default();
    if arguments.json {
        out.json(&found)?;
    } else {
        for transaction in &found {
            writeln!(out, "{}", transaction.line())?;
        }
    }
    out.finish().map(|()| Exit::Done)
}
