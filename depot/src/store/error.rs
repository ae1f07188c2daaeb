//! Why a store could not do it, and what the user can do about it.
//!
//! Every store maps what its library says to these few kinds, because callers branch on them.

use std::error::Error;

/// Why a store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name is taken (with any content).
    #[error("`{name}` exists already")]
    Exists {
        /// The object.
        name: String,
    },
    /// There is no such object.
    #[error("`{name}` does not exist")]
    Missing {
        /// The object or folder.
        name: String,
    },
    /// The store is out of space or quota.
    #[error("no space left in the depot for `{name}`")]
    Full {
        /// The object that did not fit.
        name: String,
    },
    /// The account may not do this.
    #[error("not permitted: {what}")]
    Denied {
        /// What was tried.
        what: String,
    },
    /// The other side's identity or ours was refused: host key, password, key, certificate.
    #[error("{what}")]
    Refused {
        /// What was refused, and by whom.
        what: String,
        /// What the user can do.
        hint: String,
    },
    /// The configuration does not fit the world: a missing bucket, an unreadable key file, a wrong
    /// region.
    #[error("{what}")]
    Setup {
        /// What does not fit.
        what: String,
        /// What the user can do.
        hint: String,
    },
    /// Not reachable, cut, or timed out: worth trying again.
    #[error("{what}")]
    Unreachable {
        /// What was being done.
        what: String,
        /// The cause below.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// Anything else: not worth trying again.
    #[error("{what}")]
    Other {
        /// What was being done.
        what: String,
        /// The cause below.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl StoreError {
    /// Trying again cannot help.
    pub fn is_permanent(&self) -> bool {
        !matches!(self, Self::Unreachable { .. })
    }

    /// The advice that comes with it, if any: a sentence without full stop.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { hint, .. } | Self::Setup { hint, .. } => Some(hint),
            Self::Full { .. } => Some("free space, or `backupctl prune` on the keeper's host"),
            Self::Denied { .. } => {
                Some("the account needs to list, read and create; deleting is the keeper's alone")
            }
            Self::Unreachable { .. } => Some("check that the depot's host is up and reachable"),
            _ => None,
        }
    }

    /// The store answered, and what it said is about this call only: the connection is fine.
    pub(super) fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Exists { .. } | Self::Missing { .. } | Self::Full { .. } | Self::Denied { .. }
        )
    }

    pub(super) fn exists(name: &str) -> Self {
        Self::Exists { name: name.to_owned() }
    }

    pub(super) fn missing(name: &str) -> Self {
        if name.is_empty() {
            let hint = "is it mounted? a new depot is made by `backupctl depot init`";
            return Self::setup("the depot's folder does not exist", hint);
        }
        Self::Missing { name: name.to_owned() }
    }

    pub(super) fn full(name: &str) -> Self {
        Self::Full { name: name.to_owned() }
    }

    pub(super) fn denied(what: impl Into<String>) -> Self {
        Self::Denied { what: what.into() }
    }

    pub(super) fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), hint: hint.into() }
    }

    pub(super) fn setup(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Setup { what: what.into(), hint: hint.into() }
    }

    pub(super) fn unreachable(
        what: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Unreachable { what: what.into(), source: Some(source.into()) }
    }

    pub(super) fn other(what: impl Into<String>) -> Self {
        Self::Other { what: what.into(), source: None }
    }

    pub(super) fn caused(
        what: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Other { what: what.into(), source: Some(source.into()) }
    }

    /// An unreadable or shared secret file: the message and hint are those of `chassis::config`.
    pub(super) fn from_config(error: &anyhow::Error) -> Self {
        let hint = chassis::failure::hint_of(error).unwrap_or("check the depot's configuration");
        Self::setup(format!("{error:#}"), hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_fits_the_error() {
        fn check(error: StoreError, expected: Option<&str>) {
            let hint = error.hint();
            assert_eq!(hint.is_some(), expected.is_some(), "{error}");
            assert!(hint.unwrap_or_default().contains(expected.unwrap_or_default()), "{hint:?}");
        }
        check(StoreError::full("x"), Some("free space"));
        check(StoreError::denied("create"), Some("list, read and create"));
        check(StoreError::unreachable("connect", "cut"), Some("up and reachable"));
        check(StoreError::other("x"), None);
    }
}
