//! The server: one body for every request, over HTTP/2 to whom asks for it.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::client::Http;

/// Where a server is, and what it shows as who it is.
pub(crate) struct Address {
    pub(crate) port: u16,
    pub(crate) certificate: CertificateDer<'static>,
}

impl Address {
    /// As a server writes it.
    pub(crate) fn read(line: &str) -> anyhow::Result<Self> {
        let (port, hex) = line.trim().split_once(' ').context("no address")?;
        let byte = |at: usize| -> anyhow::Result<u8> {
            let digits = hex.get(at..at + 2).context("half a byte")?;
            Ok(u8::from_str_radix(digits, 16)?)
        };
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(byte)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            port: port.parse()?,
            certificate: bytes.into(),
        })
    }
}

/// Writes its address as a line, and serves until it is stopped.
pub(crate) async fn serve(bytes: usize) -> anyhow::Result<()> {
    let identity = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let certificate = identity.cert.der().clone();
    let key = identity.signing_key.serialize_der();
    let key = PrivateKeyDer::try_from(key).map_err(anyhow::Error::msg)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    config.alpn_protocols = [Http::Two, Http::One]
        .map(|http| http.alpn().to_vec())
        .into();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let hex: String = certificate
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    println!("{} {hex}", listener.local_addr()?.port());
    // Nothing that a layer below could make shorter.
    let body: Bytes = (0..bytes).map(|at| ((at * 7919) >> 3) as u8).collect();
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, body) = (acceptor.clone(), body.clone());
        tokio::spawn(async move {
            if let Err(error) = answer(stream, &acceptor, body).await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}

async fn answer(stream: TcpStream, acceptor: &TlsAcceptor, body: Bytes) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let tls = acceptor.accept(stream).await?;
    let is_two = tls.get_ref().1.alpn_protocol() == Some(Http::Two.alpn());
    let service = service_fn(move |_: Request<Incoming>| {
        let reply = Response::new(Full::new(body.clone()));
        async move { Ok::<_, Infallible>(reply) }
    });
    let io = TokioIo::new(tls);
    if is_two {
        let server = http2::Builder::new(TokioExecutor::new());
        server.serve_connection(io, service).await?;
    } else {
        let server = http1::Builder::new();
        server.serve_connection(io, service).await?;
    }
    Ok(())
}
