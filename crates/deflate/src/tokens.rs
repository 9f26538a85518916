//! What a block is made of before it is written: literals and matches, and how often each symbol occurs.
//!
//! A token is one number of three fields, laid out so that every token is written in the same way, whatever it is: the
//! first field and the second are looked up in one table each, and the extra bits of the distance follow. A branch that
//! asked what a token is would be guessed wrong at every other match, which costs more than all of the writing.

use crate::matches::{MAX_MATCH, MIN_DEFLATE_MATCH};

/// Raw bytes of a block at most. A longer block spares headers and codes, a shorter one adapts; what decides is that
/// window, tokens and hash table stay in the second cache.
pub(crate) const MAX_BLOCK_BYTES: usize = (128 << 10) - 2 * MAX_MATCH;
/// No block has more tokens: each stands for two bytes or more, but for one literal before each match, which stands for
/// three or more. The last match may reach beyond the
/// block's end, which the difference to a power of two makes up for.
const MAX_TOKENS: usize = MAX_BLOCK_BYTES.next_power_of_two() / 2;

/// The first field: a literal, or 256 and a match's length over 3.
const FIRST_BITS: u32 = 9;
/// The second: one more literal, or 256 and the slot of a match's distance, or [`NO_SECOND`].
const SECOND_BITS: u32 = 9;
/// Values of each of them.
pub(crate) const FIELD_VALUES: usize = 512;
/// One past the last slot of distances.
const NO_SECOND: u32 = 256 + 30;

/// One literal or two, or a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(u32);

impl Token {
    #[inline(always)]
    pub(crate) fn first(self) -> usize {
        (self.0 & ((1 << FIRST_BITS) - 1)) as usize
    }

    #[inline(always)]
    pub(crate) fn second(self) -> usize {
        (self.0 >> FIRST_BITS & ((1 << SECOND_BITS) - 1)) as usize
    }

    /// The extra bits of a match's distance; 0 for literals.
    #[inline(always)]
    pub(crate) fn extra(self) -> u32 {
        self.0 >> (FIRST_BITS + SECOND_BITS)
    }
}

/// The tokens of one block, and their histograms.
pub(crate) struct Tokens {
    tokens: Box<[Token; MAX_TOKENS]>,
    count: usize,
    first: [u32; FIELD_VALUES],
    /// Literals in the second field. Counted apart from the first: two counters in turn, so that an increment seldom
    /// waits for the one before it.
    second: [u32; 256],
    distance_slots: [u32; 32],
}

impl Tokens {
    pub(crate) fn new() -> Self {
        let tokens = vec![Token(0); MAX_TOKENS].into_boxed_slice();
        Self {
            tokens: tokens.try_into().expect("it has this length"),
            count: 0,
            first: [0; FIELD_VALUES],
            second: [0; 256],
            distance_slots: [0; 32],
        }
    }

    pub(crate) fn clear(&mut self) {
        self.count = 0;
        self.first = [0; FIELD_VALUES];
        self.second = [0; 256];
        self.distance_slots = [0; 32];
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn as_slice(&self) -> &[Token] {
        &self.tokens[..self.count]
    }

    #[inline(always)]
    fn push(&mut self, token: u32) {
        // The mask is for the compiler, which otherwise would check; see MAX_TOKENS.
        self.tokens[self.count & (MAX_TOKENS - 1)] = Token(token);
        self.count += 1;
    }

    #[inline(always)]
    pub(crate) fn push_literals(&mut self, literals: &[u8]) {
        let (pairs, rest) = literals.as_chunks::<2>();
        // A copy in a register: the compiler cannot know that the stores below leave the original alone.
        let mut count = self.count;
        let tokens = &mut *self.tokens;
        for &[a, b] in pairs {
            tokens[count & (MAX_TOKENS - 1)] = Token(u32::from(a) | u32::from(b) << FIRST_BITS);
            count += 1;
            self.first[usize::from(a)] += 1;
            self.second[usize::from(b)] += 1;
        }
        if let &[a] = rest {
            tokens[count & (MAX_TOKENS - 1)] = Token(u32::from(a) | NO_SECOND << FIRST_BITS);
            count += 1;
            self.first[usize::from(a)] += 1;
        }
        self.count = count;
    }

    /// A match of 3 to 258 bytes, 1 to 32,768 back.
    #[inline(always)]
    pub(crate) fn push_match(&mut self, length: usize, distance: usize) {
        debug_assert!((MIN_DEFLATE_MATCH..=MAX_MATCH).contains(&length));
        let first = (256 + length - MIN_DEFLATE_MATCH) & (FIELD_VALUES - 1);
        let (slot, extra) = distance_slot(distance);
        self.push(first as u32 | (256 + slot) << FIRST_BITS | extra << (FIRST_BITS + SECOND_BITS));
        self.first[first] += 1;
        self.distance_slots[slot as usize & 31] += 1;
    }

    /// How often each symbol of DEFLATE's two alphabets occurs, with the end of the block once.
    pub(crate) fn counts(&self) -> ([u32; LITERAL_SYMBOLS], [u32; DISTANCE_SYMBOLS]) {
        let mut literals = [0; LITERAL_SYMBOLS];
        for (symbol, count) in literals[..256].iter_mut().enumerate() {
            *count = self.first[symbol] + self.second[symbol];
        }
        literals[END_OF_BLOCK] = 1;
        for (slot, count) in LENGTH_SLOT.iter().zip(&self.first[256..]) {
            literals[FIRST_LENGTH_SYMBOL + usize::from(*slot)] += count;
        }
        let mut distances = [0; DISTANCE_SYMBOLS];
        distances.copy_from_slice(&self.distance_slots[..DISTANCE_SYMBOLS]);
        (literals, distances)
    }
}

/// Literals, the end of a block, and lengths. The last two never occur, but have codes in the fixed code.
pub(crate) const LITERAL_SYMBOLS: usize = 288;
pub(crate) const DISTANCE_SYMBOLS: usize = 30;
pub(crate) const END_OF_BLOCK: usize = 256;
pub(crate) const FIRST_LENGTH_SYMBOL: usize = 257;
const LENGTH_SLOTS: usize = 29;

/// Extra bits of each length symbol.
pub(crate) const LENGTH_EXTRA_BITS: [u8; LENGTH_SLOTS] = {
    let mut bits = [0; LENGTH_SLOTS];
    let mut slot = 8;
    while slot < LENGTH_SLOTS - 1 {
        bits[slot] = (slot / 4 - 1) as u8;
        slot += 1;
    }
    // The last stands for 258 alone.
    bits
};

/// The least length of each length symbol, over 3.
pub(crate) const LENGTH_BASE: [u8; LENGTH_SLOTS] = {
    let mut base = [0_u8; LENGTH_SLOTS];
    let mut slot = 1;
    while slot < LENGTH_SLOTS - 1 {
        base[slot] = base[slot - 1] + (1 << LENGTH_EXTRA_BITS[slot - 1]);
        slot += 1;
    }
    base[LENGTH_SLOTS - 1] = 255;
    base
};

/// The slot of each length over 3.
pub(crate) const LENGTH_SLOT: [u8; 256] = {
    let mut slots = [0; 256];
    let mut slot = 0;
    while slot < LENGTH_SLOTS {
        let mut length = LENGTH_BASE[slot] as usize;
        while length < 256 {
            slots[length] = slot as u8;
            length += 1;
        }
        slot += 1;
    }
    slots
};

/// Extra bits of each distance symbol.
pub(crate) const DISTANCE_EXTRA_BITS: [u8; DISTANCE_SYMBOLS] = {
    let mut bits = [0; DISTANCE_SYMBOLS];
    let mut slot = 4;
    while slot < DISTANCE_SYMBOLS {
        bits[slot] = (slot / 2 - 1) as u8;
        slot += 1;
    }
    bits
};

/// The symbol of a distance from 1 on, and its extra bits: the symbol is the place of the highest bit and the bit below
/// it, the extra bits are the others.
#[inline(always)]
fn distance_slot(distance: usize) -> (u32, u32) {
    let distance = distance as u32 - 1;
    if distance < 4 {
        return (distance, 0);
    }
    let extra_bits = 30 - distance.leading_zeros();
    let slot = extra_bits * 2 + (distance >> extra_bits);
    (slot, distance & ((1 << extra_bits) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_the_symbols_of_the_rfc() {
        // RFC 1951, 3.2.5.
        for (length, symbol, extra) in [
            (3, 257, 0),
            (10, 264, 0),
            (11, 265, 1),
            (12, 265, 1),
            (13, 266, 1),
            (18, 268, 1),
            (19, 269, 2),
            (66, 276, 3),
            (67, 277, 4),
            (130, 280, 4),
            (131, 281, 5),
            (227, 284, 5),
            (257, 284, 5),
            (258, 285, 0),
        ] {
            let slot = usize::from(LENGTH_SLOT[length - 3]);
            assert_eq!(FIRST_LENGTH_SYMBOL + slot, symbol, "{length}");
            assert_eq!(LENGTH_EXTRA_BITS[slot], extra, "{length}");
        }
    }

    #[test]
    fn distances_have_the_symbols_of_the_rfc() {
        for (distance, symbol, extra_bits, extra) in [
            (1, 0, 0, 0),
            (4, 3, 0, 0),
            (5, 4, 1, 0),
            (6, 4, 1, 1),
            (7, 5, 1, 0),
            (192, 14, 6, 63),
            (193, 15, 6, 0),
            (24_576, 28, 13, 8_191),
            (24_577, 29, 13, 0),
            (32_768, 29, 13, 8_191),
        ] {
            assert_eq!(distance_slot(distance), (symbol, extra), "{distance}");
            assert_eq!(DISTANCE_EXTRA_BITS[symbol as usize], extra_bits);
        }
    }
}
