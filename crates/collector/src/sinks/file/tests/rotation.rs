//! When files give way to the next one, and what becomes of them.

use std::{io::Read, sync::atomic::AtomicBool, time::Duration};

use super::super::{archive, names::Names};
use super::*;

const ROTATED: &str = "audit-000001-20260716T100000Z.ndjson";

fn rotating(compression: Compression) -> Rig {
    Rig::with(|config| {
        config.rotate_bytes = Some(300);
        config.compression = compression;
    })
}

#[tokio::test]
async fn a_file_that_reached_its_size_is_rotated_before_the_next_write() {
    let mut rig = rotating(Compression::None);
    rig.resume().await;
    rig.deliver(0, 2).await;
    rig.deliver(2, 2).await;
    assert_eq!(rig.lines("audit.ndjson"), records(0, 4));
    rig.deliver(4, 1).await;
    assert_eq!(rig.lines(ROTATED), records(0, 4));
    assert_eq!(rig.lines("audit.ndjson"), records(4, 1));
    assert_eq!(rig.committed().sequence, 2);
}

#[tokio::test]
async fn a_file_is_rotated_by_its_first_records_age_even_after_a_restart() {
    let mut rig = Rig::with(|config| config.rotate_after = Some(Duration::from_secs(3600)));
    rig.resume().await;
    rig.clock.advance(Duration::from_secs(7200));
    rig.sink.tick().await.unwrap();
    rig.deliver(0, 2).await;
    rig.clock.advance(Duration::from_secs(3599));
    rig.restart().await;
    rig.deliver(2, 1).await;
    assert_eq!(rig.lines("audit.ndjson"), records(0, 3));
    rig.clock.advance(Duration::from_secs(1));
    rig.sink.tick().await.unwrap();
    assert_eq!(rig.lines("audit.ndjson"), [] as [&str; 0]);
    assert_eq!(
        rig.lines("audit-000001-20260716T130000Z.ndjson"),
        records(0, 3)
    );
    rig.restart().await;
    rig.deliver(3, 1).await;
    assert_eq!(rig.all_lines(), records(0, 4));
}

#[tokio::test]
async fn an_empty_file_is_never_rotated() {
    let rig = Rig::with(|config| {
        config.rotate_bytes = Some(0);
        config.rotate_after = Some(Duration::ZERO);
    });
    rig.resume().await;
    rig.sink.tick().await.unwrap();
    rig.sink.deliver(&batch(&[] as &[&str])).await.unwrap();
    rig.sink.tick().await.unwrap();
    assert_eq!(
        rig.names(),
        ["audit.ndjson", "audit.ndjson.begun", "audit.ndjson.lock"]
    );
}

#[tokio::test]
async fn a_batch_that_nobody_committed_is_not_rotated() {
    let mut rig = rotating(Compression::None);
    rig.resume().await;
    rig.deliver(0, 1).await;
    let sent = batch(&records(1, 9));
    assert!(futures::poll!(Box::pin(rig.sink.deliver(&sent))).is_pending());
    rig.sink.tick().await.unwrap();
    rig.deliver(1, 1).await;
    assert_eq!(rig.all_lines(), records(0, 2));
}

#[tokio::test]
async fn a_rotated_file_is_never_overwritten() {
    let mut rig = rotating(Compression::None);
    rig.resume().await;
    rig.deliver(0, 4).await;
    // A folder cannot be told from a rotated file when only its name counts, and it does not raise the sequence.
    std::fs::create_dir(rig.path(ROTATED)).unwrap();
    let failure = rig.sink.deliver(&batch(&records(4, 1))).await.unwrap_err();
    assert!(matches!(failure.error, Error::Io { .. }), "{failure:?}");
    std::fs::remove_dir(rig.path(ROTATED)).unwrap();
    rig.deliver(4, 1).await;
    assert_eq!(rig.all_lines(), records(0, 5));
}

#[tokio::test]
async fn sequences_go_on_behind_the_files_of_an_earlier_ledger() {
    let mut rig = Rig::new();
    rig.write("audit-000041-20250101T000000Z.ndjson.gz", "not looked into");
    rig.resume().await;
    rig.deliver(0, 1).await;
    assert_eq!(rig.committed().sequence, 42);
}

fn unpacked(rig: &Rig, name: &str) -> String {
    let packed = std::fs::File::open(rig.path(name)).unwrap();
    let mut text = String::new();
    match name.rsplit_once('.').unwrap().1 {
        "gz" => flate2::read::GzDecoder::new(packed)
            .read_to_string(&mut text)
            .unwrap(),
        "zst" => zstd::Decoder::new(packed)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap(),
        other => panic!("{other}"),
    };
    text
}

#[tokio::test]
async fn a_rotated_file_is_compressed_whole() {
    for (compression, suffix) in [(Compression::Gzip, ".gz"), (Compression::Zstd, ".zst")] {
        let mut rig = rotating(compression);
        rig.resume().await;
        rig.deliver(0, 3_000).await;
        let text = rig.text("audit.ndjson");
        rig.sink.tick().await.unwrap();
        rig.finish_archive();
        assert!(!rig.exists(ROTATED));
        assert_eq!(unpacked(&rig, &format!("{ROTATED}{suffix}")), text);
        assert!(
            std::fs::metadata(rig.path(&format!("{ROTATED}{suffix}")))
                .unwrap()
                .len()
                < text.len() as u64 / 2
        );
        assert!(!rig.names().iter().any(|name| name.ends_with(".tmp")));
    }
}

#[tokio::test]
async fn compression_that_was_interrupted_is_done_again_at_the_next_start() {
    let rig = rotating(Compression::Gzip);
    rig.write(ROTATED, "one\ntwo\n");
    rig.write(&format!("{ROTATED}.gz.tmp"), "half a fi");
    rig.resume().await;
    rig.finish_archive();
    assert_eq!(unpacked(&rig, &format!("{ROTATED}.gz")), "one\ntwo\n");
    assert!(!rig.exists(ROTATED) && !rig.exists(&format!("{ROTATED}.gz.tmp")));
}

fn sweep(rig: &Rig, compression: Compression) -> std::io::Result<()> {
    archive::sweep(
        &Names::of(&rig.config.path).unwrap(),
        compression,
        &AtomicBool::new(false),
    )
}

#[test]
fn a_crash_before_the_original_is_deleted_leaves_one_of_both_behind_in_the_end() {
    for (compression, suffix) in [(Compression::Gzip, ".gz"), (Compression::Zstd, ".zst")] {
        let rig = Rig::new();
        rig.write(ROTATED, "one\ntwo\n");
        sweep(&rig, compression).unwrap();
        rig.write(ROTATED, "one\ntwo\n");
        // Also when the setting was changed meanwhile.
        sweep(&rig, Compression::None).unwrap();
        assert_eq!(rig.names(), [format!("{ROTATED}{suffix}")]);
    }
}

#[test]
fn a_copy_that_does_not_hold_the_same_never_replaces_the_original() {
    let whole = Rig::new();
    whole.write(ROTATED, "one\ntwo\n");
    sweep(&whole, Compression::Gzip).unwrap();
    let packed = std::fs::read(whole.path(&format!("{ROTATED}.gz"))).unwrap();
    for (original, copy) in [
        ("one\ntwo\n", &packed[..packed.len() - 9]),
        ("one\ntwo\nthree\n", &packed[..]),
        ("one\n", &packed[..]),
        ("one\nTwo\n", &packed[..]),
        ("one\ntwo\n", b"no gzip"),
        ("one\ntwo\n", b""),
    ] {
        let rig = Rig::new();
        rig.write(ROTATED, original);
        std::fs::write(rig.path(&format!("{ROTATED}.gz")), copy).unwrap();
        sweep(&rig, Compression::Gzip).unwrap();
        assert_eq!(rig.text(ROTATED), original);
        assert_eq!(
            std::fs::read(rig.path(&format!("{ROTATED}.gz"))).unwrap(),
            copy
        );
    }
}

#[test]
fn files_of_others_are_left_alone() {
    let rig = Rig::new();
    let names = [
        "audit-000001.ndjson",
        "audit.ndjson",
        "audit.ndjson.gz.tmp",
        "other-000001-20260716T100000Z.ndjson",
    ];
    for name in names {
        rig.write(name, "theirs");
    }
    sweep(&rig, Compression::Gzip).unwrap();
    assert_eq!(rig.names(), names);
}

#[test]
fn compression_gives_way_when_the_program_stops_and_leaves_the_original() {
    let rig = Rig::new();
    rig.write(ROTATED, "one\ntwo\n");
    let names = Names::of(&rig.config.path).unwrap();
    archive::sweep(&names, Compression::Zstd, &AtomicBool::new(true)).unwrap_err();
    assert_eq!(rig.text(ROTATED), "one\ntwo\n");
    sweep(&rig, Compression::Zstd).unwrap();
    assert_eq!(unpacked(&rig, &format!("{ROTATED}.zst")), "one\ntwo\n");
    assert_eq!(rig.names(), [format!("{ROTATED}.zst")]);
}

#[tokio::test]
async fn compression_that_failed_is_tried_again_by_a_later_tick() {
    let mut rig = rotating(Compression::Gzip);
    rig.resume().await;
    rig.deliver(0, 4).await;
    // Nothing can be written under the name that compression works with.
    std::fs::create_dir(rig.path(&format!("{ROTATED}.gz.tmp"))).unwrap();
    rig.sink.tick().await.unwrap();
    while !rig.has_archive_failed() {
        std::thread::yield_now();
    }
    assert_eq!(rig.lines(ROTATED), records(0, 4));
    std::fs::remove_dir(rig.path(&format!("{ROTATED}.gz.tmp"))).unwrap();
    rig.sink.tick().await.unwrap();
    rig.finish_archive();
    assert_eq!(
        unpacked(&rig, &format!("{ROTATED}.gz")),
        records(0, 4).join("\n") + "\n"
    );
}
