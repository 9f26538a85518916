//! The walk along the array: which bytes are a record, which are none, and where a part ends.

use crate::json::{self, Walk};
use crate::skip::Skipper;
use crate::{Broken, Error, Limits, RawPart, RecordSpan, Totals, Undecodable, first_bytes};

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
pub enum Advance {
    /// There is room: write more bytes into it.
    Read,
    /// A part is full and leaves; the decoder goes on in a buffer of its own.
    Part(RawPart),
    /// The buffer is to grow to this many bytes, by a call of [`Decoder::grow`]: up to a part's size as the blob turns out to
    /// be longer, and past it for a record that is.
    Grow(usize),
    /// The bytes are no array; more of them would not help.
    Broken,
}

/// Reads one blob. The caller writes bytes into [`Decoder::room`], says how many with [`Decoder::filled`], and asks
/// [`Decoder::advance`] what to do next; at the end of the bytes, [`Decoder::finish`].
#[derive(Debug)]
pub struct Decoder {
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

impl Decoder {
    /// A decoder for one blob.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            buffer: Vec::new(),
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
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// `count` bytes were written into [`Decoder::room`].
    pub fn filled(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.buffer.len());
    }

    /// Reads what is there once the buffer is full. Not before: a record cut off by the end of the bytes is walked
    /// again when more are there, and a full buffer cuts off one in hundreds.
    pub fn advance(&mut self) -> Advance {
        if self.filled < self.buffer.len() {
            return Advance::Read;
        }
        let part_bytes = self.limits.part_bytes;
        if self.buffer.len() < part_bytes {
            // What goes on behind a first part is long.
            let wanted = match self.first_record {
                0 => (self.buffer.len() * 4).max(first_bytes(part_bytes)),
                _ => part_bytes,
            };
            return Advance::Grow(wanted.min(part_bytes));
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
    pub fn grow(&mut self, bytes: usize) {
        // Zeros asked for as such are no memory yet: of a buffer for one long record only what is written counts.
        self.grow_into(vec![0; bytes]);
    }

    /// As [`Decoder::grow`], into a buffer that is at hand, and no shorter than the present one.
    pub fn grow_into(&mut self, mut buffer: Vec<u8>) {
        let filled = self.buffer.get(..self.filled).unwrap_or_default();
        if let Some(head) = buffer.get_mut(..self.filled) {
            head.copy_from_slice(filled);
            self.buffer = buffer;
        }
    }

    /// How long the buffer is.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The undecodable stretches found since the last call.
    pub fn take_undecodable(&mut self) -> Vec<Undecodable> {
        std::mem::take(&mut self.undecodable)
    }

    /// All bytes are written: reads the rest. The last part (if it has records), the totals, and what is wrong with
    /// the array as a whole together with the bytes that could not be placed.
    pub fn finish(&mut self) -> (Option<RawPart>, Totals, Option<Broken>) {
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
        let part = (!self.spans.is_empty()).then(|| self.cut());
        let totals = Totals {
            record_count: self.record_count,
            undecodable_count: self.undecodable_count,
            byte_count: self.record_bytes,
        };
        (part, totals, broken)
    }

    /// Takes the records read so far out as a part; what is not read yet moves to a buffer of its own.
    fn cut(&mut self) -> RawPart {
        let rest = &self.buffer[self.read..self.filled];
        let first_bytes = first_bytes(self.limits.part_bytes);
        let mut next = match rest.len() {
            0 => Vec::new(),
            len => vec![0; len.max(first_bytes)],
        };
        next[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
        let mut text = std::mem::replace(&mut self.buffer, next);
        text.truncate(self.read);
        if self.filled > first_bytes {
            // The memory that a long record's head has taken is its own.
            text.shrink_to_fit();
        }
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
        #[cfg(target_arch = "x86_64")]
        let mut scanner = crate::scan::Scanner::new();
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
                #[cfg(target_arch = "x86_64")]
                (Place::First | Place::Element, b'{') if self.scan(&mut scanner) => {}
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

    /// Reads the records that begin here, as many as are easily read. False when there is none.
    #[cfg(target_arch = "x86_64")]
    fn scan(&mut self, scanner: &mut crate::scan::Scanner) -> bool {
        let text = &self.buffer[..self.filled];
        let known = self.spans.len();
        self.read = scanner.scan(text, self.read, &mut self.spans);
        for span in &self.spans[known..] {
            self.record_bytes += u64::from(span.len);
            self.record_count += 1;
            self.place = Place::Between;
        }
        self.spans.len() > known
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
