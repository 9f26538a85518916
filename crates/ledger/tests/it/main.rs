//! The SQLite ledger against everything that a ledger promises.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows a test by its attribute, and these steps are called from tests"
)]

mod azure;
mod conformance;
mod crash;
mod model;
mod postgres;
mod scene;
mod upgrade;
