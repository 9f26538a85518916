//! The ledger as commands open it that are no collector: for reading, or for a few writes beside one that may be running.

use std::sync::Arc;

use anyhow::Context as _;
use collector::clock::{Clock, SystemClock};
use collector::config::{Config, LedgerConfig};
use collector::http::{Client, Transport};
use collector::storage::{azure_ledger, postgres_ledger};
use ledger::{Ledger, SqliteLedger};

/// The ledger for reading.
pub(super) fn for_reading(config: &Config) -> anyhow::Result<Box<dyn Ledger>> {
    match &config.ledger {
        LedgerConfig::Sqlite { path } => {
            let ledger = SqliteLedger::open_read_only(path).with_context(|| {
                format!(
                    "the ledger {} cannot be read; has `run` been started yet?",
                    path.display()
                )
            })?;
            Ok(Box::new(ledger))
        }
        LedgerConfig::AzureStorage(_) => in_azure(config),
        LedgerConfig::Postgres(server) => Ok(Box::new(postgres_ledger(server, &config.tls, true)?)),
    }
}

/// The ledger for writes that need no lease, whether a collector runs or not.
pub(super) fn beside_a_collector(config: &Config) -> anyhow::Result<Box<dyn Ledger>> {
    match &config.ledger {
        LedgerConfig::Sqlite { path } => {
            let ledger = SqliteLedger::open_beside(path).with_context(|| {
                format!(
                    "the ledger {} cannot be written to; has `run` been started yet?",
                    path.display()
                )
            })?;
            Ok(Box::new(ledger))
        }
        LedgerConfig::AzureStorage(_) => in_azure(config),
        LedgerConfig::Postgres(server) => {
            Ok(Box::new(postgres_ledger(server, &config.tls, false)?))
        }
    }
}

/// Tables are everybody's: whoever may read them may write them, beside any number of others.
fn in_azure(config: &Config) -> anyhow::Result<Box<dyn Ledger>> {
    let LedgerConfig::AzureStorage(storage) = &config.ledger else {
        anyhow::bail!("the ledger is not in an account of Azure Storage");
    };
    let http: Arc<dyn Transport> = Arc::new(Client::build(config.tls.ca_pem.as_deref())?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(Box::new(azure_ledger(storage, false, &http, &clock)))
}
