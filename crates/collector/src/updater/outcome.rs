//! What came of a run of the updater.

use std::fmt;

use jiff::Timestamp;

use super::Version;

/// What one run did, or why it did nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdateOutcome {
    /// There was nothing that had to be done now.
    Idle,
    /// The newest version runs.
    UpToDate,
    /// There is a newer version, and this host does not replace itself.
    NewerExists {
        /// Which.
        version: Version,
    },
    /// Something is to be done later.
    Waiting {
        /// When; nothing when that depends on another manifest.
        until: Option<Timestamp>,
        /// What for.
        why: String,
    },
    /// The manifest names a version that is not taken.
    Refused {
        /// Which.
        version: Version,
        /// Why.
        why: String,
    },
    /// This app cannot be moved to another package this way, and what to do instead.
    CannotSwap {
        /// Both.
        why: String,
    },
    /// The app settings name the new package. A run of Master must confirm it until then: start one.
    AwaitsHealth {
        /// Which version.
        version: Version,
        /// Until when.
        until: Timestamp,
    },
    /// The new version is good.
    Confirmed {
        /// Which.
        version: Version,
    },
    /// The previous package is back.
    RolledBack {
        /// Which version was taken back.
        version: Version,
        /// Why.
        why: String,
    },
    /// Somebody else changed the package meanwhile, and theirs stays.
    Abandoned {
        /// Which version was on its way.
        version: Version,
        /// What was found.
        why: String,
    },
    /// The app was told to fetch its source repository.
    RepositorySynced,
    /// It failed.
    Failed {
        /// What.
        what: String,
        /// When it is tried again; nothing: not by itself.
        retry_at: Option<Timestamp>,
    },
    /// The host had no more time. It goes on at the next run.
    Interrupted,
}

impl UpdateOutcome {
    /// Whether it is what a person should look at.
    #[must_use]
    pub fn is_trouble(&self) -> bool {
        matches!(
            self,
            Self::CannotSwap { .. }
                | Self::RolledBack { .. }
                | Self::Abandoned { .. }
                | Self::Refused { .. }
                | Self::Failed { .. }
        )
    }
}

impl fmt::Display for UpdateOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("nothing to do"),
            Self::UpToDate => f.write_str("the newest version runs"),
            Self::NewerExists { version } => write!(f, "version {version} is out"),
            Self::Waiting { until, why } => {
                f.write_str(why)?;
                until.map_or(Ok(()), |until| write!(f, "; not before {until}"))
            }
            Self::Refused { version, why } => write!(f, "{version} is not taken: {why}"),
            Self::CannotSwap { why } => f.write_str(why),
            Self::AwaitsHealth { version, until } => {
                write!(f, "{version} must show that it is healthy until {until}")
            }
            Self::Confirmed { version } => write!(f, "{version} runs and is healthy"),
            Self::RolledBack { version, why } => write!(f, "{version} was taken back: {why}"),
            Self::Abandoned { version, why } => write!(f, "{version} was given up: {why}"),
            Self::RepositorySynced => f.write_str("the repository was synced"),
            Self::Failed { what, retry_at } => {
                f.write_str(what)?;
                retry_at.map_or(Ok(()), |at| write!(f, "; next try at {at}"))
            }
            Self::Interrupted => f.write_str("interrupted; it goes on at the next run"),
        }
    }
}
