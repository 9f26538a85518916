//! Calls that the simulated Microsoft makes: the validation of a webhook when a subscription starts, and notifications.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use super::feed::entry;
use super::subscriptions::{Sent, State, Webhook};
use crate::plan::region;
use crate::world::World;
use crate::{ContentType, RequestKind};

/// How often the simulator looks for something to push: no more than a small part of what a collector takes.
const TICK: Duration = Duration::from_millis(10);
/// How long a webhook may take to answer. Not documented; one public receiver assumes this.
const DEADLINE: Duration = Duration::from_secs(5);
/// Notifications in one call, at most. Not documented.
const BATCH: usize = 20;
/// Rows kept for the listing of notifications of each feed.
const KEPT_ROWS: usize = 100_000;

/// How far the pushing to one webhook has come.
#[derive(Clone, Debug)]
pub(crate) struct PushState {
    /// Blobs that became available in this millisecond or later are to be pushed.
    from_ms: i64,
    /// How many of them were.
    done: usize,
    failures: u32,
    not_before: Option<Instant>,
}

impl PushState {
    /// Pushes the backlog too: as seen in 2026, a new subscription offers content of nearly a day before.
    pub(crate) fn new(now_ms: i64) -> Self {
        Self {
            from_ms: now_ms - crate::times::DAY_MS,
            done: 0,
            failures: 0,
            not_before: None,
        }
    }
}

/// Calls a webhook with a validation code.
///
/// # Errors
/// The reason, in the words of AF20021.
pub(crate) async fn validate(world: &World, webhook: &Webhook) -> Result<(), &'static str> {
    let is_allowed = Url::parse(&webhook.address).is_ok_and(|url| match url.scheme() {
        "https" => true,
        "http" => {
            world.options.allow_http_webhook
                && matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
        }
        _ => false,
    });
    if !is_allowed {
        return Err("The address must begin with HTTPS.");
    }
    let code = Uuid::new_v4().to_string();
    let request = request(world, webhook)
        .header("Webhook-ValidationCode", &code)
        .body(json!({"validationCode": code}).to_string());
    let status = send(request).await;
    world.requests.note(RequestKind::WebhookValidation, status);
    if status == 200 {
        Ok(())
    } else {
        Err("The endpoint did not return HTTP 200.")
    }
}

/// Pushes what becomes available until the token is cancelled.
pub(crate) async fn run(world: Arc<World>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(TICK);
    // A round may take long. Rounds that were missed are not caught up with.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let feeds = world.tenants.len() * ContentType::ALL.len();
        let pushes = (0..feeds)
            .filter_map(|feed| plan_push(&world, feed))
            .map(|push| deliver(&world, push));
        tokio::select! {
            () = stop.cancelled() => return,
            _ = join_all(pushes) => {}
        }
    }
}

/// One call to be made.
struct Push {
    feed: usize,
    webhook: Webhook,
    blobs: Vec<usize>,
}

fn plan_push(world: &World, feed: usize) -> Option<Push> {
    world.microsoft.with_subscription(feed, |subscription| {
        let webhook = subscription.webhook.as_ref()?;
        // Asked for by those alone that have a webhook: there may be fifty thousand that have none.
        let now_ms = world.now_ms();
        if webhook.is_disabled || webhook.is_expired(now_ms) {
            return None;
        }
        let is_due = webhook
            .push
            .not_before
            .is_none_or(|at| at <= Instant::now());
        if subscription.state != State::Enabled || !is_due {
            return None;
        }
        let all = world.plan.pushable(feed, webhook.push.from_ms, now_ms);
        let blobs: Vec<usize> = all
            .iter()
            .skip(webhook.push.done)
            .take(BATCH)
            .copied()
            .collect();
        (!blobs.is_empty()).then(|| Push {
            feed,
            webhook: webhook.clone(),
            blobs,
        })
    })?
}

async fn deliver(world: &World, push: Push) {
    let body = body_of(world, &push.blobs);
    let status = send(request(world, &push.webhook).body(body)).await;
    world
        .requests
        .note(RequestKind::WebhookNotification, status);
    let now_ms = world.now_ms();
    let is_success = status == 200;
    if is_success {
        for blob in push.blobs.iter().filter_map(|&at| world.plan.blobs.get(at)) {
            blob.mark_notified();
        }
    }
    world
        .microsoft
        .with_subscription(push.feed, |subscription| {
            let room = KEPT_ROWS.saturating_sub(subscription.sent.len());
            let rows = push.blobs.iter().take(room).map(|&blob| Sent {
                blob,
                sent_ms: now_ms,
                is_success,
            });
            subscription.sent.extend(rows);
            // A start in the meantime put another webhook here, which begins anew.
            let Some(webhook) = subscription.webhook.as_mut() else {
                return;
            };
            if webhook.address != push.webhook.address
                || webhook.push.done != push.webhook.push.done
            {
                return;
            }
            if is_success {
                webhook.push.done += push.blobs.len();
                webhook.push.failures = 0;
                webhook.push.not_before = None;
            } else {
                webhook.push.failures += 1;
                let doublings = (webhook.push.failures - 1).min(16);
                webhook.push.not_before =
                    Some(Instant::now() + world.options.webhook_retry * 2u32.pow(doublings));
                webhook.is_disabled = webhook.push.failures >= world.options.webhook_max_failures;
            }
        });
}

fn body_of(world: &World, blobs: &[usize]) -> String {
    let rows = blobs.iter().filter_map(|&at| notification(world, at));
    Value::from(rows.collect::<Vec<_>>()).to_string()
}

/// A blob as a notification names it.
pub(crate) fn notification(world: &World, at: usize) -> Option<Value> {
    let number = world.plan.blobs.get(at)?.tenant;
    let tenant = world.tenants.get(number)?;
    // Seen in captured traffic: a notification's contentId has the region twice, a listing's once.
    let mut row = entry(world, at, &format!("${}", region(number)))?;
    row["tenantId"] = tenant.tenant_id.as_str().into();
    row["clientId"] = tenant.client_id.as_str().into();
    Some(row)
}

fn request(world: &World, webhook: &Webhook) -> reqwest::RequestBuilder {
    let request = world
        .microsoft
        .client
        .post(&webhook.address)
        .timeout(DEADLINE)
        .header(CONTENT_TYPE, "application/json; charset=utf-8");
    match &webhook.auth_id {
        Some(auth_id) => request.header("Webhook-AuthID", auth_id),
        None => request,
    }
}

/// The status of the answer, 0 when there was none.
async fn send(request: reqwest::RequestBuilder) -> u16 {
    match request.send().await {
        Ok(response) => response.status().as_u16(),
        Err(error) => {
            tracing::debug!(%error, "a webhook did not answer");
            0
        }
    }
}
