//! A record's text with places left open, so that a million different records cost a copy and a few short writes each.

use crate::random::{Random, as_guid, mix, write_guid};
use crate::times::write_zoneless;

/// The record's own Id. Characters of Unicode's private area stand for the places, as no real text holds them.
pub(crate) const ID: &str = "\u{e000}";
/// The zone-less `CreationTime`.
pub(crate) const CREATION_TIME: &str = "\u{e001}";
/// Some GUID.
pub(crate) const GUID: &str = "\u{e002}";
/// Ten digits.
pub(crate) const DIGITS: &str = "\u{e003}";
/// Sixteen hexadecimal digits.
pub(crate) const HEX: &str = "\u{e004}";
/// The `CreationTime` again, with seven decimals and `Z` as some inner fields have it.
pub(crate) const PRECISE_TIME: &str = "\u{e005}";

#[derive(Clone, Copy, Debug)]
enum Slot {
    Id,
    CreationTime,
    Guid,
    Digits,
    Hex,
    PreciseTime,
}

impl Slot {
    fn of(character: char) -> Option<Self> {
        Some(match character {
            '\u{e000}' => Self::Id,
            '\u{e001}' => Self::CreationTime,
            '\u{e002}' => Self::Guid,
            '\u{e003}' => Self::Digits,
            '\u{e004}' => Self::Hex,
            '\u{e005}' => Self::PreciseTime,
            _ => return None,
        })
    }

    fn width(self) -> usize {
        match self {
            Self::Id | Self::Guid => 36,
            Self::CreationTime => 19,
            Self::Digits => 10,
            Self::Hex => 16,
            Self::PreciseTime => 28,
        }
    }
}

/// A record's text and its open places.
#[derive(Debug)]
pub(crate) struct Template {
    text: Vec<u8>,
    slots: Vec<(usize, Slot)>,
    pub(crate) record_type: u32,
}

impl Template {
    pub(crate) fn new(marked: &str, record_type: u32) -> Self {
        let mut text = Vec::with_capacity(marked.len());
        let mut slots = Vec::new();
        let mut buffer = [0; 4];
        for character in marked.chars() {
            match Slot::of(character) {
                Some(slot) => {
                    slots.push((text.len(), slot));
                    text.resize(text.len() + slot.width(), b'0');
                }
                None => text.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes()),
            }
        }
        Self {
            text,
            slots,
            record_type,
        }
    }

    /// Appends the record with this Id and time. The other places follow from `seed`, so the same call gives the same bytes.
    pub(crate) fn append(&self, id: u128, created_secs: i64, seed: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.text);
        let Some(record) = out.get_mut(start..) else {
            return;
        };
        let mut random = Random::new(seed, created_secs as u64);
        for &(at, slot) in &self.slots {
            let Some(place) = record.get_mut(at..at + slot.width()) else {
                continue;
            };
            match slot {
                Slot::Id => write_guid(id, place),
                Slot::CreationTime => write_zoneless(created_secs, place),
                Slot::Guid => write_guid(as_guid(random.next(), random.next()), place),
                Slot::Digits => write_digits(random.next(), place),
                Slot::Hex => write_hex(random.next(), place),
                Slot::PreciseTime => {
                    write_zoneless(created_secs, place);
                    if let Some(fraction) = place.get_mut(19..) {
                        write_digits(mix(seed), fraction);
                        fraction[0] = b'.';
                        fraction[8] = b'Z';
                    }
                }
            }
        }
    }
}

fn write_digits(mut value: u64, place: &mut [u8]) {
    for digit in place {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn write_hex(value: u64, place: &mut [u8]) {
    for (at, digit) in place.iter_mut().enumerate() {
        let nibble = (value >> (4 * (at % 16))) & 15;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
}
