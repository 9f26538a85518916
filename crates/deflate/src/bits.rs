//! Bits into bytes, the first in the lowest place, as DEFLATE wants them.

/// Bytes that [`BitWriter::put`] may touch behind those it has written.
pub(crate) const MARGIN: usize = 8;

/// What of the stream does not yet make a whole byte. It outlives the block that left it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PartialByte {
    bits: u64,
    count: u32,
}

impl PartialByte {
    pub(crate) fn bit_count(self) -> u32 {
        self.count
    }

    /// The last byte of the stream, filled up with zeros.
    pub(crate) fn last_byte(self) -> Option<u8> {
        (self.count > 0).then_some(self.bits as u8)
    }
}

/// Writes into a slice that is long enough for all that will come and [`MARGIN`].
pub(crate) struct BitWriter<'a> {
    out: &'a mut [u8],
    at: usize,
    partial: PartialByte,
}

impl<'a> BitWriter<'a> {
    pub(crate) fn new(out: &'a mut [u8], partial: PartialByte) -> Self {
        Self {
            out,
            at: 0,
            partial,
        }
    }

    /// Writes the lowest `count` bits, at most 56; those above must be zero.
    #[inline(always)]
    pub(crate) fn put(&mut self, bits: u64, count: u32) {
        let PartialByte {
            bits: mut waiting,
            count: mut waiting_count,
        } = self.partial;
        waiting |= bits << waiting_count;
        waiting_count += count;
        // All eight bytes in one store, whole or not: what is not yet whole is written over by the next.
        self.out[self.at..self.at + 8].copy_from_slice(&waiting.to_le_bytes());
        self.at += (waiting_count / 8) as usize;
        self.partial = PartialByte {
            bits: waiting >> (waiting_count & 56),
            count: waiting_count & 7,
        };
    }

    /// Fills the byte up with zeros, then copies `bytes`.
    pub(crate) fn put_aligned(&mut self, bytes: &[u8]) {
        if self.partial.count > 0 {
            self.put(0, 8 - self.partial.count);
        }
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// How many whole bytes were written, and what is left over.
    pub(crate) fn finish(self) -> (usize, PartialByte) {
        (self.at, self.partial)
    }
}
