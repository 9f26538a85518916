//! A ledger that takes no writes for a while: what is not settled comes again as soon as it does, the ledger is blamed, and
//! no sink is.

use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::*;
use crate::sinks::testing::records;
use crate::status::{SinkStatus, StatusView};
use crate::testing::Turn;

async fn view(scene: &Scene, deliverer: &Deliverer) -> StatusView {
    deliverer.live.running();
    let summary = scene.ledger.summary(scene.now()).await.unwrap();
    crate::status::view(&summary, Some(&deliverer.live), scene.now())
}

fn sink_state(view: &StatusView, name: &str) -> SinkStatus {
    let sink = view.sinks.iter().find(|sink| sink.name == name);
    sink.map_or(SinkStatus::Idle, |sink| sink.state)
}

/// A pass as a host makes it: an error is no end.
async fn host_pass(deliverer: &Arc<Deliverer>) {
    let never = CancellationToken::new();
    // That the ledger leases nothing is what these tests are about.
    drop(deliverer.deliver_due(&never, &never).await);
    tokio::time::sleep(Duration::from_secs(2)).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_full_disk_kept_from_being_settled_comes_again_when_there_is_room() {
    let scene = Scene::new();
    for number in 0..8 {
        scene
            .add_blob(&format!("blob-{number}"), &records(number * 3, 3))
            .await;
    }
    let (fast, slow) = (FakeSink::new("fast"), FakeSink::with_position("slow"));
    slow.script([Turn::TakeIn(Duration::from_secs(10))]);
    let deliverer = deliverer(&scene, &[&fast, &slow]);
    let full_from_5 = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        scene.ledger.set_full(true);
    };
    tokio::join!(host_pass(&deliverer), full_from_5);
    while scene.now() < crate::testing::start() + Duration::from_secs(120) {
        host_pass(&deliverer).await;
    }
    let during = view(&scene, &deliverer).await;
    assert!(
        during.troubles[0].starts_with("the ledger fails, first "),
        "{:?}",
        during.troubles
    );
    assert!(during.troubles[0].contains("no room left for the ledger"));
    assert_ne!(sink_state(&during, "slow"), SinkStatus::Failing);
    assert_eq!(during.totals.delivered_count, 0);
    assert_eq!(
        during.totals.leased_count, 8,
        "the ledger still holds them for the pass that could not settle them"
    );

    scene.ledger.set_full(false);
    let mended_at = scene.now();
    while scene.stream().await.delivered_count < 8 {
        host_pass(&deliverer).await;
        assert!(
            scene.now() < mended_at + Duration::from_secs(60),
            "the blobs wait for their leases: {:?}",
            scene.stream().await
        );
    }
    assert!(!deliverer.live.is_ledger_failing());
    assert_eq!(view(&scene, &deliverer).await.troubles, [""; 0]);
    assert_eq!(fast.taken_sorted(), records(0, 24), "its yes was kept");
    assert_eq!(slow.taken_sorted(), records(0, 24), "it was put back");
}

#[tokio::test(start_paused = true)]
async fn blobs_that_could_not_be_put_back_do_not_wait_for_their_leases() {
    let scene = Scene::new();
    for number in 0..4 {
        scene
            .add_blob(&format!("blob-{number}"), &records(number, 1))
            .await;
    }
    let sink = FakeSink::new("file");
    sink.script([Turn::FailForGood]);
    let deliverer = deliverer(&scene, &[&sink]);
    scene.ledger.fail_next("retry_later", 4);
    while scene.stream().await.delivered_count < 4 {
        host_pass(&deliverer).await;
        let stream = scene.stream().await;
        assert!(
            scene.now() < crate::testing::start() + Duration::from_secs(60),
            "{stream:?}"
        );
    }
    assert_eq!(sink.taken_sorted(), records(0, 4));
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_leases_and_never_settles_is_not_hammered() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 4)).await;
    let sink = FakeSink::new("file");
    let deliverer = deliverer(&scene, &[&sink]);
    scene.ledger.fail_next("mark_delivered", 1_000);
    while scene.now() < crate::testing::start() + Duration::from_secs(300) {
        host_pass(&deliverer).await;
    }
    let fetches = scene.microsoft.blob_count();
    assert!((5..40).contains(&fetches), "{fetches}");
    assert_eq!(sink.taken(), records(0, 4));
    scene.ledger.fail_next("mark_delivered", 0);
    for _ in 0..10 {
        host_pass(&deliverer).await;
    }
    assert_eq!(scene.stream().await.delivered_count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_yes_that_the_ledger_does_not_take_is_the_ledgers_failure() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 4)).await;
    let sink = FakeSink::with_position("file");
    let deliverer = deliverer(&scene, &[&sink]);
    scene.ledger.fail_next("acknowledge", 5);
    scene.ledger.fail_next("retry_later", 1_000);
    scene.ledger.fail_next("renew", 1_000);
    scene.ledger.fail_next("remember", 1_000);
    pass(&deliverer).await;
    let view = view(&scene, &deliverer).await;
    assert!(view.ledger.failing.is_some());
    assert_eq!(sink_state(&view, "file"), SinkStatus::Ok);
    let health = &deliverer.sinks[0].1;
    assert!(!health.was_failing(), "it has all its tries");
    assert!(health.paused_until(scene.now()).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_the_ledger_fails_is_not_said_to_fail() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 4)).await;
    let sink = FakeSink::new("alertlogic");
    sink.always(Turn::FailOfLedger);
    let deliverer = deliverer(&scene, &[&sink]);
    scene.ledger.fail_next("retry_later", 1_000);
    scene.ledger.fail_next("renew", 1_000);
    scene.ledger.fail_next("remember", 1_000);
    pass(&deliverer).await;
    let view = view(&scene, &deliverer).await;
    assert!(
        view.troubles[0].starts_with("the ledger fails, first "),
        "{:?}",
        view.troubles
    );
    assert_eq!(sink_state(&view, "alertlogic"), SinkStatus::Idle);
    assert!(!deliverer.sinks[0].1.was_failing());
}

#[tokio::test(start_paused = true)]
async fn the_page_tells_the_cause_of_a_sinks_failure() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 4)).await;
    let sink = FakeSink::new("file");
    sink.always(Turn::FailForRoom);
    let deliverer = deliverer(&scene, &[&sink]);
    pass(&deliverer).await;
    let cause = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let expected = format!("sink file fails: cannot append to the file: {cause}");
    assert_eq!(view(&scene, &deliverer).await.troubles, [expected]);
}

/// Counts the lines of one level.
struct Counting(Level, Arc<AtomicUsize>);

impl Subscriber for Counting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == self.0
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn a_settlement_that_fails_is_one_line_however_many_blobs_it_concerns() {
    let scene = Scene::new();
    for number in 0..20 {
        scene.note(&format!("blob-{number}")).await;
    }
    let deliverer = deliverer(&scene, &[&FakeSink::new("file")]);
    let settler = Settler::new(
        Arc::<crate::testing::TestLedger>::clone(&scene.ledger),
        vec!["file".parse().unwrap()],
        scene.clock(),
        deliverer.live.clone(),
        Arc::clone(&deliverer.unsettled),
        Arc::clone(&deliverer.quarantine),
        LEASE,
        Arc::default(),
    );
    let request = deliverer
        .lease_request(20, Vec::new(), Choice::Due, scene.now())
        .unwrap();
    let leases = settler.lease(&request, scene.now()).await.unwrap();
    let settled: Vec<_> = leases
        .into_iter()
        .filter_map(|lease| {
            let in_flight = InFlight::new(lease, &["file".parse().unwrap()]);
            let ending = Ending::RetryLater {
                not_before: scene.now(),
                reason: "503".to_owned(),
            };
            in_flight.ended(ending)
        })
        .collect();
    assert_eq!(settled.len(), 20);

    let lines = Arc::new(AtomicUsize::new(0));
    scene.ledger.set_full(true);
    // With one subscriber in the process, tracing asks the thread that comes first by a line whether anybody wants it, and
    // remembers the answer: another test's thread, which has none, would say no for this one.
    let _second = tracing::Dispatch::new(Counting(Level::TRACE, Arc::default()));
    let counting = tracing::subscriber::set_default(Counting(Level::ERROR, Arc::clone(&lines)));
    settler.settle(settled).await;
    drop(counting);
    assert_eq!(scene.ledger.call_count("retry_later"), 20);
    assert_eq!(lines.load(Ordering::Relaxed), 1);

    scene.ledger.set_full(false);
    settler.look_after_ledger().await;
    assert_eq!(scene.stream().await.pending_count, 20);
}
