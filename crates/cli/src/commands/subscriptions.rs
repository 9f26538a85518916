//! `subscriptions list|start|stop`, for every configured tenant.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use activity_api::{ContentType, Webhook, WebhookStatus};
use anyhow::Context as _;
use collector::clock::{Clock, SystemClock};
use collector::config::{Config, TenantConfig};
use collector::http::{Client, Transport};
use collector::microsoft::Microsoft;

use crate::args::SubscriptionsAction;
use crate::{exit, output};

pub(super) async fn subscriptions(
    config: &Config,
    action: SubscriptionsAction,
) -> anyhow::Result<ExitCode> {
    let http: Arc<dyn Transport> = Arc::new(Client::build(config.tls.ca_pem.as_deref())?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut failed = false;
    let mut written = Ok(());
    for tenant in &config.tenants {
        let microsoft = Microsoft::new(
            tenant,
            config.fetch.requests_per_minute,
            Arc::clone(&http),
            Arc::clone(&clock),
        );
        let mut lines = String::new();
        let result = match &action {
            SubscriptionsAction::List => list(tenant, &microsoft, &mut lines).await,
            SubscriptionsAction::Start { content_types } => {
                let webhook = config.webhook.as_ref().map(|webhook| Webhook {
                    address: webhook.public_url.clone(),
                    auth_id: Some(webhook.auth_id.clone()),
                    expiration: None,
                });
                start(
                    chosen(content_types, tenant),
                    &microsoft,
                    webhook.as_ref(),
                    &mut lines,
                )
                .await
            }
            SubscriptionsAction::Stop { content_types } => {
                stop(content_types, &microsoft, &mut lines).await
            }
        };
        // That nobody reads is no reason to leave the other tenants undone: they were asked for.
        written = written.and(output::write(lines));
        // One tenant's refusal is not the others'.
        if let Err(error) = result {
            failed = true;
            output::say(format_args!("tenant {}: {error:#}", tenant.id));
        }
    }
    output::or_closed(written)?;
    Ok(if failed {
        exit::FAILING.into()
    } else {
        ExitCode::SUCCESS
    })
}

async fn list(
    tenant: &TenantConfig,
    microsoft: &Microsoft,
    lines: &mut String,
) -> anyhow::Result<()> {
    let subscriptions = microsoft.list_subscriptions().await?;
    writeln!(lines, "tenant {}", tenant.id)?;
    for content_type in ContentType::ALL {
        let configured = if tenant.content_types.contains(&content_type) {
            "configured"
        } else {
            "not configured"
        };
        let (state, webhook) = match subscriptions.of(content_type) {
            None => ("absent", "no webhook".to_owned()),
            Some(subscription) => {
                let state = if subscription.is_enabled {
                    "enabled"
                } else {
                    "disabled"
                };
                let webhook =
                    subscription
                        .webhook
                        .as_ref()
                        .map_or("no webhook".to_owned(), |webhook| {
                            let status = match webhook.status {
                                WebhookStatus::Enabled => "enabled",
                                WebhookStatus::Disabled => "disabled",
                                WebhookStatus::Expired => "expired",
                                WebhookStatus::Unknown => "in an unknown state",
                            };
                            format!("webhook {status} at {}", webhook.address)
                        });
                (state, webhook)
            }
        };
        writeln!(
            lines,
            "  {content_type:<28} {state:<9} {configured:<15} {webhook}"
        )?;
    }
    if subscriptions.unknown_count > 0 {
        writeln!(
            lines,
            "  and {} of content types that this version does not know",
            subscriptions.unknown_count
        )?;
    }
    Ok(())
}

async fn start(
    content_types: &[ContentType],
    microsoft: &Microsoft,
    webhook: Option<&Webhook>,
    lines: &mut String,
) -> anyhow::Result<()> {
    for content_type in content_types {
        let started = microsoft.start_subscription(*content_type, webhook).await;
        started.with_context(|| format!("{content_type} cannot be started"))?;
        writeln!(
            lines,
            "tenant {}: {content_type} started",
            microsoft.tenant()
        )?;
    }
    Ok(())
}

async fn stop(
    content_types: &[ContentType],
    microsoft: &Microsoft,
    lines: &mut String,
) -> anyhow::Result<()> {
    for content_type in content_types {
        let stopped = microsoft.stop_subscription(*content_type).await;
        stopped.with_context(|| format!("{content_type} cannot be stopped"))?;
        writeln!(
            lines,
            "tenant {}: {content_type} stopped",
            microsoft.tenant()
        )?;
    }
    Ok(())
}

/// The content types named, or all that are configured.
fn chosen<'a>(named: &'a [ContentType], tenant: &'a TenantConfig) -> &'a [ContentType] {
    if named.is_empty() {
        &tenant.content_types
    } else {
        named
    }
}
