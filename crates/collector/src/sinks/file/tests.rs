//! The file sink on a real folder: delivery, rotation, and what is found after a crash at every step.

mod crash;
mod pure;
mod rig;
mod rotation;

use async_trait::async_trait;

use self::rig::Rig;
use super::*;
use crate::sinks::{
    conformance::{self, Subject},
    testing::{batch, record, records},
};

#[async_trait]
impl Subject for Rig {
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn arrived(&self) -> Vec<String> {
        self.lines("audit.ndjson")
    }

    fn fail_after(&self, bytes: usize) {
        self.quota.fail_append_after(bytes);
    }

    fn refuse(&self, _marker: &'static str) -> bool {
        false
    }

    fn as_it_arrives(&self, text: &str) -> String {
        text.replace(['\r', '\n'], " ")
    }

    fn may_repeat(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn the_file_keeps_every_promise_of_a_sink() {
    conformance::check(async || Rig::resumed().await).await;
}

#[tokio::test]
async fn a_full_disk_leaves_no_torn_line_and_delivery_goes_on_when_there_is_room() {
    let mut rig = Rig::resumed().await;
    rig.deliver(0, 3).await;
    for bytes in [0, 10, 500] {
        rig.quota.fail_append_after(bytes);
        let failure = rig.sink.deliver(&batch(&records(3, 10))).await.unwrap_err();
        assert!(matches!(failure.error, Error::Io { .. }), "{failure:?}");
        assert_eq!(failure.delivered_count, 0);
        assert_eq!(rig.lines("audit.ndjson"), records(0, 3));
    }
    rig.deliver(3, 10).await;
    assert_eq!(rig.lines("audit.ndjson"), records(0, 13));
}

#[tokio::test]
async fn a_sync_that_fails_takes_the_batch_back() {
    let mut rig = Rig::resumed().await;
    rig.deliver(0, 3).await;
    rig.quota.fail_next_sync();
    rig.sink.deliver(&batch(&records(3, 2))).await.unwrap_err();
    assert_eq!(rig.lines("audit.ndjson"), records(0, 3));
    rig.deliver(3, 2).await;
    assert_eq!(rig.lines("audit.ndjson"), records(0, 5));
}

#[tokio::test]
async fn a_file_that_could_not_be_cut_back_is_cut_before_the_next_write() {
    let mut rig = Rig::resumed().await;
    rig.deliver(0, 3).await;
    rig.quota.fail_append_after(20);
    rig.quota.fail_next_cuts(2);
    rig.sink.deliver(&batch(&records(3, 2))).await.unwrap_err();
    assert_eq!(
        rig.text("audit.ndjson").len() as u64,
        rig.committed().length + 20
    );
    rig.sink.deliver(&batch(&records(3, 2))).await.unwrap_err();
    rig.deliver(3, 2).await;
    assert_eq!(rig.lines("audit.ndjson"), records(0, 5));
}

#[tokio::test]
async fn a_batch_whose_commit_failed_is_there_once_after_it_comes_again() {
    let mut rig = Rig::resumed().await;
    // The first batch of all, for which no position was ever committed, as well as a later one.
    for first in [0, 5] {
        for _ in 0..3 {
            rig.sink.deliver(&batch(&records(first, 5))).await.unwrap();
            rig.sink.resume(rig.position.as_deref()).await.unwrap();
        }
        rig.deliver(first, 5).await;
    }
    assert_eq!(rig.lines("audit.ndjson"), records(0, 10));
    assert_eq!(rig.names(), ["audit.ndjson", "audit.ndjson.lock"]);
}

#[tokio::test]
async fn a_delivery_that_nobody_waited_for_is_taken_back() {
    let mut rig = Rig::resumed().await;
    rig.deliver(0, 2).await;
    let sent = batch(&records(2, 3));
    let abandoned = rig.sink.deliver(&sent);
    // Polled once, so that the disk is at work when it is dropped.
    assert!(futures::poll!(Box::pin(abandoned)).is_pending());
    rig.deliver(2, 3).await;
    rig.sink.tick().await.unwrap();
    rig.deliver(5, 1).await;
    assert_eq!(rig.lines("audit.ndjson"), records(0, 6));
}

#[tokio::test]
async fn a_delivery_that_nobody_waited_for_does_nothing_when_its_turn_comes_late() {
    let mut rig = Rig::resumed().await;
    rig.deliver(0, 2).await;
    let sent = batch(&records(7, 3));
    assert!(futures::poll!(Box::pin(rig.sink.deliver(&sent))).is_pending());
    rig.deliver(2, 3).await;
    rig.sink.resume(rig.position.as_deref()).await.unwrap();
    assert_eq!(rig.lines("audit.ndjson"), records(0, 5));
    // Whether that call had its turn before or after the next is chance; here it is after for certain.
    let late = rig
        .sink
        .on_disk(2, |writer| writer.settle(0))
        .await
        .unwrap_err();
    assert!(matches!(late, Error::Refused { .. }), "{late:?}");
    rig.deliver(5, 1).await;
    assert_eq!(rig.lines("audit.ndjson"), records(0, 6));
}

#[tokio::test]
async fn two_collectors_cannot_write_one_file() {
    let rig = Rig::resumed().await;
    let other = rig.another_sink();
    let error = other.resume(None).await.unwrap_err();
    assert!(
        matches!(error, Error::Refused { .. }) && error.to_string().contains("another collector"),
        "{error}"
    );
    drop(rig.sink);
    other.resume(None).await.unwrap();
}

#[tokio::test]
async fn a_file_deleted_while_it_is_written_is_begun_again() {
    let mut rig = Rig::resumed().await;
    rig.deliver(0, 3).await;
    rig.remove("audit.ndjson");
    rig.deliver(3, 3).await;
    assert_eq!(rig.lines("audit.ndjson"), records(3, 3));
    assert_eq!(rig.committed().sequence, 2);
}

#[tokio::test]
async fn a_file_emptied_while_it_is_written_is_begun_again() {
    let mut rig = Rig::resumed().await;
    rig.deliver(0, 3).await;
    rig.write("audit.ndjson", "");
    rig.deliver(3, 3).await;
    assert_eq!(rig.lines("audit.ndjson"), records(3, 3));
}

#[tokio::test]
async fn a_file_that_another_program_changes_is_not_written() {
    let mut rig = Rig::resumed().await;
    rig.deliver(0, 3).await;
    let ours = rig.text("audit.ndjson");
    for theirs in [
        format!("{ours}their line\n"),
        ours[..ours.len() - 5].to_owned(),
    ] {
        rig.write("audit.ndjson", &theirs);
        let failure = rig.sink.deliver(&batch(&records(3, 3))).await.unwrap_err();
        assert!(
            matches!(failure.error, Error::Refused { .. }),
            "{failure:?}"
        );
        assert_eq!(rig.text("audit.ndjson"), theirs);
        rig.write("audit.ndjson", &ours);
        rig.sink.resume(rig.position.as_deref()).await.unwrap();
    }
    rig.deliver(3, 3).await;
    assert_eq!(rig.lines("audit.ndjson"), records(0, 6));
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused() {
    let rig = Rig::new();
    std::fs::create_dir(rig.path("audit.ndjson")).unwrap();
    let error = rig.sink.resume(None).await.unwrap_err();
    assert!(error.to_string().contains("regular file"), "{error}");
}

#[tokio::test]
async fn a_missing_folder_is_reported_and_not_created() {
    let rig = Rig::new();
    std::fs::remove_dir(rig.folder.path()).unwrap();
    assert!(matches!(
        rig.sink.resume(None).await.unwrap_err(),
        Error::Io { .. }
    ));
    assert!(!rig.folder.path().exists());
}

#[tokio::test]
async fn a_probe_says_what_is_wrong_with_the_place_and_leaves_nothing_there() {
    let rig = Rig::new();
    let names = || {
        let entries = std::fs::read_dir(rig.folder.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name())
            .collect::<Vec<_>>()
    };
    let fine = rig.sink.probe().await.unwrap();
    assert!(fine.contains("is made at the first start"), "{fine}");
    assert!(names().is_empty());

    std::fs::write(rig.path("audit.ndjson"), "{}\n").unwrap();
    let fine = rig.sink.probe().await.unwrap();
    assert!(fine.contains("has 3 bytes"), "{fine}");
    assert_eq!(std::fs::read(rig.path("audit.ndjson")).unwrap(), b"{}\n");
    assert_eq!(names(), ["audit.ndjson"]);

    std::fs::remove_file(rig.path("audit.ndjson")).unwrap();
    std::fs::create_dir(rig.path("audit.ndjson")).unwrap();
    let error = rig.sink.probe().await.unwrap_err().to_string();
    assert!(error.contains("regular file"), "{error}");

    std::fs::remove_dir_all(rig.folder.path()).unwrap();
    let error = rig.sink.probe().await.unwrap_err().to_string();
    assert!(error.contains("does not exist; create it"), "{error}");
    std::fs::write(rig.folder.path(), "").unwrap();
    let error = rig.sink.probe().await.unwrap_err().to_string();
    std::fs::remove_file(rig.folder.path()).unwrap();
    assert!(error.contains("is no folder"), "{error}");
}

#[test]
fn a_path_that_names_no_file_is_refused() {
    let clock = crate::sinks::testing::SetClock::at("2026-07-16T10:00:00Z");
    let config = FileConfig {
        path: "/".into(),
        ..rig::config(std::path::Path::new("/tmp"))
    };
    assert!(matches!(
        FileSink::build(config, clock),
        Err(Error::Refused { .. })
    ));
}

#[tokio::test]
async fn a_sink_that_was_not_resumed_writes_nothing() {
    let rig = Rig::new();
    let failure = rig.sink.deliver(&batch(&[record(0)])).await.unwrap_err();
    assert!(matches!(failure.error, Error::Refused { .. }));
    assert_eq!(rig.names(), [] as [&str; 0]);
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_readable_by_its_owner_and_group_only() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::resumed().await;
    let mode = std::fs::metadata(rig.path("audit.ndjson"))
        .unwrap()
        .permissions()
        .mode();
    // The mask of whoever runs the test may take more away.
    assert_eq!(mode & 0o137, 0, "{mode:o}");
}
