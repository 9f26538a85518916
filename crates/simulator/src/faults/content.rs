//! What a storm makes of the plan before anything is served: which blobs are late, hidden, gone or rubbish, and which
//! records are odd. Drawn once; the verdict knows all of it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::storm::{Class, SinkKind, Storm, What, draw};
use crate::plan::{Fate, Plan};
use crate::random::mix;

/// The bytes that a generated record has on average, by which a blob of a given size is planned.
pub(crate) const RECORD_BYTES: u64 = 1_200;

/// What is odd about single records.
#[derive(Debug, Default)]
pub(crate) struct OddRecords {
    pub(crate) odd: HashMap<u32, Oddity>,
    refused: HashSet<(SinkId, u32)>,
}

type SinkId = u8;

/// What is odd about a record. One thing at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oddity {
    WithoutId,
    WithoutCreationTime,
    /// What stands in its place is no record; which of the kinds there are follows from the number.
    Undecodable(u64),
    /// As long as this.
    Large(u32),
}

impl OddRecords {
    /// Whether a sink never takes this record.
    pub(crate) fn is_refused(&self, sink: SinkKind, record: u32) -> bool {
        !self.refused.is_empty() && self.refused.contains(&(sink as SinkId, record))
    }
}

/// Records of each blob that the storm adds to the plan: one number for each such blob.
pub(crate) fn huge_blobs(storm: &Storm) -> Vec<u32> {
    let mut huge = Vec::new();
    for fault in &storm.faults {
        if let Some(What::HugeBlob(bytes)) = fault.whats.first() {
            let count = u32::try_from(bytes / RECORD_BYTES).unwrap_or(u32::MAX);
            huge.extend((0..fault.at_most.unwrap_or(1)).map(|_| count));
        }
    }
    huge
}

/// Draws what each blob and record meets.
pub(crate) fn apply(storm: &Storm, seed: u64, plan: &mut Plan) -> OddRecords {
    let seed = storm.seed.unwrap_or(seed);
    for (number, fault) in storm.faults.iter().enumerate() {
        if !fault.is_class(Class::Blob) {
            continue;
        }
        let mut left = fault.at_most.unwrap_or(u64::MAX);
        for at in shuffled(plan.blobs.len(), seed, number) {
            let drawn = draw(seed, number, at as u64);
            let Some(what) = fault.pick(drawn).filter(|_| fault.is_drawn(drawn)) else {
                continue;
            };
            let start_ms = plan.start_ms;
            let Some(blob) = plan.blobs.get_mut(at) else {
                continue;
            };
            // One fate for each blob, so that every other one must be delivered. A huge one is there to be delivered.
            let is_free = blob.fate == Fate::Good && !blob.is_huge;
            match what {
                What::Expired if is_free && left > 0 => blob.fate = Fate::Expired,
                What::UndecodableBlob if is_free && left > 0 => blob.fate = Fate::Undecodable,
                What::Late(shortest, longest) if left > 0 => {
                    let after = shortest + (longest - shortest).mul_f64(share(drawn));
                    blob.available_ms = blob.created_ms.max(start_ms).saturating_add(ms(after));
                }
                What::NotListed if blob.is_notified && left > 0 => blob.is_listed = false,
                What::NotNotified if blob.is_listed && left > 0 => blob.is_notified = false,
                _ => continue,
            }
            left -= 1;
        }
    }
    plan.index_available();
    let mut records = OddRecords::default();
    for (number, fault) in storm.faults.iter().enumerate() {
        if fault.is_class(Class::Record) {
            let mut left = fault.at_most.unwrap_or(u64::MAX);
            for record in drawn_records(plan, seed, number, fault.share) {
                let drawn = draw(seed, number, u64::from(record));
                if left > 0
                    && let Some(what) = fault.pick(drawn)
                    && records.make_odd(what, record, drawn, plan)
                {
                    left -= 1;
                }
            }
        }
    }
    records
}

impl OddRecords {
    /// Whether something came of it.
    fn make_odd(&mut self, what: What, record: u32, drawn: u64, plan: &mut Plan) -> bool {
        let oddity = match what {
            What::WithoutId => Oddity::WithoutId,
            What::WithoutCreationTime => Oddity::WithoutCreationTime,
            What::UndecodableRecord => Oddity::Undecodable(drawn),
            What::LargeRecord(bytes) => Oddity::Large(bytes),
            What::RefusedRecord(sink) => {
                let is_odd = self.odd.contains_key(&record);
                return !is_odd && self.refused.insert((sink as SinkId, record));
            }
            What::RepeatedRecord(apart) => {
                let is_odd = self.odd.contains_key(&record);
                return !is_odd && plan.repeat(record, ms(apart), drawn);
            }
            _ => return false,
        };
        let is_taken = self.odd.contains_key(&record)
            || plan.is_repeated(record)
            || self.refused.iter().any(|&(_, refused)| refused == record);
        if !is_taken {
            self.odd.insert(record, oddity);
        }
        !is_taken
    }
}

/// The records that a fault is drawn for, in an order in which the first few are anywhere.
fn drawn_records(plan: &Plan, seed: u64, number: usize, part: f64) -> Vec<u32> {
    let most = (1_u64 << 53) as f64;
    let mut records: Vec<u32> = plan
        .blobs
        .iter()
        .filter(|blob| !blob.is_huge)
        .flat_map(|blob| blob.first..blob.first + blob.count)
        .filter(|&record| {
            let drawn = draw(seed, number, u64::from(record));
            ((drawn >> 11) as f64) < part * most
        })
        .collect();
    records.sort_by_key(|&record| mix(draw(seed, number, u64::from(record)) ^ 0x0d0e));
    records
}

/// All numbers below `count`, in an order that the seed chooses.
fn shuffled(count: usize, seed: u64, number: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..count).collect();
    all.sort_by_key(|&at| mix(draw(seed, number, at as u64) ^ 0x0d0e));
    all
}

/// A drawn number as a part of one.
fn share(drawn: u64) -> f64 {
    (mix(drawn ^ 0x1a7e) >> 11) as f64 / (1_u64 << 53) as f64
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// What stands where a record should be. Balanced in its brackets and quotes, so that it spoils no neighbor.
pub(crate) fn rubbish(drawn: u64, out: &mut Vec<u8>) {
    let texts: [&[u8]; 8] = [
        b"\"a text in place of a record\"",
        b"42",
        b"null",
        b"[{\"Id\":\"a list\"}]",
        b"{\"Id\":\"6f1b7e9c-2f0e-4a57-9d66-0d2f1f0a4b11\",\"Operation\":}",
        b"{\"CreationTime\":\"2026-07-15T20:03:19\" \"Operation\":\"no comma\"}",
        b"{\"Operation\":\"no \xff\xfe text\"}",
        b"{Operation:'not quoted'}",
    ];
    let at = (drawn % texts.len() as u64) as usize;
    out.extend_from_slice(texts.get(at).copied().unwrap_or_default());
}

/// Takes a field whose value is a text out of the record that begins at `start`. A field of an object inside is left alone.
pub(crate) fn without_field(text: &mut Vec<u8>, start: usize, name: &str) {
    let key = format!("\"{name}\":\"");
    let (mut depth, mut is_in_text, mut is_escaped) = (0, false, false);
    let record = text.get(start..).unwrap_or_default();
    let mut found = None;
    for (at, &byte) in record.iter().enumerate() {
        if is_in_text {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' if depth == 1
                && record
                    .get(at..)
                    .unwrap_or_default()
                    .starts_with(key.as_bytes()) =>
            {
                found = Some(at);
                break;
            }
            b'"' => is_in_text = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    let Some(from) = found else { return };
    let value = record.get(from + key.len()..).unwrap_or_default();
    // Ids and times have nothing in them that would be escaped.
    let Some(end) = memchr::memchr(b'"', value) else {
        return;
    };
    let (mut from, mut to) = (start + from, start + from + key.len() + end + 1);
    if text.get(to) == Some(&b',') {
        to += 1;
    } else if text.get(from - 1) == Some(&b',') {
        from -= 1;
    }
    text.drain(from..to);
}

/// Makes a record as long as this by a field of its own.
pub(crate) fn lengthen(text: &mut Vec<u8>, start: usize, bytes: u32) {
    const FIELD: &[u8] = b"\"ExtendedProperties\":\"";
    const END: &[u8] = b"\",";
    let length = text.len() - start;
    let missing = (bytes as usize).saturating_sub(length + FIELD.len() + END.len());
    let mut field = Vec::with_capacity(bytes as usize);
    field.extend_from_slice(FIELD);
    field.extend(
        b"the quick brown fox jumps over the lazy dog. "
            .iter()
            .cycle()
            .take(missing),
    );
    field.extend_from_slice(END);
    // Behind the opening brace.
    text.splice(start + 1..start + 1, field);
}
