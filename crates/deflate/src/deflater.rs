//! [`Deflater`]: bytes in, a finished stream out, and the account of how long it can become.

use crate::{
    bits::PartialByte,
    block::{
        self, EMPTY_BLOCK_BITS, MAX_STORED_BYTES, MOST_BITS_PER_LITERAL, NoRoom, STORED_HEAD_BYTES,
    },
    frame::{Checksum, Format},
    matches::{HISTORY_BYTES, LOOKAHEAD_BYTES, Matcher, POSITIONS, WINDOW_BYTES, Window},
    tokens::{MAX_BLOCK_BYTES, Tokens},
};

/// Where the window is full: what may be matched, a block, and what the next block's search looks ahead at.
const FULL: usize = HISTORY_BYTES + MAX_BLOCK_BYTES;
const _: () = assert!(FULL + LOOKAHEAD_BYTES <= POSITIONS);

/// Compressed bytes that `raw_bytes` have at most in this format, written at once.
#[must_use]
pub fn bound(format: Format, raw_bytes: usize) -> usize {
    // Blocks are no longer than what stored they need, and a byte when one ends within a byte and the next is stored.
    let blocks = raw_bytes.div_ceil(MAX_BLOCK_BYTES - LOOKAHEAD_BYTES) + 1;
    let stored = blocks * (MAX_BLOCK_BYTES.div_ceil(MAX_STORED_BYTES)) * (STORED_HEAD_BYTES + 1);
    format.frame_bytes() + raw_bytes + stored
}

/// A compressor, to be used for one stream after the other. It holds about half a MiB, and allocates nothing for a stream
/// but what it gives away, and not that where it is given a buffer for it ([`Deflater::write_to`]).
pub struct Deflater {
    format: Format,
    matcher: Matcher,
    tokens: Tokens,
    window: Box<[u8; WINDOW_BYTES]>,
    /// Where in the window the stream began,
    first: usize,
    /// and by how much the window has moved on since.
    moved: u64,
    /// Where the bytes in the window end,
    end: usize,
    /// up to where they are tokens,
    tokenized: usize,
    /// and up to where they are written.
    written: usize,
    /// Bits of `tokens` at most.
    token_bits: u64,
    checksum: Checksum,
    out: Vec<u8>,
    /// What the next stream is written to.
    next_out: Vec<u8>,
    partial: PartialByte,
    /// Bytes at the beginning of `out` for what is known at the end only.
    head_room: usize,
    /// What `out` may become, with the end of the format.
    max_bytes: usize,
    /// What is written now is dropped: nothing is begun, or there was no room.
    is_closed: bool,
    has_failed: bool,
}

/// A finished stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The stream, from `start` on.
    pub bytes: Vec<u8>,
    /// What stands before it has no meaning.
    pub start: usize,
}

impl Finished {
    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Deflater {
    /// A compressor with an empty stream of [`Format::Raw`] begun.
    #[must_use]
    pub fn new() -> Self {
        let window = vec![0; WINDOW_BYTES].into_boxed_slice();
        Self {
            format: Format::Raw,
            matcher: Matcher::new(),
            tokens: Tokens::new(),
            window: window.try_into().expect("it has this length"),
            first: HISTORY_BYTES,
            moved: 0,
            end: HISTORY_BYTES,
            tokenized: HISTORY_BYTES,
            written: HISTORY_BYTES,
            token_bits: 0,
            checksum: Checksum::Raw,
            out: Vec::new(),
            next_out: Vec::new(),
            partial: PartialByte::default(),
            head_room: 0,
            max_bytes: usize::MAX,
            is_closed: false,
            has_failed: false,
        }
    }

    /// All of `raw` as one stream, appended to `out`.
    ///
    /// # Errors
    /// [`NoRoom`] when the stream would have more than `max_bytes`; `out` is as it was then.
    pub fn compress(
        &mut self,
        format: Format,
        raw: &[u8],
        out: &mut Vec<u8>,
        max_bytes: usize,
    ) -> Result<(), NoRoom> {
        let start = out.len();
        self.start_in(format, std::mem::take(out), 0);
        self.max_bytes = start.saturating_add(max_bytes);
        self.has_failed = self.out.len() > self.max_bytes;
        self.write(raw);
        self.close(&[]);
        *out = std::mem::take(&mut self.out);
        if self.has_failed {
            out.truncate(start);
            return Err(NoRoom);
        }
        Ok(())
    }

    /// Has the next stream written to this buffer, whatever is in it, for as long as it has room there.
    pub fn write_to(&mut self, buffer: Vec<u8>) {
        self.next_out = buffer;
        self.next_out.clear();
    }

    /// Begins a stream. One that was begun before and is not finished is dropped.
    pub fn start(&mut self, format: Format) {
        let out = std::mem::take(&mut self.next_out);
        self.start_in(format, out, 0);
    }

    /// Begins a stream before which [`Deflater::finish_with_head`] will put at most `head_room` bytes, 65,535 at most.
    ///
    /// # Panics
    /// When `head_room` is more.
    pub fn start_with_head(&mut self, format: Format, head_room: usize) {
        assert!(
            head_room <= MAX_STORED_BYTES,
            "a head has at most 65,535 bytes"
        );
        let out = std::mem::take(&mut self.next_out);
        self.start_in(format, out, head_room);
    }

    fn start_in(&mut self, format: Format, out: Vec<u8>, head_room: usize) {
        self.format = format;
        self.matcher.clear();
        self.tokens.clear();
        // Zeros in place of what the stream before left there: luck with it would make other bytes of the same stream.
        // A head goes before the first byte: into the window, as long as nothing is compressed.
        let first = HISTORY_BYTES + head_room;
        self.window[..first].fill(0);
        self.first = first;
        self.moved = 0;
        self.end = first;
        self.tokenized = first;
        self.written = first;
        self.token_bits = 0;
        self.checksum = Checksum::new(format);
        self.out = out;
        self.partial = PartialByte::default();
        self.head_room = head_room;
        self.max_bytes = usize::MAX;
        self.is_closed = false;
        self.has_failed = false;
        if head_room > 0 {
            let room = format.head().len() + STORED_HEAD_BYTES + head_room;
            self.out.resize(self.out.len() + room, 0);
        } else {
            self.out.extend_from_slice(format.head());
        }
    }

    /// Gives up the stream that was begun once it would have more than `max_bytes`, the room for its head included: what is
    /// written then is dropped. Whether that came to pass is known when it is finished: [`Deflater::was_given_up`].
    pub fn give_up_behind(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
    }

    /// Whether the stream that was finished last is not whole, because it was given up.
    #[must_use]
    pub fn was_given_up(&self) -> bool {
        self.has_failed
    }

    /// Takes more of the stream's bytes.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_closed {
            let (now, later) = bytes.split_at(bytes.len().min(FULL - self.end));
            self.window[self.end..self.end + now.len()].copy_from_slice(now);
            self.end += now.len();
            bytes = later;
            if self.end == FULL {
                self.tokenize_to(FULL - LOOKAHEAD_BYTES);
                self.end_block(false);
            }
        }
    }

    /// Bytes written since the stream began, without a head.
    #[must_use]
    pub fn raw_bytes(&self) -> u64 {
        self.moved + (self.end - HISTORY_BYTES - self.head_room) as u64
    }

    /// Whether the stream has at most `max_bytes` when `more` bytes are written and it is finished, whatever these bytes
    /// are. What was written is compressed for it only when it is not clear without.
    pub fn fits(&mut self, more: usize, max_bytes: usize) -> bool {
        if self.most_bytes(more) <= max_bytes {
            return true;
        }
        if self.tokenized < self.end {
            self.tokenize_to(self.end);
            self.token_bits = block::most_bits(&self.tokens);
            if self.most_bytes(more) <= max_bytes {
                return true;
            }
        }
        if self.written < self.end {
            self.end_block(false);
        }
        self.most_bytes(more) <= max_bytes
    }

    /// What the stream has at most when `more` bytes are written and it is finished.
    fn most_bytes(&self, more: usize) -> usize {
        let head = if self.is_untouched() {
            self.head_room
        } else {
            0
        };
        let literals = (self.end - self.tokenized + more + head) as u64;
        let blocks = 2 + literals / (MAX_BLOCK_BYTES / 2) as u64;
        let bits = u64::from(self.partial.bit_count())
            + self.token_bits
            + literals * MOST_BITS_PER_LITERAL
            + blocks * EMPTY_BLOCK_BITS;
        self.out.len() + bits.div_ceil(8) as usize + self.format.tail_bytes()
    }

    /// Ends the stream and gives it away.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        let finished = self.finish_with_head(&[]);
        debug_assert!(finished.start == 0, "a head has a way of its own to finish");
        finished.bytes
    }

    /// Ends the stream and gives it away, with `head` before everything that was written.
    ///
    /// # Panics
    /// When `head` is longer than the room that it was given.
    #[must_use]
    pub fn finish_with_head(&mut self, head: &[u8]) -> Finished {
        let start = self.close(head);
        Finished {
            start,
            bytes: std::mem::take(&mut self.out),
        }
    }

    /// Whatever is left into `out`, unless it does not fit. Where in `out` the stream begins.
    fn close(&mut self, head: &[u8]) -> usize {
        assert!(
            head.len() <= self.head_room,
            "a head of {} bytes has room for {}",
            head.len(),
            self.head_room
        );
        let raw_bytes = self.raw_bytes() + head.len() as u64;
        // What is compressed already stays as it is: the head goes before it into a block of its own, as it is.
        let is_stored = self.head_room > 0 && !self.is_untouched();
        if !is_stored && self.head_room > 0 {
            self.first -= head.len();
            self.window[self.first..self.tokenized].copy_from_slice(head);
            self.tokenized = self.first;
            self.written = self.first;
            self.out.clear();
            self.out.extend_from_slice(self.format.head());
        }
        self.tokenize_to(self.end);
        self.end_block(true);
        self.is_closed = true;
        if let Some(byte) = self.partial.last_byte() {
            self.out.push(byte);
        }
        let mut checksum = std::mem::replace(&mut self.checksum, Checksum::Raw);
        let mut start = 0;
        if is_stored {
            checksum.put_before(head, raw_bytes - head.len() as u64);
            start = self.head_room - head.len();
            let mut at = start;
            for part in [self.format.head(), &block::stored_head(head.len()), head] {
                self.out[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
        }
        checksum.append_tail(&mut self.out, raw_bytes);
        start
    }

    /// Whether nothing of the stream is compressed yet.
    fn is_untouched(&self) -> bool {
        self.moved == 0 && self.tokenized == self.first
    }

    fn tokenize_to(&mut self, end: usize) {
        if end <= self.tokenized {
            return;
        }
        // Behind the last byte that there is, what is compared must not depend on the stream before.
        let limit = self.end;
        if limit < end + LOOKAHEAD_BYTES {
            self.window[limit..limit + LOOKAHEAD_BYTES].fill(0);
        }
        let window = Window {
            bytes: &self.window,
            first: self.first,
            moved: self.moved,
        };
        self.tokenized = self
            .matcher
            .find(window, self.tokenized, end, limit, &mut self.tokens);
    }

    /// Writes the tokens as a block, and moves the window on when it is full.
    fn end_block(&mut self, is_last: bool) {
        let raw = &self.window[self.written..self.tokenized];
        let tail_bytes = self.format.tail_bytes();
        let max_bytes = self.max_bytes.saturating_sub(tail_bytes);
        let appended = block::append(
            &mut self.out,
            &mut self.partial,
            max_bytes,
            &self.tokens,
            raw,
            is_last,
        );
        self.checksum.update(raw);
        self.is_closed |= appended.is_err();
        self.has_failed |= appended.is_err();
        self.tokens.clear();
        self.token_bits = 0;
        self.written = self.tokenized;
        if self.end == FULL {
            let cut = self.written - HISTORY_BYTES;
            self.window.copy_within(cut..self.end, 0);
            self.end -= cut;
            self.tokenized -= cut;
            self.written -= cut;
            self.moved += cut as u64;
        }
    }
}

impl std::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflater")
            .field("format", &self.format)
            .field("raw_bytes", &self.raw_bytes())
            .field("compressed_bytes", &self.out.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
