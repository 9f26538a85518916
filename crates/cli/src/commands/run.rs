//! `run`: the long-running host, and its single pass.

use std::process::ExitCode;

use anyhow::Context as _;
use collector::config::Config;
use collector::web;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::assembly::Assembly;
use crate::exit;

pub(super) async fn run(
    config: &Config,
    once: bool,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let assembly = Assembly::build(config)?;
    if once {
        return run_once(&assembly, stop).await;
    }
    let listener = TcpListener::bind(config.listen.address)
        .await
        .with_context(|| {
            format!(
                "listen.address: {} cannot be listened on",
                config.listen.address
            )
        })?;
    let address = listener.local_addr()?;
    assembly.pipeline.start().await?;
    info!(%address, tenants = config.tenants.len(), sinks = config.sinks.len(), "collecting; status page at http://{address}/");
    run_with_door(&assembly, listener, stop).await;
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Collects and answers at the door until `stop`. The door closes last, so that a notification which comes while work
/// under way ends is still noted.
pub(super) async fn run_with_door(
    assembly: &Assembly,
    listener: TcpListener,
    stop: &CancellationToken,
) {
    let closing = CancellationToken::new();
    let closed = closing.clone();
    let door = tokio::spawn(web::serve(
        listener,
        web::router(assembly.web()),
        async move { closed.cancelled().await },
    ));
    let update = async {
        if let Some(updater) = &assembly.updater {
            updater.run_until(stop).await;
        }
    };
    tokio::join!(
        assembly.pipeline.run_until(stop),
        assembly.master.run_until(stop),
        update
    );
    closing.cancel();
    if let Err(cause) = door.await {
        tracing::error!(%cause, "the door ended by a defect");
    }
}

async fn run_once(assembly: &Assembly, stop: &CancellationToken) -> anyhow::Result<ExitCode> {
    assembly.pipeline.start().await?;
    assembly.master.run_if_due(stop).await;
    let step = assembly.pipeline.run_once(stop).await?;
    // The records are where they belong, whatever becomes of this.
    if let Err(cause) = assembly.pipeline.compact_if_due(stop).await {
        warn!(%cause, "the ledger could not be made smaller");
    }
    info!(
        new_blobs = step.new_blobs,
        delivered_blobs = step.delivery.delivered_blobs,
        delivered_records = step.delivery.delivered_records,
        failed_listings = step.failed_listings,
        waiting_blobs = step.waiting_blobs,
        quarantined = step.delivery.quarantined,
        expired_blobs = step.delivery.expired_blobs,
        "one pass done"
    );
    Ok(if step.is_clean() {
        ExitCode::SUCCESS
    } else {
        exit::FAILING.into()
    })
}
