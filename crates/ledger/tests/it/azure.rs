//! The Azure Storage ledger against Microsoft's emulator: every promise, two processes at once, and requests that fail.

mod account;
mod interrupted;
mod life;
mod together;
mod waking;

use std::sync::Arc;

use ledger::Ledger;

use account::Place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite"]
async fn azure_storage_keeps_every_promise() {
    let make = async || {
        let ledger: Arc<dyn Ledger> = Arc::new(Place::new().await.ledger());
        ledger
    };
    let checks = ledger::conformance::run(make).await;
    assert!(!checks.is_empty());
}
