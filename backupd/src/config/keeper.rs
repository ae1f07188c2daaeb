//! The `[keeper]` table: what stays and what goes. Only the host that may delete has it.

use std::collections::BTreeMap;

use chassis::schedule::Expression;
use chassis::units::Span;
use chrono_tz::Tz;
use depot::names::JobName;
use depot::retention::Policy;
use serde::Deserialize;

use super::{DepotName, default_time_zone, parse_time_zone};

/// Retention on the depots that this host keeps.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Keeper {
    /// The depots it keeps; all of them if not given.
    pub depots: Option<Vec<DepotName>>,
    /// When the daemon verifies and prunes: five crontab fields or `@daily` and its kin; without it only
    /// `backupctl prune` does.
    pub schedule: Option<Expression>,
    /// The time zone of the schedule.
    #[serde(default = "default_time_zone", deserialize_with = "parse_time_zone")]
    pub time_zone: Tz,
    /// A scheduled run starts up to this much later, by chance.
    #[serde(default)]
    pub jitter: Span,
    /// What a scheduled run looks at before it deletes anything.
    #[serde(default)]
    pub verify: Verify,
    /// How long a pack stays condemned before it is deleted; at least 72 hours, longer than any run may last.
    #[serde(default = "default_grace")]
    pub grace: Span,
    /// The rule for jobs that have none of their own. Without a rule nothing of a job is ever deleted.
    pub default: Option<Policy>,
    /// Rules by job.
    #[serde(default)]
    pub jobs: BTreeMap<JobName, Policy>,
}

/// How closely a scheduled run looks, without any key. What it finds keeps it from pruning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// Not at all.
    Nothing,
    /// Whether everything is there and has its size.
    #[default]
    Presence,
    /// Every stored byte, by its checksum.
    Checksums,
}

impl Keeper {
    /// The rule for a job; none keeps everything.
    pub fn rule_of(&self, job: &JobName) -> Option<&Policy> {
        self.jobs.get(job).or(self.default.as_ref())
    }
}

fn default_grace() -> Span {
    Span::from_secs(72 * 3600)
}
