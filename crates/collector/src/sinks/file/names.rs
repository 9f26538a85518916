//! The names of the file and of everything that lies beside it.

use std::path::{Path, PathBuf};

use jiff::{Timestamp, tz::Offset};

use super::Compression;

/// Where everything lies.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The file being written.
    pub(super) current: PathBuf,
    /// Locked by the collector that writes it.
    pub(super) lock: PathBuf,
    /// There while the file has no committed record; see [`super::plan`].
    pub(super) note: PathBuf,
    /// The folder of all of them.
    pub(super) folder: PathBuf,
    stem: String,
    /// With its dot; empty when there is none.
    extension: String,
}

/// A rotated file, as its name tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rotated {
    pub(super) sequence: u64,
    pub(super) state: RotatedState,
    /// The name without what compression adds to it.
    pub(super) plain_name: String,
}

/// How far a rotated file's compression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RotatedState {
    Plain,
    Compressed(Compression),
    /// Compression was under way.
    Unfinished,
}

impl Names {
    /// Nothing when the path does not end in a file's name, or that is no Unicode.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let stem = path.file_stem()?.to_str()?.to_owned();
        let extension = name.get(stem.len()..)?.to_owned();
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Some(Self {
            lock: path.with_file_name(format!("{name}.lock")),
            note: path.with_file_name(format!("{name}.begun")),
            current: path.to_owned(),
            folder,
            stem,
            extension,
        })
    }

    /// What the file of this sequence is called once it is rotated: names sort in the order of writing.
    pub(super) fn rotated(&self, sequence: u64, at: Timestamp) -> PathBuf {
        self.folder.join(format!(
            "{}-{sequence:06}-{}{}",
            self.stem,
            compact_time(at),
            self.extension
        ))
    }

    /// Where records go that this ledger never committed: a name that no pattern for `*.ndjson` takes for evidence.
    pub(super) fn unconfirmed(&self, at: Timestamp, number: u32) -> PathBuf {
        let Self {
            folder,
            stem,
            extension,
            ..
        } = self;
        let name = format!("{stem}{extension}.unconfirmed-{}", compact_time(at));
        folder.join(if number > 1 {
            format!("{name}-{number}")
        } else {
            name
        })
    }

    /// Reads a name in the folder; nothing when it is not one of a rotated file of ours.
    pub(super) fn parse_rotated(&self, name: &str) -> Option<Rotated> {
        let rest = name.strip_prefix(self.stem.as_str())?.strip_prefix('-')?;
        let (sequence, rest) = rest.split_once('-')?;
        if sequence.len() < 6 || !sequence.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (time, _) = rest.split_at_checked(COMPACT_TIME_BYTES)?;
        if !time
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'T' | b'Z'))
        {
            return None;
        }
        let suffix = rest
            .get(COMPACT_TIME_BYTES..)?
            .strip_prefix(self.extension.as_str())?;
        let state = match suffix {
            "" => RotatedState::Plain,
            ".gz" => RotatedState::Compressed(Compression::Gzip),
            ".zst" => RotatedState::Compressed(Compression::Zstd),
            ".gz.tmp" | ".zst.tmp" => RotatedState::Unfinished,
            _ => return None,
        };
        let plain_name = name.strip_suffix(suffix)?.to_owned();
        Some(Rotated {
            sequence: sequence.parse().ok()?,
            state,
            plain_name,
        })
    }

    /// The rotated files in the folder, in no order.
    pub(super) fn list_rotated(&self) -> std::io::Result<Vec<Rotated>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if let Some(rotated) = entry
                .file_name()
                .to_str()
                .and_then(|name| self.parse_rotated(name))
                && entry.file_type()?.is_file()
            {
                found.push(rotated);
            }
        }
        Ok(found)
    }
}

impl Compression {
    /// What it adds to a file's name; nothing for [`Compression::None`].
    pub(super) fn suffix(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some(".gz"),
            Self::Zstd => Some(".zst"),
        }
    }
}

const COMPACT_TIME_BYTES: usize = "20260929T101500Z".len();

/// ISO 8601's basic format: a colon is no good in a file's name.
fn compact_time(at: Timestamp) -> String {
    let at = Offset::UTC.to_datetime(at);
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        at.year(),
        at.month(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}
