//! Keeping each tenant's subscriptions right: Microsoft makes content available only for content types that are
//! subscribed to, and notifies only of those whose webhook is enabled and points here.

#[cfg(test)]
mod tests;

use std::time::Duration;

use activity_api::{ContentType, NextStep, Subscriptions, Webhook, WebhookStatus};
use jiff::Timestamp;
use ledger::Ledger;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
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

/// What looking after the subscriptions came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The content types that were started.
    pub started: Vec<ContentType>,
    /// The content types that are not as they should be, and why. Whether that was found just now or at a start less
    /// than 15 minutes ago.
    pub troubles: Vec<(ContentType, String)>,
}

/// What the ledger keeps of a content type's last start.
#[derive(Serialize, Deserialize)]
struct StartFact {
    at: String,
    /// The auth id that it was started with, as a fingerprint.
    auth_id: Option<String>,
    /// What came of it, when it was not what was wanted.
    trouble: Option<String>,
}

/// Starts every configured content type that is not subscribed to, is disabled, or whose webhook is not as configured.
///
/// # Errors
/// When the list cannot be had, or a start is refused for a reason that concerns the whole tenant.
///
/// # If interrupted
/// The start is noted before it is sent, so a restart does not send it again within Microsoft's 15 minutes; a start that
/// never went out is made up for then. Two processes that look after one tenant at once may both start what neither has
/// noted yet: the second start finds the subscription as it should be and changes nothing.
pub async fn keep_subscribed(
    microsoft: &Microsoft,
    content_types: &[ContentType],
    webhook: Option<&WebhookConfig>,
    ledger: &dyn Ledger,
    now: Timestamp,
) -> Result<Kept, Error> {
    let tenant = microsoft.tenant();
    let subscriptions = microsoft.list_subscriptions().await?;
    let auth_id = webhook.map(|webhook| fingerprint(&webhook.auth_id));
    let mut kept = Kept::default();
    for &content_type in content_types {
        let key = format!("subscription-start/{tenant}/{content_type}");
        let last = ledger
            .recall(&key)
            .await?
            .map(|text| StartFact::read(&text));
        if !needs_start(&subscriptions, content_type, webhook, last.as_ref()) {
            continue;
        }
        if let Some(last) = &last
            && last.is_within(BETWEEN_STARTS, now)
        {
            let trouble = last.trouble.clone();
            kept.troubles
                .extend(trouble.map(|trouble| (content_type, trouble)));
            continue;
        }
        let mut fact = StartFact {
            at: now.to_string(),
            auth_id: auth_id.clone(),
            trouble: None,
        };
        ledger.remember(&key, &fact.write()).await?;
        match start(microsoft, content_type, webhook).await {
            Ok(None) => {
                info!(%tenant, %content_type, "subscription started");
                kept.started.push(content_type);
            }
            Ok(Some(trouble)) => {
                kept.started.push(content_type);
                fact.trouble = Some(trouble);
            }
            // None went out, so that the next look need not wait.
            Err(error @ microsoft::Error::Token(_)) => {
                let before = last.unwrap_or_else(StartFact::never);
                ledger.remember(&key, &before.write()).await?;
                return Err(error.into());
            }
            Err(error) if matches!(error.next_step(), NextStep::StopTenant(_)) => {
                return Err(error.into());
            }
            // One content type's trouble is not the others': a license may lack it.
            Err(error) => {
                warn!(%tenant, %content_type, cause = %error, "subscription not started");
                fact.trouble = Some(error.to_string());
            }
        }
        if let Some(trouble) = fact.trouble.clone() {
            ledger.remember(&key, &fact.write()).await?;
            kept.troubles.push((content_type, trouble));
        }
    }
    Ok(kept)
}

impl StartFact {
    /// What is written where there was nothing before, and reads as a start of no time.
    fn never() -> Self {
        Self {
            at: String::new(),
            auth_id: None,
            trouble: None,
        }
    }

    /// A fact of an earlier format is the bare time.
    fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self {
            at: text.to_owned(),
            auth_id: None,
            trouble: None,
        })
    }

    fn write(&self) -> String {
        serde_json::to_string(self).expect("a struct of texts always serializes")
    }

    /// A start in the future was noted by a clock that was wrong, and says nothing.
    fn is_within(&self, span: Duration, now: Timestamp) -> bool {
        self.at
            .parse::<Timestamp>()
            .is_ok_and(|at| at <= now && now < at + span)
    }
}

/// Enough to tell whether an auth id is the same one, and too little to find it.
fn fingerprint(auth_id: &SecretString) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, auth_id.expose_secret().as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Starts one, without its webhook where Microsoft does not accept that: polling alone finds everything, later. What is
/// wrong with it then.
async fn start(
    microsoft: &Microsoft,
    content_type: ContentType,
    webhook: Option<&WebhookConfig>,
) -> Result<Option<String>, microsoft::Error> {
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
            let trouble = format!("started without its webhook: {error}");
            microsoft.start_subscription(content_type, None).await?;
            Ok(Some(trouble))
        }
        other => other.map(|()| None),
    }
}

fn needs_start(
    subscriptions: &Subscriptions,
    content_type: ContentType,
    webhook: Option<&WebhookConfig>,
    last: Option<&StartFact>,
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
            // Where the list leaves the auth id out, what it was started with last is what it has.
            let has_auth_id = match &found.auth_id {
                Some(found) => found.is(&wanted.auth_id),
                None => last.is_some_and(|last| {
                    last.auth_id.as_deref() == Some(fingerprint(&wanted.auth_id).as_str())
                }),
            };
            found.address != wanted.public_url
                || found.status != WebhookStatus::Enabled
                || !has_auth_id
        }
    }
}
