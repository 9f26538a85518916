//! What the suite and the limit share: the HTTP client, the simulated Microsoft as any client sees it, and what the
//! kernel says of a process.

pub mod http;
pub mod microsoft;
pub mod process;
