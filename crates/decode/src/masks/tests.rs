//! Every processor says of each byte what the descriptions say.

use super::*;

/// Everything that is asked about a block.
type Answers = (Masks, u64, Seldom, [u64; 3]);

/// Byte by byte, as the fields' descriptions say.
fn slowly(block: &[u8; BLOCK]) -> Answers {
    let masks = Masks {
        quote: mask(block, |byte| byte == b'"'),
        backslash: mask(block, |byte| byte == b'\\'),
        operator: mask(block, |byte| {
            matches!(byte, b'{' | b'}' | b'[' | b']' | b':' | b',' | 0x0c | 0x1a)
        }),
        bracket: mask(block, |byte| byte & 0x40 != 0),
        first: mask(block, |byte| byte & 2 != 0),
    };
    let high = mask(block, |byte| byte >= 0x80);
    let ones = masks.quote | high;
    let odd = |at: u32| (ones << (63 - at)).count_ones() % 2;
    let xor = (0..64).fold(0, |xor, at| xor | u64::from(odd(at)) << at);
    let seldom = Seldom {
        has_control: block.iter().any(|byte| *byte < b' '),
        has_high: high != 0,
    };
    let digits = mask(block, |byte| byte.is_ascii_digit());
    let escapes = mask(block, |byte| b"\"\\/bfnrt".contains(&byte));
    (masks, xor, seldom, [high, digits, escapes])
}

struct Block<'a>(&'a [u8; BLOCK]);

impl Work for Block<'_> {
    type Output = Answers;

    #[inline(always)]
    fn run(self, processor: impl Processor) -> Answers {
        let masks = processor.masks(self.0);
        let high = processor.high(self.0);
        (
            masks,
            processor.xor_of_lower(masks.quote | high),
            processor.seldom(&[[b'a'; BLOCK], *self.0]),
            [high, processor.digits(self.0), processor.escapes(self.0)],
        )
    }
}

#[test]
fn the_bits_that_tell_operators_apart_are_where_the_masks_say() {
    for (byte, bracket, first) in [
        (b'{', true, true),
        (b'[', true, true),
        (b'}', true, false),
        (b']', true, false),
        (b':', false, true),
        (b',', false, false),
    ] {
        let (masks, ..) = slowly(&[byte; BLOCK]);
        assert_eq!(masks.operator, u64::MAX);
        assert_eq!(masks.bracket != 0, bracket, "{byte}");
        assert_eq!(masks.first != 0, first, "{byte}");
    }
}

#[test]
fn every_byte_at_every_place_is_classified_alike_by_every_processor() {
    for byte in 0..=u8::MAX {
        for other in [b'a', b'"', 0xff] {
            for at in 0..BLOCK {
                let mut block = [other; BLOCK];
                block[at] = byte;
                let expected = slowly(&block);
                assert_eq!(Plain.run(Block(&block)), expected, "{byte} among {other}");
                if let Some(avx2) = Avx2::detect() {
                    let found = avx2.run(Block(&block));
                    assert_eq!(found, expected, "{byte} among {other}, AVX2");
                }
            }
        }
    }
}
