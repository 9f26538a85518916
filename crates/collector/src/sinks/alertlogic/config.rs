//! What an `alertlogic` sink is made of: its settings, read and checked, and what it must know of each tenant.

use activity_api::{ClientId, ContentType, TenantId};
use ledger::SinkName;
use secrecy::SecretString;

/// Compressed bytes that one request to ingest may have, unless configured otherwise: what the vendor's older libraries
/// kept to. The newer ones send up to [`LARGEST_PAYLOAD_BYTES`]; what the service itself takes is not published.
pub const DEFAULT_PAYLOAD_BYTES: usize = 700_000;
/// Compressed bytes that the vendor's library of today refuses to go beyond. A larger setting is a configuration error.
pub const LARGEST_PAYLOAD_BYTES: usize = 10_000_000;
/// The vendor's production API.
pub const DEFAULT_API: &str = "api.global-services.global.alertlogic.com";

/// One `[[sink]]` of type `alertlogic`, as it is meant.
#[derive(Debug, Clone)]
pub struct AlertLogicConfig {
    /// The name that the ledger, the metrics and the status page know the sink by.
    pub name: SinkName,
    /// Where AIMS and the endpoints service are: a host, `host:port`, or a full `https://` url.
    pub api: String,
    /// Data residency, `default` unless Alert Logic said otherwise. Part of the endpoints service's path.
    pub residency: String,
    /// The access key's id. No secret: it shows up in Alert Logic's console.
    pub access_key_id: String,
    /// The access key's secret half.
    pub secret_key: SecretString,
    /// 1 (fast, by our own compressor) to 12 (small), from 2 on libdeflate's levels.
    pub compression_level: u8,
    /// Compressed bytes that one request may have, at most [`LARGEST_PAYLOAD_BYTES`].
    pub max_payload_bytes: usize,
    /// The log source's name in Alert Logic, the configuration key `name`. In a function app, the web app's name.
    pub collector_name: String,
    /// The log source's id from an earlier registration. Used only together with `host_id`, and for every tenant.
    pub source_id: Option<String>,
    /// The host's id from an earlier registration.
    pub host_id: Option<String>,
    /// The Azure subscription to register under; zeros outside Azure.
    pub subscription_id: String,
    /// The Azure resource group to register under; `self-hosted` outside Azure.
    pub resource_group: String,
    /// Whether registration carries the application's client secret, as the original's does.
    pub register_client_secret: bool,
    /// Where azcollect is, when the endpoints service is not to be asked.
    pub azcollect: Option<String>,
    /// Where ingest is, when the endpoints service is not to be asked.
    pub ingest: Option<String>,
    /// `local_hostname` of the host metadata: the site's host name in a function app. The registered name without it.
    pub local_hostname: Option<String>,
}

/// What registration says about one tenant's collection.
#[derive(Debug, Clone)]
pub struct TenantIdentity {
    /// Whose records they are.
    pub tenant: TenantId,
    /// The application that reads them at Microsoft.
    pub client_id: ClientId,
    /// Its secret, where it has one.
    pub client_secret: Option<SecretString>,
    /// The feeds that are collected.
    pub content_types: Vec<ContentType>,
}
