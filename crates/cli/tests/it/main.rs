//! The program as a whole: what it does when run, and what must stay true of the repository it is built from.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod access_key;
mod azure_storage;
mod check;
mod configuration;
mod control_plane;
mod door;
mod end_to_end;
mod full_disk;
mod function_app;
mod functions;
mod functions_host;
mod keeping;
mod kill;
mod local;
mod original;
mod packaged_app;
mod pipes;
mod places;
mod postgres;
mod proxy;
mod release;
mod status;
mod storm;
mod support;
mod template;
mod tidy;
mod updating;
mod vendor;
