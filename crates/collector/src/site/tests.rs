//! Tests of our own function app against a scripted Resource Manager.

use secrecy::ExposeSecret;

use super::*;
use crate::testing::{Answer, CONTENT_TYPE, Scene, tenant, tenant_config};

const LISTED: &str = r#"{"properties":{"AzureWebJobsStorage":"CANARY","THEIRS":"kept"}}"#;

fn site(scene: &Scene) -> Site {
    let config = SiteConfig {
        subscription_id: "s".to_owned(),
        resource_group: "g".to_owned(),
        site_name: "app".to_owned(),
        hostname: "app.example.net".to_owned(),
    };
    let tenant = tenant_config(tenant(), &[CONTENT_TYPE]);
    Site::build(&config, &tenant, scene.transport(), scene.clock()).unwrap()
}

fn changes() -> Changes {
    Changes::new().set("OURS", "new")
}

fn puts(scene: &Scene) -> Vec<String> {
    let sent = scene.microsoft.sent_of("settings");
    let body = |request: &Request<Bytes>| String::from_utf8(request.body().to_vec()).unwrap();
    sent.iter().map(body).collect()
}

#[tokio::test(start_paused = true)]
async fn a_merge_keeps_the_settings_of_others() {
    let scene = Scene::new();
    scene.microsoft.on("settings/list", [Answer::ok(LISTED)]);
    scene.microsoft.on("settings", [Answer::ok(LISTED)]);
    assert!(site(&scene).merge_settings(&changes()).await.unwrap());
    assert_eq!(
        puts(&scene),
        [r#"{"properties":{"AzureWebJobsStorage":"CANARY","OURS":"new","THEIRS":"kept"}}"#]
    );
    let sent = scene.microsoft.sent();
    let token = &sent[0];
    assert!(String::from_utf8_lossy(token.body()).contains("management.azure.com"));
    for request in &sent[1..] {
        assert_eq!(request.uri().host(), Some("management.azure.com"));
        assert_eq!(request.headers()["authorization"], "Bearer token-1");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_put_when_nothing_changes() {
    let scene = Scene::new();
    scene.microsoft.on("settings/list", [Answer::ok(LISTED)]);
    let same = Changes::new().set("THEIRS", "kept").remove("ABSENT");
    assert!(!site(&scene).merge_settings(&same).await.unwrap());
    assert!(!site(&scene).merge_settings(&Changes::new()).await.unwrap());
    assert!(puts(&scene).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_met_with_a_new_list_and_not_with_the_old_one() {
    for status in [409, 412, 429] {
        let scene = Scene::new();
        let theirs = r#"{"properties":{"AzureWebJobsStorage":"CANARY","THEIRS":"changed"}}"#;
        scene
            .microsoft
            .on("settings/list", [Answer::ok(LISTED), Answer::ok(theirs)]);
        scene
            .microsoft
            .on("settings", [Answer::status(status, ""), Answer::ok(theirs)]);
        assert!(site(&scene).merge_settings(&changes()).await.unwrap());
        let puts = puts(&scene);
        assert_eq!(puts.len(), 2, "{status}");
        assert!(puts[1].contains(r#""THEIRS":"changed""#), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_person_must_mend_is_not_tried_again_and_again() {
    let scene = Scene::new();
    let refusal = r#"{"error":{"code":"AuthorizationFailed","message":"CANARY"}}"#;
    scene
        .microsoft
        .on("settings/list", [Answer::status(403, refusal)]);
    let error = site(&scene).merge_settings(&changes()).await.unwrap_err();
    assert_eq!(error.next_step(), NextStep::Stop);
    assert!(!format!("{error} {error:?}").contains("CANARY"));
    assert_eq!(scene.microsoft.count("settings/list"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stays_away_is_given_up_in_the_end() {
    let scene = Scene::new();
    scene
        .microsoft
        .on("settings/list", [Answer::no_connection()]);
    assert!(site(&scene).settings().await.is_err());
    assert_eq!(scene.microsoft.count("settings/list"), TRIES as usize);
    let scene = Scene::new();
    let long = Answer::status(429, "").header("retry-after", "3600");
    scene.microsoft.on("settings/list", [long]);
    assert!(site(&scene).settings().await.is_err());
    assert_eq!(scene.microsoft.count("settings/list"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_once() {
    let scene = Scene::new();
    scene.microsoft.on(
        "settings/list",
        [Answer::status(401, ""), Answer::ok(LISTED)],
    );
    let settings = site(&scene).settings().await.unwrap();
    assert_eq!(settings.get("THEIRS").unwrap().expose_secret(), "kept");
    assert_eq!(scene.microsoft.count("token"), 2);
    scene
        .microsoft
        .on("settings/list", [Answer::status(401, "")]);
    assert!(site(&scene).settings().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn state_and_triggers_are_a_request_each() {
    let scene = Scene::new();
    let stopped = r#"{"properties":{"state":"Stopped","availabilityState":"Normal"}}"#;
    scene.microsoft.on("site", [Answer::ok(stopped)]);
    scene.microsoft.on("sync", [Answer::ok("")]);
    scene
        .microsoft
        .on("syncfunctiontriggers", [Answer::status(204, "")]);
    let site = site(&scene);
    let state = site.state().await.unwrap();
    assert_eq!(
        state.unhealthy_property(),
        Some(("state", "Stopped".to_owned()))
    );
    site.sync_repository().await.unwrap();
    site.sync_triggers().await.unwrap();
}
