//! The decoder: a blob's bytes become records and undecodable stretches, and nothing of them goes missing in between.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::without_bom;
use decode::{FieldSpan, Limits, RawDecoded, RawPart, RecordSpan, decode_pieces, decode_whole};

/// Sizes that let a text of some hundred bytes fill buffers, grow them, and pass over every limit.
const SMALL: [Limits; 3] = [
    Limits {
        part_bytes: 1,
        record_bytes: 8,
        kept_bytes: 3,
    },
    Limits {
        part_bytes: 16,
        record_bytes: 64,
        kept_bytes: 24,
    },
    Limits {
        part_bytes: 50,
        record_bytes: 300,
        kept_bytes: 1_000,
    },
];

/// Small parts, and the pipeline's other limits: what is a record must not depend on where parts are cut.
const SMALL_PARTS: Limits = Limits {
    part_bytes: 16,
    ..Limits::PIPELINE
};

/// Tries a blob.
pub fn blob(bytes: &[u8]) {
    // In one piece: the pieces matter where a buffer is full, and one of the pipeline's holds more than a whole input.
    let whole = check(Limits::PIPELINE, bytes, &[]);
    agree_with_a_library(bytes, &whole);

    let in_small_parts = check(SMALL_PARTS, bytes, &[1, 7]);
    assert_eq!(in_small_parts.totals, whole.totals);
    assert_eq!(in_small_parts.undecodable, whole.undecodable);
    let records = |decoded: &RawDecoded| -> Vec<Vec<u8>> {
        let records = decoded.parts.iter().flat_map(records);
        records.map(<[u8]>::to_vec).collect()
    };
    assert_eq!(records(&in_small_parts), records(&whole));
    let error = |decoded: &RawDecoded| decoded.broken.as_ref().map(|(error, _)| error.clone());
    assert_eq!(error(&in_small_parts), error(&whole));

    for limits in SMALL {
        check(limits, bytes, &[1, limits.part_bytes + 1]);
    }
}

/// What holds whatever the limits are, and however the bytes are cut into pieces.
fn check(limits: Limits, bytes: &[u8], pieces: &[usize]) -> RawDecoded {
    let decoded = decode_pieces(limits, [bytes]);
    // A sink's earlier yes is recognized by the part, so a connection that was faster the first time must not matter.
    for piece in pieces {
        assert_eq!(
            decode_pieces(limits, bytes.chunks(*piece)),
            decoded,
            "in pieces of {piece}"
        );
    }
    assert_eq!(decode_whole(limits, bytes), decoded, "where it lies");
    check_numbers(limits, &decoded);
    check_coverage(limits, bytes, &decoded);
    decoded
}

fn check_numbers(limits: Limits, decoded: &RawDecoded) {
    let mut record_count = 0;
    let mut byte_count = 0;
    // A buffer grows by doubling, up to the limit of a record.
    let longest = (2 * limits.record_bytes).max(limits.part_bytes);
    for part in &decoded.parts {
        assert_eq!(part.first_record, record_count, "numbers without gaps");
        assert!(!part.spans.is_empty(), "an empty part");
        assert!(part.text.len() <= longest, "{} bytes", part.text.len());
        record_count += part.spans.len() as u64;
        byte_count += part
            .spans
            .iter()
            .map(|span| u64::from(span.len))
            .sum::<u64>();
    }
    for stretch in &decoded.undecodable {
        assert!(stretch.bytes.len() <= limits.kept_bytes);
    }
    assert_eq!(decoded.totals.record_count, record_count);
    assert_eq!(decoded.totals.byte_count, byte_count);
    assert_eq!(
        decoded.totals.undecodable_count,
        decoded.undecodable.len() as u64
    );
}

/// Walks the input once: only the array's own punctuation may stand between what was found, and behind the last of it
/// nothing, or what was set apart as the array's damage.
fn check_coverage(limits: Limits, bytes: &[u8], decoded: &RawDecoded) {
    let mut rest = trim(bytes);
    // A second mark, or white space between marks: the decoder takes both, and so does this.
    while let Some(after) = rest.strip_prefix(b"\xef\xbb\xbf") {
        rest = trim(after);
    }
    if let Some((decode::Error::NotAnArray, kept)) = &decoded.broken {
        assert!(decoded.parts.is_empty() && decoded.undecodable.is_empty());
        assert!(rest.starts_with(kept) && (1..=limits.kept_bytes).contains(&kept.len()));
        assert_ne!(kept.first(), Some(&b'['));
        return;
    }
    rest = rest.strip_prefix(b"[").unwrap_or(rest);

    for element in elements(decoded) {
        rest = trim(rest);
        rest = trim(rest.strip_prefix(b",").unwrap_or(rest));
        let Some(after) = rest.strip_prefix(element.bytes) else {
            panic!(
                "{:?} is not the head of {:?}",
                String::from_utf8_lossy(element.bytes),
                String::from_utf8_lossy(rest)
            );
        };
        rest = after
            .get(element.left_out..)
            .expect("no more is left out than there is");
    }

    rest = trim(rest);
    match &decoded.broken {
        None => {
            let behind = rest.strip_prefix(b"]").map(trim);
            assert_eq!(behind, Some(&[][..]), "bytes behind the array's end");
        }
        Some((decode::Error::Truncated, kept)) => {
            // The comma before the record that was cut off.
            let from = rest.strip_prefix(b",").map_or(rest, trim);
            assert!(from.starts_with(kept), "not the bytes that were cut off");
            assert!(
                kept.len() == from.len() || kept.len() == limits.kept_bytes,
                "{} of {} bytes are kept",
                kept.len(),
                from.len()
            );
        }
        Some((_, kept)) => {
            let behind = rest.strip_prefix(b"]").map(trim).expect("the array ended");
            assert!(behind.starts_with(kept) && (1..=limits.kept_bytes).contains(&kept.len()));
        }
    }
}

/// One element of the array as it was found.
struct Element<'a> {
    bytes: &'a [u8],
    /// Bytes of it that were not kept.
    left_out: usize,
}

/// Records and undecodable stretches in the array's order.
fn elements(decoded: &RawDecoded) -> Vec<Element<'_>> {
    let mut records = decoded.parts.iter().flat_map(records);
    let mut undecodable = decoded.undecodable.iter().peekable();
    let count = decoded.totals.record_count + decoded.totals.undecodable_count;
    (0..count)
        .map(
            |index| match undecodable.next_if(|stretch| stretch.index_in_array == index) {
                Some(stretch) => Element {
                    bytes: &stretch.bytes,
                    left_out: left_out(&stretch.reason, stretch.bytes.len()),
                },
                None => Element {
                    bytes: records.next().expect("each place of the array has one"),
                    left_out: 0,
                },
            },
        )
        .collect()
}

/// From the end of a reason: `(the first 3 of 17 bytes are kept)`.
fn left_out(reason: &str, kept: usize) -> usize {
    let total = reason
        .strip_suffix(" bytes are kept)")
        .and_then(|text| text.rsplit(' ').next()?.parse::<usize>().ok());
    total.map_or(0, |total| total - kept)
}

fn records(part: &RawPart) -> impl Iterator<Item = &[u8]> {
    part.spans.iter().map(|span| {
        let start = span.start as usize;
        &part.text[start..start + span.len as usize]
    })
}

/// A JSON library finds the same elements, or finds that it is no array where something was set apart.
fn agree_with_a_library(bytes: &[u8], decoded: &RawDecoded) {
    let read: Result<Vec<&RawValue>, _> = serde_json::from_slice(without_bom(trim(bytes)));
    let is_whole = decoded.broken.is_none() && decoded.undecodable.is_empty();
    let Ok(values) = read else {
        let marks = bytes.windows(3).filter(|bytes| *bytes == b"\xef\xbb\xbf");
        assert!(
            !is_whole || marks.count() > 1,
            "no JSON to a library, and nothing was set apart"
        );
        return;
    };
    assert_eq!(decoded.broken, None, "a library reads a whole array");
    let found = elements(decoded);
    assert_eq!(found.len(), values.len());
    for (element, value) in found.iter().zip(&values) {
        // What is set apart ends before the next comma, so white space may stand at its end.
        assert_eq!(element.bytes.trim_ascii_end(), value.get().as_bytes());
    }
    for stretch in &decoded.undecodable {
        let is_object = stretch.bytes.first() == Some(&b'{');
        let is_deep = stretch.reason.contains("nests deeper");
        assert!(
            !is_object || is_deep,
            "{}: a record is lost",
            stretch.reason
        );
    }
    for part in &decoded.parts {
        for (text, span) in records(part).zip(&part.spans) {
            check_fields(text, span);
        }
    }
}

/// The three fields are what a library reads, as written. Names with escapes in them are left out: they are compared as
/// they stand, and Microsoft never wrote one.
fn check_fields(text: &[u8], span: &RecordSpan) {
    let is_compact = is_compact(text);
    assert_eq!(span.is_compact, is_compact);
    if text.contains(&b'\\') {
        return;
    }
    let fields: HashMap<&str, &RawValue> =
        serde_json::from_slice(text).expect("a library reads the record");
    let string = |name: &str| {
        let value = fields.get(name)?.get();
        value.strip_prefix('"')?.strip_suffix('"')
    };
    let spanned = |field: FieldSpan| {
        let start = field.start as usize;
        std::str::from_utf8(&text[start..start + field.len as usize]).expect("UTF-8")
    };
    assert_eq!(spanned(span.id), string("Id").unwrap_or_default());
    assert_eq!(
        spanned(span.creation_time),
        string("CreationTime").unwrap_or_default()
    );
    let record_type = fields.get("RecordType");
    assert_eq!(
        span.record_type,
        record_type.and_then(|value| value.get().parse().ok())
    );
}

fn is_compact(text: &[u8]) -> bool {
    let (mut in_string, mut escaped) = (false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => return false,
            _ => {}
        }
    }
    true
}

/// Without JSON's white space at its head.
fn trim(bytes: &[u8]) -> &[u8] {
    let space = bytes
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    &bytes[space.count()..]
}
