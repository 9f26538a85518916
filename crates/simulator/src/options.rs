//! What to simulate: how many tenants and records, how they are spread over time, and which of the services' rules are strict.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use crate::{Corpus, Storm};

/// A content type of the Activity API, with Microsoft's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContentType {
    /// `Audit.AzureActiveDirectory`.
    AzureActiveDirectory,
    /// `Audit.Exchange`.
    Exchange,
    /// `Audit.SharePoint`, OneDrive's records too.
    SharePoint,
    /// `Audit.General`: every other workload.
    General,
    /// `DLP.All`.
    Dlp,
}

impl ContentType {
    /// All five, in the order in which the documents list them.
    pub const ALL: [Self; 5] = [
        Self::AzureActiveDirectory,
        Self::Exchange,
        Self::SharePoint,
        Self::General,
        Self::Dlp,
    ];

    /// The name as it stands in requests and replies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AzureActiveDirectory => "Audit.AzureActiveDirectory",
            Self::Exchange => "Audit.Exchange",
            Self::SharePoint => "Audit.SharePoint",
            Self::General => "Audit.General",
            Self::Dlp => "DLP.All",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ContentType {
    type Err = UnknownContentType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|content_type| content_type.as_str() == text)
            .ok_or(UnknownContentType)
    }
}

/// The text is none of the five content types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a content type of the activity api")]
pub struct UnknownContentType;

/// Everything that can be chosen about a simulation. `Options::default()` is one tenant with 10,000 records of all five
/// content types, listed over the twelve hours before the start, over plain HTTP on free ports.
#[derive(Clone, Debug)]
pub struct Options {
    /// Two simulators with the same seed, corpus and `start_at` serve the same bytes.
    pub seed: u64,
    /// How many tenants share the records equally. At least 1, at most 10,000.
    pub tenants: usize,
    /// The content types that have records, at least one.
    pub content_types: Vec<ContentType>,
    /// Records in all, over all tenants, exact. 0 with a corpus means each of its lines once.
    pub records: u64,
    /// The mean number of records in a blob; blobs hold from half to one and a half times as many.
    pub records_per_blob: usize,
    /// Records to serve in place of generated ones.
    pub corpus: Option<Corpus>,
    /// The simulated time at the start; the real time when absent.
    pub start_at: Option<Timestamp>,
    /// The backlog's `contentCreated` are spread over this much time before the start.
    pub backlog: Duration,
    /// How many of the records are backlog when `live_records_per_sec` is set; half of them when absent.
    pub backlog_records: Option<u64>,
    /// After the start, blobs appear at this rate (records per simulated second) until all records are there.
    /// Absent: every record is backlog.
    pub live_records_per_sec: Option<f64>,
    /// Blobs on one page of a listing. Microsoft's is undocumented and large.
    pub page_size: usize,
    /// Whether blobs are compressed for a client that accepts gzip. Not documented by Microsoft, so both must work.
    pub gzip: bool,
    /// Compress every blob before the ports open, at about 200 bytes of memory for each record, so that while a collector is
    /// measured the simulator takes as little of the machine as it can.
    pub prepare_blobs: bool,
    /// Where to listen. With port 0 the six services get free ports; with port P they get P (Microsoft), P+1 (Alert Logic),
    /// P+2 (Splunk HEC), P+3 (the stranger), P+4 (Azure Resource Manager) and P+5 (managed identities).
    pub listen: SocketAddr,
    /// The host name in the origins, in `contentUri` and in the certificate.
    pub public_host: String,
    /// HTTPS with a certificate from a CA made for this run, else plain HTTP.
    pub tls: bool,
    /// Whether blobs are pushed to webhooks of subscriptions.
    pub webhook_push: bool,
    /// Accept webhook addresses that are `http://` on a loopback host. Microsoft accepts `https://` only.
    pub allow_http_webhook: bool,
    /// PEM of roots to trust when calling a webhook, besides the simulator's own CA.
    pub webhook_roots_pem: Option<String>,
    /// After this many failed calls in a row a webhook is disabled. Microsoft publishes no number.
    pub webhook_max_failures: u32,
    /// The gap after the first failed call of a webhook, in real time; it doubles with each further one.
    pub webhook_retry: Duration,
    /// PEM of a certificate that the application of each tenant is known by, besides its secret.
    pub certificate_pem: Option<String>,
    /// How long Microsoft's tokens live, in simulated time.
    pub token_lifetime: Duration,
    /// How long Alert Logic's tokens live, in simulated time.
    pub aims_token_lifetime: Duration,
    /// Whether Microsoft's tokens carry the role `ActivityFeed.Read`; without it the API answers 401 AF10001.
    pub grant_roles: bool,
    /// Refuse requests without `PublisherIdentifier`. Microsoft does not; it counts them in a pool shared by everyone.
    pub require_publisher: bool,
    /// Requests a minute for each tenant and publisher, then AF429. None: no quota.
    pub requests_per_minute: Option<u32>,
    /// The 24-hour rule refuses a window of exactly 24 hours, as seen in 2026.
    pub strict_day: bool,
    /// The code for a broken time rule: AF20055 when true (as seen since 2025), else AF20030.
    pub newer_time_code: bool,
    /// Days from the first time in a `contentId` to `contentExpiration`: 7 by the documents, 14 and 21 were seen.
    pub expiration_days: u32,
    /// Waited before every answer, in real time.
    pub latency: Option<Duration>,
    /// Waited before every answer of a sink's in place of `latency`, in real time.
    pub sink_latency: Option<Duration>,
    /// Whether sinks look at what they are given. When false they take everything unread and count bodies only, which
    /// leaves the machine to a collector that is being measured; there is no verdict then.
    pub check_sinks: bool,
    /// What goes wrong on purpose.
    pub storm: Option<Storm>,
    /// Alert Logic's side.
    pub alertlogic: AlertLogicOptions,
    /// Splunk's side.
    pub hec: HecOptions,
    /// Azure's side.
    pub azure: AzureOptions,
    /// A folder for the bodies and headers of the first accepted `logmsgs` posts, for another decoder to judge:
    /// `0001.body` and `0001.json`, counted from 1.
    pub capture_ingest: Option<PathBuf>,
    /// How many posts are captured.
    pub capture_limit: usize,
    /// Threads that serve.
    pub worker_threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            tenants: 1,
            content_types: ContentType::ALL.to_vec(),
            records: 10_000,
            records_per_blob: 100,
            corpus: None,
            start_at: None,
            backlog: Duration::from_secs(12 * 3600),
            backlog_records: None,
            live_records_per_sec: None,
            page_size: 200,
            gzip: true,
            prepare_blobs: false,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            public_host: "localhost".to_owned(),
            tls: false,
            webhook_push: true,
            allow_http_webhook: false,
            webhook_roots_pem: None,
            webhook_max_failures: 10,
            webhook_retry: Duration::from_secs(1),
            certificate_pem: None,
            token_lifetime: Duration::from_secs(3599),
            aims_token_lifetime: Duration::from_secs(6 * 3600),
            grant_roles: true,
            require_publisher: false,
            requests_per_minute: Some(2_000),
            strict_day: false,
            newer_time_code: true,
            expiration_days: 7,
            latency: None,
            sink_latency: None,
            check_sinks: true,
            storm: None,
            alertlogic: AlertLogicOptions::default(),
            hec: HecOptions::default(),
            azure: AzureOptions::default(),
            capture_ingest: None,
            capture_limit: 20,
            worker_threads: 2,
        }
    }
}

/// Alert Logic's side of a simulation.
#[derive(Clone, Debug)]
pub struct AlertLogicOptions {
    /// The account id, `{cid}` in every path.
    pub account_id: String,
    /// The user who owns the access keys.
    pub user_id: String,
    /// The access key id that AIMS knows from the start.
    pub access_key_id: String,
    /// Its secret.
    pub secret_key: String,
    /// Bodies of `logmsgs` over this many compressed bytes get 413.
    pub max_body_bytes: usize,
    /// The name with which the user logs in, in place of an access key.
    pub user_name: String,
    /// The user's password.
    pub user_password: String,
    /// The second factor that the user's login wants, where it has one.
    pub mfa_code: Option<String>,
    /// The user's roles. Only an `Administrator` may create and delete access keys.
    pub roles: Vec<String>,
    /// The residency that the endpoints service knows.
    pub residency: String,
    /// `(source_id, host_id)` known from an earlier registration.
    pub registered: Vec<(String, String)>,
}

impl Default for AlertLogicOptions {
    fn default() -> Self {
        Self {
            account_id: "134274125".to_owned(),
            user_id: "715A4EC0-9833-4D6E-9C03-A537E3F98D23".to_owned(),
            access_key_id: "712c0b413eef41f6".to_owned(),
            secret_key: "simulated-secret-key-1234567890abcdef".to_owned(),
            max_body_bytes: 10_000_000,
            user_name: "admin@contoso.example".to_owned(),
            user_password: "simulated-password: 1234567890".to_owned(),
            mfa_code: None,
            roles: vec!["Administrator".to_owned()],
            residency: "default".to_owned(),
            registered: Vec::new(),
        }
    }
}

/// Splunk's side of a simulation.
#[derive(Clone, Debug)]
pub struct HecOptions {
    /// The token that is accepted.
    pub token: String,
    /// Whether indexer acknowledgement is on: posts then need a channel and get an `ackId`.
    pub acks: bool,
    /// How many times an `ackId` is answered false before it is answered true.
    pub ack_after_polls: u32,
    /// Bodies over this many inflated bytes get 413.
    pub max_body_bytes: usize,
}

impl Default for HecOptions {
    fn default() -> Self {
        Self {
            token: "2b4f8c1e-6a1d-4c59-9d0f-1f6f1c1f7a10".to_owned(),
            acks: true,
            ack_after_polls: 0,
            max_body_bytes: 64 << 20,
        }
    }
}

/// Azure's side of a simulation: one function app, and the managed identity that belongs to it. Both are the first tenant's.
#[derive(Clone, Debug)]
pub struct AzureOptions {
    /// The subscription that the function app is in.
    pub subscription_id: String,
    /// Its resource group.
    pub resource_group: String,
    /// Its name.
    pub site_name: String,
    /// Where the resource group says it is.
    pub location: String,
    /// `Dynamic` for the consumption plan, `FlexConsumption`, `ElasticPremium`.
    pub sku: String,
    /// The app settings from the start.
    pub settings: BTreeMap<String, String>,
    /// What `IDENTITY_HEADER` and `MSI_SECRET` hold.
    pub identity_header: String,
    /// The object id of the managed identity, which may be named in a request for a token.
    pub principal_id: String,
    /// The client id of the managed identity, which may be named in a request for a token.
    pub identity_client_id: String,
    /// The old protocol of managed identities writes `09/14/2017 02:05:06 PM +00:00` as Windows does; when false,
    /// `09/14/2017 14:05:06 +00:00` as Linux does.
    pub am_pm_dates: bool,
}

impl AzureOptions {
    /// The host name of the function app.
    pub fn hostname(&self) -> String {
        format!("{}.azurewebsites.net", self.site_name)
    }

    /// The path of the function app in Azure Resource Manager.
    pub fn resource_id(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Web/sites/{}",
            self.subscription_id, self.resource_group, self.site_name
        )
    }
}

impl Default for AzureOptions {
    fn default() -> Self {
        Self {
            subscription_id: "8ce6a1f5-3b0e-4a0f-9d6c-0d9a2f6f4b11".to_owned(),
            resource_group: "collectors".to_owned(),
            site_name: "o365-collector-app".to_owned(),
            location: "West Europe".to_owned(),
            sku: "Dynamic".to_owned(),
            settings: BTreeMap::new(),
            identity_header: "5a1c3e70d4b94f2e8c6f7a9b0d1e2f34".to_owned(),
            principal_id: "d0c7e1a2-55b3-4f7e-8a7d-6b1f0e9c3a21".to_owned(),
            identity_client_id: "4c9e8b7a-6f5d-4e3c-9b2a-1f0e9d8c7b6a".to_owned(),
            am_pm_dates: true,
        }
    }
}
