//! Why a simulator could not be started.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What stopped a simulator from starting, or a corpus from being read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option has a value that cannot be simulated.
    #[error("option {name}: {reason}")]
    Option {
        /// The field of [`Options`](crate::Options).
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A port could not be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address that was tried.
        address: SocketAddr,
        /// Why it failed.
        source: io::Error,
    },
    /// The runtime, the client for webhooks or the capture folder could not be set up.
    #[error("cannot set up {what}")]
    Setup {
        /// The part that failed.
        what: &'static str,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The corpus file could not be read.
    #[error("cannot read corpus {path}")]
    CorpusUnreadable {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A line of the corpus is not one JSON object. Lines count from 1.
    #[error("corpus line {line} is not a JSON object")]
    CorpusLine {
        /// The line's number, counted from 1.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// More records are asked for than the corpus holds, and this line has no `Id` that could be made fresh.
    #[error("corpus line {line} has no Id that is a GUID, so it cannot be served a second time")]
    CorpusLineWithoutId {
        /// The line's number, counted from 1.
        line: usize,
    },
}

impl Error {
    pub(crate) fn setup(
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Setup {
            what,
            source: source.into(),
        }
    }
}
