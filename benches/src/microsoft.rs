//! The simulated Microsoft as any client sees it: tokens, subscriptions and listings of all tenants of a configuration.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use reqwest::Client;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use crate::http::Blobs;

/// Listings asked for at once.
const LISTINGS_AT_ONCE: usize = 16;

/// The content types of the API.
pub const CONTENT_TYPES: [&str; 5] = [
    "Audit.AzureActiveDirectory",
    "Audit.Exchange",
    "Audit.SharePoint",
    "Audit.General",
    "DLP.All",
];

/// The part of a collector's configuration that says where to fetch.
#[derive(Debug, Deserialize)]
pub struct Config {
    /// The tenants.
    #[serde(rename = "tenant")]
    pub tenants: Vec<Tenant>,
    microsoft: Hosts,
    tls: Tls,
}

/// A tenant and its application.
#[derive(Debug, Deserialize)]
pub struct Tenant {
    /// The tenant's GUID.
    pub id: String,
    client_id: String,
    client_secret: String,
}

#[derive(Debug, Deserialize)]
struct Hosts {
    activity: String,
}

#[derive(Debug, Deserialize)]
struct Tls {
    ca_file: String,
}

/// A blob as a listing names it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// Where it is fetched.
    pub content_uri: String,
    /// What it is known by.
    pub content_id: String,
    /// Its content type.
    pub content_type: String,
    /// When it was created.
    pub content_created: String,
    /// When it expires.
    pub content_expiration: String,
}

/// All that a tenant has, and the token to fetch it with.
#[derive(Debug)]
pub struct Listed {
    /// `Authorization` of the requests.
    pub bearer: HeaderValue,
    /// Its blobs of the last 24 hours, oldest first within a content type.
    pub blobs: Vec<Blob>,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

impl Config {
    /// The configuration that `o365-collector simulate` wrote.
    ///
    /// # Errors
    /// When the file is none.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        Ok(toml::from_str(&text)?)
    }

    /// The origin of the Activity API.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.microsoft.activity
    }

    /// A client that trusts the simulator.
    ///
    /// # Errors
    /// When the file with its CA is not there.
    pub fn client(&self) -> anyhow::Result<Client> {
        super::http::client(&fs::read(&self.tls.ca_file)?)
    }

    /// The limit's client.
    ///
    /// # Errors
    /// When the file with the simulator's CA is not there.
    pub fn blobs(&self) -> anyhow::Result<Blobs> {
        Blobs::new(&fs::read(&self.tls.ca_file)?)
    }

    /// Subscribes to everything and lists it, tenant by tenant in their order.
    ///
    /// # Errors
    /// When an answer is not what it should be.
    pub async fn list(&self, client: &Client) -> anyhow::Result<Vec<Listed>> {
        let listings = self
            .tenants
            .iter()
            .map(|tenant| self.list_tenant(client, tenant));
        let listings = futures::stream::iter(listings).buffered(LISTINGS_AT_ONCE);
        listings.collect::<Vec<_>>().await.into_iter().collect()
    }

    async fn list_tenant(&self, client: &Client, tenant: &Tenant) -> anyhow::Result<Listed> {
        let login = format!("{}/{}/oauth2/v2.0/token", self.origin(), tenant.id);
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", tenant.client_id.as_str()),
            ("client_secret", tenant.client_secret.as_str()),
            ("scope", &format!("{}/.default", self.origin())),
        ];
        let query = reqwest::Url::parse_with_params("http://form/", form)?;
        let reply = client
            .post(login)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(query.query().unwrap_or_default().to_owned())
            .send()
            .await?;
        let token: Token = serde_json::from_slice(&reply.error_for_status()?.bytes().await?)?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.access_token))?;
        bearer.set_sensitive(true);
        let feed = format!("{}/api/v1.0/{}/activity/feed", self.origin(), tenant.id);
        let mut blobs = Vec::new();
        for content_type in CONTENT_TYPES {
            let query = format!(
                "contentType={content_type}&PublisherIdentifier={}",
                tenant.id
            );
            let start = format!("{feed}/subscriptions/start?{query}");
            let started = client
                .post(start)
                .header("authorization", &bearer)
                .send()
                .await?;
            // 400 says that there is one already.
            ensure!(
                matches!(started.status().as_u16(), 200 | 400),
                "no subscription"
            );
            let mut page = Some(format!("{feed}/subscriptions/content?{query}"));
            while let Some(uri) = page {
                let reply = client
                    .get(uri)
                    .header("authorization", &bearer)
                    .send()
                    .await?;
                let reply = reply.error_for_status()?;
                let next = reply.headers().get("nextpageuri");
                page = next
                    .map(|uri| uri.to_str().map(str::to_owned))
                    .transpose()?;
                blobs.extend(serde_json::from_slice::<Vec<Blob>>(&reply.bytes().await?)?);
            }
        }
        Ok(Listed { bearer, blobs })
    }
}
