//! Asking a running collector for its status, from another process on the same machine. It knows what no ledger holds:
//! why something fails.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::connect;
use crate::status::StatusView;

/// How long the connection may take. The other side is this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the answer may take. Longer than a collector waits for its own ledger before it answers without it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(7);
/// Longest answer that is read: some ten thousand content types.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Why there is no status of a running collector.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answers there, or not in time.
    #[error("no collector answers at {address}")]
    NoAnswer {
        /// Where it was looked for.
        address: SocketAddr,
    },
    /// Somebody answers, and not as this version of the collector does.
    #[error("what answers at {address} is no collector of this version")]
    NotOurs {
        /// Where it was looked for.
        address: SocketAddr,
    },
}

/// The status of the collector that listens on `listen`.
///
/// Over a connection of its own and not by the client that reaches Microsoft: that one honors proxies, and a proxy's
/// loopback address is another machine's. Follows no redirect.
///
/// # Errors
/// When there is none, which is no reason to worry by itself: `run --once` listens nowhere.
pub async fn ask_status(listen: SocketAddr) -> Result<StatusView, AskError> {
    let address = reachable(listen);
    let connected = timeout(CONNECT_TIMEOUT, connect(address)).await;
    let Ok(Ok(stream)) = connected else {
        return Err(AskError::NoAnswer { address });
    };
    match timeout(ANSWER_TIMEOUT, get_status(stream, address)).await {
        Ok(Some(body)) => serde_json::from_slice(&body).map_err(|_| AskError::NotOurs { address }),
        Ok(None) => Err(AskError::NotOurs { address }),
        Err(_elapsed) => Err(AskError::NoAnswer { address }),
    }
}

/// Where a collector that listens on `listen` is reached from its own machine: on any address means on loopback too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The body of a 200. Nothing when what came is not that.
async fn get_status(stream: TcpStream, address: SocketAddr) -> Option<Bytes> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get("/api/status")
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(String::new())
        .ok()?;
    let reply = async {
        let reply = sender.send_request(request).await.ok()?;
        if reply.status() != StatusCode::OK {
            return None;
        }
        read(reply.into_body()).await
    };
    tokio::pin!(reply, connection);
    tokio::select! {
        body = &mut reply => body,
        // The other side may close as soon as it has said all, which is still to be read.
        _ = &mut connection => reply.await,
    }
}

async fn read(mut body: Incoming) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) =
        std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await
    {
        let Ok(piece) = frame.ok()?.into_data() else {
            continue;
        };
        if whole.len() + piece.len() > MAX_ANSWER_BYTES {
            return None;
        }
        whole.extend_from_slice(&piece);
    }
    Some(whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn a_collector_that_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8365", "127.0.0.1:8365"),
            ("[::]:8365", "[::1]:8365"),
            ("192.0.2.7:80", "192.0.2.7:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
