//! A tenant that is throttled, or whose requests hang, costs the other tenants nothing.

use super::*;
use crate::testing::{Answer, blob_text, seen};
use serde_json::json;

fn text(number: usize) -> String {
    blob_text(&[json!({ "Id": format!("other-{number}") }).to_string()])
}

/// Blobs of the other tenant, all as they should be.
async fn healthy_blobs(scene: &Scene, count: usize) {
    for number in 0..count {
        let name = format!("healthy-{number}");
        scene
            .microsoft
            .on(&format!("blob/{name}"), [Answer::ok(text(number))]);
        let seen = seen(other_tenant(), &name);
        scene
            .ledger
            .note_seen(vec![seen], scene.now())
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_whose_requests_hang_leaves_places_for_the_others() {
    let scene = Scene::new();
    let hanging = 40;
    for number in 0..hanging {
        let name = format!("hanging-{number}");
        let answer = Answer::ok("[]").after(Duration::from_secs(100_000));
        scene.microsoft.on(&format!("blob/{name}"), [answer]);
        scene.note(&name).await;
    }
    healthy_blobs(&scene, 60).await;
    let sink = FakeSink::new("file");
    let deliverer = deliverer(&scene, &[&sink]);
    let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
    let passing = deliverer.deliver_due(&stop, &hurry);
    let looking = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        let delivered = scene.stream_of(other_tenant()).await.delivered_count;
        stop.cancel();
        hurry.cancel();
        delivered
    };
    let (_, delivered) = tokio::join!(passing, looking);
    assert_eq!(delivered, 60);
    assert_eq!(
        scene.stream().await.leased_count,
        0,
        "the rest was given back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_throttled_tenant_is_left_alone_and_the_others_go_on() {
    let scene = Scene::new();
    for number in 0..30 {
        let name = format!("throttled-{number}");
        let refusal = Answer::refused(429, "AF429").header("Retry-After", "120");
        scene.microsoft.on(&format!("blob/{name}"), [refusal]);
        scene.note(&name).await;
    }
    healthy_blobs(&scene, 30).await;
    let sink = FakeSink::new("file");
    let deliverer = deliverer(&scene, &[&sink]);
    let began = Instant::now();
    pass(&deliverer).await;
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(scene.stream_of(other_tenant()).await.delivered_count, 30);
    let asked = scene.microsoft.blob_count() - 30;
    assert!(
        asked <= 16,
        "{asked} requests before the tenant was left alone"
    );
    // A second pass, still within the pause, asks for nothing at all.
    pass(&deliverer).await;
    assert_eq!(scene.microsoft.blob_count() - 30, asked);
}
