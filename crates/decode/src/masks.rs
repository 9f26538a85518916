//! Sixty-four bytes of text as bits: which of them are quotes, which are brackets, and so on. The one place in this crate
//! that is not the same on every processor.

#![expect(
    unsafe_code,
    reason = "what is for AVX2 may be called only where there is AVX2, which the compiler cannot know"
)]

#[cfg(test)]
mod tests;

use std::arch::x86_64::{
    __m128i, __m256i, _mm_clmulepi64_si128, _mm_cmpeq_epi8, _mm_cvtsi128_si64, _mm_movemask_epi8,
    _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8, _mm_slli_epi16, _mm256_add_epi8, _mm256_and_si256,
    _mm256_cmpeq_epi8, _mm256_cmpgt_epi8, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_set_epi64x, _mm256_set1_epi8, _mm256_setr_epi8, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16,
};

/// Bytes to a block, one for each bit of a mask.
pub(super) const BLOCK: usize = 64;

/// What stands in a block; the lowest bit is its first byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Masks {
    pub(super) quote: u64,
    pub(super) backslash: u64,
    /// Brackets, braces, colons and commas; and two control characters, which are nowhere in JSON.
    pub(super) operator: u64,
    /// What has the bit that of the operators brackets and braces have.
    pub(super) bracket: u64,
    /// What has the bit that of brackets and braces the opening ones have, and of colon and comma the colon.
    pub(super) first: u64,
}

/// What seldom stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seldom {
    /// Whether a byte is below a space.
    pub(super) has_control: bool,
    /// Whether a byte is not ASCII.
    pub(super) has_high: bool,
}

/// Brackets differ from braces in this bit alone; colon and comma have it.
const BRACE_BIT: u8 = b'{' ^ b'[';

/// What the scan asks of a processor. All give the same answers. What has a body here is asked for few blocks, or it is
/// not worth more.
pub(super) trait Processor: Copy {
    /// Does the work, compiled for this processor.
    fn run<W: Work>(self, work: W) -> W::Output;

    /// What stands in a block.
    fn masks(self, block: &[u8; BLOCK]) -> Masks;

    /// Each bit xor-ed with all below it.
    fn xor_of_lower(self, bits: u64) -> u64;

    /// What seldom stands there.
    #[inline(always)]
    fn seldom(self, blocks: &[[u8; BLOCK]]) -> Seldom {
        let bytes = || blocks.iter().flatten();
        Seldom {
            has_control: bytes().fold(false, |any, byte| any | (*byte < b' ')),
            has_high: bytes().fold(0, |all, byte| all | byte) > 0x7f,
        }
    }

    /// The bytes that are not ASCII.
    #[inline(always)]
    fn high(self, block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| !byte.is_ascii())
    }

    #[inline(always)]
    fn digits(self, block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| byte.is_ascii_digit())
    }

    /// The bytes that are a whole escape, if a backslash is before them.
    #[inline(always)]
    fn escapes(self, block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| {
            matches!(byte, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')
        })
    }
}

/// The bytes of which something is true.
#[inline(always)]
pub(super) fn mask(block: &[u8; BLOCK], is: impl Fn(u8) -> bool) -> u64 {
    let bits = block.iter().enumerate();
    bits.fold(0, |mask, (at, byte)| mask | u64::from(is(*byte)) << at)
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
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("popcnt");
        is_one.then_some(Self(()))
    }
}

/// A mask of what is made of each of these vectors. Macros here, not functions: what a closure or a generic function does
/// with vectors need not be inlined, and a vector that is handed over in memory costs more than what is done with it.
macro_rules! mask256 {
    ($vectors:ident, $vector:ident => $of:expr) => {{
        let $vector = $vectors.0;
        let low = _mm256_movemask_epi8($of) as u32;
        let $vector = $vectors.1;
        let high = _mm256_movemask_epi8($of) as u32;
        u64::from(low) | u64::from(high) << 32
    }};
}

/// As `mask256`.
macro_rules! mask128 {
    ($vectors:ident, $vector:ident => $of:expr) => {{
        let mut mask = 0;
        for (at, $vector) in $vectors.into_iter().enumerate() {
            mask |= u64::from(_mm_movemask_epi8($of) as u16) << (16 * at);
        }
        mask
    }};
}

/// The masks of both processors below.
macro_rules! masks_of {
    ($vectors:ident, $mask:ident, $equal:ident, $splat:ident, $is_operator:ident, $shift:ident) => {{
        let quote = $splat(b'"' as i8);
        let backslash = $splat(b'\\' as i8);
        Masks {
            quote: $mask!($vectors, vector => $equal(vector, quote)),
            backslash: $mask!($vectors, vector => $equal(vector, backslash)),
            operator: $mask!($vectors, vector => $is_operator(vector)),
            // Bit 6 and bit 1, each moved to where a mask is made of it.
            bracket: $mask!($vectors, vector => $shift::<1>(vector)),
            first: $mask!($vectors, vector => $shift::<6>(vector)),
        }
    }};
}

impl Processor for Avx2 {
    fn run<W: Work>(self, work: W) -> W::Output {
        // Never inlined into a loop of its callers: each work then has the registers to itself.
        #[inline(never)]
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,pclmulqdq,popcnt")]
        fn run<W: Work>(work: W, processor: Avx2) -> W::Output {
            work.run(processor)
        }
        // SAFETY: there is a value of this type only where the processor was asked, in `detect`.
        unsafe { run(work, self) }
    }

    #[inline(always)]
    fn masks(self, block: &[u8; BLOCK]) -> Masks {
        // SAFETY: there is a value of this type only where the processor was asked, in `detect`.
        unsafe {
            let vectors = vectors(block);
            masks_of!(
                vectors,
                mask256,
                _mm256_cmpeq_epi8,
                _mm256_set1_epi8,
                is_operator,
                _mm256_slli_epi16
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

    #[inline(always)]
    fn seldom(self, blocks: &[[u8; BLOCK]]) -> Seldom {
        // SAFETY: there is a value of this type only where the processor was asked, in `detect`.
        unsafe {
            let mut least = _mm256_set1_epi8(-1);
            let mut all = _mm256_setzero_si256();
            for block in blocks {
                let (low, high) = vectors(block);
                least = _mm256_min_epu8(least, _mm256_min_epu8(low, high));
                all = _mm256_or_si256(all, _mm256_or_si256(low, high));
            }
            let control = _mm256_min_epu8(least, _mm256_set1_epi8(0x1f));
            Seldom {
                has_control: _mm256_movemask_epi8(_mm256_cmpeq_epi8(control, least)) != 0,
                has_high: _mm256_movemask_epi8(all) != 0,
            }
        }
    }

    #[inline(always)]
    fn high(self, block: &[u8; BLOCK]) -> u64 {
        // SAFETY: there is a value of this type only where the processor was asked, in `detect`.
        unsafe {
            let vectors = vectors(block);
            mask256!(vectors, vector => vector)
        }
    }

    #[inline(always)]
    fn digits(self, block: &[u8; BLOCK]) -> u64 {
        // SAFETY: there is a value of this type only where the processor was asked, in `detect`.
        unsafe {
            let vectors = vectors(block);
            // So that the nine is the greatest number there is.
            let up = _mm256_set1_epi8((0x7f - b'9') as i8);
            let below = _mm256_set1_epi8(0x7f - 10);
            mask256!(vectors, vector => _mm256_cmpgt_epi8(_mm256_add_epi8(vector, up), below))
        }
    }

    #[inline(always)]
    fn escapes(self, block: &[u8; BLOCK]) -> u64 {
        // Each upper half of a byte has a bit, and each lower half the bits of those that it goes with.
        const QUOTE: i8 = 1; // 2: the quote, the slash
        const LOWER: i8 = 2; // 6: b, f, n
        const UPPER: i8 = 4; // 7: r, t
        const SLASH: i8 = 8; // 5: the backslash
        // SAFETY: there is a value of this type only where the processor was asked, in `detect`.
        unsafe {
            let vectors = vectors(block);
            let half = _mm256_set1_epi8(0xf);
            let upper = table([
                0, 0, QUOTE, 0, 0, SLASH, LOWER, UPPER, 0, 0, 0, 0, 0, 0, 0, 0,
            ]);
            let lower = table([
                0,
                0,
                QUOTE | LOWER | UPPER,
                0,
                UPPER,
                0,
                LOWER,
                0,
                0,
                0,
                0,
                0,
                SLASH,
                0,
                LOWER,
                QUOTE,
            ]);
            mask256!(vectors, vector => {
                let above = _mm256_and_si256(_mm256_srli_epi16::<4>(vector), half);
                let upper = _mm256_shuffle_epi8(upper, above);
                let lower = _mm256_shuffle_epi8(lower, _mm256_and_si256(vector, half));
                _mm256_cmpgt_epi8(_mm256_and_si256(upper, lower), _mm256_setzero_si256())
            })
        }
    }
}

/// A block in two.
#[inline(always)]
fn vectors(block: &[u8; BLOCK]) -> (__m256i, __m256i) {
    let [a, b, c, d, e, f, g, h] = words(block);
    // SAFETY: called by what is compiled for AVX2.
    unsafe { (_mm256_set_epi64x(d, c, b, a), _mm256_set_epi64x(h, g, f, e)) }
}

/// A table of sixteen bytes, once for each half of a vector.
#[inline(always)]
fn table(of: [i8; 16]) -> __m256i {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = of;
    // SAFETY: called by what is compiled for AVX2.
    unsafe {
        _mm256_setr_epi8(
            a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, a, b, c, d, e, f, g, h, i, j, k, l, m,
            n, o, p,
        )
    }
}

/// What is an operator. The lower halves of the four, as braces, differ.
#[inline(always)]
fn is_operator(vector: __m256i) -> __m256i {
    let [comma, colon, open, close] = OPERATORS;
    // SAFETY: called by what is compiled for AVX2.
    unsafe {
        let operators = table([
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, colon, open, comma, close, 0, 0,
        ]);
        let as_brace = _mm256_or_si256(vector, _mm256_set1_epi8(BRACE_BIT as i8));
        _mm256_cmpeq_epi8(_mm256_shuffle_epi8(operators, vector), as_brace)
    }
}

/// As `is_operator`.
#[inline(always)]
fn is_operator_128(vector: __m128i) -> __m128i {
    // SAFETY: every x86-64 processor has SSE2.
    unsafe {
        let as_brace = _mm_or_si128(vector, _mm_set1_epi8(BRACE_BIT as i8));
        let [a, b, c, d] = OPERATORS.map(|one| _mm_cmpeq_epi8(as_brace, _mm_set1_epi8(one)));
        _mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d))
    }
}

const OPERATORS: [i8; 4] = [b',' as i8, b':' as i8, b'{' as i8, b'}' as i8];

impl Processor for Plain {
    fn run<W: Work>(self, work: W) -> W::Output {
        work.run(self)
    }

    #[inline(always)]
    fn masks(self, block: &[u8; BLOCK]) -> Masks {
        let [a, b, c, d, e, f, g, h] = words(block);
        // SAFETY: every x86-64 processor has SSE2.
        unsafe {
            let vectors = [
                _mm_set_epi64x(b, a),
                _mm_set_epi64x(d, c),
                _mm_set_epi64x(f, e),
                _mm_set_epi64x(h, g),
            ];
            masks_of!(
                vectors,
                mask128,
                _mm_cmpeq_epi8,
                _mm_set1_epi8,
                is_operator_128,
                _mm_slli_epi16
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

/// Spelled out: a closure in it need not be inlined into what is compiled for another processor.
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
