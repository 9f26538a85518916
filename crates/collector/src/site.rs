//! The function app that we run as, seen through Azure Resource Manager: its state, its app settings, its triggers.
//!
//! Requests are built by [`SiteApi`] for the configured Resource Manager and nowhere else, so a token for it can go
//! nowhere else either.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use activity_api::Reply;
use azure::resource_manager::{self, Changes, InvalidName, NextStep, Settings, SiteApi, SiteState};
use bytes::Bytes;
use http::Request;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::config::{SiteConfig, TenantConfig};
use crate::http::Transport;
use crate::token::{self, TokenSource};

/// Hundreds of settings with a certificate in each do not come near it.
const MAX_REPLY_BYTES: usize = 4 * 1024 * 1024;
/// Longer than Resource Manager was seen to take, shorter than a function may.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);
/// How often something is sent again that passes by itself.
const TRIES: u32 = 5;
/// A longer wait than this is left to whoever asked: the next run of Master is near.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Our own function app.
pub struct Site {
    name: String,
    api: SiteApi,
    token: TokenSource,
    http: Arc<dyn Transport>,
}

/// Why Azure did not do what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It answered, and this is what the answer means.
    #[error(transparent)]
    Answer(#[from] resource_manager::Error),
    /// There is no token for it.
    #[error("no token for resource manager")]
    Token(#[from] token::Error),
    /// No whole answer came.
    #[error("resource manager cannot be reached")]
    Network(#[from] crate::http::Error),
}

impl Error {
    /// What to do now.
    #[must_use]
    pub fn next_step(&self) -> NextStep {
        match self {
            Self::Answer(error) => error.next_step(),
            Self::Network(_) => NextStep::RetryAfter(None),
            Self::Token(error) => match error.next_step() {
                activity_api::NextStep::RetryAfter(after) => NextStep::RetryAfter(after),
                _ => NextStep::Stop,
            },
        }
    }
}

impl Site {
    /// The site of this configuration, spoken to as `tenant`'s application or managed identity, at its cloud's Resource
    /// Manager.
    ///
    /// # Errors
    /// When one of the names could lead to another site.
    pub fn build(
        site: &SiteConfig,
        tenant: &TenantConfig,
        http: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidName> {
        let origin = tenant.hosts.resource_manager.clone();
        Ok(Self {
            name: site.site_name.clone(),
            api: SiteApi::new(
                &origin,
                &site.subscription_id,
                &site.resource_group,
                &site.site_name,
            )?,
            token: TokenSource::of_tenant(tenant, origin, Arc::clone(&http), clock),
            http,
        })
    }

    /// Its state.
    ///
    /// # Errors
    /// See [`Error::next_step`].
    pub async fn state(&self) -> Result<SiteState, Error> {
        self.patiently(|| async {
            let reply = self.send(self.api.get_site()).await?;
            Ok(resource_manager::read_site(&reply)?)
        })
        .await
    }

    /// All its app settings, secrets included.
    ///
    /// # Errors
    /// See [`Error::next_step`].
    pub async fn settings(&self) -> Result<Settings, Error> {
        self.patiently(|| self.list()).await
    }

    /// Makes these changes to its app settings and leaves all others alone. Whether anything had to be put; when
    /// something was, the app is about to restart, and this process with it.
    ///
    /// Resource Manager knows no condition for a put, so a change that somebody else makes between our list and our put
    /// is lost. The two follow one another at once, and every new try lists again.
    ///
    /// # Errors
    /// See [`Error::next_step`].
    ///
    /// # If interrupted
    /// The put has happened wholly or not at all. The next run lists again and puts only what is still missing.
    pub async fn merge_settings(&self, changes: &Changes) -> Result<bool, Error> {
        if changes.is_empty() {
            return Ok(false);
        }
        self.patiently(|| async {
            let mut settings = self.list().await?;
            if !settings.merge(changes) {
                return Ok(false);
            }
            let reply = self.send(self.api.put_settings(&settings)).await?;
            resource_manager::check(&reply)?;
            info!(site = self.name, names = ?changes, "app settings changed, the function app restarts");
            Ok(true)
        })
        .await
    }

    /// Has a source-controlled deployment fetched anew.
    ///
    /// # Errors
    /// See [`Error::next_step`].
    ///
    /// # If interrupted
    /// The platform fetches or does not. Asking again does no harm.
    pub async fn sync_repository(&self) -> Result<(), Error> {
        self.tell(|| self.api.sync_repository()).await
    }

    /// Tells the platform that the functions' triggers may have changed.
    ///
    /// # Errors
    /// See [`Error::next_step`].
    ///
    /// # If interrupted
    /// As [`sync_repository`](Self::sync_repository).
    pub async fn sync_triggers(&self) -> Result<(), Error> {
        self.tell(|| self.api.sync_triggers()).await
    }

    async fn tell(&self, make: impl Fn() -> Request<Bytes>) -> Result<(), Error> {
        self.patiently(|| async {
            let reply = self.send(make()).await?;
            Ok(resource_manager::check(&reply)?)
        })
        .await
    }

    async fn list(&self) -> Result<Settings, Error> {
        let reply = self.send(self.api.list_settings()).await?;
        Ok(resource_manager::read_settings(&reply)?)
    }

    /// Does it again, from its beginning, while that may help and is not long to wait for.
    async fn patiently<T, F: Future<Output = Result<T, Error>>>(
        &self,
        step: impl Fn() -> F,
    ) -> Result<T, Error> {
        let mut pause = Duration::from_millis(500);
        for _ in 1..TRIES {
            let error = match step().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let wait = match error.next_step() {
                NextStep::ReadAgain | NextStep::RetryAfter(None) => pause,
                NextStep::RetryAfter(Some(wait)) if wait <= LONGEST_WAIT => wait.max(pause),
                // A refused token was replaced once already.
                NextStep::RetryAfter(Some(_)) | NextStep::Reauthenticate | NextStep::Stop => {
                    return Err(error);
                }
            };
            warn!(site = self.name, cause = &error as &dyn std::error::Error, retry_in = ?wait, "resource manager did not do it");
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
        step().await
    }

    /// Sends a request with a token on it. A refused token is replaced once: it may have been revoked before its time.
    async fn send(&self, request: Request<Bytes>) -> Result<Reply, Error> {
        let token = self.token.token().await?;
        let reply = self.send_with(&token, request.clone()).await?;
        match resource_manager::check(&reply) {
            Err(error) if error.next_step() == NextStep::Reauthenticate => {
                self.token.forget(&token).await;
                let token = self.token.token().await?;
                self.send_with(&token, request).await
            }
            _ => Ok(reply),
        }
    }

    async fn send_with(
        &self,
        token: &activity_api::AccessToken,
        mut request: Request<Bytes>,
    ) -> Result<Reply, Error> {
        request
            .headers_mut()
            .insert(http::header::AUTHORIZATION, token.authorization());
        let answer = async {
            let (head, body) = self.http.send(request).await?.into_parts();
            Ok(Reply {
                status: head.status,
                headers: head.headers,
                body: body.collect(MAX_REPLY_BYTES).await?,
            })
        };
        match tokio::time::timeout(LONGEST_REQUEST, answer).await {
            Ok(reply) => reply.map_err(Error::Network),
            Err(_elapsed) => Err(crate::http::Error::TimedOut.into()),
        }
    }
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
