//! Length-limited Huffman codes, and the canonical codes that belong to the lengths.

/// No alphabet of DEFLATE is larger.
const MAX_SYMBOLS: usize = 288;
/// No code of DEFLATE is longer.
pub(crate) const MAX_BITS: usize = 15;
/// Bits of a sort key that hold the symbol.
const SYMBOL_BITS: u32 = 9;

/// The length of each symbol's code, none above `max_bits`; 0 for a symbol that does not occur. The code is always
/// complete, with two codes of one bit where fewer than two symbols occur: some decoders take no other. Counts must stay
/// below 2^23, in sum too.
pub(crate) fn code_lengths<const N: usize>(counts: &[u32; N], max_bits: usize) -> [u8; N] {
    const { assert!(N >= 2 && N <= MAX_SYMBOLS) };
    let mut lengths = [0; N];
    let mut keys = [0_u32; N];
    let mut used = 0;
    for (symbol, &count) in counts.iter().enumerate() {
        if count > 0 {
            keys[used] = count << SYMBOL_BITS | symbol as u32;
            used += 1;
        }
    }
    let symbol_of = |key: u32| (key & ((1 << SYMBOL_BITS) - 1)) as usize;
    if used < 2 {
        // With none the first two symbols, with one that and the first other.
        let symbol = symbol_of(keys[0]);
        lengths[symbol] = 1;
        lengths[usize::from(symbol == 0)] = 1;
        return lengths;
    }
    let keys = &mut keys[..used];
    keys.sort_unstable();

    let mut left = code_count_by_length::<N>(keys);
    limit(&mut left, max_bits);
    // The rarest symbol gets the longest code.
    let mut bits = max_bits;
    for &key in keys.iter() {
        while left[bits] == 0 {
            bits -= 1;
        }
        left[bits] -= 1;
        lengths[symbol_of(key)] = bits as u8;
    }
    lengths
}

/// How many codes there are of each length without a limit, everything longer than 63 bits counted as 63. `keys` are
/// sorted, and two at least.
fn code_count_by_length<const N: usize>(keys: &[u32]) -> [u32; 64] {
    // Two queues, both in ascending order: the leaves, and the nodes in the order in which they come to be.
    let mut weight = [0_u32; N];
    let mut node_parent = [0_u16; N];
    let mut leaf_parent = [0_u16; N];
    let (mut leaf, mut node) = (0, 0);
    let root = keys.len() - 2;
    for parent in 0..=root {
        let mut sum = 0;
        for _child in 0..2 {
            let leaf_count = keys.get(leaf).map(|key| key >> SYMBOL_BITS);
            match leaf_count {
                Some(count) if node == parent || count <= weight[node] => {
                    sum += count;
                    leaf_parent[leaf] = parent as u16;
                    leaf += 1;
                }
                _ => {
                    sum += weight[node];
                    node_parent[node] = parent as u16;
                    node += 1;
                }
            }
        }
        weight[parent] = sum;
    }
    let mut depth = [0_u8; N];
    for node in (0..root).rev() {
        depth[node] = (depth[usize::from(node_parent[node])] + 1).min(62);
    }
    let mut by_length = [0; 64];
    for &parent in &leaf_parent[..keys.len()] {
        by_length[usize::from(depth[usize::from(parent)]) + 1] += 1;
    }
    by_length
}

/// Brings all codes to `max_bits` at most and keeps the code complete. Not optimal, as package-merge would be; the
/// difference is in a code that is too long in the first place, which is one for what hardly occurs.
fn limit(by_length: &mut [u32; 64], max_bits: usize) {
    let mut too_long = 0;
    for count in &mut by_length[max_bits + 1..] {
        too_long += std::mem::take(count);
    }
    if too_long == 0 {
        return;
    }
    by_length[max_bits] += too_long;
    // In units of the shortest stretch of code space, that of a code of `max_bits`.
    let full = 1_u32 << max_bits;
    let space = |bits: usize| 1_u32 << (max_bits - bits);
    let mut taken: u32 = (1..=max_bits)
        .map(|bits| by_length[bits] * space(bits))
        .sum();
    // The longest that can be longer becomes so: of all ways to gain space the cheapest.
    while taken > full {
        let bits = (1..max_bits)
            .rev()
            .find(|&bits| by_length[bits] > 0)
            .expect("codes of the greatest length alone never take too much space");
        by_length[bits] -= 1;
        by_length[bits + 1] += 1;
        taken -= space(bits + 1);
    }
    // What was gained too much is given back, first where it shortens most.
    for bits in 1..max_bits {
        while by_length[bits + 1] > 0 && taken + space(bits + 1) <= full {
            by_length[bits + 1] -= 1;
            by_length[bits] += 1;
            taken += space(bits + 1);
        }
    }
}

/// The canonical codes of these lengths, their bits reversed, because DEFLATE writes a code from its highest bit on.
pub(crate) fn codes<const N: usize>(lengths: &[u8; N]) -> [u16; N] {
    let mut by_length = [0_u16; MAX_BITS + 1];
    for &length in lengths {
        by_length[usize::from(length) & MAX_BITS] += 1;
    }
    by_length[0] = 0;
    let mut next = [0_u16; MAX_BITS + 1];
    let mut code = 0;
    for bits in 1..=MAX_BITS {
        code = (code + by_length[bits - 1]) << 1;
        next[bits] = code;
    }
    std::array::from_fn(|symbol| {
        let length = usize::from(lengths[symbol]) & MAX_BITS;
        if length == 0 {
            return 0;
        }
        let code = next[length];
        next[length] += 1;
        code.reverse_bits() >> (16 - length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code space that the lengths take, of 2^15.
    fn space(lengths: &[u8]) -> u32 {
        let used = lengths.iter().filter(|&&length| length > 0);
        used.map(|&length| 1 << (MAX_BITS - usize::from(length)))
            .sum()
    }

    #[test]
    fn a_code_is_complete_and_within_its_limit_whatever_the_counts() {
        for limit in [7, 15] {
            for used in 0..=19 {
                // Each as rare beside the next as it can be, for the longest codes.
                let mut counts = [0_u32; 19];
                let (mut a, mut b) = (1, 1);
                for count in &mut counts[..used] {
                    *count = a;
                    (a, b) = (b, a + b);
                }
                let lengths = code_lengths(&counts, limit);
                assert_eq!(space(&lengths), 1 << MAX_BITS, "{used} symbols");
                for (count, length) in counts.iter().zip(lengths) {
                    assert!(usize::from(length) <= limit);
                    assert!(*count == 0 || length > 0);
                }
            }
        }
    }

    #[test]
    fn what_occurs_more_often_has_no_longer_code() {
        let counts: [u32; 286] = std::array::from_fn(|n| (n as u32 * 7919) % 1009);
        let lengths = code_lengths(&counts, MAX_BITS);
        for (a, length_a) in counts.iter().zip(lengths) {
            for (b, length_b) in counts.iter().zip(lengths) {
                assert!(a <= b || *b == 0 || length_a <= length_b);
            }
        }
        assert_eq!(space(&lengths), 1 << MAX_BITS);
    }

    #[test]
    fn the_codes_of_the_rfcs_example_are_the_rfcs() {
        // RFC 1951, 3.2.2: lengths 3,3,3,3,3,2,4,4 give 010 011 100 101 110 00 1110 1111.
        let codes = codes(&[3, 3, 3, 3, 3, 2, 4, 4]);
        let reversed = [0b010, 0b110, 0b001, 0b101, 0b011, 0b00, 0b0111, 0b1111];
        assert_eq!(codes, reversed);
    }
}
