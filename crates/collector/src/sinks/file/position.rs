//! What the ledger keeps of the file: which one it is and how much of it is committed.

use jiff::Timestamp;

/// How many bytes before the committed length are remembered by their fingerprint. Enough to hold an `Id`, so that no
/// two stretches of audit records are the same; little enough to be read and hashed at no cost.
pub(super) const TAIL_BYTES: usize = 4096;

/// The committed end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Counts the files from 1; a rotated file carries it in its name.
    pub(super) sequence: u64,
    /// Bytes of it that are committed.
    pub(super) length: u64,
    /// Fingerprint of the last [`TAIL_BYTES`] of those. Another file of the same name is told apart by it: after a
    /// crash in the middle of a rotation, or when a person swapped files.
    pub(super) tail: u64,
    /// When the first record was written to it; what its age is counted from.
    pub(super) since: Option<Timestamp>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct PositionText {
    sequence: u64,
    length: u64,
    tail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

impl Position {
    /// As the ledger keeps it: JSON.
    pub(super) fn encode(&self) -> String {
        let text = PositionText {
            sequence: self.sequence,
            length: self.length,
            tail: format!("{:016x}", self.tail),
            since: self.since.map(|since| since.to_string()),
        };
        serde_json::to_string(&text).expect("numbers and strings are always JSON")
    }

    /// The reverse of [`Position::encode`]; nothing when the text is not a position of a file sink.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text: PositionText = serde_json::from_str(text).ok()?;
        Some(Self {
            sequence: text.sequence,
            length: text.length,
            tail: u64::from_str_radix(&text.tail, 16).ok()?,
            since: text.since.map(|since| since.parse()).transpose().ok()?,
        })
    }
}

/// The last bytes of a file, kept while it is written so that its fingerprint costs no reading.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    /// From bytes read back; only their last [`TAIL_BYTES`] count.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut tail = Self::default();
        tail.push(bytes);
        tail
    }

    /// Takes in what was appended to the file.
    pub(super) fn push(&mut self, appended: &[u8]) {
        if appended.len() >= TAIL_BYTES {
            self.0.clear();
            self.0
                .extend_from_slice(&appended[appended.len() - TAIL_BYTES..]);
        } else {
            let kept = TAIL_BYTES - appended.len();
            self.0.drain(..self.0.len().saturating_sub(kept));
            self.0.extend_from_slice(appended);
        }
    }

    pub(super) fn fingerprint(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.0)
    }
}
