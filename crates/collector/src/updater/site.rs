//! The function app that is kept up to date, as far as the updater deals with it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure::resource_manager::{Changes, NextStep};
use secrecy::{ExposeSecret as _, SecretString};

use super::{PACKAGE, PREVIOUS_PACKAGE};
use crate::config::SiteConfig;
use crate::site::{self, Site};

/// Our own function app. Its app settings hold secrets in clear, package urls among them.
#[async_trait]
pub trait UpdateSite: Send + Sync {
    /// What tells this site from every other, the same at every run.
    fn identity(&self) -> String;

    /// Whether its plan takes packages in another way only.
    ///
    /// # Errors
    /// When Azure does not say.
    async fn is_flex(&self) -> Result<bool, SiteError>;

    /// Which packages the app settings name.
    ///
    /// # Errors
    /// When Azure does not say.
    async fn packages(&self) -> Result<Packages, SiteError>;

    /// Has the app run from `current`, and keeps `previous`, where there is one, in the app setting for it. In one write,
    /// which leaves all other settings as they are, and which restarts the app: this process may end at any moment after.
    ///
    /// # Errors
    /// When Azure refuses, or does not answer. The settings may have been written all the same.
    ///
    /// # If interrupted
    /// Both settings are written or neither is; [`UpdateSite::packages`] tells.
    async fn set_packages(
        &self,
        current: &SecretString,
        previous: Option<&SecretString>,
    ) -> Result<(), SiteError>;

    /// Tells the Functions host that the functions may have changed.
    ///
    /// # Errors
    /// When Azure refuses, or does not answer.
    async fn sync_triggers(&self) -> Result<(), SiteError>;

    /// Tells an app that is deployed from source control to fetch it.
    ///
    /// # Errors
    /// When Azure refuses, or does not answer.
    async fn sync_repository(&self) -> Result<(), SiteError>;
}

/// Why the site was not read or changed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub struct SiteError {
    /// What went wrong, without any setting's value.
    pub what: String,
    /// How long Azure asked to be left alone.
    pub retry_after: Option<Duration>,
}

/// The app settings that name packages.
#[derive(Debug, Clone, Default)]
pub struct Packages {
    /// What the app runs from: a url, or `1` for a package inside of the site, or nothing.
    pub current: Option<SecretString>,
    /// What it ran from before the updater changed it.
    pub previous: Option<SecretString>,
}

impl Packages {
    /// The url that the app runs from, if it is one.
    pub(super) fn current_url(&self) -> Option<&str> {
        let current = self.current.as_ref()?.expose_secret();
        (current.starts_with("https://") || current.starts_with("http://")).then_some(current)
    }
}

/// The function app that this process runs in, through Azure Resource Manager.
#[derive(Debug)]
pub struct OwnSite {
    site: Arc<Site>,
    identity: String,
}

impl OwnSite {
    /// The site that `config` names, which is the one that `site` was built of.
    #[must_use]
    pub fn new(site: Arc<Site>, config: &SiteConfig) -> Self {
        let identity = format!(
            "{}/{}/{}",
            config.subscription_id, config.resource_group, config.site_name
        );
        Self { site, identity }
    }
}

#[async_trait]
impl UpdateSite for OwnSite {
    fn identity(&self) -> String {
        self.identity.clone()
    }

    async fn is_flex(&self) -> Result<bool, SiteError> {
        let state = self.site.state().await;
        Ok(state
            .map_err(|error| SiteError::new("the app's state cannot be read", &error))?
            .is_flex())
    }

    async fn packages(&self) -> Result<Packages, SiteError> {
        let settings = self.site.settings().await;
        let settings =
            settings.map_err(|error| SiteError::new("the app settings cannot be read", &error))?;
        Ok(Packages {
            current: settings.get(PACKAGE).cloned(),
            previous: settings.get(PREVIOUS_PACKAGE).cloned(),
        })
    }

    async fn set_packages(
        &self,
        current: &SecretString,
        previous: Option<&SecretString>,
    ) -> Result<(), SiteError> {
        let mut changes = Changes::new().set(PACKAGE, current.clone());
        if let Some(previous) = previous {
            changes = changes.set(PREVIOUS_PACKAGE, previous.clone());
        }
        let merged = self.site.merge_settings(&changes).await;
        merged
            .map(drop)
            .map_err(|error| SiteError::new("the app settings cannot be changed", &error))
    }

    async fn sync_triggers(&self) -> Result<(), SiteError> {
        let synced = self.site.sync_triggers().await;
        synced.map_err(|error| SiteError::new("the triggers cannot be synced", &error))
    }

    async fn sync_repository(&self) -> Result<(), SiteError> {
        let synced = self.site.sync_repository().await;
        synced.map_err(|error| SiteError::new("the source repository cannot be synced", &error))
    }
}

impl SiteError {
    fn new(what: &str, error: &site::Error) -> Self {
        let retry_after = match error.next_step() {
            NextStep::RetryAfter(retry_after) => retry_after,
            NextStep::ReadAgain | NextStep::Reauthenticate | NextStep::Stop => None,
        };
        let mut what = format!("{what}: {error}");
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            what.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self { what, retry_after }
    }
}
