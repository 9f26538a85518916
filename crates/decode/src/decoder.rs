//! A blob that arrives piece by piece: its buffer, which grows up to a part's size and becomes the part.

use crate::elements::{Elements, Full};
use crate::{Broken, Limits, RawPart, Totals, Undecodable, first_bytes};

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
    elements: Elements,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were written.
    filled: usize,
}

impl Decoder {
    /// A decoder for one blob.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            elements: Elements::new(limits),
            buffer: Vec::new(),
            filled: 0,
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
            let wanted = match self.elements.is_behind_first_part() {
                false => (self.buffer.len() * 4).max(first_bytes(part_bytes)),
                true => part_bytes,
            };
            return Advance::Grow(wanted.min(part_bytes));
        }
        match self.elements.read_full(&self.buffer) {
            Full::Part => Advance::Part(self.cut()),
            Full::Dropped => {
                let read = self.elements.read_bytes();
                self.buffer.copy_within(read.., 0);
                self.filled -= read;
                self.elements.drop_read();
                Advance::Read
            }
            Full::TooShort => Advance::Grow(self.buffer.len() * 2),
            Full::Broken => Advance::Broken,
        }
    }

    /// Makes the buffer `bytes` long.
    pub fn grow(&mut self, bytes: usize) {
        // Zeros asked for as such are no memory yet: of a buffer for one long record only what is written counts.
        drop(self.grow_into(vec![0; bytes]));
    }

    /// As [`Decoder::grow`], into a buffer that is at hand, and no shorter than the present one.
    /// The present one is given back.
    pub fn grow_into(&mut self, mut buffer: Vec<u8>) -> Vec<u8> {
        let filled = self.buffer.get(..self.filled).unwrap_or_default();
        match buffer.get_mut(..self.filled) {
            Some(head) => {
                head.copy_from_slice(filled);
                std::mem::replace(&mut self.buffer, buffer)
            }
            None => buffer,
        }
    }

    /// How long the buffer is.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The undecodable stretches found since the last call.
    pub fn take_undecodable(&mut self) -> Vec<Undecodable> {
        self.elements.take_undecodable()
    }

    /// All bytes are written: reads the rest. The last part (if it has records), the totals, and what is wrong with
    /// the array as a whole together with the bytes that could not be placed.
    pub fn finish(&mut self) -> (Option<RawPart>, Totals, Option<Broken>) {
        let window = self.buffer.get(..self.filled).unwrap_or_default();
        let (totals, broken) = self.elements.finish(window);
        let part = self.elements.has_records().then(|| self.cut());
        (part, totals, broken)
    }

    /// Takes the records read so far out as a part; what is not read yet moves to a buffer of its own.
    fn cut(&mut self) -> RawPart {
        let read = self.elements.read_bytes();
        let rest = &self.buffer[read..self.filled];
        let first_bytes = first_bytes(self.limits.part_bytes);
        let mut next = match rest.len() {
            0 => Vec::new(),
            len => vec![0; len.max(first_bytes)],
        };
        next[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
        let mut text = std::mem::replace(&mut self.buffer, next);
        text.truncate(read);
        if self.filled > first_bytes {
            // The memory that a long record's head has taken is its own.
            text.shrink_to_fit();
        }
        let (first_record, spans) = self.elements.cut();
        RawPart {
            first_record,
            text,
            spans,
        }
    }
}
