//! What is said at the end, and what would be done: for people and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use chassis::units::{ByteSize, format_duration, format_rate};
use chrono::SecondsFormat;
use depot::manifest::{Head, Problem, SnapshotKind, SnapshotState};
use depot::names::SnapshotId;
use serde::Serialize;

use crate::fetch::Damage;
use crate::plan::Plan;
use crate::replay::Replayed;
use crate::target::{Found, Target};

/// Names of one kind that are printed; JSON has all.
const SHOWN_MAX: usize = 20;
const PLAN_RATE: u64 = 100 << 20;

/// What a restore has done.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The backup.
    pub snapshot: SnapshotId,
    /// What was backed up.
    pub kind: SnapshotKind,
    /// Whether all of it was in the backup.
    pub state: SnapshotState,
    /// The depot it came from.
    pub depot: String,
    /// Where it is now.
    pub target: String,
    /// What was there before.
    pub found: Found,
    /// Regular files.
    pub files: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// Size of all files in bytes.
    pub bytes: u64,
    /// Bytes of content that were fetched and written, zeros not counted.
    pub bytes_fetched: u64,
    /// Bytes of content that were at their place already.
    pub bytes_kept: u64,
    /// How long it took.
    pub seconds: f64,
    /// Packs that could not be used, and the files that are not whole because of it.
    pub damage: Vec<Damage>,
    /// What the file system did not allow.
    pub problems: Vec<Problem>,
    /// Files that were not as they should be when the backup was taken.
    pub problems_of_backup: Vec<Problem>,
    /// What was asked for and is not in the backup.
    pub unmatched: Vec<String>,
    /// What is in the target and not in the backup.
    pub extra: Vec<String>,
    /// What was removed from the target.
    pub deleted: Vec<String>,
    /// How the database was brought forward.
    pub replayed: Option<Replayed>,
    /// What is worth knowing.
    pub notices: Vec<String>,
    /// What can be done now: commands, with comments.
    pub next_steps: Vec<String>,
}

impl Report {
    /// A report that begins.
    pub fn new(head: &Head, depot: &str, target: &Target) -> Self {
        Self {
            snapshot: head.id.clone(),
            kind: head.kind,
            state: head.state,
            depot: depot.to_owned(),
            target: target.root.path().display().to_string(),
            found: target.found,
            files: 0,
            entries: 0,
            bytes: 0,
            bytes_fetched: 0,
            bytes_kept: 0,
            seconds: 0.0,
            damage: Vec::new(),
            problems: Vec::new(),
            problems_of_backup: Vec::new(),
            unmatched: Vec::new(),
            extra: Vec::new(),
            deleted: Vec::new(),
            replayed: None,
            notices: Vec::new(),
            next_steps: Vec::new(),
        }
    }

    /// Whether everything that was asked for is there as it was.
    pub fn is_whole(&self) -> bool {
        let is_sound = self.damage.is_empty() && self.problems.is_empty();
        let is_sound = is_sound && self.unmatched.is_empty();
        is_sound && self.state == SnapshotState::Complete && self.problems_of_backup.is_empty()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let duration = Duration::from_secs_f64(self.seconds);
        let mut line = |line: std::fmt::Arguments<'_>| {
            writeln!(text, "{line}").expect("writing to a string does not fail");
        };
        line(format_args!("restored {} to {}", self.snapshot, self.target));
        line(format_args!(
            "  {} files, {} in {} ({})",
            self.files,
            ByteSize(self.bytes),
            format_duration(duration),
            format_rate(self.bytes, duration)
        ));
        if self.found != Found::New {
            line(format_args!(
                "  {} fetched, {} were at their place",
                ByteSize(self.bytes_fetched),
                ByteSize(self.bytes_kept)
            ));
        }
        for told in self.replayed.iter().flat_map(Replayed::lines) {
            line(format_args!("  {told}"));
        }
        for notice in &self.notices {
            line(format_args!("  {notice}"));
        }
        let problem = |p: &Problem| format!("{}: {}", p.path, p.what);
        let damage = |d: &Damage| d.summary();
        list(&mut text, "not whole", &self.damage, damage);
        list(&mut text, "not as it was", &self.problems, problem);
        list(&mut text, "not sound in the backup", &self.problems_of_backup, problem);
        list(&mut text, "nothing in the backup matches", &self.unmatched, String::clone);
        list(&mut text, "not in the backup, left alone", &self.extra, String::clone);
        list(&mut text, "not in the backup, removed", &self.deleted, String::clone);
        if !self.next_steps.is_empty() {
            text += "next:\n";
        }
        for step in &self.next_steps {
            writeln!(text, "  {step}").expect("writing to a string does not fail");
        }
        text
    }
}

fn list<T>(text: &mut String, title: &str, items: &[T], show: impl Fn(&T) -> String) {
    if items.is_empty() {
        return;
    }
    let mut line = |line: std::fmt::Arguments<'_>| {
        writeln!(text, "{line}").expect("writing to a string does not fail");
    };
    line(format_args!("{title}: {}", items.len()));
    for item in items.iter().take(SHOWN_MAX) {
        line(format_args!("  {}", show(item)));
    }
    if items.len() > SHOWN_MAX {
        line(format_args!("  and {} more; --json names all", items.len() - SHOWN_MAX));
    }
}

fn kind_word(kind: SnapshotKind) -> &'static str {
    match kind {
        SnapshotKind::Files => "files",
        SnapshotKind::Database => "database",
    }
}

/// A plan for people.
pub fn plan_text(plan: &Plan) -> String {
    let mut text = String::new();
    let mut line = |title: &str, value: std::fmt::Arguments<'_>| {
        writeln!(text, "{title:<10}{value}").expect("writing to a string does not fail");
    };
    let chosen = plan.chosen();
    let age = Duration::from_secs(plan.age_seconds.unsigned_abs());
    line("backup", format_args!("{} ({})", chosen.id, kind_word(chosen.kind)));
    let when = if plan.age_seconds < 0 { "ahead of this host's clock" } else { "ago" };
    line("from", format_args!("{}, {} {when}", time(chosen.id.time), format_duration(age)));
    line("depot", format_args!("{}", plan.depot));
    if plan.links.len() > 1 {
        for (number, link) in plan.links.iter().enumerate() {
            let what = if number == 0 { "full" } else { "increment" };
            let size = ByteSize(link.fetch_bytes);
            line("chain", format_args!("{} ({what}, {size} to fetch)", link.id));
        }
    }
    if let Some(target) = &plan.target {
        let found = match plan.found {
            None | Some(Found::New) => "new",
            Some(Found::Unfinished) => "an unfinished restore of this backup goes on",
            Some(Found::Existing) => "exists and will be changed",
        };
        line("target", format_args!("{} ({found})", target.display()));
    }
    let entries: Option<u64> = plan.links.iter().map(|link| link.entries).sum();
    match entries {
        Some(entries) => line("files", format_args!("{entries}, {}", ByteSize(plan.bytes))),
        None => line("files", format_args!("{}", ByteSize(plan.bytes))),
    }
    let packs: u64 = plan.links.iter().map(|link| link.packs).sum();
    let fetch = ByteSize(plan.fetch_bytes);
    line("fetch", format_args!("{fetch} in {packs} packs, if nothing is there already"));
    let duration = Duration::from_millis(plan.fetch_bytes.saturating_mul(1000) / PLAN_RATE);
    line("time", format_args!("{} at 100 MiB/s", format_duration(duration)));
    if let Some(free) = plan.free_bytes {
        let short = if free < plan.bytes { ", which is less than the files have" } else { "" };
        line("disk", format_args!("{} free{short}", ByteSize(free)));
    }
    let state = if plan.is_complete() { "complete" } else { "PARTIAL: some files are not sound" };
    line("state", format_args!("{state}"));
    let missing = |m: &crate::plan::MissingPack| {
        format!("{}: {}{}", m.pack, m.what, crate::fetch::hurt(&m.files))
    };
    list(&mut text, "missing packs", &plan.missing, missing);
    list(&mut text, "nothing in the backup matches", &plan.unmatched, String::clone);
    text
}

fn time(time: chrono::DateTime<chrono::Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
