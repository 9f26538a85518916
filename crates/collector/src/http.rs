//! Sending HTTP requests: the one trait through which Microsoft and the sinks are reached, so that a test or a
//! simulation can stand in for the network, and the one place where a real client is built.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream::BoxStream};
use tokio::net::TcpStream;

/// A way to send a request. Redirects are never followed: a credential must not travel to a host nobody checked.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends the request; returns when the reply's head is there.
    ///
    /// # Errors
    /// When no reply came; its status, whatever it is, is no error.
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, Error>;
}

/// A reply's body, still arriving.
pub struct Body(BoxStream<'static, Result<Bytes, Error>>);

impl Body {
    /// A body that arrives in pieces.
    pub fn from_stream(
        stream: impl futures::Stream<Item = Result<Bytes, Error>> + Send + 'static,
    ) -> Self {
        Self(stream.boxed())
    }

    /// A body that is there already.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self::from_stream(futures::stream::iter([Ok(bytes)]))
    }

    /// The next piece; nothing at the end.
    ///
    /// # Errors
    /// When the connection broke before the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.0.next().await.transpose()
    }

    /// The whole body, when it is no longer than `max_bytes`.
    ///
    /// # Errors
    /// When it is longer, or the connection broke.
    pub async fn collect(mut self, max_bytes: usize) -> Result<Bytes, Error> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > max_bytes {
                return Err(Error::TooLong { max_bytes });
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body(..)")
    }
}

/// Why no (whole) reply came.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke.
    #[error("{what}")]
    Connection {
        /// The chain of causes in one line, without query strings or credentials.
        what: String,
    },
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
    /// The body is longer than anyone reads.
    #[error("the reply is longer than {max_bytes} bytes")]
    TooLong {
        /// The limit it broke.
        max_bytes: usize,
    },
}

/// How long to wait for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a reply may stand still. Not a limit on the whole of it: a large blob on a slow line takes its time.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Idle connections kept per host: as many as `fetch.max_concurrent` may be. With fewer, those above it would be closed
/// between two requests, and each blob of theirs would cost a handshake.
const MAX_IDLE_PER_HOST: usize = 256;

/// A bare connection, for what needs no more than that. Through no proxy.
///
/// # Errors
/// When nobody listens there.
pub(crate) async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect(address).await
}

/// The real network.
#[derive(Debug, Clone)]
pub struct Client {
    /// For `https`. Through the proxy that the environment names, where there is one.
    outside: reqwest::Client,
    /// For plain `http`, which is only ever spoken to this machine itself and to a managed identity's endpoint beside
    /// it: through no proxy, as that would be told the endpoint's secret, and could not reach it.
    beside: reqwest::Client,
}

impl Client {
    /// A client that trusts the system's roots and those in `extra_roots` (PEM) besides.
    ///
    /// # Errors
    /// When `extra_roots` holds no certificate, or TLS cannot be set up.
    pub fn build(extra_roots: Option<&[u8]>) -> Result<Self, BuildError> {
        let builder = || {
            reqwest::Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
                .tcp_nodelay(true)
                .user_agent(concat!("o365-collector/", env!("CARGO_PKG_VERSION")))
        };
        let mut outside = builder();
        if let Some(pem) = extra_roots {
            let roots = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|source| BuildError::Roots { source })?;
            if roots.is_empty() {
                return Err(BuildError::NoRoots);
            }
            outside = outside.tls_certs_merge(roots);
        }
        // It never speaks TLS, so that loading the system's roots a second time would only cost the start.
        let beside = builder().no_proxy().tls_certs_only([]);
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|source| BuildError::Tls { source })
        };
        Ok(Self {
            outside: build(outside)?,
            beside: build(beside)?,
        })
    }
}

/// Why no client could be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// `[tls] ca_file` cannot be read as PEM.
    #[error("tls.ca_file: not a PEM bundle of certificates")]
    Roots {
        /// What the TLS library says.
        #[source]
        source: reqwest::Error,
    },
    /// `[tls] ca_file` is PEM without a certificate.
    #[error(
        "tls.ca_file: no certificate in it; it must hold at least one `BEGIN CERTIFICATE` block"
    )]
    NoRoots,
    /// The TLS library does not start.
    #[error("TLS cannot be set up")]
    Tls {
        /// What the TLS library says.
        #[source]
        source: reqwest::Error,
    },
}

#[async_trait]
impl Transport for Client {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, Error> {
        let client = match request.uri().scheme_str() {
            Some("http") => &self.beside,
            _ => &self.outside,
        };
        let request = reqwest::Request::try_from(request).map_err(describe)?;
        let reply = client.execute(request).await.map_err(describe)?;
        let mut head = http::Response::new(());
        *head.status_mut() = reply.status();
        *head.headers_mut() = reply.headers().clone();
        let body = reply.bytes_stream().map(|chunk| chunk.map_err(describe));
        Ok(head.map(|()| Body::from_stream(body)))
    }
}

/// One line of causes. The address is left out: a query string or path may hold what does not belong in a log.
fn describe(error: reqwest::Error) -> Error {
    if error.is_timeout() {
        return Error::TimedOut;
    }
    let error = error.without_url();
    let mut what = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        what.push_str(": ");
        what.push_str(&cause.to_string());
        source = cause.source();
    }
    Error::Connection { what }
}
