//! The name of a sink, by which the ledger remembers what that sink has said yes to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A sink's name in the configuration and in the ledger, such as `file`, `alertlogic` or `file-2`.
///
/// A ledger outlives a run, so a sink must keep its name: under a different one it has acknowledged nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkName(Arc<str>);

/// The text is not the name of a sink: 1 to 64 ASCII letters, digits, `-`, `_` or `.` are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sink's name is 1 to 64 ASCII letters, digits, '-', '_' or '.'")]
pub struct InvalidSinkName;

/// Keeps names short enough for a log field and a metric label, and free of anything that needs quoting in either.
const MAX_NAME_BYTES: usize = 64;

impl SinkName {
    /// The name as it stands in the configuration.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SinkName {
    type Err = InvalidSinkName;

    fn from_str(text: &str) -> Result<Self, InvalidSinkName> {
        let is_allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.bytes().all(is_allowed) {
            return Err(InvalidSinkName);
        }
        Ok(Self(Arc::from(text)))
    }
}

impl fmt::Display for SinkName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
