//! Speaking with the services: a token and addresses, each got when it is first needed, by one caller at a time, and kept.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use alertlogic::{
    Endpoint, Error as ServiceError, NextStep, Reply,
    aims::{self, Token},
    endpoints::{self, Service as ServiceName},
};
use bytes::Bytes;
use http::Request;
use jiff::{SignedDuration, Timestamp};
use ledger::Ledger;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::AlertLogicConfig;
use crate::{clock::Clock, http::Transport, sinks::Error};

/// Longer than 10 MB take on a line of 1 Mbit/s, and as long as the vendor's library goes on trying.
const LONGEST_REQUEST: Duration = Duration::from_secs(180);
/// No reply of these services is anywhere near this.
const MAX_REPLY_BYTES: usize = 1 << 20;
/// How long connections to an address fail before it is looked up anew. Shorter than a move of the service takes
/// anyone to notice, longer than a restart of it.
const FAILING_LONG: SignedDuration = SignedDuration::from_mins(5);

pub(super) struct Service {
    config: AlertLogicConfig,
    api: Endpoint,
    configured: Configured,
    http: Arc<dyn Transport>,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    /// Locked while authenticating, so that concurrent deliveries ask for one token, not for one each.
    token: Mutex<Option<Arc<Token>>>,
    /// Locked while looking up, for the same reason.
    addresses: Mutex<Addresses>,
    /// Since when no connection to ingest has worked. Apart from the addresses, so that no delivery waits for a lookup
    /// only to say that it got an answer.
    ingest_failing_since: std::sync::Mutex<Option<Timestamp>>,
}

struct Configured {
    azcollect: Option<Endpoint>,
    ingest: Option<Endpoint>,
}

#[derive(Default)]
struct Addresses {
    /// Whether the ledger was asked.
    is_recalled: bool,
    azcollect: Option<Endpoint>,
    ingest: Option<Endpoint>,
}

/// What the ledger keeps of the addresses.
#[derive(Serialize, Deserialize)]
struct AddressFact {
    api: String,
    residency: String,
    account_id: String,
    azcollect: Option<String>,
    ingest: Option<String>,
}

impl Service {
    pub(super) fn build(
        config: AlertLogicConfig,
        http: Arc<dyn Transport>,
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let parse = |key: &str, text: &str| {
            Endpoint::parse(text).map_err(|error| Error::Refused {
                what: format!("sink {}: {key}: {error}", config.name),
            })
        };
        let api = parse("api", &config.api)?;
        let azcollect = config
            .azcollect
            .as_deref()
            .map(|text| parse("azcollect", text))
            .transpose()?;
        let ingest = config
            .ingest
            .as_deref()
            .map(|text| parse("ingest", text))
            .transpose()?;
        let configured = Configured { azcollect, ingest };
        Ok(Self {
            config,
            api,
            configured,
            http,
            ledger,
            clock,
            token: Mutex::default(),
            addresses: Mutex::default(),
            ingest_failing_since: std::sync::Mutex::default(),
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Its settings.
    pub(super) fn config(&self) -> &AlertLogicConfig {
        &self.config
    }

    /// Where AIMS and the endpoints service are.
    pub(super) fn api(&self) -> &Endpoint {
        &self.api
    }

    /// The id of the account that the access key belongs to.
    pub(super) async fn account_id(&self) -> Result<String, Error> {
        Ok(self.token().await?.account_id().to_owned())
    }

    /// Where collectors register and check in.
    pub(super) async fn azcollect(&self) -> Result<Endpoint, Error> {
        self.address(ServiceName::Azcollect).await
    }

    /// Where records go.
    pub(super) async fn ingest(&self) -> Result<Endpoint, Error> {
        self.address(ServiceName::Ingest).await
    }

    /// To be told whether a request to ingest got any reply.
    pub(super) fn note_ingest_reached(&self, was_reached: bool) {
        let mut since = self
            .ingest_failing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *since = if was_reached {
            None
        } else {
            since.or_else(|| Some(self.now()))
        };
    }

    fn is_ingest_failing_long(&self) -> bool {
        let since = *self
            .ingest_failing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| self.now().duration_since(since) >= FAILING_LONG)
    }

    /// Sends a request with a token on it. When that is refused, once more with another one: a token may be revoked
    /// before its time.
    pub(super) async fn call(
        &self,
        what: &str,
        make: impl Fn(&Token) -> Request<Bytes> + Send + Sync,
    ) -> Result<Reply, CallError> {
        let token = self.token().await?;
        let reply = self.send(what, make(&token)).await?;
        match reply.check(self.now()) {
            Err(error) if error.next_step() == NextStep::Reauthenticate => {
                let token = self.another_token(&token).await?;
                Ok(self.send(what, make(&token)).await?)
            }
            _ => Ok(reply),
        }
    }

    async fn token(&self) -> Result<Arc<Token>, Error> {
        let mut slot = self.token.lock().await;
        let now = self.now();
        let Some(token) = &*slot else {
            return self.authenticate(&mut slot).await;
        };
        if !token.needs_renewal(now) {
            return Ok(Arc::clone(token));
        }
        let old = Arc::clone(token);
        match self.authenticate(&mut slot).await {
            // Renewed early so that this may fail for a while.
            Err(Error::Unavailable { what, .. }) if !old.is_expired(now) => {
                warn!(sink = %self.config.name, %what, "token not renewed, the old one still holds");
                Ok(old)
            }
            other => other,
        }
    }

    /// A token other than the refused one; whoever comes first asks for it, the others take it over.
    async fn another_token(&self, refused: &Arc<Token>) -> Result<Arc<Token>, Error> {
        let mut slot = self.token.lock().await;
        match &*slot {
            Some(token) if !Arc::ptr_eq(token, refused) => Ok(Arc::clone(token)),
            _ => self.authenticate(&mut slot).await,
        }
    }

    async fn authenticate(&self, slot: &mut Option<Arc<Token>>) -> Result<Arc<Token>, Error> {
        let what = "authenticate at aims";
        let request = aims::authenticate_request(
            &self.api,
            &self.config.access_key_id,
            &self.config.secret_key,
        )
        .map_err(|error| Error::Refused {
            what: format!("sink {}: {error}", self.config.name),
        })?;
        let reply = self
            .send(what, request)
            .await
            .map_err(CallError::into_inner)?;
        let token =
            aims::read_token(&reply, self.now()).map_err(|error| self.describe(what, &error))?;
        let token = Arc::new(token);
        *slot = Some(Arc::clone(&token));
        Ok(token)
    }

    async fn address(&self, name: ServiceName) -> Result<Endpoint, Error> {
        let configured = match name {
            ServiceName::Azcollect => &self.configured.azcollect,
            ServiceName::Ingest => &self.configured.ingest,
        };
        if let Some(configured) = configured {
            return Ok(configured.clone());
        }
        let mut addresses = self.addresses.lock().await;
        if !addresses.is_recalled {
            self.recall_addresses(&mut addresses).await?;
        }
        let is_failing = name == ServiceName::Ingest && self.is_ingest_failing_long();
        let known = match name {
            ServiceName::Azcollect => &addresses.azcollect,
            ServiceName::Ingest => &addresses.ingest,
        };
        match known {
            Some(known) if !is_failing => Ok(known.clone()),
            _ => self.look_up(&mut addresses, name).await,
        }
    }

    async fn look_up(
        &self,
        addresses: &mut Addresses,
        name: ServiceName,
    ) -> Result<Endpoint, Error> {
        let what = format!("look up {}", name.as_str());
        let make = |token: &Token| {
            endpoints::lookup_request(&self.api, token, &self.config.residency, name)
        };
        let reply = self
            .call(&what, make)
            .await
            .map_err(CallError::into_inner)?;
        let endpoint = endpoints::read_lookup(&reply, &self.api, name, self.now())
            .map_err(|error| self.describe(&what, &error))?;
        match name {
            ServiceName::Azcollect => addresses.azcollect = Some(endpoint.clone()),
            ServiceName::Ingest => {
                addresses.ingest = Some(endpoint.clone());
                self.note_ingest_reached(true);
            }
        }
        let fact = AddressFact {
            api: self.api.to_string(),
            residency: self.config.residency.clone(),
            account_id: self.account_id().await?,
            azcollect: addresses.azcollect.as_ref().map(ToString::to_string),
            ingest: addresses.ingest.as_ref().map(ToString::to_string),
        };
        self.remember("endpoints", &fact).await?;
        info!(sink = %self.config.name, service = name.as_str(), address = %endpoint, "address looked up");
        Ok(endpoint)
    }

    async fn recall_addresses(&self, addresses: &mut Addresses) -> Result<(), Error> {
        let account_id = self.account_id().await?;
        if let Some(fact) = self.recall::<AddressFact>("endpoints").await?
            && fact.api == self.api.as_str()
            && fact.residency == self.config.residency
            && fact.account_id == account_id
        {
            // Checked like a fresh answer: a token goes there all the same. What does not pass is looked up.
            let parse = |text: Option<String>| {
                text.and_then(|text| Endpoint::parse_answer(&text, &self.api).ok())
            };
            addresses.azcollect = parse(fact.azcollect);
            addresses.ingest = parse(fact.ingest);
        }
        addresses.is_recalled = true;
        Ok(())
    }

    pub(super) async fn recall<T: for<'a> Deserialize<'a>>(
        &self,
        key: &str,
    ) -> Result<Option<T>, Error> {
        let key = format!("alertlogic/{}/{key}", self.config.name);
        let fact = self.ledger.recall(&key).await.map_err(Error::Ledger)?;
        let Some(fact) = fact else { return Ok(None) };
        match serde_json::from_str(&fact) {
            // Nothing where `null` was remembered: a ledger has no way to forget.
            Ok(fact) => Ok(fact),
            // Asking the service again is harmless; a delivery that stops because of this is not.
            Err(error) => {
                warn!(sink = %self.config.name, key, %error, "what was remembered cannot be read");
                Ok(None)
            }
        }
    }

    pub(super) async fn remember(
        &self,
        key: &str,
        fact: &(impl Serialize + Sync),
    ) -> Result<(), Error> {
        let key = format!("alertlogic/{}/{key}", self.config.name);
        let fact = serde_json::to_string(fact).expect("structs of texts always serialize");
        self.ledger
            .remember(&key, &fact)
            .await
            .map_err(Error::Ledger)
    }

    async fn send(&self, what: &str, request: Request<Bytes>) -> Result<Reply, CallError> {
        let unreached = |why: &dyn std::fmt::Display| {
            CallError::Unreached(Error::Unavailable {
                what: format!("sink {}: {what}: {why}", self.config.name),
                retry_after: None,
            })
        };
        let answer = async {
            let (head, body) = self.http.send(request).await?.into_parts();
            let body = match body.collect(MAX_REPLY_BYTES).await {
                Ok(body) => body,
                // The head has said all there is to know of a payload. To take it for undelivered because the rest
                // of the reply broke off would send it twice.
                Err(_) if head.status.is_success() => Bytes::new(),
                Err(error) => return Err(error),
            };
            Ok::<_, crate::http::Error>(Reply {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        match tokio::time::timeout(LONGEST_REQUEST, answer).await {
            Ok(reply) => reply.map_err(|error| unreached(&error)),
            Err(_) => Err(unreached(&crate::http::Error::TimedOut)),
        }
    }

    /// What a reply's refusal means for the delivery, for a request that cannot be split.
    pub(super) fn describe(&self, what: &str, error: &ServiceError) -> Error {
        let mend = match error.next_step() {
            NextStep::Reauthenticate => {
                "; access_key_id and secret_key must be those of a key that may do this"
            }
            NextStep::RetryAfter(_) | NextStep::Split | NextStep::Stop => "",
        };
        let what = format!("sink {}: {what}: {error}{mend}", self.config.name);
        match error.next_step() {
            NextStep::RetryAfter(retry_after) => Error::Unavailable { what, retry_after },
            NextStep::Reauthenticate | NextStep::Split | NextStep::Stop => Error::Refused { what },
        }
    }
}

/// Why a call has no reply.
pub(super) enum CallError {
    /// The host that was called did not answer.
    Unreached(Error),
    /// There was no token to call it with.
    NoToken(Error),
}

impl CallError {
    pub(super) fn into_inner(self) -> Error {
        match self {
            Self::Unreached(error) | Self::NoToken(error) => error,
        }
    }
}

/// Errors come up as [`Error`] from authentication only.
impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self::NoToken(error)
    }
}
