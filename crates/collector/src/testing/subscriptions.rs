//! Subscriptions as Microsoft lists them, and the webhook that tests configure.

use secrecy::SecretString;

use super::Answer;
use crate::config::WebhookConfig;

/// The configured webhook's address.
pub(crate) const WEBHOOK_URL: &str = "https://collector.example.net/api/o365/webhook";

/// The configured webhook.
pub(crate) fn webhook() -> WebhookConfig {
    WebhookConfig {
        public_url: WEBHOOK_URL.to_owned(),
        auth_id: SecretString::from("s3cr3t"),
    }
}

/// A subscription with its webhook, which is `null` or a [`hook`].
pub(crate) fn subscription(content_type: &str, status: &str, webhook: &str) -> String {
    format!(r#"{{"contentType":"{content_type}","status":"{status}","webhook":{webhook}}}"#)
}

/// A subscription's webhook, with the configured one's auth id.
pub(crate) fn hook(status: &str, address: &str) -> String {
    format!(r#"{{"status":"{status}","address":"{address}","authId":"s3cr3t","expiration":null}}"#)
}

/// The list of them.
pub(crate) fn list(entries: &[String]) -> Answer {
    Answer::ok(format!("[{}]", entries.join(",")))
}
