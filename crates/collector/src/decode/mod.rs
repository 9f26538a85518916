//! A blob's bytes → records. A blob is one JSON array of records, of any length; it is read as a stream, one pass,
//! into buffers of fixed size ([`PART_BYTES`]) that become the [`BlobPart`]s themselves: a record's text is written
//! once, by the inflater, and read in place from then on.
//!
//! Decoding never fails as a whole for one bad record: what cannot be read is set apart with its bytes ([`Undecodable`])
//! and the array goes on behind it.

mod json;
mod skip;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::memory::Room;
use crate::record::{BlobPart, BlobTag, RecordSpan};
use json::Walk;
use skip::Skipper;

/// How much of a blob's text one part holds. Parts are the unit in which memory is counted and sinks acknowledge;
/// the cut depends on nothing but the blob's bytes and this figure, and changing it only means that parts which some
/// sink has already taken are not recognized once and are delivered to it again.
pub const PART_BYTES: usize = 512 * 1024;

/// [`PART_BYTES`], save in a simulation, whose parts hold a few records each.
pub(crate) fn part_bytes() -> usize {
    #[cfg(test)]
    if let Some(bytes) = crate::simulation::part_bytes() {
        return bytes;
    }
    PART_BYTES
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
pub(crate) struct Limits {
    /// As [`PART_BYTES`]; at least 1.
    pub(crate) part_bytes: usize,
    /// As [`MAX_RECORD_BYTES`].
    pub(crate) record_bytes: usize,
    /// As [`KEPT_BYTES`].
    pub(crate) kept_bytes: usize,
}

impl Limits {
    pub(crate) const PIPELINE: Self = Self {
        part_bytes: PART_BYTES,
        record_bytes: MAX_RECORD_BYTES,
        kept_bytes: KEPT_BYTES,
    };
}

/// A part before it is counted into memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawPart {
    pub(crate) first_record: u64,
    pub(crate) text: Vec<u8>,
    pub(crate) spans: Vec<RecordSpan>,
}

impl RawPart {
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.text.capacity()
    }

    pub(crate) fn into_part(self, blob: Arc<BlobTag>, room: Option<Room>) -> BlobPart {
        BlobPart::new(blob, self.first_record, self.text, self.spans, room)
    }
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
pub(crate) type Broken = (Error, Vec<u8>);

/// Everything that one blob held.
#[derive(Debug)]
pub struct Decoded {
    /// Its records, in order.
    pub parts: Vec<BlobPart>,
    /// What is no record.
    pub undecodable: Vec<Undecodable>,
    /// What is wrong with the array as a whole. The records before the damage are in `parts` all the same.
    pub broken: Option<Error>,
}

/// Reads a whole blob that is in memory already, arriving in `pieces`. For tests and benches: the pipeline reads its
/// blobs while they arrive.
#[must_use]
pub fn decode_blob<'a>(tag: &Arc<BlobTag>, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let raw = decode_pieces(Limits::PIPELINE, pieces);
    Decoded {
        parts: raw
            .parts
            .into_iter()
            .map(|part| part.into_part(Arc::clone(tag), None))
            .collect(),
        undecodable: raw.undecodable,
        broken: raw.broken.map(|(error, _)| error),
    }
}

/// Everything that one blob held, its parts not yet tied to a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawDecoded {
    pub(crate) parts: Vec<RawPart>,
    pub(crate) undecodable: Vec<Undecodable>,
    pub(crate) totals: Totals,
    pub(crate) broken: Option<Broken>,
}

/// As [`decode_blob`], with limits of its own and for no blob in particular.
pub(crate) fn decode_pieces<'a>(
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> RawDecoded {
    let mut decoder = Decoder::with_limits(limits);
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

/// Where in the array the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    /// Behind `[`: a record or the end.
    First,
    /// Behind a comma: a record.
    Element,
    /// Behind a record: a comma or the end.
    Between,
    End,
}

/// What [`Decoder::advance`] wants of its caller.
#[derive(Debug)]
pub(crate) enum Advance {
    /// There is room: write more bytes into it.
    Read,
    /// A part is full and leaves; the decoder goes on in a buffer of its own.
    Part(RawPart),
    /// One record is larger than the buffer, which will grow to this many bytes when [`Decoder::grow`] is called.
    Grow(usize),
    /// The bytes are no array; more of them would not help.
    Broken,
}

/// Reads one blob. The caller writes bytes into [`Decoder::room`], says how many with [`Decoder::filled`], and asks
/// [`Decoder::advance`] what to do next; at the end of the bytes, [`Decoder::finish`].
#[derive(Debug)]
pub(crate) struct Decoder {
    limits: Limits,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were written.
    filled: usize,
    /// Bytes of `buffer` that were read.
    read: usize,
    spans: Vec<RecordSpan>,
    place: Place,
    skipping: Option<Skipping>,
    /// Records read so far. Undecodable stretches have no number here, so that a part's records are numbered without gaps.
    record_count: u64,
    /// Index of the first record in `spans`.
    first_record: u64,
    /// Undecodable stretches found so far.
    undecodable_count: u64,
    undecodable: Vec<Undecodable>,
    error: Option<Error>,
    record_bytes: u64,
}

#[derive(Debug)]
struct Skipping {
    skipper: Skipper,
    reason: String,
    kept: Vec<u8>,
    total_bytes: u64,
}

/// What a blob held, once all its bytes are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Records that were read.
    pub(crate) record_count: u64,
    /// Stretches that were not.
    pub(crate) undecodable_count: u64,
    /// Bytes of the records' text.
    pub(crate) byte_count: u64,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self::with_limits(Limits {
            part_bytes: part_bytes(),
            ..Limits::PIPELINE
        })
    }

    fn with_limits(limits: Limits) -> Self {
        Self {
            limits,
            buffer: vec![0; limits.part_bytes],
            filled: 0,
            read: 0,
            spans: Vec::new(),
            place: Place::Start,
            skipping: None,
            record_count: 0,
            first_record: 0,
            undecodable_count: 0,
            undecodable: Vec::new(),
            error: None,
            record_bytes: 0,
        }
    }

    /// Where the next bytes go. Empty when the buffer is full: [`Decoder::advance`] then makes room.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// `count` bytes were written into [`Decoder::room`].
    pub(crate) fn filled(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.buffer.len());
    }

    /// Reads what is there once the buffer is full. Not before: a record cut off by the end of the bytes is walked
    /// again when more are there, and a full buffer cuts off one in hundreds.
    pub(crate) fn advance(&mut self) -> Advance {
        if self.filled < self.buffer.len() {
            return Advance::Read;
        }
        self.read_elements(false);
        if self.error.is_some() {
            return Advance::Broken;
        }
        if !self.spans.is_empty() {
            return Advance::Part(self.cut());
        }
        if self.read > 0 {
            self.drop_read();
            return Advance::Read;
        }
        Advance::Grow(self.buffer.len() * 2)
    }

    /// Makes the buffer `bytes` long.
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.buffer.resize(bytes, 0);
    }

    /// The undecodable stretches found since the last call.
    pub(crate) fn take_undecodable(&mut self) -> Vec<Undecodable> {
        std::mem::take(&mut self.undecodable)
    }

    /// All bytes are written: reads the rest. The last part (if it has records), the totals, and what is wrong with
    /// the array as a whole together with the bytes that could not be placed.
    pub(crate) fn finish(&mut self) -> (Option<RawPart>, Totals, Option<Broken>) {
        self.read_elements(true);
        let broken = match (self.error.take(), self.place) {
            (Some(error), _) => Some(error),
            (None, Place::End) => None,
            (None, _) => Some(Error::Truncated),
        };
        let broken = broken.map(|error| {
            let rest = match self.skipping.take() {
                Some(skipping) => skipping.kept,
                None => self.buffer[self.read..self.filled].to_vec(),
            };
            (
                error,
                rest.into_iter().take(self.limits.kept_bytes).collect(),
            )
        });
        let part = (!self.spans.is_empty()).then(|| {
            let mut part = self.cut();
            // A small blob leaves most of its buffer unused, and waits for its batch: hold what it needs only.
            part.text.shrink_to_fit();
            part
        });
        let totals = Totals {
            record_count: self.record_count,
            undecodable_count: self.undecodable_count,
            byte_count: self.record_bytes,
        };
        (part, totals, broken)
    }

    /// Takes the records read so far out as a part; what is not read yet moves to a buffer of its own.
    fn cut(&mut self) -> RawPart {
        let mut next = vec![0; self.limits.part_bytes.max(self.filled - self.read)];
        let rest = &self.buffer[self.read..self.filled];
        next[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
        let mut text = std::mem::replace(&mut self.buffer, next);
        text.truncate(self.read);
        self.read = 0;
        let first_record = self.first_record;
        self.first_record = self.record_count;
        RawPart {
            first_record,
            text,
            spans: std::mem::take(&mut self.spans),
        }
    }

    fn drop_read(&mut self) {
        self.buffer.copy_within(self.read..self.filled, 0);
        self.filled -= self.read;
        self.read = 0;
    }

    fn read_elements(&mut self, at_end: bool) {
        while self.error.is_none() {
            if self.skipping.is_some() {
                if !self.skip_on() {
                    return;
                }
                continue;
            }
            let rest = &self.buffer[self.read..self.filled];
            let space = rest
                .iter()
                .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
                .count();
            self.read += space;
            let Some(&byte) = rest.get(space) else { return };
            match (self.place, byte) {
                (Place::Start, b'[') => self.step(Place::First),
                (Place::Start, 0xef) => {
                    // A byte order mark, which some gateways put before JSON.
                    let mark = &self.buffer[self.read..self.filled];
                    if mark.starts_with(&[0xef, 0xbb, 0xbf]) {
                        self.read += 3;
                    } else if mark.len() < 3 && !at_end {
                        return;
                    } else {
                        self.error = Some(Error::NotAnArray);
                    }
                }
                (Place::Start, _) => self.error = Some(Error::NotAnArray),
                (Place::First, b']') | (Place::Between, b']') => self.step(Place::End),
                (Place::Between, b',') => self.step(Place::Element),
                (Place::First | Place::Element, _) => {
                    if !self.read_element() {
                        return;
                    }
                }
                (Place::Between, _) => {
                    self.skip_from_here("a comma or the array's end was expected".to_owned())
                }
                (Place::End, _) => self.error = Some(Error::TrailingBytes),
            }
        }
    }

    fn step(&mut self, place: Place) {
        self.read += 1;
        self.place = place;
    }

    /// Reads the element that begins here. False when more bytes are needed.
    fn read_element(&mut self) -> bool {
        let start = self.read;
        match json::walk(&self.buffer[start..self.filled]) {
            Walk::Unfinished if self.filled - start >= self.limits.record_bytes => {
                self.skip_from_here(format!(
                    "longer than the {} bytes that a record may have",
                    self.limits.record_bytes
                ));
            }
            Walk::Unfinished => return false,
            Walk::Malformed { at, what } => {
                self.skip_from_here(format!("not JSON at byte {at}: {what}"))
            }
            Walk::Whole(value) if !value.is_object => {
                self.skip_from_here(
                    "a record must be a JSON object, this is another kind of value".to_owned(),
                );
            }
            Walk::Whole(value) => match std::str::from_utf8(&self.buffer[start..start + value.len])
            {
                Err(error) => {
                    self.skip_from_here(format!("not UTF-8 at byte {}", error.valid_up_to()))
                }
                Ok(_) => {
                    self.spans.push(RecordSpan {
                        start: start as u32,
                        len: value.len as u32,
                        id: value.id,
                        creation_time: value.creation_time,
                        record_type: value.record_type,
                        is_compact: value.is_compact,
                    });
                    self.read += value.len;
                    self.record_bytes += value.len as u64;
                    self.record_count += 1;
                    self.place = Place::Between;
                }
            },
        }
        true
    }

    fn skip_from_here(&mut self, reason: String) {
        self.skipping = Some(Skipping {
            skipper: Skipper::default(),
            reason,
            kept: Vec::new(),
            total_bytes: 0,
        });
    }

    /// Goes on to the end of the undecodable stretch. False when more bytes are needed.
    fn skip_on(&mut self) -> bool {
        let Some(mut skipping) = self.skipping.take() else {
            return true;
        };
        let rest = &self.buffer[self.read..self.filled];
        let (taken, ended) = skipping.skipper.skip(rest);
        let keep = taken.min(self.limits.kept_bytes - skipping.kept.len());
        skipping.kept.extend_from_slice(&rest[..keep]);
        skipping.total_bytes += taken as u64;
        self.read += taken;
        if !ended {
            self.skipping = Some(skipping);
            return false;
        }
        let mut reason = skipping.reason;
        if skipping.total_bytes > skipping.kept.len() as u64 {
            reason.push_str(&format!(
                " (the first {} of {} bytes are kept)",
                skipping.kept.len(),
                skipping.total_bytes
            ));
        }
        let index_in_array = self.record_count + self.undecodable_count;
        self.undecodable.push(Undecodable {
            index_in_array,
            reason,
            bytes: skipping.kept,
        });
        self.undecodable_count += 1;
        self.place = Place::Between;
        true
    }
}
