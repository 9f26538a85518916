//! What the updater says of itself, as part of the status.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::StatusView;

/// How the program is being kept up to date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateView {
    /// Where things stand, in a sentence.
    pub summary: String,
    /// Whether a person should look at it.
    pub is_trouble: bool,
    /// The newest version that is known of.
    pub newest_version: Option<String>,
    /// The version that is being changed to.
    pub changing_to: Option<String>,
    /// When what failed is tried again.
    #[serde(
        serialize_with = "super::view::some_instant",
        deserialize_with = "super::view::read_some_instant"
    )]
    pub next_try_at: Option<Timestamp>,
    /// The versions that are not tried again, each with the reason.
    pub refused: Vec<String>,
    /// What was done, oldest first.
    pub events: Vec<UpdateEventView>,
}

/// One step of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateEventView {
    /// When.
    #[serde(
        serialize_with = "super::view::instant",
        deserialize_with = "super::view::read_instant"
    )]
    pub at: Timestamp,
    /// What, for a person.
    pub what: String,
}

impl StatusView {
    /// The same view with what the updater says in it.
    #[must_use]
    pub fn with_update(mut self, update: Option<UpdateView>) -> Self {
        if let Some(update) = update.as_ref().filter(|update| update.is_trouble) {
            self.troubles.push(format!("update: {}", update.summary));
        }
        self.update = update;
        self
    }
}
