//! The app settings of a function app become a [`Config`]: those of the original collector under the names that it had,
//! with no file at all. A configuration file beside host.json adds to them and goes over them, and the variables that
//! every key has go over both.

use std::path::Path;

use activity_api::ContentType;
use azure::storage::{Account, InvalidAccount};
use secrecy::SecretString;

use super::errors::{Kind, shown_name};
use super::layer::Layer;
use super::node::{Table, Value};
use super::{Config, ConfigError, ConfigErrors, Document, Place, SinkConfig, SiteConfig};
use crate::env::{self, Lookup};

const TENANT_ID: &str = "APP_TENANT_ID";
const SUBSCRIPTION_ID: &str = "APP_SUBSCRIPTION_ID";
const RESOURCE_GROUP: &str = "APP_RESOURCE_GROUP";
const CONTENT_STREAMS: &str = "O365_CONTENT_STREAMS";
const SITE_NAME: &str = "WEBSITE_SITE_NAME";
const HOSTNAME: &str = "WEBSITE_HOSTNAME";
const STORAGE: &str = "AzureWebJobsStorage";
const STORAGE_ACCOUNT: &str = "AzureWebJobsStorage__accountName";
const STORAGE_CLIENT_ID: &str = "AzureWebJobsStorage__clientId";
const STORAGE_TABLES: &str = "AzureWebJobsStorage__tableServiceUri";
/// Where the account's services are, for a cloud or a network in which they are not at the usual names; and what a
/// connection string calls each.
const STORAGE_SERVICES: [(&str, &str); 3] = [
    (STORAGE_TABLES, "TableEndpoint"),
    ("AzureWebJobsStorage__queueServiceUri", "QueueEndpoint"),
    ("AzureWebJobsStorage__blobServiceUri", "BlobEndpoint"),
];
const CLIENT_ID: &str = "CUSTOMCONNSTR_APP_CLIENT_ID";
const CLIENT_SECRET: &str = "CUSTOMCONNSTR_APP_CLIENT_SECRET";
const PRINCIPAL_ID: &str = "APP_PRINCIPAL_ID";
const ACCESS_KEY_ID: &str = "CUSTOMCONNSTR_APP_AL_ACCESS_KEY_ID";
const OLD_ACCESS_KEY_ID: &str = "CUSTOMCONNSTR_APP_CI_ACCESS_KEY_ID";
const SECRET_KEY: &str = "CUSTOMCONNSTR_APP_AL_SECRET_KEY";
const OLD_SECRET_KEY: &str = "CUSTOMCONNSTR_APP_CI_SECRET_KEY";
const API: &str = "CUSTOMCONNSTR_APP_AL_API_ENDPOINT";
const RESIDENCY: &str = "CUSTOMCONNSTR_APP_AL_RESIDENCY";
const INGEST: &str = "APP_INGEST_ENDPOINT";
const AZCOLLECT: &str = "APP_AZCOLLECT_ENDPOINT";
const SOURCE_ID: &str = "COLLECTOR_SOURCE_ID";
const OLD_SOURCE_ID: &str = "O365_COLLECTOR_ID";
const HOST_ID: &str = "COLLECTOR_HOST_ID";
const OLD_HOST_ID: &str = "O365_HOST_ID";
/// What the platform tells of a managed identity, in its two forms.
const IDENTITIES: [&str; 2] = ["IDENTITY_ENDPOINT", "MSI_ENDPOINT"];
/// The filters of the vendor's later collectors.
const FILTERS: [&str; 2] = ["APP_FILTER_JSON", "APP_FILTER_REGEX"];

/// Under this name goes what no app setting says and the host has otherwise than the file's defaults.
const OF_THE_HOST: &str = "the function app";
/// A process of a function app is ended without a word, and nobody is to wait ten minutes for what it held.
const LEASE_SECS: &str = "120";

/// The configuration of the function app whose files lie in `app_root`, from its settings and, where there is one, the
/// configuration file: the one that [`env::CONFIG_FILE`] names, or else `o365-collector.toml` in that folder.
///
/// # Errors
/// All mistakes at once, each with the app setting's name, none with its value.
pub fn load_app_settings(app_root: &Path, env: &dyn Lookup) -> Result<Config, ConfigErrors> {
    let settings = Settings { env };
    let document = match super::named_by_variable(env)? {
        Some(path) => Document::open(Some(&path), env),
        None => {
            let beside = app_root.join("o365-collector.toml");
            match beside.exists() {
                true => Document::open(Some(&beside), env),
                false => Ok(Document::nothing()),
            }
        }
    };
    let (root, unreadable) = match &document {
        Ok(document) => (&document.root, None),
        Err(errors) => (&Table::new(), Some(errors)),
    };
    let mut translation = Translation {
        settings,
        root,
        layer: Layer::default(),
        errors: Vec::new(),
    };
    translation.tenant();
    translation.sink();
    translation.ledger();
    translation.webhook();
    let prefix = env::PREFIX;
    translation.put(
        format!("{prefix}FETCH__LEASE_SECS"),
        OF_THE_HOST,
        LEASE_SECS.to_owned(),
    );
    let site = translation.site();
    translation.filters();
    let Translation {
        layer, mut errors, ..
    } = translation;
    if let Some(unreadable) = unreadable {
        errors.extend(unreadable.errors().iter().cloned());
        return Err(ConfigErrors::new(errors));
    }
    let (mut config, _) = document?.read_over(&layer, errors, env)?;
    for sink in &mut config.sinks {
        if let SinkConfig::AlertLogic(sink) = sink {
            sink.local_hostname = site.as_ref().map(|site| site.hostname.clone());
        }
    }
    config.site = site;
    Ok(config)
}

/// The app settings. One that is set to nothing is as good as unset: that is how templates leave one out.
struct Settings<'e> {
    env: &'e dyn Lookup,
}

impl Settings<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let text = self.env.get(name)?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Under the first of these names that is set.
    fn first(&self, names: [&'static str; 2]) -> Option<(&'static str, String)> {
        names
            .into_iter()
            .find_map(|name| Some((name, self.get(name)?)))
    }
}

struct Translation<'e> {
    settings: Settings<'e>,
    /// The file's.
    root: &'e Table,
    layer: Layer,
    errors: Vec<ConfigError>,
}

impl Translation<'_> {
    /// The tenant: the file's of the same id, or one more behind the file's.
    fn tenant(&mut self) {
        let id = self.settings.get(TENANT_ID);
        let in_file = tables(self.root, "tenant");
        let same = in_file.iter().position(|table| {
            let written = text(table, "id");
            written.is_some_and(|text| {
                Some(text.to_ascii_lowercase()) == id.as_deref().map(str::to_ascii_lowercase)
            })
        });
        if id.is_none() && !in_file.is_empty() {
            return;
        }
        let prefix = format!("{}TENANT__{}__", env::PREFIX, same.unwrap_or(in_file.len()));
        let key = |name: &str| format!("{prefix}{name}");
        self.carry(key("ID"), [TENANT_ID; 2]);
        let secret = self.settings.get(CLIENT_SECRET);
        let has_identity = IDENTITIES
            .iter()
            .any(|name| self.settings.get(name).is_some());
        let table = same.and_then(|index| in_file.get(index));
        let is_said = [
            "client_secret",
            "certificate",
            "federated_token_file",
            "managed_identity",
        ]
        .iter()
        .any(|name| {
            table.is_some_and(|table| table.contains_key(*name))
                || !self
                    .settings
                    .env
                    .names_with_prefix(&key(&name.to_ascii_uppercase()))
                    .is_empty()
        });
        match secret {
            _ if is_said => self.carry(key("CLIENT_ID"), [CLIENT_ID, PRINCIPAL_ID]),
            None if has_identity => {
                self.put(key("MANAGED_IDENTITY"), OF_THE_HOST, "true".to_owned());
                self.carry(key("CLIENT_ID"), [PRINCIPAL_ID, CLIENT_ID]);
            }
            _ => {
                self.carry(key("CLIENT_SECRET"), [CLIENT_SECRET; 2]);
                self.carry(key("CLIENT_ID"), [CLIENT_ID; 2]);
            }
        }
        self.content_streams(key("CONTENT_TYPES"));
    }

    fn content_streams(&mut self, variable: String) {
        let Some(streams) = self.settings.get(CONTENT_STREAMS) else {
            return;
        };
        let Ok(names) = serde_json::from_str::<Vec<String>>(&streams) else {
            let must =
                "must be a JSON list of texts, such as [\"Audit.Exchange\",\"Audit.General\"]";
            return self.refuse(CONTENT_STREAMS, must.to_owned());
        };
        let mut known = Vec::new();
        for name in &names {
            match ContentType::parse(name.trim()) {
                Ok(stream) if known.contains(&stream.as_str()) => {}
                Ok(stream) => known.push(stream.as_str()),
                Err(_) => {
                    let all = ContentType::ALL.map(ContentType::as_str).join(", ");
                    let name = shown_name(name);
                    self.refuse(
                        CONTENT_STREAMS,
                        format!("there is no content stream \"{name}\"; there are {all}"),
                    );
                }
            }
        }
        if names.is_empty() {
            self.refuse(CONTENT_STREAMS, "must name at least one stream".to_owned());
        }
        if !known.is_empty() {
            self.put(variable, CONTENT_STREAMS, known.join(","));
        }
    }

    /// Alert Logic: the file's first sink of that type, or one more behind the file's.
    fn sink(&mut self) {
        let in_file = tables(self.root, "sink");
        let same = in_file
            .iter()
            .position(|table| text(table, "type") == Some("alertlogic"));
        let has_key = self
            .settings
            .first([ACCESS_KEY_ID, OLD_ACCESS_KEY_ID])
            .is_some()
            || self.settings.first([SECRET_KEY, OLD_SECRET_KEY]).is_some();
        let sinks = format!("{}SINK__", env::PREFIX);
        let has_others =
            !in_file.is_empty() || !self.settings.env.names_with_prefix(&sinks).is_empty();
        // With records going elsewhere, and only there, nothing of Alert Logic need be known.
        if !has_key && has_others && same.is_none() {
            return;
        }
        let prefix = format!("{sinks}{}__", same.unwrap_or(in_file.len()));
        let key = |name: &str| format!("{prefix}{name}");
        self.put(key("TYPE"), OF_THE_HOST, "alertlogic".to_owned());
        self.carry(key("ACCESS_KEY_ID"), [ACCESS_KEY_ID, OLD_ACCESS_KEY_ID]);
        self.carry(key("SECRET_KEY"), [SECRET_KEY, OLD_SECRET_KEY]);
        for (name, setting) in [
            ("API", API),
            ("RESIDENCY", RESIDENCY),
            ("INGEST", INGEST),
            ("AZCOLLECT", AZCOLLECT),
            ("SUBSCRIPTION_ID", SUBSCRIPTION_ID),
            ("RESOURCE_GROUP", RESOURCE_GROUP),
            ("NAME", SITE_NAME),
        ] {
            if let Some(text) = self.settings.get(setting) {
                self.put(key(name), setting, text);
            }
        }
        // As the original has it: one without the other is no registration.
        let ids = (
            self.settings.first([SOURCE_ID, OLD_SOURCE_ID]),
            self.settings.first([HOST_ID, OLD_HOST_ID]),
        );
        if let (Some((source, source_id)), Some((host, host_id))) = ids {
            self.put(key("SOURCE_ID"), source, source_id);
            self.put(key("HOST_ID"), host, host_id);
        }
    }

    fn ledger(&mut self) {
        let variable = format!("{}LEDGER__URL", env::PREFIX);
        let in_file = match self.root.get("ledger").map(|node| &node.value) {
            Some(Value::Table(table)) => table.contains_key("url"),
            _ => false,
        };
        if let Some(storage) = self.settings.get(STORAGE) {
            self.put(variable, STORAGE, format!("azure-storage:{storage}"));
        } else if let Some((setting, account)) = self.account() {
            let mut url = format!("azure-storage:managed-identity:AccountName={account}");
            for (service, part) in STORAGE_SERVICES {
                match self.settings.get(service) {
                    Some(uri) => match check_service(&uri, part) {
                        Ok(()) => url.push_str(&format!(";{part}={uri}")),
                        Err(must) => self.refuse(service, format!("must be {must}")),
                    },
                    None if setting == STORAGE_TABLES => {
                        let how = "missing: set this app setting, or AzureWebJobsStorage__accountName for the usual names";
                        self.refuse(service, how.to_owned());
                    }
                    None => {}
                }
            }
            if let Some(client_id) = self.settings.get(STORAGE_CLIENT_ID) {
                url.push_str(&format!(";ClientId={client_id}"));
            }
            self.put(variable, setting, url);
        } else if !in_file && self.settings.env.names_with_prefix(&variable).is_empty() {
            let how = "missing: set this app setting to the connection string of the app's storage account, or \
                       AzureWebJobsStorage__accountName to its name where the managed identity may use it";
            self.refuse(STORAGE, how.to_owned());
        }
    }

    /// The name of the account that the managed identity uses, and the app setting that has it.
    fn account(&self) -> Option<(&'static str, String)> {
        if let Some(name) = self.settings.get(STORAGE_ACCOUNT) {
            return Some((STORAGE_ACCOUNT, name));
        }
        let uri = self.settings.get(STORAGE_TABLES)?;
        let host = uri.split_once("://").map_or("", |(_, rest)| rest);
        let name = host.split('.').next().unwrap_or_default();
        Some((STORAGE_TABLES, name.to_owned()))
    }

    /// Where Microsoft reaches the app, once there is an auth id: without one anybody could post there.
    fn webhook(&mut self) {
        let prefix = format!("{}WEBHOOK__", env::PREFIX);
        let is_wanted = self.root.contains_key("webhook")
            || !self.settings.env.names_with_prefix(&prefix).is_empty();
        if let (true, Some(hostname)) = (is_wanted, self.settings.get(HOSTNAME)) {
            let url = format!("https://{hostname}/api/o365/webhook");
            self.put(format!("{prefix}PUBLIC_URL"), HOSTNAME, url);
        }
    }

    /// The app itself, as Azure Resource Manager knows it.
    fn site(&mut self) -> Option<SiteConfig> {
        let [subscription_id, resource_group, site_name, hostname] =
            [SUBSCRIPTION_ID, RESOURCE_GROUP, SITE_NAME, HOSTNAME].map(|name| {
                let text = self.settings.get(name);
                if text.is_none() {
                    self.refuse(name, "missing: set this app setting".to_owned());
                }
                text
            });
        let hostname = hostname.filter(|hostname| {
            let is_host = hostname
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte));
            if !is_host {
                let must = "must be a host name, without a scheme and a path";
                self.refuse(HOSTNAME, must.to_owned());
            }
            is_host
        });
        Some(SiteConfig {
            subscription_id: subscription_id?,
            resource_group: resource_group?,
            site_name: site_name?,
            hostname: hostname?,
        })
    }

    fn filters(&mut self) {
        for name in FILTERS {
            if self.settings.get(name).is_some() {
                let how = "this collector filters nothing, so that nothing is lost to a filter: clear this app setting";
                self.refuse(name, how.to_owned());
            }
        }
    }

    /// The key of `variable` comes from the first of these app settings that is set.
    fn carry(&mut self, variable: String, names: [&'static str; 2]) {
        match self.settings.first(names) {
            Some((name, text)) => self.put(variable, name, text),
            None => self.layer.miss(variable, names[0]),
        }
    }

    fn put(&mut self, variable: String, name: &'static str, text: String) {
        self.layer.set(variable, name, SecretString::from(text));
    }

    fn refuse(&mut self, name: &'static str, reason: String) {
        self.errors.push(ConfigError {
            place: Place::Setting(name),
            key: String::new(),
            reason,
            kind: Kind::Invalid,
        });
    }
}

/// # Errors
/// What it must be.
fn check_service(uri: &str, part: &str) -> Result<(), &'static str> {
    match Account::with_tokens(&format!("AccountName=account;{part}={uri}")) {
        Ok(_) if !uri.contains(';') => Ok(()),
        Err(InvalidAccount::Wrong { must, .. }) => Err(must),
        Ok(_) | Err(_) => Err("one address, without a semicolon"),
    }
}

/// The file's elements of a list of tables, as far as they are tables.
fn tables<'t>(root: &'t Table, name: &str) -> Vec<&'t Table> {
    match root.get(name).map(|node| &node.value) {
        Some(Value::List(list)) => list
            .iter()
            .filter_map(|item| match &item.value {
                Value::Table(table) => Some(table),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn text<'t>(table: &'t Table, name: &str) -> Option<&'t str> {
    match table.get(name).map(|node| &node.value) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
