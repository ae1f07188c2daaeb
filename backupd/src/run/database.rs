//! A run of a database job: what the source needs to know, and the LSN chain from one run to the next.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, Result};
use chrono::Utc;
use depot::depot::Depot;
use depot::names::SnapshotId;

use super::{Done, Run};
use crate::config::{DatabaseJob, Mode};
use crate::source::database::{Place, Ready, back_up, chain, prepare};
use crate::state::Chain;

impl Run<'_> {
    /// Backs up a server. That the chain could not be remembered does not undo the backup.
    pub(super) fn back_up_database(
        &self,
        job: &DatabaseJob,
        id: &SnapshotId,
        depots: &[Arc<Depot>],
    ) -> Result<Done> {
        let ready = prepare(job)?;
        let mark = chain::server_mark(&ready.server);
        let earlier = self.continued_chain(job, &ready, &mark, depots)?;
        let parent = earlier.as_ref().and_then(|chain| chain.snapshots.last().cloned());
        let from_lsn = earlier.as_ref().map(|chain| chain.to_lsn);
        let mut writer =
            self.start_writer(id, parent.clone(), ready.description.clone(), depots)?;
        let place = Place { dir: self.state.dir(), stop: self.stop, progress: self.progress };
        let positions = back_up(job, &ready, from_lsn, &mut writer, place)
            .with_context(|| format!("back up {}", ready.description))?;
        let encoded = serde_json::to_value(&positions).context("encode positions")?;
        let report = writer.finish(Some(encoded))?;
        let chain = (job.mode == Mode::Lsn).then(|| chain::extended(earlier, id, &positions, mark));
        let remembered = self.state.set_chain(chain.as_ref()).context("remember the chain");
        Ok(Done { parent, gtid: positions.gtid, remembered, ..Done::new(report) })
    }

    /// The chain that this run continues; none for a full backup.
    fn continued_chain(
        &self,
        job: &DatabaseJob,
        ready: &Ready,
        mark: &str,
        depots: &[Arc<Depot>],
    ) -> Result<Option<Chain>> {
        if job.mode == Mode::Blocks {
            return Ok(None);
        }
        if self.options.full {
            tracing::info!(job = %self.name, "full backup: it was asked for");
            return Ok(None);
        }
        let chain = self.state.chain();
        let mut stored = Vec::new();
        for depot in depots {
            let ids: HashSet<SnapshotId> =
                depot.snapshots()?.into_iter().map(|info| info.id).collect();
            stored.push(ids);
        }
        let is_stored = |id: &SnapshotId| stored.iter().all(|ids| ids.contains(id));
        match chain::why_full(job, chain.as_ref(), mark, Utc::now(), is_stored) {
            Some(why) => {
                tracing::info!(job = %self.name, server = ready.description, "full backup: {why}");
                Ok(None)
            }
            None => Ok(chain),
        }
    }
}
