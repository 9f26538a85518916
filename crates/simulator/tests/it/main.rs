//! The simulator through its real sockets, by a small collector that knows nothing of the simulator's inside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod alertlogic;
mod azure;
mod client;
mod functions_host;
mod hec;
mod measured;
mod microsoft;
mod storm;
mod webhook;
mod whole;
