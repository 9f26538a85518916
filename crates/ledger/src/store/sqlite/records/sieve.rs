//! Says quickly and in little memory that a key is not in a run. When it says that it may be, the run is read.

use crate::RecordKey;

/// Bits a key, before the number of blocks is rounded up to a power of two: one key in some thousand is mistaken.
const BITS_PER_KEY: usize = 12;
/// Bits set for a key, each chosen by nine bits of it.
const PROBES: u32 = 7;
/// One line of the processor's cache: a key has all its bits in one.
type Block = [u64; 8];

/// A Bloom filter in blocks.
pub(super) struct Sieve {
    /// A power of two of them.
    blocks: Vec<Block>,
}

impl Sieve {
    pub(super) fn for_keys(count: usize) -> Self {
        let blocks = (count * BITS_PER_KEY).div_ceil(size_of::<Block>() * 8);
        Self {
            blocks: vec![Block::default(); blocks.next_power_of_two()],
        }
    }

    pub(super) fn add(&mut self, key: RecordKey) {
        let probe = Probe::of(key);
        let place = self.place(&probe);
        if let Some(block) = self.blocks.get_mut(place) {
            for (word, mask) in block.iter_mut().zip(probe.mask) {
                *word |= mask;
            }
        }
    }

    pub(super) fn may_have(&self, probe: &Probe) -> bool {
        self.blocks.get(self.place(probe)).is_none_or(|block| {
            // All words and not the first that differs: without branches it takes a handful of instructions.
            let missing = |missing: u64, (word, mask): (&u64, &u64)| missing | (mask & !word);
            block.iter().zip(&probe.mask).fold(0, missing) == 0
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.blocks.len() * size_of::<Block>()
    }

    /// Half as large, and mistaken more often. A key's block is chosen by the low bits of a number, so the keys of two
    /// blocks that differ in the highest of them come together in one.
    pub(super) fn halve(&mut self) {
        let half = self.blocks.len() / 2;
        if half == 0 {
            return;
        }
        let (low, high) = self.blocks.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            for (low, high) in low.iter_mut().zip(high) {
                *low |= *high;
            }
        }
        self.blocks.truncate(half);
        self.blocks.shrink_to_fit();
    }

    fn place(&self, probe: &Probe) -> usize {
        probe.number as usize & (self.blocks.len() - 1)
    }
}

/// Where to look for a key, made once for all sieves.
pub(super) struct Probe {
    /// Its low bits are the number of the key's block.
    number: u64,
    /// The key's bits in its block.
    mask: Block,
}

impl Probe {
    pub(super) fn of(key: RecordKey) -> Self {
        let number = u128::from_le_bytes(key.0);
        let mut bits = number as u64;
        let mut mask = Block::default();
        for _ in 0..PROBES {
            if let Some(word) = mask.get_mut((bits >> 6 & 7) as usize) {
                *word |= 1 << (bits & 63);
            }
            bits >>= 9;
        }
        Self {
            number: (number >> 64) as u64,
            mask,
        }
    }
}
