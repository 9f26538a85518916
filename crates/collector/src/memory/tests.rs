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
    let mut text = reader.buffer();
    let at = text.as_ptr();
    text.truncate(1_000);
    let room = reader.last_part(&mut text);
    assert_eq!((text.len(), text.capacity()), (1_000, 1_000));
    let mut other = memory.reader().await;
    other.grow(PART_BYTES).await;
    let again = other.buffer();
    assert_eq!((again.as_ptr(), again.len()), (at, PART_BYTES));
    room.recycle(again);
    assert_eq!(memory.buffers.lock().len(), 1);
    room.recycle(text);
    assert_eq!(
        memory.buffers.lock().len(),
        1,
        "only what is of a part's size"
    );
    memory.rest();
    assert_eq!(memory.buffers.lock().len(), 0);
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
/// late or, for the half that they may hold, never.
#[tokio::test(start_paused = true)]
async fn readers_wait_for_sinks_and_never_for_each_other() {
    for max_bytes in [0, 8 * MIB, 64 * MIB] {
        let memory = Memory::new(max_bytes);
        let hung = memory.acquire(memory.text_units / 2).await;
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
