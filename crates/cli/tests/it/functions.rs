//! The custom handler as the Functions host would run it: the real program, a port out of the environment, the documented
//! envelopes. The host itself is not to be had for tests; what is posted here is written from its documentation and source.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ledger::{Ledger as _, SqliteLedger};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Running, Simulation, describe, program};

const AUTH_ID: &str = "7d1f2c0e-shared-auth-id";

/// A function app whose Microsoft and Alert Logic are simulated, and whose ledger is a file.
pub(crate) struct FunctionApp {
    pub(crate) simulation: Simulation,
    pub(crate) settings: BTreeMap<String, String>,
    tenant: String,
}

impl FunctionApp {
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let simulation = Simulation::start(arguments);
        let config: toml::Table = fs::read_to_string(simulation.config())
            .unwrap()
            .parse()
            .unwrap();
        let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
        let about = simulation.ask("about");
        // /subscriptions/…/resourceGroups/…/providers/Microsoft.Web/sites/…
        let site: Vec<_> = about["site"]
            .as_str()
            .unwrap()
            .split('/')
            .map(str::to_owned)
            .collect();
        let (tenant, microsoft) = (&config["tenant"][0], &config["microsoft"]);
        let sinks = config["sink"].as_array().unwrap();
        let alertlogic = sinks
            .iter()
            .find(|sink| sink["type"].as_str() == Some("alertlogic"));
        let alertlogic = alertlogic.unwrap();
        let settings = [
            ("APP_TENANT_ID", text(&tenant["id"])),
            ("APP_SUBSCRIPTION_ID", site[2].clone()),
            ("APP_RESOURCE_GROUP", site[4].clone()),
            ("WEBSITE_SITE_NAME", site[8].clone()),
            ("WEBSITE_HOSTNAME", "our-app.example.net".to_owned()),
            (
                "O365_CONTENT_STREAMS",
                r#"["Audit.AzureActiveDirectory","Audit.Exchange","Audit.SharePoint","Audit.General","DLP.All"]"#.to_owned(),
            ),
            ("CUSTOMCONNSTR_APP_CLIENT_ID", text(&tenant["client_id"])),
            ("CUSTOMCONNSTR_APP_CLIENT_SECRET", text(&tenant["client_secret"])),
            ("CUSTOMCONNSTR_APP_AL_API_ENDPOINT", text(&alertlogic["api"])),
            ("CUSTOMCONNSTR_APP_AL_ACCESS_KEY_ID", text(&alertlogic["access_key_id"])),
            ("CUSTOMCONNSTR_APP_AL_SECRET_KEY", text(&alertlogic["secret_key"])),
            ("O365_COLLECTOR_MICROSOFT__LOGIN", text(&microsoft["login"])),
            ("O365_COLLECTOR_MICROSOFT__ACTIVITY", text(&microsoft["activity"])),
            ("O365_COLLECTOR_MICROSOFT__RESOURCE_MANAGER", text(&microsoft["resource_manager"])),
            ("O365_COLLECTOR_TLS__CA_FILE", text(&config["tls"]["ca_file"])),
            (
                "O365_COLLECTOR_LEDGER__URL",
                format!("sqlite:{}", simulation.dir.path().join("app.db").display()),
            ),
            ("O365_COLLECTOR_WEBHOOK__AUTH_ID", AUTH_ID.to_owned()),
        ];
        let tenant = text(&tenant["id"]);
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        Self {
            simulation,
            settings: settings.into(),
            tenant,
        }
    }

    /// What Microsoft lists of one content type, as anybody with the application's secret can see it.
    pub(crate) fn list_blobs(&self) -> Vec<Value> {
        let microsoft = &self.settings["O365_COLLECTOR_MICROSOFT__LOGIN"];
        let tenant = &self.tenant;
        let feed = format!("{microsoft}/api/v1.0/{tenant}/activity/feed/subscriptions");
        let query = format!("contentType=Audit.Exchange&PublisherIdentifier={tenant}");
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.settings["CUSTOMCONNSTR_APP_CLIENT_ID"])
            .append_pair(
                "client_secret",
                &self.settings["CUSTOMCONNSTR_APP_CLIENT_SECRET"],
            )
            .append_pair("scope", "https://manage.office.com/.default")
            .finish();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let client = self.simulation.client();
            let json = async |request: reqwest::RequestBuilder| -> Value {
                let text = request.send().await.unwrap().text().await.unwrap();
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
            };
            let token = client
                .post(format!("{microsoft}/{tenant}/oauth2/v2.0/token"))
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(form);
            let token = json(token).await["access_token"]
                .as_str()
                .unwrap()
                .to_owned();
            json(
                client
                    .post(format!("{feed}/start?{query}"))
                    .bearer_auth(&token),
            )
            .await;
            let listed = json(
                client
                    .get(format!("{feed}/content?{query}"))
                    .bearer_auth(&token),
            )
            .await;
            let blobs = listed
                .as_array()
                .unwrap_or_else(|| panic!("{listed:#}"))
                .clone();
            assert!(!blobs.is_empty());
            blobs
        })
    }

    /// What Microsoft would post of a listed blob.
    pub(crate) fn notification(&self, blob: &Value) -> Value {
        let mut notified = blob.clone();
        notified["tenantId"] = json!(self.tenant);
        notified["clientId"] = json!(self.settings["CUSTOMCONNSTR_APP_CLIENT_ID"]);
        json!([notified])
    }

    /// The ledger's counters.
    fn counters(&self) -> BTreeMap<String, u64> {
        let ledger =
            SqliteLedger::open_read_only(self.simulation.dir.path().join("app.db")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime
            .block_on(ledger.counters(""))
            .unwrap()
            .into_iter()
            .collect()
    }

    /// What Alert Logic got it got once, and all that was due.
    fn assert_clean(&self) {
        let sink = self.alertlogic();
        assert_eq!(sink["repeated"], json!([]), "{sink:#}");
        assert_eq!(sink["missing"], json!([]), "{sink:#}");
    }

    /// The simulator's verdict on what Alert Logic got.
    pub(crate) fn alertlogic(&self) -> Value {
        let verdict = self.simulation.ask("verdict");
        let sinks = verdict["sinks"].as_array().unwrap();
        let sink = sinks.iter().find(|sink| sink["sink"] == "alertlogic");
        sink.unwrap().clone()
    }

    /// Starts the handler as the host does: a free port, the settings, the folder.
    fn start(&self) -> Handler {
        Handler::start(&self.settings, self.simulation.dir.path())
    }
}

/// A running handler.
struct Handler {
    running: Running,
    url: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Handler {
    fn start(settings: &BTreeMap<String, String>, app_root: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut command = handler(settings, app_root, port);
        let running = Running::start(&mut command);
        drop(rustls::crypto::ring::default_provider().install_default());
        let handler = Self {
            running,
            url: format!("http://127.0.0.1:{port}"),
            client: reqwest::Client::builder()
                .no_proxy()
                .timeout(PATIENCE)
                .build()
                .unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        };
        handler.wait_until_it_answers();
        handler
    }

    /// As the host does: any answer will do, and only a socket error means "not yet".
    fn wait_until_it_answers(&self) {
        let began = Instant::now();
        let asks = async || self.client.get(format!("{}/", self.url)).send().await;
        while self.runtime.block_on(asks()).is_err() {
            assert!(began.elapsed() < PATIENCE, "the handler never answers");
            std::thread::yield_now();
        }
    }

    fn send(
        &self,
        request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> (u16, Value) {
        self.runtime.block_on(async {
            let reply = request(&self.client).send().await.unwrap();
            let status = reply.status().as_u16();
            assert_eq!(
                reply.headers()["content-type"].to_str().unwrap(),
                "application/json"
            );
            let text = reply.text().await.unwrap();
            let body =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
            (status, body)
        })
    }

    fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        self.send(|client| {
            client
                .post(format!("{}{path}", self.url))
                .header(
                    "X-Azure-Functions-InvocationId",
                    "6d6b3a3c-5a3e-4d5c-8f0e-1c1f1c1f1c1f",
                )
                .header("User-Agent", "Azure-Functions-Host/4.1037.0")
                .header("Content-Type", "application/json")
                .body(body.into())
        })
    }

    fn tick(&self, function: &str) -> (u16, Value) {
        self.post(&format!("/{function}"), timer().to_string())
    }

    fn notify(&self, auth_id: &str, body: &Value) -> (u16, Value) {
        self.send(|client| {
            client
                .post(format!("{}/api/o365/webhook", self.url))
                .header("Webhook-AuthID", auth_id)
                .body(body.to_string())
        })
    }

    /// SIGTERM, and the end.
    fn terminate(self) -> Option<i32> {
        self.running.terminate();
        let (_, status) = self.running.finish();
        status.code()
    }
}

fn handler(settings: &BTreeMap<String, String>, app_root: &Path, port: u16) -> Command {
    let mut command = program();
    command
        .arg("function")
        .current_dir(app_root)
        .envs(settings)
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
        .env("FUNCTIONS_HTTPWORKER_PORT", port.to_string())
        .env("FUNCTIONS_APP_ROOT_PATH", app_root.join("app-root"))
        .env("FUNCTIONS_WORKER_RUNTIME", "custom");
    command
}

/// The first tick of a timer.
fn timer() -> Value {
    json!({
        "Data": {"timer": {
            "Schedule": {"AdjustForDST": true},
            "ScheduleStatus": {"Last": "0001-01-01T00:00:00", "Next": "2026-01-01T00:15:00+00:00",
                               "LastUpdated": "2026-01-01T00:00:00.4038+00:00"},
            "IsPastDue": false}},
        "Metadata": {"sys": {"MethodName": "Poll", "UtcNow": "2026-01-01T00:00:00.46239Z",
                             "RandGuid": "0b6d0ab5-1a5f-4a2b-9d0c-0c1f3c8f7a11"}}
    })
}

/// A message of the queue as the host hands it over: its text as JSON, and that as JSON once more.
fn queue(text: &str, dequeue_count: u32) -> String {
    json!({
        "Data": {"message": json!(text).to_string()},
        "Metadata": {"Id": "a1", "DequeueCount": dequeue_count.to_string(), "PopReceipt": "p", "sys": {"MethodName": "Deliver"}}
    })
    .to_string()
}

#[test]
fn the_handler_collects_by_its_timers_alone() {
    let app = FunctionApp::new(&["--records", "2000"]);
    let handler = app.start();
    // Ready for invocations, and before any work.
    assert_eq!(handler.post("/Deliver", queue("names no blob", 1)).0, 200);
    assert!(handler.running.peak_memory_kib() < 40 * 1024);
    let (status, reply) = handler.tick("Poll");
    assert_eq!(status, 500, "nobody has subscribed yet: {reply}");
    let (status, reply) = handler.tick("Master");
    assert_eq!(status, 200, "{reply}");
    let (status, reply) = handler.tick("Updater");
    assert_eq!(status, 200, "{reply}");
    assert!(
        reply["Logs"][0]
            .as_str()
            .unwrap()
            .contains("no updates are configured")
    );
    let (status, reply) = handler.tick("Poll");
    assert_eq!(status, 200, "{reply}");
    assert_eq!(reply["ReturnValue"], Value::Null);
    assert!(
        reply["Logs"][0].as_str().unwrap().contains("2000 records"),
        "{reply}"
    );
    assert_eq!(handler.tick("Poll").0, 200);
    assert_eq!(handler.terminate(), Some(0));
    app.assert_clean();
}

#[test]
fn a_message_of_the_queue_has_its_blob_delivered_whatever_form_it_has() {
    let app = FunctionApp::new(&["--records", "50", "--records-per-blob", "50"]);
    let handler = app.start();
    let blob = app.list_blobs().remove(0);
    let notification = app.notification(&blob);
    let (status, reply) = handler.notify(AUTH_ID, &notification);
    assert_eq!((status, &reply["new_count"]), (200, &json!(1)), "{reply}");
    let name = json!({"tenant": app.tenant, "content_type": blob["contentType"], "content_id": blob["contentId"]});
    // Twice, as the platform may; then again when the blob is settled.
    for count in 1..=3 {
        let (status, reply) = handler.post("/Deliver", queue(&name.to_string(), count));
        assert_eq!((status, &reply["Outputs"]), (200, &json!({})), "{reply}");
    }
    for hostile in [
        queue("", 1),
        queue("{}", 5),
        queue("not even JSON", 1),
        queue(&json!({"tenant": app.tenant, "content_type": "Audit.Exchange", "content_id": "never-heard-of"}).to_string(), 1),
        json!({"Data": {}}).to_string(),
        String::new(),
        "\u{0}".to_owned(),
    ] {
        let (status, reply) = handler.post("/Deliver", hostile);
        assert_eq!(status, 200, "{reply}");
        assert!(!reply["Logs"].as_array().unwrap().is_empty(), "{reply}");
    }
    assert_eq!(handler.terminate(), Some(0));
    let ledger = app.counters();
    assert_eq!(ledger["invocations/Deliver"], 10);
    assert_eq!(ledger["invocations/O365WebHook"], 1);
    assert_eq!(ledger.get("errors/Deliver"), None);
    let sink = app.alertlogic();
    assert_eq!(sink["repeated"], json!([]), "{sink:#}");
    assert!(sink["delivered_once"].as_u64().unwrap() > 0, "{sink:#}");
}

#[test]
fn a_forwarded_notification_is_answered_by_the_webhook() {
    let app = FunctionApp::new(&["--records", "50"]);
    let handler = app.start();
    assert_eq!(handler.notify("wrong", &json!([])).0, 401);
    assert_eq!(handler.notify(AUTH_ID, &json!({"validation": 1})).0, 400);
    let (status, _) = handler.send(|client| {
        client
            .put(format!("{}/api/o365/webhook", handler.url))
            .header("Webhook-AuthID", AUTH_ID)
            .header("Webhook-ValidationCode", "code")
            .body(json!({"validationCode": "code"}).to_string())
    });
    assert_eq!(status, 200);
    for path in ["/api/o365", "/metrics", "/api/status", "/Nothing", "/poll"] {
        let (status, reply) = handler.post(path, "{}");
        assert_eq!(
            (status, &reply["error"]["code"]),
            (404, &json!("not_found")),
            "{path}"
        );
    }
    // Where the host wraps requests instead.
    let wrapped = json!({"Data": {"req": {
        "Url": "https://our-app.example.net/api/o365/webhook", "Method": "POST", "Query": {},
        "Headers": {"Webhook-AuthID": ["wrong"]}, "Params": {}, "Identities": [], "Body": "[]"}}, "Metadata": {}});
    let (status, reply) = handler.post("/O365WebHook", wrapped.to_string());
    assert_eq!(
        (status, &reply["Outputs"]["res"]["statusCode"]),
        (200, &json!("401")),
        "{reply}"
    );
    assert_eq!(handler.terminate(), Some(0));
}

#[test]
fn a_bad_configuration_stays_up_and_says_all_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let settings = BTreeMap::from(
        [
            ("APP_TENANT_ID", "marker"),
            ("APP_FILTER_REGEX", "marker"),
            ("O365_CONTENT_STREAMS", "[\"Audit.Exchange\"]"),
            ("CUSTOMCONNSTR_APP_AL_SECRET_KEY", "marker"),
        ]
        .map(|(name, text)| (name.to_owned(), text.to_owned())),
    );
    let mut handler = Handler::start(&settings, folder.path());
    handler.running.wait_for("APP_FILTER_REGEX: ");
    for function in ["Master", "Poll", "Deliver", "Updater"] {
        let (status, reply) = handler.tick(function);
        assert_eq!(status, 500, "{function}: {reply}");
        let logs = reply["Logs"].to_string();
        for told in [
            "APP_TENANT_ID: ",
            "APP_FILTER_REGEX: ",
            "APP_SUBSCRIPTION_ID: missing",
            "AzureWebJobsStorage: missing",
        ] {
            assert!(logs.contains(told), "{told} is not in {logs}");
        }
        assert!(!logs.contains("marker"), "{logs}");
    }
    // Anybody can ask here.
    let (status, reply) = handler.notify("any", &json!([]));
    assert_eq!(
        (status, &reply["error"]["code"]),
        (503, &json!("not_ready"))
    );
    assert!(!reply.to_string().contains("APP_"), "{reply}");
    assert!(!handler.running.has_ended());
    assert_eq!(handler.terminate(), Some(0));
}

#[test]
fn a_handler_told_to_end_ends_in_good_order_while_it_works() {
    let app = FunctionApp::new(&["--records", "20000", "--records-per-blob", "500"]);
    let handler = app.start();
    assert_eq!(handler.tick("Master").0, 200);
    let url = format!("{}/Poll", handler.url);
    let polling = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let reply = client
                .post(url)
                .body(timer().to_string())
                .send()
                .await
                .unwrap();
            reply.status().as_u16()
        })
    });
    // Until it has begun.
    let began = Instant::now();
    while app.simulation.count("content", 200) == 0 {
        assert!(
            began.elapsed() < PATIENCE,
            "{}",
            app.simulation.ask("requests")
        );
    }
    let began = Instant::now();
    assert_eq!(handler.terminate(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(polling.join().unwrap(), 200);
    // Nothing is held by the one that ended, and nothing is delivered twice.
    let again = app.start();
    let began = Instant::now();
    while app.simulation.ask("progress")["records_acknowledged"] != 20_000 {
        assert_eq!(again.tick("Poll").0, 200);
        assert!(began.elapsed() < PATIENCE);
    }
    assert_eq!(again.terminate(), Some(0));
    app.assert_clean();
}

#[test]
fn without_a_port_the_handler_says_who_starts_it() {
    let output = program().arg("function").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("FUNCTIONS_CUSTOMHANDLER_PORT is not set"),
        "{told}"
    );
}
