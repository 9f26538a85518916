//! Starting, stopping and listing subscriptions.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{refused, webhook};
use crate::http::{Call, Reply, empty, json};
use crate::plan::feed_of;
use crate::world::World;
use crate::{ContentType, times};

/// One tenant's subscription to one content type.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    pub(crate) state: State,
    pub(crate) webhook: Option<Webhook>,
    /// What was pushed, for the listing of notifications.
    pub(crate) sent: Vec<Sent>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    NeverStarted,
    Enabled,
    Disabled,
}

/// Where to push what becomes available.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) address: String,
    pub(crate) auth_id: Option<String>,
    pub(crate) expiration: Expiration,
    pub(crate) is_disabled: bool,
    pub(crate) push: webhook::PushState,
}

/// A webhook's end, as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expiration {
    /// Absent, null or empty.
    Never,
    At {
        text: String,
        at_ms: i64,
    },
}

/// One notification of one blob.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) blob: usize,
    pub(crate) sent_ms: i64,
    pub(crate) is_success: bool,
}

impl Webhook {
    pub(crate) fn is_expired(&self, now_ms: i64) -> bool {
        matches!(self.expiration, Expiration::At { at_ms, .. } if at_ms <= now_ms)
    }

    fn has_same_settings(&self, other: &Self) -> bool {
        self.address == other.address
            && self.auth_id == other.auth_id
            && self.expiration == other.expiration
    }

    fn json(&self, now_ms: i64) -> Value {
        let status = match (self.is_disabled, self.is_expired(now_ms)) {
            (true, _) => "disabled",
            (false, true) => "expired",
            (false, false) => "enabled",
        };
        let expiration = match &self.expiration {
            Expiration::Never => Value::Null,
            Expiration::At { text, .. } => Value::from(text.as_str()),
        };
        json!({"status": status, "address": self.address, "authId": self.auth_id, "expiration": expiration})
    }
}

impl Subscription {
    fn json(&self, content_type: ContentType, now_ms: i64) -> Value {
        let status = if self.state == State::Enabled {
            "enabled"
        } else {
            "disabled"
        };
        let webhook = self.webhook.as_ref().map(|webhook| webhook.json(now_ms));
        json!({"contentType": content_type.as_str(), "status": status, "webhook": webhook})
    }
}

/// The content type that a request names.
///
/// # Errors
/// AF20001 without one, AF20020 for an unknown one.
pub(crate) fn content_type_of(call: &Call) -> Result<ContentType, Reply> {
    let Some(text) = call
        .parameter("contentType")
        .filter(|text| !text.is_empty())
    else {
        return Err(refused("AF20001", "Missing parameter: contentType."));
    };
    text.parse()
        .map_err(|_| refused("AF20020", "The specified content type is not valid."))
}

#[derive(Deserialize)]
struct StartBody {
    webhook: Option<WebhookBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WebhookBody {
    address: String,
    auth_id: Option<String>,
    expiration: Option<String>,
}

/// `POST subscriptions/start`.
pub(crate) async fn start(world: &World, tenant: usize, call: &Call) -> Reply {
    let content_type = match content_type_of(call) {
        Ok(content_type) => content_type,
        Err(reply) => return reply,
    };
    let feed = feed_of(tenant, content_type);
    let now_ms = world.now_ms();
    let wanted = match wanted_webhook(call, now_ms) {
        Ok(wanted) => wanted,
        Err(reply) => return reply,
    };
    let is_unchanged = world.microsoft.with_subscription(feed, |subscription| {
        subscription.state == State::Enabled
            && match (&subscription.webhook, &wanted) {
                (None, None) => true,
                (Some(has), Some(wants)) => {
                    has.has_same_settings(wants) && !has.is_disabled && !has.is_expired(now_ms)
                }
                _ => false,
            }
    });
    if is_unchanged == Some(true) {
        // Undocumented; seen in captured traffic.
        return refused(
            "AF20024",
            "The subscription is already enabled. No property change.",
        );
    }
    if let Some(webhook) = &wanted
        && let Err(reason) = webhook::validate(world, webhook).await
    {
        return refused(
            "AF20021",
            &format!(
                "The webhook endpoint ({}) could not be validated. {reason}",
                webhook.address
            ),
        );
    }
    let body = world.microsoft.with_subscription(feed, |subscription| {
        subscription.state = State::Enabled;
        subscription.webhook = wanted;
        subscription.json(content_type, now_ms)
    });
    json(StatusCode::OK, &body.unwrap_or_default())
}

fn wanted_webhook(call: &Call, now_ms: i64) -> Result<Option<Webhook>, Reply> {
    let body = call.body.trim_ascii();
    // A quoted string in place of an object was once seen to be taken as no webhook.
    if body.is_empty() || body.starts_with(b"\"") {
        return Ok(None);
    }
    let body: StartBody = serde_json::from_slice(body).map_err(|_| {
        refused(
            "AF20002",
            "Invalid parameter type: webhook. Expected type: object",
        )
    })?;
    let Some(webhook) = body.webhook else {
        return Ok(None);
    };
    let expiration = match webhook.expiration.filter(|text| !text.is_empty()) {
        None => Expiration::Never,
        Some(text) => {
            let at_ms = times::parse_request(&text).ok_or_else(|| {
                refused(
                    "AF20002",
                    "Invalid parameter type: expiration. Expected type: datetime",
                )
            })?;
            if at_ms <= now_ms {
                return Err(refused(
                    "AF20003",
                    &format!("Expiration {text} provided is set to past date and time."),
                ));
            }
            Expiration::At { text, at_ms }
        }
    };
    Ok(Some(Webhook {
        address: webhook.address,
        auth_id: webhook.auth_id.filter(|id| !id.is_empty()),
        expiration,
        is_disabled: false,
        push: webhook::PushState::new(now_ms),
    }))
}

/// `POST subscriptions/stop`.
pub(crate) fn stop(world: &World, tenant: usize, call: &Call) -> Reply {
    let content_type = match content_type_of(call) {
        Ok(content_type) => content_type,
        Err(reply) => return reply,
    };
    let stopped =
        world
            .microsoft
            .with_subscription(feed_of(tenant, content_type), |subscription| {
                let was_started = subscription.state != State::NeverStarted;
                if was_started {
                    subscription.state = State::Disabled;
                }
                was_started
            });
    match stopped {
        Some(true) => empty(StatusCode::OK),
        _ => no_subscription(),
    }
}

/// `GET subscriptions/list`.
pub(crate) fn list(world: &World, tenant: usize) -> Reply {
    let now_ms = world.now_ms();
    let rows: Vec<Value> = ContentType::ALL
        .into_iter()
        .filter_map(|content_type| {
            world
                .microsoft
                .with_subscription(feed_of(tenant, content_type), |subscription| {
                    (subscription.state != State::NeverStarted)
                        .then(|| subscription.json(content_type, now_ms))
                })?
        })
        .collect();
    json(StatusCode::OK, &Value::from(rows))
}

/// Whether content may be listed.
///
/// # Errors
/// AF20022 without a subscription, AF20023 with a disabled one.
pub(crate) fn check_enabled(world: &World, feed: usize) -> Result<(), Reply> {
    match world
        .microsoft
        .with_subscription(feed, |subscription| subscription.state)
    {
        Some(State::Enabled) => Ok(()),
        Some(State::Disabled) => Err(refused("AF20023", "The subscription was disabled.")),
        _ => Err(no_subscription()),
    }
}

fn no_subscription() -> Reply {
    refused(
        "AF20022",
        "No subscription found for the specified content type.",
    )
}
