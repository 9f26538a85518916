//! The PostgreSQL ledger against a real server: every promise, two collectors at once, and a server that fails.

mod failing;
mod formats;
mod hostile;
pub(crate) mod server;
mod tls;
mod together;

use std::sync::Arc;

use ledger::Ledger;

use server::Database;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn postgresql_keeps_every_promise() {
    let make = async || {
        let ledger: Arc<dyn Ledger> = Arc::new(Database::new().await.ledger());
        ledger
    };
    let checks = ledger::conformance::run(make).await;
    assert!(!checks.is_empty());
}
