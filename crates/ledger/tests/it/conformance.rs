//! Every promise of the trait, kept by every backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ledger::{Ledger, SqliteLedger};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_every_promise() {
    let directory = tempfile::tempdir().unwrap();
    let number = AtomicU32::new(0);
    let make = async || {
        let path = directory
            .path()
            .join(format!("{}.db", number.fetch_add(1, Ordering::Relaxed)));
        let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(path).unwrap());
        ledger
    };
    let checks = ledger::conformance::run(make).await;
    assert!(!checks.is_empty());
}

#[tokio::test]
async fn sqlite_in_memory_keeps_every_promise() {
    let make = async || {
        let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::in_memory().unwrap());
        ledger
    };
    let checks = ledger::conformance::run(make).await;
    assert!(!checks.is_empty());
}
