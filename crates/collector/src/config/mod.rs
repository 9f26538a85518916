//! Settings: what was typed (a TOML file, the environment) becomes what it means ([`Config`]) here, in one pass that
//! gathers every mistake before any port is opened or request sent.

mod app_settings;
mod dedupe;
mod errors;
mod field;
pub(crate) mod files;
mod keys;
mod layer;
mod node;
mod print;
mod reader;
mod schema;
mod service;
mod sinks;
mod tables;
mod tenants;
mod update;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use activity_api::{ApplicationCertificate, ClientId, ContentType, Hosts, PublisherId, TenantId};
use azure::identity::ManagedIdentity;
use azure::storage::Account;
use jiff::Timestamp;
use ledger::{PostgresServer, SinkName};
use secrecy::SecretString;

pub use self::app_settings::load_app_settings;
pub use self::dedupe::DedupeConfig;
use self::errors::Kind;
pub use self::errors::{ConfigError, ConfigErrors, Place};
use self::keys::Key;
use self::layer::Layer;
use self::node::Table;
use self::reader::{Reader, Section};
pub use self::update::UpdateConfig;
use crate::env::{self, Lookup};
use crate::sinks::alertlogic::AlertLogicConfig;
use crate::sinks::file::FileConfig;
use crate::sinks::splunk_hec::SplunkHecConfig;
use crate::sinks::stdout::StdoutConfig;

/// Everything that can be set, checked and with defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whose records are collected. At least one, no two with the same id.
    pub tenants: Vec<TenantConfig>,
    /// What is trusted besides the system's roots.
    pub tls: TlsConfig,
    /// Where the status page and the HTTP door are.
    pub listen: ListenConfig,
    /// How Microsoft reaches us; nothing means polling only.
    pub webhook: Option<WebhookConfig>,
    /// Where the durable memory is.
    pub ledger: LedgerConfig,
    /// When content is listed.
    pub poll: PollConfig,
    /// How much is fetched at once.
    pub fetch: FetchConfig,
    /// How much is set aside at most.
    pub quarantine: QuarantineConfig,
    /// What is delivered once and not more.
    pub dedupe: DedupeConfig,
    /// Where records go. At least one, no two with the same name.
    pub sinks: Vec<SinkConfig>,
    /// The function app that we run as; nothing anywhere else. No key of the file: its host fills it in.
    pub site: Option<SiteConfig>,
    /// How the program is kept up to date; nothing means not by itself.
    pub update: Option<UpdateConfig>,
}

/// One `[[tenant]]`.
#[derive(Debug, Clone)]
pub struct TenantConfig {
    /// The tenant's id.
    pub id: TenantId,
    /// The id of the application that may read the tenant's audit records.
    pub client_id: ClientId,
    /// What it proves itself with.
    pub credential: Credential,
    /// The feeds to collect, each once, in the order of [`ContentType::ALL`].
    pub content_types: Vec<ContentType>,
    /// Who the requests are counted for: the tenant itself unless set.
    pub publisher: PublisherId,
    /// Microsoft's hosts: those of the tenant's cloud, unless `[microsoft]` names others.
    pub hosts: Hosts,
}

/// What an application proves itself with. Its `Debug` shows no secret.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A password that was made for it.
    ClientSecret(SecretString),
    /// A certificate that the application is known by, with its private key.
    Certificate(ApplicationCertificate),
    /// A file with a token of another issuer that the application trusts by a federated credential. Whoever put it there
    /// replaces it before the token ends.
    FederatedTokenFile(PathBuf),
    /// Nothing: it runs in Azure, where the platform vouches for it.
    ManagedIdentity(ManagedIdentity),
}

impl Credential {
    /// The secret, where there is one.
    #[must_use]
    pub fn client_secret(&self) -> Option<&SecretString> {
        match self {
            Self::ClientSecret(secret) => Some(secret),
            Self::Certificate(_) | Self::FederatedTokenFile(_) | Self::ManagedIdentity(_) => None,
        }
    }

    /// From when on Microsoft does not take it any more, where it says so itself: a certificate does, a secret does not.
    #[must_use]
    pub fn ends_at(&self) -> Option<Timestamp> {
        match self {
            Self::Certificate(certificate) => certificate.ends_at(),
            Self::ClientSecret(_) | Self::FederatedTokenFile(_) | Self::ManagedIdentity(_) => None,
        }
    }
}

/// The function app that we run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteConfig {
    /// The Azure subscription that it is in.
    pub subscription_id: String,
    /// The resource group that it is in.
    pub resource_group: String,
    /// Its name.
    pub site_name: String,
    /// Its host name, without a scheme.
    pub hostname: String,
}

/// `[tls]`
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// The file that [`TlsConfig::ca_pem`] was read from.
    pub ca_file: Option<PathBuf>,
    /// Certificates in PEM form, trusted besides the system's roots; at least one when there is a file.
    pub ca_pem: Option<Vec<u8>>,
}

/// `[listen]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenConfig {
    /// Where the status page, `/metrics`, `/healthz`, `/readyz` and `/api/o365/webhook` are served.
    pub address: SocketAddr,
}

/// `[webhook]`
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// The address that Microsoft posts notifications to: `https`, or `http` on a loopback address.
    pub public_url: String,
    /// What Microsoft must send back in `Webhook-AuthID`.
    pub auth_id: SecretString,
}

/// `[ledger]`
#[derive(Debug, Clone)]
pub enum LedgerConfig {
    /// One file on this machine.
    Sqlite {
        /// The database file.
        path: PathBuf,
    },
    /// Tables in an Azure Storage account.
    AzureStorage(Box<AzureStorageConfig>),
    /// A PostgreSQL database.
    Postgres(Box<PostgresServer>),
}

/// A storage account, and who uses it.
#[derive(Debug, Clone)]
pub struct AzureStorageConfig {
    /// The account.
    pub account: Account,
    /// The identity whose tokens it is used with; none where it is used with a key of its own.
    pub identity: Option<ManagedIdentity>,
}

/// `[poll]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollConfig {
    /// The pause between two listings of a feed.
    pub interval: Duration,
    /// How far back the first listing of a feed begins, at most 167 hours.
    pub first_lookback: Duration,
}

/// `[fetch]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchConfig {
    /// Blobs fetched at once at most.
    pub max_concurrent: usize,
    /// Bytes of record text held at once, over all tenants and sinks.
    pub max_memory_bytes: usize,
    /// Requests a minute that one tenant's budget begins with and never exceeds.
    pub requests_per_minute: u32,
    /// How long a blob belongs to whoever works on it, unless that is renewed.
    pub lease: Duration,
}

/// `[quarantine]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuarantineConfig {
    /// How many bytes may be in quarantine.
    pub max_bytes: u64,
}

/// One `[[sink]]`.
#[derive(Debug, Clone)]
pub enum SinkConfig {
    /// `type = "alertlogic"`
    AlertLogic(AlertLogicConfig),
    /// `type = "file"`
    File(FileConfig),
    /// `type = "splunk_hec"`
    SplunkHec(SplunkHecConfig),
    /// `type = "stdout"`
    Stdout(StdoutConfig),
}

impl SinkConfig {
    /// The name that the ledger, the metrics and the status page know the sink by: the key `id`, or, without it, the
    /// sink's type, with `-2`, `-3` and so on behind it where a type repeats.
    #[must_use]
    pub fn name(&self) -> &SinkName {
        match self {
            Self::AlertLogic(config) => &config.name,
            Self::File(config) => &config.name,
            Self::SplunkHec(config) => &config.name,
            Self::Stdout(config) => &config.name,
        }
    }
}

/// Where the configuration is when neither a flag nor [`env::CONFIG_FILE`] names it.
pub const DEFAULT_FILE: &str = "./o365-collector.toml";

/// Variables that begin as ours do and are no settings: the configuration file's path; the log filter, which must work
/// before there is a configuration; an app setting of the original collector, that a function app may still have; and
/// the app setting in which the updater keeps the package that it replaced.
const RESERVED_VARIABLES: [&str; 4] = [
    env::CONFIG_FILE,
    "O365_COLLECTOR_LOG",
    "O365_COLLECTOR_ID",
    crate::updater::PREVIOUS_PACKAGE,
];

/// Far more than any configuration has. A device or a database named by mistake ends here.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Reads and checks the configuration: built-in defaults, over them the file, over it the environment.
///
/// Without `file` (no flag was given) the file is the one that [`env::CONFIG_FILE`] names, or else [`DEFAULT_FILE`]
/// where there is one, or else none.
///
/// # Errors
/// All mistakes at once, none of them with a setting's value in it.
pub fn load(file: Option<&Path>, env: &dyn Lookup) -> Result<Config, ConfigErrors> {
    Document::open(file, env)?
        .read(env)
        .map(|(config, _)| config)
}

/// As [`load`], from a text that messages call `name`. Relative paths begin at `base_dir`.
///
/// # Errors
/// As [`load`].
pub fn from_text(
    text: &str,
    name: &str,
    base_dir: &Path,
    env: &dyn Lookup,
) -> Result<Config, ConfigErrors> {
    Document::parse(text, name, base_dir, env)?
        .read(env)
        .map(|(config, _)| config)
}

/// The commented configuration file whose values are the built-in defaults.
#[must_use]
pub fn default_toml() -> &'static str {
    include_str!("../../config.default.toml")
}

/// Every setting's value and where it came from, as TOML with comments. Secrets are not in it.
///
/// # Errors
/// As [`load`]: what is wrong has no meaning to print.
pub fn print(file: Option<&Path>, env: &dyn Lookup) -> Result<String, ConfigErrors> {
    let document = Document::open(file, env)?;
    let (_, keys) = document.read(env)?;
    Ok(print::render(&keys, document.name.as_deref()))
}

/// What a configuration file may hold, as a JSON Schema (draft 2020-12).
///
/// It refuses no file that the program takes. For that reason only a sink's `type` is required in it: any other key may
/// come from the environment instead.
#[must_use]
pub fn schema() -> serde_json::Value {
    schema::render(&describe())
}

/// Every key there is, whether set or not.
fn describe() -> Vec<Key> {
    let (root, env) = (Table::new(), BTreeMap::new());
    let layer = Layer::default();
    let (_, keys, _) = Reader::describing(&env, &layer).walk(&root, read);
    keys
}

/// A configuration as it was typed, before anything is known of its keys.
struct Document {
    name: Option<String>,
    base_dir: PathBuf,
    root: Table,
}

impl Document {
    /// No file.
    fn nothing() -> Self {
        Self {
            name: None,
            base_dir: PathBuf::new(),
            root: Table::new(),
        }
    }

    fn open(file: Option<&Path>, env: &dyn Lookup) -> Result<Self, ConfigErrors> {
        let named = match file {
            Some(file) => Some(file.to_path_buf()),
            None => named_by_variable(env)?,
        };
        let path = match named {
            Some(path) => path,
            None if Path::new(DEFAULT_FILE).exists() => PathBuf::from(DEFAULT_FILE),
            None => return Ok(Self::nothing()),
        };
        let name = path.display().to_string();
        let base_dir = path.parent().unwrap_or(Path::new("")).to_path_buf();
        match files::read_file(&path, MAX_FILE_BYTES) {
            Ok(text) => Self::parse(&text, &name, &base_dir, env),
            Err(reason) => {
                let place = Place::File {
                    name: name.clone(),
                    line: None,
                    column: None,
                };
                let reason = format!("the configuration file {reason}");
                let error = ConfigError {
                    place,
                    key: String::new(),
                    reason,
                    kind: Kind::Unreadable,
                };
                Err(Self::unreadable(vec![error], &name, &base_dir, env))
            }
        }
    }

    fn parse(
        text: &str,
        name: &str,
        base_dir: &Path,
        env: &dyn Lookup,
    ) -> Result<Self, ConfigErrors> {
        // Editors of one large system begin a UTF-8 file with this mark; it is no part of the text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        match node::parse(text) {
            Ok(root) => Ok(Self {
                name: Some(name.to_owned()),
                base_dir: base_dir.to_path_buf(),
                root,
            }),
            Err(errors) => {
                let error = |error: node::SyntaxError| ConfigError {
                    place: Place::File {
                        name: name.to_owned(),
                        line: Some(error.line),
                        column: Some(error.column),
                    },
                    key: String::new(),
                    reason: error.what,
                    kind: Kind::Unreadable,
                };
                Err(Self::unreadable(
                    errors.into_iter().map(error).collect(),
                    name,
                    base_dir,
                    env,
                ))
            }
        }
    }

    /// The file's mistakes, and with them those of the environment that are mistakes whatever the file says.
    fn unreadable(
        mut errors: Vec<ConfigError>,
        name: &str,
        base_dir: &Path,
        env: &dyn Lookup,
    ) -> ConfigErrors {
        let root = Table::new();
        let layer = Layer::default();
        let (_, _, others) = Reader::new(Some(name), base_dir, env, &layer).walk(&root, read);
        errors.extend(
            others
                .into_iter()
                .filter(|error| error.kind == Kind::Invalid),
        );
        ConfigErrors::new(errors)
    }

    fn read(&self, env: &dyn Lookup) -> Result<(Config, Vec<Key>), ConfigErrors> {
        self.read_over(&Layer::default(), Vec::new(), env)
    }

    /// As [`Document::read`], where `layer` says what neither the file nor the environment does. `errors` are those that
    /// were found in it before.
    fn read_over(
        &self,
        layer: &Layer,
        mut errors: Vec<ConfigError>,
        env: &dyn Lookup,
    ) -> Result<(Config, Vec<Key>), ConfigErrors> {
        let reader = Reader::new(self.name.as_deref(), &self.base_dir, env, layer);
        let (config, keys, more) = reader.walk(&self.root, read);
        errors.extend(more);
        match config {
            Some(config) if errors.is_empty() => Ok((config, keys)),
            _ => Err(ConfigErrors::new(errors)),
        }
    }
}

/// The file that [`env::CONFIG_FILE`] names. Set to nothing is as good as unset: that is how service managers and
/// containers leave a variable out.
fn named_by_variable(env: &dyn Lookup) -> Result<Option<PathBuf>, ConfigErrors> {
    let variable = env::CONFIG_FILE.to_owned();
    match env.get(&variable) {
        Some(name) => Ok((!name.is_empty()).then(|| PathBuf::from(name))),
        // Set, and yet nothing to be had: another file must not be read in the place of the one that was meant.
        None if env.names_with_prefix(&variable).contains(&variable) => {
            Err(ConfigErrors::new(vec![ConfigError {
                place: Place::Variable(variable),
                key: String::new(),
                reason: "is no Unicode text; name the file with --config".to_owned(),
                kind: Kind::Unreadable,
            }]))
        }
        None => Ok(None),
    }
}

/// The one walk over all settings, in the order in which they are documented and printed.
fn read(root: &mut Section<'_, '_>) -> Option<Config> {
    let tenants = tenants::read(root);
    let tls = service::read_tls(root);
    let listen = service::read_listen(root);
    let webhook = service::read_webhook(root);
    let ledger = service::read_ledger(root);
    let poll = service::read_poll(root);
    let fetch = service::read_fetch(root);
    let quarantine = service::read_quarantine(root);
    let dedupe = dedupe::read(root, ledger.as_ref());
    let sinks = sinks::read(root);
    let update = update::read(root);
    Some(Config {
        tenants,
        tls: tls?,
        listen: listen?,
        webhook,
        ledger: ledger?,
        poll: poll?,
        fetch: fetch?,
        quarantine: quarantine?,
        dedupe: dedupe?,
        sinks,
        site: None,
        update,
    })
}

#[cfg(test)]
mod tests;
