//! The file sink's settings.

use std::path::PathBuf;
use std::time::Duration;

use ledger::SinkName;

/// Where the file is and when it gives way to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileConfig {
    /// What the ledger, the metrics and the status page call the sink.
    pub name: SinkName,
    /// The file that records are appended to. Rotated files lie beside it.
    pub path: PathBuf,
    /// `rotate_mib`, in bytes: a file that reached this length is rotated before the next write. `None`: never by size.
    pub rotate_bytes: Option<u64>,
    /// `rotate_hours`: a file whose first record was written this long ago is rotated. `None`: never by age.
    pub rotate_after: Option<Duration>,
    /// What becomes of a rotated file.
    pub compression: Compression,
}

/// What becomes of a rotated file. The file being written is never compressed: it could not be cut back to a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// It stays as it is.
    #[default]
    None,
    /// RFC 1952, `.gz`.
    Gzip,
    /// RFC 8878, `.zst`.
    Zstd,
}
