//! Ledgers that are elsewhere, opened. In Azure Storage: the requests go through our own [`Transport`], the tokens come from
//! a [`TokenSource`]. In PostgreSQL: the server is verified by the roots that we trust.

use std::sync::Arc;

use activity_api::{AccessToken, Origin};
use async_trait::async_trait;
use azure::storage::Account;
use bytes::Bytes;
use jiff::Timestamp;
use ledger::{
    AzureLedger, AzureOptions, NotSent, PostgresLedger, PostgresServer, StorageTokens,
    StorageTransport,
};
use rustls::ClientConfig;

use crate::clock::Clock;
use crate::config::{AzureStorageConfig, TlsConfig};
use crate::http::{self, BuildError, Transport};
use crate::token::TokenSource;

/// The ledger in this account. Sends nothing. `wakes` says whether its queue is told of each blob that waits: only where
/// somebody reads the queue.
#[must_use]
pub fn azure_ledger(
    config: &AzureStorageConfig,
    wakes: bool,
    http: &Arc<dyn Transport>,
    clock: &Arc<dyn Clock>,
) -> AzureLedger {
    let options = AzureOptions {
        wake_queue: wakes.then(|| AzureOptions::WAKE_QUEUE.to_owned()),
        ..AzureOptions::default()
    };
    let network = Network {
        http: Arc::clone(http),
        clock: Arc::clone(clock),
    };
    let tokens = config.identity.clone().map(|identity| {
        let source = TokenSource::of_managed_identity(
            identity,
            resource(),
            Arc::clone(http),
            Arc::clone(clock),
        );
        let tokens: Arc<dyn StorageTokens> = Arc::new(Tokens(source));
        tokens
    });
    AzureLedger::new(config.account.clone(), options, Arc::new(network), tokens)
}

/// What PostgreSQL calls its protocol. From version 17 on it takes nobody who speaks of another.
const PROTOCOL: &[u8] = b"postgresql";

/// The ledger on this server. Connects to nobody.
///
/// # Errors
/// When TLS is wanted and cannot be set up.
pub fn postgres_ledger(
    server: &PostgresServer,
    tls: &TlsConfig,
    is_read_only: bool,
) -> Result<PostgresLedger, BuildError> {
    let tls = postgres_tls(server, tls)?;
    let server = server.clone();
    Ok(match is_read_only {
        true => PostgresLedger::read_only(server, tls),
        false => PostgresLedger::new(server, tls),
    })
}

/// What this server is verified by; nothing where it need not be.
///
/// # Errors
/// When TLS is wanted and cannot be set up.
pub fn postgres_tls(
    server: &PostgresServer,
    tls: &TlsConfig,
) -> Result<Option<ClientConfig>, BuildError> {
    let verified = || http::verified(PROTOCOL, tls.ca_pem.as_deref());
    server.has_tls().then(verified).transpose()
}

fn resource() -> Origin {
    Account::RESOURCE
        .trim_end_matches('/')
        .parse()
        .expect("a constant that is an origin")
}

struct Network {
    http: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl StorageTransport for Network {
    async fn send(
        &self,
        request: ::http::Request<Bytes>,
        max_bytes: usize,
    ) -> Result<::http::Response<Bytes>, NotSent> {
        let (head, body) = self.http.send(request).await?.into_parts();
        let body = body.collect(max_bytes).await?;
        Ok(::http::Response::from_parts(head, body))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

struct Tokens(TokenSource);

#[async_trait]
impl StorageTokens for Tokens {
    async fn token(&self, refused: Option<&Arc<AccessToken>>) -> Result<Arc<AccessToken>, NotSent> {
        if let Some(refused) = refused {
            self.0.forget(refused).await;
        }
        Ok(self.0.token().await?)
    }
}
