//! Whether the next backup can be an LSN increment, and of what.
//!
//! Pure but for one look at the server's files. When in doubt it is a full backup: that costs time,
//! a wrong increment costs the data.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use database::info::Positions;
use database::server::ServerState;
use depot::names::SnapshotId;

use crate::config::{DatabaseJob, Mode};
use crate::state::Chain;

/// Restoring applies one increment after another: no chain is longer.
pub const CHAIN_LENGTH_MAX: usize = 64;

/// Tells one server's data from another's: two full copies of one directory at different times have
/// LSNs in common, and an increment of one on the other is garbage. The number of a file that was
/// replaced may be given to the new one: the time of its birth tells them apart, where the file
/// system knows it.
pub fn server_mark(server: &ServerState) -> String {
    let file = mark_of(&server.datadir.join("ibdata1"));
    format!("{:?} {} {file}", server.flavour, server.datadir.display())
}

fn mark_of(path: &Path) -> String {
    let Ok(file) = std::fs::metadata(path) else { return "unknown".to_owned() };
    let born = file.created().map_or_else(
        |_| "unknown".to_owned(),
        |time| DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Nanos, true),
    );
    format!("{}:{} {born}", file.dev(), file.ino())
}

/// Why the next backup is a full one; nothing if it can continue the chain.
pub fn why_full(
    job: &DatabaseJob,
    chain: Option<&Chain>,
    mark: &str,
    now: DateTime<Utc>,
    is_in_all_depots: impl Fn(&SnapshotId) -> bool,
) -> Option<&'static str> {
    if job.mode == Mode::Blocks {
        return Some("every backup is a full one in this mode");
    }
    let Some(chain) = chain else { return Some("there is none before it") };
    let Some(full) = chain.snapshots.first() else { return Some("there is none before it") };
    if chain.server != mark {
        return Some("the server is another, or its data was replaced");
    }
    if chain.snapshots.len() >= CHAIN_LENGTH_MAX {
        return Some("the chain is as long as it may be");
    }
    let limit = TimeDelta::from_std(job.full_every().0).unwrap_or(TimeDelta::MAX);
    if now < full.time || now - full.time >= limit {
        return Some("the last full one is old enough");
    }
    if !chain.snapshots.iter().all(is_in_all_depots) {
        return Some("a depot does not have the whole chain");
    }
    None
}

/// The chain after a backup.
pub fn extended(
    earlier: Option<Chain>,
    id: &SnapshotId,
    positions: &Positions,
    mark: String,
) -> Chain {
    let mut snapshots = earlier.map(|chain| chain.snapshots).unwrap_or_default();
    snapshots.push(id.clone());
    Chain { snapshots, to_lsn: positions.to_lsn, server: mark }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "tool = 'mariadb-backup'\noption-file = '/o'\nmode = 'lsn'\nfull-every = '7d'\n";

    fn id(day: u32) -> SnapshotId {
        format!("db--202611{day:02}T020000Z--db1").parse().unwrap()
    }

    fn check(day: u32, change: impl Fn(&mut Chain), mark: &str, expected: Option<&str>) {
        let job: DatabaseJob = chassis::config::parse("x", TEXT).unwrap();
        let mut chain = Chain { snapshots: vec![id(1), id(2)], to_lsn: 9, server: "a".into() };
        change(&mut chain);
        let gone = id(30);
        let why = why_full(&job, Some(&chain), mark, id(day).time, |id| *id != gone);
        assert_eq!(why.is_none(), expected.is_none(), "{why:?}");
        assert!(why.unwrap_or_default().contains(expected.unwrap_or_default()), "{why:?}");
    }

    #[test]
    fn an_increment_needs_its_whole_chain_on_the_same_data() {
        check(3, |_| {}, "a", None);
        check(7, |_| {}, "a", None);
        check(8, |_| {}, "a", Some("old enough"));
        check(3, |_| {}, "b", Some("replaced"));
        check(3, |chain| chain.snapshots.clear(), "a", Some("none before"));
        check(3, |chain| chain.snapshots.push(id(30)), "a", Some("whole chain"));
        check(3, |chain| chain.snapshots = vec![id(1); CHAIN_LENGTH_MAX], "a", Some("as long"));
    }

    #[test]
    fn a_file_that_was_replaced_has_another_mark_even_in_its_inode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ibdata1");
        std::fs::write(&path, "old").unwrap();
        let old = mark_of(&path);
        std::fs::write(&path, "changed in place").unwrap();
        assert_eq!(mark_of(&path), old);
        // Many file systems give the number that was freed last to the next file.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "new").unwrap();
        assert_ne!(mark_of(&path), old);
        assert_eq!(mark_of(&dir.path().join("none")), "unknown");
    }

    #[test]
    fn a_clock_set_back_before_the_full_one_starts_over() {
        check(1, |chain| chain.snapshots[0] = id(2), "a", Some("old enough"));
    }
}
