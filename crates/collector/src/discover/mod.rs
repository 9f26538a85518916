//! How we come to know that a blob exists: by asking ([`poll`], which asks by [`listing`] hour after hour) and by being told
//! ([`notify`]). Both write to the ledger and neither fetches.

pub mod lateness;
pub mod listing;
pub mod notify;
pub mod poll;

#[cfg(test)]
mod testing;
