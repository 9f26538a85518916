//! Keeping each tenant's subscriptions right: Microsoft makes content available only for content types that are
//! subscribed to, and notifies only of those whose webhook is enabled and points here.

#[cfg(test)]
mod tests;

use std::time::Duration;

use activity_api::{ContentType, NextStep, Subscriptions, Webhook, WebhookStatus};
use jiff::Timestamp;
use ledger::Ledger;
use tracing::{info, warn};

use crate::config::WebhookConfig;
use crate::microsoft::{self, Microsoft};

/// Microsoft asks for 15 minutes between two starts of one subscription.
const BETWEEN_STARTS: Duration = Duration::from_secs(15 * 60);

/// Why the subscriptions could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Microsoft refused, or was not reached.
    #[error(transparent)]
    Microsoft(#[from] microsoft::Error),
    /// The time of the last start is kept in the ledger.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

/// Starts every configured content type that is not subscribed to, is disabled, or whose webhook is not as configured.
/// How many were started.
///
/// # Errors
/// When the list cannot be had, or a start is refused for a reason that concerns the whole tenant.
///
/// # If interrupted
/// The start is noted before it is sent, so a restart does not send it again within Microsoft's 15 minutes; a start that
/// never went out is made up for then.
pub async fn keep_subscribed(
    microsoft: &Microsoft,
    content_types: &[ContentType],
    webhook: Option<&WebhookConfig>,
    ledger: &dyn Ledger,
    now: Timestamp,
) -> Result<usize, Error> {
    let tenant = microsoft.tenant();
    let subscriptions = microsoft.list_subscriptions().await?;
    let mut started_count = 0;
    for &content_type in content_types {
        if !needs_start(&subscriptions, content_type, webhook) {
            continue;
        }
        let fact = format!("subscription-start/{tenant}/{content_type}");
        let last: Option<Timestamp> = ledger
            .recall(&fact)
            .await?
            .and_then(|text| text.parse().ok());
        // A start in the future was noted by a clock that was wrong, and says nothing.
        if last.is_some_and(|last| last <= now && now < last + BETWEEN_STARTS) {
            continue;
        }
        ledger.remember(&fact, &now.to_string()).await?;
        match start(microsoft, content_type, webhook).await {
            Ok(()) => {
                info!(%tenant, %content_type, "subscription started");
                started_count += 1;
            }
            Err(error) if matches!(error.next_step(), NextStep::StopTenant(_)) => {
                return Err(error.into());
            }
            // One content type's trouble is not the others': a license may lack it.
            Err(error) => warn!(%tenant, %content_type, cause = %error, "subscription not started"),
        }
    }
    Ok(started_count)
}

/// Starts one, without its webhook where Microsoft does not accept that: polling alone finds everything, later.
async fn start(
    microsoft: &Microsoft,
    content_type: ContentType,
    webhook: Option<&WebhookConfig>,
) -> Result<(), microsoft::Error> {
    let webhook = webhook.map(|webhook| Webhook {
        address: webhook.public_url.clone(),
        auth_id: Some(webhook.auth_id.clone()),
        expiration: None,
    });
    match microsoft
        .start_subscription(content_type, webhook.as_ref())
        .await
    {
        Err(error)
            if webhook.is_some() && matches!(error.next_step(), NextStep::GoWithoutWebhook) =>
        {
            warn!(tenant = %microsoft.tenant(), %content_type, cause = %error, "microsoft does not accept the webhook, going on without it");
            microsoft.start_subscription(content_type, None).await
        }
        other => other,
    }
}

fn needs_start(
    subscriptions: &Subscriptions,
    content_type: ContentType,
    webhook: Option<&WebhookConfig>,
) -> bool {
    let Some(subscription) = subscriptions.of(content_type) else {
        return true;
    };
    if !subscription.is_enabled {
        return true;
    }
    match (webhook, &subscription.webhook) {
        // A webhook that somebody else registered stays: polling needs none, and taking it away is not ours to decide.
        (None, _) => false,
        (Some(_), None) => true,
        (Some(wanted), Some(found)) => {
            found.address != wanted.public_url || found.status != WebhookStatus::Enabled
        }
    }
}
