//! `subscriptions list|start|stop`, for every configured tenant.

use std::process::ExitCode;
use std::sync::Arc;

use activity_api::{ContentType, Webhook, WebhookStatus};
use anyhow::Context as _;
use collector::clock::{Clock, SystemClock};
use collector::config::{Config, TenantConfig};
use collector::http::{Client, Transport};
use collector::microsoft::Microsoft;

use crate::args::SubscriptionsAction;
use crate::exit;

pub(super) async fn subscriptions(
    config: &Config,
    action: SubscriptionsAction,
) -> anyhow::Result<ExitCode> {
    let http: Arc<dyn Transport> = Arc::new(Client::build(config.tls.ca_pem.as_deref())?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut failed = false;
    for tenant in &config.tenants {
        let microsoft = Microsoft::new(
            tenant,
            config.fetch.requests_per_minute,
            Arc::clone(&http),
            Arc::clone(&clock),
        );
        let result = match &action {
            SubscriptionsAction::List => list(tenant, &microsoft).await,
            SubscriptionsAction::Start { content_types } => {
                let webhook = config.webhook.as_ref().map(|webhook| Webhook {
                    address: webhook.public_url.clone(),
                    auth_id: Some(webhook.auth_id.clone()),
                    expiration: None,
                });
                start(
                    &chosen(content_types, tenant)?,
                    &microsoft,
                    webhook.as_ref(),
                )
                .await
            }
            SubscriptionsAction::Stop { content_types } => {
                stop(&chosen(content_types, tenant)?, &microsoft).await
            }
        };
        // One tenant's refusal is not the others'.
        if let Err(error) = result {
            failed = true;
            eprintln!("tenant {}: {error:#}", tenant.id);
        }
    }
    Ok(if failed {
        exit::FAILING.into()
    } else {
        ExitCode::SUCCESS
    })
}

async fn list(tenant: &TenantConfig, microsoft: &Microsoft) -> anyhow::Result<()> {
    let subscriptions = microsoft.list_subscriptions().await?;
    println!("tenant {}", tenant.id);
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
        println!("  {content_type:<28} {state:<9} {configured:<15} {webhook}");
    }
    if subscriptions.unknown_count > 0 {
        println!(
            "  and {} of content types that this version does not know",
            subscriptions.unknown_count
        );
    }
    Ok(())
}

async fn start(
    content_types: &[ContentType],
    microsoft: &Microsoft,
    webhook: Option<&Webhook>,
) -> anyhow::Result<()> {
    for content_type in content_types {
        let started = microsoft.start_subscription(*content_type, webhook).await;
        started.with_context(|| format!("{content_type} cannot be started"))?;
        println!("tenant {}: {content_type} started", microsoft.tenant());
    }
    Ok(())
}

async fn stop(content_types: &[ContentType], microsoft: &Microsoft) -> anyhow::Result<()> {
    for content_type in content_types {
        let stopped = microsoft.stop_subscription(*content_type).await;
        stopped.with_context(|| format!("{content_type} cannot be stopped"))?;
        println!("tenant {}: {content_type} stopped", microsoft.tenant());
    }
    Ok(())
}

fn chosen(named: &[String], tenant: &TenantConfig) -> anyhow::Result<Vec<ContentType>> {
    if named.is_empty() {
        return Ok(tenant.content_types.clone());
    }
    named
        .iter()
        .map(|name| {
            name.parse::<ContentType>()
                .with_context(|| format!("`{name}` is no content type"))
        })
        .collect()
}
