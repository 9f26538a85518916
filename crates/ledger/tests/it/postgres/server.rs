//! A database of its own for each test, on the server that the test script started.

use std::sync::atomic::{AtomicU64, Ordering};

use ledger::{PostgresLedger, PostgresServer};
use secrecy::SecretString;
use tokio_postgres::NoTls;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A database that nobody else uses.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) url: String,
}

impl Database {
    pub(crate) async fn new() -> Self {
        Self::on(&server_url()).await
    }

    /// A new one on this server.
    pub(crate) async fn on(server: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // The server outlives a test run that was stopped.
        let name = format!("ledger_{}_{number}", std::process::id());
        let database = Self {
            url: format!("{server}/{name}"),
        };
        let there = client(&format!("{server}/postgres")).await;
        there
            .batch_execute(&format!("DROP DATABASE IF EXISTS {name}"))
            .await
            .unwrap();
        // A test of two collectors starts while another drops the first connection's files.
        there
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await
            .unwrap();
        database
    }

    pub(crate) fn server(&self) -> PostgresServer {
        PostgresServer::parse(&SecretString::from(self.url.as_str())).unwrap()
    }

    pub(crate) fn ledger(&self) -> PostgresLedger {
        PostgresLedger::new(self.server(), None)
    }

    /// A connection of the test's own.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        client(&self.url).await
    }
}

pub(crate) async fn client(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Such as `postgres://postgres@127.0.0.1:5432`.
fn server_url() -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test script hands the server over this way"
    )]
    std::env::var("O365_TEST_POSTGRES_URL").expect("O365_TEST_POSTGRES_URL names a server")
}
