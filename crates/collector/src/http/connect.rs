//! Connections to other hosts: straight or through the proxy that the environment names, TLS on top, and no longer in the
//! making than anyone waits.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderMap, Uri, header};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tower::Service;

use super::{AGENT, BuildError};

/// How long to wait for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A host that went away without a word is noticed: it is asked after so much silence, again as often, and given up after
/// the third time.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;
/// And when it does not confirm what was sent to it for so long.
#[cfg(target_os = "linux")]
const UNCONFIRMED: Duration = Duration::from_secs(30);

pub(super) type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// A connection took too long.
#[derive(Debug, thiserror::Error)]
#[error("no connection in time")]
pub(super) struct TimedOut;

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector(HttpsConnector<Way>);

impl Connector {
    /// Connections with TLS where the address says `https`, through these proxies.
    pub(super) fn new(tls: Arc<ClientConfig>, proxies: Option<Matcher>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(UNCONFIRMED));
        let way = Way {
            tcp,
            tls: Arc::clone(&tls),
            proxies: proxies.map(Arc::new),
        };
        Self(HttpsConnector::from((way, tls)))
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<MaybeHttpsStream<TokioIo<TcpStream>>>;
    type Error = AnyError;
    type Future = BoxFuture<'static, Result<Self::Response, AnyError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), AnyError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(connected) => connected,
                Err(_elapsed) => Err(TimedOut.into()),
            }
        })
    }
}

/// The way to a host, below the TLS that is spoken with it.
#[derive(Clone)]
struct Way {
    tcp: HttpConnector,
    /// What is spoken with a proxy that wants it.
    tls: Arc<ClientConfig>,
    proxies: Option<Arc<Matcher>>,
}

impl Service<Uri> for Way {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = AnyError;
    type Future = BoxFuture<'static, Result<Self::Response, AnyError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), AnyError>> {
        self.tcp.poll_ready(context).map_err(AnyError::from)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let proxies = self.proxies.as_deref();
        let Some(proxy) = proxies.and_then(|proxies| proxies.intercept(&to)) else {
            let connecting = self.tcp.call(to);
            return Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) });
        };
        let kind = proxy.uri().scheme_str().unwrap_or_default();
        if !matches!(kind, "http" | "https") {
            let what = format!(
                "the environment names a proxy of the kind `{kind}`; only `http` and `https` are supported"
            );
            return Box::pin(std::future::ready(Err(what.into())));
        }
        let to_proxy = HttpsConnector::from((self.tcp.clone(), Arc::clone(&self.tls)));
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, AGENT);
        let mut tunnel = Tunnel::new(proxy.uri().clone(), to_proxy).with_headers(headers);
        if let Some(credential) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(credential.clone());
        }
        let connecting = tunnel.call(to);
        Box::pin(async move { Ok(connecting.await?) })
    }
}

/// TLS that trusts the system's roots, and those in `extra_roots` (PEM) besides.
///
/// # Errors
/// When `extra_roots` holds no certificate, or TLS cannot be set up.
pub(super) fn tls(extra_roots: Option<&[u8]>) -> Result<ClientConfig, BuildError> {
    use rustls::pki_types::pem::PemObject as _;
    let roots: Vec<CertificateDer<'static>> = match extra_roots {
        None => Vec::new(),
        Some(pem) => CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|source| BuildError::Roots { source })?,
    };
    if extra_roots.is_some() && roots.is_empty() {
        return Err(BuildError::NoRoots);
    }
    let provider = CryptoProvider::get_default().ok_or(BuildError::NoProvider)?;
    let verifier = match roots.is_empty() {
        true => Verifier::new(Arc::clone(provider)),
        false => Verifier::new_with_extra_roots(roots, Arc::clone(provider)),
    };
    let verifier = verifier.map_err(|source| BuildError::Tls { source })?;
    let mut tls = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|source| BuildError::Tls { source })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}
