//! Records taken from an NDJSON file, byte for byte, and what the simulator must know of each line.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memchr;

use crate::Error;

/// Lines of an NDJSON file: one record each, kept as exact bytes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Corpus {
    lines: Arc<[Bytes]>,
}

impl Corpus {
    /// Reads a file of one JSON object a line. Empty lines are left out.
    ///
    /// # Errors
    /// [`Error::CorpusUnreadable`].
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::CorpusUnreadable {
            path: path.to_owned(),
            source,
        })?;
        let mut rest = Bytes::from(bytes);
        let mut lines = Vec::new();
        while !rest.is_empty() {
            let end = memchr(b'\n', &rest).map_or(rest.len(), |at| at + 1);
            lines.push(rest.split_to(end));
        }
        Ok(Self::from_lines(lines))
    }

    /// Takes records as they are. Line ends and outer white space are removed, empty lines left out.
    pub fn from_lines(lines: impl IntoIterator<Item = Bytes>) -> Self {
        let lines = lines
            .into_iter()
            .map(|line| {
                let trimmed = line.trim_ascii();
                line.slice_ref(trimmed)
            })
            .filter(|line| !line.is_empty())
            .collect();
        Self { lines }
    }

    /// The records.
    pub fn lines(&self) -> &[Bytes] {
        &self.lines
    }
}
