//! SIGINT and SIGTERM: the first asks for an orderly end, the second for an end at once. Neither loses anything.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Signals that come this soon after the first mean the same: a terminal and a supervisor often both send one.
const SAME_WISH: Duration = Duration::from_secs(1);

/// What the process was told by signals.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals {
    /// End in good order: finish or give back what is under way.
    pub(crate) stop: CancellationToken,
    /// End at once.
    pub(crate) abort: CancellationToken,
}

impl Signals {
    /// Begins to listen.
    pub(crate) fn listen() -> Self {
        let signals = Self::default();
        let told = signals.clone();
        tokio::spawn(async move {
            next().await;
            info!("stopping: ending what is under way");
            told.stop.cancel();
            tokio::time::sleep(SAME_WISH).await;
            next().await;
            warn!("stopping at once");
            told.abort.cancel();
        });
        signals
    }
}

#[cfg(unix)]
async fn next() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(error) => {
                warn!(%error, "SIGTERM cannot be caught");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = terminated => {}
        () = interrupted() => {}
    }
}

#[cfg(not(unix))]
async fn next() {
    interrupted().await;
}

async fn interrupted() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        warn!(%error, "Ctrl-C cannot be caught");
        std::future::pending::<()>().await;
    }
}
