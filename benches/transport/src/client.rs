//! The client: sixteen requests under way at any time, however many connections they share.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::server::Address;

const REQUESTS_AT_ONCE: usize = 16;
/// What may come before it is read, of one reply and of all of a connection: no reply waits for the reader.
const WINDOWS: (u32, u32) = (1 << 20, 8 << 20);

/// Who does the arithmetic of TLS.
#[derive(Clone, Copy)]
pub(crate) enum Provider {
    Ring,
    AwsLc,
}

/// The version of HTTP.
#[derive(Clone, Copy)]
pub(crate) enum Http {
    One,
    Two,
}

/// A way to fetch.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) provider: Provider,
    pub(crate) http: Http,
    pub(crate) connections: usize,
}

/// What all fetches together took.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    /// Of this process alone.
    pub(crate) cpu_seconds: f64,
}

impl Provider {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::AwsLc => "aws-lc-rs",
        }
    }

    fn get(self) -> Arc<CryptoProvider> {
        Arc::new(match self {
            Self::Ring => ring::default_provider(),
            Self::AwsLc => aws_lc_rs::default_provider(),
        })
    }
}

impl Http {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "HTTP/1.1",
            Self::Two => "HTTP/2",
        }
    }

    /// What it is called in a TLS handshake.
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::One => b"http/1.1",
            Self::Two => b"h2",
        }
    }
}

/// Fetches `count` bodies.
pub(crate) async fn fetch(way: Way, address: &Address, count: usize) -> anyhow::Result<Cost> {
    let mut roots = RootCertStore::empty();
    roots.add(address.certificate.clone())?;
    let mut config = ClientConfig::builder_with_provider(way.provider.get())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![way.http.alpn().to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let left = Arc::new(AtomicUsize::new(count));
    let (cpu_before, began) = (cpu_seconds()?, Instant::now());
    let mut fetching = JoinSet::new();
    for _ in 0..way.connections {
        let stream = TcpStream::connect(("127.0.0.1", address.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let io = TokioIo::new(connector.connect(name, stream).await?);
        match way.http {
            Http::One => {
                let (mut sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                let left = Arc::clone(&left);
                fetching.spawn(async move {
                    while is_one_left(&left) {
                        sender.ready().await?;
                        read(sender.send_request(request("/blob")?).await?.into_body()).await?;
                    }
                    anyhow::Ok(())
                });
            }
            Http::Two => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(WINDOWS.0)
                    .initial_connection_window_size(WINDOWS.1)
                    .handshake(io)
                    .await?;
                tokio::spawn(connection);
                for _ in 0..REQUESTS_AT_ONCE / way.connections {
                    let (mut sender, left) = (sender.clone(), Arc::clone(&left));
                    fetching.spawn(async move {
                        while is_one_left(&left) {
                            let request = request("https://localhost/blob")?;
                            read(sender.send_request(request).await?.into_body()).await?;
                        }
                        anyhow::Ok(())
                    });
                }
            }
        }
    }
    while let Some(ended) = fetching.join_next().await {
        ended??;
    }
    Ok(Cost {
        seconds: began.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds()? - cpu_before,
    })
}

/// Takes one of what is left to fetch, if there is any.
fn is_one_left(left: &AtomicUsize) -> bool {
    let less = |left: usize| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

/// With a token as long as Microsoft's.
fn request(uri: &str) -> anyhow::Result<Request<Empty<Bytes>>> {
    let token = format!("Bearer {}", "a".repeat(1_200));
    let request = Request::get(uri)
        .header("host", "localhost")
        .header("authorization", token);
    Ok(request.body(Empty::new())?)
}

async fn read(mut body: Incoming) -> anyhow::Result<()> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}

/// User and system time of this process. The kernel counts in hundredths of a second.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || -> anyhow::Result<f64> { Ok(fields.next().context("no time")?.parse()?) };
    Ok((next()? + next()?) / 100.0)
}
