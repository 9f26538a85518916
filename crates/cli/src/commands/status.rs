//! `status`: what the running collector says of itself, which knows why something fails; without one, what the ledger knows.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use collector::clock::{Clock, SystemClock};
use collector::config::{Config, LedgerConfig, SinkConfig};
use collector::http::{Client, Transport};
use collector::master;
use collector::status::{self, StatusView};
use collector::storage::azure_ledger;
use collector::{updater, web};
use ledger::{Ledger, SqliteLedger};

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
    let ledger = open_for_reading(config)?;
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
    let update = updater::view(&*ledger).await;
    Ok(view.with_checkins(checkins).with_update(update))
}

fn open_for_reading(config: &Config) -> anyhow::Result<Box<dyn Ledger>> {
    Ok(match &config.ledger {
        LedgerConfig::Sqlite { path } => {
            let ledger = SqliteLedger::open_read_only(path).with_context(|| {
                format!(
                    "the ledger {} cannot be read; has `run` been started yet?",
                    path.display()
                )
            })?;
            Box::new(ledger)
        }
        LedgerConfig::AzureStorage(storage) => {
            let http: Arc<dyn Transport> = Arc::new(Client::build(config.tls.ca_pem.as_deref())?);
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            Box::new(azure_ledger(storage, false, &http, &clock))
        }
    })
}
