//! Tests of the door: what comes in is judged, what goes out is dressed.

mod asking;
mod pages;
mod serving;
mod webhook;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use ledger::{Ledger, SqliteLedger, Summary};
use secrecy::SecretString;
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use activity_api::{ContentType, Feed, Origin, TenantId};

const AUTH_ID: &str = "s3cr3t-auth-id";
const TENANT: &str = "bf8d32d3-1c13-4487-af02-80dba2236485";
const OTHER_TENANT: &str = "41463f53-8812-40f4-890f-865bf6e35190";
const NOW: &str = "2026-07-15T21:00:00Z";

#[derive(Debug)]
struct FixedClock(Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// The door in front of a real ledger.
struct Door {
    router: Router,
    state: WebState,
    live: Live,
    ledger: Arc<dyn Ledger>,
    _folder: TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Door {
    fn open() -> Self {
        Self::build(|path| SqliteLedger::open(path).unwrap(), true)
    }

    fn without_webhook() -> Self {
        Self::build(|path| SqliteLedger::open(path).unwrap(), false)
    }

    /// A ledger that answers questions and fails every write.
    fn with_failing_ledger() -> Self {
        Self::build(
            |path| {
                drop(SqliteLedger::open(path).unwrap());
                SqliteLedger::open_read_only(path).unwrap()
            },
            true,
        )
    }

    fn build(open: impl FnOnce(&std::path::Path) -> SqliteLedger, has_webhook: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(open(&folder.path().join("ledger.db")));
        let live = Live::new(now());
        let origin: Origin = "https://manage.office.com".parse().unwrap();
        let tenant: TenantId = TENANT.parse().unwrap();
        let content_types = vec![ContentType::AzureActiveDirectory, ContentType::Exchange];
        live.add_tenant(tenant, &content_types);
        let webhook = has_webhook.then(|| Webhook {
            auth_id: Some(AuthId::new(&SecretString::from(AUTH_ID)).unwrap()),
            feeds: Feeds::from_iter([(Feed::new(origin, tenant, tenant.into()), content_types)]),
            news: Arc::default(),
        });
        let clock = Arc::new(FixedClock(now()));
        let state = WebState::new(
            Arc::clone(&ledger),
            live.clone(),
            Telemetry::install(),
            clock,
            webhook,
        );
        Self {
            router: router(state.clone()),
            state,
            live,
            ledger,
            _folder: folder,
        }
    }

    async fn send(&self, request: Request) -> Answer {
        let (head, body) = self
            .router
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    /// A request as Microsoft sends it.
    async fn notify(&self, body: impl Into<Body>) -> Answer {
        self.send(webhook_request(Some(AUTH_ID), body)).await
    }

    async fn summary(&self) -> Summary {
        self.ledger.summary(now()).await.unwrap()
    }

    async fn pending_count(&self) -> u64 {
        self.summary()
            .await
            .streams
            .iter()
            .map(|stream| stream.pending_count)
            .sum()
    }
}

fn webhook_request(auth_id: Option<&str>, body: impl Into<Body>) -> Request {
    let mut request =
        Request::post(WEBHOOK_PATH).header("Content-Type", "application/json; charset=utf-8");
    if let Some(auth_id) = auth_id {
        request = request.header("Webhook-AuthID", auth_id);
    }
    request.body(body.into()).unwrap()
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}
