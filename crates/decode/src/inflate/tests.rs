//! The text that comes out is what another implementation makes of the same bytes, or both find them damaged.

use std::io::{Read as _, Write as _};

use flate2::{Compression, GzBuilder, bufread::MultiGzDecoder, write::GzEncoder};
use proptest::prelude::*;

use super::*;

/// Longer than any text here.
const MAX: usize = 1 << 20;

/// In one go, where that can be.
fn gulp(body: &[u8]) -> Option<Vec<u8>> {
    let len = claimed_bytes(body).filter(|len| *len <= MAX)?;
    let mut text = vec![0xff; len];
    inflate_whole(body, &mut text).then_some(text)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Everything before the damage, and the damage.
fn stream(body: &[u8], piece: usize, room: usize) -> (Vec<u8>, Result<(), Damaged>) {
    let mut inflater = Inflater::default();
    let mut text = Vec::new();
    let mut buffer = vec![0; room];
    for mut piece in body.chunks(piece) {
        loop {
            match inflater.inflate(piece, &mut buffer) {
                Ok((read, written)) => {
                    text.extend_from_slice(&buffer[..written]);
                    piece = &piece[read..];
                    if written < room {
                        assert!(piece.is_empty(), "there was room");
                        break;
                    }
                }
                Err(error) => return (text, Err(error)),
            }
        }
    }
    let end = inflater.finish();
    (text, end)
}

fn check(body: &[u8]) {
    let mut expected = Vec::new();
    let is_whole = MultiGzDecoder::new(body).read_to_end(&mut expected).is_ok();
    // A byte at a time is for short texts.
    let least = 1 + expected.len() / 1000;
    for (piece, room) in [(usize::MAX, 1 << 17), (1, 7), (7, least), (100, 64)] {
        let room = room.max(least);
        let (text, end) = stream(body, piece.min(body.len()).max(1), room);
        assert_eq!(end.is_ok(), is_whole, "{end:?}, in pieces of {piece}");
        if is_whole {
            assert_eq!(text, expected);
        }
    }
    if let Some(text) = gulp(body) {
        assert!(is_whole, "a gulp is whole");
        assert_eq!(text, expected);
    }
}

#[test]
fn a_body_inflates_to_its_text() {
    for text in [
        Vec::new(),
        b"[]".to_vec(),
        b"[{\"Id\":\"1\"}]".repeat(9_000),
    ] {
        let body = gzip(&text);
        check(&body);
        assert_eq!(claimed_bytes(&body), Some(text.len()));
        assert_eq!(gulp(&body), Some(text));
    }
}

#[test]
fn members_behind_each_other_are_one_text() {
    let body = [gzip(b"[{},"), gzip(b""), gzip(b"{}]")].concat();
    check(&body);
    assert_eq!(stream(&body, 3, 2).0, b"[{},{}]");
    assert_eq!(gulp(&body), None);
    // Even where the last member's checksum and length are the first one's.
    let twice = gzip(b"[{}]").repeat(2);
    check(&twice);
    assert_eq!(gulp(&twice), None);
}

#[test]
fn a_head_may_hold_names_and_comments() {
    let mut encoder = GzBuilder::new()
        .filename("blob.json")
        .comment("no one reads this")
        .extra(b"AB\x02\x00cd".to_vec())
        .write(Vec::new(), Compression::fast());
    encoder.write_all(b"[{}]").unwrap();
    let body = encoder.finish().unwrap();
    check(&body);
    assert_eq!(gulp(&body), Some(b"[{}]".to_vec()));
    for len in 0..body.len() {
        check(&body[..len]);
    }
}

#[test]
fn what_follows_a_member_and_is_none_is_damage() {
    let mut body = gzip(b"[{}]");
    body.push(0);
    check(&body);
    assert_eq!(stream(&body, 5, 100).1, Err(Damaged::NoGzip));
    assert_eq!(stream(b"[{}]", 5, 100).1, Err(Damaged::NoGzip));
}

#[test]
fn a_body_that_lies_about_its_length_gets_no_more_memory_than_it_says() {
    let mut body = gzip(&[b' '; 100_000]);
    let len = body.len();
    body[len - 4..].copy_from_slice(&10_u32.to_le_bytes());
    assert_eq!(gulp(&body), None);
    assert!(
        !inflate_whole(&body, &mut [0; 100_000]),
        "it is asked for as much as it says"
    );
    check(&body);
}

proptest! {
    #[test]
    fn a_damaged_body_is_damaged_to_both(
        text in prop::collection::vec(prop::sample::select(&b"[]{},: ab"[..]), 0..400),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut body = gzip(&text);
        for (at, byte) in edits {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        check(&body);
    }
}
