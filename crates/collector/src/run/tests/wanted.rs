//! Blobs that are asked for by name, as the messages of a queue do.

use futures::future::join_all;
use ledger::BlobName;
use tokio::time::Instant;

use super::*;
use crate::deliver::Turn as Came;

/// A pipeline of one sink whose blobs are asked for by name, working until the scene is over.
struct Stage {
    pipeline: Arc<Pipeline>,
    stop: CancellationToken,
    working: tokio::task::JoinHandle<()>,
}

impl Stage {
    async fn new(scene: &Scene, sinks: &[&Arc<FakeSink>]) -> Self {
        let pipeline = Arc::new(pipeline(scene, sinks));
        pipeline.start().await.unwrap();
        let stop = CancellationToken::new();
        let (works, stops) = (Arc::clone(&pipeline), stop.clone());
        let working = tokio::spawn(async move { works.deliver_wanted_until(&stops).await });
        Self {
            pipeline,
            stop,
            working,
        }
    }

    async fn ask(&self, name: &str) -> Came {
        self.pipeline
            .deliver_blob(named(name), std::future::pending())
            .await
    }

    async fn end(self) {
        self.stop.cancel();
        self.working.await.unwrap();
    }
}

fn named(name: &str) -> BlobName {
    BlobName {
        tenant: tenant(),
        content_type: CONTENT_TYPE,
        content_id: activity_api::ContentId::canonical(name),
    }
}

async fn blobs(scene: &Scene, count: usize) {
    for number in 0..count {
        scene
            .add_blob(&format!("blob-{number}"), &records(number, 1))
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_blob_that_was_asked_for_is_delivered() {
    let scene = Scene::new();
    blobs(&scene, 3).await;
    let sink = FakeSink::new("file");
    let stage = Stage::new(&scene, &[&sink]).await;
    assert_eq!(stage.ask("blob-1").await, Came::Ended);
    assert_eq!(sink.taken(), records(1, 1));
    let stream = scene.stream().await;
    assert_eq!(
        (
            stream.delivered_count,
            stream.pending_count,
            stream.leased_count
        ),
        (1, 2, 0)
    );
    stage.end().await;
    assert_eq!(sink.taken().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn blobs_asked_for_at_once_are_delivered_by_one_pass() {
    let scene = Scene::new();
    // More than a pass fetches at once, and more than it leases at once.
    blobs(&scene, 24).await;
    let sink = FakeSink::new("file");
    sink.script([Turn::TakeIn(Duration::from_secs(3))]);
    let stage = Stage::new(&scene, &[&sink]).await;
    let names: Vec<_> = (0..24).map(|number| format!("blob-{number}")).collect();
    let turns = join_all(names.iter().map(|name| stage.ask(name))).await;
    assert_eq!(turns, [Came::Ended; 24]);
    assert_eq!(sink.taken_sorted(), records(0, 24));
    assert_eq!(scene.stream().await.delivered_count, 24);
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_blob_asked_for_twice_at_once_is_delivered_once() {
    let scene = Scene::new();
    blobs(&scene, 1).await;
    let sink = FakeSink::new("file");
    sink.script([Turn::TakeIn(Duration::from_secs(5))]);
    let stage = Stage::new(&scene, &[&sink]).await;
    let (first, second, third) = tokio::join!(stage.ask("blob-0"), stage.ask("blob-0"), async {
        // While it is under way.
        tokio::time::sleep(Duration::from_secs(2)).await;
        stage.ask("blob-0").await
    });
    assert_eq!([first, second, third], [Came::Ended; 3]);
    assert_eq!(sink.taken(), records(0, 1));
    assert_eq!(scene.microsoft.blob_count(), 1);
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_settled_or_unknown_blob_is_answered_at_once() {
    let scene = Scene::new();
    blobs(&scene, 1).await;
    let sink = FakeSink::new("file");
    let stage = Stage::new(&scene, &[&sink]).await;
    assert_eq!(stage.ask("blob-0").await, Came::Ended);
    let began = Instant::now();
    assert_eq!(stage.ask("blob-0").await, Came::NotLeased);
    assert_eq!(stage.ask("never-heard-of").await, Came::NotLeased);
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(sink.taken().len(), 1);
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_somebody_else_has_is_answered_at_once() {
    let scene = Scene::new();
    blobs(&scene, 1).await;
    let lease = scene.lease_all().await;
    let stage = Stage::new(&scene, &[&FakeSink::new("file")]).await;
    assert_eq!(stage.ask("blob-0").await, Came::NotLeased);
    stage.end().await;
    scene.ledger.release(lease).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_the_sink_is_down_the_answer_comes_at_once_and_the_blob_is_due_again_later() {
    let scene = Scene::new();
    blobs(&scene, 2).await;
    let sink = FakeSink::new("file");
    sink.always(Turn::FailForGood);
    let stage = Stage::new(&scene, &[&sink]).await;
    assert_eq!(stage.ask("blob-0").await, Came::Ended);
    let began = Instant::now();
    assert_eq!(stage.ask("blob-0").await, Came::NotLeased);
    assert_eq!(stage.ask("blob-1").await, Came::NotLeased);
    assert_eq!(began.elapsed(), Duration::ZERO);
    sink.always(Turn::Take);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(stage.ask("blob-0").await, Came::Ended);
    assert_eq!(stage.ask("blob-1").await, Came::Ended);
    assert_eq!(sink.taken_sorted(), records(0, 2));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_has_no_more_time_gives_the_blob_back_and_no_other() {
    let scene = Scene::new();
    for (number, name) in ["slow", "patient"].into_iter().enumerate() {
        let answer = Answer::ok(blob_text(&records(number, 1))).after(Duration::from_secs(300));
        scene
            .microsoft
            .on(&format!("blob/{name}"), [answer.clone(), answer]);
        scene.note(name).await;
    }
    let sink = FakeSink::new("file");
    let stage = Stage::new(&scene, &[&sink]).await;
    let began = Instant::now();
    let give_up = tokio::time::sleep(Duration::from_secs(60));
    let (hurried, patient) = tokio::join!(
        async {
            let came = stage.pipeline.deliver_blob(named("slow"), give_up).await;
            (came, began.elapsed())
        },
        stage.ask("patient")
    );
    assert_eq!(hurried, (Came::Ended, Duration::from_secs(60)));
    assert_eq!(patient, Came::Ended);
    assert_eq!(sink.taken(), records(1, 1));
    // Due at once, not when its lease would have run out.
    let leases = scene.lease_all().await;
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].attempts(), 1);
    scene.ledger.release(leases).await.unwrap();
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_keeps_nobody_longer_than_the_grace() {
    let scene = Scene::new();
    blobs(&scene, 1).await;
    let sink = FakeSink::new("file");
    sink.script([Turn::Hang]);
    let stage = Stage::new(&scene, &[&sink]).await;
    let began = Instant::now();
    let give_up = tokio::time::sleep(Duration::from_secs(60));
    let came = stage.pipeline.deliver_blob(named("blob-0"), give_up).await;
    assert_eq!(
        (came, began.elapsed()),
        (Came::Ended, Duration::from_secs(70))
    );
    stage.end().await;
    assert_eq!(scene.stream().await.pending_count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_does_not_answer_is_told_to_whoever_asked_and_to_nobody_after() {
    let scene = Scene::new();
    blobs(&scene, 2).await;
    let sink = FakeSink::new("file");
    let stage = Stage::new(&scene, &[&sink]).await;
    scene.ledger.fail_next("lease", 1);
    let turns = tokio::join!(stage.ask("blob-0"), stage.ask("blob-1"));
    assert_eq!(turns, (Came::LedgerFailed, Came::LedgerFailed));
    let turns = tokio::join!(stage.ask("blob-0"), stage.ask("blob-1"));
    assert_eq!(turns, (Came::Ended, Came::Ended));
    assert_eq!(sink.taken_sorted(), records(0, 2));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_blob_dropped_half_way_is_leased_again_when_its_lease_has_run_out() {
    let scene = Scene::new();
    blobs(&scene, 1).await;
    let sink = FakeSink::new("file");
    sink.script([Turn::Hang]);
    let stage = Stage::new(&scene, &[&sink]).await;
    {
        let asking = stage.ask("blob-0");
        let dying = tokio::time::sleep(Duration::from_secs(5));
        tokio::select! {
            came = asking => panic!("{came:?}"),
            () = dying => {}
        }
    }
    // As when the process dies: nothing is said to anybody.
    stage.working.abort();
    drop(stage.working.await);
    drop(stage.pipeline);
    let again = Stage::new(&scene, &[&sink]).await;
    assert_eq!(again.ask("blob-0").await, Came::NotLeased);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(again.ask("blob-0").await, Came::Ended);
    assert_eq!(sink.taken(), records(0, 1));
    again.end().await;
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_ends_what_it_began_and_tells_the_others() {
    let scene = Scene::new();
    blobs(&scene, 6).await;
    let sink = FakeSink::new("file");
    sink.script([Turn::TakeIn(Duration::from_secs(5))]);
    let stage = Stage::new(&scene, &[&sink]).await;
    let names: Vec<_> = (0..6).map(|number| format!("blob-{number}")).collect();
    let (turns, ()) = tokio::join!(join_all(names.iter().map(|name| stage.ask(name))), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stage.stop.cancel();
    });
    let delivered = scene.stream().await.delivered_count;
    assert!(delivered >= 1, "{turns:?}");
    assert_eq!(scene.stream().await.leased_count, 0);
    // Whoever asks with a message in hand must not take it for done.
    assert_eq!(stage.ask("blob-0").await, Came::NotTried);
    stage.working.await.unwrap();
}
