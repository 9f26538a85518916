//! The answers of a real ledger, with and without Microsoft's side.

use std::collections::HashMap;
use std::sync::Arc;

use expect_test::expect;
use jiff::SignedDuration;
use ledger::Listing;

use super::super::judge::LEAST_MARGIN;
use super::super::*;
use crate::testing::{Answer, CONTENT_TYPE, Scene, blob_uri, seen, start, tenant};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The hours from `first` to `last` before the scene's beginning were listed.
async fn list(scene: &Scene, hours_before: impl IntoIterator<Item = i64>) {
    for hours in hours_before {
        let from = start() - HOUR * i32::try_from(hours).unwrap();
        let listing = Listing {
            tenant: tenant(),
            content_type: CONTENT_TYPE,
            window: Window::new(from, from + HOUR).unwrap(),
            blob_count: 1,
        };
        let noted = scene.ledger.note_listed(listing, start() + HOUR / 4);
        noted.await.unwrap();
    }
}

async fn began(scene: &Scene, hours_before: i32) {
    let from = start() - HOUR * hours_before;
    let began = scene.ledger.begin_listing(tenant(), CONTENT_TYPE, from);
    assert_eq!(began.await.unwrap(), from);
}

/// A blob of the hour that begins so long before the scene's beginning.
async fn note(scene: &Scene, name: &str, hours_before: i32) {
    let mut blob = seen(tenant(), name);
    blob.created_at = start() - HOUR * hours_before + HOUR / 2;
    blob.expires_at = blob.created_at + HOUR * 168;
    scene.ledger.note_seen(vec![blob], start()).await.unwrap();
}

fn question() -> Question {
    Question {
        configured: vec![(tenant(), CONTENT_TYPE)],
        from: None,
        to: Some(start()),
        margin: LEAST_MARGIN,
    }
}

async fn ask(
    scene: &Scene,
    doors: Option<&Doors>,
    question: &Question,
) -> (VerdictView, Vec<Piece>) {
    let mut pieces = Vec::new();
    let now = start() + SignedDuration::from_mins(20);
    let mut tell = |piece| pieces.push(piece);
    let verdict = verify(&*scene.ledger, doors, question, now, &mut tell);
    let verdict = verdict.await.unwrap();
    (verdict, pieces)
}

fn text(pieces: &[Piece]) -> String {
    let text: String = pieces.iter().map(to_text).collect();
    text.replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

fn json(pieces: &[Piece]) -> serde_json::Value {
    let mut json = Json::default();
    let text: String = pieces.iter().map(|piece| json.piece(piece)).collect();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test(start_paused = true)]
async fn nothing_is_missing_when_every_hour_was_listed_and_every_blob_delivered() {
    let scene = Scene::new();
    began(&scene, 3).await;
    list(&scene, 1..=3).await;
    note(&scene, "a", 2).await;
    scene.deliver("a", 20, 26_000).await;
    let (verdict, pieces) = ask(&scene, None, &question()).await;
    assert!(verdict.is_complete);
    expect![[r#"
        o365-collector VERSION, asked at 2026-07-16T09:20:00Z, from the ledger

        tenant bf8d32d3-1c13-4487-af02-80dba2236485  Audit.Exchange
          range        2026-07-16T06:00:00Z to 2026-07-16T09:00:00Z (3 h 0 min)
          began        listing began at 2026-07-16T06:00:00Z
          listed       3 h 0 min of 3 h 0 min, every page, between 2026-07-16T09:15:00Z and 2026-07-16T09:15:00Z; each hour for the last time at least 15 min after it ended
          delivered    1 blob, 20 records, 25.4 KiB
          verdict      complete

        verdict: complete; 20 records in 1 blob delivered
    "#]]
    .assert_eq(&text(&pieces));
    let json = json(&pieces);
    assert_eq!(json["is_complete"], true);
    assert_eq!(json["streams"][0]["undelivered"], serde_json::json!([]));
    assert_eq!(json["streams"][0]["listed_secs"], 3 * 3600);
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_named_one_by_one() {
    let scene = Scene::new();
    began(&scene, 6).await;
    list(&scene, [1, 4, 6]).await;
    note(&scene, "lost", 6).await;
    note(&scene, "bad", 4).await;
    note(&scene, "late", 1).await;
    for lease in scene.lease_all().await {
        let now = start();
        match lease.content_id().as_str() {
            "lost" => scene.ledger.expire(lease, "it expired", now).await.unwrap(),
            "bad" => {
                let bytes = b"<html>".to_vec();
                let set_aside = scene.ledger.quarantine(lease, "no JSON array", bytes, now);
                set_aside.await.unwrap();
            }
            _ => {
                let put_back = scene.ledger.retry_later(lease, now + HOUR, "503");
                put_back.await.unwrap();
            }
        }
    }
    let (verdict, pieces) = ask(&scene, None, &question()).await;
    assert!(!verdict.is_complete);
    expect![[r#"
        o365-collector VERSION, asked at 2026-07-16T09:20:00Z, from the ledger

        tenant bf8d32d3-1c13-4487-af02-80dba2236485  Audit.Exchange
          range        2026-07-16T03:00:00Z to 2026-07-16T09:00:00Z (6 h 0 min)
          began        listing began at 2026-07-16T03:00:00Z
          listed       3 h 0 min of 6 h 0 min, every page, between 2026-07-16T09:15:00Z and 2026-07-16T09:15:00Z; each hour for the last time at least 15 min after it ended
          NOT LISTED   2026-07-16T04:00:00Z to 2026-07-16T05:00:00Z (1 h 0 min): a running collector lists it by itself, `backfill` at once; all of it can be listed until 2026-07-23T03:00:00Z
          NOT LISTED   2026-07-16T06:00:00Z to 2026-07-16T08:00:00Z (2 h 0 min): a running collector lists it by itself, `backfill` at once; all of it can be listed until 2026-07-23T05:00:00Z
          delivered    0 blobs, 0 records, 0 B
          pending      1 blob
          quarantined  1 blob
          expired      1 blob
            expired     blob lost, created 2026-07-16T03:30:00Z, expires 2026-07-23T03:30:00Z, tried 1 time: it expired
            quarantined blob bad, created 2026-07-16T05:30:00Z, expires 2026-07-23T05:30:00Z, tried 1 time: no JSON array
            pending     blob late, created 2026-07-16T08:30:00Z, expires 2026-07-23T08:30:00Z, tried 1 time: 503
          verdict      NOT complete: 2 stretches not listed; 1 blob pending; 1 blob in quarantine; 1 blob expired

        verdict: NOT complete: something is missing of 1 of 1 content type; 0 records in 0 blobs delivered
    "#]]
    .assert_eq(&text(&pieces));
    let json = json(&pieces);
    assert_eq!(json["streams"][0]["undelivered"][1]["state"], "quarantined");
    assert_eq!(json["streams"][0]["not_listed"][1]["why"], "not_yet");
    assert_eq!(json["is_complete"], false);
}

#[tokio::test(start_paused = true)]
async fn what_was_never_listed_is_not_complete_and_what_only_the_ledger_has_is_judged_too() {
    let scene = Scene::new();
    began(&scene, 2).await;
    list(&scene, [2]).await;
    let other = Question {
        configured: vec![(tenant(), ContentType::Dlp)],
        ..question()
    };
    let (verdict, pieces) = ask(&scene, None, &other).await;
    assert_eq!(
        (verdict.stream_count, verdict.incomplete_stream_count),
        (2, 1)
    );
    let json = json(&pieces);
    assert_eq!(json["streams"][0]["missing"][0], "it was never listed");
    assert_eq!(json["streams"][0]["range"], serde_json::Value::Null);
    let left_over = &json["streams"][1];
    assert_eq!(left_over["is_configured"], false);
    assert_eq!(
        left_over["is_complete"], true,
        "nothing is owed since: {left_over:#}"
    );
    assert_eq!(left_over["not_owed"][0]["from"], "2026-07-16T08:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn microsofts_side_is_listed_by_the_hour_and_what_the_ledger_lacks_is_named_and_not_noted() {
    let scene = Scene::new();
    began(&scene, 2).await;
    list(&scene, 1..=2).await;
    note(&scene, "known", 1).await;
    scene.deliver("known", 1, 10).await;
    let entry = |name: &str| {
        let (uri, created) = (blob_uri(tenant(), name), start() - HOUR / 2);
        format!(
            r#"{{"contentType":"Audit.Exchange","contentId":"{name}","contentUri":"{uri}","contentCreated":"{created}","contentExpiration":"{}"}}"#,
            created + HOUR * 168
        )
    };
    let page = Answer::ok(format!("[{},{}]", entry("known"), entry("new")));
    // The first hour is refused once, and empty.
    let busy = Answer::refused(503, "AF50000");
    scene
        .microsoft
        .on("content", [busy, Answer::ok("[]"), page]);
    let doors: Doors = HashMap::from([(tenant(), Arc::new(scene.door(tenant())))]);
    let (verdict, pieces) = ask(&scene, Some(&doors), &question()).await;
    assert!(!verdict.is_complete);
    let json = json(&pieces);
    let stream = &json["streams"][0];
    assert_eq!(stream["unknown"][0]["content_id"], "new");
    assert_eq!(stream["again"]["listed_blob_count"], 2);
    assert_eq!(stream["again"]["unknown_count"], 1);
    assert_eq!(stream["missing"][0], "1 blob that only Microsoft knows of");
    assert!(
        text(&pieces).contains("lists 2 blobs of"),
        "{}",
        text(&pieces)
    );
    assert_eq!(
        scene.stream().await.pending_count,
        0,
        "looking notes nothing"
    );

    scene
        .microsoft
        .on("content", [Answer::refused(403, "AF10001")]);
    let (_, pieces) = ask(&scene, Some(&doors), &question()).await;
    let said = text(&pieces);
    assert!(said.contains("could not be asked further"), "{said}");
}
