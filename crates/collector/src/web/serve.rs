//! Serving the router on a socket, so that slow and numerous strangers cost little and a stop loses no answer.
//! axum's own `serve` was not taken: it limits neither the number of connections nor how long one may stay.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Connections at a time. The rest wait in the operating system's queue. With [`MAX_HEAD_BYTES`] this bounds what
/// strangers can make us hold.
pub(super) const MAX_CONNECTIONS: usize = 256;
/// How long a request's head may take to arrive, the wait for the next request on a kept connection included.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest head of a request. Microsoft's are well under 2 KiB.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long a connection may be kept. Whoever reads an answer a byte at a time holds a connection for no longer.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(300);
/// How long the request under way may still take once its connection is to end. Longer than a notification may take
/// to arrive and be noted.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(16);
/// The wait after the operating system refused a connection for want of descriptors or memory. Trying at once would
/// spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long the other side of a connection is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a request's head, the wait for the next request on a kept connection included.
    pub head: Duration,
    /// For a connection to come to its end by itself, if that is ever asked of it.
    pub connection: Option<Duration>,
    /// For the request under way, once its connection is to end.
    pub drain: Duration,
}

impl Patience {
    /// With anybody who can reach the door.
    pub const STRANGERS: Self = Self {
        head: HEAD_TIMEOUT,
        connection: Some(MAX_CONNECTION_AGE),
        drain: DRAIN_TIMEOUT,
    };
}

/// Serves the router until `shutdown` completes, then answers the requests under way and returns.
///
/// # If interrupted
/// When the future is dropped, all connections are closed as they are. Whoever got no answer asks again.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    serve_with(Patience::STRANGERS, listener, router, shutdown).await;
}

/// As [`serve`], to whom `patience` is due.
///
/// # If interrupted
/// As [`serve`].
pub async fn serve_with(
    patience: Patience,
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let stopping = CancellationToken::new();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => {
                report_panic(ended);
                continue;
            }
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                connections.spawn(serve_connection(
                    patience,
                    stream,
                    router.clone(),
                    stopping.clone(),
                    permit,
                ));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stopping.cancel();
    while let Some(ended) = connections.join_next().await {
        report_panic(ended);
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .expect("nobody closes the semaphore");
    let (stream, _peer) = listener.accept().await?;
    Ok((stream, permit))
}

async fn serve_connection(
    patience: Patience,
    stream: TcpStream,
    router: Router,
    stopping: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    // Answers are single small writes; where the option is refused they are only slower.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY is not to be had");
    }
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = grown_old(patience.connection) => {}
            }
        } => {
            connection.as_mut().graceful_shutdown();
            match timeout(patience.drain, connection).await {
                Ok(ended) => ended,
                Err(_elapsed) => {
                    tracing::debug!("a connection was cut before its answer was read");
                    Ok(())
                }
            }
        }
    };
    if let Err(error) = ended {
        // The other side went away or spoke no HTTP: worth knowing when looking for it, not worth a warning each.
        tracing::debug!(%error, "a connection broke");
    }
}

async fn grown_old(age: Option<Duration>) {
    match age {
        Some(age) => sleep(age).await,
        None => std::future::pending().await,
    }
}

/// Whether only the connection that was about to be accepted is concerned.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a request made the program panic; its connection is closed");
    }
}
