//! A storm as its file describes it. What each fault does to requests is in `requests.rs` and `body.rs`, what it does to
//! blobs and records in `content.rs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::read;
use crate::RequestKind;
use crate::random::mix;

/// Faults that go wrong together. Each is drawn from the seed by the number of the request, blob, listing or record that
/// it may meet, so that a storm repeats itself as far as the order of a collector's requests does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Storm {
    pub(crate) seed: Option<u64>,
    pub(crate) faults: Vec<StormFault>,
}

/// Why a storm's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StormError {
    /// It cannot be read.
    #[error("cannot read the storm {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML.
    #[error("the storm is no TOML")]
    NotToml(#[source] Box<toml::de::Error>),
    /// All that is wrong in it, a line each.
    #[error("the storm has mistakes:\n{}", .0.join("\n"))]
    Mistakes(Vec<String>),
}

impl Storm {
    /// Reads a storm from a file of TOML.
    ///
    /// # Errors
    /// [`StormError`], with every mistake that the file has.
    pub fn from_file(path: &Path) -> Result<Self, StormError> {
        let text = std::fs::read_to_string(path).map_err(|source| StormError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text)
    }

    /// Reads a storm from TOML.
    ///
    /// # Errors
    /// [`StormError`], with every mistake that the text has.
    pub fn parse(text: &str) -> Result<Self, StormError> {
        read::storm(text)
    }

    /// Whether records are not served as they were made.
    pub(crate) fn changes_records(&self) -> bool {
        self.faults.iter().any(|fault| {
            fault.is_class(Class::Record) || matches!(fault.whats.first(), Some(What::HugeBlob(_)))
        })
    }

    /// The same storm with this seed in the place of the file's.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}

/// One `[[fault]]` of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StormFault {
    /// What may happen; where there are several, one is drawn. All of one class.
    pub(crate) whats: Vec<What>,
    /// Which requests it meets, for those that meet requests.
    pub(crate) kinds: Vec<RequestKind>,
    /// Which part of what it may meet it meets, from 0 to 1.
    pub(crate) share: f64,
    /// How often each blob or listing that was drawn meets it.
    pub(crate) times: u32,
    /// How many it meets in all.
    pub(crate) at_most: Option<u64>,
    /// Requests that are drawn together.
    pub(crate) in_a_row: Option<u64>,
    /// Simulated milliseconds after the start.
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
}

/// What goes wrong. The names are those of the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum What {
    Status(u16, Option<u32>),
    Throttled(u16, Option<u32>),
    Hangup,
    Hang(Duration),
    Slow(Duration),
    AnswerLost,
    Truncated,
    Reset,
    Drip(Duration),
    Garbage,
    Html(u16),
    BrokenGzip,
    HostilePage,
    RepeatedPage,
    EmptyPage,
    Circle,
    HostileUri,
    Expired,
    UndecodableBlob,
    Late(Duration, Duration),
    NotListed,
    NotNotified,
    HugeBlob(u64),
    WithoutId,
    WithoutCreationTime,
    UndecodableRecord,
    RepeatedRecord(Duration),
    LargeRecord(u32),
    RefusedRecord(SinkKind),
    ClockSkew(i64),
}

/// A sink that refuses a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SinkKind {
    AlertLogic,
    Hec,
}

/// What a fault is drawn over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Request,
    Listing,
    Blob,
    Record,
    Clock,
}

impl What {
    pub(crate) fn class(self) -> Class {
        match self {
            Self::Status(..)
            | Self::Throttled(..)
            | Self::Hangup
            | Self::Hang(_)
            | Self::Slow(_)
            | Self::AnswerLost
            | Self::Truncated
            | Self::Reset
            | Self::Drip(_)
            | Self::Garbage
            | Self::Html(_)
            | Self::BrokenGzip => Class::Request,
            Self::HostilePage | Self::RepeatedPage | Self::EmptyPage | Self::Circle => {
                Class::Listing
            }
            Self::HostileUri
            | Self::Expired
            | Self::UndecodableBlob
            | Self::Late(..)
            | Self::NotListed
            | Self::NotNotified
            | Self::HugeBlob(_) => Class::Blob,
            Self::WithoutId
            | Self::WithoutCreationTime
            | Self::UndecodableRecord
            | Self::RepeatedRecord(_)
            | Self::LargeRecord(_)
            | Self::RefusedRecord(_) => Class::Record,
            Self::ClockSkew(_) => Class::Clock,
        }
    }
}

/// A number for each fault and whatever it may meet.
pub(crate) fn draw(seed: u64, fault: usize, key: u64) -> u64 {
    mix(mix(seed ^ 0x5_7034) ^ mix(fault as u64 + 1) ^ mix(key.rotate_left(23)))
}

impl StormFault {
    /// Whether what the number was drawn for meets the fault.
    pub(crate) fn is_drawn(&self, drawn: u64) -> bool {
        // 53 bits: all that the quotient can hold.
        ((drawn >> 11) as f64) < self.share * (1_u64 << 53) as f64
    }

    /// Which of the faults it is.
    pub(crate) fn pick(&self, drawn: u64) -> Option<What> {
        let at = (mix(drawn ^ 0x91c4) as usize).checked_rem(self.whats.len())?;
        self.whats.get(at).copied()
    }

    pub(crate) fn is_class(&self, class: Class) -> bool {
        self.whats.first().is_some_and(|what| what.class() == class)
    }

    pub(crate) fn is_time(&self, after_start_ms: i64) -> bool {
        (self.from_ms..self.to_ms).contains(&after_start_ms)
    }
}
