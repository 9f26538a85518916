//! One block: what it costs in each of DEFLATE's three ways, and the cheapest of them written.

use crate::{
    bits::{BitWriter, MARGIN, PartialByte},
    huffman::{self, MAX_BITS},
    tokens::{
        DISTANCE_EXTRA_BITS, DISTANCE_SYMBOLS, END_OF_BLOCK, FIELD_VALUES, FIRST_LENGTH_SYMBOL,
        LENGTH_BASE, LENGTH_EXTRA_BITS, LENGTH_SLOT, LITERAL_SYMBOLS, Token, Tokens,
    },
};

/// Bytes that one stored block holds at most.
pub(crate) const MAX_STORED_BYTES: usize = 65_535;
/// Bytes of a stored block's head, filled up and without the bits that a byte before it has.
pub(crate) const STORED_HEAD_BYTES: usize = 5;
/// Bits in which a block says whether it is the last and of what kind it is.
const KIND_BITS: u32 = 3;

/// The two codes of a block.
struct Codes {
    literal_lengths: [u8; LITERAL_SYMBOLS],
    distance_lengths: [u8; DISTANCE_SYMBOLS],
}

/// Appends a block with these tokens, which stand for `raw`. The error is that it would make `out` longer than
/// `max_bytes`, the last byte filled up; nothing is appended then.
pub(crate) fn append(
    out: &mut Vec<u8>,
    partial: &mut PartialByte,
    max_bytes: usize,
    tokens: &Tokens,
    raw: &[u8],
    is_last: bool,
) -> Result<(), NoRoom> {
    let (literals, distances) = tokens.counts();
    let codes = Codes {
        literal_lengths: huffman::code_lengths(&literals, MAX_BITS),
        distance_lengths: huffman::code_lengths(&distances, MAX_BITS),
    };
    let header = Header::new(&codes);
    let own = u64::from(KIND_BITS) + header.bits() + codes.bits(&literals, &distances);
    let fixed = u64::from(KIND_BITS) + FIXED.bits(&literals, &distances);
    let stored = stored_bits(raw.len(), partial.bit_count());

    let bits = own.min(fixed).min(stored);
    let bytes = (u64::from(partial.bit_count()) + bits).div_ceil(8) as usize;
    let start = out.len();
    if bytes > max_bytes.saturating_sub(start) {
        return Err(NoRoom);
    }
    out.resize(start + bytes + MARGIN, 0);
    let mut writer = BitWriter::new(&mut out[start..], *partial);
    let kind = |kind: u64| kind << 1 | u64::from(is_last);
    if bits == stored {
        write_stored(&mut writer, raw, is_last);
    } else if bits == fixed {
        writer.put(kind(1), KIND_BITS);
        FIXED.write(&mut writer, tokens);
    } else {
        writer.put(kind(2), KIND_BITS);
        header.write(&mut writer);
        codes.write(&mut writer, tokens);
    }
    let (written, rest) = writer.finish();
    debug_assert_eq!(
        written as u64 * 8 + u64::from(rest.bit_count()),
        u64::from(partial.bit_count()) + bits
    );
    out.truncate(start + written);
    *partial = rest;
    Ok(())
}

/// That the compressed bytes do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the compressed bytes do not fit the room that there is for them")]
pub struct NoRoom;

/// Bits of tokens at most, whatever is in the block beside them: those that they have by the fixed code, without the
/// block's head and end.
pub(crate) fn most_bits(tokens: &Tokens) -> u64 {
    if tokens.is_empty() {
        return 0;
    }
    let (literals, distances) = tokens.counts();
    FIXED.bits(&literals, &distances)
}

/// Bits that one byte has at most by the fixed code.
pub(crate) const MOST_BITS_PER_LITERAL: u64 = 9;
/// Bits of a block's head and its end by the fixed code.
pub(crate) const EMPTY_BLOCK_BITS: u64 = KIND_BITS as u64 + 7;

/// DEFLATE's fixed codes.
const FIXED: Codes = {
    let mut literal_lengths = [8; LITERAL_SYMBOLS];
    let mut symbol = 144;
    while symbol < LITERAL_SYMBOLS {
        literal_lengths[symbol] = match symbol {
            144..256 => 9,
            256..280 => 7,
            _ => 8,
        };
        symbol += 1;
    }
    Codes {
        literal_lengths,
        distance_lengths: [5; DISTANCE_SYMBOLS],
    }
};

impl Codes {
    /// Bits of all symbols together, with the extra bits.
    fn bits(&self, literals: &[u32; LITERAL_SYMBOLS], distances: &[u32; DISTANCE_SYMBOLS]) -> u64 {
        let mut bits = 0;
        for (count, length) in literals.iter().zip(&self.literal_lengths) {
            bits += u64::from(*count) * u64::from(*length);
        }
        for (count, extra) in literals[FIRST_LENGTH_SYMBOL..]
            .iter()
            .zip(LENGTH_EXTRA_BITS)
        {
            bits += u64::from(*count) * u64::from(extra);
        }
        for ((count, length), extra) in distances
            .iter()
            .zip(&self.distance_lengths)
            .zip(DISTANCE_EXTRA_BITS)
        {
            bits += u64::from(*count) * u64::from(*length + extra);
        }
        bits
    }

    /// Writes the tokens and the block's end.
    fn write(&self, writer: &mut BitWriter<'_>, tokens: &Tokens) {
        let literals = huffman::codes(&self.literal_lengths);
        let distances = huffman::codes(&self.distance_lengths);
        let tables = Tables::new(self, &literals, &distances);
        let (pairs, rest) = tokens.as_slice().as_chunks::<2>();
        for &[a, b] in pairs {
            let (a, a_count) = tables.bits(a);
            let (b, b_count) = tables.bits(b);
            // Nearly always. A match has 48 bits at most, so one token always fits.
            if a_count + b_count <= 56 {
                writer.put(a | b << a_count, a_count + b_count);
            } else {
                writer.put(a, a_count);
                writer.put(b, b_count);
            }
        }
        for &token in rest {
            let (bits, count) = tables.bits(token);
            writer.put(bits, count);
        }
        writer.put(
            u64::from(literals[END_OF_BLOCK]),
            u32::from(self.literal_lengths[END_OF_BLOCK]),
        );
    }
}

/// A token's fields to bits, without a question.
struct Tables {
    /// 20 bits of code and extra bits at most, and from bit 24 on how many they are.
    first: [u32; FIELD_VALUES],
    /// 15 bits of code at most; from bit 16 on its length, and from bit 24 on the length with the extra bits.
    second: [u32; FIELD_VALUES],
}

impl Tables {
    fn new(
        codes: &Codes,
        literals: &[u16; LITERAL_SYMBOLS],
        distances: &[u16; DISTANCE_SYMBOLS],
    ) -> Self {
        let mut first = [0; FIELD_VALUES];
        let mut second = [0; FIELD_VALUES];
        for byte in 0..256 {
            let entry = u32::from(literals[byte]) | u32::from(codes.literal_lengths[byte]) << 24;
            first[byte] = entry;
            second[byte] = entry;
        }
        for (length, slot) in LENGTH_SLOT.iter().enumerate() {
            let slot = usize::from(*slot);
            let code_length = u32::from(codes.literal_lengths[FIRST_LENGTH_SYMBOL + slot]);
            let extra = length as u32 - u32::from(LENGTH_BASE[slot]);
            first[256 + length] = u32::from(literals[FIRST_LENGTH_SYMBOL + slot])
                | extra << code_length
                | (code_length + u32::from(LENGTH_EXTRA_BITS[slot])) << 24;
        }
        for slot in 0..DISTANCE_SYMBOLS {
            let code_length = u32::from(codes.distance_lengths[slot]);
            second[256 + slot] = u32::from(distances[slot])
                | code_length << 16
                | (code_length + u32::from(DISTANCE_EXTRA_BITS[slot])) << 24;
        }
        Self { first, second }
    }

    /// A token's bits, and how many there are.
    #[inline(always)]
    fn bits(&self, token: Token) -> (u64, u32) {
        let first = self.first[token.first()];
        let second = self.second[token.second()];
        let first_count = first >> 24;
        // A second literal has no extra bits, and its length is not in bits 16 to 19.
        let second_bits =
            u64::from(second & 0xffff) | u64::from(token.extra()) << (second >> 16 & 15);
        (
            u64::from(first & 0xff_ffff) | second_bits << first_count,
            first_count + (second >> 24),
        )
    }
}

/// Symbols of the code in which the lengths of the codes are written.
const HEADER_SYMBOLS: usize = 19;
/// The order in which the lengths of that code are written: those that are seldom needed last.
const HEADER_ORDER: [usize; HEADER_SYMBOLS] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];
const HEADER_MAX_BITS: usize = 7;
/// A length once more, 3 to 6 times; zeros, 3 to 10; zeros, 11 to 138.
const REPEAT: u8 = 16;
const ZEROS: u8 = 17;
const MANY_ZEROS: u8 = 18;

/// The codes of a block as they stand at its head.
struct Header {
    literal_count: usize,
    distance_count: usize,
    /// Symbols with their extra bits.
    symbols: [(u8, u8); LITERAL_SYMBOLS + DISTANCE_SYMBOLS],
    symbol_count: usize,
    counts: [u32; HEADER_SYMBOLS],
    lengths: [u8; HEADER_SYMBOLS],
    length_count: usize,
}

impl Header {
    fn new(codes: &Codes) -> Self {
        // The first distance is always told of, even when there is none.
        let literal_count = used(&codes.literal_lengths);
        let distance_count = used(&codes.distance_lengths).max(1);
        let mut all = [0; LITERAL_SYMBOLS + DISTANCE_SYMBOLS];
        all[..literal_count].copy_from_slice(&codes.literal_lengths[..literal_count]);
        all[literal_count..literal_count + distance_count]
            .copy_from_slice(&codes.distance_lengths[..distance_count]);

        let mut header = Self {
            literal_count,
            distance_count,
            symbols: [(0, 0); LITERAL_SYMBOLS + DISTANCE_SYMBOLS],
            symbol_count: 0,
            counts: [0; HEADER_SYMBOLS],
            lengths: [0; HEADER_SYMBOLS],
            length_count: 0,
        };
        for run in all[..literal_count + distance_count].chunk_by(|a, b| a == b) {
            header.push_run(run[0], run.len());
        }
        header.lengths = huffman::code_lengths(&header.counts, HEADER_MAX_BITS);
        let is_used = |symbol: &usize| header.lengths[*symbol] > 0;
        header.length_count = HEADER_ORDER
            .iter()
            .rposition(is_used)
            .map_or(0, |at| at + 1);
        header.length_count = header.length_count.max(4);
        header
    }

    fn push_run(&mut self, length: u8, mut count: usize) {
        if length == 0 {
            while count >= 11 {
                let now = count.min(138);
                self.push(MANY_ZEROS, (now - 11) as u8);
                count -= now;
            }
            if count >= 3 {
                self.push(ZEROS, (count - 3) as u8);
                return;
            }
        } else if count > 3 {
            self.push(length, 0);
            count -= 1;
            while count >= 3 {
                let now = count.min(6);
                self.push(REPEAT, (now - 3) as u8);
                count -= now;
            }
        }
        for _ in 0..count {
            self.push(length, 0);
        }
    }

    fn push(&mut self, symbol: u8, extra: u8) {
        self.symbols[self.symbol_count] = (symbol, extra);
        self.symbol_count += 1;
        self.counts[usize::from(symbol)] += 1;
    }

    fn bits(&self) -> u64 {
        let mut bits = 5 + 5 + 4 + 3 * self.length_count as u64;
        for (symbol, (count, length)) in self.counts.iter().zip(self.lengths).enumerate() {
            bits += u64::from(*count) * u64::from(u32::from(length) + extra_bits(symbol as u8));
        }
        bits
    }

    fn write(&self, writer: &mut BitWriter<'_>) {
        writer.put(self.literal_count as u64 - 257, 5);
        writer.put(self.distance_count as u64 - 1, 5);
        writer.put(self.length_count as u64 - 4, 4);
        for symbol in &HEADER_ORDER[..self.length_count] {
            writer.put(u64::from(self.lengths[*symbol]), 3);
        }
        let codes = huffman::codes(&self.lengths);
        for &(symbol, extra) in &self.symbols[..self.symbol_count] {
            let length = u32::from(self.lengths[usize::from(symbol)]);
            let code = u64::from(codes[usize::from(symbol)]);
            writer.put(
                code | u64::from(extra) << length,
                length + extra_bits(symbol),
            );
        }
    }
}

fn extra_bits(header_symbol: u8) -> u32 {
    match header_symbol {
        REPEAT => 2,
        ZEROS => 3,
        MANY_ZEROS => 7,
        _ => 0,
    }
}

/// One past the last symbol that has a code.
fn used(lengths: &[u8]) -> usize {
    lengths
        .iter()
        .rposition(|&length| length > 0)
        .map_or(0, |last| last + 1)
}

fn stored_bits(raw_bytes: usize, bits_before: u32) -> u64 {
    // One at least, even without a byte in it. All but the first begin at a whole byte.
    let blocks = raw_bytes.div_ceil(MAX_STORED_BYTES).max(1) as u64;
    let to_whole_byte = u64::from((bits_before + KIND_BITS).next_multiple_of(8) - bits_before);
    to_whole_byte + 32 + (blocks - 1) * 40 + 8 * raw_bytes as u64
}

fn write_stored(writer: &mut BitWriter<'_>, raw: &[u8], is_last: bool) {
    let mut rest = raw;
    loop {
        let (now, later) = rest.split_at(rest.len().min(MAX_STORED_BYTES));
        writer.put(u64::from(is_last && later.is_empty()), KIND_BITS);
        let length = (now.len() as u16).to_le_bytes();
        let complement = (!(now.len() as u16)).to_le_bytes();
        writer.put_aligned(&length);
        writer.put_aligned(&complement);
        writer.put_aligned(now);
        rest = later;
        if rest.is_empty() {
            return;
        }
    }
}

/// A stored block's head at a whole byte, which is not the last; for at most [`MAX_STORED_BYTES`].
pub(crate) fn stored_head(bytes: usize) -> [u8; STORED_HEAD_BYTES] {
    let [a, b] = (bytes as u16).to_le_bytes();
    [0, a, b, !a, !b]
}
