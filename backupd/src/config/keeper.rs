//! The `[keeper]` table: what stays and what goes. Only the host that may delete has it.

use std::collections::BTreeMap;

use chassis::units::Span;
use depot::names::JobName;
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
    pub default: Option<Rule>,
    /// Rules by job.
    #[serde(default)]
    pub jobs: BTreeMap<JobName, Rule>,
}

/// What to keep of one job on one host: a backup stays if any of these wants it.
///
/// The last good one always stays, and so does whatever a kept one needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Rule {
    /// The newest so many.
    pub keep_last: u32,
    /// All that are younger than this.
    pub keep_within: Option<Span>,
    /// The last one of each of so many hours.
    pub hourly: u32,
    /// Of days.
    pub daily: u32,
    /// Of weeks, from Monday.
    pub weekly: u32,
    /// Of months.
    pub monthly: u32,
    /// Of years.
    pub yearly: u32,
    /// Every point within this time can be restored: all younger ones, and the newest older one.
    pub recovery_window: Option<Span>,
}

impl Rule {
    /// Whether it would keep nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn default_grace() -> Span {
    Span::from_secs(72 * 3600)
}
