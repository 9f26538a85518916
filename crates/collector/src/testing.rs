//! What the tests of the pipeline stand on: a scripted Microsoft, scripted sinks, a real ledger whose writes can be made
//! to fail, and a clock that goes with tokio's, which those tests pause.

mod death;
mod ledgers;
mod microsoft;
mod sink;
pub(crate) mod subscriptions;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use activity_api::{Cloud, ContentId, ContentType, TenantId};
use jiff::{SignedDuration, Timestamp};
use ledger::{
    AcknowledgedPart, Delivery, Lease, LeaseRequest, Ledger as _, SeenBlob, SeenVia, SinkCommit,
    SinkName, StreamSummary,
};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::time::Instant;

pub(crate) use self::death::Death;
pub(crate) use self::ledgers::TestLedger;
pub(crate) use self::microsoft::{Answer, FakeMicrosoft};
pub(crate) use self::sink::{FakeSink, Turn};
use crate::clock::Clock;
use crate::config::{
    Config, Credential, DedupeConfig, FetchConfig, LedgerConfig, ListenConfig, PollConfig,
    QuarantineConfig, TenantConfig, TlsConfig,
};
use crate::http::Transport;
use crate::microsoft::Microsoft;

/// The tenant that most tests collect.
pub(crate) const TENANT: &str = "bf8d32d3-1c13-4487-af02-80dba2236485";
/// Another one.
pub(crate) const OTHER_TENANT: &str = "41463f53-8812-40f4-890f-865bf6e35190";
/// A certificate of an application's, with its private key.
pub(crate) const CERTIFICATE: &str = include_str!("../../activity-api/test-data/certificate.pem");
/// As [`CERTIFICATE`]; it ended in 2025.
pub(crate) const ENDED_CERTIFICATE: &str =
    include_str!("../../activity-api/test-data/certificate-ended.pem");
/// The content type that most tests collect.
pub(crate) const CONTENT_TYPE: ContentType = ContentType::Exchange;

/// Tells a time that goes with tokio's, so that a test which pauses the one has paused the other.
#[derive(Debug)]
pub(crate) struct TestClock {
    start: Timestamp,
    started: Instant,
    jumped: Mutex<SignedDuration>,
}

impl TestClock {
    /// The time of day jumps, and no other: somebody set the clock, or the machine slept.
    pub(crate) fn jump(&self, by: SignedDuration) {
        *self.jumped.lock().unwrap() += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.start + self.started.elapsed() + *self.jumped.lock().unwrap()
    }
}

/// When every scene begins.
pub(crate) fn start() -> Timestamp {
    "2026-07-16T09:00:00Z".parse().unwrap()
}

pub(crate) fn tenant() -> TenantId {
    TENANT.parse().unwrap()
}

pub(crate) fn other_tenant() -> TenantId {
    OTHER_TENANT.parse().unwrap()
}

/// A tenant's settings, as in the commercial cloud.
pub(crate) fn tenant_config(id: TenantId, content_types: &[ContentType]) -> TenantConfig {
    TenantConfig {
        id,
        client_id: "a261478c-84fb-42f9-84c2-de050a4babe3".parse().unwrap(),
        credential: Credential::ClientSecret(SecretString::from("correct horse")),
        content_types: content_types.to_vec(),
        publisher: id.into(),
        hosts: Cloud::Commercial.hosts(),
    }
}

/// A configuration with nothing but these tenants.
pub(crate) fn config(tenants: Vec<TenantConfig>) -> Config {
    Config {
        tenants,
        tls: TlsConfig::default(),
        listen: ListenConfig {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        },
        webhook: None,
        ledger: LedgerConfig::Sqlite {
            path: PathBuf::new(),
        },
        poll: PollConfig {
            interval: Duration::from_secs(60),
            first_lookback: Duration::from_secs(3600),
        },
        fetch: FetchConfig {
            max_concurrent: 4,
            max_memory_bytes: 16 * 1024 * 1024,
            requests_per_minute: 2_000,
            lease: Duration::from_secs(600),
        },
        quarantine: QuarantineConfig { max_bytes: 1 << 30 },
        dedupe: DedupeConfig::default(),
        sinks: Vec::new(),
        site: None,
        update: None,
    }
}

/// Where a blob of this name is.
pub(crate) fn blob_uri(tenant: TenantId, name: &str) -> String {
    format!("https://manage.office.com/api/v1.0/{tenant}/activity/feed/audit/{name}")
}

/// A listed blob of [`CONTENT_TYPE`], made available when the scene began.
pub(crate) fn seen(tenant: TenantId, name: &str) -> SeenBlob {
    SeenBlob {
        tenant,
        content_type: CONTENT_TYPE,
        content_id: ContentId::canonical(name),
        uri: blob_uri(tenant, name),
        created_at: start(),
        expires_at: start() + Duration::from_secs(7 * 24 * 3600),
        seen_via: SeenVia::Listing,
    }
}

/// A blob's text: the records as one array.
pub(crate) fn blob_text(records: &[String]) -> String {
    format!("[{}]", records.join(","))
}

/// The same bytes, compressed.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Records of some 4 KB each, numbered from `first` on: 500 of them make a blob of four parts.
pub(crate) fn large_records(first: usize, count: usize) -> Vec<String> {
    let padding = "x".repeat(4_000);
    (first..first + count)
        .map(|number| format!(r#"{{"Id":"large-{number:06}","Padding":"{padding}"}}"#))
        .collect()
}

/// One scene: everything outside of the pipeline.
pub(crate) struct Scene {
    pub(crate) ledger: Arc<TestLedger>,
    pub(crate) microsoft: Arc<FakeMicrosoft>,
    pub(crate) clock: Arc<TestClock>,
    folder: TempDir,
}

impl Scene {
    /// An empty ledger, and a Microsoft that issues tokens and has nothing.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            ledger: TestLedger::open(&folder.path().join("ledger.db")),
            microsoft: Arc::new(FakeMicrosoft::default()),
            clock: Arc::new(TestClock {
                start: start(),
                started: Instant::now(),
                jumped: Mutex::default(),
            }),
            folder,
        }
    }

    /// The scene after the process ended and began again: the ledger is opened anew.
    pub(crate) async fn restarted(self) -> Self {
        let Self {
            ledger,
            microsoft,
            clock,
            folder,
        } = self;
        // A task that was aborted lets go of it when it is next looked at, and what that one had begun a turn later.
        for _turn in 0..100_000 {
            if Arc::strong_count(&ledger) == 1 {
                break;
            }
            tokio::task::yield_now().await;
        }
        Arc::into_inner(ledger)
            .expect("nobody uses the ledger any more")
            .close();
        Self {
            ledger: TestLedger::open(&folder.path().join("ledger.db")),
            microsoft,
            clock,
            folder,
        }
    }

    /// The present time of the scene.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A tenant's door to the scripted Microsoft.
    pub(crate) fn door(&self, tenant: TenantId) -> Microsoft {
        Microsoft::new(
            &tenant_config(tenant, &[CONTENT_TYPE]),
            60_000,
            self.transport(),
            self.clock(),
        )
    }

    pub(crate) fn transport(&self) -> Arc<dyn Transport> {
        Arc::<FakeMicrosoft>::clone(&self.microsoft)
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::<TestClock>::clone(&self.clock)
    }

    /// A blob of [`TENANT`]'s that is known to the ledger and that Microsoft has.
    pub(crate) async fn add_blob(&self, name: &str, records: &[String]) {
        self.microsoft
            .on(&format!("blob/{name}"), [Answer::ok(blob_text(records))]);
        self.note(name).await;
    }

    /// A blob of [`TENANT`]'s that is known to the ledger.
    pub(crate) async fn note(&self, name: &str) {
        self.ledger
            .note_seen(vec![seen(tenant(), name)], self.now())
            .await
            .unwrap();
    }

    /// Takes all that is due, as somebody else would.
    pub(crate) async fn lease_all(&self) -> Vec<Lease> {
        let request = LeaseRequest {
            max_count: 1_000,
            duration: Duration::from_secs(600),
            except_tenants: Vec::new(),
            for_sinks: Vec::new(),
            only: Vec::new(),
        };
        self.ledger.lease(&request, self.now()).await.unwrap()
    }

    /// A blob of [`TENANT`]'s that was delivered, with this many records of these many bytes in all.
    pub(crate) async fn deliver(&self, name: &str, record_count: u64, byte_count: u64) {
        self.note(name).await;
        let lease = self.lease_all().await.into_iter().next().unwrap();
        let sink: SinkName = "alertlogic".parse().unwrap();
        let commit = SinkCommit {
            sink: sink.clone(),
            position: None,
            acknowledged: vec![(lease.key(), AcknowledgedPart::Whole)],
            quarantined: Vec::new(),
            remembered: None,
        };
        let acknowledgements = self.ledger.acknowledge(commit, self.now()).await.unwrap();
        let delivery = Delivery {
            lease,
            acknowledgements,
            record_count,
            byte_count,
            quarantined_count: 0,
        };
        let (required, now) = ([sink], self.now());
        let settled = self.ledger.mark_delivered(vec![delivery], &required, now);
        assert!(settled.await.unwrap().iter().all(Result::is_ok));
    }

    /// The numbers of [`TENANT`]'s [`CONTENT_TYPE`].
    pub(crate) async fn stream(&self) -> StreamSummary {
        self.stream_of(tenant()).await
    }

    /// The numbers of a tenant's [`CONTENT_TYPE`].
    pub(crate) async fn stream_of(&self, tenant: TenantId) -> StreamSummary {
        let summary = self.ledger.summary(self.now()).await.unwrap();
        summary
            .stream(tenant, CONTENT_TYPE)
            .expect("something was noted")
            .clone()
    }
}
