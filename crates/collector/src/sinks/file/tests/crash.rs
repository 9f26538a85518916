//! Every state that a crash can leave, made by hand, and random ones.

use proptest::prelude::*;

use super::*;

const ROTATED: &str = "audit-000001-20260716T100000Z.ndjson";

/// A file with three committed records.
async fn three() -> Rig {
    let mut rig = Rig::resumed().await;
    rig.deliver(0, 3).await;
    rig
}

#[tokio::test]
async fn what_was_written_but_never_committed_is_cut_off() {
    let mut rig = three().await;
    rig.deliver_uncommitted(3, 4).await;
    rig.restart().await;
    assert_eq!(rig.lines("audit.ndjson"), records(0, 3));
    rig.deliver(3, 4).await;
    assert_eq!(rig.lines("audit.ndjson"), records(0, 7));
}

#[tokio::test]
async fn a_line_that_the_crash_tore_is_cut_off() {
    let mut rig = three().await;
    rig.crash();
    rig.append("audit.ndjson", &record(3)[..40]);
    rig.resume().await;
    rig.deliver(3, 4).await;
    assert_eq!(rig.lines("audit.ndjson"), records(0, 7));
}

#[tokio::test]
async fn a_crash_in_the_first_batch_of_all_sets_aside_what_no_ledger_may_know_of() {
    let mut rig = Rig::resumed().await;
    rig.deliver_uncommitted(0, 3).await;
    rig.restart().await;
    assert_eq!(rig.lines("audit.ndjson"), [] as [&str; 0]);
    assert_eq!(
        rig.lines("audit.ndjson.unconfirmed-20260716T100000Z"),
        records(0, 3)
    );
    rig.deliver(0, 4).await;
    rig.restart().await;
    assert_eq!(rig.all_lines(), records(0, 4));
}

#[tokio::test]
async fn crashes_in_quick_succession_do_not_get_into_one_anothers_way() {
    let mut rig = Rig::resumed().await;
    for _ in 0..3 {
        rig.deliver_uncommitted(0, 3).await;
        rig.restart().await;
    }
    assert_eq!(
        rig.names()
            .iter()
            .filter(|name| name.contains("unconfirmed"))
            .count(),
        3
    );
    rig.deliver(0, 4).await;
    assert_eq!(rig.all_lines(), records(0, 4));
}

#[tokio::test]
async fn the_note_goes_when_the_first_record_is_committed() {
    let mut rig = Rig::resumed().await;
    assert!(rig.exists("audit.ndjson.begun"));
    rig.sink.tick().await.unwrap();
    assert!(rig.exists("audit.ndjson.begun"));
    rig.deliver(0, 3).await;
    assert!(rig.exists("audit.ndjson.begun"));
    rig.sink.tick().await.unwrap();
    assert!(!rig.exists("audit.ndjson.begun"));
}

#[tokio::test]
async fn a_note_that_came_back_after_its_file_was_committed_is_harmless() {
    let mut rig = three().await;
    rig.restart().await;
    assert!(!rig.exists("audit.ndjson.begun"));
    rig.write("audit.ndjson.begun", r#"{"sequence":1}"#);
    rig.restart().await;
    rig.deliver(3, 1).await;
    assert_eq!(rig.lines("audit.ndjson"), records(0, 4));
    assert!(!rig.exists("audit.ndjson.begun"));
}

#[tokio::test]
async fn a_file_that_no_ledger_knows_is_left_alone() {
    let rig = Rig::new();
    rig.write("audit.ndjson", "somebody's\n");
    let error = rig.resume_refused().await;
    assert!(error.contains("move it away"), "{error}");
    rig.rename("audit.ndjson", "theirs");
    rig.resume().await;
    assert_eq!(rig.text("theirs"), "somebody's\n");
}

#[tokio::test]
async fn a_ledger_that_was_lost_does_not_cost_the_file() {
    let mut rig = three().await;
    rig.deliver(3, 1).await;
    rig.crash();
    rig.position = None;
    rig.resume_refused().await;
    assert_eq!(rig.lines("audit.ndjson"), records(0, 4));
}

#[tokio::test]
async fn a_ledger_that_was_lost_after_the_first_commit_does_not_cost_the_file_either() {
    let mut rig = three().await;
    rig.position = None;
    rig.restart().await;
    assert_eq!(
        rig.lines("audit.ndjson.unconfirmed-20260716T100000Z"),
        records(0, 3)
    );
}

#[tokio::test]
async fn a_file_that_is_shorter_than_committed_is_left_alone() {
    let mut rig = three().await;
    rig.crash();
    rig.write("audit.ndjson", &record(0));
    let error = rig.resume_refused().await;
    assert!(error.contains("cut or replaced"), "{error}");
}

#[tokio::test]
async fn a_file_with_other_content_is_left_alone() {
    let mut rig = three().await;
    rig.crash();
    rig.write("audit.ndjson", &(records(4, 9).join("\n") + "\n"));
    let error = rig.resume_refused().await;
    assert!(error.contains("different"), "{error}");
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_followed_by_the_next() {
    let mut rig = three().await;
    rig.crash();
    rig.rename("audit.ndjson", "kept elsewhere");
    rig.resume().await;
    rig.deliver(3, 2).await;
    rig.restart().await;
    assert_eq!(rig.lines("audit.ndjson"), records(3, 2));
    assert_eq!(rig.committed().sequence, 2);
    assert_eq!(rig.lines("kept elsewhere"), records(0, 3));
}

#[tokio::test]
async fn a_crash_in_a_file_that_follows_one_moved_away_loses_and_repeats_nothing() {
    let mut rig = three().await;
    rig.crash();
    rig.rename("audit.ndjson", "kept elsewhere");
    rig.resume().await;
    rig.deliver_uncommitted(3, 2).await;
    rig.restart().await;
    rig.deliver(3, 2).await;
    assert_eq!(rig.lines("audit.ndjson"), records(3, 2));
}

#[tokio::test]
async fn a_rotation_interrupted_before_its_rename_did_not_happen() {
    let mut rig = three().await;
    rig.crash();
    rig.write("audit.ndjson.begun", r#"{"sequence":2}"#);
    rig.resume().await;
    rig.deliver(3, 2).await;
    assert_eq!(rig.lines("audit.ndjson"), records(0, 5));
    assert_eq!(rig.committed().sequence, 1);
}

#[tokio::test]
async fn a_rotation_interrupted_after_its_rename_is_completed() {
    let mut rig = three().await;
    rig.crash();
    rig.write("audit.ndjson.begun", r#"{"sequence":2}"#);
    rig.rename("audit.ndjson", ROTATED);
    rig.resume().await;
    rig.deliver(3, 2).await;
    rig.restart().await;
    assert_eq!(rig.lines(ROTATED), records(0, 3));
    assert_eq!(rig.lines("audit.ndjson"), records(3, 2));
    assert_eq!(rig.committed().sequence, 2);
}

#[tokio::test]
async fn records_written_after_a_rotation_but_never_committed_are_cut_off() {
    // Shorter than the committed length, longer than it, and torn; with the rotated file still there or moved on.
    for uncommitted in [
        records(3, 1).join("\n"),
        records(3, 9).join("\n") + "\n",
        record(3)[..10].to_owned(),
    ] {
        for is_moved_on in [false, true] {
            let mut rig = three().await;
            rig.crash();
            rig.write("audit.ndjson.begun", r#"{"sequence":2}"#);
            rig.rename("audit.ndjson", ROTATED);
            rig.write("audit.ndjson", &uncommitted);
            if is_moved_on {
                rig.remove(ROTATED);
            }
            rig.resume().await;
            assert_eq!(rig.text("audit.ndjson"), "");
            rig.deliver(3, 2).await;
            rig.restart().await;
            assert_eq!(rig.lines("audit.ndjson"), records(3, 2));
        }
    }
}

#[tokio::test]
async fn a_half_written_note_is_no_note() {
    let rig = Rig::new();
    rig.write("audit.ndjson.begun.tmp", r#"{"sequ"#);
    rig.resume().await;
    assert_eq!(rig.text("audit.ndjson.begun"), r#"{"sequence":1}"#);
    assert!(!rig.exists("audit.ndjson.begun.tmp"));
}

#[tokio::test]
async fn what_lies_in_the_place_of_the_note_is_not_guessed_at() {
    let rig = Rig::new();
    rig.write("audit.ndjson", "");
    rig.write("audit.ndjson.begun", "a shopping list");
    let error = rig.resume_refused().await;
    assert!(error.contains(".begun"), "{error}");
}

#[tokio::test]
async fn a_position_of_another_kind_is_refused() {
    let mut rig = Rig::new();
    rig.write("audit.ndjson", "");
    rig.position = Some("17".to_owned());
    rig.resume_refused().await;
}

#[derive(Debug, Clone)]
enum Step {
    Deliver {
        count: usize,
    },
    /// Delivered, and the process dies before the commit.
    DeliverAndCrash {
        count: usize,
    },
    /// Delivered, the commit fails, the lane goes on.
    DeliverUncommitted {
        count: usize,
    },
    FullDisk {
        count: usize,
        room: usize,
    },
    /// The process dies while it writes: a piece of a batch is there.
    Torn {
        bytes: usize,
    },
    Restart,
    Wait {
        hours: u64,
    },
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6usize).prop_map(|count| Step::Deliver { count }),
        1 => (0..6usize).prop_map(|count| Step::DeliverAndCrash { count }),
        1 => (0..6usize).prop_map(|count| Step::DeliverUncommitted { count }),
        1 => (1..6usize, 0..300usize).prop_map(|(count, room)| Step::FullDisk { count, room }),
        1 => (0..300usize).prop_map(|bytes| Step::Torn { bytes }),
        1 => Just(Step::Restart),
        1 => (0..3u64).prop_map(|hours| Step::Wait { hours }),
        1 => Just(Step::Tick),
    ]
}

async fn walk(steps: &[Step]) {
    let mut rig = Rig::with(|config| {
        config.rotate_bytes = Some(1_000);
        config.rotate_after = Some(std::time::Duration::from_secs(2 * 3600));
    });
    rig.resume().await;
    let mut committed = 0;
    for step in steps {
        match step {
            Step::Deliver { count } => {
                rig.deliver(committed, *count).await;
                committed += count;
            }
            Step::DeliverAndCrash { count } => {
                rig.deliver_uncommitted(committed, *count).await;
                rig.restart().await;
            }
            Step::DeliverUncommitted { count } => {
                rig.deliver_uncommitted(committed, *count).await;
                rig.resume().await;
            }
            Step::FullDisk { count, room } => {
                rig.quota
                    .fail_append_after((*room).min(count * record(0).len()));
                rig.sink
                    .deliver(&batch(&records(committed, *count)))
                    .await
                    .unwrap_err();
            }
            Step::Torn { bytes } => {
                rig.crash();
                rig.append("audit.ndjson", &records(committed, 3).join("\n")[..*bytes]);
                rig.resume().await;
            }
            Step::Restart => rig.restart().await,
            // A minute besides, so that no two rotated files have one time.
            Step::Wait { hours } => rig
                .clock
                .advance(std::time::Duration::from_secs(hours * 3600 + 60)),
            Step::Tick => rig.sink.tick().await.unwrap(),
        }
        assert_eq!(
            rig.all_lines().len().min(committed),
            committed,
            "a committed record is missing after {step:?}"
        );
    }
    rig.restart().await;
    assert_eq!(rig.all_lines(), records(0, committed));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_committed_record_is_in_the_files_once(steps in proptest::collection::vec(step(), 0..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(walk(&steps));
    }
}
