//! What is in a depot: folders, packs, snapshots and what they need.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};

use anyhow::{Context, Result, ensure};
use chassis::failure::{Exit, Failure};

use super::{CANDIDATES_MAX, Depot, SnapshotInfo, explain, is_outage};
use crate::names::{PackId, SnapshotId, candidate, split_candidate};
use crate::needs::Needs;
use crate::store::{ObjectInfo, StoreError};

/// Plain lists are refused above this: a million packs.
const TEXT_BYTES_MAX: u64 = 128 << 20;

impl Depot {
    /// Lists a folder.
    pub fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>> {
        let listed = self.again(|| self.store.list(folder)).map_err(explain);
        listed.with_context(|| format!("list `{folder}` of depot `{}`", self.name))
    }

    /// All packs that are there and that the keeper has not condemned, with the sizes of their
    /// candidates.
    pub fn pack_sizes(&self) -> Result<HashMap<PackId, Vec<u64>>> {
        // First what is condemned: what the keeper deletes from now on is excluded already.
        let condemned = self.condemned()?;
        let mut sizes: HashMap<PackId, Vec<u64>> = HashMap::new();
        for info in self.list_packs()? {
            if !condemned.contains(&info.0) {
                sizes.entry(info.0).or_default().push(info.1.size);
            }
        }
        Ok(sizes)
    }

    /// All objects of packs: candidates too, and whatever the keeper has condemned.
    pub fn list_packs(&self) -> Result<Vec<(PackId, ObjectInfo)>> {
        let mut packs = Vec::new();
        for number in 0..=255 {
            for info in self.list(&format!("pack/{number:02x}"))? {
                let (name, _) = split_candidate(&info.name);
                let hex = name.rsplit('/').next().unwrap_or_default();
                if let Ok(pack) = hex.parse::<PackId>() {
                    packs.push((pack, info));
                }
            }
        }
        Ok(packs)
    }

    /// The packs that the keeper has condemned.
    pub fn condemned(&self) -> Result<HashSet<PackId>> {
        let mut condemned = HashSet::new();
        for info in self.list("condemned")? {
            condemned.extend(self.condemned_list(&info)?);
        }
        Ok(condemned)
    }

    /// The packs of one list; none if it was worked off meanwhile.
    pub(crate) fn condemned_list(&self, info: &ObjectInfo) -> Result<Vec<PackId>> {
        let Some(text) = self.read_text(info)? else { return Ok(Vec::new()) };
        Ok(text.lines().filter_map(|line| line.parse::<PackId>().ok()).collect())
    }

    /// A plain text object, with anything that is not UTF-8 replaced; `None` if it is gone. Refused
    /// above [`TEXT_BYTES_MAX`].
    pub(crate) fn read_text(&self, info: &ObjectInfo) -> Result<Option<String>> {
        ensure!(
            info.size <= TEXT_BYTES_MAX,
            Failure::new(Exit::Failed, format!("`{}` has {} bytes", info.name, info.size)).hint(
                "no list is so long: look at who wrote it, and delete it on the depot's host"
            )
        );
        let mut bytes = Vec::new();
        match self.open_object(&info.name, info.size).read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read `{}`", info.name)),
        }
    }

    /// What is in the folder of snapshots, by id: manifests and needs lists with all their
    /// candidates.
    pub(crate) fn list_snapshots(&self) -> Result<BTreeMap<SnapshotId, SnapshotObjects>> {
        let mut found: BTreeMap<SnapshotId, SnapshotObjects> = BTreeMap::new();
        for info in self.list("snapshot")? {
            let (name, _) = split_candidate(&info.name);
            let name = name.strip_prefix("snapshot/").unwrap_or_default();
            let (text, is_manifest) = match (name.strip_suffix(".age"), name.strip_suffix(".needs"))
            {
                (Some(text), _) => (text, true),
                (_, Some(text)) => (text, false),
                _ => continue,
            };
            let Ok(id) = text.parse::<SnapshotId>() else { continue };
            let objects = found.entry(id).or_default();
            if is_manifest { objects.manifests.push(info) } else { objects.needs.push(info) }
        }
        Ok(found)
    }

    /// The snapshots that have a manifest, in the order of their ids. Whether it is whole, only its
    /// needs list can tell: see [`Self::needs`].
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        let mut snapshots = Vec::new();
        for (id, objects) in self.list_snapshots()? {
            let largest = objects.manifests.iter().max_by_key(|info| info.size);
            if let Some(info) = largest {
                let arrived = info.arrived.into();
                snapshots.push(SnapshotInfo { id, arrived, manifest_bytes: info.size });
            }
        }
        Ok(snapshots)
    }

    /// The needs list of a committed snapshot: the first candidate that is whole and whose manifest
    /// is there in its size.
    pub fn needs(&self, id: &SnapshotId) -> Result<Needs> {
        let mut problem = None;
        for number in 0..CANDIDATES_MAX {
            let name = candidate(&id.needs_object(), number);
            let Some(info) = self.again(|| self.store.stat(&name)).map_err(explain)? else {
                continue;
            };
            let Some(text) = self.read_text(&info)? else { continue };
            let fitting = Needs::parse(&text).and_then(|needs| {
                self.find(&id.manifest_object(), Some(needs.manifest.1), None)?;
                Ok(needs)
            });
            match fitting {
                Ok(needs) => return Ok(needs),
                Err(error) if is_outage(&error) => return Err(error),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        let missing = || anyhow::anyhow!("it is not there");
        Err(problem.unwrap_or_else(missing))
            .with_context(|| format!("read needs of `{id}` in depot `{}`", self.name))
    }
}

/// The objects of one snapshot.
#[derive(Debug, Default)]
pub(crate) struct SnapshotObjects {
    pub manifests: Vec<ObjectInfo>,
    pub needs: Vec<ObjectInfo>,
}

fn is_missing(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<StoreError>());
    matches!(inner, Some(StoreError::Missing { .. }))
}
