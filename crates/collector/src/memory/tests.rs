//! How much is held, and that nobody waits in a circle.

use std::time::Duration;

use tokio::task::JoinSet;

use super::*;
use decode::{FIRST_BYTES, PART_BYTES};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_small_blob_takes_no_more_than_it_needs() {
    let memory = Memory::new(8 * MIB);
    let reader = memory.reader().await;
    assert_eq!(memory.held_bytes(), FIRST_BYTES);
    let room = reader.last_part(&mut vec![0; 1_500]);
    assert_eq!(memory.held_bytes(), 4 * UNIT_BYTES);
    drop(room);
    assert_eq!(memory.held_bytes(), 0);
}

#[tokio::test]
async fn a_part_takes_its_room_along_and_a_long_rest_keeps_its_own() {
    let memory = Memory::new(64 * MIB);
    let mut reader = memory.reader().await;
    reader.grow(PART_BYTES).await;
    assert_eq!(memory.held_bytes(), FIRST_BYTES + PART_BYTES);
    let part = reader.part(PART_BYTES, 1_000);
    assert_eq!(part.bytes(), PART_BYTES);
    reader.grow(PART_BYTES).await;
    let divided = reader.part(PART_BYTES / 4, PART_BYTES / 4 * 3);
    assert_eq!(divided.bytes(), PART_BYTES / 4);
    assert_eq!(
        memory.held_bytes(),
        FIRST_BYTES + PART_BYTES + PART_BYTES,
        "the rest of the second part holds what the part did not take"
    );
    drop((part, divided));
    let last = reader.last_part(&mut vec![0; PART_BYTES / 2]);
    assert_eq!(memory.held_bytes(), PART_BYTES / 2 + BESIDES_BYTES);
    drop(last);
    assert_eq!(memory.held_bytes(), 0);
}

#[tokio::test]
async fn a_buffer_is_used_again_and_a_last_part_holds_only_its_text() {
    let memory = Memory::new(64 * MIB);
    let mut reader = memory.reader().await;
    reader.grow(PART_BYTES).await;
    let mut text = reader.buffer(PART_BYTES);
    let at = text.as_ptr();
    text.truncate(1_000);
    let room = reader.last_part(&mut text);
    assert_eq!((text.len(), text.capacity()), (1_000, 1_000));
    let mut other = memory.reader().await;
    other.grow(PART_BYTES).await;
    let again = other.buffer(PART_BYTES);
    assert_eq!((again.as_ptr(), again.len()), (at, PART_BYTES));
    drop(Text::alone(again, Some(room)));
    assert_eq!(memory.buffers.count(), 1);
    drop(Text::alone(text, Some(memory.acquire(1).await)));
    assert_eq!(memory.buffers.count(), 1, "only what is of a part's size");
    memory.rest();
    assert_eq!(memory.buffers.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_one_piece_is_longer_than_a_part_at_a_time() {
    let memory = Memory::new(64 * MIB);
    let mut first = memory.reader().await;
    first.grow(4 * PART_BYTES).await;
    first.grow(8 * PART_BYTES).await;
    let mut second = memory.reader().await;
    let waits = tokio::time::timeout(Duration::from_secs(3600), second.grow(2 * PART_BYTES));
    assert!(waits.await.is_err());
    let part = first.part(8 * PART_BYTES, 0);
    let waits = tokio::time::timeout(Duration::from_secs(3600), second.grow(2 * PART_BYTES));
    assert!(waits.await.is_err(), "it is in some sink's hands");
    drop(part);
    second.grow(2 * PART_BYTES).await;
}

/// As many readers as there may be, all of blobs that are far larger than the whole store, and sinks that let go of parts
/// late or, for the part that they may hold, never.
#[tokio::test(start_paused = true)]
async fn readers_wait_for_sinks_and_never_for_each_other() {
    for max_bytes in [0, 8 * MIB, 64 * MIB] {
        let memory = Memory::new(max_bytes);
        let hung = memory.acquire(memory.sinks_units).await;
        let mut readers = JoinSet::new();
        for number in 0..memory.concurrent_reads(usize::MAX) {
            let memory = memory.clone();
            readers.spawn(async move {
                let mut reader = memory.reader().await;
                tokio::time::sleep(Duration::from_millis(number as u64 % 7)).await;
                for part in 0..20 {
                    let mut bytes = FIRST_BYTES;
                    while bytes < PART_BYTES {
                        bytes *= 2;
                        reader.grow(bytes).await;
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    let rest = [0, 1_000, PART_BYTES / 2][(number + part) % 3];
                    let room = reader.part(PART_BYTES - rest, rest);
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                        drop(room);
                    });
                }
                drop(reader.last_part(&mut vec![0; 100]));
            });
        }
        let all = tokio::time::timeout(Duration::from_secs(24 * 3600), readers.join_all());
        assert!(
            all.await.is_ok(),
            "with {max_bytes} bytes they wait in a circle"
        );
        drop(hung);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(memory.held_bytes(), 0);
    }
}

#[tokio::test]
async fn a_text_in_one_go_is_held_until_the_last_of_its_parts_is_let_go_of() {
    let memory = Memory::new(64 * MIB);
    let bytes = 3 * PART_BYTES - 1_000;
    assert!(memory.is_whole(bytes) && !memory.is_whole(3 * MIB));
    let mut reader = memory.reader().await;
    let text = reader.whole(bytes).await;
    assert_eq!(text.bytes().len(), bytes);
    assert!(memory.held_bytes() >= bytes + FIRST_BYTES);
    let at = text.bytes().as_ptr();
    let text = reader.share(text);
    assert_eq!(text.bytes().as_ptr(), at, "nothing is copied");
    let held = memory.held_bytes();
    assert_eq!(held, text.held_bytes());
    assert!((bytes..=bytes / 8 * 9 + BESIDES_BYTES).contains(&held));
    let another = Arc::clone(&text);
    drop(text);
    assert_eq!(memory.held_bytes(), held, "another part lies in it");
    drop(another);
    assert_eq!(memory.held_bytes(), 0);

    let mut reader = memory.reader().await;
    let text = reader.whole(bytes - 1).await;
    assert_eq!(
        text.bytes().as_ptr(),
        at,
        "it is inflated where the one before was"
    );
    reader.give_back(text);
    assert_eq!(memory.held_bytes(), FIRST_BYTES);
    // A short one needs no more than a first piece's room.
    let text = reader.whole(1_500).await;
    assert_eq!(memory.held_bytes(), FIRST_BYTES);
    let text = reader.share(text);
    assert_eq!(memory.held_bytes(), 4 * UNIT_BYTES);
    assert_eq!(text.held_bytes(), 4 * UNIT_BYTES);
}

#[tokio::test(start_paused = true)]
async fn a_body_is_kept_for_as_long_as_it_has_room() {
    let memory = Memory::new(64 * MIB);
    let long = memory.body(Some(2 << 20)).await;
    assert!(long.keep(Some(2 << 20)).is_none(), "it is too long");
    let mut room = memory.body(None).await;
    let mut kept = room.keep(None).unwrap();
    assert!(kept.push(&[1; 1_000], &mut room) && kept.push(&[2; 90_000], &mut room));
    assert!(kept.as_ref()[..1_000] == [1; 1_000] && kept.as_ref()[1_000..] == [2; 90_000]);
    assert!(!kept.push(&[3; MIB], &mut room), "it is too long by that");
    let mut others = Vec::new();
    let next = || tokio::time::timeout(Duration::from_secs(1), memory.body(Some(200_000)));
    while let Ok(other) = next().await {
        others.push(other);
    }
    assert!(!kept.push(&[3; 600_000], &mut room), "there is no room");
    assert_eq!(memory.held_bytes(), 0, "text is counted elsewhere");
    drop((others, long));
    assert!(kept.push(&[3; 600_000], &mut room));
    assert_eq!(kept.as_ref().len(), 691_000);
}

/// As above, with texts that are read in one go among them.
#[tokio::test(start_paused = true)]
async fn texts_in_one_go_wait_for_sinks_and_never_for_each_other() {
    for max_bytes in [0, 8 * MIB, 20 * MIB, 64 * MIB] {
        let memory = Memory::new(max_bytes);
        let hung = memory.acquire(memory.sinks_units).await;
        let mut readers = JoinSet::new();
        for number in 0..memory.concurrent_reads(usize::MAX) {
            let memory = memory.clone();
            readers.spawn(async move {
                for blob in number..number + 12 {
                    let mut reader = memory.reader().await;
                    let length = [None, Some(10), Some(200_000)][blob % 3];
                    let body = memory.body(length).await;
                    tokio::time::sleep(Duration::from_millis(number as u64 % 7)).await;
                    let bytes = [100, 20_000, PART_BYTES - 1, 2 * PART_BYTES, 3 * PART_BYTES];
                    let bytes = bytes[blob % 5];
                    let text = if memory.is_whole(bytes) {
                        let text = reader.whole(bytes).await;
                        drop(body);
                        reader.share(text)
                    } else {
                        reader.grow(PART_BYTES).await;
                        let room = reader.part(PART_BYTES, 0);
                        Arc::new(Text::alone(Vec::new(), Some(room)))
                    };
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                        drop(text);
                    });
                }
            });
        }
        let all = tokio::time::timeout(Duration::from_secs(24 * 3600), readers.join_all());
        assert!(
            all.await.is_ok(),
            "with {max_bytes} bytes they wait in a circle"
        );
        drop(hung);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(memory.held_bytes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_makes_is_counted_and_a_sink_that_hangs_holds_only_its_own() {
    let memory = Memory::new(64 * MIB);
    let (hangs, works) = (memory.encoding(2), memory.encoding(2));
    let share = 64 * MIB / 6 / 2;
    let mut held = hangs.reserve(share / 2 + MIB).await;
    let more = tokio::time::timeout(Duration::from_secs(3600), hangs.reserve(share / 2));
    assert!(more.await.is_err());
    // What is larger than all of it goes alone, on top.
    let large = hangs.reserve(20 * MIB).await;
    let more = tokio::time::timeout(Duration::from_secs(3600), hangs.reserve(20 * MIB));
    assert!(more.await.is_err());
    drop(works.reserve(share).await);
    drop(large);
    held.shrink(1_000);
    drop(hangs.reserve(share / 2).await);
}

#[test]
fn as_many_read_as_the_memory_has_room_for() {
    assert_eq!(Memory::new(64 * MIB).concurrent_reads(16), 16);
    assert_eq!(Memory::new(64 * MIB).concurrent_reads(1_000), 128);
    assert_eq!(Memory::new(8 * MIB).concurrent_reads(1_000), 16);
    assert_eq!(Memory::new(0).concurrent_reads(16), 2);
}

#[tokio::test(start_paused = true)]
async fn few_long_bodies_are_read_at_once_and_many_short_ones() {
    let memory = Memory::new(64 * MIB);
    for (bytes, most) in [
        (Some(u64::MAX), 16),
        (Some(200 * 1024), 20),
        (Some(10 * 1024), 409),
        (None, 64),
    ] {
        let mut held = Vec::new();
        let next = || tokio::time::timeout(Duration::from_secs(1), memory.body(bytes));
        while let Ok(room) = next().await {
            held.push(room);
        }
        assert_eq!(held.len(), most, "{bytes:?}");
    }
    // One can always be read.
    drop(Memory::new(MIB).body(Some(u64::MAX)).await);
}
