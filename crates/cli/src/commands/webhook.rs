//! `webhook`: does with one notification what the function O365WebHook and what follows it do, here and once.

use std::io::{Read as _, stdin};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use collector::discover::notify::{Noted, note_notification};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::assembly::Assembly;
use crate::exit;
use crate::functions::local::LocalSettings;

/// As much as the door takes.
const MAX_BYTES: u64 = 1024 * 1024;

pub(super) async fn webhook(
    settings: &LocalSettings,
    notification: &Path,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let config = settings.config()?;
    let body = read(notification)?;
    let assembly = Assembly::build(&config)?;
    assembly.pipeline.start().await?;
    let feeds = assembly.pipeline.feeds();
    let noted = note_notification(&body, &feeds, &*assembly.ledger, assembly.clock.now());
    let noted = noted.await.context("the notification cannot be noted")?;
    let counts = assembly.pipeline.deliver_due_once(stop).await?;
    let Noted {
        new_count,
        known_count,
        ignored_count,
        refused_count,
    } = noted;
    info!(
        new_count,
        known_count,
        ignored_count,
        refused_count,
        delivered_blobs = counts.delivered_blobs,
        delivered_records = counts.delivered_records,
        retried_blobs = counts.retried_blobs,
        quarantined = counts.quarantined,
        expired_blobs = counts.expired_blobs,
        "one notification done"
    );
    let is_fine =
        refused_count == 0 && counts.retried_blobs + counts.quarantined + counts.expired_blobs == 0;
    Ok(match is_fine {
        true => ExitCode::SUCCESS,
        false => exit::FAILING.into(),
    })
}

/// The notification's body; `-` is standard input.
fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let read = if file == Path::new("-") {
        stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut body)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut body))
    };
    read.with_context(|| format!("the notification {} cannot be read", file.display()))?;
    anyhow::ensure!(
        body.len() as u64 <= MAX_BYTES,
        "the notification {} is longer than 1 MiB",
        file.display()
    );
    Ok(body)
}
