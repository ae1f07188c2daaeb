//! The `[keeper]` table: what stays and what goes. Only the host that may delete has it.

use std::collections::BTreeMap;

use chassis::units::Span;
use depot::names::JobName;
use depot::retention::Policy;
use serde::Deserialize;

use super::DepotName;

/// Retention on the depots that this host keeps.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Keeper {
    /// The depots it keeps; all of them if not given.
    pub depots: Option<Vec<DepotName>>,
    /// How long a pack stays condemned before it is deleted; at least 72 hours, longer than any run may last.
    #[serde(default = "default_grace")]
    pub grace: Span,
    /// The rule for jobs that have none of their own. Without a rule nothing of a job is ever deleted.
    pub default: Option<Policy>,
    /// Rules by job.
    #[serde(default)]
    pub jobs: BTreeMap<JobName, Policy>,
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
