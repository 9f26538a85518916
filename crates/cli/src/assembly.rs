//! A configuration → the running parts: ledger, network, sinks, pipeline, door. Shared by every host, so that none of them
//! differs in what it runs.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use collector::clock::{Clock, SystemClock};
use collector::config::{Config, LedgerConfig, SinkConfig};
use collector::http::{Client, Transport};
use collector::master::Master;
use collector::run::Pipeline;
use collector::sinks::Sink;
use collector::sinks::alertlogic::{Account, AlertLogicConfig, AlertLogicSink, TenantIdentity};
use collector::sinks::file::FileSink;
use collector::sinks::splunk_hec::SplunkHecSink;
use collector::sinks::stdout::StdoutSink;
use collector::site::Site;
use collector::status::Live;
use collector::storage::{azure_ledger, postgres_ledger};
use collector::telemetry::Telemetry;
use collector::updater::{OwnSite, UpdateSite, Updater};
use collector::web::{AuthId, WebState, Webhook};
use ledger::{AzureLedger, Ledger, SqliteLedger};

use crate::trial::ProcessTrial;

/// Everything that runs, put together.
pub(crate) struct Assembly {
    pub(crate) ledger: Arc<dyn Ledger>,
    /// The same ledger where a queue tells of the blobs that wait in it.
    pub(crate) announcer: Announcer,
    pub(crate) pipeline: Pipeline,
    pub(crate) master: Master,
    /// One for each `alertlogic` sink.
    pub(crate) accounts: Vec<Arc<Account>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Nothing where nothing is to be updated.
    pub(crate) updater: Option<Updater>,
    web: WebState,
}

/// A ledger that tells a queue of the blobs that wait in it, where there is one.
type Announcer = Option<Arc<AzureLedger>>;

impl Assembly {
    /// Opens the ledger and builds the rest. Sends nothing and opens no port.
    pub(crate) fn build(config: &Config) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let telemetry = Telemetry::install();
        let live = Live::new(clock.now());
        let http: Arc<dyn Transport> = Arc::new(Client::build(config.tls.ca_pem.as_deref())?);
        let (ledger, announcer) = open_ledger(config, &http, &clock)?;
        let mut accounts = Vec::new();
        let sinks = config
            .sinks
            .iter()
            .map(|sink| build_sink(sink, config, &http, &ledger, &clock, &mut accounts))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let pipeline = Pipeline::new(
            config,
            sinks,
            &http,
            Arc::clone(&ledger),
            Arc::clone(&clock),
            live.clone(),
        );
        let master = Master::build(
            config,
            accounts.clone(),
            pipeline.doors(),
            &http,
            Arc::clone(&ledger),
            Arc::clone(&clock),
            live.clone(),
        )
        .context("the function app cannot be asked for at resource manager")?;
        let auth_id = match &config.webhook {
            None => None,
            Some(webhook) => {
                Some(AuthId::new(&webhook.auth_id).context("webhook.auth_id cannot be used")?)
            }
        };
        // A function app has its address without a setting; until there is an auth id, nobody is let in.
        let has_webhook = auth_id.is_some() || config.site.is_some();
        let webhook = has_webhook.then(|| Webhook {
            auth_id,
            feeds: pipeline.feeds(),
            news: pipeline.news(),
        });
        let web = WebState::new(
            Arc::clone(&ledger),
            live.clone(),
            telemetry,
            Arc::clone(&clock),
            webhook,
        );
        let updater = build_updater(config, &http, &ledger, &clock)?;
        Ok(Self {
            ledger,
            announcer,
            pipeline,
            master,
            accounts,
            clock,
            updater,
            web,
        })
    }

    /// What answers at the door.
    pub(crate) fn web(&self) -> WebState {
        self.web.clone()
    }
}

/// The ledger, for writing, and once more where it announces blobs: in a function app, whose queue calls those who
/// deliver. Any other host would fill a queue that nobody reads.
fn open_ledger(
    config: &Config,
    http: &Arc<dyn Transport>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(Arc<dyn Ledger>, Announcer)> {
    match &config.ledger {
        LedgerConfig::AzureStorage(storage) => {
            let wakes = config.site.is_some();
            let ledger = Arc::new(azure_ledger(storage, wakes, http, clock));
            let announcer = wakes.then(|| Arc::clone(&ledger));
            Ok((ledger, announcer))
        }
        LedgerConfig::Sqlite { path } => {
            let ledger = SqliteLedger::open(path).map_err(|error| {
                let told = cannot_open(path, &error);
                anyhow::Error::new(error).context(told)
            })?;
            Ok((Arc::new(ledger), None))
        }
        LedgerConfig::Postgres(server) => {
            let ledger = postgres_ledger(server, &config.tls, false)?;
            Ok((Arc::new(ledger), None))
        }
    }
}

/// That the ledger cannot be opened, and the mend where it is a matter of its folder.
fn cannot_open(path: &Path, error: &ledger::Error) -> String {
    let told = format!("the ledger {} cannot be opened", path.display());
    match error {
        ledger::Error::Unavailable { .. } => format!("{told}: {}", folder_mend(path)),
        _ => told,
    }
}

/// What to do about the folder of a ledger that cannot be opened.
pub(crate) fn folder_mend(path: &Path) -> String {
    // The whole path: a relative one begins at a folder that whoever reads the message may not be in.
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = whole.parent().unwrap_or(&whole).display();
    match std::fs::metadata(whole.parent().unwrap_or(&whole)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            format!("the folder {folder} does not exist; create it, or name another in ledger.url")
        }
        Ok(metadata) if !metadata.is_dir() => {
            format!("{folder} is no folder; name another in ledger.url")
        }
        Ok(_) | Err(_) => format!(
            "the user that the collector runs as must be allowed to create files in {folder} and to read and write them"
        ),
    }
}

/// The log sources of one `alertlogic` sink.
fn build_account(
    sink: &AlertLogicConfig,
    config: &Config,
    http: &Arc<dyn Transport>,
    ledger: &Arc<dyn Ledger>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Account> {
    let tenants = config.tenants.iter().map(|tenant| TenantIdentity {
        tenant: tenant.id,
        client_id: tenant.client_id,
        client_secret: tenant.credential.client_secret().cloned(),
        content_types: tenant.content_types.clone(),
    });
    Ok(Account::build(
        sink.clone(),
        tenants.collect(),
        Arc::clone(http),
        Arc::clone(ledger),
        Arc::clone(clock),
    )?)
}

/// Without a function app there is none to update, and the updater only tells of newer versions.
fn build_updater(
    config: &Config,
    http: &Arc<dyn Transport>,
    ledger: &Arc<dyn Ledger>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Option<Updater>> {
    let Some(update) = &config.update else {
        return Ok(None);
    };
    let site = match (&config.site, config.tenants.first()) {
        (Some(site), Some(tenant)) => {
            let built = Site::build(site, tenant, Arc::clone(http), Arc::clone(clock))?;
            let own: Arc<dyn UpdateSite> = Arc::new(OwnSite::new(Arc::new(built), site));
            Some(own)
        }
        _ => None,
    };
    Ok(Some(Updater::build(
        update.clone(),
        site,
        Arc::clone(ledger),
        Arc::clone(http),
        Arc::clone(clock),
        Arc::new(ProcessTrial),
    )))
}

/// A sink that has sent nothing and opened nothing yet. The log sources of an `alertlogic` sink go to `accounts`.
pub(crate) fn build_sink(
    sink: &SinkConfig,
    config: &Config,
    http: &Arc<dyn Transport>,
    ledger: &Arc<dyn Ledger>,
    clock: &Arc<dyn Clock>,
    accounts: &mut Vec<Arc<Account>>,
) -> anyhow::Result<Arc<dyn Sink>> {
    Ok(match sink {
        SinkConfig::AlertLogic(sink) => {
            let account = Arc::new(build_account(sink, config, http, ledger, clock)?);
            accounts.push(Arc::clone(&account));
            Arc::new(AlertLogicSink::of_account(account))
        }
        SinkConfig::File(sink) => Arc::new(FileSink::build(sink.clone(), Arc::clone(clock))?),
        SinkConfig::SplunkHec(sink) => Arc::new(SplunkHecSink::build(
            sink.clone(),
            Arc::clone(http),
            Arc::clone(clock),
        )?),
        SinkConfig::Stdout(sink) => Arc::new(StdoutSink::build(sink.clone())?),
    })
}
