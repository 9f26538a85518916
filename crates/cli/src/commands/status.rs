//! `status`: what the ledger knows, read beside a running collector.

use std::process::ExitCode;

use anyhow::Context as _;
use collector::clock::{Clock as _, SystemClock};
use collector::config::{Config, LedgerConfig};
use collector::status;
use ledger::{Ledger as _, SqliteLedger};

use crate::args::Format;

pub(super) async fn status(config: &Config, format: Format) -> anyhow::Result<ExitCode> {
    let LedgerConfig::Sqlite { path } = &config.ledger;
    let ledger = SqliteLedger::open_read_only(path).with_context(|| {
        format!(
            "the ledger {} cannot be read; has `run` been started yet?",
            path.display()
        )
    })?;
    let now = SystemClock.now();
    let view = status::view(&ledger.summary(now).await?, None, now);
    match format {
        Format::Text => print!("{}", status::to_text(&view)),
        Format::Json => println!("{:#}", serde_json::to_value(&view)?),
    }
    Ok(ExitCode::SUCCESS)
}
