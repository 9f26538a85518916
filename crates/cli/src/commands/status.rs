//! `status`: what the running collector says of itself, which knows why something fails; without one, what the ledger knows.

use std::process::ExitCode;

use collector::clock::{Clock, SystemClock};
use collector::config::{Config, SinkConfig};
use collector::discover::lateness::recall_lateness;
use collector::master;
use collector::status::{self, StatusView};
use collector::{updater, web};

use super::opening;
use crate::args::Format;
use crate::output;

pub(super) async fn status(config: &Config, format: Format) -> anyhow::Result<ExitCode> {
    let view = match web::ask_status(config.listen.address).await {
        Ok(view) => view,
        Err(why) => {
            output::say(format_args!("{why}; from the ledger alone"));
            read_ledger(config).await?
        }
    };
    match format {
        Format::Text => output::write(status::to_text(&view))?,
        Format::Json => output::write_line(format_args!("{:#}", serde_json::to_value(&view)?))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn read_ledger(config: &Config) -> anyhow::Result<StatusView> {
    let ledger = opening::for_reading(config)?;
    let now = SystemClock.now();
    let view = status::view(&ledger.summary(now).await?, None, now);
    let sources = config.sinks.iter().filter_map(|sink| match sink {
        SinkConfig::AlertLogic(sink) => Some(&sink.name),
        _ => None,
    });
    let sources = sources.flat_map(|sink| {
        let tenants = config.tenants.iter();
        tenants.map(move |tenant| (sink.clone(), tenant.id))
    });
    let checkins = master::recall_checkins(&*ledger, sources.collect()).await?;
    let lateness = recall_lateness(&*ledger).await?;
    let update = updater::view(&*ledger).await;
    Ok(view
        .with_quarantine_bound(config.quarantine.max_bytes)
        .with_checkins(checkins)
        .with_lateness(&lateness)
        .with_update(update))
}
