//! The backup that a point is reached from: the newest one that ended before it, of the point's
//! timeline.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use chassis::failure::{Exit, Failure, hint_of};
use chassis::retry::Stop;
use chrono::{DateTime, TimeDelta, Utc};
use database::gtid::GtidSet;
use database::info::Positions;
use database::replica::Have;
use depot::crypt::Identities;
use depot::depot::{Depot, SnapshotInfo, is_outage};
use depot::log::{Archive, Catalog, Chain, Timeline};
use depot::manifest::{Head, SnapshotKind, SnapshotState};
use depot::names::{HostName, JobName, SnapshotId};
use depot::reader::SnapshotReader;

use super::cut::{Cut, Unreachable, find};
use super::timeline::{Begins, goes_on, of_backup};
use super::{Goal, read, shown};

/// How far a host's clock may be ahead of the depot's.
const CLOCK_AHEAD_MAX: TimeDelta = TimeDelta::hours(1);

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The depot.
    pub depot: &'a Depot,
    /// The keys.
    pub identities: &'a Identities,
    /// All backups.
    pub snapshots: &'a [SnapshotInfo],
    /// The archive.
    pub catalog: &'a Catalog,
    /// How its timelines began.
    pub begins: &'a Begins,
    /// To stop early.
    pub stop: &'a Stop,
}

/// Which backups may be taken.
#[derive(Clone, Debug, Default)]
pub struct Only {
    /// This one.
    pub snapshot: Option<SnapshotId>,
    /// Those of this job.
    pub job: Option<JobName>,
    /// Those of this host.
    pub host: Option<HostName>,
}

/// A backup of a database.
#[derive(Clone, Debug)]
pub struct Base {
    /// What its manifest says.
    pub head: Head,
    /// Where it stands.
    pub positions: Positions,
    /// What it has.
    pub have: Have,
}

impl Base {
    /// What it has, as a set.
    pub fn set(&self) -> GtidSet {
        self.have.to_set()
    }

    fn of(head: Head) -> Result<Option<Self>> {
        if head.kind != SnapshotKind::Database || head.state != SnapshotState::Complete {
            return Ok(None);
        }
        let positions = crate::prepare::positions_of(&head)?;
        let Some(gtid) = &positions.gtid else { return Ok(None) };
        let have = Have::parse(positions.flavour, gtid)
            .with_context(|| format!("read GTID of {}", head.id))?;
        Ok(Some(Self { head, positions, have }))
    }
}

/// The backup, the cut, and the pieces that lead there.
#[derive(Clone, Debug)]
pub struct Way {
    /// The backup.
    pub base: Base,
    /// The cut.
    pub cut: Cut,
    /// The pieces.
    pub chain: Chain,
}

impl Scene<'_> {
    /// What the manifest of a backup says.
    pub fn head(&self, id: &SnapshotId) -> Result<Head> {
        let opened = SnapshotReader::open(self.depot, id, self.identities);
        Ok(opened.with_context(|| format!("read backup {id}"))?.head().clone())
    }

    /// The archive of a timeline.
    pub fn archive(&self, timeline: &Timeline) -> &Archive {
        &self.catalog.archives[timeline]
    }

    /// The same, of one that may be gone.
    pub fn archive_of(&self, timeline: &Timeline) -> Result<&Archive> {
        let archive = self.catalog.archives.get(timeline);
        archive.with_context(|| format!("find timeline {timeline} in the depot"))
    }

    /// Reads one backup of a database.
    pub fn base(&self, id: &SnapshotId) -> Result<Base> {
        let none = || {
            Failure::new(Exit::Usage, format!("{id} cannot be brought forward"))
                .hint("choose a whole backup of a database whose server writes a binary log")
        };
        Ok(Base::of(self.head(id)?)?.ok_or_else(none)?)
    }

    /// Finds the way to a point.
    pub fn way(&self, goal: &Goal, timeline: &Timeline, only: &Only) -> Result<Way> {
        let mut search = Search { scene: self, goal, timeline, oldest: None, newest: None };
        if let Some(id) = &only.snapshot {
            let base = self.base(id)?;
            return match search.try_base(base)? {
                Ok(way) => Ok(way),
                Err((base, reason)) => Err(search.explain(Some(base), reason).into()),
            };
        }
        let mut ids = self.ids(only)?;
        ids.sort_unstable_by_key(|id| std::cmp::Reverse(id.time));
        for id in &ids {
            let belongs = of_backup(self.begins, timeline.job.as_str(), id.time);
            if belongs.is_some_and(|number| number != timeline.number) {
                continue;
            }
            let head = match self.head(id) {
                Ok(head) => head,
                Err(error) if is_outage(&error) || hint_of(&error).is_some() => return Err(error),
                Err(error) => {
                    tracing::warn!("{id} is passed over: {error:#}");
                    continue;
                }
            };
            let Some(base) = Base::of(head)? else { continue };
            search.note(&base);
            if matches!(goal, Goal::Time(time) if base.head.ended > *time) {
                continue;
            }
            match search.try_base(base)? {
                Ok(way) => return Ok(way),
                Err((_, Unreachable::InBackup)) => {}
                Err((base, reason)) => return Err(search.explain(Some(base), reason).into()),
            }
        }
        Err(search.explain(None, Unreachable::InBackup).into())
    }

    /// The backups that may be taken: of one job and one host.
    fn ids(&self, only: &Only) -> Result<Vec<SnapshotId>> {
        let fits = |info: &&SnapshotInfo| {
            only.job.as_ref().is_none_or(|job| *job == info.id.job)
                && only.host.as_ref().is_none_or(|host| *host == info.id.host)
                && info.id.time <= info.arrived + CLOCK_AHEAD_MAX
        };
        let mut ids: Vec<SnapshotId> =
            self.snapshots.iter().filter(fits).map(|info| info.id.clone()).collect();
        if only.job.is_none() {
            let mut files = BTreeSet::new();
            let jobs: BTreeSet<JobName> = ids.iter().map(|id| id.job.clone()).collect();
            for job in jobs {
                let one = ids.iter().rev().find(|id| id.job == job).expect("it has one");
                if self.head(one).is_ok_and(|head| head.kind == SnapshotKind::Files) {
                    files.insert(job);
                }
            }
            ids.retain(|id| !files.contains(&id.job));
        }
        let pairs: BTreeSet<_> = ids.iter().map(|id| (&id.job, &id.host)).collect();
        if pairs.len() > 1 {
            let list: Vec<_> = pairs.iter().map(|(job, host)| format!("{job} of {host}")).collect();
            let message =
                format!("the depot has databases of several jobs and hosts: {}", list.join(", "));
            return Err(Failure::new(Exit::Usage, message)
                .hint("choose with --job and --host, or with --snapshot")
                .into());
        }
        if ids.is_empty() {
            return Err(Failure::new(
                Exit::Nothing,
                "there is no backup of a database to begin with",
            )
            .hint("`backupctl list` shows what there is")
            .into());
        }
        Ok(ids)
    }
}

struct Search<'a> {
    scene: &'a Scene<'a>,
    goal: &'a Goal,
    timeline: &'a Timeline,
    oldest: Option<DateTime<Utc>>,
    newest: Option<Base>,
}

impl Search<'_> {
    fn note(&mut self, base: &Base) {
        self.oldest = Some(base.head.ended);
        if self.newest.is_none() {
            self.newest = Some(base.clone());
        }
    }

    fn try_base(&self, base: Base) -> Result<Result<Way, (Base, Unreachable)>> {
        let Scene { depot, identities, stop, .. } = *self.scene;
        let archive = self.scene.archive(self.timeline);
        let found = find(self.goal, archive, &base.set(), |link, window| {
            read::transactions(depot, identities, link, stop, &mut |summary| window.add(summary))
        })?;
        match found {
            Err(reason) => Ok(Err((base, reason))),
            Ok((_, chain)) if !goes_on(&chain, base.head.started) => {
                Err(not_of(&base, self.timeline).into())
            }
            Ok((cut, chain)) => Ok(Ok(Way { base, cut, chain })),
        }
    }

    /// What can be reached, in words.
    fn window(&self) -> String {
        let reach = self.newest.as_ref().map(|base| {
            let reach = self.scene.archive(self.timeline).reach(&base.set());
            (reach.to.unwrap_or(base.head.ended), reach.set)
        });
        match (self.oldest, reach) {
            (Some(oldest), Some((to, set))) => format!(
                "timeline {} can be restored from {} to {} ({set})",
                self.timeline,
                shown(oldest),
                shown(to)
            ),
            _ => format!("no backup belongs to timeline {}", self.timeline),
        }
    }

    fn explain(&self, base: Option<Base>, reason: Unreachable) -> Failure {
        let window = self.window();
        let goal = self.goal;
        match reason {
            Unreachable::InBackup => {
                let message = match (&base, goal) {
                    (Some(base), _) => format!("{} is later than the point already", base.head.id),
                    (None, Goal::Time(_)) => {
                        format!("{goal} is before the first point that can be restored")
                    }
                    (None, _) => format!("{goal} is in every backup already"),
                };
                Failure::new(Exit::Nothing, message).hint(window)
            }
            Unreachable::After(_) => {
                let message = format!("{goal} is after the last transaction that is archived");
                Failure::new(Exit::Nothing, message).hint(format!("{window}; or take --to-latest"))
            }
            Unreachable::Unknown => {
                let message = format!("the archive has no transaction {}", gtid_of(goal));
                Failure::new(Exit::Nothing, message)
                    .hint(format!("`restore find --table T` lists transactions; {window}"))
            }
            Unreachable::Hole(missing, to) => hole(base.as_ref(), &missing, to),
            Unreachable::Order => {
                let message = "the pieces of several sources contradict one another in their order";
                Failure::new(Exit::Failed, message)
                    .hint("they are of different histories: compare the servers")
            }
        }
    }
}

fn gtid_of(goal: &Goal) -> String {
    match goal {
        Goal::To(gtid) | Goal::Before(gtid) => gtid.to_string(),
        other => other.to_string(),
    }
}

fn hole(base: Option<&Base>, missing: &GtidSet, to: Option<DateTime<Utc>>) -> Failure {
    let after = match (to, base) {
        (Some(to), _) => format!(", after {}", shown(to)),
        (None, Some(base)) => format!(", after the backup of {}", shown(base.head.ended)),
        (None, None) => String::new(),
    };
    let hint = match (to, base) {
        // MariaDB logs whole seconds: a time within the one that the backup ended in is before it.
        (Some(to), Some(base)) if to <= base.head.ended => format!(
            "what comes before is of the second that the backup ended in: take that as it is, `--snapshot {}`",
            base.head.id
        ),
        (Some(to), _) => {
            format!("what comes before can be restored: `--point-in-time {}`", shown(to))
        }
        (None, _) => {
            "take a backup that was made behind it, with --snapshot, or look for another depot"
                .to_owned()
        }
    };
    Failure::new(Exit::Failed, format!("the archive has a hole: {missing} is missing{after}"))
        .hint(hint)
}

fn not_of(base: &Base, timeline: &Timeline) -> Failure {
    let message = format!(
        "{} was taken when timeline {timeline} had ended: the log does not go on from it",
        base.head.id
    );
    Failure::new(Exit::Failed, message)
        .hint("its server was put back in between; choose an older backup with --snapshot, or another --timeline")
}
