//! The webhook's auth ids: the one that is configured or was generated, and, while it changes, the one before it. They
//! are kept in the ledger, where every process that answers at the door can read them.

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use ledger::Ledger;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::config::{SiteConfig, WebhookConfig};
use crate::web::ASK_AGAIN;

const KEY: &str = "webhook/auth-ids";
/// How long the one before is accepted: Microsoft goes on sending a notification that failed for hours.
const KEEP_PREVIOUS: Duration = Duration::from_secs(24 * 3600);
/// 256 bits: nobody guesses it, however many may ask.
const GENERATED_BYTES: usize = 32;

/// The auth ids in force. `Debug` shows none.
#[derive(Debug, Clone)]
pub struct AuthIds {
    /// What subscriptions are started with.
    pub current: SecretString,
    /// What notifications may still carry.
    pub previous: Option<SecretString>,
    /// Whether the current one was put in force just now, so that not every process knows it.
    pub is_fresh: bool,
}

/// Why there is no auth id.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger does not answer.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The machine gives no random bytes.
    #[error("the machine gives no random bytes")]
    Random,
}

/// The one struct that defines what the ledger keeps.
#[derive(Serialize, Deserialize)]
struct Fact {
    current: String,
    previous: Option<String>,
    changed_at: String,
}

/// The auth ids that the ledger has, for a door that was asked with one that it does not know.
///
/// # Errors
/// Only those of the ledger.
pub async fn recall(ledger: &dyn Ledger, now: Timestamp) -> Result<Option<AuthIds>, ledger::Error> {
    let fact = ledger.recall(KEY).await?;
    // What cannot be read is as good as none: a new one takes its place.
    Ok(fact
        .and_then(|text| serde_json::from_str::<Fact>(&text).ok())
        .map(|fact| {
            let is_still_accepted = fact
                .changed_at
                .parse::<Timestamp>()
                .is_ok_and(|at| now < at + KEEP_PREVIOUS);
            AuthIds {
                current: fact.current.into(),
                previous: fact
                    .previous
                    .filter(|_| is_still_accepted)
                    .map(SecretString::from),
                is_fresh: false,
            }
        }))
}

/// The auth ids to work with: `configured`, else the one in the ledger, else one that is generated now. A change is in
/// the ledger before this returns.
///
/// # Errors
/// When the ledger does not answer or the machine gives no random bytes.
///
/// # If interrupted
/// The ledger has the old ones or the new ones. Of two processes that generate one at once, the one that wrote last
/// decides: each takes what it reads back.
pub async fn settle(
    configured: Option<&SecretString>,
    ledger: &dyn Ledger,
    now: Timestamp,
) -> Result<AuthIds, Error> {
    let known = recall(ledger, now).await?;
    let current = match (configured, &known) {
        (Some(configured), Some(known)) if is_same(configured, &known.current) => {
            return Ok(known.clone());
        }
        (Some(configured), _) => configured.clone(),
        (None, Some(known)) => return Ok(known.clone()),
        (None, None) => generate()?,
    };
    let fact = Fact {
        current: current.expose_secret().to_owned(),
        previous: known.map(|known| known.current.expose_secret().to_owned()),
        changed_at: now.to_string(),
    };
    let text = serde_json::to_string(&fact).expect("a struct of texts always serializes");
    ledger.remember(KEY, &text).await?;
    let in_force = recall(ledger, now).await?;
    let in_force = in_force.unwrap_or(AuthIds {
        current,
        previous: None,
        is_fresh: true,
    });
    Ok(AuthIds {
        is_fresh: true,
        ..in_force
    })
}

/// Where Microsoft is to post, and with which auth id: a configured webhook's own, else, in a function app, the app's own
/// address with an auth id that is generated once. A fresh one is given out only when every door had time to learn of it:
/// Microsoft tries the address before it answers a start.
///
/// # Errors
/// As [`settle`].
///
/// # If interrupted
/// As [`settle`].
pub async fn webhook_in_force(
    configured: Option<&WebhookConfig>,
    site: Option<&SiteConfig>,
    ledger: &dyn Ledger,
    now: Timestamp,
) -> Result<Option<WebhookConfig>, Error> {
    let public_url = match (configured, site) {
        (Some(webhook), _) => webhook.public_url.clone(),
        (None, Some(site)) => format!("https://{}/api/o365/webhook", site.hostname),
        (None, None) => return Ok(None),
    };
    let ids = settle(configured.map(|webhook| &webhook.auth_id), ledger, now).await?;
    if ids.is_fresh {
        info!("the webhook's auth id is a new one, subscriptions are moved to it");
        // A configured one is known to every process that has the configuration.
        if configured.is_none() {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
    Ok(Some(WebhookConfig {
        public_url,
        auth_id: ids.current,
    }))
}

fn generate() -> Result<SecretString, Error> {
    let mut bytes = [0; GENERATED_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Random)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(text.into())
}

fn is_same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}
