//! What a check-in says of the collector's health, in the codes of the original.

use activity_api::ContentType;
use alertlogic::azcollect::Health;
use jiff::Timestamp;
use ledger::Ledger;

use crate::config::WebhookConfig;
use crate::microsoft::Microsoft;
use crate::site::Site;
use crate::status::UpdateView;
use crate::subscriptions;
use crate::telemetry::chain;

/// The function app is not as it should be.
const SITE: &str = "ALAZU00001";
/// A subscription cannot be started.
const SUBSCRIPTION: &str = "O365000001";
/// The subscriptions could not be looked after at all.
const SUBSCRIPTIONS: &str = "O365000002";
/// Anything else.
const OTHER: &str = "ALAZU000004";

/// Something that is wrong with the collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthError {
    /// The original's code.
    pub code: &'static str,
    /// A sentence for a person, without secrets.
    pub what: String,
}

impl HealthError {
    pub(super) fn other(what: String) -> Self {
        Self { code: OTHER, what }
    }
}

/// What the service is told: the first error, as the original has it, and how an update stands where there is one.
pub(super) fn told(found: &[HealthError], update: Option<&UpdateView>) -> Health {
    let update = update.map(|update| format!("update: {}", update.summary));
    match found.first() {
        None => Health::Ok {
            details: update.into_iter().collect(),
        },
        Some(first) => Health::Error {
            error_code: first.code.to_owned(),
            details: std::iter::once(first.what.clone()).chain(update).collect(),
        },
    }
}

/// Whether the function app is as it should be, by Resource Manager.
pub(super) async fn of_site(site: &Site) -> Option<HealthError> {
    match site.state().await {
        Ok(state) => state.unhealthy_property().map(|(name, value)| HealthError {
            code: SITE,
            what: format!("the function app is not in order: its {name} is {value}"),
        }),
        Err(error) => Some(HealthError::other(format!(
            "the function app's state: {}",
            chain(&error)
        ))),
    }
}

/// Looks after a tenant's subscriptions, and tells what is wrong with them.
///
/// # If interrupted
/// As [`keep_subscribed`](subscriptions::keep_subscribed).
pub(super) async fn of_subscriptions(
    microsoft: &Microsoft,
    content_types: &[ContentType],
    webhook: Option<&WebhookConfig>,
    ledger: &dyn Ledger,
    now: Timestamp,
) -> Vec<HealthError> {
    let kept = subscriptions::keep_subscribed(microsoft, content_types, webhook, ledger, now).await;
    match kept {
        Ok(kept) => kept
            .troubles
            .into_iter()
            .map(|(content_type, trouble)| HealthError {
                code: SUBSCRIPTION,
                what: format!("Unable to start subscription {content_type}: {trouble}"),
            })
            .collect(),
        Err(error) => vec![HealthError {
            code: SUBSCRIPTIONS,
            what: format!(
                "the subscriptions cannot be looked after: {}",
                chain(&error)
            ),
        }],
    }
}
