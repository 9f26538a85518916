//! The HTTP client, set up as `crates/collector/src/http.rs` sets up its own, so that the limit and the collector pay the
//! same for TLS and HTTP. Not that client itself: what the collector does around the library must not be in the limit.

use std::time::Duration;

use anyhow::Context as _;

/// Makes the collector's provider of cryptography that of this process.
pub fn install_provider() {
    // It fails only when there is one already.
    drop(rustls::crypto::ring::default_provider().install_default());
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
