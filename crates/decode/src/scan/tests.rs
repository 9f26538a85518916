//! The scan and the walk agree: what the scan takes for a record is one to the walk, with the same fields, whatever was done
//! to the text. And the scan finds what it is there for.

use proptest::prelude::*;

use super::*;
use crate::json::{Walk, walk};

/// Records as they come, and with everything in them that is legal and rare.
const RECORDS: [&str; 8] = [
    r#"{"CreationTime":"2026-01-01T00:00:07","Id":"00000000-0000-4000-8000-000000000001","Operation":"Update user.","RecordType":8,"UserType":0,"ExtendedProperties":[{"Name":"additionalDetails","Value":"{\"UserType\":\"Member\"}"}],"Actor":[{"ID":"admin@contoso.example","Type":5}],"ModifiedProperties":[]}"#,
    r#"{"Id":"a\/b","n":12345678901234567890,"f":1.0e-7,"g":-0,"h":-1.5E+3,"u":"\ud83d\ude00é","n2":null,"x":[true,false,{}],"e":[],"o":{},"s":""}"#,
    r#"{"Id":7,"CreationTime":null,"RecordType":"1"}"#,
    r#"{"Id":"a","Id":1,"CreationTime":"b\\","CreationTime":[1,[2,"x",["y"]],{"Id":"c","RecordType":3}],"RecordType":1,"RecordType":-15}"#,
    r#"{"a\"Id":"no","\"Id":"no","Id\"":"no","xRecordType":2,"a\"RecordType":4,"RecordType":99999999999999999999,"CreationTime":"\\\\\"\\"}"#,
    r#"{"":"","\\":"\\\\","a":[[[[[{"b":[{}]}]]]],0],"RecordType":1.5}"#,
    r#"{"Name":"Zoë Åström","Text":"日本語のテキスト, {not} [a] \"token\": \u00e9","Id":"ключ"}"#,
    r#"{}"#,
];

/// What the walk finds where the scan may go on by itself: compact objects behind bare commas.
fn walked(text: &[u8]) -> Vec<RecordSpan> {
    let mut spans = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| rest.first() == Some(&b'{')) {
        let Walk::Whole(value) = walk(rest) else {
            break;
        };
        let is_utf_8 = std::str::from_utf8(&rest[..value.len]).is_ok();
        if !value.is_object || !value.is_compact || !is_utf_8 {
            break;
        }
        spans.push(RecordSpan {
            start: at as u32,
            len: value.len as u32,
            id: value.id,
            creation_time: value.creation_time,
            record_type: value.record_type,
            is_compact: true,
        });
        if rest.get(value.len) != Some(&b',') {
            break;
        }
        at += value.len + 1;
    }
    spans
}

/// Scans `text` with and without AVX2.
fn check(text: &[u8]) {
    // The scan is asked where a record may begin, and nowhere else.
    if text.first() != Some(&b'{') {
        return;
    }
    let expected = walked(text);
    for (lead, is_plain) in [(0, false), (37, true)] {
        let mut shifted = vec![b' '; lead];
        shifted.extend_from_slice(text);
        let mut spans = Vec::new();
        let end = match Avx2::detect().filter(|_| !is_plain) {
            Some(avx2) => scan_on(avx2, &shifted, lead, &mut spans),
            None => scan_on(Plain, &shifted, lead, &mut spans),
        };
        for span in &mut spans {
            span.start -= lead as u32;
        }
        let readable = String::from_utf8_lossy(text);
        assert_eq!(spans, expected, "{lead} bytes before: {readable}");
        let last = expected.last();
        assert_eq!(
            end - lead,
            last.map_or(0, |span| (span.start + span.len) as usize),
            "{readable}"
        );
    }
}

/// A record of so many bytes and a comma, and then the text.
fn behind_bytes(count: usize, text: &[u8]) -> Vec<u8> {
    let record = format!(r#"{{"Id":"{}"}},"#, "x".repeat(count.saturating_sub(10)));
    [record.as_bytes(), text].concat()
}

#[test]
fn the_scan_finds_every_compact_record() {
    for record in RECORDS {
        assert_eq!(walked(record.as_bytes()).len(), 1, "{record}");
        check(record.as_bytes());
    }
    let all = RECORDS.join(",");
    assert_eq!(walked(all.as_bytes()).len(), RECORDS.len());
    check(all.as_bytes());
    // Longer than a block's worth of records.
    let long = format!(r#"{{"Text":"{}","Id":"x"}}"#, "\\\"é, ".repeat(2_000));
    check([long.as_str(); 3].join(",").as_bytes());
}

#[test]
fn a_record_cut_off_anywhere_is_no_record() {
    for record in RECORDS {
        for len in 0..record.len() {
            check(&record.as_bytes()[..len]);
        }
    }
}

#[test]
fn a_record_with_any_byte_changed_is_what_the_walk_says() {
    for record in RECORDS {
        for at in 0..record.len() {
            for byte in *b"{}[]\",:\\ 0-.eu\x01\xff" {
                let mut changed = record.as_bytes().to_vec();
                changed[at] = byte;
                check(&changed);
            }
        }
    }
}

#[test]
fn a_record_over_the_border_of_two_chunks_is_what_the_walk_says() {
    for record in RECORDS {
        for at in 0..=record.len() {
            check(&behind_bytes(CHUNK - at, record.as_bytes()));
            check(&behind_bytes(CHUNK - at, &record.as_bytes()[..at]));
        }
    }
}

#[test]
fn a_character_over_the_border_of_two_chunks_is_whole_or_none() {
    for character in ["é", "日", "😀"] {
        let bytes = character.as_bytes();
        let stray = [bytes, &[0xa9]].concat();
        for part in [bytes, &bytes[..1], &bytes[1..], &stray, &[0xa9]] {
            for at in 0..8 {
                for ascii in ["", "a"] {
                    let text = [br#"{"Id":""#, ascii.as_bytes(), part, br#"b","x":1},{}"#];
                    check(&behind_bytes(CHUNK - 8 - at, &text.concat()));
                }
            }
        }
    }
}

#[test]
fn a_name_of_any_length_ends_where_it_ends() {
    for len in (0..200).chain(CHUNK - 70..CHUNK + 70) {
        let name = "n".repeat(len);
        for before in [0, 11, 50] {
            let text = format!(r#"{{"{name}":{{"{name}":["{name}"]}},"Id":"{name}"}}"#);
            check(&behind_bytes(before, text.as_bytes()));
            let text = format!(r#"{{"{name}":{{"{name}"}}}}"#);
            check(&behind_bytes(before, text.as_bytes()));
        }
    }
}

#[test]
fn what_nests_too_deep_for_the_scan_is_left_to_the_walk() {
    for depth in [59, 60, 61, 62, 63, 64, 65, 127, 128, 129, 5_000] {
        let text = format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let mut spans = Vec::new();
        scan(text.as_bytes(), 0, &mut spans);
        assert_eq!(spans.len(), usize::from(depth < 61), "{depth}");
        if depth < 61 {
            check(text.as_bytes());
        }
    }
}

proptest! {
    #[test]
    fn the_scan_and_the_walk_agree_on_anything(text in r#"\{("[ab\\"{,:é]{0,3}"|[\[\]{},:]|[0-9tfn.e-]{1,3}|[ \n"\\]){0,24}"#) {
        check(text.as_bytes());
    }

    #[test]
    fn the_scan_and_the_walk_agree_on_what_is_nearly_a_record(
        record in 0..RECORDS.len(),
        before in prop::sample::select(vec![0, 40, 1_800, 1_950, 2_040]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..3, prop::sample::select(&b"{}[]\",:\\ \n01-.eatufn\x00\x1f\x80\xff"[..])), 1..4),
    ) {
        let mut text = RECORDS[record].as_bytes().to_vec();
        for (at, edit, byte) in edits {
            let at = at.index(text.len().max(1));
            match edit {
                0 => text.insert(at, byte),
                1 if at < text.len() => text[at] = byte,
                _ if at < text.len() => drop(text.remove(at)),
                _ => {}
            }
        }
        text.extend_from_slice(b",{}");
        check(&if before > 0 { behind_bytes(before, &text) } else { text });
    }
}
