//! Sending HTTP requests: the one trait through which Microsoft and the sinks are reached, so that a test or a
//! simulation can stand in for the network, and the one place where a real client is built.

mod connect;
mod pool;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream::BoxStream};
use http::header::{self, HeaderValue};
use http_body_util::Full;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;

use connect::Connector;
use pool::{Arriving, Pool};

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
pub struct Body(Inflow);

enum Inflow {
    /// From a connection.
    Network(Arriving),
    /// From anywhere else.
    Stream(BoxStream<'static, Result<Bytes, Error>>),
}

impl Body {
    /// A body that arrives in pieces.
    pub fn from_stream(
        stream: impl futures::Stream<Item = Result<Bytes, Error>> + Send + 'static,
    ) -> Self {
        Self(Inflow::Stream(stream.boxed()))
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
        let body = match &mut self.0 {
            Inflow::Network(body) => body,
            Inflow::Stream(stream) => return stream.next().await.transpose(),
        };
        loop {
            let frame = timeout(READ_TIMEOUT, body.frame()).await;
            let Some(frame) = frame.map_err(|_elapsed| Error::TimedOut)? else {
                return Ok(None);
            };
            // Anything else is a trailer, and says nothing.
            if let Ok(data) = frame.map_err(|error| describe(&error))?.into_data() {
                return Ok(Some(data));
            }
        }
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

/// How long a reply may stand still. Not a limit on the whole of it: a large blob on a slow line takes its time.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Who asks.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("o365-collector/", env!("CARGO_PKG_VERSION")));

/// A bare connection, for what needs no more than that. Through no proxy.
///
/// # Errors
/// When nobody listens there.
pub(crate) async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect(address).await
}

/// What a server is verified by that speaks another protocol than HTTP: the roots that a [`Client`] trusts.
///
/// # Errors
/// Those of [`Client::build`].
pub fn verified(protocol: &[u8], extra_roots: Option<&[u8]>) -> Result<ClientConfig, BuildError> {
    let mut tls = connect::tls(extra_roots)?;
    tls.alpn_protocols = vec![protocol.to_vec()];
    Ok(tls)
}

/// The real network.
///
/// Built on hyper and not on `reqwest`: that reads each address four times over and passes each request through layers for
/// redirects and retries, which takes half of the time that a request for a small blob takes.
#[derive(Clone)]
pub struct Client {
    /// For `https`. Through the proxy that the environment names, where there is one.
    outside: Arc<Pool>,
    /// For plain `http`, which is only ever spoken to this machine itself and to a managed identity's endpoint beside
    /// it: through no proxy, as that would be told the endpoint's secret, and could not reach it.
    beside: Arc<Pool>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client(..)")
    }
}

impl Client {
    /// A client that trusts the system's roots and those in `extra_roots` (PEM) besides.
    ///
    /// # Errors
    /// When `extra_roots` holds no certificate, or TLS cannot be set up.
    pub fn build(extra_roots: Option<&[u8]>) -> Result<Self, BuildError> {
        let tls = Arc::new(connect::tls(extra_roots)?);
        Ok(Self {
            outside: pool(&tls, Some(Matcher::from_env())),
            beside: pool(&tls, None),
        })
    }
}

fn pool(tls: &Arc<ClientConfig>, proxies: Option<Matcher>) -> Arc<Pool> {
    Pool::new(Connector::new(Arc::clone(tls), proxies))
}

/// Why no client could be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// `[tls] ca_file` cannot be read as PEM.
    #[error("tls.ca_file: not a PEM bundle of certificates")]
    Roots {
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
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
        source: rustls::Error,
    },
    /// Nobody has said which cryptography is used.
    #[error("TLS cannot be set up: no provider of cryptography is installed in this process")]
    NoProvider,
}

#[async_trait]
impl Transport for Client {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, Error> {
        let pool = match request.uri().scheme_str() {
            Some("https") => &self.outside,
            Some("http") => &self.beside,
            _ => {
                let what = "the address is neither of `https` nor of `http`".to_owned();
                return Err(Error::Connection { what });
            }
        };
        let (mut head, body) = request.into_parts();
        head.headers.entry(header::USER_AGENT).or_insert(AGENT);
        let anything = HeaderValue::from_static("*/*");
        head.headers.entry(header::ACCEPT).or_insert(anything);
        let sending = pool.send(http::Request::from_parts(head, Full::new(body)));
        let reply = timeout(READ_TIMEOUT, sending).await;
        let reply = reply.map_err(|_elapsed| Error::TimedOut)?;
        let reply = reply.map_err(|error| describe(&*error))?;
        Ok(reply.map(|body| Body(Inflow::Network(body))))
    }
}

/// One line of causes. None of them has the address in it: a query string or path may hold what does not belong in a log.
fn describe(error: &(dyn std::error::Error + 'static)) -> Error {
    let causes = || std::iter::successors(Some(error), |cause| cause.source());
    let is_late = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>();
        let hyper = cause.downcast_ref::<hyper::Error>();
        cause.is::<connect::TimedOut>()
            || io.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
            || hyper.is_some_and(hyper::Error::is_timeout)
    };
    if causes().any(is_late) {
        return Error::TimedOut;
    }
    let what: Vec<_> = causes().map(ToString::to_string).collect();
    Error::Connection {
        what: what.join(": "),
    }
}
