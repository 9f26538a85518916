//! Storage by the managed identity's tokens alone: the emulator with HTTPS, which reads issuer, audience and times of each
//! token, and the simulator's identity endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use activity_api::{ContentId, ContentType};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use collector::clock::{Clock, SystemClock};
use collector::config::{LedgerConfig, load_app_settings};
use collector::http::{Body, Client, Error, Transport};
use collector::storage::azure_ledger;
use ledger::{
    AcknowledgedPart, Delivery, LeaseRequest, Ledger as _, SeenBlob, SeenVia, SinkCommit,
};
use serde_json::{Value, json};
use simulator::{Options, RequestKind, Simulator};

use super::{App, identity_settings, settings, start_with_tokens};

/// The real network, save that the first token that is given has ended already without saying so.
struct FirstTokenEnded {
    network: Client,
    tokens: AtomicU64,
    refused: AtomicU64,
}

#[async_trait]
impl Transport for FirstTokenEnded {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, Error> {
        let is_for_token = request.uri().path() == "/msi/token";
        let (head, body) = self.network.send(request).await?.into_parts();
        let body = body.collect(1 << 20).await?;
        if !is_for_token {
            let is_refused = matches!(head.status.as_u16(), 401 | 403);
            self.refused
                .fetch_add(u64::from(is_refused), Ordering::Relaxed);
        } else if self.tokens.fetch_add(1, Ordering::Relaxed) == 0 {
            let mut reply: Value = serde_json::from_slice(&body).unwrap();
            reply["access_token"] = json!(ended(reply["access_token"].as_str().unwrap()));
            let body = Body::from_bytes(reply.to_string().into());
            return Ok(http::Response::from_parts(head, body));
        }
        Ok(http::Response::from_parts(head, Body::from_bytes(body)))
    }
}

/// The same token, as it is when its time is over.
fn ended(token: &str) -> String {
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("not a token of three parts");
    };
    let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
    let mut claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["exp"] = claims["nbf"].clone();
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("{header}.{claims}.{signature}")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Azurite"]
async fn the_ledger_works_with_a_managed_identity_and_replaces_a_token_that_storage_refuses() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let simulator = Simulator::start(Options {
        tls: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let azurite = start_with_tokens(&simulator).await;
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    let ca_pem = simulator.ca_pem().unwrap();
    std::fs::write(&ca_file, ca_pem).unwrap();

    // As in the app: from its settings, and what the platform says of the identity.
    let mut env: BTreeMap<String, String> = settings(&simulator, &ca_file);
    env.extend(identity_settings(&azurite));
    for (name, value) in [
        ("IDENTITY_ENDPOINT", simulator.identity_endpoint()),
        (
            "IDENTITY_HEADER",
            simulator.options().azure.identity_header.clone(),
        ),
        (
            "WEBSITE_SITE_NAME",
            simulator.options().azure.site_name.clone(),
        ),
        ("WEBSITE_HOSTNAME", "localhost".to_owned()),
    ] {
        env.insert(name.to_owned(), value);
    }
    let config =
        load_app_settings(dir.path(), &env).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let LedgerConfig::AzureStorage(storage) = config.ledger else {
        panic!("the ledger is elsewhere");
    };
    let network = Arc::new(FirstTokenEnded {
        network: Client::build(Some(ca_pem.as_bytes())).unwrap(),
        tokens: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    });
    let http = Arc::<FirstTokenEnded>::clone(&network) as Arc<dyn Transport>;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now = clock.now();
    let open = || azure_ledger(&storage, true, &http, &clock);
    let tokens = || simulator.requests().of(RequestKind::IdentityToken);

    let ledger = open();
    let tenant = config.tenants[0].id;
    let blob = |number: u32| SeenBlob {
        tenant,
        content_type: ContentType::Exchange,
        content_id: ContentId::canonical(&format!("2025100900{number:02}$audit_exchange$na0018")),
        uri: format!("https://manage.office.com/blob/{number}"),
        created_at: now,
        expires_at: now + Duration::from_secs(7 * 86_400),
        seen_via: SeenVia::Listing,
    };
    assert_eq!(
        ledger
            .note_seen((0..3).map(blob).collect(), now)
            .await
            .unwrap(),
        3
    );
    assert!(network.refused.load(Ordering::Relaxed) > 0);
    assert_eq!(tokens(), 2, "the refused one, and the one after it");

    let request = LeaseRequest {
        max_count: 10,
        duration: Duration::from_secs(300),
        except_tenants: Vec::new(),
        for_sinks: Vec::new(),
        only: Vec::new(),
    };
    let mut leases = ledger.lease(&request, now).await.unwrap();
    assert_eq!(leases.len(), 3);
    // Its bytes go where the blobs of the account are, as its tables and its queue were used above.
    let bad = leases.pop().unwrap();
    let bytes = b"not json".to_vec();
    ledger
        .quarantine(bad, "not JSON", bytes.clone(), now)
        .await
        .unwrap();
    let sink: ledger::SinkName = "alertlogic".parse().unwrap();
    let commit = SinkCommit {
        sink: sink.clone(),
        position: Some("here".to_owned()),
        acknowledged: leases
            .iter()
            .map(|lease| (lease.key(), AcknowledgedPart::Whole))
            .collect(),
        quarantined: Vec::new(),
        remembered: None,
    };
    let proofs = ledger.acknowledge(commit, now).await.unwrap();
    let deliveries = leases
        .into_iter()
        .zip(proofs)
        .map(|(lease, proof)| Delivery {
            lease,
            acknowledgements: vec![proof],
            record_count: 7,
            byte_count: 70,
            quarantined_count: 0,
        });
    let answers = ledger
        .mark_delivered(deliveries.collect(), std::slice::from_ref(&sink), now)
        .await
        .unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(tokens(), 2, "one token is for all requests until it ends");

    // Another process sees all of it, with a token of its own.
    let other = open();
    assert_eq!(other.note_seen(vec![blob(0)], now).await.unwrap(), 0);
    assert!(other.lease(&request, now).await.unwrap().is_empty());
    assert_eq!(
        other.position(&sink).await.unwrap().as_deref(),
        Some("here")
    );
    let summary = other.summary(now).await.unwrap();
    let stream = summary.stream(tenant, ContentType::Exchange).unwrap();
    assert_eq!(
        (stream.delivered_count, stream.delivered_record_count),
        (2, 14)
    );
    let quarantined = other.quarantined(0, 10).await.unwrap();
    assert_eq!(quarantined.len(), 1);
    let kept = other.quarantined_bytes(quarantined[0].id).await.unwrap();
    assert_eq!(kept, Some(bytes));
    assert_eq!(tokens(), 3);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Azurite"]
async fn the_packaged_app_collects_with_no_key_of_its_storage() {
    let app = App::deploy_by_identity(Options {
        records: 600,
        records_per_blob: 20,
        ..Options::default()
    })
    .await;
    let settings = app.simulator.site().settings();
    assert!(!settings.contains_key("AzureWebJobsStorage"));
    app.fire("Master").await;
    app.host.ready().await.unwrap();
    app.collect_all().await;
    app.assert_clean();
    // The queue was written to as well: the host delivered what it read there.
    assert!(!app.deliveries().is_empty());
}
