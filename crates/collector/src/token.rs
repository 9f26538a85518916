//! Tokens of the sign-in service: a credential and a resource become a cached [`AccessToken`], for the Activity API,
//! Azure Resource Manager and Azure Storage alike.

mod ending;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use activity_api::{
    AccessToken, ApplicationCertificate, ApplicationGrant, ClientId, NextStep, Origin, Proof,
    Reply, TenantId,
};
use azure::identity::ManagedIdentity;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::Mutex;
use tracing::{debug, warn};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::config::files::read_file;
use crate::config::{Credential, TenantConfig};
use crate::http::Transport;
use crate::microsoft::outcome;
use crate::telemetry::{self, RequestKind, RequestOutcome};

pub(crate) use ending::ending;

/// A token is renewed this long before its end: Microsoft's last ones live an hour and its guidance is to renew at 45 minutes.
const RENEW_BEFORE: Duration = Duration::from_secs(10 * 60);
/// How long a token that is still good is used on before the service is asked again that gave no new one. Every
/// request would wait for that answer, and an outage can make the wait long.
const RENEW_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Answers are kilobytes, refusals too.
const MAX_REPLY_BYTES: usize = 64 * 1024;
/// Far over the size of any token.
const MAX_ASSERTION_BYTES: u64 = 64 * 1024;
/// The pauses before a managed identity's endpoint is asked again: it is on the machine itself and starts with it, so
/// that its first answers may be refusals. Shorter than Microsoft's own list (2, 6, 14 and 30 seconds), because whoever
/// waits here has a time limit and will ask again.
const IDENTITY_PAUSES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// Where the tokens for one resource come from, each used until it is about to end. Shared by all who need one, who
/// then share one request.
pub struct TokenSource {
    grant: Grant,
    resource: Origin,
    /// Whose requests they are counted as.
    tenant: Option<TenantId>,
    http: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    /// Held while a token is fetched, so that workers who need one at once share one request.
    held: Mutex<Option<Held>>,
}

enum Grant {
    Application {
        login: Origin,
        tenant: TenantId,
        client_id: ClientId,
        proof: HeldProof,
    },
    ManagedIdentity(ManagedIdentity),
}

enum HeldProof {
    Secret(SecretString),
    Certificate(ApplicationCertificate),
    /// Read again each time: the token in it is replaced before it ends.
    AssertionFile(PathBuf),
}

struct Held {
    token: Arc<AccessToken>,
    /// When to ask for a new one.
    renew_at: Timestamp,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sign-in service or the managed identity's endpoint answered, and this is what the answer means.
    #[error(transparent)]
    Answer(#[from] activity_api::Error),
    /// No whole answer came.
    #[error("no token: its service cannot be reached")]
    Network(#[from] crate::http::Error),
    /// The certificate's key does not sign.
    #[error("no token")]
    Certificate(#[from] activity_api::NotSigned),
    /// There is nothing to ask for one with.
    #[error("no token: federated_token_file {}: {why}", path.display())]
    Assertion {
        /// The file.
        path: PathBuf,
        /// Why it cannot be used.
        why: String,
    },
}

impl Error {
    /// What to do now.
    #[must_use]
    pub fn next_step(&self) -> NextStep {
        match self {
            Self::Answer(error) => error.next_step(),
            // The file may be there again in a moment, when it was just replaced.
            Self::Network(_) | Self::Certificate(_) | Self::Assertion { .. } => {
                NextStep::RetryAfter(None)
            }
        }
    }
}

impl TokenSource {
    /// Tokens for `resource` by a tenant's configured credential.
    #[must_use]
    pub fn of_tenant(
        tenant: &TenantConfig,
        resource: Origin,
        http: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let of_application = |proof| Grant::Application {
            login: tenant.hosts.login.clone(),
            tenant: tenant.id,
            client_id: tenant.client_id,
            proof,
        };
        let grant = match &tenant.credential {
            Credential::ClientSecret(secret) => of_application(HeldProof::Secret(secret.clone())),
            Credential::Certificate(certificate) => {
                of_application(HeldProof::Certificate(certificate.clone()))
            }
            Credential::FederatedTokenFile(path) => {
                of_application(HeldProof::AssertionFile(path.clone()))
            }
            Credential::ManagedIdentity(identity) => Grant::ManagedIdentity(identity.clone()),
        };
        Self::new(grant, Some(tenant.id), resource, http, clock)
    }

    /// Tokens for `resource` by the machine's own identity.
    #[must_use]
    pub fn of_managed_identity(
        identity: ManagedIdentity,
        resource: Origin,
        http: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::new(
            Grant::ManagedIdentity(identity),
            None,
            resource,
            http,
            clock,
        )
    }

    fn new(
        grant: Grant,
        tenant: Option<TenantId>,
        resource: Origin,
        http: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            grant,
            resource,
            tenant,
            http,
            clock,
            held: Mutex::new(None),
        }
    }

    /// A token that is good for a while: the one at hand, or a new one. When no new one is to be had, the old one is
    /// used for as long as it lasts.
    ///
    /// # Errors
    /// When there is no token that is still good. See [`Error::next_step`].
    pub async fn token(&self) -> Result<Arc<AccessToken>, Error> {
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        if let Some(Held { token, renew_at }) = &*held
            && *renew_at > now
            && token.expires_at() > now
        {
            return Ok(Arc::clone(token));
        }
        let has_good_one = held
            .as_ref()
            .is_some_and(|held| held.token.expires_at() > now);
        match self.fetch(has_good_one).await {
            Ok(token) => {
                let token = Arc::new(token);
                // At half its life when it lives shorter than twice that: else every request would want a new one.
                let lifetime = token.expires_at().duration_since(now).unsigned_abs();
                let renew_at = token.expires_at() - RENEW_BEFORE.min(lifetime / 2);
                *held = Some(Held {
                    token: Arc::clone(&token),
                    renew_at,
                });
                Ok(token)
            }
            // The old one is good for a while yet; the service may be back by then.
            Err(error) => match &mut *held {
                Some(held) if held.token.expires_at() > self.clock.now() => {
                    warn!(resource = %self.resource, cause = &error as &dyn std::error::Error, "token not renewed, the old one is still good");
                    held.renew_at = self.clock.now() + RENEW_AGAIN_AFTER;
                    Ok(Arc::clone(&held.token))
                }
                _ => Err(error),
            },
        }
    }

    /// To be told that a token was refused before its end: it is not handed out again.
    pub async fn forget(&self, refused: &Arc<AccessToken>) {
        let mut held = self.held.lock().await;
        // Another worker may have replaced it already.
        if held
            .as_ref()
            .is_some_and(|held| Arc::ptr_eq(&held.token, refused))
        {
            *held = None;
        }
    }

    async fn fetch(&self, has_good_one: bool) -> Result<AccessToken, Error> {
        let pauses: &[Duration] = match self.grant {
            Grant::ManagedIdentity(_) if !has_good_one => &IDENTITY_PAUSES,
            // Whoever needs the token asks again by a plan of its own.
            Grant::ManagedIdentity(_) | Grant::Application { .. } => &[],
        };
        for pause in pauses {
            match self.fetch_once().await {
                Err(error) if matches!(error.next_step(), NextStep::RetryAfter(None)) => {
                    debug!(resource = %self.resource, cause = &error as &dyn std::error::Error, "the managed identity gives no token yet");
                    tokio::time::sleep(*pause).await;
                }
                other => return other,
            }
        }
        self.fetch_once().await
    }

    async fn fetch_once(&self) -> Result<AccessToken, Error> {
        let now = self.clock.now();
        let request = match &self.grant {
            Grant::Application {
                login,
                tenant,
                client_id,
                proof,
            } => {
                let assertion;
                let grant = ApplicationGrant {
                    client_id: *client_id,
                    proof: match proof {
                        HeldProof::Secret(secret) => Proof::Secret(secret),
                        HeldProof::Certificate(certificate) => {
                            assertion = certificate.statement(login, *tenant, *client_id, now)?;
                            Proof::Assertion(&assertion)
                        }
                        HeldProof::AssertionFile(path) => {
                            assertion = read_assertion(path).map_err(|why| {
                                let path = path.clone();
                                Error::Assertion { path, why }
                            })?;
                            Proof::Assertion(&assertion)
                        }
                    },
                };
                activity_api::token_request(login, *tenant, &self.resource, &grant)
            }
            Grant::ManagedIdentity(identity) => identity.token_request(&self.resource),
        };
        // Counted apart from the budget: the sign-in service has limits of its own.
        let answer = async {
            let (head, body) = self.http.send(request).await?.into_parts();
            Ok::<_, crate::http::Error>(Reply {
                status: head.status,
                headers: head.headers,
                body: body.collect(MAX_REPLY_BYTES).await?,
            })
        };
        let reply = match answer.await {
            Ok(reply) => reply,
            Err(error) => {
                self.count(RequestOutcome::Unreachable);
                return Err(error.into());
            }
        };
        let token = match &self.grant {
            Grant::Application { .. } => activity_api::read_token(&reply, now),
            Grant::ManagedIdentity(identity) => identity.read_token(&reply, now),
        };
        self.count(token.as_ref().map_or_else(outcome, |_| RequestOutcome::Ok));
        Ok(token?)
    }

    fn count(&self, outcome: RequestOutcome) {
        if let Some(tenant) = self.tenant {
            telemetry::request(tenant, RequestKind::Token, outcome);
        }
    }
}

/// The token in a file, white space around it aside. Some kilobytes, which the system has in memory as a rule: there is no
/// waiting that would be worth a thread, once an hour.
///
/// # Errors
/// Why, when the file cannot be read, or what is in it is no token. Without its name, which may be a secret that was put into
/// the wrong variable.
pub(crate) fn read_assertion(path: &Path) -> Result<SecretString, String> {
    // The mere opening of a pipe may wait forever. What is not there is told by the reading.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err("the file is no regular file".to_owned());
    }
    let text = read_file(path, MAX_ASSERTION_BYTES).map_err(|reason| format!("the file {reason}"));
    let text = Zeroizing::new(text?);
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the file has no token in it, or more than one".to_owned());
    }
    Ok(SecretString::from(token))
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSource")
            .field("resource", &self.resource)
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}
