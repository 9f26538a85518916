//! Master in a function app: its own site, its app settings, and the auth id that it generates.

use super::*;
use crate::auth_ids;

const SETTINGS: &str = r#"{"properties":{"AzureWebJobsStorage":"CANARY","THEIRS":"kept"}}"#;
const HEALTHY: &str = r#"{"properties":{"state":"Running","enabled":true,"availabilityState":"Normal","usageState":"Normal"}}"#;

fn setup() -> Setup {
    Setup {
        site: Some(SiteConfig {
            subscription_id: "sub".to_owned(),
            resource_group: "group".to_owned(),
            site_name: "app".to_owned(),
            hostname: "app.example.net".to_owned(),
        }),
        ..Setup::default()
    }
}

fn scene() -> Scene {
    let scene = Scene::new();
    scene.microsoft.on("site", [Answer::ok(HEALTHY)]);
    scene.microsoft.on("settings/list", [Answer::ok(SETTINGS)]);
    scene.microsoft.on("settings", [Answer::ok(SETTINGS)]);
    scene
}

/// The setup of a process that starts with the settings that were put last.
fn restarted_with(put: &Value) -> Setup {
    let text = |name: &str| put["properties"][name].as_str().map(str::to_owned);
    let mut setup = setup();
    setup.account.source_id = text(SOURCE_ID_SETTING);
    setup.account.host_id = text(HOST_ID_SETTING);
    setup.account.azcollect = text(AZCOLLECT_SETTING);
    setup.account.ingest = text(INGEST_SETTING);
    setup.webhook = text(AUTH_ID_SETTING).map(|auth_id| WebhookConfig {
        public_url: "https://app.example.net/api/o365/webhook".to_owned(),
        auth_id: auth_id.into(),
    });
    setup
}

#[tokio::test(start_paused = true)]
async fn everything_is_kept_by_one_put_at_the_very_end() {
    let scene = scene();
    let report = setup().run(&scene).await;
    assert!(report.is_clean() && report.has_put_settings, "{report:?}");
    let lines = lines(&scene);
    let puts: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("PUT"))
        .collect();
    assert_eq!(puts.len(), 1);
    assert_eq!(lines.last(), Some(puts[0]));
    let put = &bodies(&scene, "settings")[0]["properties"];
    let auth_id = put[AUTH_ID_SETTING].as_str().unwrap();
    assert_eq!(auth_id.len(), 64);
    assert_eq!(
        *put,
        json!({
            "AzureWebJobsStorage": "CANARY", "THEIRS": "kept",
            "COLLECTOR_SOURCE_ID": "source-id", "COLLECTOR_HOST_ID": "host-id",
            "APP_AZCOLLECT_ENDPOINT": "azcollect.example.net", "APP_INGEST_ENDPOINT": "ingest.example.net",
            "O365_COLLECTOR_WEBHOOK__AUTH_ID": auth_id,
        })
    );
    let start = &bodies(&scene, "start/Audit.Exchange")[0]["webhook"];
    assert_eq!(start["address"], "https://app.example.net/api/o365/webhook");
    assert_eq!(start["authId"], auth_id);
}

#[tokio::test(start_paused = true)]
async fn the_run_after_the_restart_puts_nothing_and_lists_nothing() {
    let scene = scene();
    setup().run(&scene).await;
    let put = bodies(&scene, "settings").remove(0);
    let auth_id = put["properties"][AUTH_ID_SETTING].clone();
    let webhook = json!({"status": "enabled", "address": "https://app.example.net/api/o365/webhook", "authId": auth_id});
    subscribed(&scene, &webhook);
    let scene = scene.restarted().await;
    tokio::time::advance(EVERY).await;
    let report = restarted_with(&put).run(&scene).await;
    assert!(report.is_clean() && !report.has_put_settings, "{report:?}");
    for kind in [
        "settings/list",
        "settings",
        "register",
        "start/Audit.Exchange",
    ] {
        assert_eq!(scene.microsoft.count(kind), 1, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_that_fails_loses_nothing_and_is_made_up_for() {
    let scene = scene();
    scene.microsoft.on("settings", [Answer::status(403, "")]);
    let report = setup().run(&scene).await;
    assert!(report.settings_trouble.is_some() && report.checkins[0].failed.is_none());
    let scene = scene.restarted().await;
    scene.microsoft.on("settings", [Answer::ok(SETTINGS)]);
    let report = setup().run(&scene).await;
    assert!(report.has_put_settings);
    assert_eq!(scene.microsoft.count("register"), 1);
    let puts = bodies(&scene, "settings");
    assert_eq!(puts[0], puts[1]);
}

#[tokio::test(start_paused = true)]
async fn a_site_that_is_not_in_order_is_told_by_the_property() {
    let scene = scene();
    let stopped = HEALTHY.replace("Running", "Stopped");
    scene.microsoft.on("site", [Answer::ok(stopped)]);
    setup().run(&scene).await;
    let told = &bodies(&scene, "checkin")[0];
    assert_eq!(told["error_code"], "ALAZU00001");
    let details = told["details"][0].as_str().unwrap();
    assert!(details.contains("state is Stopped"), "{details}");
    let refusal = r#"{"error":{"code":"AuthorizationFailed"}}"#;
    scene.microsoft.on("site", [Answer::status(403, refusal)]);
    setup().run(&scene).await;
    let told = &bodies(&scene, "checkin")[1];
    assert_eq!(told["error_code"], "ALAZU000004");
    let details = told["details"][0].as_str().unwrap();
    assert!(details.contains("AuthorizationFailed"), "{details}");
}

#[tokio::test(start_paused = true)]
async fn another_auth_id_in_the_settings_moves_the_subscriptions() {
    let scene = scene();
    setup().run(&scene).await;
    let mut put = bodies(&scene, "settings").remove(0);
    let generated = put["properties"][AUTH_ID_SETTING].clone();
    put["properties"][AUTH_ID_SETTING] = json!("operators-choice");
    let webhook = json!({"status": "enabled", "address": "https://app.example.net/api/o365/webhook", "authId": generated});
    subscribed(&scene, &webhook);
    tokio::time::advance(EVERY).await;
    let report = restarted_with(&put).run(&scene).await;
    assert!(report.is_clean() && !report.has_put_settings, "{report:?}");
    let starts = bodies(&scene, "start/Audit.Exchange");
    assert_eq!(starts[1]["webhook"]["authId"], "operators-choice");
    let ids = auth_ids::recall(&*scene.ledger, scene.now()).await.unwrap();
    let ids = ids.unwrap();
    assert_eq!(ids.current.expose_secret(), "operators-choice");
    assert_eq!(
        ids.previous.unwrap().expose_secret(),
        generated.as_str().unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn ids_that_changed_at_a_new_registration_go_into_the_settings() {
    let scene = scene();
    let mut setup = setup();
    setup.account.source_id = Some("old-source".to_owned());
    setup.account.host_id = Some("old-host".to_owned());
    scene
        .microsoft
        .on("checkin", [Answer::status(404, ""), Answer::ok("{}")]);
    assert!(setup.run(&scene).await.has_put_settings);
    let put = &bodies(&scene, "settings")[0]["properties"];
    assert_eq!(put[SOURCE_ID_SETTING], "source-id");
    // A process that was started before the put goes by the ledger, not by its old settings.
    setup.run(&scene).await;
    assert_eq!(scene.microsoft.count("register"), 1);
    assert_eq!(bodies(&scene, "checkin")[2]["source_id"], "source-id");
}
