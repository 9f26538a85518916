//! Whatever goes in comes out again, of two readers that know nothing of us; and nothing is ever longer than was said.

use std::io::Read as _;

use proptest::{collection::vec, prelude::*};

use super::*;

const FORMATS: [Format; 3] = [Format::Raw, Format::Zlib, Format::Gzip];

fn compress(format: Format, raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Deflater::new()
        .compress(format, raw, &mut out, usize::MAX)
        .unwrap();
    out
}

/// Read by zlib-rs and by libdeflate.
fn check(format: Format, stream: &[u8], raw: &[u8]) {
    let mut back = Vec::new();
    match format {
        Format::Raw => flate2::read::DeflateDecoder::new(stream).read_to_end(&mut back),
        Format::Zlib => flate2::read::ZlibDecoder::new(stream).read_to_end(&mut back),
        Format::Gzip => flate2::read::GzDecoder::new(stream).read_to_end(&mut back),
    }
    .unwrap();
    assert!(back == raw, "zlib-rs reads something else");

    let mut decompressor = libdeflater::Decompressor::new();
    back.fill(0);
    let len = match format {
        Format::Raw => decompressor.deflate_decompress(stream, &mut back),
        Format::Zlib => decompressor.zlib_decompress(stream, &mut back),
        Format::Gzip => decompressor.gzip_decompress(stream, &mut back),
    }
    .unwrap();
    assert!(back[..len] == *raw, "libdeflate reads something else");
}

fn check_all(raw: &[u8]) {
    for format in FORMATS {
        let stream = compress(format, raw);
        assert!(stream.len() <= bound(format, raw.len()));
        check(format, &stream, raw);
    }
}

/// Bytes that do not compress.
fn noise(len: usize, mut state: u64) -> Vec<u8> {
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(&mut next).take(len).collect()
}

/// Records that have keys and some values in common.
fn records(len: usize) -> Vec<u8> {
    let mut text = String::new();
    for n in 0_u64.. {
        if text.len() >= len {
            break;
        }
        let id = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        text.push_str(&format!(
            r#"{{"CreationTime":"2026-11-{:02}T{:02}:{:02}:00","Id":"{id:016x}","Operation":"{}","UserId":"user{}@contoso.example","Version":1}}"#,
            1 + n % 28,
            n % 24,
            n % 60,
            ["FileAccessed", "UserLoggedIn", "Set-Mailbox"][n as usize % 3],
            n % 50,
        ));
    }
    text.truncate(len);
    text.into_bytes()
}

#[test]
fn every_short_stretch_comes_back() {
    for len in (0..40).chain((40..700).step_by(11)) {
        check_all(&records(len));
        check_all(&noise(len, 1));
        check_all(&vec![0; len]);
        check_all(&vec![b'a'; len]);
    }
}

#[test]
fn stretches_that_end_at_the_windows_edges_come_back() {
    let text = records(3 * FULL);
    let noise = noise(3 * FULL, 2);
    for edge in [
        HISTORY_BYTES,
        MAX_BLOCK_BYTES,
        MAX_BLOCK_BYTES - LOOKAHEAD_BYTES,
        FULL - LOOKAHEAD_BYTES,
        FULL,
        MAX_STORED_BYTES,
        2 * MAX_BLOCK_BYTES,
        2 * (MAX_BLOCK_BYTES - LOOKAHEAD_BYTES),
    ] {
        for len in [
            edge - 259,
            edge - 258,
            edge - 2,
            edge - 1,
            edge,
            edge + 1,
            edge + 258,
        ] {
            for raw in [&text[..len], &noise[..len], &vec![0; len]] {
                let stream = compress(Format::Zlib, raw);
                assert!(stream.len() <= bound(Format::Zlib, len));
                check(Format::Zlib, &stream, raw);
            }
        }
    }
}

#[test]
fn what_repeats_at_any_distance_comes_back() {
    for distance in [
        1, 2, 3, 7, 8, 9, 257, 258, 259, 1_400, 32_767, 32_768, 32_769, 40_000, 65_535, 65_536,
        65_537,
    ] {
        let piece = noise(distance, 3);
        let raw: Vec<u8> = piece.iter().copied().cycle().take(300_000).collect();
        let stream = compress(Format::Zlib, &raw);
        check(Format::Zlib, &stream, &raw);
        // What lies within the window is found, by every block.
        let is_within_reach = distance <= HISTORY_BYTES;
        assert_eq!(stream.len() < 60_000, is_within_reach, "{distance}");
    }
}

#[test]
fn matches_of_every_length_come_back() {
    for len in (3..30)
        .chain(250..275)
        .chain([511, 512, 513, 516, 517, 600])
    {
        let piece = noise(len, 4);
        let mut raw = piece.clone();
        raw.extend_from_slice(&noise(50, 5));
        raw.extend_from_slice(&piece);
        raw.extend_from_slice(&noise(50, 6));
        check_all(&raw);
    }
}

#[test]
fn zeros_at_the_beginning_match_nothing_before_it() {
    for zeros in 0..40 {
        let mut raw = vec![0; zeros];
        raw.extend_from_slice(b"record record record");
        raw.extend_from_slice(&vec![0; zeros]);
        raw.extend_from_slice(&records(2_000));
        check_all(&raw);
    }
}

#[test]
fn a_room_of_any_size_suffices_exactly_or_not_at_all() {
    let mut deflater = Deflater::new();
    for raw in [
        &b""[..],
        b"a",
        b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        &noise(300, 7),
        &records(900),
    ] {
        for format in FORMATS {
            let whole = compress(format, raw);
            for room in 0..=bound(format, raw.len()) {
                let mut out = b"before".to_vec();
                let done = deflater.compress(format, raw, &mut out, room);
                assert_eq!(done.is_ok(), room >= whole.len(), "room {room}");
                assert_eq!(&out[..6], b"before");
                let expected: &[u8] = if done.is_ok() { &whole } else { &[] };
                assert_eq!(&out[6..], expected, "room {room}");
            }
        }
    }
}

#[test]
fn the_same_bytes_are_the_same_stream_however_they_come_and_whatever_came_before() {
    let raw = records(700_000);
    let whole = compress(Format::Gzip, &raw);
    let mut deflater = Deflater::new();
    for piece in [1_000, 65_536, 300_000] {
        // An unfinished stream, and one that found no room.
        deflater.start(Format::Zlib);
        deflater.write(&noise(piece, 8));
        let mut out = Vec::new();
        let failed = deflater.compress(Format::Zlib, &noise(piece, 9), &mut out, 500);
        assert_eq!((failed, out.len()), (Err(NoRoom), 0));

        deflater.start(Format::Gzip);
        raw.chunks(piece).for_each(|piece| deflater.write(piece));
        assert_eq!(deflater.raw_bytes(), raw.len() as u64);
        assert!(deflater.finish() == whole);
    }
}

#[test]
fn a_head_that_is_known_at_the_end_stands_before_everything() {
    let mut deflater = Deflater::new();
    for format in FORMATS {
        for (head_len, raw_len) in [(0, 0), (1, 0), (0, 70_000), (200, 5), (300, 300_000)] {
            let (head, raw) = (noise(head_len, 10), records(raw_len));
            deflater.start_with_head(format, 300);
            deflater.write(&raw);
            let most = deflater.most_bytes(0);
            let finished = deflater.finish_with_head(&head);
            assert!(finished.bytes.len() <= most);
            check(format, finished.stream(), &[head, raw].concat());
        }
    }
}

#[test]
fn what_is_said_to_fit_fits_and_what_is_not_would_not_be_much_more() {
    const MAX_BYTES: usize = 50_000;
    for (record_len, may_be_left) in [(1_400, 2_000), (100, 600), (10_000, 12_000)] {
        for raw in [records(2_000_000), noise(200_000, 11)] {
            let mut deflater = Deflater::new();
            deflater.start(Format::Zlib);
            let mut taken = 0;
            for record in raw.chunks(record_len) {
                if !deflater.fits(record.len(), MAX_BYTES) {
                    break;
                }
                deflater.write(record);
                taken += record.len();
            }
            let stream = deflater.finish();
            assert!(stream.len() <= MAX_BYTES);
            assert!(
                stream.len() + may_be_left > MAX_BYTES,
                "{} left",
                stream.len()
            );
            check(Format::Zlib, &stream, &raw[..taken]);
        }
    }
}

#[test]
fn records_become_hardly_larger_than_by_libdeflates_first_level() {
    for len in [14_000, 100_000, 1_000_000] {
        let raw = records(len);
        let level = libdeflater::CompressionLvl::new(1).unwrap();
        let mut theirs = vec![0; len + 1_000];
        let theirs = libdeflater::Compressor::new(level)
            .zlib_compress(&raw, &mut theirs)
            .unwrap();
        let ours = compress(Format::Zlib, &raw).len();
        assert!(ours * 100 <= theirs * 108, "{len}: {ours} and {theirs}");
    }
}

/// Bytes with something to find in them: few different ones, repeats at all distances, noise between.
fn structured() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        vec(any::<u8>(), 0..300).prop_map(|bytes| (bytes, 0, 0)),
        vec(0_u8..3, 0..300).prop_map(|bytes| (bytes, 0, 0)),
        (1_usize..70_000, 1_usize..2_000).prop_map(|(back, len)| (Vec::new(), back, len)),
        (0_u8.., 1_usize..40_000).prop_map(|(byte, len)| (vec![byte; len], 0, 0)),
    ];
    vec(piece, 0..40).prop_map(|pieces| {
        let mut raw = Vec::new();
        for (bytes, back, len) in pieces {
            raw.extend_from_slice(&bytes);
            for _ in 0..len {
                let Some(from) = raw.len().checked_sub(back) else {
                    break;
                };
                raw.push(raw[from]);
            }
        }
        raw
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_in_comes_out(raw in structured()) {
        check_all(&raw);
    }

    #[test]
    fn it_fits_where_it_was_said_to(
        raw in structured(),
        piece in 1_usize..5_000,
        max_bytes in 20_usize..30_000,
    ) {
        let mut deflater = Deflater::new();
        deflater.start_with_head(Format::Zlib, 10);
        let mut taken = b"head".to_vec();
        for bytes in raw.chunks(piece) {
            if !deflater.fits(bytes.len(), max_bytes) {
                break;
            }
            deflater.write(bytes);
            taken.extend_from_slice(bytes);
        }
        let finished = deflater.finish_with_head(b"head");
        prop_assert!(taken.len() == 4 || finished.bytes.len() <= max_bytes);
        check(Format::Zlib, finished.stream(), &taken);
    }
}

#[test]
fn a_stream_is_given_up_behind_its_bound_and_the_next_one_is_whole() {
    let mut deflater = Deflater::new();
    let raw = noise(1_000_000, 1);
    deflater.start(Format::Zlib);
    deflater.give_up_behind(20_000);
    deflater.write(&raw);
    assert!(deflater.finish().len() <= 20_000);
    assert!(deflater.was_given_up());
    deflater.start(Format::Zlib);
    deflater.write(&raw);
    check(Format::Zlib, &deflater.finish(), &raw);
    assert!(!deflater.was_given_up());
}
