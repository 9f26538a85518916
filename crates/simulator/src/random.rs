//! Seeded numbers and GUIDs. Written out here because a generator from a crate may give other numbers in its next version,
//! and a failing seed must stay worth keeping.

use std::fmt::Write as _;

/// A small seeded generator (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        Self {
            state: mix(seed ^ mix(purpose)),
        }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The high half of a wide product: without the division of a remainder, and nearly without its bias.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let at = self.below(items.len() as u64) as usize;
        items.get(at).expect("the lists to pick from are not empty")
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn guid(&mut self) -> String {
        guid_text(as_guid(self.next(), self.next()))
    }

    pub(crate) fn hex(&mut self, digits: usize) -> String {
        let mut text = String::with_capacity(digits + 16);
        while text.len() < digits {
            write!(text, "{:016x}", self.next()).expect("writing to a String cannot fail");
        }
        text.truncate(digits);
        text
    }
}

/// The finalizer of splitmix64: every input bit changes about half of the output's.
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Ids of records, made from the record's number and readable back: so no table of a million ids is needed to know them again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordIds {
    seed: u64,
}

impl RecordIds {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed: mix(seed ^ 0x1d5),
        }
    }

    /// The Id of record `index`: its first 32 bits are the number, scrambled; the rest follows from number and seed.
    pub(crate) fn id(self, index: u32) -> u128 {
        let high = mix(self.seed ^ u64::from(index));
        let low = mix(high ^ self.seed.rotate_left(32));
        let scrambled = u64::from(scramble(index ^ self.seed as u32));
        as_guid((scrambled << 32) | (high & 0xffff_ffff), low)
    }

    /// The number of the record with this Id, when the Id is one that [`RecordIds::id`] makes.
    pub(crate) fn index(self, id: u128) -> Option<u32> {
        let index = unscramble((id >> 96) as u32) ^ self.seed as u32;
        (self.id(index) == id).then_some(index)
    }
}

fn scramble(value: u32) -> u32 {
    let value = (value ^ (value >> 16)).wrapping_mul(0x85eb_ca6b);
    let value = (value ^ (value >> 13)).wrapping_mul(0xc2b2_ae35);
    value ^ (value >> 16)
}

fn unscramble(value: u32) -> u32 {
    let value = (value ^ (value >> 16)).wrapping_mul(INVERSE_2);
    let value = (value ^ (value >> 13) ^ (value >> 26)).wrapping_mul(INVERSE_1);
    value ^ (value >> 16)
}

const INVERSE_1: u32 = inverse(0x85eb_ca6b);
const INVERSE_2: u32 = inverse(0xc2b2_ae35);

/// The inverse of an odd number modulo 2^32; each round doubles the number of right bits.
const fn inverse(odd: u32) -> u32 {
    let mut guess = odd;
    let mut round = 0;
    while round < 5 {
        guess = guess.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(guess)));
        round += 1;
    }
    guess
}

/// Sets the bits that make 128 bits a version 4 GUID.
pub(crate) fn as_guid(high: u64, low: u64) -> u128 {
    let high = (high & 0xffff_ffff_ffff_0fff) | 0x4000;
    let low = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    (u128::from(high) << 64) | u128::from(low)
}

pub(crate) fn guid_text(guid: u128) -> String {
    uuid::Uuid::from_u128(guid).to_string()
}

/// Writes a GUID's 36 characters; a shorter place is left as it is.
pub(crate) fn write_guid(guid: u128, place: &mut [u8]) {
    if let Some(place) = place.first_chunk_mut::<36>() {
        uuid::Uuid::from_u128(guid).hyphenated().encode_lower(place);
    }
}

/// Reads a GUID of 36 characters.
pub(crate) fn parse_guid(text: &[u8]) -> Option<u128> {
    if text.len() != 36 {
        return None;
    }
    uuid::Uuid::try_parse_ascii(text)
        .ok()
        .map(|guid| guid.as_u128())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_id_reads_back_as_its_number() {
        let ids = RecordIds::new(7);
        for index in (0..100_000).chain(u32::MAX - 10..=u32::MAX) {
            assert_eq!(ids.index(ids.id(index)), Some(index));
        }
    }

    #[test]
    fn an_id_of_another_seed_is_not_taken_for_ours() {
        let (ours, other) = (RecordIds::new(1), RecordIds::new(2));
        assert!((0..10_000).all(|index| ours.index(other.id(index)).is_none()));
    }

    #[test]
    fn a_guid_is_written_as_it_is_printed() {
        let guid = as_guid(0x0123_4567_89ab_cdef, 42);
        let mut place = [0; 36];
        write_guid(guid, &mut place);
        assert_eq!(place.as_slice(), guid_text(guid).as_bytes());
        assert_eq!(parse_guid(&place), Some(guid));
    }
}
