//! `/api/o365/webhook`: who asks, how much, is it a validation or a notification, and an answer once the ledger has
//! it. Anything but 200 makes Microsoft send again and, after too many, stop sending; so the ways to fail are few.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use tokio::time::timeout;

use super::reply::{Refusal, RequestId};
use super::{WebState, Webhook};
use crate::discover::notify::{self, Noted};
use crate::telemetry::{self, LedgerOperation, WebhookOutcome, chain};

/// Some 2,000 blobs. Microsoft names no limit; the bodies seen are a few kilobytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the ledger may take. Microsoft names no deadline for an answer, and a request held for longer than this
/// is more likely given up than waited for.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(5);
/// Notifications between their first byte and their commit. What they hold is bounded by this times
/// [`MAX_BODY_BYTES`]. One commit serves all that wait, so a longer queue would add delay and no throughput.
pub(super) const MAX_NOTIFICATIONS_IN_FLIGHT: usize = 32;

const UNAUTHORIZED: Refusal = Refusal::new(
    StatusCode::UNAUTHORIZED,
    "unauthorized",
    "the Webhook-AuthID header is missing or wrong",
);
const OVERLOADED: Refusal = Refusal::new(
    StatusCode::SERVICE_UNAVAILABLE,
    "overloaded",
    "too many notifications at once",
)
.retry_after(1);
const TOO_LARGE: Refusal = Refusal::new(
    StatusCode::PAYLOAD_TOO_LARGE,
    "too_large",
    "the body is longer than 1 MiB",
);
const TOO_SLOW: Refusal = Refusal::new(
    StatusCode::REQUEST_TIMEOUT,
    "too_slow",
    "the body did not arrive in time",
);
const BROKEN_OFF: Refusal =
    Refusal::new(StatusCode::BAD_REQUEST, "broken_off", "the body broke off");
const MALFORMED: Refusal = Refusal::new(
    StatusCode::BAD_REQUEST,
    "malformed",
    "the body is not a notification",
);
const REFUSED: Refusal = Refusal::new(
    StatusCode::BAD_REQUEST,
    "refused_entries",
    "some entries name a tenant or an address that is not collected here; the others are noted",
);
const LEDGER_FAILED: Refusal = Refusal::new(
    StatusCode::SERVICE_UNAVAILABLE,
    "ledger_failed",
    "the notification cannot be kept at the moment",
)
.retry_after(10);

/// What a request asked and got.
enum Answer {
    Validated,
    Noted(Noted),
}

/// Answers one request to the webhook.
///
/// # If interrupted
/// As [`note_notification`](notify::note_notification): no 200 was sent, so the sender still owes us the notification.
pub(super) async fn receive(
    State(web): State<WebState>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Response {
    let Some(webhook) = &web.0.webhook else {
        return super::not_found(Extension(request_id)).await;
    };
    match answer(&web, webhook, &request_id, request).await {
        Ok(Answer::Validated) => {
            telemetry::webhook(WebhookOutcome::Validated);
            tracing::info!(%request_id, "the webhook was validated");
            Json(json!({})).into_response()
        }
        Ok(Answer::Noted(noted)) => {
            telemetry::webhook(WebhookOutcome::Noted);
            tracing::debug!(%request_id, ?noted, "a notification was noted");
            let Noted {
                new_count,
                known_count,
                ignored_count,
                ..
            } = noted;
            Json(json!({ "new_count": new_count, "known_count": known_count, "ignored_count": ignored_count }))
                .into_response()
        }
        Err((outcome, refusal)) => {
            telemetry::webhook(outcome);
            refusal.reply(&request_id)
        }
    }
}

async fn answer(
    web: &WebState,
    webhook: &Webhook,
    request_id: &RequestId,
    request: Request,
) -> Result<Answer, (WebhookOutcome, Refusal)> {
    let (head, body) = request.into_parts();
    // Before anything else, validations included: a stranger must not learn that the address is right, and must not
    // make us read a body.
    let is_configured = webhook
        .auth_id
        .as_ref()
        .is_some_and(|auth_id| auth_id.admits(&head.headers));
    let (ledger, now) = (web.0.ledger.as_ref(), web.0.clock.now());
    if !is_configured && !web.0.auth_ids.admit(&head.headers, ledger, now).await {
        tracing::warn!(%request_id, "a request to the webhook had no or a wrong auth id");
        return Err((WebhookOutcome::Unauthorized, UNAUTHORIZED));
    }
    let Ok(_permit) = web.0.notifications.try_acquire() else {
        tracing::warn!(%request_id, "too many notifications at once");
        return Err((WebhookOutcome::Overloaded, OVERLOADED));
    };
    let body = match timeout(BODY_TIMEOUT, read_body(&head.headers, body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) => {
            tracing::warn!(%request_id, code = refusal.code, "a notification could not be read");
            return Err((WebhookOutcome::Malformed, refusal));
        }
        Err(_elapsed) => {
            tracing::warn!(%request_id, code = TOO_SLOW.code, "a notification could not be read");
            return Err((WebhookOutcome::Malformed, TOO_SLOW));
        }
    };
    if activity_api::read_validation(&head.headers, &body).is_some() {
        return Ok(Answer::Validated);
    }
    let started = tokio::time::Instant::now();
    let noting = notify::note_notification(
        &body,
        &webhook.feeds,
        web.0.ledger.as_ref(),
        web.0.clock.now(),
    );
    match timeout(LEDGER_TIMEOUT, noting).await {
        Ok(Ok(noted)) => {
            telemetry::ledger_committed(LedgerOperation::NoteSeen, started.elapsed());
            if noted.new_count > 0 {
                // With nothing new, nothing was written.
                web.0.live.ledger_ok();
                webhook.news.notify_one();
            }
            if noted.refused_count > 0 {
                tracing::warn!(%request_id, ?noted, "a notification was noted in part");
                return Err((WebhookOutcome::Refused, REFUSED));
            }
            Ok(Answer::Noted(noted))
        }
        Ok(Err(error @ notify::Error::Malformed(_))) => {
            tracing::warn!(%request_id, error = chain(&error), "a request to the webhook was no notification");
            Err((WebhookOutcome::Malformed, MALFORMED))
        }
        Ok(Err(notify::Error::Ledger(error))) => {
            telemetry::ledger_failed(LedgerOperation::NoteSeen);
            web.0.live.ledger_failed(&chain(&error), web.0.clock.now());
            tracing::error!(%request_id, error = chain(&error), "a notification could not be kept");
            Err((WebhookOutcome::LedgerFailed, LEDGER_FAILED))
        }
        Err(_elapsed) => {
            telemetry::ledger_failed(LedgerOperation::NoteSeen);
            web.0
                .live
                .ledger_failed("no answer in time", web.0.clock.now());
            tracing::error!(%request_id, error = "no answer in time", "a notification could not be kept");
            Err((WebhookOutcome::LedgerFailed, LEDGER_FAILED))
        }
    }
}

async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(TOO_LARGE);
    }
    // What is announced reserves nothing: memory is taken as bytes arrive.
    let mut whole = BytesMut::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| BROKEN_OFF)?;
        if whole.len() + piece.len() > MAX_BODY_BYTES {
            return Err(TOO_LARGE);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}
