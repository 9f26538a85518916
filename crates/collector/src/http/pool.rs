//! Connections that are used again.
//!
//! On hyper's connections and not on its ready-made client: that starts another task after each reply, to wait until the
//! connection is free, which costs a few hundredths of all that a small blob takes.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::http1;
use tokio::time::{Instant, sleep_until, timeout};
use tower::Service;

use super::connect::{AnyError, Connector};

/// Idle connections kept per host: as many as `fetch.max_concurrent` may be. With fewer, those above it would be closed
/// between two requests, and each blob of theirs would cost a handshake.
const MAX_IDLE_PER_HOST: usize = 256;
/// For how long they are kept.
const IDLE: Duration = Duration::from_secs(90);
/// How long a connection may take to be free once its reply is there. Its task needs a moment; one whose host answered
/// before it had read the request may take for ever.
const FREE_WITHIN: Duration = Duration::from_millis(50);
/// What a connection reads at a time, at most. Its buffer grows to that with its first long reply and stays, also while the
/// connection waits for the next: with the library's own bound 64 connections held 26 MiB that nobody counted.
const MAX_READ_BYTES: usize = 32 * 1024;

type Sent = Full<Bytes>;

/// Connections of one way to the network, all with TLS or all without.
pub(super) struct Pool {
    connector: Connector,
    idle: Mutex<AllIdle>,
}

/// The connections that nobody uses.
#[derive(Default)]
struct AllIdle {
    /// By host and port, as addresses write them.
    by_host: HashMap<Box<str>, VecDeque<Idle>>,
    /// There is a task that closes those that are idle for too long.
    are_watched: bool,
}

/// A connection that nobody uses, and since when. The longest idle is in front.
struct Idle {
    requests: http1::SendRequest<Sent>,
    since: Instant,
}

/// A reply's body, still arriving, with its connection.
pub(super) struct Arriving {
    body: Incoming,
    /// Until the body has ended.
    requests: Option<http1::SendRequest<Sent>>,
    host: Authority,
    pool: Arc<Pool>,
}

impl Arriving {
    /// What comes next; nothing at the end.
    pub(super) async fn frame(&mut self) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        let frame = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await;
        // How long it is, is not always known before its end.
        if frame.is_none() || self.body.is_end_stream() {
            self.give_back();
        }
        frame
    }

    /// Lets others use the connection, as there is nothing more to read for this reply. Without that it closes with the body.
    fn give_back(&mut self) {
        if let Some(requests) = self.requests.take() {
            self.pool.put(&self.host, requests);
        }
    }
}

impl Pool {
    pub(super) fn new(connector: Connector) -> Arc<Self> {
        let idle = Mutex::default();
        Arc::new(Self { connector, idle })
    }

    /// Sends a request, on a connection that is there or a new one; returns with the reply's head. A connection that its host
    /// closed before the request was on its way is passed over.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<Sent>,
    ) -> Result<Response<Arriving>, AnyError> {
        let host = request.uri().authority().cloned();
        let host = host.ok_or("the address has no host")?;
        let uri = std::mem::take(request.uri_mut());
        request
            .headers_mut()
            .entry(header::HOST)
            .or_insert(header_of(&host, &uri)?);
        *request.uri_mut() = path_of(&uri)?;
        loop {
            let idle = self.take(&host).await;
            let is_used = idle.is_some();
            let mut requests = match idle {
                Some(requests) => requests,
                None => self.connect(uri.clone()).await?,
            };
            match requests.try_send_request(request).await {
                Ok(reply) => {
                    return Ok(reply.map(|body| {
                        let mut arriving = Arriving {
                            body,
                            requests: Some(requests),
                            host,
                            pool: Arc::clone(self),
                        };
                        if arriving.body.is_end_stream() {
                            arriving.give_back();
                        }
                        arriving
                    }));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if is_used => request = unsent,
                    _ => return Err(failed.into_error().into()),
                },
            }
        }
    }

    async fn connect(&self, uri: Uri) -> Result<http1::SendRequest<Sent>, AnyError> {
        let stream = self.connector.clone().call(uri).await?;
        let (requests, wire) = http1::Builder::new()
            .max_buf_size(MAX_READ_BYTES)
            .handshake(stream)
            .await?;
        tokio::spawn(async move {
            // What ended it is told to whoever waits for the reply.
            let _told = wire.await;
        });
        Ok(requests)
    }

    /// The connection that was used last, of those that are still good.
    async fn take(&self, host: &Authority) -> Option<http1::SendRequest<Sent>> {
        loop {
            let idle = self.lock().by_host.get_mut(host.as_str())?.pop_back()?;
            let mut requests = idle.requests;
            // Whoever closes them may be late.
            if idle.since.elapsed() >= IDLE {
                continue;
            }
            let is_free = requests.is_ready()
                || timeout(FREE_WITHIN, requests.ready())
                    .await
                    .is_ok_and(|free| free.is_ok());
            if is_free {
                return Some(requests);
            }
        }
    }

    /// Keeps the connection.
    fn put(self: &Arc<Self>, host: &Authority, requests: http1::SendRequest<Sent>) {
        let since = Instant::now();
        let newly_idle = Idle { requests, since };
        let mut idle = self.lock();
        match idle.by_host.get_mut(host.as_str()) {
            Some(of_host) if of_host.len() < MAX_IDLE_PER_HOST => of_host.push_back(newly_idle),
            // It closes.
            Some(_) => return,
            None => {
                let of_host = VecDeque::from([newly_idle]);
                idle.by_host.insert(host.as_str().into(), of_host);
            }
        }
        if !std::mem::replace(&mut idle.are_watched, true) {
            tokio::spawn(close_idle(Arc::downgrade(self), since + IDLE));
        }
    }

    /// Closes the connections of all hosts that are idle for too long. When the next of them will be; nothing when there is
    /// none, and nobody need look.
    fn close_idle(&self) -> Option<Instant> {
        let now = Instant::now();
        // They close behind the lock, as what was declared last is dropped first.
        let mut closing = Vec::new();
        let mut idle = self.lock();
        idle.by_host.retain(|_, of_host| {
            let is_old = |idle: &Idle| now.duration_since(idle.since) >= IDLE;
            while of_host.front().is_some_and(is_old) {
                closing.extend(of_host.pop_front());
            }
            !of_host.is_empty()
        });
        let of_hosts = idle.by_host.values();
        let next = of_hosts
            .filter_map(|of_host| of_host.front())
            .map(|idle| idle.since + IDLE)
            .min();
        idle.are_watched = next.is_some();
        next
    }

    #[cfg(test)]
    pub(super) fn idle_count(&self) -> usize {
        self.lock().by_host.values().map(VecDeque::len).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, AllIdle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what is idle for too long, from then on for as long as anything is idle.
async fn close_idle(pool: Weak<Pool>, mut next: Instant) {
    loop {
        sleep_until(next).await;
        let Some(pool) = pool.upgrade() else { return };
        match pool.close_idle() {
            Some(later) => next = later,
            None => return,
        }
    }
}

/// The host for its header: with the port, unless that goes without saying, and without a user.
fn header_of(host: &Authority, uri: &Uri) -> Result<HeaderValue, AnyError> {
    let usual = match uri.scheme() == Some(&Scheme::HTTPS) {
        true => 443,
        false => 80,
    };
    let text = match host.port_u16() {
        Some(port) if port != usual => format!("{}:{port}", host.host()),
        _ => host.host().to_owned(),
    };
    Ok(HeaderValue::try_from(text)?)
}

/// The part of the address that stands in a request.
fn path_of(uri: &Uri) -> Result<Uri, AnyError> {
    match uri.path_and_query() {
        Some(path) if path.as_str().starts_with('/') => Ok(path.clone().into()),
        Some(path) => Ok(format!("/{path}").parse()?),
        None => Ok(Uri::from_static("/")),
    }
}
