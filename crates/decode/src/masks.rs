//! Sixty-four bytes of text as bits: which of them are quotes, which are brackets, and so on. The one place in this crate
//! that is not the same on every processor.

#![expect(
    unsafe_code,
    reason = "what is for AVX2 may be called only where there is AVX2, which the compiler cannot know"
)]

use std::arch::x86_64::{
    _mm_clmulepi64_si128, _mm_cmpeq_epi8, _mm_cvtsi128_si64, _mm_min_epu8, _mm_movemask_epi8,
    _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8, _mm256_cmpeq_epi8, _mm256_min_epu8,
    _mm256_movemask_epi8, _mm256_or_si256, _mm256_set_epi64x, _mm256_set1_epi8,
};

/// Bytes to a block, one for each bit of a mask.
pub(super) const BLOCK: usize = 64;

/// What stands in a block; the lowest bit is its first byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Masks {
    pub(super) quote: u64,
    pub(super) backslash: u64,
    /// Below a space.
    pub(super) control: u64,
    /// `{` or `[`.
    pub(super) open: u64,
    /// `}` or `]`.
    pub(super) close: u64,
    pub(super) colon: u64,
    pub(super) comma: u64,
    /// Not ASCII.
    pub(super) high: u64,
}

/// Brackets differ from braces in this bit alone.
const BRACE_BIT: u8 = b'{' ^ b'[';

/// What the scan asks of a processor. Both ways give the same answers.
pub(super) trait Processor: Copy {
    /// What stands in a block.
    fn masks(self, block: &[u8; BLOCK]) -> Masks;

    /// Each bit xor-ed with all below it.
    fn xor_of_lower(self, bits: u64) -> u64;
}

/// Any x86-64 processor: all have SSE2.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plain;

/// One with AVX2, and with the instructions for bits that are there wherever it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2(());

/// What is done on a processor.
pub(super) trait Work {
    type Output;

    /// Must be inlined, or else it is not compiled for that processor.
    fn run(self, processor: impl Processor) -> Self::Output;
}

impl Avx2 {
    /// Where the processor is one.
    pub(super) fn detect() -> Option<Self> {
        let is_one = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("pclmulqdq");
        is_one.then_some(Self(()))
    }

    /// Does the work, compiled for such a processor.
    pub(super) fn run<W: Work>(self, work: W) -> W::Output {
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,pclmulqdq")]
        fn run<W: Work>(work: W, processor: Avx2) -> W::Output {
            work.run(processor)
        }
        // SAFETY: there is a value of this type only where the processor was asked, in `detect`.
        unsafe { run(work, self) }
    }
}

/// The body of both functions below. A macro, because what a closure or a generic function does with vectors need not be
/// inlined, and a vector that is handed over in memory costs more than what is done with it.
macro_rules! masks_of {
    ($vectors:ident, $mask:ident, $equal:ident, $min:ident, $or:ident, $splat:ident) => {{
        let quote = $splat(b'"' as i8);
        let backslash = $splat(b'\\' as i8);
        let last_control = $splat(0x1f);
        let brace_bit = $splat(BRACE_BIT as i8);
        let open = $splat(b'{' as i8);
        let close = $splat(b'}' as i8);
        let colon = $splat(b':' as i8);
        let comma = $splat(b',' as i8);
        Masks {
            quote: $mask!($vectors, vector => $equal(vector, quote)),
            backslash: $mask!($vectors, vector => $equal(vector, backslash)),
            control: $mask!($vectors, vector => $equal($min(vector, last_control), vector)),
            open: $mask!($vectors, vector => $equal($or(vector, brace_bit), open)),
            close: $mask!($vectors, vector => $equal($or(vector, brace_bit), close)),
            colon: $mask!($vectors, vector => $equal(vector, colon)),
            comma: $mask!($vectors, vector => $equal(vector, comma)),
            high: $mask!($vectors, vector => vector),
        }
    }};
}

impl Processor for Avx2 {
    #[inline(always)]
    fn masks(self, block: &[u8; BLOCK]) -> Masks {
        macro_rules! mask {
            ($vectors:ident, $vector:ident => $of:expr) => {{
                let $vector = $vectors.0;
                let low = _mm256_movemask_epi8($of) as u32;
                let $vector = $vectors.1;
                let high = _mm256_movemask_epi8($of) as u32;
                u64::from(low) | u64::from(high) << 32
            }};
        }
        let [a, b, c, d, e, f, g, h] = words(block);
        // SAFETY: there is a value of this type only where the processor was asked, in `detect`.
        unsafe {
            let vectors = (_mm256_set_epi64x(d, c, b, a), _mm256_set_epi64x(h, g, f, e));
            masks_of!(
                vectors,
                mask,
                _mm256_cmpeq_epi8,
                _mm256_min_epu8,
                _mm256_or_si256,
                _mm256_set1_epi8
            )
        }
    }

    #[inline(always)]
    fn xor_of_lower(self, bits: u64) -> u64 {
        // A product without carries by a number of ones alone is just that.
        // SAFETY: there is a value of this type only where the processor was asked, in `detect`.
        unsafe {
            let bits = _mm_set_epi64x(0, bits as i64);
            _mm_cvtsi128_si64(_mm_clmulepi64_si128::<0>(bits, _mm_set1_epi8(-1))) as u64
        }
    }
}

impl Processor for Plain {
    #[inline(always)]
    fn masks(self, block: &[u8; BLOCK]) -> Masks {
        macro_rules! mask {
            ($vectors:ident, $vector:ident => $of:expr) => {{
                let $vector = $vectors.0;
                let a = u64::from(_mm_movemask_epi8($of) as u16);
                let $vector = $vectors.1;
                let b = u64::from(_mm_movemask_epi8($of) as u16);
                let $vector = $vectors.2;
                let c = u64::from(_mm_movemask_epi8($of) as u16);
                let $vector = $vectors.3;
                let d = u64::from(_mm_movemask_epi8($of) as u16);
                a | b << 16 | c << 32 | d << 48
            }};
        }
        let [a, b, c, d, e, f, g, h] = words(block);
        // SAFETY: every x86-64 processor has SSE2.
        unsafe {
            let vectors = (
                _mm_set_epi64x(b, a),
                _mm_set_epi64x(d, c),
                _mm_set_epi64x(f, e),
                _mm_set_epi64x(h, g),
            );
            masks_of!(
                vectors,
                mask,
                _mm_cmpeq_epi8,
                _mm_min_epu8,
                _mm_or_si128,
                _mm_set1_epi8
            )
        }
    }

    #[inline(always)]
    fn xor_of_lower(self, mut bits: u64) -> u64 {
        for shift in [1, 2, 4, 8, 16, 32] {
            bits ^= bits << shift;
        }
        bits
    }
}

#[inline(always)]
fn words(block: &[u8; BLOCK]) -> [i64; 8] {
    macro_rules! word {
        ($at:expr) => {
            i64::from_le_bytes([
                block[$at],
                block[$at + 1],
                block[$at + 2],
                block[$at + 3],
                block[$at + 4],
                block[$at + 5],
                block[$at + 6],
                block[$at + 7],
            ])
        };
    }
    [
        word!(0),
        word!(8),
        word!(16),
        word!(24),
        word!(32),
        word!(40),
        word!(48),
        word!(56),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte by byte, as the fields' descriptions say.
    fn slowly(block: &[u8; BLOCK]) -> Masks {
        let mask = |is: fn(u8) -> bool| {
            let bits = block.iter().enumerate();
            bits.fold(0, |mask, (at, byte)| mask | u64::from(is(*byte)) << at)
        };
        Masks {
            quote: mask(|byte| byte == b'"'),
            backslash: mask(|byte| byte == b'\\'),
            control: mask(|byte| byte < 0x20),
            open: mask(|byte| matches!(byte, b'{' | b'[')),
            close: mask(|byte| matches!(byte, b'}' | b']')),
            colon: mask(|byte| byte == b':'),
            comma: mask(|byte| byte == b','),
            high: mask(|byte| !byte.is_ascii()),
        }
    }

    struct Block<'a>(&'a [u8; BLOCK]);

    impl Work for Block<'_> {
        type Output = (Masks, u64);

        #[inline(always)]
        fn run(self, processor: impl Processor) -> (Masks, u64) {
            let masks = processor.masks(self.0);
            (masks, processor.xor_of_lower(masks.quote | masks.high))
        }
    }

    #[test]
    fn every_byte_at_every_place_is_classified_alike_by_every_processor() {
        for byte in 0..=u8::MAX {
            for other in [b'a', b'"', 0xff] {
                for at in 0..BLOCK {
                    let mut block = [other; BLOCK];
                    block[at] = byte;
                    let masks = slowly(&block);
                    let ones = masks.quote | masks.high;
                    let odd = |at: u32| (ones << (63 - at)).count_ones() % 2;
                    let xor = (0..64).fold(0, |xor, at| xor | u64::from(odd(at)) << at);
                    let expected = (masks, xor);
                    assert_eq!(Block(&block).run(Plain), expected, "{byte} among {other}");
                    if let Some(avx2) = Avx2::detect() {
                        let found = avx2.run(Block(&block));
                        assert_eq!(found, expected, "{byte} among {other}, AVX2");
                    }
                }
            }
        }
    }
}
