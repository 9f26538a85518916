//! Sixty-four bytes of text as bits: which of them are quotes, which are brackets, and so on. The one place in this crate
//! that is not the same on every processor.

#![expect(
    unsafe_code,
    reason = "a function for AVX2 may be called only where there is AVX2, which the compiler cannot know"
)]

use std::arch::x86_64::{
    __m128i, __m256i, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
    _mm_set_epi64x, _mm_set1_epi8, _mm256_cmpeq_epi8, _mm256_min_epu8, _mm256_movemask_epi8,
    _mm256_or_si256, _mm256_set_epi64x, _mm256_set1_epi8,
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

/// Fills in the masks of as many blocks as both have.
pub(super) fn classify(has_avx2: bool, blocks: &[[u8; BLOCK]], masks: &mut [Masks]) {
    if has_avx2 && is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was asked in this very condition.
        unsafe { classify_avx2(blocks, masks) }
    } else {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { classify_sse2(blocks, masks) }
    }
}

#[target_feature(enable = "avx2")]
fn classify_avx2(blocks: &[[u8; BLOCK]], masks: &mut [Masks]) {
    for (block, masks) in blocks.iter().zip(masks) {
        let (words, _) = block.as_chunks::<8>();
        let [a, b, c, d, e, f, g, h] = *words else {
            return;
        };
        let halves = [vector_avx2([a, b, c, d]), vector_avx2([e, f, g, h])];
        let mask = |of: [__m256i; 2]| {
            let [low, high] = of.map(|half| _mm256_movemask_epi8(half) as u32);
            u64::from(low) | u64::from(high) << 32
        };
        let equal = |byte: u8| {
            let wanted = _mm256_set1_epi8(byte as i8);
            mask(halves.map(|half| _mm256_cmpeq_epi8(half, wanted)))
        };
        let bit = _mm256_set1_epi8(BRACE_BIT as i8);
        let braces = halves.map(|half| _mm256_or_si256(half, bit));
        let equal_brace = |byte: u8| {
            let wanted = _mm256_set1_epi8(byte as i8);
            mask(braces.map(|half| _mm256_cmpeq_epi8(half, wanted)))
        };
        let last_control = _mm256_set1_epi8(0x1f);
        *masks = Masks {
            quote: equal(b'"'),
            backslash: equal(b'\\'),
            control: mask(
                halves.map(|half| _mm256_cmpeq_epi8(_mm256_min_epu8(half, last_control), half)),
            ),
            open: equal_brace(b'{'),
            close: equal_brace(b'}'),
            colon: equal(b':'),
            comma: equal(b','),
            high: mask(halves),
        };
    }
}

#[target_feature(enable = "avx2")]
fn vector_avx2(words: [[u8; 8]; 4]) -> __m256i {
    let [a, b, c, d] = words.map(i64::from_le_bytes);
    _mm256_set_epi64x(d, c, b, a)
}

#[target_feature(enable = "sse2")]
fn classify_sse2(blocks: &[[u8; BLOCK]], masks: &mut [Masks]) {
    for (block, masks) in blocks.iter().zip(masks) {
        let (words, _) = block.as_chunks::<8>();
        let [a, b, c, d, e, f, g, h] = *words else {
            return;
        };
        let quarters = [[a, b], [c, d], [e, f], [g, h]].map(|words| vector_sse2(words));
        let mask = |of: [__m128i; 4]| {
            let [a, b, c, d] = of.map(|quarter| u64::from(_mm_movemask_epi8(quarter) as u16));
            a | b << 16 | c << 32 | d << 48
        };
        let equal = |byte: u8| {
            let wanted = _mm_set1_epi8(byte as i8);
            mask(quarters.map(|quarter| _mm_cmpeq_epi8(quarter, wanted)))
        };
        let bit = _mm_set1_epi8(BRACE_BIT as i8);
        let braces = quarters.map(|quarter| _mm_or_si128(quarter, bit));
        let equal_brace = |byte: u8| {
            let wanted = _mm_set1_epi8(byte as i8);
            mask(braces.map(|quarter| _mm_cmpeq_epi8(quarter, wanted)))
        };
        let last_control = _mm_set1_epi8(0x1f);
        *masks = Masks {
            quote: equal(b'"'),
            backslash: equal(b'\\'),
            control: mask(
                quarters
                    .map(|quarter| _mm_cmpeq_epi8(_mm_min_epu8(quarter, last_control), quarter)),
            ),
            open: equal_brace(b'{'),
            close: equal_brace(b'}'),
            colon: equal(b':'),
            comma: equal(b','),
            high: mask(quarters),
        };
    }
}

#[target_feature(enable = "sse2")]
fn vector_sse2(words: [[u8; 8]; 2]) -> __m128i {
    let [a, b] = words.map(i64::from_le_bytes);
    _mm_set_epi64x(b, a)
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

    #[test]
    fn every_byte_at_every_place_is_classified_alike_by_every_processor() {
        for byte in 0..=u8::MAX {
            for other in [b'a', b'"', 0xff] {
                // One block for each place.
                let blocks: Vec<[u8; BLOCK]> = (0..BLOCK)
                    .map(|at| {
                        let mut block = [other; BLOCK];
                        block[at] = byte;
                        block
                    })
                    .collect();
                let expected: Vec<Masks> = blocks.iter().map(slowly).collect();
                for has_avx2 in [true, false] {
                    let mut masks = vec![Masks::default(); BLOCK];
                    classify(has_avx2, &blocks, &mut masks);
                    assert_eq!(masks, expected, "{byte} among {other}, AVX2: {has_avx2}");
                }
            }
        }
    }
}
