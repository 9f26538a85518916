//! Keeping subscriptions, against a scripted Microsoft and a real ledger.

use super::*;
use crate::testing::subscriptions::{WEBHOOK_URL as URL, hook, list, subscription, webhook};
use crate::testing::{Answer, Scene, tenant};

const BOTH: [ContentType; 2] = [ContentType::Exchange, ContentType::SharePoint];

async fn kept(scene: &Scene, webhook: Option<&WebhookConfig>) -> Result<Kept, Error> {
    keep_subscribed(
        &scene.door(tenant()),
        &BOTH,
        webhook,
        &*scene.ledger,
        scene.now(),
    )
    .await
}

/// How many were started.
async fn keep(scene: &Scene, webhook: Option<&WebhookConfig>) -> Result<usize, Error> {
    Ok(kept(scene, webhook).await?.started.len())
}

#[tokio::test(start_paused = true)]
async fn only_what_is_not_subscribed_to_is_started() {
    let scene = Scene::new();
    scene.microsoft.on(
        "subscriptions",
        [list(&[subscription("Audit.SharePoint", "enabled", "null")])],
    );
    assert_eq!(keep(&scene, None).await.unwrap(), 1);
    let starts = scene.microsoft.sent_of("start/Audit.Exchange");
    assert_eq!(starts.len(), 1);
    assert_eq!(starts[0].body(), "{}");
    assert_eq!(scene.microsoft.count("start/Audit.SharePoint"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_subscription_is_started() {
    let scene = Scene::new();
    scene.microsoft.on(
        "subscriptions",
        [list(&[
            subscription("Audit.Exchange", "disabled", "null"),
            subscription("Audit.SharePoint", "disabled", "null"),
        ])],
    );
    assert_eq!(keep(&scene, None).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_is_as_configured_is_left_alone_and_any_other_is_replaced() {
    for (found, is_started) in [
        (hook("enabled", URL), false),
        (hook("disabled", URL), true),
        (hook("expired", URL), true),
        (hook("enabled", "https://elsewhere.example/"), true),
        ("null".to_owned(), true),
    ] {
        let scene = Scene::new();
        let subscriptions = [
            subscription("Audit.Exchange", "enabled", &found),
            subscription("Audit.SharePoint", "enabled", &hook("enabled", URL)),
        ];
        scene.microsoft.on("subscriptions", [list(&subscriptions)]);
        assert_eq!(
            keep(&scene, Some(&webhook())).await.unwrap(),
            usize::from(is_started),
            "{found}"
        );
        for start in scene.microsoft.sent_of("start/Audit.Exchange") {
            let body: serde_json::Value = serde_json::from_slice(start.body()).unwrap();
            assert_eq!(
                (
                    body["webhook"]["address"].as_str(),
                    body["webhook"]["authId"].as_str()
                ),
                (Some(URL), Some("s3cr3t"))
            );
        }
        // Without a webhook of our own, somebody else's is not ours to take away.
        assert_eq!(keep(&scene, None).await.unwrap(), 0, "{found}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_not_started_twice_within_fifteen_minutes_nor_across_a_restart() {
    let mut scene = Scene::new();
    assert_eq!(keep(&scene, None).await.unwrap(), 2);
    tokio::time::advance(Duration::from_secs(14 * 60)).await;
    assert_eq!(keep(&scene, None).await.unwrap(), 0);
    scene = scene.restarted().await;
    assert_eq!(keep(&scene, None).await.unwrap(), 0);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(keep(&scene, None).await.unwrap(), 2);
    assert_eq!(scene.microsoft.count("start/Audit.Exchange"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_start_for_which_there_was_no_token_is_made_up_for_at_the_next_look() {
    let scene = Scene::new();
    let refused = Answer::status(401, "");
    scene
        .microsoft
        .on("start/Audit.Exchange", [refused, Answer::ok("{}")]);
    let token = Answer::ok(r#"{"token_type":"Bearer","expires_in":3599,"access_token":"one"}"#);
    scene
        .microsoft
        .on("token", [token.clone(), Answer::ok("<html>"), token]);
    let error = kept(&scene, None).await.unwrap_err();
    assert!(
        matches!(error, Error::Microsoft(microsoft::Error::Token(_))),
        "{error:?}"
    );
    assert_eq!(keep(&scene, None).await.unwrap(), 2);
    assert_eq!(scene.microsoft.count("start/Audit.Exchange"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_a_wrong_clock_noted_in_the_future_delays_nothing() {
    let scene = Scene::new();
    let fact = format!("subscription-start/{}/Audit.Exchange", tenant());
    scene
        .ledger
        .remember(&fact, "2099-01-01T00:00:00Z")
        .await
        .unwrap();
    assert_eq!(keep(&scene, None).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_start_is_noted_before_it_is_sent() {
    let scene = Scene::new();
    scene.ledger.fail_next("remember", 1);
    assert!(matches!(keep(&scene, None).await, Err(Error::Ledger(_))));
    assert_eq!(scene.microsoft.count("start/Audit.Exchange"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_whose_webhook_microsoft_does_not_accept_is_started_without_it() {
    let scene = Scene::new();
    scene.microsoft.on(
        "start/Audit.Exchange",
        [
            Answer::refused(400, "AF20021"),
            Answer::ok(r#"{"status":"enabled"}"#),
        ],
    );
    assert_eq!(keep(&scene, Some(&webhook())).await.unwrap(), 2);
    let bodies: Vec<_> = scene
        .microsoft
        .sent_of("start/Audit.Exchange")
        .iter()
        .map(|start| start.body().clone())
        .collect();
    assert_eq!(bodies.len(), 2);
    assert!(
        bodies[0]
            .windows(URL.len())
            .any(|window| window == URL.as_bytes())
    );
    assert_eq!(bodies[1], "{}");
    assert_eq!(scene.microsoft.count("start/Audit.SharePoint"), 1);
}

#[tokio::test(start_paused = true)]
async fn one_content_type_that_cannot_be_started_does_not_keep_the_others_from_it() {
    let scene = Scene::new();
    scene
        .microsoft
        .on("start/Audit.Exchange", [Answer::refused(400, "AF20020")]);
    assert_eq!(keep(&scene, None).await.unwrap(), 1);
    assert_eq!(scene.microsoft.count("start/Audit.SharePoint"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_cannot_be_collected_gets_no_further_start() {
    let scene = Scene::new();
    scene
        .microsoft
        .on("start/Audit.Exchange", [Answer::refused(401, "AF10001")]);
    let Error::Microsoft(error) = keep(&scene, None).await.unwrap_err() else {
        panic!("it is Microsoft's")
    };
    assert!(matches!(error.next_step(), NextStep::StopTenant(_)));
    assert_eq!(scene.microsoft.count("start/Audit.SharePoint"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_webhook_with_another_auth_id_or_none_is_moved_to_ours() {
    let with = |auth_id: &str| {
        let hook = format!(r#"{{"status":"enabled","address":"{URL}"{auth_id}}}"#);
        list(&BOTH.map(|of| subscription(of.as_str(), "enabled", &hook)))
    };
    for (auth_id, started_count) in [
        (r#","authId":"s3cr3t""#, 0),
        (r#","authId":"another""#, 2),
        (r#","authId":"""#, 2),
        (r#","authId":null"#, 2),
        ("", 2),
    ] {
        let scene = Scene::new();
        scene.microsoft.on("subscriptions", [with(auth_id)]);
        let started = keep(&scene, Some(&webhook())).await.unwrap();
        assert_eq!(started, started_count, "{auth_id}");
        // A list that leaves the auth id out is no reason to start over and over.
        tokio::time::advance(Duration::from_secs(16 * 60)).await;
        let started = keep(&scene, Some(&webhook())).await.unwrap();
        let is_another = auth_id.contains("another");
        assert_eq!(started, if is_another { 2 } else { 0 }, "{auth_id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_failed_is_told_until_it_is_tried_again() {
    let scene = Scene::new();
    scene.microsoft.on(
        "start/Audit.Exchange",
        [
            Answer::refused(400, "AF20020"),
            Answer::ok(r#"{"status":"enabled"}"#),
        ],
    );
    let first = kept(&scene, None).await.unwrap();
    let [(ContentType::Exchange, trouble)] = first.troubles.as_slice() else {
        panic!("{first:?}");
    };
    assert!(trouble.contains("AF20020"), "{trouble}");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(kept(&scene, None).await.unwrap().troubles, first.troubles);
    tokio::time::advance(Duration::from_secs(15 * 60)).await;
    assert_eq!(kept(&scene, None).await.unwrap().troubles, []);
}

#[tokio::test(start_paused = true)]
async fn a_start_of_an_earlier_version_is_remembered() {
    let scene = Scene::new();
    let fact = format!("subscription-start/{}/Audit.Exchange", tenant());
    let earlier = (scene.now() - Duration::from_secs(60)).to_string();
    scene.ledger.remember(&fact, &earlier).await.unwrap();
    assert_eq!(
        kept(&scene, None).await.unwrap().started,
        [ContentType::SharePoint]
    );
}
