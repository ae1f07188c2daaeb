//! Which backup is restored, what it builds on, what has to be fetched, and whether all of that is there.
//!
//! Pure: it is told what the depot has, what the manifests say and what time it is.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use chassis::failure::{Exit, Failure};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use depot::depot::SnapshotInfo;
use depot::manifest::{PackLine, Problem, SnapshotKind, SnapshotState};
use depot::names::{HostName, JobName, PackId, SnapshotId};
use depot::needs::Needs;
use serde::Serialize;

use crate::fetch::{How, files_of, how};
use crate::target::{Found, INCREMENTS};
use crate::tree::Tree;

/// Increments in one chain.
pub const CHAIN_MAX: usize = 1000;
/// How far a host's clock may be ahead of the depot's.
const CLOCK_AHEAD_MAX: TimeDelta = TimeDelta::hours(1);

/// The time by which a backup is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    Latest,
    /// The newest that began at this time or before it.
    At(DateTime<Utc>),
    /// This one.
    Id(SnapshotId),
}

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which of them.
    pub which: Which,
    /// Of this job only.
    pub job: Option<JobName>,
    /// Of this host only.
    pub host: Option<HostName>,
}

/// A backup that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Which.
    pub id: SnapshotId,
    /// Backups that were passed over because they say that they began after they had arrived.
    pub passed_over: Vec<SnapshotId>,
}

/// Chooses a backup.
///
/// One that says that it began after it had arrived is from a host whose clock was wrong: by its time it would
/// be the newest for as long as the clock was ahead. It is chosen by its name alone.
///
/// Fails with [`Exit::Usage`] and a list if backups of several jobs or hosts are left to choose from, and with
/// [`Exit::Nothing`] if none matches.
pub fn choose(snapshots: &[SnapshotInfo], wanted: &Wanted) -> Result<Chosen, Failure> {
    let fits = |info: &&SnapshotInfo| {
        wanted.job.as_ref().is_none_or(|job| *job == info.id.job)
            && wanted.host.as_ref().is_none_or(|host| *host == info.id.host)
    };
    let found: Vec<&SnapshotInfo> = snapshots.iter().filter(fits).collect();
    let ids = |infos: &[&SnapshotInfo]| infos.iter().map(|info| info.id.clone()).collect();
    let all: Vec<SnapshotId> = ids(&found);
    if let Which::Id(id) = &wanted.which {
        let chosen = all.contains(id).then(|| Chosen { id: id.clone(), passed_over: Vec::new() });
        return chosen.ok_or_else(|| nothing(&all, wanted));
    }
    refuse_several(&all)?;
    let (ahead, sound): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|info| info.id.time > info.arrived + CLOCK_AHEAD_MAX);
    let is_before = |id: &&SnapshotId| match wanted.which {
        Which::At(time) => id.time <= time,
        _ => true,
    };
    let sound: Vec<SnapshotId> = ids(&sound);
    let passed_over: Vec<SnapshotId> = ids(&ahead);
    let chosen = sound.iter().filter(is_before).max().cloned();
    match (chosen, passed_over.iter().max()) {
        (Some(id), _) => Ok(Chosen { id, passed_over }),
        (None, Some(last)) if sound.is_empty() => Err(all_ahead(last)),
        (None, _) => Err(nothing(&all, wanted)),
    }
}

fn all_ahead(last: &SnapshotId) -> Failure {
    let message = "there are only backups from a host whose clock was ahead";
    Failure::new(Exit::Nothing, message)
        .hint(format!("choose one by its name: `--snapshot {last}`"))
}

/// The newest backup of something else would be a bad surprise.
fn refuse_several(found: &[SnapshotId]) -> Result<(), Failure> {
    let pairs: BTreeSet<_> = found.iter().map(|id| (&id.job, &id.host)).collect();
    if pairs.len() < 2 {
        return Ok(());
    }
    let list: Vec<_> = pairs.iter().map(|(job, host)| format!("{job} of {host}")).collect();
    let message = format!("the depot has backups of several jobs and hosts: {}", list.join(", "));
    Err(Failure::new(Exit::Usage, message).hint("choose with --job and --host, or with --snapshot"))
}

fn nothing(found: &[SnapshotId], wanted: &Wanted) -> Failure {
    let time = |time: &DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let message = match &wanted.which {
        Which::Id(id) => format!("there is no backup {id}"),
        Which::At(at) => format!("there is no backup from {} or before", time(at)),
        Which::Latest => "there is no backup".to_owned(),
    };
    let hint = match (found.iter().min(), found.iter().max()) {
        (Some(first), Some(last)) => format!(
            "there are {} from {} to {}; `backupctl list` shows them",
            found.len(),
            time(&first.time),
            time(&last.time)
        ),
        _ if wanted.job.is_some() || wanted.host.is_some() => {
            "none of this job and host is there at all; try without --job and --host".to_owned()
        }
        _ => "the depot is empty: is it the right one?".to_owned(),
    };
    Failure::new(Exit::Nothing, message).hint(hint)
}

/// Checks the next link of a chain: the backup that the last one of `chain` builds on.
pub fn check_link(
    chain: &[SnapshotId],
    parent: &SnapshotId,
    snapshots: &[SnapshotInfo],
) -> Result<(), Failure> {
    let child = chain.last().expect("a chain begins with the chosen backup");
    let refuse = |message: String| {
        Failure::new(Exit::Failed, message)
            .hint("choose a backup that does not need it: a full one")
    };
    if !snapshots.iter().any(|info| info.id == *parent) {
        return Err(refuse(format!("{child} builds on {parent}, which is not in the depot")));
    }
    if chain.contains(parent) || chain.len() >= CHAIN_MAX {
        return Err(refuse(format!("the chain of increments of {child} has no beginning")));
    }
    Ok(())
}

/// Where the link of this number is put, relative to the target: the full backup into the target itself.
pub fn place_of(link: usize) -> PathBuf {
    match link {
        0 => PathBuf::from("."),
        n => PathBuf::from(INCREMENTS).join(n.to_string()),
    }
}

/// What would be done.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The depot's name.
    pub depot: String,
    /// The full backup and the increments that build on it, in the order in which they are applied.
    pub links: Vec<Link>,
    /// Seconds since the chosen backup began.
    pub age_seconds: i64,
    /// Where to, if a target was named.
    pub target: Option<PathBuf>,
    /// What is there now.
    pub found: Option<Found>,
    /// Bytes free there.
    pub free_bytes: Option<u64>,
    /// Size of the restored files in bytes.
    pub bytes: u64,
    /// Bytes to fetch from the depot, if nothing of it is at its place already.
    pub fetch_bytes: u64,
    /// What is not in the depot, or not with its size.
    pub missing: Vec<MissingPack>,
    /// What was asked for and is not in the backup.
    pub unmatched: Vec<String>,
}

/// One backup of a plan.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Link {
    /// The backup.
    pub id: SnapshotId,
    /// What was backed up.
    pub kind: SnapshotKind,
    /// Whether all of it is there.
    pub state: SnapshotState,
    /// Files that were not as they should be when it was taken.
    pub problems: Vec<Problem>,
    /// When its last byte was read; not known without an identity.
    pub ended: Option<DateTime<Utc>>,
    /// Files and links to restore; not known without an identity.
    pub entries: Option<u64>,
    /// Size of its files in bytes.
    pub bytes: u64,
    /// Packs that hold them.
    pub packs: u64,
    /// Bytes to fetch.
    pub fetch_bytes: u64,
}

/// A pack that is not as it should be.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MissingPack {
    /// Its name.
    pub pack: PackId,
    /// What is the matter with it.
    pub what: String,
    /// The files that it hurts; not known without an identity.
    pub files: Vec<String>,
}

/// The sizes of all candidates of the packs that a depot has.
pub type Present = HashMap<PackId, Vec<u64>>;

/// What is the matter with a pack; none if it is there with its size.
pub fn matter(pack: &PackLine, present: &Present) -> Option<String> {
    match present.get(&pack.pack).map(Vec::as_slice) {
        None | Some([]) => Some("it is missing".to_owned()),
        Some(sizes) if sizes.contains(&pack.size) => None,
        Some(sizes) => Some(format!("it has {} bytes, not {}", sizes[0], pack.size)),
    }
}

/// The link for a backup whose manifest was read, and what it misses.
pub fn link_of_tree(tree: &Tree, present: &Present) -> (Link, Vec<MissingPack>) {
    let mut missing = Vec::new();
    let (mut packs, mut fetch_bytes) = (0, 0);
    for blocks in tree.blocks.chunk_by(|a, b| a.pack == b.pack) {
        let pack = &tree.packs[blocks[0].pack as usize];
        packs += 1;
        fetch_bytes += match how(blocks, pack) {
            How::Whole => pack.size,
            How::Parts(spans) => spans.iter().map(|(_, length)| u64::from(*length)).sum(),
        };
        if let Some(what) = matter(pack, present) {
            missing.push(MissingPack { pack: pack.pack, what, files: files_of(tree, blocks) });
        }
    }
    let head = &tree.head;
    let link = Link {
        id: head.id.clone(),
        kind: head.kind,
        state: head.state,
        problems: head.problems.clone(),
        ended: Some(head.ended),
        entries: Some(tree.entries.len() as u64),
        bytes: tree.bytes(),
        packs,
        fetch_bytes,
    };
    (link, missing)
}

/// The link for a backup of which only the plain list of needs is known, and what it misses.
pub fn link_of_needs(
    id: &SnapshotId,
    needs: &Needs,
    present: &Present,
) -> (Link, Vec<MissingPack>) {
    let lost = |pack: &PackLine| {
        let what = matter(pack, present)?;
        Some(MissingPack { pack: pack.pack, what, files: Vec::new() })
    };
    let link = Link {
        id: id.clone(),
        kind: needs.kind,
        state: needs.state,
        problems: Vec::new(),
        ended: None,
        entries: None,
        bytes: needs.bytes,
        packs: needs.packs.len() as u64,
        fetch_bytes: needs.packs.iter().map(|pack| pack.size).sum(),
    };
    (link, needs.packs.iter().filter_map(lost).collect())
}

impl Plan {
    /// The plan of a chain, whose links are given from the full backup on.
    pub fn new(depot: &str, parts: Vec<(Link, Vec<MissingPack>)>, now: DateTime<Utc>) -> Self {
        let (links, missing): (Vec<Link>, Vec<Vec<MissingPack>>) = parts.into_iter().unzip();
        let chosen = links.last().expect("a plan has a backup");
        Self {
            depot: depot.to_owned(),
            age_seconds: (now - chosen.id.time).num_seconds(),
            target: None,
            found: None,
            free_bytes: None,
            bytes: links.iter().map(|link| link.bytes).sum(),
            fetch_bytes: links.iter().map(|link| link.fetch_bytes).sum(),
            missing: missing.into_iter().flatten().collect(),
            unmatched: Vec::new(),
            links,
        }
    }

    /// The backup that was chosen.
    pub fn chosen(&self) -> &Link {
        self.links.last().expect("a plan has a backup")
    }

    /// Whether all that was to be backed up is in every link.
    pub fn is_complete(&self) -> bool {
        self.links.iter().all(|link| link.state == SnapshotState::Complete)
    }

    /// Refuses if something is missing.
    pub fn check(&self) -> Result<(), Failure> {
        let Some(first) = self.missing.first() else { return Ok(()) };
        let more = self.missing.len() - 1;
        let more = if more > 0 { format!(", and {more} more packs") } else { String::new() };
        let hurt = crate::fetch::hurt(&first.files);
        let message = format!("pack {}: {}{hurt}{more}", first.pack, first.what);
        let hint = "use another depot or backup, or restore the rest with --keep-going";
        Err(Failure::new(Exit::Failed, message).hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(id: &str) -> SnapshotInfo {
        let id: SnapshotId = id.parse().unwrap();
        SnapshotInfo { arrived: id.time + TimeDelta::minutes(20), id, manifest_bytes: 1 }
    }

    fn wanted(which: Which, job: Option<&str>) -> Wanted {
        Wanted { which, job: job.map(|job| job.parse().unwrap()), host: None }
    }

    const SITE: [&str; 3] = [
        "site--20261121T020000Z--web1",
        "site--20261122T020000Z--web1",
        "site--20261123T020000Z--web1",
    ];

    #[test]
    fn the_newest_or_the_newest_before_a_time_is_chosen() {
        let snapshots: Vec<_> = SITE.iter().map(|id| info(id)).collect();
        let check = |which: Which, expected: usize| {
            assert_eq!(
                choose(&snapshots, &wanted(which, None)).unwrap().id.to_string(),
                SITE[expected]
            );
        };
        let at = |text: &str| Which::At(text.parse().unwrap());
        check(Which::Latest, 2);
        check(at("2026-11-22T02:00:00Z"), 1);
        check(at("2026-11-22T01:59:59Z"), 0);
        check(at("2030-01-01T00:00:00Z"), 2);
        check(Which::Id(SITE[0].parse().unwrap()), 0);
        let failure = choose(&snapshots, &wanted(at("2026-11-21T01:00:00Z"), None)).unwrap_err();
        assert_eq!(failure.exit, Exit::Nothing);
        assert!(failure.hint.unwrap().contains("3 from 2026-11-21T02:00:00Z to 2026-11-23"));
    }

    #[test]
    fn a_backup_from_the_future_is_chosen_by_its_name_alone() {
        let mut snapshots: Vec<_> = SITE.iter().map(|id| info(id)).collect();
        snapshots[2].arrived = snapshots[2].id.time - TimeDelta::minutes(61);
        let future = snapshots[2].id.clone();
        let later = Which::At("2027-01-01T00:00:00Z".parse().unwrap());
        for which in [Which::Latest, later] {
            let chosen = choose(&snapshots, &wanted(which, None)).unwrap();
            assert_eq!(chosen.id.to_string(), SITE[1]);
            assert_eq!(chosen.passed_over, std::slice::from_ref(&future));
        }
        let chosen = choose(&snapshots, &wanted(Which::Id(future.clone()), None)).unwrap();
        assert_eq!((chosen.id, chosen.passed_over.len()), (future, 0));
        let failure = choose(&snapshots[2..], &wanted(Which::Latest, None)).unwrap_err();
        assert!(failure.hint.unwrap().contains(SITE[2]), "{}", failure.message);
        snapshots[2].arrived += TimeDelta::minutes(2);
        let chosen = choose(&snapshots, &wanted(Which::Latest, None)).unwrap();
        assert_eq!((chosen.id.to_string().as_str(), chosen.passed_over.len()), (SITE[2], 0));
    }

    #[test]
    fn several_jobs_are_refused_with_their_names() {
        let mut snapshots: Vec<_> = SITE.iter().map(|id| info(id)).collect();
        snapshots.push(info("db--20261123T030000Z--db1"));
        let failure = choose(&snapshots, &wanted(Which::Latest, None)).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("db of db1, site of web1"), "{failure}");
        let chosen = choose(&snapshots, &wanted(Which::Latest, Some("site"))).unwrap();
        assert_eq!(chosen.id.to_string(), SITE[2]);
        let failure = choose(&snapshots, &wanted(Which::Latest, Some("mail"))).unwrap_err();
        assert_eq!(failure.exit, Exit::Nothing);
    }

    #[test]
    fn a_chain_without_beginning_is_refused() {
        let snapshots: Vec<_> = SITE.iter().map(|id| info(id)).collect();
        let ids: Vec<SnapshotId> = SITE.iter().map(|id| id.parse().unwrap()).collect();
        assert!(check_link(&ids[2..], &ids[1], &snapshots).is_ok());
        assert!(check_link(&ids[1..], &ids[1], &snapshots).is_err(), "a ring");
        let failure = check_link(&ids[2..], &ids[1], &snapshots[2..]).unwrap_err();
        assert!(failure.message.contains("which is not in the depot"), "{failure}");
    }

    #[test]
    fn a_pack_counts_as_there_only_with_its_size() {
        let pack = PackLine { pack: PackId::of(b"x"), size: 7 };
        let present = |sizes: &[u64]| Present::from([(pack.pack, sizes.to_vec())]);
        assert!(matter(&pack, &present(&[3, 7])).is_none());
        assert_eq!(matter(&pack, &present(&[3])).unwrap(), "it has 3 bytes, not 7");
        assert_eq!(matter(&pack, &Present::new()).unwrap(), "it is missing");
    }
}
