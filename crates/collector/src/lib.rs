//! The pipeline: discover, fetch, decode, deliver; the sinks; the HTTP door; configuration. Knows no host and no terminal.
//! The modules below are in reading order: what comes in from outside, the way of a record, and what people look at.

pub mod clock;
pub mod config;
pub mod env;
pub mod http;
pub mod telemetry;
pub(crate) mod waiting;

pub mod token;

pub mod storage;

pub mod auth_ids;
pub mod microsoft;
pub mod site;
pub mod subscriptions;

pub mod deliver;
pub mod discover;
pub mod expiry;
pub mod fetch;
pub mod memory;
pub mod quarantine;
pub mod record;
pub mod run;
pub mod sinks;

pub mod master;
pub mod updater;

pub mod backfill;
pub mod check;
pub mod verify;

pub mod status;
pub mod web;

#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(test)]
pub(crate) mod planted;
#[cfg(test)]
pub(crate) mod simulation;
#[cfg(test)]
pub(crate) mod testing;
