//! The account as the ledger sees it: requests sent, tried again while that may help, and what is missing created.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use activity_api::AccessToken;
use async_trait::async_trait;
use azure::storage::batch::{self, Failed};
use azure::storage::entity::Stored;
use azure::storage::tables::{self, Change, Continuation, Query};
use azure::storage::{Account, Draft, Error as StorageError, blobs, queues};
use bytes::Bytes;
use http::{Request, Response};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tracing::debug;

use crate::Error;

use super::AzureOptions;
use super::names::random;

/// The network and the time, from outside: this crate opens no socket.
#[async_trait]
pub trait StorageTransport: Send + Sync {
    /// Sends the request and reads the whole reply, if it has at most `max_bytes`.
    ///
    /// # Errors
    /// When no whole reply came. Its status, whatever it is, is no error.
    async fn send(
        &self,
        request: Request<Bytes>,
        max_bytes: usize,
    ) -> Result<Response<Bytes>, NotSent>;

    /// The time, which each request is dated with: storage refuses one that is a quarter of an hour off.
    fn now(&self) -> Timestamp;
}

/// Why no reply came: a cause of the transport's own.
pub type NotSent = Box<dyn StdError + Send + Sync>;

/// Where tokens come from, for an account that is used by a managed identity.
#[async_trait]
pub trait StorageTokens: Send + Sync {
    /// A token for [`Account::RESOURCE`], and another one than `refused` where that is given.
    ///
    /// # Errors
    /// When there is none to be had.
    async fn token(&self, refused: Option<&Arc<AccessToken>>) -> Result<Arc<AccessToken>, NotSent>;
}

/// Requests under way at once. More than a partition answers at a time only wait at the other end.
const MAX_CONCURRENT: usize = 32;

/// The largest reply that is read: a page of a thousand rows, or quarantined bytes.
const MAX_REPLY_BYTES: usize = 64 * 1024 * 1024;

/// A request without an answer for so long is tried again. Storage itself gives up after 30 seconds.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often a request is sent. With the pauses between, about 25 seconds in all.
const MAX_TRIES: u32 = 8;

/// The pause before the second try. It doubles with each, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// More makes nobody happier: a throttled partition takes requests again within seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// What storage answered. A refusal of a write that was sent several times may be the echo of an earlier try that was
/// done, which is why whoever makes one reads what is stored before believing it.
pub(super) type Answer<T> = Result<T, StorageError>;

/// The account and what is used of it.
pub(super) struct Door {
    account: Account,
    pub(super) options: AzureOptions,
    transport: Arc<dyn StorageTransport>,
    tokens: Option<Arc<dyn StorageTokens>>,
    permits: Semaphore,
}

impl Door {
    pub(super) fn new(
        account: Account,
        options: AzureOptions,
        transport: Arc<dyn StorageTransport>,
        tokens: Option<Arc<dyn StorageTokens>>,
    ) -> Self {
        Self {
            account,
            options,
            transport,
            tokens,
            permits: Semaphore::new(MAX_CONCURRENT),
        }
    }

    /// One row.
    pub(super) async fn get(&self, partition: &str, row: &str) -> Result<Option<Stored>, Error> {
        let draft = tables::get(&self.options.table, partition, row);
        match self.exchange(&draft, tables::read_entity).await? {
            Ok(row) => Ok(row),
            Err(StorageError::NoTable) => Ok(None),
            Err(error) => Err(refused("reading a row", error)),
        }
    }

    /// One page of rows, and where the next begins.
    pub(super) async fn page(
        &self,
        query: &Query,
    ) -> Result<(Vec<Stored>, Option<Continuation>), Error> {
        let draft = tables::query(&self.options.table, query);
        match self.exchange(&draft, tables::read_page).await? {
            Ok(page) => Ok(page),
            Err(StorageError::NoTable) => Ok((Vec::new(), None)),
            Err(error) => Err(refused("finding rows", error)),
        }
    }

    /// Every row that the filter finds, up to a number of them.
    pub(super) async fn all(
        &self,
        filter: String,
        select: &'static str,
        max_count: usize,
    ) -> Result<Vec<Stored>, Error> {
        let mut query = Query {
            filter,
            select,
            max_count: tables::MAX_PAGE,
            continuation: None,
        };
        let mut all = Vec::new();
        loop {
            query.max_count = tables::MAX_PAGE.min(max_count.saturating_sub(all.len()).max(1));
            let (rows, continuation) = self.page(&query).await?;
            all.extend(rows);
            if all.len() >= max_count || continuation.is_none() {
                all.truncate(max_count);
                return Ok(all);
            }
            query.continuation = continuation;
        }
    }

    /// Makes one change.
    pub(super) async fn change(&self, change: &Change) -> Result<Answer<Option<String>>, Error> {
        let draft = tables::change(&self.options.table, change);
        self.exchange(&draft, tables::read_written).await
    }

    /// Makes all of the changes, which are of one partition, or none. The etags are those of the new rows.
    pub(super) async fn batch(
        &self,
        changes: &[Change],
    ) -> Result<Answer<Vec<Option<String>>>, Error> {
        let draft = self.account.batch(&self.options.table, changes);
        let read = |reply: &Response<Bytes>| {
            batch::read(reply, changes.len()).map_err(|failed: Failed| failed.error)
        };
        self.exchange(&draft, read).await
    }

    /// Puts a message into the queue that wakes.
    pub(super) async fn wake(&self, queue: &str, text: &str) -> Result<(), Error> {
        // For as long as Microsoft keeps content: what is older has nothing to be fetched.
        let kept = Duration::from_secs(7 * 86_400);
        let draft = queues::put(queue, text, Duration::ZERO, kept);
        let answer = self.exchange(&draft, queues::read_done).await?;
        answer.map_err(|error| refused("putting a message", error))
    }

    /// About how many messages the queue holds.
    pub(super) async fn message_count(&self, queue: &str) -> Result<u64, Error> {
        let answer = self
            .exchange(&queues::about(queue), queues::read_count)
            .await?;
        answer.map_err(|error| refused("asking about a queue", error))
    }

    /// Keeps bytes under a name.
    pub(super) async fn put_bytes(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        let draft = blobs::put(&self.options.container, name, bytes);
        let answer = self.exchange(&draft, blobs::read_done).await?;
        answer.map_err(|error| refused("keeping bytes", error))
    }

    /// The bytes under a name.
    pub(super) async fn get_bytes(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let draft = blobs::get(&self.options.container, name);
        let answer = self.exchange(&draft, blobs::read).await?;
        answer
            .map(|bytes| bytes.map(Vec::from))
            .map_err(|error| refused("reading bytes", error))
    }

    /// Takes the bytes under a name away. That they are gone already is as good.
    pub(super) async fn delete_bytes(&self, name: &str) -> Result<(), Error> {
        let draft = blobs::delete(&self.options.container, name);
        match self.exchange(&draft, blobs::read_done).await? {
            Ok(()) | Err(StorageError::NotFound | StorageError::NoContainer) => Ok(()),
            Err(error) => Err(refused("deleting bytes", error)),
        }
    }

    /// Sends until there is an answer that will not change by asking again.
    async fn exchange<T>(
        &self,
        draft: &Draft,
        read: impl Fn(&Response<Bytes>) -> Result<T, StorageError>,
    ) -> Result<Answer<T>, Error> {
        let mut token_refused = None;
        let mut number = 0;
        loop {
            number += 1;
            let token = self.token(token_refused.as_ref()).await?;
            let cause: crate::Source = match self.send(draft, token.as_deref()).await {
                Ok(reply) => match read(&reply) {
                    Err(error @ (StorageError::Busy { .. } | StorageError::Malformed { .. })) => {
                        Arc::new(error)
                    }
                    // An expired token, or one of before a role was given. Asked for once.
                    Err(error)
                        if error.refuses_token() && token.is_some() && token_refused.is_none() =>
                    {
                        token_refused = token;
                        continue;
                    }
                    Err(StorageError::NoTable) if number < MAX_TRIES && draft.writes() => {
                        self.create(&tables::create(&self.options.table)).await?;
                        continue;
                    }
                    Err(StorageError::NoQueue) if number < MAX_TRIES => {
                        if let Some(queue) = &self.options.wake_queue {
                            self.create(&queues::create(queue)).await?;
                        }
                        continue;
                    }
                    Err(StorageError::NoContainer) if number < MAX_TRIES && draft.writes() => {
                        self.create(&blobs::create_container(&self.options.container))
                            .await?;
                        continue;
                    }
                    answer => return Ok(answer),
                },
                Err(cause) => cause,
            };
            if number >= MAX_TRIES {
                return Err(Error::Unavailable {
                    what: "asking Azure Storage",
                    source: cause,
                });
            }
            debug!(number, %cause, "storage did not answer, will ask again");
            tokio::time::sleep(pause(number)).await;
        }
    }

    /// Creates what is missing, and asks again as long as that may help. That it is there already is as good.
    async fn create(&self, draft: &Draft) -> Result<(), Error> {
        let what = "creating what the ledger needs in Azure Storage";
        let mut number = 0;
        loop {
            number += 1;
            let token = self.token(None).await?;
            let cause: crate::Source = match self.send(draft, token.as_deref()).await {
                Ok(reply) => match queues::read_done(&reply) {
                    Ok(()) => return Ok(()),
                    Err(error @ StorageError::Busy { .. }) => Arc::new(error),
                    Err(error) => return Err(refused(what, error)),
                },
                Err(cause) => cause,
            };
            if number >= MAX_TRIES {
                return Err(Error::Unavailable {
                    what,
                    source: cause,
                });
            }
            tokio::time::sleep(pause(number)).await;
        }
    }

    async fn token(
        &self,
        refused: Option<&Arc<AccessToken>>,
    ) -> Result<Option<Arc<AccessToken>>, Error> {
        if !self.account.needs_token() {
            return Ok(None);
        }
        let what = "getting a token for Azure Storage";
        let tokens = self.tokens.as_ref().ok_or_else(|| Error::Unavailable {
            what,
            source: Arc::new(azure::storage::NotSigned::NoToken),
        })?;
        let token = tokens.token(refused).await;
        token.map(Some).map_err(|cause| Error::Unavailable {
            what,
            source: Arc::from(cause),
        })
    }

    async fn send(
        &self,
        draft: &Draft,
        token: Option<&AccessToken>,
    ) -> Result<Response<Bytes>, crate::Source> {
        let _permit = self.permits.acquire().await;
        let request = self
            .account
            .sign(draft, self.transport.now(), token)
            .map_err(|error| -> crate::Source { Arc::new(error) })?;
        let sent = self.transport.send(request, MAX_REPLY_BYTES);
        match tokio::time::timeout(PATIENCE, sent).await {
            Ok(sent) => sent.map_err(crate::Source::from),
            Err(elapsed) => Err(Arc::new(elapsed)),
        }
    }
}

/// Between half and the whole of the pause, so that those who were refused together do not come back together.
fn pause(number: u32) -> Duration {
    let whole = FIRST_PAUSE
        .saturating_mul(1 << number.saturating_sub(1).min(16))
        .min(LONGEST_PAUSE);
    let share = random() % 512;
    whole / 2 + whole / 1024 * u32::try_from(share).unwrap_or_default()
}

/// A failure that asking again would not mend.
pub(super) fn refused(what: &'static str, error: StorageError) -> Error {
    Error::Unavailable {
        what,
        source: Arc::new(error),
    }
}
