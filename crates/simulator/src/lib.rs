//! A simulated Microsoft 365 tenant, Azure and Alert Logic backend, written from the protocols alone: it shares no code with the collector.
//!
//! ```no_run
//! # async fn run() -> Result<(), simulator::Error> {
//! use simulator::{Options, Simulator};
//!
//! let simulator = Simulator::start(Options { records: 1_000, ..Options::default() }).await?;
//! // … point a collector at `simulator.microsoft_origin()` and `simulator.alertlogic_origin()`, let it work, then:
//! println!("{}", simulator.verdict());
//! simulator.stop().await;
//! # Ok(())
//! # }
//! ```

mod alertlogic;
mod azure;
mod azurite;
mod clock;
mod control;
mod delivery;
mod error;
mod faults;
mod functions_host;
mod hec;
mod http;
mod measured;
mod microsoft;
mod options;
mod plan;
mod random;
mod requests;
mod server;
mod simulator;
mod times;
mod tls;
mod transcript;
mod verdict;
mod world;

pub use azure::{Role, Site, SiteChange, SiteState};
pub use azurite::Azurite;
pub use clock::SimClock;
pub use error::Error;
pub use faults::{Fault, FaultAction, Storm, StormError};
pub use functions_host::{
    FunctionsHost, FunctionsHostError, FunctionsHostOptions, Invocation, LogLine, LogSource,
    Outcome,
};
pub use microsoft::corpus::Corpus;
pub use options::{
    AlertLogicOptions, AzureOptions, ContentType, HecOptions, Options, UnknownContentType,
};
pub use requests::{RequestCount, RequestKind, Requests};
pub use simulator::{SimulatedTenant, Simulator};
pub use tls::ServerTls;
pub use transcript::Exchange;
pub use verdict::{Impossible, Progress, Repeated, SinkVerdict, UndecodableRecord, Verdict};
