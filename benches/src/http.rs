//! HTTP clients: one for everything that is not measured, and the limit's.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderValue};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Makes the collector's provider of cryptography that of this process.
pub fn install_provider() {
    // It fails only when there is one already.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// The limit's client, of the same libraries as `crates/collector/src/http` and with the same settings, so that the limit and
/// the collector pay the same for TLS and HTTP. Not that client itself: what the collector does around the libraries must
/// not be in the limit.
pub struct Blobs(legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

impl Blobs {
    /// One that trusts `roots_pem`.
    ///
    /// # Errors
    /// When these are no certificates.
    pub fn new(roots_pem: &[u8]) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots_pem) {
            roots.add(root.context("the simulator's CA")?)?;
        }
        let mut tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let client = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(256)
            .http1_max_buf_size(32 * 1024)
            .build(HttpsConnector::from((tcp, tls)));
        Ok(Self(client))
    }

    /// The bytes at `uri`.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn get(&self, uri: &str, bearer: &HeaderValue) -> anyhow::Result<Bytes> {
        let request = hyper::Request::get(uri)
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT_ENCODING, "gzip")
            .body(Empty::new())?;
        let reply = self.0.request(request).await?;
        ensure!(reply.status().is_success(), "{}", reply.status());
        Ok(reply.into_body().collect().await?.to_bytes())
    }
}

/// A client that trusts `roots_pem` besides the system's roots.
///
/// # Errors
/// When these are no certificates.
pub fn client(roots_pem: &[u8]) -> anyhow::Result<reqwest::Client> {
    let roots = reqwest::Certificate::from_pem_bundle(roots_pem).context("the simulator's CA")?;
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(15))
        .read_timeout(Duration::from_secs(60))
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(64)
        .tcp_nodelay(true)
        .tls_certs_merge(roots)
        .no_proxy()
        .build()
        .context("an HTTP client")
}
