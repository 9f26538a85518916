//! One tenant's door to Microsoft: the request budget, and every request of the Activity API. The only caller of it. What
//! it sends is built by [`activity_api::Feed`], whose requests go to the tenant's own activity host
//! and nowhere else, so a token can go nowhere else either.

mod answers;
mod budget;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use activity_api::{
    ContentPage, ContentType, Feed, NextStep, Reply, Subscriptions, TenantId, TrustedUri, Webhook,
    Window,
};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use self::answers::Answers;
pub use self::budget::{Budget, Use};
use crate::clock::Clock;
use crate::config::TenantConfig;
use crate::http::{Body, Transport};
use crate::telemetry::{self, Fetches, RequestKind, RequestOutcome};
use crate::token::{self, TokenSource};

/// Microsoft's lists and errors are kilobytes; a page of listings was never seen over a few megabytes.
const MAX_REPLY_BYTES: usize = 32 * 1024 * 1024;
/// An error's body is read for its code only.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// One tenant's door to Microsoft. Shared by everything that works for the tenant.
pub struct Microsoft {
    feed: Feed,
    http: Arc<dyn Transport>,
    budget: Budget,
    token: TokenSource,
    answers: Answers,
    fetches: Fetches,
}

/// Why Microsoft did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It answered, and this is what the answer means.
    #[error(transparent)]
    Answer(#[from] activity_api::Error),
    /// No whole answer came.
    #[error("microsoft cannot be reached")]
    Network(#[from] crate::http::Error),
    /// There is no token, so it was not asked, or refused the one that there was.
    #[error(transparent)]
    Token(#[from] token::Error),
}

impl Error {
    /// What to do now.
    #[must_use]
    pub fn next_step(&self) -> NextStep {
        match self {
            Self::Answer(error) => error.next_step(),
            Self::Network(_) => NextStep::RetryAfter(None),
            Self::Token(error) => error.next_step(),
        }
    }
}

impl Microsoft {
    /// The door of one configured tenant, with a budget of `requests_per_minute`.
    #[must_use]
    pub fn new(
        tenant: &TenantConfig,
        requests_per_minute: u32,
        http: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let resource = tenant.hosts.activity.clone();
        Self {
            feed: Feed::new(tenant.hosts.activity.clone(), tenant.id, tenant.publisher),
            token: TokenSource::of_tenant(tenant, resource, Arc::clone(&http), clock),
            http,
            budget: Budget::new(requests_per_minute),
            answers: Answers::default(),
            fetches: Fetches::default(),
        }
    }

    /// Whose door it is.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.feed.tenant()
    }

    /// The builder of this tenant's requests, which also tells whether a uri may be trusted.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// One page of the blobs that became available in `window`.
    ///
    /// # Errors
    /// See [`Error::next_step`].
    pub async fn list_content(
        &self,
        content_type: ContentType,
        window: Window,
    ) -> Result<ContentPage, Error> {
        let reply = self
            .ask(
                RequestKind::ListContent,
                Use::Listing(content_type),
                self.feed.list_content(content_type, window),
            )
            .await?;
        Ok(activity_api::read_content(
            &reply,
            &self.feed,
            content_type,
        )?)
    }

    /// A further page.
    ///
    /// # Errors
    /// See [`Error::next_step`].
    pub async fn next_content_page(
        &self,
        content_type: ContentType,
        page: &TrustedUri,
    ) -> Result<ContentPage, Error> {
        let reply = self
            .ask(
                RequestKind::ListContent,
                Use::Listing(content_type),
                self.feed.next_page(page),
            )
            .await?;
        Ok(activity_api::read_content(
            &reply,
            &self.feed,
            content_type,
        )?)
    }

    /// The tenant's subscriptions.
    ///
    /// # Errors
    /// See [`Error::next_step`].
    pub async fn list_subscriptions(&self) -> Result<Subscriptions, Error> {
        Ok(self.list_subscriptions_dated().await?.0)
    }

    /// The same, and Microsoft's clock when it answered, where it told.
    ///
    /// # Errors
    /// See [`Error::next_step`].
    pub async fn list_subscriptions_dated(
        &self,
    ) -> Result<(Subscriptions, Option<Timestamp>), Error> {
        let reply = self
            .ask(
                RequestKind::ListSubscriptions,
                Use::Control,
                self.feed.list_subscriptions(),
            )
            .await?;
        let date = reply.date();
        Ok((activity_api::read_subscriptions(&reply)?, date))
    }

    /// Starts a subscription, or changes its webhook.
    ///
    /// # Errors
    /// See [`Error::next_step`].
    pub async fn start_subscription(
        &self,
        content_type: ContentType,
        webhook: Option<&Webhook>,
    ) -> Result<(), Error> {
        // A refusal is read as well: "already enabled" comes as one, and means success.
        match self
            .send(RequestKind::Start, Use::Control, || {
                self.feed.start(content_type, webhook)
            })
            .await
        {
            Ok(_) => Ok(()),
            Err(Refusal {
                reply: Some(reply), ..
            }) => Ok(activity_api::read_start(&reply).map(|_| ())?),
            Err(refusal) => Err(refusal.error),
        }
    }

    /// Stops a subscription. What becomes available while it is stopped can never be had.
    ///
    /// # Errors
    /// See [`Error::next_step`].
    pub async fn stop_subscription(&self, content_type: ContentType) -> Result<(), Error> {
        let reply = self
            .ask(
                RequestKind::Stop,
                Use::Control,
                self.feed.stop(content_type),
            )
            .await?;
        Ok(activity_api::read_stop(&reply)?)
    }

    /// Opens a blob of a content type: its body is still to come.
    ///
    /// # Errors
    /// See [`Error::next_step`]. A uri that is not this tenant's on Microsoft's host is refused before anything is sent.
    pub async fn open_blob(
        &self,
        content_type: ContentType,
        uri: &str,
    ) -> Result<http::Response<Body>, Error> {
        let uri = self
            .feed
            .trust(uri)
            .map_err(activity_api::Error::UntrustedUri)?;
        let request = || self.feed.blob(&uri);
        Ok(self
            .send(RequestKind::Blob, Use::Fetching(content_type), request)
            .await?)
    }

    /// The request budget.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// How long blobs' answers took of late.
    pub(crate) fn answers(&self) -> &Answers {
        &self.answers
    }

    /// What is counted of the blobs that come through this door.
    pub(crate) fn fetches(&self) -> &Fetches {
        &self.fetches
    }

    /// Sends a request and reads its whole reply.
    async fn ask(
        &self,
        kind: RequestKind,
        of: Use,
        request: http::Request<Bytes>,
    ) -> Result<Reply, Error> {
        let request = || request.clone();
        let (head, body) = self.send(kind, of, request).await?.into_parts();
        let body = inflate_whole(&head.headers, body.collect(MAX_REPLY_BYTES).await?)?;
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    /// Sends a request with a token, within the budget. It is made anew for each time that it is sent, which nearly always is
    /// one. A refused token is replaced once: it may have been revoked
    /// before its time. Any status but success is a refusal.
    async fn send(
        &self,
        kind: RequestKind,
        of: Use,
        request: impl Fn() -> http::Request<Bytes> + Send,
    ) -> Result<http::Response<Body>, Refusal> {
        let mut has_renewed = false;
        loop {
            let token = self.token.token().await.map_err(Error::from)?;
            let mut request = request();
            request
                .headers_mut()
                .insert(http::header::AUTHORIZATION, token.authorization());
            if let Err(wait) = self.budget.take(of).await {
                let retry_after = Some(wait);
                return Err(Error::from(activity_api::Error::Throttled { retry_after }).into());
            }
            let sent_at = Instant::now();
            let response = match self.http.send(request).await {
                Ok(response) => response,
                Err(error) => {
                    telemetry::request(self.tenant(), kind, RequestOutcome::Unreachable);
                    return Err(Error::from(error).into());
                }
            };
            if response.status().is_success() {
                if kind == RequestKind::Blob {
                    self.answers.note(sent_at.elapsed());
                    self.fetches.answered(self.tenant());
                } else {
                    telemetry::request(self.tenant(), kind, RequestOutcome::Ok);
                }
                return Ok(response);
            }
            let reply = read_refusal(response).await;
            let error = match kind {
                RequestKind::Blob => activity_api::read_blob_error(&reply),
                _ => activity_api::read_error(&reply),
            };
            telemetry::request(self.tenant(), kind, outcome(&error));
            if let activity_api::Error::Throttled { retry_after } = &error {
                let pause = self.budget.throttled(*retry_after);
                telemetry::budget_paused(self.tenant(), pause);
                telemetry::budget_per_minute(self.tenant(), self.budget.per_minute());
            }
            if matches!(error.next_step(), NextStep::Reauthenticate) && !has_renewed {
                has_renewed = true;
                self.token.forget(&token).await;
                continue;
            }
            return Err(Refusal {
                error: error.into(),
                reply: Some(reply),
            });
        }
    }
}

impl std::fmt::Debug for Microsoft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Microsoft")
            .field("tenant", &self.tenant())
            .finish_non_exhaustive()
    }
}

/// A request that did not succeed, with the reply that said so.
struct Refusal {
    error: Error,
    reply: Option<Reply>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, reply: None }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

async fn read_refusal(response: http::Response<Body>) -> Reply {
    let (head, body) = response.into_parts();
    // A body that cannot be read leaves the status to judge by.
    let body = body.collect(MAX_ERROR_BYTES).await.unwrap_or_default();
    let body = inflate_whole(&head.headers, body).unwrap_or_default();
    Reply {
        status: head.status,
        headers: head.headers,
        body,
    }
}

/// The body as plain bytes: replies are asked for compressed, and none of a size that is read whole may hide a bomb.
fn inflate_whole(headers: &http::HeaderMap, body: Bytes) -> Result<Bytes, crate::http::Error> {
    use std::io::Read as _;
    if !is_gzip(headers) {
        return Ok(body);
    }
    let claimed = decode::inflate::claimed_bytes(&body).filter(|bytes| *bytes <= MAX_REPLY_BYTES);
    if let Some(bytes) = claimed {
        let mut plain = vec![0; bytes];
        if decode::inflate::inflate_whole(&body, &mut plain) {
            return Ok(plain.into());
        }
    }
    // What is unusual or damaged.
    let mut plain = Vec::new();
    let mut inflater =
        flate2::bufread::MultiGzDecoder::new(&body[..]).take(MAX_REPLY_BYTES as u64 + 1);
    inflater
        .read_to_end(&mut plain)
        .map_err(|error| crate::http::Error::Connection {
            what: format!("the reply's gzip is broken: {error}"),
        })?;
    if plain.len() > MAX_REPLY_BYTES {
        return Err(crate::http::Error::TooLong {
            max_bytes: MAX_REPLY_BYTES,
        });
    }
    Ok(plain.into())
}

/// Whether the reply says that its body is gzip.
pub(crate) fn is_gzip(headers: &http::HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("gzip"))
}

/// How an answer counts in the metrics.
pub(crate) fn outcome(error: &activity_api::Error) -> RequestOutcome {
    match error {
        activity_api::Error::Throttled { .. } => RequestOutcome::Throttled,
        error if matches!(error.next_step(), NextStep::RetryAfter(_)) => RequestOutcome::Failed,
        _ => RequestOutcome::Refused,
    }
}
