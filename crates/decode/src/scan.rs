//! The common case, fast: whole records without white space between their tokens, one behind the other, sixty-four bytes
//! at a time. What it takes for a record is one, and it says of it what [`crate::json::walk`] says; for anything else, be it
//! malformed, spaced or cut off, it finds nothing, and the walk decides. So there is one place that knows every reason why
//! a record is none, and this is not it.
//!
//! How: a block's bytes become masks of bits. Quotes that no backslash escapes, xor-ed from the left, give what lies within
//! strings, as [simdjson](https://arxiv.org/abs/1902.08318) showed. JSON's grammar then is, almost, a rule about
//! neighbors: a value stands behind a bracket, a comma or a colon, a comma behind a value, and so on; shifted by one and
//! combined, the masks say for 64 bytes at once whether it is kept. What remains is whether a stretch between two brackets is
//! an object's or an array's, and that only brackets are looked at singly for.

#[cfg(test)]
mod tests;

use crate::json::plain_len;
use crate::masks::{Avx2, BLOCK, Masks, Plain, Processor, Work};
use crate::{FieldSpan, RecordSpan};

/// How deep a record may nest here: the stack is one word.
const MAX_DEPTH: u32 = 64;

/// Puts the records that begin at `start`, a `{`, into `spans`, for as long as there is nothing but a comma between them.
/// Where the last of them ends; `start` if there is none.
pub(super) fn scan(text: &[u8], start: usize, spans: &mut Vec<RecordSpan>) -> usize {
    let scan = Scan { text, start, spans };
    match Avx2::detect() {
        Some(avx2) => avx2.run(scan),
        None => scan.run(Plain),
    }
}

struct Scan<'a> {
    text: &'a [u8],
    start: usize,
    spans: &'a mut Vec<RecordSpan>,
}

impl Work for Scan<'_> {
    type Output = usize;

    #[inline(always)]
    fn run(self, processor: impl Processor) -> usize {
        let (mut next, mut end) = (self.start, self.start);
        while let Some(span) = record(processor, self.text, next) {
            end = next + span.len as usize;
            self.spans.push(span);
            if self.text.get(end..end + 2) != Some(b",{") {
                break;
            }
            next = end + 1;
        }
        end
    }
}

/// What stands in a block of the text. Nothing where the text has ended.
#[inline(always)]
fn block(processor: impl Processor, text: &[u8], base: usize) -> Option<Masks> {
    let last;
    let block = match text.get(base..).and_then(|rest| rest.first_chunk()) {
        Some(block) => block,
        None => {
            last = last_block(text, base)?;
            &last
        }
    };
    Some(processor.masks(block))
}

/// A block that the text ends in, filled up with zeros, which are in no record.
#[cold]
fn last_block(text: &[u8], base: usize) -> Option<[u8; BLOCK]> {
    let rest = text.get(base..).filter(|rest| !rest.is_empty())?;
    let mut last = [0; BLOCK];
    last.get_mut(..rest.len())?.copy_from_slice(rest);
    Some(last)
}

/// The record that begins at `start`.
#[inline(always)]
fn record(processor: impl Processor, text: &[u8], start: usize) -> Option<RecordSpan> {
    let mut span = RecordSpan {
        start: u32::try_from(start).ok()?,
        len: 0,
        id: FieldSpan::default(),
        creation_time: FieldSpan::default(),
        record_type: None,
        is_compact: true,
    };
    let mut before = Before::default();
    let mut nesting = Nesting::default();
    let mut is_ascii = true;
    let mut base = start / BLOCK * BLOCK;
    // The bits that are the record's; behind its first byte, those that must keep the rules.
    let mut own = u64::MAX << (start % BLOCK);
    let mut ruled = own & own << 1;
    loop {
        let masks = block(processor, text, base)?;
        let mut bad = masks.control;

        let mut escaped = 0;
        if masks.backslash & own | before.escape != 0 {
            escaped = before.escaped(masks.backslash & own);
            for at in Bits(escaped & own & !(masks.quote | masks.backslash)) {
                if !is_escape(text, base + at) {
                    bad |= 1 << at;
                }
            }
        }
        let quote = masks.quote & own & !escaped;
        // From the opening quote on, without the closing one.
        let string = before.within(processor, quote);
        let (string_start, string_end) = (quote & string, quote & !string);
        let outside = own & !(string | quote);
        let colon = masks.colon & outside;
        let comma = masks.comma & outside;
        let open = masks.open & outside;
        let close = masks.close & outside;
        // Numbers and literals, and whatever else does not belong there.
        let scalar = outside & !(colon | comma | open | close);

        let behind_open = shifted(open, &mut before.open);
        let behind_comma = shifted(comma, &mut before.comma);
        let behind_colon = shifted(colon, &mut before.colon);
        let behind_value = shifted(string_end | scalar | close, &mut before.value);
        let scalar_start = scalar & !shifted(scalar, &mut before.scalar);
        for at in Bits(scalar_start) {
            if !is_scalar(text, base + at) {
                bad |= 1 << at;
            }
        }
        // Strings that may be a member's name, for all that stands before them.
        let name_start = string_start & (behind_open | behind_comma);
        let name_end = through(string, name_start, &mut before.name) & string_end;
        let behind_name = shifted(name_end, &mut before.name_end);

        bad |= (string_start | open | scalar_start) & !(behind_open | behind_comma | behind_colon)
            | comma & !behind_value
            | close & !(behind_value | behind_open)
            | colon & !behind_name;
        bad &= ruled;
        // A value that is no member's: its container is an array, as a colon's is an object.
        let in_array = (open | scalar_start) & (behind_open | behind_comma) | behind_name & !colon;

        let mut rest = own;
        for at in Bits(open | close) {
            let bit = 1 << at;
            let upto = bit | (bit - 1);
            let stretch = rest & upto;
            rest &= !upto;
            bad |= stretch & nesting.misplaced(in_array, colon);
            if nesting.depth == 1 {
                read_fields(text, start, base, colon & stretch, &mut span)?;
            }
            let is_object = is_brace(*text.get(base + at)?);
            if open & bit != 0 {
                nesting.enter(is_object)?;
            } else {
                nesting.leave(is_object)?;
                if nesting.depth == 0 {
                    is_ascii &= masks.high & own & upto == 0;
                    if bad & upto != 0 {
                        return None;
                    }
                    let text = text.get(start..=base + at)?;
                    if !is_ascii && simdutf8::basic::from_utf8(text).is_err() {
                        return None;
                    }
                    span.len = u32::try_from(text.len()).ok()?;
                    return Some(span);
                }
            }
        }
        bad |= rest & nesting.misplaced(in_array, colon);
        if bad != 0 {
            return None;
        }
        if nesting.depth == 1 {
            read_fields(text, start, base, colon & rest, &mut span)?;
        }
        is_ascii &= masks.high & own == 0;
        base += BLOCK;
        own = u64::MAX;
        ruled = u64::MAX;
    }
}

/// What the blocks before leave to the next: each a single bit, save `string`.
#[derive(Default)]
struct Before {
    /// The last byte was a backslash that escapes.
    escape: u64,
    /// All ones within a string.
    string: u64,
    /// Within a string that may be a name.
    name: u64,
    open: u64,
    comma: u64,
    colon: u64,
    value: u64,
    scalar: u64,
    name_end: u64,
}

impl Before {
    /// Which bytes are escaped, given the backslashes. Of a row of them each second one is.
    fn escaped(&mut self, backslash: u64) -> u64 {
        const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
        let may_escape = backslash & !self.escape;
        // The subtraction ripples through a row to its end, and with it goes whether the row began at an odd place.
        let ends = ((may_escape << 1 | ODD).wrapping_sub(may_escape)) ^ ODD;
        let escaped = ends ^ (backslash | self.escape);
        self.escape = (ends & backslash) >> 63;
        escaped
    }

    /// Which bytes are within strings, given the quotes that begin and end them.
    #[inline(always)]
    fn within(&mut self, processor: impl Processor, quote: u64) -> u64 {
        let string = processor.xor_of_lower(quote) ^ self.string;
        self.string = 0_u64.wrapping_sub(string >> 63);
        string
    }
}

/// Each bit moved to the byte behind its own, over the block's border too.
#[inline(always)]
fn shifted(mask: u64, carry: &mut u64) -> u64 {
    let shifted = mask << 1 | *carry;
    *carry = mask >> 63;
    shifted
}

/// Moves each bit of `starts` to the byte behind the run of `runs` that begins there: what is added to the lowest bit of a row
/// of ones comes out behind the highest.
#[inline(always)]
fn through(runs: u64, starts: u64, carry: &mut u64) -> u64 {
    let (sum, over) = runs.overflowing_add(starts | *carry);
    *carry = u64::from(over);
    sum
}

/// The containers around a byte.
#[derive(Default)]
struct Nesting {
    depth: u32,
    /// One bit for each, the innermost lowest: 1 for an object.
    objects: u64,
}

impl Nesting {
    fn enter(&mut self, is_object: bool) -> Option<()> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(is_object);
        Some(())
    }

    fn leave(&mut self, is_object: bool) -> Option<()> {
        if is_object != (self.objects & 1 == 1) {
            return None;
        }
        self.depth -= 1;
        self.objects >>= 1;
        Some(())
    }

    /// What is not to be in the innermost container.
    fn misplaced(&self, in_array: u64, in_object: u64) -> u64 {
        if self.objects & 1 == 1 {
            in_array
        } else {
            in_object
        }
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

/// Of the four brackets, whether it is an object's.
fn is_brace(bracket: u8) -> bool {
    bracket & (b'{' ^ b'[') != 0
}

/// Whether what stands behind a backslash may stand there.
fn is_escape(text: &[u8], at: usize) -> bool {
    match text.get(at) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => true,
        Some(b'u') => text
            .get(at + 1..at + 5)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)),
        _ => false,
    }
}

/// Whether a number or a literal stands there, and behind it what may follow a value.
fn is_scalar(text: &[u8], at: usize) -> bool {
    let rest = text.get(at..).unwrap_or_default();
    let ends = |len: usize| matches!(rest.get(len), Some(b',' | b'}' | b']'));
    match rest.first() {
        // Most numbers have one digit.
        Some(b'0'..=b'9') if ends(1) => true,
        Some(b'-' | b'0'..=b'9') => number_len(rest).is_some_and(ends),
        Some(b't') => rest.starts_with(b"true") && ends(4),
        Some(b'f') => rest.starts_with(b"false") && ends(5),
        Some(b'n') => rest.starts_with(b"null") && ends(4),
        _ => false,
    }
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

/// Reads the fields that these colons, of a record's own members, are before. Nothing when it would take a closer look.
#[inline(always)]
fn read_fields(
    text: &[u8],
    start: usize,
    base: usize,
    colons: u64,
    span: &mut RecordSpan,
) -> Option<()> {
    const ID: u32 = u32::from_le_bytes(*b"\"Id\"");
    const TIME: u32 = u32::from_le_bytes(*b"ime\"");
    const TYPE: u32 = u32::from_le_bytes(*b"ype\"");
    for at in Bits(colons) {
        let at = base + at;
        let before = text.get(start..at)?;
        // Four bytes tell nearly all names apart from these.
        let Some(end) = before.last_chunk() else {
            continue;
        };
        match u32::from_le_bytes(*end) {
            ID if ends_with_name(before, b"\"Id\"") => {
                span.id = string_at(text, start, at + 1)?;
            }
            TIME if ends_with_name(before, b"\"CreationTime\"") => {
                span.creation_time = string_at(text, start, at + 1)?;
            }
            TYPE if ends_with_name(before, b"\"RecordType\"") => {
                span.record_type = whole_number_at(text, at + 1)?;
            }
            _ => {}
        }
    }
    Some(())
}

fn ends_with_name(before: &[u8], name: &[u8]) -> bool {
    // Behind a backslash its first quote would be in the middle of a longer name.
    before
        .strip_suffix(name)
        .is_some_and(|before| before.last() != Some(&b'\\'))
}

/// The string at `at`, or none where another kind of value is.
#[inline(never)]
fn string_at(text: &[u8], start: usize, at: usize) -> Option<FieldSpan> {
    if *text.get(at)? != b'"' {
        return Some(FieldSpan::default());
    }
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
#[inline(never)]
fn whole_number_at(text: &[u8], at: usize) -> Option<Option<i64>> {
    let rest = text.get(at..)?;
    if !matches!(rest.first()?, b'-' | b'0'..=b'9') {
        return Some(None);
    }
    let number = rest.get(..number_len(rest)?)?;
    Some(std::str::from_utf8(number).ok()?.parse().ok())
}
