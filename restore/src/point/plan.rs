//! What a restore to a point would do, for people and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use chassis::units::{ByteSize, format_duration};
use chrono::{DateTime, Utc};
use database::gtid::GtidSet;
use depot::log::{Chain, Head, Kind, Timeline};
use serde::Serialize;

use super::cut::{Cut, Transaction};
use super::shown;
use crate::plan::Plan;
use crate::report::plan_text;

/// Pieces that are named; JSON has all.
const PIECES_SHOWN_MAX: usize = 20;
/// What the applier does, and the depot gives: see `docs/performance.md`.
const REPLAY_RATE: u64 = 8 << 20;
const FETCH_RATE: u64 = 100 << 20;

/// The whole plan.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PointPlan {
    /// The backup and what it builds on.
    pub backup: Plan,
    /// What was asked for.
    pub point: String,
    /// The history that is followed.
    pub timeline: Timeline,
    /// What the backup has.
    pub from: String,
    /// The cut.
    pub cut: Cut,
    /// The pieces, in the order of replay.
    pub pieces: Vec<Piece>,
    /// Bytes of them to fetch.
    pub log_fetch_bytes: u64,
    /// Bytes of log to replay.
    pub log_bytes: u64,
    /// Transactions in the pieces; some may be before the backup or behind the cut.
    pub transactions_max: u64,
    /// Time it may take, at 100 MiB/s from the depot and 8 MiB/s of replay.
    pub seconds_estimated: u64,
    /// Other backups that are restored too.
    pub files: Vec<Plan>,
}

/// One piece of log.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Piece {
    /// The object.
    pub object: String,
    /// The host that it is from.
    pub source: String,
    /// Tail or segment.
    pub kind: Kind,
    /// What is taken from it.
    pub take: GtidSet,
    /// The least and the greatest commit time in it.
    pub committed: (DateTime<Utc>, DateTime<Utc>),
    /// Bytes to fetch.
    pub bytes: u64,
}

/// What a plan is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The backup.
    pub backup: Plan,
    /// What was asked for.
    pub point: String,
    /// The history.
    pub timeline: Timeline,
    /// What the backup has.
    pub from: String,
    /// The cut.
    pub cut: Cut,
}

impl PointPlan {
    /// The plan of a way.
    pub fn new(parts: Parts, chain: &Chain, heads: &[Head]) -> Self {
        let Parts { backup, point, timeline, from, cut } = parts;
        let pieces = chain.links.iter().map(|link| Piece {
            object: link.object.stored.clone(),
            source: link.object.name.source.to_string(),
            kind: link.object.name.kind,
            take: link.take.clone(),
            committed: (link.object.name.from, link.object.name.to),
            bytes: link.object.name.size,
        });
        let log_bytes = heads.iter().map(|head| head.bytes).sum::<u64>();
        let fetch = backup.fetch_bytes + chain.bytes();
        Self {
            seconds_estimated: fetch / FETCH_RATE + log_bytes / REPLAY_RATE + 1,
            backup,
            point,
            timeline,
            from,
            cut,
            pieces: pieces.collect(),
            log_fetch_bytes: chain.bytes(),
            log_bytes,
            transactions_max: heads.iter().map(|head| head.transactions).sum(),
            files: Vec::new(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = plan_text(&self.backup);
        let mut line = |title: &str, value: std::fmt::Arguments<'_>| {
            writeln!(text, "{title:<10}{value}").expect("writing to a string does not fail");
        };
        line("point", format_args!("{} (timeline {})", self.point, self.timeline));
        line("from", format_args!("{}", self.from));
        line("to", format_args!("{}", self.cut.upto));
        line(
            "log",
            format_args!(
                "{} pieces, {} to fetch, {} to replay, at most {} transactions",
                self.pieces.len(),
                ByteSize(self.log_fetch_bytes),
                ByteSize(self.log_bytes),
                self.transactions_max
            ),
        );
        for piece in self.pieces.iter().take(PIECES_SHOWN_MAX) {
            let (from, to) = piece.committed;
            let (source, kind, bytes) = (&piece.source, piece.kind, ByteSize(piece.bytes));
            line(
                "",
                format_args!(
                    "{kind} of {source}, {} .. {}, {bytes}: {}",
                    shown(from),
                    shown(to),
                    piece.take
                ),
            );
        }
        if self.pieces.len() > PIECES_SHOWN_MAX {
            let more = self.pieces.len() - PIECES_SHOWN_MAX;
            line("", format_args!("and {more} more; --json names all"));
        }
        let duration = Duration::from_secs(self.seconds_estimated);
        line("time", format_args!("about {} in all", format_duration(duration)));
        text += &cut_text(&self.cut);
        for files in &self.files {
            text.push('\n');
            text += &plan_text(files);
        }
        text
    }
}

/// The transactions around a cut.
pub fn cut_text(cut: &Cut) -> String {
    let mut text = String::new();
    let mut lines = |title: &str, transactions: &[Transaction]| {
        for transaction in transactions {
            writeln!(text, "{title:<10}{}", transaction.line())
                .expect("writing to a string does not fail");
        }
    };
    lines("in", &cut.inside);
    lines("OUT", &cut.outside);
    if let Some(first) = &cut.earlier_first {
        writeln!(
            text,
            "note      {} transactions behind the cut say that they are not later than the point, the first is {}; \
             to have them too, name the last one wanted with --to-gtid",
            cut.earlier_outside, first.gtid
        )
        .expect("writing to a string does not fail");
    }
    text
}
