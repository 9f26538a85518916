//! How we come to know that a blob exists: by asking ([`poll`]) and by being told ([`notify`]). Both write to the
//! ledger and neither fetches.

pub mod notify;
pub mod pages;
pub mod poll;
