//! How full the quarantine is, as part of the status.

use ledger::Summary;
use serde::{Deserialize, Serialize};

use super::live::State;
use super::{StatusView, text};
use crate::quarantine::{Level, held};

/// How full the quarantine is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineView {
    /// Bytes in it.
    pub byte_count: u64,
    /// Bytes that may be in it; nothing where that is not known.
    pub max_bytes: Option<u64>,
    /// Whether something waits because it found no room.
    pub is_full: bool,
}

impl QuarantineView {
    pub(super) fn new(summary: &Summary, state: Option<&State>) -> Self {
        Self {
            byte_count: held(summary),
            max_bytes: state.and_then(|state| state.quarantine_max_bytes),
            is_full: state.is_some_and(|state| state.quarantine_level == Level::Full),
        }
    }

    /// What a person should look at.
    pub(super) fn trouble(&self) -> Option<String> {
        let max_bytes = self.max_bytes?;
        let level = Level::of(self.byte_count, max_bytes);
        let what = match level {
            _ if self.is_full => "full, what should go there waits",
            Level::Full => "full, what should go there waits",
            Level::Filling => "filling up",
            Level::Fine => return None,
        };
        Some(format!(
            "the quarantine is {what}: {} of {}",
            text::bytes(self.byte_count),
            text::bytes(max_bytes)
        ))
    }
}

impl StatusView {
    /// The same view where no running collector has told how much may be in quarantine.
    #[must_use]
    pub fn with_quarantine_bound(mut self, max_bytes: u64) -> Self {
        self.quarantine.max_bytes = Some(max_bytes);
        self.troubles.extend(self.quarantine.trouble());
        self
    }
}
