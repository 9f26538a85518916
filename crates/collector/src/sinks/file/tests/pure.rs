//! The parts without a disk: the plan, positions, names and lines.

use std::path::Path;

use super::super::{
    encode::push_line,
    names::{Names, Rotated, RotatedState},
    plan::{Begun, Found, Note, Plan, Refusal, plan_resume},
    position::{Position, TAIL_BYTES, Tail},
};
use super::*;
use crate::sinks::testing::part;

const NEXT: u64 = 5;

fn position(length: u64) -> Position {
    Position {
        sequence: 7,
        length,
        tail: 1,
        since: None,
    }
}

fn found(length: u64, has_position: bool) -> Found {
    Found::Present {
        length,
        has_position,
    }
}

fn note(sequence: u64, is_ours: bool) -> Option<Note> {
    Some(Note { sequence, is_ours })
}

fn begin(sequence: u64) -> Plan {
    Plan::Begin {
        sequence,
        why: Begun::InTurn,
    }
}

#[test]
fn without_a_position_only_an_empty_place_or_our_own_note_lets_a_file_begin() {
    for position in [None, Some(&position(0))] {
        let plan = |note, found| plan_resume(position, note, found, NEXT);
        assert_eq!(plan(None, Found::Missing), begin(5));
        assert_eq!(plan(None, found(0, true)), begin(5));
        assert_eq!(plan(None, found(9, true)), Plan::Refuse(Refusal::Foreign));
        assert_eq!(plan(note(6, false), Found::Missing), begin(6));
        assert_eq!(plan(note(3, false), found(0, true)), begin(5));
        assert_eq!(plan(note(6, true), found(9, true)), begin(6));
        assert_eq!(
            plan(note(6, false), found(9, true)),
            Plan::SetAside { sequence: 6 }
        );
        assert_eq!(
            plan(note(3, false), found(9, true)),
            Plan::SetAside { sequence: 5 }
        );
    }
}

#[test]
fn the_committed_file_goes_on_whatever_the_note_says() {
    for note in [None, note(7, false), note(8, false), note(8, true)] {
        assert_eq!(
            plan_resume(Some(&position(9)), note, found(9, true), NEXT),
            Plan::Continue
        );
        assert_eq!(
            plan_resume(Some(&position(9)), note, found(99, true), NEXT),
            Plan::Continue
        );
    }
}

#[test]
fn the_note_of_a_later_file_says_that_nothing_in_the_place_is_committed() {
    for found in [
        Found::Missing,
        found(0, false),
        found(3, false),
        found(99, false),
    ] {
        for is_ours in [true, false] {
            assert_eq!(
                plan_resume(Some(&position(9)), note(8, is_ours), found, NEXT),
                begin(8)
            );
        }
    }
}

#[test]
fn a_committed_file_that_is_gone_is_followed_by_another_and_a_changed_one_is_left_alone() {
    for note in [None, note(7, false), note(6, true)] {
        let plan = |found, next| plan_resume(Some(&position(9)), note, found, next);
        assert_eq!(
            plan(Found::Missing, NEXT),
            Plan::Begin {
                sequence: 8,
                why: Begun::Vanished
            }
        );
        assert_eq!(
            plan(Found::Missing, 12),
            Plan::Begin {
                sequence: 12,
                why: Begun::Vanished
            }
        );
        assert_eq!(
            plan(found(0, false), NEXT),
            Plan::Begin {
                sequence: 8,
                why: Begun::Emptied
            }
        );
        assert_eq!(
            plan(found(8, false), NEXT),
            Plan::Refuse(Refusal::Shorter { length: 8 })
        );
        assert_eq!(
            plan(found(9, false), NEXT),
            Plan::Refuse(Refusal::Different)
        );
        assert_eq!(
            plan(found(99, false), NEXT),
            Plan::Refuse(Refusal::Different)
        );
    }
}

#[test]
fn a_position_is_read_as_it_was_written() {
    let since = Some("2026-07-16T10:00:00.123Z".parse().unwrap());
    for position in [
        Position {
            sequence: 1,
            length: 0,
            tail: 0,
            since: None,
        },
        Position {
            sequence: u64::MAX,
            length: u64::MAX,
            tail: u64::MAX,
            since,
        },
    ] {
        assert_eq!(Position::parse(&position.encode()), Some(position));
    }
    let position = Position {
        sequence: 2,
        length: 130,
        tail: 0xabc,
        since,
    };
    expect_test::expect![[
        r#"{"sequence":2,"length":130,"tail":"0000000000000abc","since":"2026-07-16T10:00:00.123Z"}"#
    ]]
    .assert_eq(&position.encode());
}

#[test]
fn what_is_no_position_is_not_read_as_one() {
    for text in [
        "",
        "7",
        "{}",
        r#"{"sequence":1,"length":-1,"tail":"0"}"#,
        r#"{"sequence":1,"length":1,"tail":"x"}"#,
    ] {
        assert_eq!(Position::parse(text), None, "{text}");
    }
}

#[test]
fn the_tail_is_the_same_however_the_bytes_came() {
    let bytes: Vec<u8> = (0..3 * TAIL_BYTES + 17)
        .map(|index| (index * 31 % 251) as u8)
        .collect();
    for length in [
        0,
        1,
        TAIL_BYTES - 1,
        TAIL_BYTES,
        TAIL_BYTES + 1,
        bytes.len(),
    ] {
        let whole = Tail::new(&bytes[..length]).fingerprint();
        for piece in [1, 7, TAIL_BYTES - 1, TAIL_BYTES, TAIL_BYTES + 1] {
            let mut tail = Tail::default();
            bytes[..length]
                .chunks(piece)
                .for_each(|piece| tail.push(piece));
            assert_eq!(
                tail.fingerprint(),
                whole,
                "{length} bytes in pieces of {piece}"
            );
        }
    }
}

#[test]
fn a_rotated_file_is_known_by_its_name() {
    let names = Names::of(Path::new("/data/audit.ndjson")).unwrap();
    let at = "2026-09-29T10:15:00.9Z".parse().unwrap();
    assert_eq!(
        names.rotated(12, at),
        Path::new("/data/audit-000012-20260929T101500Z.ndjson")
    );
    let plain_name = "audit-000012-20260929T101500Z.ndjson".to_owned();
    for (suffix, state) in [
        ("", RotatedState::Plain),
        (".gz", RotatedState::Compressed(Compression::Gzip)),
        (".zst", RotatedState::Compressed(Compression::Zstd)),
        (".gz.tmp", RotatedState::Unfinished),
    ] {
        let rotated = Rotated {
            sequence: 12,
            state,
            plain_name: plain_name.clone(),
        };
        assert_eq!(
            names.parse_rotated(&format!("{plain_name}{suffix}")),
            Some(rotated)
        );
    }
    for name in [
        "audit.ndjson",
        "audit.ndjson.lock",
        "audit.ndjson.unconfirmed-20260929T101500Z",
        "audit-000012-20260929T101500Z.ndjson.bak",
        "audit-000012-20260929T101500Z.json",
        "audit-12-20260929T101500Z.ndjson",
        "audit-00001x-20260929T101500Z.ndjson",
        "audit-000012-2026.ndjson",
        "audit-000012-20260929T10150ü.ndjson",
        "audit2-000012-20260929T101500Z.ndjson",
        "audit-99999999999999999999999-20260929T101500Z.ndjson",
    ] {
        assert_eq!(names.parse_rotated(name), None, "{name}");
    }
}

#[test]
fn a_name_without_an_extension_is_fine() {
    let names = Names::of(Path::new("audit")).unwrap();
    let rotated = names.rotated(1, "2026-09-29T10:15:00Z".parse().unwrap());
    let name = rotated.file_name().unwrap().to_str().unwrap();
    assert_eq!(name, "audit-000001-20260929T101500Z");
    assert_eq!(names.parse_rotated(name).unwrap().sequence, 1);
    assert_eq!(names.folder, Path::new("."));
}

#[test]
fn only_line_breaks_between_tokens_are_changed() {
    let texts = [
        "{\r\n \"a\":\t\"x\\n\\r\"\n}",
        "{\"a\": 1}",
        "{\"a\":\"\u{2028}\u{85}\"}",
    ];
    let mut lines = Vec::new();
    for record in part(&texts).records_from(0) {
        push_line(&mut lines, &record);
    }
    let expected = "{   \"a\":\t\"x\\n\\r\" }\n{\"a\": 1}\n{\"a\":\"\u{2028}\u{85}\"}\n";
    assert_eq!(String::from_utf8(lines).unwrap(), expected);
}
