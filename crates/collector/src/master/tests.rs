//! The control plane against scripted services and a real ledger.

mod app;

use std::sync::Arc;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use crate::sinks::alertlogic::{AlertLogicConfig, TenantIdentity};
use crate::testing::{Answer, Scene, TENANT, other_tenant, tenant, tenant_config};

const URL: &str = "https://collector.example.net/api/o365/webhook";
const TYPES: [ContentType; 2] = [ContentType::Exchange, ContentType::Dlp];

fn account_config() -> AlertLogicConfig {
    AlertLogicConfig {
        name: "alertlogic".parse().unwrap(),
        api: "api.example.net".to_owned(),
        residency: "default".to_owned(),
        access_key_id: "key".to_owned(),
        secret_key: SecretString::from("aims-secret"),
        compression_level: 1,
        max_payload_bytes: 700_000,
        collector_name: "app".to_owned(),
        source_id: None,
        host_id: None,
        subscription_id: "sub".to_owned(),
        resource_group: "group".to_owned(),
        register_client_secret: true,
        azcollect: None,
        ingest: None,
        local_hostname: None,
    }
}

/// How one process is configured.
struct Setup {
    account: AlertLogicConfig,
    content_types: Vec<ContentType>,
    webhook: Option<WebhookConfig>,
    site: Option<SiteConfig>,
    tenants: Vec<TenantId>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            account: account_config(),
            content_types: TYPES.to_vec(),
            webhook: None,
            site: None,
            tenants: vec![tenant()],
        }
    }
}

impl Setup {
    /// Master in a process that has just started.
    fn master(&self, scene: &Scene) -> Master {
        let tenants: Vec<_> = self
            .tenants
            .iter()
            .map(|id| tenant_config(*id, &self.content_types))
            .collect();
        let identities = tenants.iter().map(|tenant| TenantIdentity {
            tenant: tenant.id,
            client_id: tenant.client_id,
            client_secret: tenant.credential.client_secret().cloned(),
            content_types: tenant.content_types.clone(),
        });
        let ledger: Arc<dyn Ledger> = Arc::<crate::testing::TestLedger>::clone(&scene.ledger);
        let account = Account::build(
            self.account.clone(),
            identities.collect(),
            scene.transport(),
            Arc::clone(&ledger),
            scene.clock(),
        );
        let doors = self.tenants.iter().map(|id| {
            let door = Arc::new(scene.door(*id));
            (door, self.content_types.clone())
        });
        let config = Config {
            webhook: self.webhook.clone(),
            site: self.site.clone(),
            ..crate::testing::config(tenants)
        };
        Master::build(
            &config,
            vec![Arc::new(account.unwrap())],
            doors.collect(),
            &scene.transport(),
            ledger,
            scene.clock(),
            Live::new(scene.now()),
        )
        .unwrap()
    }

    async fn run(&self, scene: &Scene) -> Report {
        let stop = CancellationToken::new();
        self.master(scene).run_once(&stop).await.unwrap()
    }
}

/// The requests since the last call, as method, host and path.
fn lines(scene: &Scene) -> Vec<String> {
    let line = |request: &http::Request<bytes::Bytes>| {
        let uri = request.uri();
        format!("{} {}{}", request.method(), uri.host().unwrap(), uri.path())
    };
    scene.microsoft.sent().iter().map(line).collect()
}

fn bodies(scene: &Scene, kind: &str) -> Vec<Value> {
    let sent = scene.microsoft.sent_of(kind);
    let read = |request: &http::Request<bytes::Bytes>| serde_json::from_slice(request.body());
    sent.iter().map(|request| read(request).unwrap()).collect()
}

fn subscribed(scene: &Scene, webhook: &Value) {
    let entry = |of: &ContentType| json!({"contentType": of.as_str(), "status": "enabled", "webhook": webhook});
    let entries: Vec<_> = TYPES.iter().map(entry).collect();
    scene.microsoft.on(
        "subscriptions",
        [Answer::ok(Value::from(entries).to_string())],
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_run_registers_subscribes_and_checks_in_as_the_original_does() {
    let scene = Scene::new();
    let report = Setup::default().run(&scene).await;
    assert!(report.is_clean(), "{report:?}");
    let feed = format!("manage.office.com/api/v1.0/{TENANT}/activity/feed/subscriptions");
    assert_eq!(
        lines(&scene),
        [
            "POST api.example.net/aims/v1/authenticate",
            "GET api.example.net/endpoints/v1/1342/residency/default/services/azcollect/endpoint",
            "POST azcollect.example.net/azcollect/v1/1342/azure/o365/sub/group/app",
            &format!("POST login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"),
            &format!("GET {feed}/list"),
            &format!("POST {feed}/start"),
            &format!("POST {feed}/start"),
            "POST azcollect.example.net/azcollect/v1/1342/azure/o365/checkin/sub/group/app",
        ]
    );
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        bodies(&scene, "register"),
        [json!({
            "version": version, "app_tenant_id": TENANT,
            "client_id": "a261478c-84fb-42f9-84c2-de050a4babe3", "client_secret": "correct horse",
            "config": {"type": "o365", "office_tenant_id": TENANT, "content_streams": ["Audit.Exchange", "DLP.All"]},
        })]
    );
    assert_eq!(
        bodies(&scene, "checkin"),
        [json!({
            "version": version, "app_tenant_id": TENANT, "host_id": "host-id", "source_id": "source-id",
            "status": "ok", "details": [],
            "statistics": [
                {"Master": {"invocations": 0, "errors": 0}}, {"O365WebHook": {"invocations": 0, "errors": 0}},
                {"Updater": {"invocations": 0, "errors": 0}}, {"Poll": {"invocations": 0, "errors": 0}},
                {"Deliver": {"invocations": 0, "errors": 0}},
            ],
            "collection_stats": {"log": {"bytes": 0, "events": 0}},
        })]
    );
    let checkin = &scene.microsoft.sent_of("checkin")[0];
    assert_eq!(checkin.headers()["x-aims-auth-token"], "aims-token");
    assert_eq!(checkin.headers()["accept"], "application/json");
    assert_eq!(checkin.headers()["content-type"], "application/json");
    assert!(!checkin.headers().contains_key("content-encoding"));
}

#[tokio::test(start_paused = true)]
async fn a_second_process_uses_ids_addresses_and_subscriptions_again() {
    let scene = Scene::new();
    Setup::default().run(&scene).await;
    subscribed(&scene, &Value::Null);
    let scene = scene.restarted().await;
    Setup::default().run(&scene).await;
    assert_eq!(scene.microsoft.count("register"), 1);
    assert_eq!(scene.microsoft.count("endpoint/azcollect"), 1);
    assert_eq!(scene.microsoft.count("start/Audit.Exchange"), 1);
    assert_eq!(scene.microsoft.count("checkin"), 2);
}

#[tokio::test(start_paused = true)]
async fn ids_that_are_configured_are_used_and_nothing_is_registered() {
    let scene = Scene::new();
    let mut setup = Setup::default();
    setup.account.source_id = Some("s".to_owned());
    setup.account.host_id = Some("h".to_owned());
    setup.run(&scene).await;
    assert_eq!(scene.microsoft.count("register"), 0);
    let checkin = &bodies(&scene, "checkin")[0];
    assert_eq!(
        (&checkin["source_id"], &checkin["host_id"]),
        (&json!("s"), &json!("h"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_of_what_is_collected_is_registered_again_and_only_once() {
    for has_ids in [false, true] {
        let scene = Scene::new();
        let mut setup = Setup::default();
        if has_ids {
            setup.account.source_id = Some("source-id".to_owned());
            setup.account.host_id = Some("host-id".to_owned());
        }
        setup.run(&scene).await;
        setup.content_types = vec![ContentType::General];
        setup.run(&scene).await;
        setup.run(&scene).await;
        let registered = bodies(&scene, "register");
        let streams = &registered.last().unwrap()["config"]["content_streams"];
        assert_eq!(*streams, json!(["Audit.General"]));
        assert_eq!(registered.len(), if has_ids { 1 } else { 2 });
        assert_eq!(bodies(&scene, "checkin")[2]["source_id"], "source-id");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_the_service_has_forgotten_is_registered_again() {
    let scene = Scene::new();
    scene
        .microsoft
        .on("checkin", [Answer::status(404, ""), Answer::ok("{}")]);
    let report = Setup::default().run(&scene).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(scene.microsoft.count("register"), 2);
    assert_eq!(scene.microsoft.count("checkin"), 2);
    scene.microsoft.on("checkin", [Answer::status(404, "")]);
    let report = Setup::default().run(&scene).await;
    assert!(report.checkins[0].failed.is_some());
    assert_eq!(scene.microsoft.count("register"), 3);
}

#[tokio::test(start_paused = true)]
async fn an_aims_token_that_is_refused_before_its_end_is_replaced() {
    let scene = Scene::new();
    scene
        .microsoft
        .on("checkin", [Answer::status(401, ""), Answer::ok("{}")]);
    let report = Setup::default().run(&scene).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(scene.microsoft.count("aims"), 2);
}

#[tokio::test(start_paused = true)]
async fn ids_are_not_lost_when_what_follows_the_registration_fails() {
    let scene = Scene::new();
    scene.microsoft.on("checkin", [Answer::no_connection()]);
    let report = Setup::default().run(&scene).await;
    assert!(report.checkins[0].failed.is_some());
    assert_eq!(report.checkins[0].source_id.as_deref(), Some("source-id"));
    let scene = scene.restarted().await;
    scene.microsoft.on("checkin", [Answer::ok("{}")]);
    assert!(Setup::default().run(&scene).await.is_clean());
    assert_eq!(scene.microsoft.count("register"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_service_is_told_what_was_delivered_since_it_last_took_a_check_in() {
    let scene = Scene::new();
    Setup::default().run(&scene).await;
    let stats = |scene: &Scene| {
        let checkins = bodies(scene, "checkin");
        checkins.last().unwrap()["collection_stats"]["log"].clone()
    };
    scene.deliver("one", 3, 300).await;
    scene.microsoft.on("checkin", [Answer::status(503, "")]);
    Setup::default().run(&scene).await;
    assert_eq!(stats(&scene), json!({"bytes": 300, "events": 3}));
    // Not taken, so it is still to be told, with what came since, and by any process.
    let scene = scene.restarted().await;
    scene.deliver("two", 2, 50).await;
    scene.microsoft.on("checkin", [Answer::ok("{}")]);
    Setup::default().run(&scene).await;
    assert_eq!(stats(&scene), json!({"bytes": 350, "events": 5}));
    Setup::default().run(&scene).await;
    assert_eq!(stats(&scene), json!({"bytes": 0, "events": 0}));
}

#[tokio::test(start_paused = true)]
async fn the_service_is_told_of_the_functions_invocations_and_errors() {
    let scene = Scene::new();
    let count = async |name: &str, by: u64| {
        scene
            .ledger
            .count(vec![(name.to_owned(), by)])
            .await
            .unwrap();
    };
    count("invocations/Deliver", 5).await;
    count("errors/Deliver", 2).await;
    Setup::default().run(&scene).await;
    count("invocations/Deliver", 4).await;
    Setup::default().run(&scene).await;
    let checkins = bodies(&scene, "checkin");
    let deliver = |n: usize| checkins[n]["statistics"][4]["Deliver"].clone();
    assert_eq!(deliver(0), json!({"invocations": 5, "errors": 2}));
    assert_eq!(deliver(1), json!({"invocations": 4, "errors": 0}));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_subscriptions_is_told_in_the_originals_codes() {
    let scene = Scene::new();
    scene
        .microsoft
        .on("start/DLP.All", [Answer::refused(400, "AF20020")]);
    let report = Setup::default().run(&scene).await;
    assert_eq!(report.checkins[0].health[0].code, "O365000001");
    let told = &bodies(&scene, "checkin")[0];
    assert_eq!(
        (&told["status"], &told["error_code"]),
        (&json!("error"), &json!("O365000001"))
    );
    let details = told["details"][0].as_str().unwrap();
    assert!(
        details.starts_with("Unable to start subscription DLP.All: "),
        "{details}"
    );
    scene
        .microsoft
        .on("subscriptions", [Answer::status(500, "")]);
    Setup::default().run(&scene).await;
    assert_eq!(bodies(&scene, "checkin")[1]["error_code"], "O365000002");
}

#[tokio::test(start_paused = true)]
async fn a_check_in_says_how_the_update_stands_also_when_all_is_well() {
    let scene = Scene::new();
    let state = json!({"situation": "up to date, 0.1.0 runs", "is_trouble": false}).to_string();
    scene.ledger.remember("update/state", &state).await.unwrap();
    Setup::default().run(&scene).await;
    let scene = scene.restarted().await;
    scene
        .microsoft
        .on("subscriptions", [Answer::status(500, "")]);
    Setup::default().run(&scene).await;
    let told = bodies(&scene, "checkin");
    assert_eq!(told[0]["status"], "ok");
    assert_eq!(
        told[0]["details"],
        json!(["update: up to date, 0.1.0 runs"])
    );
    // Behind what is wrong, which comes first.
    assert_eq!(told[1]["status"], "error");
    let details = told[1]["details"].as_array().unwrap();
    assert_eq!(details.len(), 2);
    assert_eq!(details[1], "update: up to date, 0.1.0 runs");
}

#[tokio::test(start_paused = true)]
async fn an_update_that_the_service_asks_for_is_reported() {
    let scene = Scene::new();
    scene.microsoft.on(
        "checkin",
        [Answer::ok(r#"{"force_update":true}"#), Answer::ok("")],
    );
    assert!(Setup::default().run(&scene).await.force_update);
    assert!(!Setup::default().run(&scene).await.force_update);
}

#[tokio::test(start_paused = true)]
async fn the_subscriptions_webhook_is_the_configured_one() {
    let scene = Scene::new();
    let setup = Setup {
        webhook: Some(WebhookConfig {
            public_url: URL.to_owned(),
            auth_id: SecretString::from("mine"),
        }),
        ..Setup::default()
    };
    setup.run(&scene).await;
    let start = &bodies(&scene, "start/Audit.Exchange")[0];
    assert_eq!(
        *start,
        json!({"webhook": {"address": URL, "authId": "mine", "expiration": ""}})
    );
    subscribed(
        &scene,
        &json!({"status": "enabled", "address": URL, "authId": "mine"}),
    );
    tokio::time::advance(EVERY).await;
    assert!(setup.run(&scene).await.is_clean());
    assert_eq!(scene.microsoft.count("start/Audit.Exchange"), 1);
}

#[tokio::test(start_paused = true)]
async fn every_tenant_has_a_log_source_and_a_check_in_of_its_own() {
    let scene = Scene::new();
    let setup = Setup {
        tenants: vec![tenant(), other_tenant()],
        ..Setup::default()
    };
    let report = setup.run(&scene).await;
    assert_eq!(report.checkins.len(), 2);
    let paths: Vec<_> = scene
        .microsoft
        .sent_of("register")
        .iter()
        .map(|request| request.uri().path().to_owned())
        .collect();
    assert!(
        paths[0].ends_with(&format!("/app-{}", other_tenant())),
        "{paths:?}"
    );
    assert!(paths[1].ends_with(&format!("/app-{TENANT}")), "{paths:?}");
    // Every tenant's check-in would pay for all tenants.
    assert_eq!(scene.ledger.call_count("summary"), 0);
}

#[tokio::test(start_paused = true)]
async fn two_processes_that_begin_at_once_register_one_source() {
    let scene = Scene::new();
    let setup = Setup::default();
    let (one, two) = tokio::join!(setup.run(&scene), setup.run(&scene));
    assert!(one.is_clean() && two.is_clean());
    let paths: std::collections::BTreeSet<_> = scene
        .microsoft
        .sent_of("register")
        .iter()
        .map(|request| request.uri().to_string())
        .collect();
    // The service knows a source by its path: however often it is registered, it is one.
    assert_eq!(paths.len(), 1);
    let ids: std::collections::BTreeSet<_> = bodies(&scene, "checkin")
        .iter()
        .map(|checkin| checkin["source_id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_begins_nothing_new() {
    let scene = Scene::new();
    let stop = CancellationToken::new();
    stop.cancel();
    let report = Setup::default().master(&scene).run_once(&stop).await;
    assert!(report.unwrap().checkins.is_empty());
    assert!(scene.microsoft.sent().is_empty());
}

#[tokio::test(start_paused = true)]
async fn it_runs_every_fifteen_minutes_at_a_turn_of_its_own() {
    let scene = Scene::new();
    let setup = Setup::default();
    let master = setup.master(&scene);
    let stop = CancellationToken::new();
    let hours = async {
        tokio::time::sleep(Duration::from_secs(4 * 3600)).await;
        stop.cancel();
    };
    tokio::join!(master.run_until(&stop), hours);
    let count = scene.microsoft.count("checkin");
    assert!((16..=17).contains(&count), "{count}");
    let counted = scene.ledger.counters("invocations/Master").await.unwrap();
    assert_eq!(counted, [("invocations/Master".to_owned(), count as u64)]);
    // A process that starts right after another has checked in waits for its turn.
    let stop = CancellationToken::new();
    setup.master(&scene).run_if_due(&stop).await;
    assert_eq!(scene.microsoft.count("checkin"), count);
}

#[test]
fn the_next_run_is_at_the_collectors_turn() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let next = |last: Option<&str>, offset: u64, now: &str| {
        next_run(last.map(at), Duration::from_secs(offset), at(now)).to_string()
    };
    let now = "2026-07-16T09:05:00Z";
    assert_eq!(next(None, 60, now), now);
    assert_eq!(next(Some("2026-07-16T08:50:00Z"), 60, now), now);
    assert_eq!(
        next(Some("2026-07-16T09:01:00Z"), 60, now),
        "2026-07-16T09:16:00Z"
    );
    // Made up for off its turn: the turn that is all but now is left out.
    assert_eq!(
        next(Some("2026-07-16T09:04:00Z"), 360, now),
        "2026-07-16T09:21:00Z"
    );
    // By a clock that was wrong.
    assert_eq!(next(Some("2027-01-01T00:00:00Z"), 60, now), now);
}
