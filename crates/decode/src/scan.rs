//! The common case, fast: whole records without white space between their tokens, one behind the other, some blocks of
//! sixty-four bytes at a time. What it takes for a record is one, and it says of it what [`crate::json::walk`] says; for
//! anything else, be it malformed, spaced or cut off, it finds nothing, and the walk decides. So there is one place that
//! knows every reason why a record is none, and this is not it.
//!
//! How: blocks become masks of bits, and the masks say which bytes do not keep to the rules that hold between neighbors
//! ([`chunk`]). What remains is which container a byte is in: that only brackets are looked at singly for, here.

mod chunk;
#[cfg(test)]
mod tests;

use self::chunk::{CHUNK, Chunk};
use crate::json::plain_len;
use crate::masks::{Avx2, BLOCK, Plain, Processor, Work};
use crate::{FieldSpan, RecordSpan};

/// Puts the records that begin at `start`, a `{`, into `spans`, for as long as there is nothing but a comma between them.
/// Where the last of them ends; `start` if there is none.
pub(super) fn scan(text: &[u8], start: usize, spans: &mut Vec<RecordSpan>) -> usize {
    match Avx2::detect() {
        Some(avx2) => scan_on(avx2, text, start, spans),
        None => scan_on(Plain, text, start, spans),
    }
}

fn scan_on(
    processor: impl Processor,
    text: &[u8],
    start: usize,
    spans: &mut Vec<RecordSpan>,
) -> usize {
    let mut chunk = Chunk::new(start);
    let mut records = Records {
        text,
        spans,
        end: start,
        stack: OUTSIDE,
        deepest: 0,
        mismatch: 0,
        start,
        span: begun(),
    };
    loop {
        let rest = text.get(chunk.base..).unwrap_or_default();
        let mut last;
        let (bytes, goes_on) = match rest.first_chunk() {
            Some(bytes) => (bytes, true),
            None => {
                // What the text ends in, filled up with what is in no record.
                last = [b' '; CHUNK];
                for (to, from) in last.iter_mut().zip(rest) {
                    *to = *from;
                }
                (&last, false)
            }
        };
        processor.run(Read {
            chunk: &mut chunk,
            bytes,
            text,
        });
        let keeps_rules = processor.run(Find {
            records: &mut records,
            chunk: &chunk,
            bytes,
        });
        if !keeps_rules || !goes_on {
            return records.end;
        }
        chunk.base += CHUNK;
    }
}

/// Makes masks of a chunk.
struct Read<'a> {
    chunk: &'a mut Chunk,
    bytes: &'a [u8; CHUNK],
    text: &'a [u8],
}

impl Work for Read<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, processor: impl Processor) {
        self.chunk.read(processor, self.bytes, self.text);
    }
}

/// Finds the records that end in a chunk.
struct Find<'a, 'text> {
    records: &'a mut Records<'text>,
    chunk: &'a Chunk,
    bytes: &'a [u8; CHUNK],
}

impl Work for Find<'_, '_> {
    type Output = bool;

    #[inline(always)]
    fn run(self, processor: impl Processor) -> bool {
        self.records.find(processor, self.chunk, self.bytes)
    }
}

/// No container but the one that the records are in, which counts as an array.
const OUTSIDE: u64 = 0b10;

struct Records<'a> {
    text: &'a [u8],
    spans: &'a mut Vec<RecordSpan>,
    /// Where the last record ends.
    end: usize,
    /// The containers around a byte, one bit for each, the innermost lowest: 1 for an object. A 1 above them all, so that one
    /// word tells the depth too; a record that is too deep for the word is left to the walk.
    stack: u64,
    /// All bits that were ever set in `stack`: the highest, when it could not hold a container more.
    deepest: u64,
    /// Not zero when a bracket closed another kind of container than its own.
    mismatch: u64,
    /// The record at hand: where it begins, and what is known of it.
    start: usize,
    span: RecordSpan,
}

impl Records<'_> {
    /// Goes through the chunk, bracket by bracket. False when something in it does not keep to the rules, or would take a
    /// closer look.
    #[inline(always)]
    fn find(&mut self, processor: impl Processor, chunk: &Chunk, bytes: &[u8; CHUNK]) -> bool {
        let (mut stack, mut mismatch, mut deepest) = (self.stack, self.mismatch, self.deepest);
        let (blocks, _) = bytes.as_chunks::<BLOCK>();
        for (number, (block, masks)) in blocks.iter().zip(chunk.blocks()).enumerate() {
            let base = chunk.base + number * BLOCK;
            let bad = masks.bad | masks.bad_scalars(processor, block, self.text, base);
            let before = stack;
            let mut names = masks.name;
            // Where the innermost container is an object.
            let mut in_object = 0_u64.wrapping_sub(stack & 1);
            for at in Bits(masks.bracket) {
                // No branch on what bracket it is: none could be foreseen.
                let byte = u64::from(block[at % BLOCK]);
                let is_object = byte >> 5 & 1;
                let twice_close = byte >> 1 & 2;
                let around = stack;
                stack = (around << 1 | is_object) >> twice_close;
                mismatch |= (around ^ is_object) << 1 & twice_close;
                deepest |= stack;
                let behind = (u64::MAX - 1) << at;
                in_object ^= 0_u64.wrapping_sub((around ^ stack) & 1) & behind;
                if stack == OUTSIDE {
                    let bad = (bad | masks.misplaced(in_object)) & !behind;
                    if bad | mismatch | deepest >> 63 != 0 {
                        return false;
                    }
                    for at in Bits(names & !behind) {
                        if masks.depth(at, before) == 1 && !self.field(chunk, number * BLOCK + at) {
                            return false;
                        }
                    }
                    names &= behind;
                    if !self.ended(base + at + 1) {
                        return false;
                    }
                }
            }
            if bad | masks.misplaced(in_object) != 0 {
                return false;
            }
            for at in Bits(names) {
                if masks.depth(at, before) == 1 && !self.field(chunk, number * BLOCK + at) {
                    return false;
                }
            }
        }
        (self.stack, self.mismatch, self.deepest) = (stack, mismatch, deepest);
        mismatch | deepest >> 63 == 0
    }

    /// Takes the record at hand, which ends there. Whether another begins behind a comma.
    #[inline(never)]
    fn ended(&mut self, end: usize) -> bool {
        let (Ok(start), Ok(len)) = (
            u32::try_from(self.start),
            u32::try_from(end.saturating_sub(self.start)),
        ) else {
            return false;
        };
        let span = std::mem::replace(&mut self.span, begun());
        self.spans.push(RecordSpan { start, len, ..span });
        self.end = end;
        self.start = end + 1;
        self.text.get(end..end + 2) == Some(b",{")
    }

    /// Reads the field of the record's own whose name may stand before this colon. False when it would take a closer look.
    #[inline(never)]
    fn field(&mut self, chunk: &Chunk, place: usize) -> bool {
        const ID: u32 = u32::from_le_bytes(*b"\"Id\"");
        const TIME: u32 = u32::from_le_bytes(*b"ime\"");
        const TYPE: u32 = u32::from_le_bytes(*b"ype\"");
        let at = chunk.base + place;
        let Some(before) = self.text.get(self.start..at) else {
            return false;
        };
        // Four bytes tell nearly all names apart from these.
        let Some(end) = before.last_chunk() else {
            return true;
        };
        match u32::from_le_bytes(*end) {
            ID if ends_with_name(before, b"\"Id\"") => {
                let span = self.string(chunk, place + 1);
                span.map(|span| self.span.id = span).is_some()
            }
            TIME if ends_with_name(before, b"\"CreationTime\"") => {
                let span = self.string(chunk, place + 1);
                span.map(|span| self.span.creation_time = span).is_some()
            }
            TYPE if ends_with_name(before, b"\"RecordType\"") => {
                let number = whole_number_at(self.text, at + 1);
                number
                    .map(|number| self.span.record_type = number)
                    .is_some()
            }
            _ => true,
        }
    }

    /// The string there, or none where another kind of value is.
    #[inline(always)]
    fn string(&self, chunk: &Chunk, place: usize) -> Option<FieldSpan> {
        let at = chunk.base + place;
        if *self.text.get(at)? != b'"' {
            return Some(FieldSpan::default());
        }
        match chunk.quote_behind(place) {
            Some(quote) => Some(FieldSpan {
                start: u32::try_from(at + 1 - self.start).ok()?,
                len: u32::try_from(quote - place - 1).ok()?,
            }),
            None => string_at(self.text, self.start, at),
        }
    }
}

/// A record of which nothing is known.
fn begun() -> RecordSpan {
    RecordSpan {
        start: 0,
        len: 0,
        id: FieldSpan::default(),
        creation_time: FieldSpan::default(),
        record_type: None,
        is_compact: true,
    }
}

/// The bits of a mask, from the lowest on, as offsets.
struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let at = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(at as usize)
    }
}

fn ends_with_name(before: &[u8], name: &[u8]) -> bool {
    // Behind a backslash its first quote would be in the middle of a longer name.
    before
        .strip_suffix(name)
        .is_some_and(|before| before.last() != Some(&b'\\'))
}

/// The string at `at`, a quote.
#[cold]
#[inline(never)]
fn string_at(text: &[u8], start: usize, at: usize) -> Option<FieldSpan> {
    let mut end = at + 1;
    loop {
        end += plain_len(text.get(end..)?);
        match text.get(end)? {
            b'"' => break,
            b'\\' => end += 2,
            _ => return None,
        }
    }
    Some(FieldSpan {
        start: u32::try_from(at + 1 - start).ok()?,
        len: u32::try_from(end - at - 1).ok()?,
    })
}

/// The whole number at `at`, or none where another kind of value is.
#[inline(always)]
fn whole_number_at(text: &[u8], at: usize) -> Option<Option<i64>> {
    let digit = |byte: &u8| i64::from(*byte - b'0');
    match text.get(at..)? {
        [one @ b'0'..=b'9', b',' | b'}', ..] => Some(Some(digit(one))),
        [ten @ b'1'..=b'9', one @ b'0'..=b'9', b',' | b'}', ..] => {
            Some(Some(digit(ten) * 10 + digit(one)))
        }
        _ => long_number_at(text, at),
    }
}

/// As `whole_number_at`, of any length.
#[inline(never)]
fn long_number_at(text: &[u8], at: usize) -> Option<Option<i64>> {
    let rest = text.get(at..)?;
    if !matches!(rest.first()?, b'-' | b'0'..=b'9') {
        return Some(None);
    }
    let number = rest.get(..number_len(rest)?)?;
    Some(std::str::from_utf8(number).ok()?.parse().ok())
}

/// The length of the number at the start of `text`; nothing if there is none, or if it may go on behind the text's end.
fn number_len(text: &[u8]) -> Option<usize> {
    let mut at = usize::from(text.first() == Some(&b'-'));
    if text.get(at) == Some(&b'0') {
        at += 1;
    } else {
        at = digits_end(text, at)?;
    }
    if *text.get(at)? == b'.' {
        at = digits_end(text, at + 1)?;
    }
    if matches!(text.get(at)?, b'e' | b'E') {
        at += 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        at = digits_end(text, at)?;
    }
    Some(at)
}

/// Behind the digits at `at`, of which there must be one.
fn digits_end(text: &[u8], at: usize) -> Option<usize> {
    let digits = text
        .get(at..)?
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let count = digits.count();
    (count > 0).then_some(at + count)
}
