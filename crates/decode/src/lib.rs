//! A blob's bytes → records. A blob is one JSON array of records, of any length; it is read as a stream, one pass,
//! into buffers of fixed size ([`PART_BYTES`]) that become the parts themselves ([`RawPart`]): a record's text is written
//! once, by the inflater, and read in place from then on.
//!
//! Decoding never fails as a whole for one bad record: what cannot be read is set apart with its bytes ([`Undecodable`])
//! and the array goes on behind it.
//!
//! A crate of its own, with next to no dependencies, so that what every byte passes through can be measured by itself:
//! `cargo bench -p decode`.

mod decoder;
mod elements;
pub mod inflate;
mod json;
#[cfg(target_arch = "x86_64")]
mod masks;
#[cfg(target_arch = "x86_64")]
mod scan;
mod skip;
#[cfg(test)]
mod tests;
mod whole;

pub use decoder::{Advance, Decoder};
pub use whole::{Cut, Whole};

/// How much of a blob's text one part holds. Parts are the unit in which memory is counted and sinks acknowledge;
/// the cut depends on nothing but the blob's bytes and this figure, and changing it only means that parts which some
/// sink has already taken are not recognized once and are delivered to it again.
pub const PART_BYTES: usize = 512 * 1024;

/// How much room a blob gets before it is known to need more: most blobs are small, and a buffer's size says nothing about
/// where parts are cut.
pub const FIRST_BYTES: usize = 8 * 1024;

/// The first buffer where parts have at most so many bytes: never a whole part, as who has a whole part's room is counted.
#[must_use]
pub fn first_bytes(part_bytes: usize) -> usize {
    FIRST_BYTES.min(part_bytes / 2).max(1)
}

/// The longest record that is read whole. Microsoft's are some kilobytes, the largest ever seen under 20 MB. Past it a
/// record is set apart with its first [`KEPT_BYTES`].
pub const MAX_RECORD_BYTES: usize = 32 * 1024 * 1024;

/// How much of an undecodable stretch is kept.
pub const KEPT_BYTES: usize = 4 * 1024 * 1024;

/// A stretch of the array that is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    /// Its place in the blob's array, from 0, records included.
    pub index_in_array: u64,
    /// What is wrong with it; never its text.
    pub reason: String,
    /// Its bytes, at most [`KEPT_BYTES`].
    pub bytes: Vec<u8>,
}

/// The sizes that decoding keeps to. The pipeline's are [`Limits::PIPELINE`]; smaller ones let a short text reach every
/// branch of a test.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// As [`PART_BYTES`]; at least 1.
    pub part_bytes: usize,
    /// As [`MAX_RECORD_BYTES`].
    pub record_bytes: usize,
    /// As [`KEPT_BYTES`].
    pub kept_bytes: usize,
}

impl Limits {
    /// What the pipeline keeps to.
    pub const PIPELINE: Self = Self {
        part_bytes: PART_BYTES,
        record_bytes: MAX_RECORD_BYTES,
        kept_bytes: KEPT_BYTES,
    };
}

/// Where one record lies in its part's text, and the few fields that routing needs. 40 bytes, so that a
/// part's table stays small beside its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSpan {
    /// Offset of its first byte in the part's text.
    pub start: u32,
    /// Bytes of its text.
    pub len: u32,
    /// `Id`; relative to the record's start, and of length 0 when the record has no such string.
    pub id: FieldSpan,
    /// `CreationTime`, as `id`.
    pub creation_time: FieldSpan,
    /// `RecordType`, when it is a whole number.
    pub record_type: Option<i64>,
    /// Whether no white space stands between its tokens.
    pub is_compact: bool,
}

/// A string value inside a record, without its quotes, exactly as written (escapes and all).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldSpan {
    /// Offset of its first byte in the record.
    pub start: u32,
    /// Its bytes.
    pub len: u32,
}

/// Consecutive records of one blob, in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawPart {
    /// How many records of the blob came before it.
    pub first_record: u64,
    /// The blob's bytes from the end of the part before to the end of its last record: its records, what stands between
    /// them, and what is undecodable.
    pub text: Vec<u8>,
    /// Where the records lie in `text`, in order.
    pub spans: Vec<RecordSpan>,
}

impl RawPart {
    /// What the part's text takes in memory.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        self.text.capacity()
    }
}

/// What a part with the same bytes is recognized by, in every run of the program.
#[must_use]
pub fn fingerprint(part: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(part)
}

/// Why the bytes are no whole array.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not begin with `[`: an error page, say.
    #[error("the blob is no JSON array")]
    NotAnArray,
    /// It ends before the array does.
    #[error("the blob ends in the middle of its array")]
    Truncated,
    /// Something follows the array's end.
    #[error("more bytes follow the array's end")]
    TrailingBytes,
}

/// What is wrong with the array as a whole, and the bytes that could not be placed.
pub type Broken = (Error, Vec<u8>);

/// Everything that one blob held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawDecoded {
    /// Its records, in order.
    pub parts: Vec<RawPart>,
    /// What is no record.
    pub undecodable: Vec<Undecodable>,
    /// How much there was of everything.
    pub totals: Totals,
    /// What is wrong with the array as a whole. The records before the damage are in `parts` all the same.
    pub broken: Option<Broken>,
}

/// What a blob held, once all its bytes are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records that were read.
    pub record_count: u64,
    /// Stretches that were not.
    pub undecodable_count: u64,
    /// Bytes of the records' text.
    pub byte_count: u64,
}

/// Reads a whole blob that is in memory already, arriving in `pieces`. For tests and benches: the pipeline reads its
/// blobs while they arrive.
#[must_use]
pub fn decode_pieces<'a>(limits: Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> RawDecoded {
    let mut decoder = Decoder::new(limits);
    let mut parts = Vec::new();
    let mut undecodable = Vec::new();
    let mut pieces = pieces.into_iter();
    let mut piece: &[u8] = &[];
    loop {
        match decoder.advance() {
            Advance::Part(part) => parts.push(part),
            Advance::Grow(bytes) => decoder.grow(bytes),
            Advance::Broken => break,
            Advance::Read => {
                if piece.is_empty() {
                    match pieces.next() {
                        Some(next) => piece = next,
                        None => break,
                    }
                }
                let room = decoder.room();
                let count = piece.len().min(room.len());
                room[..count].copy_from_slice(&piece[..count]);
                decoder.filled(count);
                piece = &piece[count..];
            }
        }
        undecodable.extend(decoder.take_undecodable());
    }
    let (last, totals, broken) = decoder.finish();
    undecodable.extend(decoder.take_undecodable());
    parts.extend(last);
    RawDecoded {
        parts,
        undecodable,
        totals,
        broken,
    }
}

/// Reads a whole blob where it lies. For tests.
#[must_use]
pub fn decode_whole(limits: Limits, text: &[u8]) -> RawDecoded {
    let mut whole = Whole::new(limits, text);
    let part = |cut: Cut| RawPart {
        first_record: cut.first_record,
        text: text.get(cut.text).unwrap_or_default().to_vec(),
        spans: cut.spans,
    };
    let mut parts = Vec::new();
    while let Some(cut) = whole.advance() {
        parts.push(part(cut));
    }
    let (last, totals, broken) = whole.finish();
    parts.extend(last.map(part));
    RawDecoded {
        parts,
        undecodable: whole.take_undecodable(),
        totals,
        broken,
    }
}
