//! How the status shows the check-ins with Alert Logic.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::StatusView;
use super::view::{read_some_instant, some_instant};

/// The last check-in of one log source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckinView {
    /// The sink that delivers to it.
    pub sink: String,
    /// Whose log source it is.
    pub tenant: String,
    /// Its id in Alert Logic, once it is registered.
    pub source_id: Option<String>,
    /// When the service last took one.
    #[serde(
        serialize_with = "some_instant",
        deserialize_with = "read_some_instant"
    )]
    pub taken_at: Option<Timestamp>,
    /// When one was last tried.
    #[serde(
        serialize_with = "some_instant",
        deserialize_with = "read_some_instant"
    )]
    pub tried_at: Option<Timestamp>,
    /// Why the service did not take the last one.
    pub error: Option<String>,
    /// The code of the health error that was told; none when all was well.
    pub error_code: Option<String>,
    /// Everything that was wrong, each with its code.
    pub details: Vec<String>,
}

impl StatusView {
    /// The same view with these check-ins in it, as the ledger has them, where no running collector has told of them.
    #[must_use]
    pub fn with_checkins(mut self, checkins: Vec<CheckinView>) -> Self {
        self.troubles
            .extend(checkins.iter().flat_map(CheckinView::troubles));
        self.checkins = checkins;
        self
    }
}

impl CheckinView {
    /// What a person should look at, one line each.
    pub(super) fn troubles(&self) -> impl Iterator<Item = String> {
        let whose = format!("sink {}, tenant {}", self.sink, self.tenant);
        let error = self
            .error
            .iter()
            .map(|error| format!("not checked in with Alert Logic: {error}"));
        let all: Vec<_> = error
            .chain(self.details.iter().cloned())
            .map(|what| format!("{whose}: {what}"))
            .collect();
        all.into_iter()
    }
}
