//! What goes wrong on purpose: single faults that are injected while it runs ([`Fault`]), and storms, which a file
//! describes and a seed repeats ([`Storm`]).

pub(crate) mod body;
pub(crate) mod content;
mod injected;
mod read;
pub(crate) mod requests;
pub(crate) mod storm;
#[cfg(test)]
mod tests;

pub(crate) use injected::FaultPlan;
pub use injected::{Fault, FaultAction};
pub use storm::{Storm, StormError};
