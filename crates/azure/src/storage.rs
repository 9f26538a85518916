//! Azure Storage: accounts, and the tables, queues and blobs in them.
//!
//! An [`Account`] signs a [`Draft`] into a request; each of the three services makes drafts and reads what comes back.
//! A draft can be signed again: a signature holds for a quarter of an hour, and a request that is tried again later
//! needs another.

mod account;
mod authorize;
mod error;

pub mod batch;
pub mod blobs;
pub mod entity;
pub mod queues;
pub mod tables;

pub use account::{Account, InvalidAccount, Service};
pub use authorize::{Draft, NotSigned};
pub use error::Error;

#[cfg(test)]
mod tests;
