//! Connection strings, signatures, and replies as the services write them and as nobody should.

mod accounts;
mod replies;
mod signatures;
