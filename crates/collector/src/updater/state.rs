//! What the updater remembers between runs and over restarts, as one small fact in the ledger.
//!
//! The version that is put back reads what the one that was taken back wrote. So a field is never given another meaning or
//! taken away, every field may be missing, and unknown ones are passed over.

use std::fmt::Display;

use jiff::Timestamp;
use ledger::Ledger;
use serde::{Deserialize, Serialize};

use super::{Sha256, Version};

/// The fact's key.
pub(super) const FACT: &str = "update/state";
/// Steps that are kept for a person to read. A release takes about eight.
const MAX_EVENTS: usize = 30;
/// Versions that are kept as refused. Far more than there are releases while one is of any use.
const MAX_REFUSED: usize = 30;
/// Longer than what we write ourselves; shorter than what a strange server might answer.
const MAX_TEXT_CHARS: usize = 300;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// Where things stand, in a sentence.
    pub(super) situation: String,
    /// Whether a person should look at it.
    pub(super) is_trouble: bool,
    /// What the last manifest that was believed names.
    #[serde(with = "some_text", skip_serializing_if = "Option::is_none")]
    pub(super) newest: Option<Version>,
    /// The one change under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<Change>,
    /// What failed before there was a change, and when it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trying: Option<Trying>,
    /// Versions that are not tried again.
    pub(super) refused: Vec<Refused>,
    /// Whether the last run of Master found everything healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) was_healthy: Option<bool>,
    /// The Functions host was not told yet that the functions may have changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unsynced: Option<Unsynced>,
    /// What was done, oldest first.
    pub(super) events: Vec<Event>,
}

/// A release on its way in, or back out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    #[serde(with = "text")]
    pub(super) version: Version,
    /// The version that ran before.
    #[serde(with = "text")]
    pub(super) replaces: Version,
    /// The new package's url.
    pub(super) url: String,
    /// The digest of the replaced package's url: the url itself may be a secret.
    #[serde(with = "text")]
    pub(super) previous: Sha256,
    /// The digest of the manifest's envelope.
    #[serde(with = "text")]
    pub(super) manifest: Sha256,
    pub(super) phase: Phase,
    #[serde(with = "text")]
    pub(super) begun_at: Timestamp,
    /// Tries of the present phase, counted before the work.
    #[serde(default)]
    pub(super) tries: u32,
    #[serde(with = "text")]
    pub(super) next_try_at: Timestamp,
    /// When the app settings were found to name the new package.
    #[serde(default, with = "some_text", skip_serializing_if = "Option::is_none")]
    pub(super) swapped_at: Option<Timestamp>,
    /// When the new version first found itself running.
    #[serde(default, with = "some_text", skip_serializing_if = "Option::is_none")]
    pub(super) running_since: Option<Timestamp>,
    #[serde(default)]
    pub(super) are_triggers_synced: bool,
    /// Whether everything was healthy under the version that is replaced.
    #[serde(default)]
    pub(super) was_healthy: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Verified and tried; the app settings are about to name it, or do already.
    Preparing,
    /// The app settings name it. It must show that it is healthy.
    Swapped,
    /// The app settings are about to name the previous package again, or do already.
    TakingBack { why: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trying {
    /// The digest of the manifest's envelope; nothing when there was none to be had.
    #[serde(default, with = "some_text", skip_serializing_if = "Option::is_none")]
    pub(super) manifest: Option<Sha256>,
    /// Counted before the work, so that a crash uses one up.
    pub(super) tries: u32,
    /// Nothing: not before there is another manifest, or the next run of the Updater.
    #[serde(default, with = "some_text", skip_serializing_if = "Option::is_none")]
    pub(super) next_try_at: Option<Timestamp>,
    pub(super) what: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refused {
    #[serde(with = "text")]
    pub(super) version: Version,
    #[serde(with = "text")]
    pub(super) at: Timestamp,
    pub(super) why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unsynced {
    pub(super) tries: u32,
    #[serde(with = "text")]
    pub(super) next_try_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Event {
    #[serde(with = "text")]
    pub(super) at: Timestamp,
    pub(super) what: String,
}

impl State {
    /// Records a step. The same one twice in a row is recorded once.
    pub(super) fn record(&mut self, at: Timestamp, what: impl Display) {
        let what = short(&what.to_string());
        if self.events.last().is_some_and(|last| last.what == what) {
            return;
        }
        self.events.push(Event { at, what });
        let surplus = self.events.len().saturating_sub(MAX_EVENTS);
        self.events.drain(..surplus);
    }

    /// Says where things stand; that all is well, or at least as it should be.
    pub(super) fn stands(&mut self, situation: impl Display) {
        (self.situation, self.is_trouble) = (short(&situation.to_string()), false);
    }

    /// Says where things stand, and that a person should look at it.
    pub(super) fn troubled(&mut self, situation: impl Display) {
        (self.situation, self.is_trouble) = (short(&situation.to_string()), true);
    }

    /// Never again this version.
    pub(super) fn refuse(&mut self, version: &Version, why: impl Display, at: Timestamp) {
        self.refused.retain(|refused| refused.version != *version);
        self.refused.push(Refused {
            version: version.clone(),
            at,
            why: short(&why.to_string()),
        });
        let surplus = self.refused.len().saturating_sub(MAX_REFUSED);
        self.refused.drain(..surplus);
    }

    pub(super) fn refusal_of(&self, version: &Version) -> Option<&Refused> {
        self.refused
            .iter()
            .find(|refused| refused.version == *version)
    }
}

/// The state, and what of it is in the ledger.
pub(super) struct Memory<'l> {
    pub(super) state: State,
    kept: State,
    ledger: &'l dyn Ledger,
}

/// Why there is no memory to work with. Without it nothing is done: what was refused would be tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum MemoryError {
    #[error("the ledger fails")]
    Ledger(#[from] ledger::Error),
    #[error(
        "what the updater remembers cannot be read; it was written by a version that this one does not understand"
    )]
    Unreadable,
}

impl<'l> Memory<'l> {
    pub(super) async fn recall(ledger: &'l dyn Ledger) -> Result<Self, MemoryError> {
        let state = match ledger.recall(FACT).await? {
            Some(fact) => serde_json::from_str(&fact).map_err(|_| MemoryError::Unreadable)?,
            None => State::default(),
        };
        Ok(Self {
            kept: state.clone(),
            state,
            ledger,
        })
    }

    /// Makes the state durable, where it differs from what is.
    ///
    /// # If interrupted
    /// The state is as it was, and the step before is done again.
    pub(super) async fn keep(&mut self) -> Result<(), MemoryError> {
        if self.state != self.kept {
            let fact = serde_json::to_string(&self.state)
                .expect("texts, numbers and lists of them always serialize");
            self.ledger.remember(FACT, &fact).await?;
            self.kept = self.state.clone();
        }
        Ok(())
    }
}

/// One line of bounded length.
pub(super) fn short(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT_CHARS)
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

/// Values as the text that they are shown as.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        value: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The same for values that may be missing.
mod some_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        value: &Option<impl Display>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        Option::<String>::deserialize(deserializer)?
            .map(|text| text.parse().map_err(de::Error::custom))
            .transpose()
    }
}
