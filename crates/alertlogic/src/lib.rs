//! Alert Logic's services as data: AIMS, endpoints, azcollect, ingest. Opens no socket.
//!
//! Requests are built as `http::Request<Bytes>`, replies are read from [`Reply`]; whoever sends them decides when and
//! how often, guided by [`Error::next_step`]. The modules are in the order in which a collector meets the services:
//! it authenticates, looks up where the others are, registers, and then ships.
//!
//! The facts come from the vendor's npm libraries, `@alertlogic/al-collector-js` 3.0.20 where nothing else is said.

mod reply;

pub mod aims;
pub mod endpoints;

pub mod azcollect;
pub mod ingest;

pub use endpoints::{Endpoint, InvalidEndpoint};
pub use reply::{Error, NextStep, Reply};
