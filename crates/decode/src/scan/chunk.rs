//! A stretch of text as masks: what does not keep to the rules that hold between neighbors, and what else the scan asks.
//!
//! Quotes that no backslash escapes, xor-ed from the left, give what lies within strings, as
//! [simdjson](https://arxiv.org/abs/1902.08318) showed. JSON's grammar then is, almost, a rule about neighbors: a value
//! stands behind an opening bracket, a comma or a colon, a comma behind a value, and so on. Shifted by one and combined, the
//! masks say for 64 bytes at once whether it is kept. That is done for some blocks in a row, one step after the other, so that
//! the compiler makes each step four blocks at once.

use super::{Bits, number_len};
use crate::masks::{BLOCK, Processor, mask};

/// Blocks in a chunk. Fewer, and each costs more; with twice as many a chunk and its masks no longer stay near.
const BLOCKS: usize = 32;

/// Bytes in a chunk.
pub(super) const CHUNK: usize = BLOCKS * BLOCK;

/// A word for each block, behind the last of the chunk before. Loops over them go from 1 to this, for a range with its end
/// (`1..=BLOCKS`) is not made into one over four words at once.
const WORDS: usize = BLOCKS + 1;

/// See [`WORDS`].
type Words = [u64; WORDS];

/// What is known of a chunk, and what the one before left to it.
pub(super) struct Chunk {
    /// Where in the text it begins.
    pub(super) base: usize,
    /// Quotes that begin or end a string.
    quote: Words,
    /// From the opening quote on, without the closing one.
    string: Words,
    // Outside of strings:
    /// As in [`crate::masks::Masks`].
    operator: Words,
    is_bracket: Words,
    is_first: Words,
    bracket: Words,
    open: Words,
    colon: Words,
    /// Opening brackets and commas: what an array's value or a member's name is behind.
    element: Words,
    /// Numbers and literals, and whatever else does not belong there.
    scalar: Words,
    scalar_start: Words,
    /// Strings that may be a member's name, for all that stands before them.
    name_start: Words,
    name_end: Words,
    /// Whether the block ends within such a string.
    in_name: Words,
    /// What may only be in an array. A colon may only be in an object.
    in_array: Words,
    /// Colons behind names as long as those of the fields that are read.
    name: Words,
    /// What does not keep to the rules.
    bad: Words,
    backslash: Words,
    /// The chunk ends with a backslash that escapes.
    escape: u64,
    /// All ones where the chunk ends within a string.
    in_string: u64,
    /// How many of the next chunk's bytes belong to a character that begins in this one.
    shared: usize,
}

/// What is known of one block.
pub(super) struct Block {
    /// Without numbers and literals that are none: [`Block::bad_scalars`].
    pub(super) bad: u64,
    pub(super) bracket: u64,
    pub(super) name: u64,
    scalar: u64,
    scalar_start: u64,
    open: u64,
    colon: u64,
    in_array: u64,
}

impl Block {
    /// What stands for a number or a literal and is none, in the block at `base`.
    #[inline(always)]
    pub(super) fn bad_scalars(
        &self,
        processor: impl Processor,
        block: &[u8; BLOCK],
        text: &[u8],
        base: usize,
    ) -> u64 {
        let mut bad = 0;
        if self.scalar_start != 0 {
            // Most numbers have one digit. That a token follows that may is one of the rules.
            let is_longer = self.scalar >> 1 | 1 << 63;
            let unusual = self.scalar & !processor.digits(block) | self.scalar_start & is_longer;
            if unusual != 0 {
                for at in Bits(self.scalar_start) {
                    bad |= u64::from(!is_scalar(text, base + at)) << at;
                }
            }
        }
        bad
    }

    /// What is in another kind of container than it may be.
    #[inline(always)]
    pub(super) fn misplaced(&self, in_object: u64) -> u64 {
        self.in_array & in_object | self.colon & !in_object
    }

    /// How many containers are around a byte, where `stack` is what was around the block's first.
    #[inline(always)]
    pub(super) fn depth(&self, at: usize, stack: u64) -> u32 {
        let before = (1_u64 << (at % BLOCK)) - 1;
        let (brackets, open) = (self.bracket & before, self.open & before);
        (62 + 2 * open.count_ones()).wrapping_sub(stack.leading_zeros() + brackets.count_ones())
    }
}

impl Chunk {
    /// To begin there, where a record does.
    pub(super) fn new(base: usize) -> Self {
        let none = [0; WORDS];
        let mut element = none;
        // As if behind a comma.
        if let Some(last) = element.last_mut() {
            *last = 1 << 63;
        }
        Self {
            base,
            quote: none,
            string: none,
            operator: none,
            is_bracket: none,
            is_first: none,
            bracket: none,
            open: none,
            colon: none,
            element,
            scalar: none,
            scalar_start: none,
            name_start: none,
            name_end: none,
            in_name: none,
            in_array: none,
            name: none,
            bad: none,
            backslash: none,
            escape: 0,
            in_string: 0,
            shared: 0,
        }
    }

    /// Reads the bytes at `base`, of which the text's last ones may be followed by spaces.
    #[inline(always)]
    pub(super) fn read(&mut self, processor: impl Processor, bytes: &[u8; CHUNK], text: &[u8]) {
        let (blocks, _) = bytes.as_chunks::<BLOCK>();
        let seldom = processor.seldom(blocks);
        for (at, block) in (1..WORDS).zip(blocks) {
            let masks = processor.masks(block);
            self.quote[at] = masks.quote;
            self.backslash[at] = masks.backslash;
            self.operator[at] = masks.operator;
            self.is_bracket[at] = masks.bracket;
            self.is_first[at] = masks.first;
        }
        self.bad = [0; WORDS];
        if seldom.has_control {
            self.read_controls(blocks);
        }
        if seldom.has_high {
            self.read_high(processor, blocks, text);
        }
        self.read_escapes(processor, blocks, text);
        let mut in_string = self.in_string;
        for at in 1..WORDS {
            let string = processor.xor_of_lower(self.quote[at]) ^ in_string;
            in_string = 0_u64.wrapping_sub(string >> 63);
            self.string[at] = string;
        }
        self.in_string = in_string;
        self.combine();
    }

    /// What is known of each block.
    #[inline(always)]
    pub(super) fn blocks(&self) -> impl Iterator<Item = Block> {
        (1..WORDS).map(|at| Block {
            bad: self.bad[at],
            bracket: self.bracket[at],
            name: self.name[at],
            scalar: self.scalar[at],
            scalar_start: self.scalar_start[at],
            open: self.open[at],
            colon: self.colon[at],
            in_array: self.in_array[at],
        })
    }

    /// The next quote that ends or begins a string, where this chunk has one.
    #[inline(always)]
    pub(super) fn quote_behind(&self, place: usize) -> Option<usize> {
        let (mut at, bit) = ((place + 1) / BLOCK + 1, (place + 1) % BLOCK);
        let mut quote = *self.quote.get(at)? & u64::MAX << bit;
        while quote == 0 {
            at += 1;
            quote = *self.quote.get(at)?;
        }
        Some((at - 1) * BLOCK + quote.trailing_zeros() as usize)
    }

    #[cold]
    #[inline(never)]
    fn read_controls(&mut self, blocks: &[[u8; BLOCK]]) {
        for (bad, block) in self.bad.iter_mut().skip(1).zip(blocks) {
            *bad |= mask(block, |byte| byte < b' ');
        }
    }

    /// Whether what is not ASCII is UTF-8. No more is looked at than from the first block with such bytes to the last.
    #[inline(always)]
    fn read_high(&mut self, processor: impl Processor, blocks: &[[u8; BLOCK]], text: &[u8]) {
        let mut high = 0_u32;
        for (at, block) in blocks.iter().enumerate() {
            high |= u32::from(processor.high(block) != 0) << at;
        }
        let shared = std::mem::take(&mut self.shared);
        let first = high.trailing_zeros() as usize;
        let last = BLOCKS - high.leading_zeros() as usize;
        let mut from = self.base + first * BLOCK;
        if first == 0 {
            from += shared;
        }
        let mut upto = (self.base + last * BLOCK).min(text.len());
        if last == BLOCKS {
            let rest = text.get(upto..).unwrap_or_default().iter().take(3);
            self.shared = rest.take_while(|byte| **byte & 0xc0 == 0x80).count();
            upto += self.shared;
        }
        let stretch = text.get(from..upto).unwrap_or_default();
        if simdutf8::basic::from_utf8(stretch).is_err() {
            self.find_no_character(stretch, from);
        }
    }

    /// Where the first byte is that no character begins with.
    #[cold]
    #[inline(never)]
    fn find_no_character(&mut self, stretch: &[u8], from: usize) {
        if let Err(error) = std::str::from_utf8(stretch) {
            let place = from + error.valid_up_to() - self.base;
            match self.bad.get_mut(place / BLOCK + 1) {
                Some(bad) => *bad |= 1 << (place % BLOCK),
                // The next chunk finds it.
                None => self.shared = place - CHUNK,
            }
        }
    }

    /// Takes the quotes that are escaped from those that begin and end strings.
    #[inline(always)]
    fn read_escapes(&mut self, processor: impl Processor, blocks: &[[u8; BLOCK]], text: &[u8]) {
        const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
        let mut escape = self.escape;
        for (at, block) in (1..WORDS).zip(blocks) {
            let backslash = self.backslash[at];
            if backslash | escape == 0 {
                continue;
            }
            // Of a row of backslashes each second one is escaped. The subtraction ripples through a row to its end, and
            // with it goes whether the row began at an odd place.
            let may_escape = backslash & !escape;
            let ends = ((may_escape << 1 | ODD).wrapping_sub(may_escape)) ^ ODD;
            let escaped = ends ^ (backslash | escape);
            escape = (ends & backslash) >> 63;
            self.quote[at] &= !escaped;
            for bit in Bits(escaped & !processor.escapes(block)) {
                if !is_long_escape(text, self.base + (at - 1) * BLOCK + bit) {
                    self.bad[at] |= 1 << bit;
                }
            }
        }
        self.escape = escape;
    }

    /// The rules. Each step is a loop of its own over words that do not depend on each other.
    #[inline(always)]
    fn combine(&mut self) {
        for words in [
            &mut self.open,
            &mut self.colon,
            &mut self.scalar,
            &mut self.element,
            &mut self.name_start,
            &mut self.name_end,
            &mut self.in_name,
        ] {
            words[0] = words[BLOCKS];
        }
        for at in 1..WORDS {
            let inside = self.string[at] | self.quote[at];
            let operator = self.operator[at] & !inside;
            let bracket = operator & self.is_bracket[at];
            let is_first = self.is_first[at];
            self.operator[at] = operator;
            self.bracket[at] = bracket;
            self.open[at] = bracket & is_first;
            self.colon[at] = operator & is_first & !bracket;
            self.element[at] = operator & !(bracket ^ is_first);
            self.scalar[at] = !(inside | operator);
        }
        // From the start of a name to its end: what is added to the lowest bit of a row of ones comes out behind the highest,
        // and is carried over to the next word from a row that has no end in its own.
        for at in 1..WORDS {
            let string = self.string[at];
            let start = self.quote[at] & string & behind(&self.element, at);
            let sum = string.wrapping_add(start);
            self.name_start[at] = start;
            self.in_name[at] = (string & start | (string | start) & !sum) >> 63;
        }
        let mut through = 0;
        for at in 1..WORDS {
            let (string, carry) = (self.string[at], self.in_name[at - 1]);
            let sum = string.wrapping_add(self.name_start[at]).wrapping_add(carry);
            self.name_end[at] = sum & self.quote[at] & !string;
            // It would have to be carried on, for which the sum without it is all ones, and with it none.
            through |= carry & (sum.wrapping_sub(1) & !sum) >> 63;
        }
        if through != 0 {
            self.end_long_names();
        }
        for at in 1..WORDS {
            let (operator, bracket) = (self.operator[at], self.bracket[at]);
            let (open, colon, scalar) = (self.open[at], self.colon[at], self.scalar[at]);
            let string_start = self.quote[at] & self.string[at];
            let scalar_start = scalar & !behind(&self.scalar, at);
            let behind_element = behind(&self.element, at);
            let behind_name = behind(&self.name_end, at);
            // Where a value may stand, and neither a comma nor, but for an empty container's, a closing bracket.
            let slot = behind_element | behind(&self.colon, at);
            let empty = bracket & behind(&self.open, at);
            self.bad[at] |= (string_start | open | scalar_start) & !slot
                | operator & !(open | colon | empty) & slot
                | colon & !behind_name;
            self.in_array[at] = (open | scalar_start) & behind_element | behind_name & !colon;
            self.scalar_start[at] = scalar_start;
            // `"Id":`, `"RecordType":`, `"CreationTime":`
            let is_long = |len: u32| {
                let len = len + 2;
                self.name_start[at] << len | self.name_start[at - 1] >> (64 - len)
            };
            self.name[at] = colon & (is_long(2) | is_long(10) | is_long(12));
        }
    }

    /// As the loops in `combine`, one word after the other.
    #[cold]
    #[inline(never)]
    fn end_long_names(&mut self) {
        for at in 1..WORDS {
            let string = self.string[at];
            let (sum, over) = string.overflowing_add(self.name_start[at]);
            let (sum, over_too) = sum.overflowing_add(self.in_name[at - 1]);
            self.in_name[at] = u64::from(over | over_too);
            self.name_end[at] = sum & self.quote[at] & !string;
        }
    }
}

/// Each bit moved to the byte behind its own, over the block's border too.
#[inline(always)]
fn behind(words: &Words, at: usize) -> u64 {
    words[at] << 1 | words[at - 1] >> 63
}

/// Whether what stands behind a backslash is a character's number.
fn is_long_escape(text: &[u8], at: usize) -> bool {
    text.get(at) == Some(&b'u')
        && text
            .get(at + 1..at + 5)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

/// Whether a number or a literal stands there, and behind it what may follow a value.
fn is_scalar(text: &[u8], at: usize) -> bool {
    let rest = text.get(at..).unwrap_or_default();
    let ends = |len: usize| matches!(rest.get(len), Some(b',' | b'}' | b']'));
    match rest.first() {
        Some(b'0'..=b'9') if ends(1) => true,
        Some(b'-' | b'0'..=b'9') => number_len(rest).is_some_and(ends),
        Some(b't') => rest.starts_with(b"true") && ends(4),
        Some(b'f') => rest.starts_with(b"false") && ends(5),
        Some(b'n') => rest.starts_with(b"null") && ends(4),
        _ => false,
    }
}
