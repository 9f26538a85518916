//! The HTTP door that both hosts mount: notifications in; status, health and metrics out. The only place that knows
//! HTML, and no place that decides anything about a blob.

mod ask;
mod auth;
mod pages;
mod reply;
mod serve;
mod webhook;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Extension;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Router, middleware};
use http::StatusCode;
use ledger::{Ledger, Summary};
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::time::{Instant, timeout};

pub use ask::{AskError, ask_status};
pub(crate) use auth::ASK_AGAIN;
pub use auth::{AuthId, InvalidAuthId};
pub use serve::{Patience, serve, serve_with};

use crate::clock::Clock;
use crate::discover::lateness::recall_lateness;
use crate::discover::notify::Feeds;
use crate::status::{self, Live, StatusView};
use crate::telemetry::{self, LedgerOperation, Telemetry, chain};
use crate::updater;
use reply::{Refusal, RequestId, dress};

/// Where Microsoft posts notifications. The Functions host routes the same path.
pub const WEBHOOK_PATH: &str = "/api/o365/webhook";
/// How old the ledger's numbers may be that a page shows. Keeps whoever reloads the page in a loop from making the
/// ledger count in a loop.
const MAX_SUMMARY_AGE: Duration = Duration::from_secs(1);
/// How long a page waits for the ledger before it says that there is no answer.
const SUMMARY_TIMEOUT: Duration = Duration::from_secs(5);

/// What the door opens to. A copy is a handle to the same things.
#[derive(Clone)]
pub struct WebState(Arc<Inside>);

struct Inside {
    ledger: Arc<dyn Ledger>,
    live: Live,
    telemetry: Telemetry,
    clock: Arc<dyn Clock>,
    webhook: Option<Webhook>,
    auth_ids: auth::Remembered,
    notifications: Semaphore,
    summary: Mutex<Option<Counted>>,
    request_count: AtomicU64,
}

/// What the webhook needs to know, when there is one.
#[derive(Debug)]
pub struct Webhook {
    /// What requests must carry, unless they carry one that [`auth_ids`](crate::auth_ids) has put in force. Nothing
    /// where only those count.
    pub auth_id: Option<AuthId>,
    /// What notifications may name.
    pub feeds: Feeds,
    /// Told when a notification brought blobs that were not known.
    pub news: Arc<Notify>,
}

/// What the ledger said, or why it said nothing, and when.
#[derive(Clone)]
struct Counted {
    summary: Result<Arc<Summary>, Arc<str>>,
    at: Instant,
}

impl WebState {
    /// Everything that the door opens to. Without `webhook` its address is not there (404).
    #[must_use]
    pub fn new(
        ledger: Arc<dyn Ledger>,
        live: Live,
        telemetry: Telemetry,
        clock: Arc<dyn Clock>,
        webhook: Option<Webhook>,
    ) -> Self {
        Self(Arc::new(Inside {
            ledger,
            live,
            telemetry,
            clock,
            webhook,
            auth_ids: auth::Remembered::default(),
            notifications: Semaphore::new(webhook::MAX_NOTIFICATIONS_IN_FLIGHT),
            summary: Mutex::new(None),
            request_count: AtomicU64::new(0),
        }))
    }

    fn next_request_id(&self) -> RequestId {
        RequestId::new(
            self.0.live.started_at(),
            self.0.request_count.fetch_add(1, Ordering::Relaxed),
        )
    }

    /// The ledger's numbers, at most [`MAX_SUMMARY_AGE`] old, or what to tell instead. Whoever asks while another
    /// asks waits for that answer.
    async fn summary(&self) -> Result<Arc<Summary>, Arc<str>> {
        let mut kept = self.0.summary.lock().await;
        if let Some(counted) = kept
            .as_ref()
            .filter(|counted| counted.at.elapsed() < MAX_SUMMARY_AGE)
        {
            return counted.summary.clone();
        }
        let summary =
            match timeout(SUMMARY_TIMEOUT, self.0.ledger.summary(self.0.clock.now())).await {
                Ok(Ok(summary)) => Ok(Arc::new(summary)),
                Ok(Err(error)) => {
                    tracing::warn!(error = chain(&error), "the ledger cannot be read");
                    Err(Arc::from(error.to_string()))
                }
                Err(_elapsed) => {
                    tracing::warn!(
                        waited_secs = SUMMARY_TIMEOUT.as_secs(),
                        "the ledger does not answer"
                    );
                    Err(Arc::from("no answer in time"))
                }
            };
        if summary.is_err() {
            telemetry::ledger_failed(LedgerOperation::Read);
        }
        // A failure is kept as well: those who waited behind this one must not each wait as long again.
        *kept = Some(Counted {
            summary: summary.clone(),
            at: Instant::now(),
        });
        summary
    }

    async fn status(&self) -> StatusView {
        let summary = self.summary().await;
        let now = self.0.clock.now();
        match summary {
            Ok(summary) => {
                let update = timeout(SUMMARY_TIMEOUT, updater::view(&*self.0.ledger)).await;
                let lateness = timeout(SUMMARY_TIMEOUT, recall_lateness(&*self.0.ledger)).await;
                let lateness = lateness.ok().and_then(Result::ok).unwrap_or_default();
                status::view(&summary, Some(&self.0.live), now)
                    .with_lateness(&lateness)
                    .with_update(update.ok().flatten())
            }
            Err(error) => status::view_without_ledger(&error, Some(&self.0.live), now),
        }
    }
}

impl std::fmt::Debug for WebState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebState")
            .field("webhook", &self.0.webhook)
            .finish_non_exhaustive()
    }
}

/// All routes. Nothing here needs a credential but the webhook, so the pages must not show what only some may see;
/// who may reach them at all is a matter of `[listen]`.
pub fn router(state: WebState) -> Router {
    let mut router = Router::new()
        .route("/", get(pages::status_page))
        .route("/style.css", get(pages::stylesheet))
        .route("/api/status", get(pages::status_json))
        .route("/healthz", get(pages::healthz))
        .route("/readyz", get(pages::readyz))
        .route("/metrics", get(pages::metrics));
    if state.0.webhook.is_some() {
        router = router.route(WEBHOOK_PATH, post(webhook::receive).put(webhook::receive));
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(state.clone(), dress))
        .with_state(state)
}

async fn not_found(Extension(request_id): Extension<RequestId>) -> Response {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is nothing at this address",
    )
    .reply(&request_id)
}

async fn method_not_allowed(Extension(request_id): Extension<RequestId>) -> Response {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this address does not take that method",
    )
    .reply(&request_id)
}
