//! One emulator for all tests, a table of its own for each, and a network that does as a test wants.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use azure::storage::Account;
use bytes::Bytes;
use http::{Request, Response};
use jiff::Timestamp;
use ledger::{AzureLedger, AzureOptions, NotSent, StorageTransport};
use simulator::Azurite;
use tokio::sync::{Notify, OnceCell};

pub(crate) use crate::scene::{at, blob, request, sink, tenant};

static AZURITE: OnceCell<Azurite> = OnceCell::const_new();
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A table, a container and a queue that nobody else uses.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) account: Account,
    pub(crate) options: AzureOptions,
    pub(crate) http: reqwest::Client,
}

impl Place {
    pub(crate) async fn new() -> Self {
        let azurite = AZURITE.get_or_init(start).await;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self {
            account: Account::parse(&azurite.connection_string().into()).unwrap(),
            options: AzureOptions {
                table: format!("ledger{number}"),
                container: format!("quarantine{number}"),
                wake_queue: None,
            },
            http: client(),
        }
    }

    pub(crate) async fn with_queue() -> Self {
        let mut place = Self::new().await;
        place.options.wake_queue = Some(place.options.table.replace("ledger", "wake"));
        place
    }

    pub(crate) fn ledger(&self) -> AzureLedger {
        self.ledger_through(Arc::new(Network::new(self.http.clone(), |_| {
            Fate::Answered
        })))
    }

    pub(crate) fn ledger_through(&self, network: Arc<Network>) -> AzureLedger {
        AzureLedger::new(self.account.clone(), self.options.clone(), network, None)
    }
}

async fn start() -> Azurite {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test script hands the emulator over this way"
    )]
    let modules = std::env::var("O365_TEST_AZURITE_NODE_MODULES")
        .expect("O365_TEST_AZURITE_NODE_MODULES names a folder");
    Azurite::start(Path::new(&modules)).await.unwrap()
}

fn client() -> reqwest::Client {
    // Several tests begin together, and the first one sets it.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .timeout(Duration::from_secs(60))
        .no_proxy()
        .build()
        .unwrap()
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done and answered.
    Answered,
    /// It does not arrive.
    Lost,
    /// It is done, and the answer does not arrive.
    AnswerLost,
    /// It is refused with this status, and not done.
    Refused(u16),
    /// It does not arrive, and no answer ever comes.
    Hangs,
    /// It is done, and no answer ever comes.
    DoneAndHangs,
}

type Decide = Box<dyn Fn(u64) -> Fate + Send + Sync>;

/// The real network, with requests counted from 1 and each met by its fate.
pub(crate) struct Network {
    http: reqwest::Client,
    count: AtomicU64,
    decide: Decide,
    hung: Notify,
}

impl Network {
    pub(crate) fn new(
        http: reqwest::Client,
        decide: impl Fn(u64) -> Fate + Send + Sync + 'static,
    ) -> Self {
        Self {
            http,
            count: AtomicU64::new(0),
            decide: Box::new(decide),
            hung: Notify::new(),
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns when a request was left without an answer.
    pub(crate) async fn hung(&self) {
        self.hung.notified().await;
    }

    async fn hang(&self) -> Result<Response<Bytes>, NotSent> {
        self.hung.notify_one();
        std::future::pending().await
    }

    async fn pass(&self, request: Request<Bytes>) -> Result<Response<Bytes>, NotSent> {
        let reply = self.http.execute(request.try_into()?).await?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = reply.status();
        *response.headers_mut() = reply.headers().clone();
        *response.body_mut() = reply.bytes().await?;
        Ok(response)
    }
}

#[async_trait]
impl StorageTransport for Network {
    async fn send(
        &self,
        request: Request<Bytes>,
        _max_bytes: usize,
    ) -> Result<Response<Bytes>, NotSent> {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        match (self.decide)(number) {
            Fate::Answered => self.pass(request).await,
            Fate::Lost => Err("lost".into()),
            Fate::AnswerLost => {
                self.pass(request).await?;
                Err("answer lost".into())
            }
            Fate::Refused(status) => {
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = status.try_into()?;
                Ok(response)
            }
            Fate::Hangs => self.hang().await,
            Fate::DoneAndHangs => {
                self.pass(request).await?;
                self.hang().await
            }
        }
    }

    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test has no clock but the machine's, and the emulator compares with that"
        )]
        Timestamp::now()
    }
}
