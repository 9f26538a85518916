//! The webhook door of the running program: what it accepts, what it refuses, and that a token never follows a lie.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::{PATIENCE, Running, Simulation, describe, program};

const AUTH_ID: &str = "7d1f2c0e-shared-auth-id";

struct Door {
    simulation: Simulation,
    collector: Running,
    url: String,
    tenant: String,
}

impl Door {
    fn open() -> Self {
        let simulation = Simulation::start(&["--records", "200"]);
        simulation.edit_config(|text| {
            format!("{text}\n[webhook]\npublic_url = \"https://collector.example.net/api/o365/webhook\"\nauth_id = \"{AUTH_ID}\"\n")
        });
        let config: toml::Table = fs::read_to_string(simulation.config())
            .unwrap()
            .parse()
            .unwrap();
        let tenant = config["tenant"][0]["id"].as_str().unwrap().to_owned();
        let mut collector = Running::start(&mut simulation.run());
        let line = collector.wait_for("status page at");
        let base = line
            .split("status page at ")
            .nth(1)
            .unwrap()
            .split('/')
            .take(3)
            .collect::<Vec<_>>()
            .join("/");
        Self {
            simulation,
            collector,
            url: base,
            tenant,
        }
    }

    fn post(&self, auth_id: Option<&str>, body: impl Into<reqwest::Body>) -> u16 {
        self.send(|client| {
            let request = client
                .post(format!("{}/api/o365/webhook", self.url))
                .body(body.into());
            match auth_id {
                Some(auth_id) => request.header("Webhook-AuthID", auth_id),
                None => request,
            }
        })
        .0
    }

    /// Posts `size` bytes in chunks, so that no header says how many there will be, and never says that they are all.
    /// The first line of the answer.
    fn post_without_end(&self, size: usize) -> String {
        let address = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST /api/o365/webhook HTTP/1.1\r\nHost: {address}\r\nWebhook-AuthID: {AUTH_ID}\r\nTransfer-Encoding: chunked\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        for chunk in vec![b' '; size].chunks(64 * 1024) {
            // The break before a chunk's length ends what was before it: the head, or the chunk before.
            let length = format!("\r\n{:x}\r\n", chunk.len());
            stream.write_all(length.as_bytes()).unwrap();
            stream.write_all(chunk).unwrap();
        }
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.send(|client| client.get(format!("{}{path}", self.url)))
    }

    fn send(
        &self,
        build: impl FnOnce(reqwest::Client) -> reqwest::RequestBuilder,
    ) -> (u16, String) {
        drop(rustls::crypto::ring::default_provider().install_default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let client = reqwest::Client::builder()
                .timeout(PATIENCE)
                .build()
                .unwrap();
            let reply = build(client).send().await.unwrap();
            (reply.status().as_u16(), reply.text().await.unwrap())
        })
    }

    /// A notification of one blob at `uri` of `tenant`.
    fn notification(tenant: &str, uri: &str) -> Value {
        json!([{
            "tenantId": tenant,
            "clientId": "a261478c-84fb-42f9-84c2-de050a4babe3",
            "contentType": "Audit.Exchange",
            "contentId": "20260101000000000000000$20260101000000000000000$audit_exchange$Audit_Exchange$emea0001$emea0001",
            "contentUri": uri,
            "contentCreated": "2026-01-01T00:00:00.000Z",
            "contentExpiration": "2036-01-08T00:00:00.000Z",
        }])
    }

    /// What the ledger says at this moment. Not `/api/status`, which may be a second old.
    fn totals(&self) -> Value {
        let output = program()
            .args(["status", "--format", "json", "--config"])
            .arg(self.simulation.config())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["totals"].clone()
    }

    fn known_blobs(&self) -> u64 {
        let totals = self.totals();
        [
            "pending_count",
            "leased_count",
            "delivered_count",
            "quarantined_count",
            "expired_count",
        ]
        .iter()
        .map(|count| {
            totals[count]
                .as_u64()
                .unwrap_or_else(|| panic!("{count}: {totals:#}"))
        })
        .sum()
    }

    /// Waits until everything that polling finds is delivered, so that what a notification adds can be told.
    fn settle(&self) -> u64 {
        let end = std::time::Instant::now() + PATIENCE;
        while self.totals()["record_count"] != 200 {
            assert!(
                std::time::Instant::now() < end,
                "the records never arrived: {:#}",
                self.totals()
            );
        }
        self.known_blobs()
    }
}

#[test]
fn the_door_refuses_what_it_must_and_no_token_follows_a_lie() {
    let mut door = Door::open();
    let known = door.settle();
    let suffix = "activity/feed/audit/20260101000000000000000$20260101000000000000000$audit_exchange$Audit_Exchange$emea0001$emea0001";
    let tenant = door.tenant.clone();
    let stranger = door.simulation.ask("about")["stranger"]
        .as_str()
        .unwrap()
        .to_owned();
    let microsoft = door.simulation.microsoft.clone();
    let true_uri = format!("{microsoft}/api/v1.0/{tenant}/{suffix}");
    let honest = Door::notification(&tenant, &true_uri).to_string();

    assert_eq!(door.post(Some(AUTH_ID), r#"{"validationCode":"abc"}"#), 200);
    assert_eq!(door.post(None, r#"{"validationCode":"abc"}"#), 401);
    assert_eq!(door.post(None, honest.clone()), 401);
    assert_eq!(door.post(Some("wrong"), honest.clone()), 401);
    assert_eq!(door.post(Some(&format!("{AUTH_ID}x")), honest.clone()), 401);

    let other_tenant = "00000000-1111-4222-8333-444444444444";
    for uri in [
        format!("{stranger}/api/v1.0/{tenant}/{suffix}"),
        format!("{microsoft}.example.net/api/v1.0/{tenant}/{suffix}"),
        format!(
            "{}@{}/api/v1.0/{tenant}/{suffix}",
            microsoft,
            stranger.trim_start_matches("https://")
        ),
        format!("{microsoft}/api/v1.0/{other_tenant}/{suffix}"),
        format!("{microsoft}/api/v1.0/{tenant}/activity/feed/../../{other_tenant}/{suffix}"),
        format!(
            "http://{}/api/v1.0/{tenant}/{suffix}",
            microsoft.trim_start_matches("https://")
        ),
        "file:///etc/passwd".to_owned(),
    ] {
        assert_eq!(
            door.post(Some(AUTH_ID), Door::notification(&tenant, &uri).to_string()),
            400,
            "{uri}"
        );
    }
    assert_eq!(
        door.post(
            Some(AUTH_ID),
            Door::notification(other_tenant, &true_uri).to_string()
        ),
        400
    );

    for body in [
        "",
        "not json",
        "{}",
        "[",
        "[1]",
        r#"[{"tenantId":7}]"#,
        "null",
        r#""text""#,
        "[[]]",
        "\u{0}",
    ] {
        let status = door.post(Some(AUTH_ID), body);
        assert!((400..500).contains(&status), "{body:?}: {status}");
    }
    assert_eq!(door.post(Some(AUTH_ID), vec![b' '; (1 << 20) + 1]), 413);
    assert_eq!(door.known_blobs(), known, "something was noted");

    // An honest one is noted, fetched, and found not to exist: by then any token that a lie could have drawn is out.
    assert_eq!(door.post(Some(AUTH_ID), honest), 200);
    assert_eq!(door.known_blobs(), known + 1);
    let requests = door.simulation.ask("requests");
    assert_eq!(requests["leaked_tokens"], 0, "{requests:#}");
    assert!(
        !requests["counts"]
            .as_array()
            .unwrap()
            .iter()
            .any(|row| row["kind"] == "stranger"),
        "{requests:#}"
    );
    assert!(!door.collector.has_ended(), "the program ended");
    assert_eq!(door.get("/healthz").0, 200);
    assert_eq!(door.get("/readyz").0, 200);
    let (status, metrics) = door.get("/metrics");
    assert_eq!(status, 200);
    assert!(
        metrics.contains("o365_collector_records_delivered_total"),
        "{metrics}"
    );
    let (status, page) = door.get("/");
    assert_eq!(status, 200);
    assert!(page.contains(&tenant), "{page}");
}

#[test]
fn a_body_that_is_too_long_is_refused_without_a_length_and_before_its_end() {
    let door = Door::open();
    let answer = door.post_without_end((1 << 20) + 1);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(door.get("/healthz").0, 200);
}
