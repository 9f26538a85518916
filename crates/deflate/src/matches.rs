//! Finding what was there before: greedy, one hash table with one place for each hash, and the distance of the last match
//! tried first.
//!
//! Audit records repeat their keys, and much of their values, at the distance of about a record; what is new in them
//! stands in one piece, a GUID or a time. So a match is looked for by six bytes at once, which short accidents among hex
//! digits do not pass, its beginning is found backwards, and nearly nothing of what it covers goes into the table. Within
//! a stretch without a match every further look goes further ahead.

use crate::tokens::Tokens;

/// Bytes that a match may reach back: DEFLATE's window.
pub(crate) const HISTORY_BYTES: usize = 32 << 10;
/// DEFLATE's limits of a match.
pub(crate) const MIN_DEFLATE_MATCH: usize = 3;
pub(crate) const MAX_MATCH: usize = 258;
/// Bytes behind a position that are looked at there, at most: a match's, eight for a hash, and what is compared at once.
pub(crate) const LOOKAHEAD_BYTES: usize = 288;

/// Positions in the window: a power of two, so that a mask takes the place of a check. What lies beyond what is used is
/// never touched, and so is no memory.
pub(crate) const POSITIONS: usize = 256 << 10;
/// They, and as much as may be looked at behind the last.
pub(crate) const WINDOW_BYTES: usize = POSITIONS + 512;

/// Bytes that a match has at least before its beginning is looked for.
const PROBE_BYTES: usize = 6;
/// 32 KiB of table: half of the first cache would be better and finds less.
const HASH_BITS: u32 = 14;
/// Looks in vain until they go one byte further ahead.
const PATIENCE: usize = 8;

/// Where bytes were seen last.
pub(crate) struct Matcher {
    /// By the hash of [`PROBE_BYTES`] the lowest 16 bits of the position where they began. An old position is no harm: what
    /// it leads to is compared before it is believed, and no memory but the window's is read for it.
    table: Box<[u16; 1 << HASH_BITS]>,
    last_distance: usize,
}

/// A stretch of the stream in memory. The stream began at `first` before the window moved on by `moved` bytes; what stands
/// before is no part of it.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    pub(crate) bytes: &'a [u8; WINDOW_BYTES],
    pub(crate) first: usize,
    pub(crate) moved: u64,
}

impl Matcher {
    pub(crate) fn new() -> Self {
        let table = vec![0; 1 << HASH_BITS].into_boxed_slice();
        Self {
            table: table.try_into().expect("it has this length"),
            last_distance: 1,
        }
    }

    /// Forgets everything, so that the next stream's bytes depend on nothing but itself.
    pub(crate) fn clear(&mut self) {
        self.table.fill(0);
        self.last_distance = 1;
    }

    /// Makes tokens of `window.bytes[from..end]`, behind which [`LOOKAHEAD_BYTES`] must follow. The last match may reach
    /// beyond `end` when `end` is not `limit`, but never beyond `limit`. Where the tokens end.
    pub(crate) fn find(
        &mut self,
        window: Window<'_>,
        from: usize,
        end: usize,
        limit: usize,
        tokens: &mut Tokens,
    ) -> usize {
        let bytes = window.bytes;
        assert!(from >= HISTORY_BYTES && limit - end <= LOOKAHEAD_BYTES);
        let moved = window.moved as usize;
        // The stream's first byte, as far as it is in the window.
        let first = window.first.saturating_sub(moved);
        let table = &mut *self.table;
        let mut last_distance = self.last_distance;
        let mut at = from;
        // Everything before it is in the tokens.
        let mut done = from;
        let mut looks = PATIENCE;
        while at < end {
            let here = load(bytes, at);
            let place = &mut table[hash(here)];
            let position = (at + moved) as u16;
            // From 1 to 32,768, whatever was in the table.
            let distance = usize::from(position.wrapping_sub(*place).wrapping_sub(1) & 0x7fff) + 1;
            *place = position;
            let differs = probe(load(bytes, at - distance) ^ here);
            let differs_at_last = probe(load(bytes, at - last_distance) ^ here);
            if (differs != 0) & (differs_at_last != 0) {
                at += looks / PATIENCE;
                looks += 1;
                continue;
            }
            let (mut length, mut best) = (0, last_distance);
            if differs_at_last == 0 {
                length = match_length(bytes, at, last_distance);
            }
            if differs == 0 && distance != last_distance {
                let other = match_length(bytes, at, distance);
                if other > length {
                    (length, best) = (other, distance);
                }
            }
            // What stands before the stream is no part of it.
            if best + first > at {
                at += looks / PATIENCE;
                looks += 1;
                continue;
            }
            let earliest = done.max(best + first);
            while at > earliest && bytes[at - 1] == bytes[at - 1 - best] {
                at -= 1;
                length += 1;
            }
            length = length.min(MAX_MATCH).min(limit - at);
            if length < MIN_DEFLATE_MATCH {
                // The last two bytes of all; they become literals.
                break;
            }
            tokens.push_literals(&bytes[done..at]);
            tokens.push_match(length, best);
            last_distance = best;
            // Where a record's like begins, and where it ends, is what the next is found by.
            table[hash(load(bytes, at + 1))] = (at + 1 + moved) as u16;
            at += length;
            table[hash(load(bytes, at - 2))] = (at - 2 + moved) as u16;
            done = at;
            looks = PATIENCE;
        }
        self.last_distance = last_distance;
        if done < end {
            tokens.push_literals(&bytes[done..end]);
            done = end;
        }
        done
    }
}

#[inline(always)]
fn load(bytes: &[u8; WINDOW_BYTES], at: usize) -> u64 {
    let at = at & (POSITIONS - 1);
    let bytes = &bytes[at..at + 8];
    u64::from_le_bytes(bytes.try_into().expect("it has this length"))
}

/// The first [`PROBE_BYTES`] of eight bytes.
#[inline(always)]
fn probe(x: u64) -> u64 {
    x << (64 - 8 * PROBE_BYTES)
}
/// By the first [`PROBE_BYTES`] of eight bytes.
#[inline(always)]
fn hash(bytes: u64) -> usize {
    // An odd number whose bits are as good as drawn by lot: 2^64 over the golden ratio.
    (probe(bytes).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - HASH_BITS)) as usize
}

/// How far what stands at `at` is what stands `distance` before it, [`PROBE_BYTES`] of which are known to be; 258 or more
/// bytes count as 258.
#[inline(always)]
fn match_length(bytes: &[u8; WINDOW_BYTES], at: usize, distance: usize) -> usize {
    const COMPARED: usize = 256;
    let from = (at - distance) & (POSITIONS - 1);
    let at = at & (POSITIONS - 1);
    let here = bytes[at + PROBE_BYTES..].first_chunk::<COMPARED>();
    let there = bytes[from + PROBE_BYTES..].first_chunk::<COMPARED>();
    let (Some(here), Some(there)) = (here, there) else {
        return PROBE_BYTES;
    };
    let (here, _) = here.as_chunks::<16>();
    let (there, _) = there.as_chunks::<16>();
    let mut length = PROBE_BYTES;
    for (here, there) in here.iter().zip(there) {
        let differs = u128::from_le_bytes(*here) ^ u128::from_le_bytes(*there);
        if differs != 0 {
            return length + differs.trailing_zeros() as usize / 8;
        }
        length += 16;
    }
    MAX_MATCH
}
