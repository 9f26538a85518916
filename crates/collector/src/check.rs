//! Whether all that collecting needs is there, for a person who sets it up: a finding for each prerequisite, and where one is
//! not met, what is wrong and how to mend it. It only looks: nothing is started, registered, delivered or written down.

mod room;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use activity_api::{ContentType, NextStep, Subscription, Subscriptions, WebhookStatus};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::config::{Config, TenantConfig, WebhookConfig};
use crate::http::Transport;
use crate::microsoft::{self, Microsoft};
use crate::sinks::Sink;
use crate::status::text::{self, one_line};
use crate::telemetry::chain;
use crate::token;

pub use room::of_disks;

/// By how much this machine's clock may differ from Microsoft's without a word. A reply's date has whole seconds, and it was
/// some time under way.
const CLOCK_IS_FINE: SignedDuration = SignedDuration::from_secs(30);
/// From here on requests fail: signatures and windows are of the present time, give or take some minutes.
const CLOCK_IS_WRONG: SignedDuration = SignedDuration::from_mins(5);
/// So many tenants are looked at at once: a person waits.
const TENANTS_AT_ONCE: usize = 16;
/// How long the webhook's own address may take to answer; Microsoft is no more patient.
const WEBHOOK_ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// How a prerequisite stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is met.
    Fine,
    /// Nothing has to be done, but it is good to know.
    Note,
    /// It is not met, and nothing or not all is collected until it is.
    Failing,
}

/// What was found of one prerequisite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Of what.
    pub subject: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found, and how to mend it where it must be: one line, and no secret is in it.
    pub says: String,
}

impl Finding {
    /// A prerequisite that is met.
    pub fn fine(subject: impl Into<String>, says: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Fine, says)
    }

    /// Something that is good to know.
    pub fn note(subject: impl Into<String>, says: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Note, says)
    }

    /// A prerequisite that is not met.
    pub fn failing(subject: impl Into<String>, says: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Failing, says)
    }

    fn new(subject: impl Into<String>, verdict: Verdict, says: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            verdict,
            says: one_line(&says.into()),
        }
    }
}

/// What one request for the list of its subscriptions tells of each tenant: whether its application can sign in and may read,
/// and what is subscribed to; and of this machine's clock.
pub async fn of_tenants(
    config: &Config,
    http: &Arc<dyn Transport>,
    clock: &Arc<dyn Clock>,
) -> Vec<Finding> {
    let asked: Vec<_> = config
        .tenants
        .iter()
        .map(|tenant| {
            let microsoft = Microsoft::new(
                tenant,
                config.fetch.requests_per_minute,
                Arc::clone(http),
                Arc::clone(clock),
            );
            let webhook = config.webhook.as_ref();
            async move { of_tenant(&microsoft, tenant, webhook, &**clock).await }.boxed()
        })
        .collect();
    let found: Vec<_> = futures::stream::iter(asked)
        .buffered(TENANTS_AT_ONCE)
        .collect()
        .await;
    // All of them speak of one clock.
    let off_by = found.iter().find_map(|(_, off_by)| *off_by);
    let findings = found.into_iter().flat_map(|(findings, _)| findings);
    findings.chain(off_by.map(of_clock)).collect()
}

/// Of one tenant, and by how much this machine's clock is ahead of Microsoft's, where it told.
async fn of_tenant(
    microsoft: &Microsoft,
    tenant: &TenantConfig,
    webhook: Option<&WebhookConfig>,
    clock: &dyn Clock,
) -> (Vec<Finding>, Option<SignedDuration>) {
    let whose = |what: &str| format!("tenant {}: {what}", tenant.id);
    let signed_in = Finding::fine(
        whose("sign-in"),
        format!("{} issues a token", tenant.hosts.login),
    );
    match microsoft.list_subscriptions_dated().await {
        Err(error @ microsoft::Error::Token(_)) => {
            let says = explain(&error, tenant.hosts.login.as_str());
            (vec![Finding::failing(whose("sign-in"), says)], None)
        }
        Err(error) => {
            let says = explain(&error, tenant.hosts.activity.as_str());
            let failing = Finding::failing(whose("activity feed"), says);
            (vec![signed_in, failing], None)
        }
        Ok((subscriptions, date)) => {
            let mut findings = vec![signed_in];
            findings.extend(of_credential(tenant, clock.now()));
            let subject = whose("subscriptions");
            findings.extend(of_subscriptions(
                &subject,
                &subscriptions,
                &tenant.content_types,
                webhook,
            ));
            (findings, date.map(|date| clock.now().duration_since(date)))
        }
    }
}

/// How long a credential will do that is taken today, where it says so itself.
fn of_credential(tenant: &TenantConfig, now: Timestamp) -> Option<Finding> {
    let ends_at = tenant.credential.ends_at()?;
    let subject = format!("tenant {}: certificate", tenant.id);
    Some(match token::ending(ends_at, now) {
        Some(ending) => Finding::note(subject, ending),
        None => Finding::fine(subject, format!("good until {}", text::instant(ends_at))),
    })
}

/// What is wrong, with the mend where one is known.
fn explain(error: &microsoft::Error, host: &str) -> String {
    let told = chain(error);
    if let NextStep::StopTenant(reason) = error.next_step() {
        let reason = reason.to_string();
        // A refused credential says it already, and which number Microsoft gave.
        return match told.contains(&reason) {
            true => told,
            false => reason,
        };
    }
    let is_unreached = matches!(
        error,
        microsoft::Error::Network(_) | microsoft::Error::Token(crate::token::Error::Network(_))
    );
    match is_unreached {
        true => format!(
            "{told}; {host} must be reached from this machine: look at its name service, the firewall, the proxy and tls.ca_file"
        ),
        false => told,
    }
}

/// The content types, those that stand alike in one finding.
fn of_subscriptions(
    subject: &str,
    subscriptions: &Subscriptions,
    content_types: &[ContentType],
    webhook: Option<&WebhookConfig>,
) -> Vec<Finding> {
    let mut alike: Vec<((Verdict, String), Vec<&str>)> = Vec::new();
    for &content_type in content_types {
        let state = of_subscription(subscriptions.of(content_type), webhook);
        match alike.iter_mut().find(|(known, _)| *known == state) {
            Some((_, names)) => names.push(content_type.as_str()),
            None => alike.push((state, vec![content_type.as_str()])),
        }
    }
    let findings = alike.into_iter().map(|((verdict, says), names)| {
        Finding::new(subject, verdict, format!("{}: {says}", names.join(", ")))
    });
    findings.collect()
}

fn of_subscription(
    found: Option<&Subscription>,
    webhook: Option<&WebhookConfig>,
) -> (Verdict, String) {
    let note = |says: &str| (Verdict::Note, says.to_owned());
    let Some(found) = found else {
        return note(
            "not subscribed to yet; `run` subscribes, and the first records may take Microsoft twelve hours",
        );
    };
    if !found.is_enabled {
        return note(
            "disabled; `run` starts it again, and what became available meanwhile cannot be had",
        );
    }
    let Some(wanted) = webhook else {
        return (Verdict::Fine, "subscribed to".to_owned());
    };
    let how = match &found.webhook {
        Some(found) if found.address != wanted.public_url => {
            // A query may be a key.
            let address = found.address.split('?').next().unwrap_or_default();
            format!("notifications go to {address}")
        }
        Some(found) if found.status == WebhookStatus::Enabled => {
            return (
                Verdict::Fine,
                "subscribed to, with notifications".to_owned(),
            );
        }
        Some(_) => "Microsoft has stopped its notifications".to_owned(),
        None => "without notifications".to_owned(),
    };
    note(&format!(
        "subscribed to, but {how}; until `run` has mended that, records come by polling alone"
    ))
}

fn of_clock(difference: SignedDuration) -> Finding {
    let subject = "clock";
    let by = format!(
        "{} s {} Microsoft's",
        difference.as_secs().abs(),
        if difference.is_negative() {
            "behind"
        } else {
            "ahead of"
        }
    );
    if difference.abs() <= CLOCK_IS_FINE {
        Finding::fine(subject, "this machine's clock agrees with Microsoft's")
    } else if difference.abs() < CLOCK_IS_WRONG {
        Finding::note(subject, format!("this machine's clock is {by}"))
    } else {
        Finding::failing(
            subject,
            format!("this machine's clock is {by}: set it right, by NTP for good"),
        )
    }
}

/// Whether a sink would take records.
pub async fn of_sink(sink: &dyn Sink) -> Finding {
    let subject = format!("sink {}", sink.name());
    match sink.probe().await {
        Ok(says) => Finding::fine(subject, says),
        Err(error) => {
            let says = chain(&error);
            // Who reads the finding knows which sink it is of.
            let says = says.strip_prefix(&format!("{subject}: ")).unwrap_or(&says);
            Finding::failing(subject, says)
        }
    }
}

/// Whether something answers at the address that Microsoft is to post to. That Microsoft gets there as well cannot be known
/// from here, nor that it does not: an address may lead out of a network and not back in.
pub async fn of_webhook(http: &Arc<dyn Transport>, webhook: &WebhookConfig) -> Finding {
    let subject = "webhook.public_url";
    let asked = http::Request::get(webhook.public_url.as_str()).body(Bytes::new());
    let Ok(request) = asked else {
        return Finding::failing(subject, "it is no address that a request can be sent to");
    };
    let from_outside =
        "Microsoft must reach it from the internet, with a certificate from a public authority";
    let answer = tokio::time::timeout(WEBHOOK_ANSWERS_WITHIN, http.send(request)).await;
    let why = match answer {
        Ok(Ok(response)) => {
            // Without the address: its query may be a key.
            let says = format!("it answers with status {}", response.status());
            return match response.status().is_server_error() {
                false => Finding::fine(subject, says),
                true => Finding::note(
                    subject,
                    format!("{says}; is the collector running behind it? {from_outside}"),
                ),
            };
        }
        Ok(Err(error)) => chain(&error),
        Err(_elapsed) => "no answer in time".to_owned(),
    };
    Finding::note(
        subject,
        format!(
            "not reached from this machine: {why}; {from_outside}. Polling finds everything without it, later"
        ),
    )
}
